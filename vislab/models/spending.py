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
class _Image:
    """One image of a batch as its forward goes. owners: (cells,), the token that stands for each. sizes: (tokens,), how
    many patches each does. order: (tokens,), where each stood in the first block's sequence.
    """

    owners: Tensor
    sizes: Tensor
    order: Tensor

    def advance(self, step: Passage, merging: bool) -> None:
        self.owners = step.owners(self.owners)
        left = step.into >= 0
        zeros = torch.zeros(step.count, device=self.sizes.device)
        self.sizes = zeros.index_add(0, step.into[left], self.sizes[left]) if merging else zeros + 1
        order = torch.zeros(step.count, dtype=torch.long, device=self.order.device)
        order[step.into[left]] = self.order[left]  # read where each comes from one alone
        self.order = order


@dataclass(eq=False)
class _Turn:
    """One forward as it goes, of one image or of several, each of which drops and joins tokens of its own, as many as
    the others. patches: how many there were at first, of each.
    """

    spending: Spending
    cap: Capture
    thread: int
    weighing: Weighing
    mixing: Mixing | None
    images: list[_Image] = field(default_factory=list)
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
                len(self.images[0].sizes) if at else grid.tokens,
                lambda tokens: self._changed(at, tokens),
                lambda table, kind: self._rows(at, table, kind, next(tables)),
            )
            self.weighing.begin(at, torch.stack([image.sizes for image in self.images]))
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
        """The tokens that go into a block, from those that the one before made. -> (images, tokens, dim)"""
        passage = None
        if at == 0:
            self.cap.passages.clear()
            if self.mixing is not None:
                tokens, passage = self.mixing.sequence()
            self.images = [self._begun(tokens, passage) for _ in range(len(tokens))]
            self.patches = tokens.shape[1] - self.spending.cells.prefix - self.spending.cells.suffix
        with torch._C.DisableTorchFunction(), torch.no_grad():
            steps = self._steps(at, tokens)
        if steps and steps[0].count < tokens.shape[1]:
            tokens = torch.cat([step.forward(one) for step, one in zip(steps, tokens.split(1), strict=True)])
            for image, step in zip(self.images, steps, strict=True):
                image.advance(step, self.spending.tokens.merge > 0)
            passage = steps[0] if passage is None else passage.then(steps[0])
        if passage is not None:
            self.cap.passages[self.spending.blocks.sites[at]] = passage  # of a capture, the first image is read
        return tokens

    def _begun(self, tokens: Tensor, passage: Passage | None) -> _Image:
        """An image at the first block."""
        cells, count, device = self.spending.cells, tokens.shape[1], tokens.device
        owners = torch.arange(cells.patches, device=device) + cells.prefix
        owners = owners if passage is None else passage.owners(owners)
        return _Image(owners, torch.ones(count, device=device), torch.arange(count, device=device))

    def _steps(self, at: int, tokens: Tensor) -> list[Passage]:
        """What becomes of each image's tokens before a block; none where nothing does."""
        asked, stages = self.spending.tokens, self.spending.tokens.stages(len(self.spending.blocks.names))
        steps: list[Passage | None] = [None] * len(self.images)
        if at in stages:
            steps = self._kept(at, tokens, stages)
        if asked.merge and at:
            keys = self.cap.site(self.spending.blocks.sites[at - 1]).k.float().mean(1)
            steps = [self._merged(*one) for one in zip(self.images, keys, steps, strict=True)]
        return [step for step in steps if step is not None]

    def _kept(self, at: int, tokens: Tensor, stages: tuple[int, ...]) -> list[Passage | None]:
        """Of each image, the patches that go on with the highest worth."""
        grid, count = self.spending.cells, tokens.shape[1]
        own = slice(grid.prefix, count - grid.suffix)
        left = self.spending.tokens.left(self.patches, stages.index(at), len(stages))
        if left >= own.stop - own.start:
            return [None] * len(tokens)
        return [self._chosen(worth, left, own, count) for worth in self._worth(at, tokens, own)]

    def _chosen(self, worth: Tensor, left: int, own: slice, count: int) -> Passage:
        """So many patches are left. worth: (patch tokens,). own: where they are among the `count` tokens."""
        grid, asked, device = self.spending.cells, self.spending.tokens, worth.device
        best = worth.argsort(descending=True, stable=True)
        chosen = (best[:left].sort().values + grid.prefix).tolist()
        rest = best[left:] + grid.prefix
        before, after = range(grid.prefix), range(own.stop, count)
        if not asked.gather:
            return Passage.chosen(torch.tensor([*before, *chosen, *after], device=device), count)
        into = torch.zeros(count, dtype=torch.long, device=device)
        into[[*before, *chosen]] = torch.arange(grid.prefix + left, device=device)
        into[rest] = grid.prefix + left
        into[own.stop :] = torch.arange(grid.suffix, device=device) + grid.prefix + left + 1
        weight = torch.ones(count, device=device)
        share = worth[best[left:]].float() if asked.keep_by == "attention" else torch.ones(len(rest), device=device)
        weight[rest] = share / share.sum()
        return Passage(into, weight, grid.prefix + left + 1 + grid.suffix)

    def _worth(self, at: int, tokens: Tensor, own: slice) -> Tensor:
        """What decides which patch tokens go on, the highest first. -> (images, patch tokens)"""
        spending, by = self.spending, self.spending.tokens.keep_by
        if by == "attention":
            site = spending.blocks.sites[at - 1]
            if spending.cls:
                return self.cap.attention(site, 0).mean(1)[:, own]
            starts = range(0, tokens.shape[1], 64)
            return sum(self.cap.attention(site, slice(s, s + 64)).sum((1, 2))[:, own] for s in starts)  # type: ignore[return-value]
        if by == "norm":
            return tokens[:, own].float().norm(dim=-1)
        if by == "random":
            drawn = torch.rand(own.stop - own.start, generator=torch.Generator().manual_seed(at))
            return drawn.to(tokens.device).expand(len(tokens), -1)
        return torch.stack([self._given(image, tokens.shape[1])[own] for image in self.images]).to(tokens.device)

    def _given(self, image: _Image, count: int) -> Tensor:
        """The mean worth that was given of the cells that each token stands for. -> (tokens,)"""
        assert self.spending.worth is not None
        there = image.owners >= 0
        zeros = torch.zeros(count, dtype=torch.float64)
        owner = image.owners[there].cpu()
        total = zeros.index_add(0, owner, self.spending.worth[there.cpu()])
        cells = zeros.index_add(0, owner, torch.ones(len(owner), dtype=torch.float64))
        return (total / cells.clamp_min(1)).float()

    def _merged(self, image: _Image, keys: Tensor, step: Passage | None) -> Passage:
        """Pairs of an image's patches that become one, of those left after another step. keys: (tokens, dim)"""
        grid, sizes = self.spending.cells, image.sizes
        if step is not None:
            keys = step.forward(keys[None])[0]
            left = step.into >= 0
            sizes = torch.zeros(step.count, device=sizes.device).index_add(0, step.into[left], sizes[left])
        patches = len(keys) - grid.prefix - grid.suffix
        count = min(self.spending.tokens.merge, patches // 2)
        joined = merged(keys, sizes, count, grid.prefix, grid.suffix)
        return joined if step is None else step.then(joined)

    def _rows(self, at: int, table: Tensor, kind: str, number: int) -> Tensor:
        """A table of positions as the tokens that are left need it, those of all images alike."""
        grid, order = self.spending.grid, self.images[0].order
        if self.mixing is not None:
            mixed = self.mixing.table(at, table, number)
            return rows_of(mixed, kind, order, Grid(1, self.patches, (1, 1), grid.prefix, grid.suffix))
        return table if len(order) == grid.tokens else rows_of(table, kind, order, grid)
