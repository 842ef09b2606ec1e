"""A forward that spends its tokens: hooks on the blocks take out, join and exchange tokens as they go in."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..core.geometry import Grid
from ..engine.capture import Capture
from ..engine.passage import Passage
from ..engine.site import AttentionRefused
from .blocks import Arguments, Blocks, replaced, rows_of
from .fovea import Layout
from .merging import merged
from .mixing import Mixing
from .tokens import Tokens
from .weighing import Weighing


@dataclass(frozen=True, eq=False)
class Spending:
    """How the forwards of one image spend their tokens; `on` a capture they do.

    tokens: as asked for. grid: of the tokens that the module makes itself. cells: the grid that values are drawn on.
    worth: (cells,), what decides which patches are kept, where that is given. layout: of a fovea. embeds: each of its
    patch sizes, with the grid that they make and what the module then takes beside the pixels. cls: whether token 0 is
    CLS.
    """

    module: nn.Module
    blocks: Blocks
    tokens: Tokens
    grid: Grid
    cells: Grid
    cls: bool
    worth: Tensor | None = None
    layout: Layout | None = None
    embeds: tuple[tuple[int, Grid, Mapping[str, Any]], ...] = ()

    @contextmanager
    def on(self, cap: Capture) -> Iterator[None]:
        """Forwards inside the block spend their tokens, of this thread alone; the capture learns of the passages."""
        mixing = None if self.layout is None else Mixing(self.module, self.layout, self.cells, self.embeds)
        turn = _Turn(self, cap, threading.get_ident(), Weighing(self.tokens.heads_off or {}), mixing)
        with ExitStack() as stack:
            if mixing is not None:
                hook = self.module.register_forward_pre_hook(mixing.embed, prepend=True, with_kwargs=True)
                stack.callback(hook.remove)
            for at, name in enumerate(self.blocks.names):
                part = self.module.get_submodule(name)
                stack.callback(part.register_forward_pre_hook(turn.entering(at), with_kwargs=True).remove)
                stack.callback(part.register_forward_hook(turn.leaving(at)).remove)
            if self.tokens.merge or self.tokens.heads_off:
                stack.enter_context(turn.weighing)
            yield


@dataclass(eq=False)
class _Turn:
    """One forward as it goes. owners: (cells,), the token that stands for each. sizes: (tokens,), how many patches each
    does. order: (tokens,), where each stood in the first block's sequence. patches: how many there were.
    """

    spending: Spending
    cap: Capture
    thread: int
    weighing: Weighing
    mixing: Mixing | None
    owners: Tensor = field(default_factory=lambda: torch.zeros(0))
    sizes: Tensor = field(default_factory=lambda: torch.zeros(0))
    order: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    patches: int = 0

    # ---- hooks ----

    def entering(self, at: int) -> Callable[..., Arguments | None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
            if threading.get_ident() != self.thread:
                return None
            if self.mixing is not None and self.mixing.embedding is not None:
                self.mixing.keep((args, kwargs))
            grid, tables = self.spending.grid, itertools.count()
            new = replaced(
                (args, kwargs),
                grid,
                len(self.sizes) if at else grid.tokens,
                lambda tokens: self._changed(at, tokens),
                lambda table, kind: self._rows(at, table, kind, next(tables)),
            )
            self.weighing.begin(at, self.sizes)
            return new

        return hook

    def leaving(self, at: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            if threading.get_ident() != self.thread:
                return
            if missed := self.weighing.end():
                what = "heads cannot be switched off" if missed == "heads_off" else "merged tokens cannot be weighed"
                raise AttentionRefused(
                    f"{self.spending.blocks.sites[at]} makes its attention without a fused call, so that {what} there: "
                    f"leave {missed} out"
                )

        return hook

    # ---- tokens ----

    def _changed(self, at: int, tokens: Tensor) -> Tensor:
        """The tokens that go into a block, from those that the one before made."""
        spending, asked, device = self.spending, self.spending.tokens, tokens.device
        cells, passage = spending.cells, None
        if at == 0:
            self.owners = torch.arange(cells.patches, device=device) + cells.prefix
            self.cap.passages.clear()
            if self.mixing is not None:
                tokens, passage = self.mixing.sequence()
                self.owners = passage.owners(self.owners)
            self.order = torch.arange(tokens.shape[1], device=device)
            self.sizes = torch.ones(tokens.shape[1], device=device)
            self.patches = tokens.shape[1] - cells.prefix - cells.suffix
        before = tokens.shape[1]
        with torch._C.DisableTorchFunction(), torch.no_grad():
            stages = asked.stages(len(spending.blocks.names))
            step = self._kept(at, tokens, stages) if at in stages else None
            if asked.merge and at:
                joined = self._merged(at, step)
                step = joined if step is None else step.then(joined)
        if step is not None and step.count < before:
            tokens = step.forward(tokens)
            self._advance(step)
            passage = step if passage is None else passage.then(step)
        if passage is not None:
            self.cap.passages[spending.blocks.sites[at]] = passage
        return tokens

    def _advance(self, step: Passage) -> None:
        self.owners = step.owners(self.owners)
        left = step.into >= 0
        zeros = torch.zeros(step.count, device=self.sizes.device)
        self.sizes = zeros.index_add(0, step.into[left], self.sizes[left]) if self.spending.tokens.merge else zeros + 1
        order = torch.zeros(step.count, dtype=torch.long, device=self.order.device)
        order[step.into[left]] = self.order[left]  # read where each comes from one alone
        self.order = order

    def _kept(self, at: int, tokens: Tensor, stages: tuple[int, ...]) -> Passage | None:
        """The patches that go on with the highest worth."""
        grid, asked = self.spending.cells, self.spending.tokens
        count = tokens.shape[1]
        own = slice(grid.prefix, count - grid.suffix)
        left = asked.left(self.patches, stages.index(at), len(stages))
        if left >= own.stop - own.start:
            return None
        worth = self._worth(at, tokens, own)
        best = worth.argsort(descending=True, stable=True)
        chosen = (best[:left].sort().values + grid.prefix).tolist()
        rest = best[left:] + grid.prefix
        before, after = range(grid.prefix), range(own.stop, count)
        if not asked.gather:
            return Passage.chosen(torch.tensor([*before, *chosen, *after], device=tokens.device), count)
        into = torch.zeros(count, dtype=torch.long, device=tokens.device)
        into[[*before, *chosen]] = torch.arange(grid.prefix + left, device=tokens.device)
        into[rest] = grid.prefix + left
        into[own.stop :] = torch.arange(grid.suffix, device=tokens.device) + grid.prefix + left + 1
        weight = torch.ones(count, device=tokens.device)
        share = (
            worth[best[left:]].float() if asked.keep_by == "attention" else torch.ones(len(rest), device=tokens.device)
        )
        weight[rest] = share / share.sum()
        return Passage(into, weight, grid.prefix + left + 1 + grid.suffix)

    def _worth(self, at: int, tokens: Tensor, own: slice) -> Tensor:
        """What decides which patch tokens go on -> (patch tokens,), the highest first."""
        spending, by = self.spending, self.spending.tokens.keep_by
        if by == "attention":
            site = spending.blocks.sites[at - 1]
            if spending.cls:
                return self.cap.attention(site, 0)[0].mean(0)[own]
            starts = range(0, tokens.shape[1], 64)
            return sum(self.cap.attention(site, slice(s, s + 64))[0].sum((0, 1))[own] for s in starts)  # type: ignore[return-value]
        if by == "norm":
            return tokens[0, own].float().norm(dim=-1)
        if by == "random":
            drawn = torch.rand(own.stop - own.start, generator=torch.Generator().manual_seed(at))
            return drawn.to(tokens.device)
        assert spending.worth is not None
        there = self.owners >= 0
        zeros = torch.zeros(tokens.shape[1], dtype=torch.float64)
        owner = self.owners[there].cpu()
        total = zeros.index_add(0, owner, spending.worth[there.cpu()])
        cells = zeros.index_add(0, owner, torch.ones(len(owner), dtype=torch.float64))
        return (total / cells.clamp_min(1))[own].to(tokens.device, torch.float32)

    def _merged(self, at: int, step: Passage | None) -> Passage:
        """Pairs of patches that become one, of those that are left after another step."""
        grid, site = self.spending.cells, self.cap.site(self.spending.blocks.sites[at - 1])
        keys, sizes = site.k[:1].float().mean(1), self.sizes
        if step is not None:
            keys = step.forward(keys)
            left = step.into >= 0
            sizes = torch.zeros(step.count, device=sizes.device).index_add(0, step.into[left], sizes[left])
        patches = keys.shape[1] - grid.prefix - grid.suffix
        count = min(self.spending.tokens.merge, patches // 2)
        return merged(keys[0], sizes, count, grid.prefix, grid.suffix)

    def _rows(self, at: int, table: Tensor, kind: str, number: int) -> Tensor:
        """A table of positions as the tokens that are left need it."""
        grid = self.spending.grid
        if self.mixing is not None:
            mixed = self.mixing.table(at, table, number)
            return rows_of(mixed, kind, self.order, Grid(1, self.patches, (1, 1), grid.prefix, grid.suffix))
        return table if len(self.order) == grid.tokens else rows_of(table, kind, self.order, grid)
