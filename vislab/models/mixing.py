"""Patches of several sizes in one sequence: what the embedding makes of the same pixels at each size, put together."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.geometry import Grid
from ..engine.passage import Passage
from ..engine.site import AttentionRefused
from .blocks import Arguments, replaced
from .calling import core
from .fovea import Layout
from .patch_size import resized

Embeds = Sequence[tuple[int, Grid, Mapping[str, Any]]]


class _Reached(BaseException):
    """The embedding of pixels is made; no model catches this."""


class Mixing:
    """The tokens of one fovea: before each forward its pixels are embedded at each patch size, as `resized` does it.

    cells: the grid of the smallest patches. embeds: each size, the grid that it makes, and what the module then takes
    beside the pixels. embedding: the grid that is being embedded, None where the forward itself runs.
    """

    def __init__(self, module: nn.Module, layout: Layout, cells: Grid, embeds: Embeds) -> None:
        self.module, self.layout, self.cells, self.embeds = module, layout, cells, embeds
        self.embedding: Grid | None = None
        self._thread = threading.get_ident()
        self._embedded: list[tuple[Tensor, list[tuple[Tensor, str]]]] = []
        self._tables: list[tuple[Tensor, Tensor]] = []  # as the module gives them, and mixed

    def embed(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A hook before the forward of the whole module, which runs up to the first block for each size."""
        if self.embedding is not None or threading.get_ident() != self._thread:
            return
        self._embedded, self._tables = [], []
        try:
            for patch, grid, arguments in self.embeds:
                self.embedding = grid
                try:
                    with resized(core(module), patch):
                        module(*args, **{**kwargs, **arguments})
                except _Reached:
                    continue
        finally:
            self.embedding = None

    def keep(self, given: Arguments) -> None:
        """At the first block: keep what it is given, and go no further."""
        tables: list[tuple[Tensor, str]] = []
        found: list[Tensor] = []

        def keep(table: Tensor, kind: str) -> Tensor:
            tables.append((table, kind))
            return table

        def take(tokens: Tensor) -> Tensor:
            found.append(tokens)
            return tokens

        assert self.embedding is not None
        replaced(given, self.embedding, self.embedding.tokens, take, keep)
        self._embedded.append((found[0], tables))
        raise _Reached

    def sequence(self) -> tuple[Tensor, Passage]:
        """The tokens of patches of all sizes, (batch, tokens, dim), and the passage to them from the cells."""
        cells, layout, sequences = self.cells, self.layout, [tokens for tokens, _ in self._embedded]
        order = self._order([tokens.shape[1] for tokens in sequences], cells.prefix, cells.suffix)
        owner = torch.from_numpy(layout.owner).flatten()
        count = torch.bincount(owner, minlength=layout.patches)
        last = torch.arange(cells.suffix) + layout.patches
        into = torch.cat([torch.arange(cells.prefix), torch.cat([owner, last]) + cells.prefix])
        weight = torch.cat([torch.ones(cells.prefix), 1 / count[owner], torch.ones(cells.suffix)])
        device = sequences[0].device
        passage = Passage(into.to(device), weight.to(device), len(order))
        return torch.cat(sequences, 1)[:, order.to(device)], passage

    def table(self, at: int, table: Tensor, number: int) -> Tensor:
        """A table of positions for patches of all sizes, each at its own centre.

        at: the block that is given the table, as the module makes it; number: of its tables.
        """
        if at == 0:
            tables = [of_size[number] for _, of_size in self._embedded]
            ends = (self.cells.prefix, self.cells.suffix) if tables[0][1] == "tokens" else (0, 0)
            order = self._order([one.shape[-2] for one, _ in tables], *ends)
            mixed = torch.cat([one for one, _ in tables], -2).index_select(-2, order.to(table.device))
            self._tables.append((table, mixed))
        first, mixed = self._tables[number]
        if table is not first:
            raise AttentionRefused(
                f"layer {at} has positions of its own, which the embedding does not tell: leave fovea out"
            )
        return mixed

    def _order(self, lengths: list[int], prefix: int, suffix: int) -> Tensor:
        """Where each token stands in the sequences of all sizes, one after the other. -> (tokens,) long"""
        starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
        rows = starts[torch.from_numpy(self.layout.level)] + prefix + torch.from_numpy(self.layout.index)
        return torch.cat([torch.arange(prefix), rows, torch.arange(suffix) + lengths[0] - suffix])
