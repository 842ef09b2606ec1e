"""The layers of a model as it counts them itself; those that do not attend over its grid are refused by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import overload

from ..core.geometry import Grid
from ..engine.capture import Capture
from ..engine.site import AttentionRefused, Site
from ..models.flow import ASIDE
from ..models.model import Model
from . import registry
from .cells import Cells


class Layers(Sequence[Site]):
    """The self-attention sites of a model's stack of blocks, in execution order.

    Taking one that attends over other tokens than the grid's raises ValueError, so that no index shows another layer,
    and no walk leaves one out. cells: which of their tokens stands for each cell of the grid.
    """

    def __init__(self, sites: Sequence[Site], grid: Grid, cells: Cells) -> None:
        self._sites, self._grid, self.cells = sites, grid, cells

    def __len__(self) -> int:
        return len(self._sites)

    @overload
    def __getitem__(self, index: int) -> Site: ...
    @overload
    def __getitem__(self, index: slice) -> list[Site]: ...
    def __getitem__(self, index: int | slice) -> Site | list[Site]:
        if isinstance(index, slice):
            return [self._fitting(site) for site in self._sites[index]]
        return self._fitting(self._sites[index])

    def __iter__(self) -> Iterator[Site]:
        return (self._fitting(site) for site in self._sites)

    def walk(self, start: int, last: int) -> list[Site]:
        """The layers from `start` to `last`, which must follow each other. Raises AttentionRefused where two do not."""
        chain = self[start : last + 1]
        blocks: dict[str, Site] = {}
        for site in chain:
            other = blocks.setdefault(_block(site.path), site)
            if other.path != site.path:  # a module that runs again does so after itself
                raise AttentionRefused(
                    f"{other.name} and {site.name} attend in one block, perhaps side by side, and a walk would take "
                    "one after the other: take method='cls' or 'attention', layer by layer"
                )
        return chain

    def _fitting(self, site: Site) -> Site:
        if site.refused is not None:
            return site  # reading it says why
        over = str(site.keys) if site.queries == site.keys else f"{site.queries} × {site.keys}"
        if over != str(self.cells.count(site)):
            fit = [
                i for i, s in enumerate(self._sites) if s.refused is None and s.queries == s.keys == self.cells.count(s)
            ]
            layers = f"layer {fit[0]}" if len(fit) == 1 else f"layers {_ranges(fit)}"
            hint = (
                f"{layers} can be read, by method='cls' or 'attention'" if fit else "vislab.capture reads it as it is"
            )
            raise ValueError(
                f"{site.name} attends over {over} tokens, and the input makes {self._grid}: windows, padding, or "
                f"tokens that are dropped, merged or added on the way; {hint}, and {registry.instead()} make maps "
                "without attention"
            )
        return site


def encoder(cap: Capture, grid: Grid) -> Layers:
    """The layers of a capture's model; see `Layers`. Raises where nothing was captured or nothing is self-attention."""
    sites = list(cap.sites.values())
    if not any(site.self_attention for site in sites):
        cap.site(-1)  # which says so
    layers = _counted(sites)
    return Layers(layers, grid, Cells(cap, layers, grid))


def in_sequence(model: Model) -> None:
    """Raise AttentionRefused for a model whose layers do not all follow each other: no walk goes through them."""
    if model.beside:
        raise AttentionRefused(
            f"{model.beside} of {model.name} attends in several places side by side, and a walk would take one after "
            "the other: take method='cls' or 'attention', layer by layer"
        )


def aside(cap: Capture, layers: Sequence[Site]) -> list[Site]:
    """The self-attention sites that are none of the layers: of a decoder, or of other parts that read their tokens."""
    counted = {site.name for site in layers._sites} if isinstance(layers, Layers) else {site.name for site in layers}
    return [site for site in cap.layers if site.name not in counted]


def _counted(sites: Sequence[Site]) -> list[Site]:
    """Self-attention of the stack and of what follows, other than decoders; and what else is a block's only attention.

    The stack is the list of blocks that attends first.
    """
    stack = _stack([site.path for site in sites])
    whole = {_block(site.path) for site in sites if site.self_attention}
    named = len(ASIDE.findall(stack))
    return [
        site
        for site in sites
        if (site.self_attention and len(ASIDE.findall(site.path.rpartition(".")[0])) <= named)
        or (site.self_attention and site.path.startswith(stack))
        or (site.path.startswith(stack) and not site.self_attention and _block(site.path) not in whole)
    ]


def _stack(names: Sequence[str]) -> str:
    """The path of the list that the first of these modules stands in, up to where their indices begin to differ."""
    first, same = names[0].split("."), [name.split(".") for name in names]
    for depth, part in enumerate(first):
        same = [path for path in same if len(path) > depth]
        parts = {path[depth] for path in same}
        if len(parts) > 1 and all(re.search(r"\d", one) for one in parts):
            return "".join(step + "." for step in first[:depth])
        same = [path for path in same if path[depth] == part]
    return names[0]


def _block(name: str) -> str:
    """The path of the block that a module is part of: up to the last index in it."""
    *parents, leaf = name.split(".")
    if leaf.isdigit():
        return name
    numbered = [depth for depth, part in enumerate(parents) if re.search(r"\d", part)]
    return ".".join(parents[: numbered[-1] + 1]) if numbered else name


def _ranges(indices: Sequence[int]) -> str:
    """0, 1, 2, 5 -> "0 to 2, 5"."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in runs)
