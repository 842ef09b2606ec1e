"""A forward that spends its tokens: hooks on the blocks take out, join and exchange tokens as they go in."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..core.geometry import Grid
from ..engine.capture import Capture
from ..engine.passage import Passage
from ..engine.site import AttentionRefused
from .blocks import Arguments, Blocks, replaced, rows_of
from .calling import core
from .fovea import Layout
from .merging import merged
from .patch_size import resized
from .tokens import Tokens

_FUSED, _MULTI_HEAD = F.scaled_dot_product_attention, F.multi_head_attention_forward
_SIGNATURES = {
    _FUSED: inspect.signature(
        lambda query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False: None
    ),
    _MULTI_HEAD: inspect.signature(_MULTI_HEAD),
}


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
        turn = _Turn(self, cap, threading.get_ident())
        with ExitStack() as stack:
            if self.layout is not None:
                hook = self.module.register_forward_pre_hook(turn.embed, prepend=True, with_kwargs=True)
                stack.callback(hook.remove)
            for at, name in enumerate(self.blocks.names):
                part = self.module.get_submodule(name)
                stack.callback(part.register_forward_pre_hook(turn.entering(at), with_kwargs=True).remove)
                stack.callback(part.register_forward_hook(turn.leaving(at)).remove)
            if self.tokens.merge or self.tokens.heads_off:
                stack.enter_context(_Weighing(turn))
            yield


class _Reached(BaseException):
    """The embedding of pixels is made; no model catches this."""


@dataclass(eq=False)
class _Turn:
    """One forward as it goes. at: the block that runs. owners: (cells,), the token that stands for each. sizes:
    (tokens,), how many patches each does. order: (tokens,), where each stood in the first block's sequence. weighed:
    the layers whose call of attention was seen. embedded: what each patch size made, tokens and tables.
    """

    spending: Spending
    cap: Capture
    thread: int
    at: int | None = None
    owners: Tensor = field(default_factory=lambda: torch.zeros(0))
    sizes: Tensor = field(default_factory=lambda: torch.zeros(0))
    order: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    patches: int = 0
    weighed: set[int] = field(default_factory=set)
    embedding: Grid | None = None
    embedded: list[tuple[Tensor, list[tuple[Tensor, str]]]] = field(default_factory=list)
    tables: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    # ---- hooks ----

    def entering(self, at: int) -> Callable[..., Arguments | None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
            if threading.get_ident() != self.thread:
                return None
            if self.embedding is not None:
                self._keep_embedded((args, kwargs), self.embedding)
            self.at = at
            grid = self.spending.grid
            count = grid.tokens if at == 0 else len(self.sizes)
            number = iter(range(len(self.tables) + 100))
            return replaced(
                (args, kwargs),
                grid,
                count,
                lambda tokens: self._changed(at, tokens),
                lambda table, kind: self._rows(at, table, kind, next(number)),
            )

        return hook

    def leaving(self, at: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            if threading.get_ident() != self.thread:
                return
            self.at, spending = None, self.spending
            off = at in (spending.tokens.heads_off or {})
            if (off or bool((self.sizes > 1).any())) and at not in self.weighed:
                what = "switch off its heads" if off else "weigh merged tokens by their size"
                raise AttentionRefused(
                    f"{spending.blocks.sites[at]} makes its attention without a fused call, and nothing can {what} "
                    f"there: leave {'heads_off' if off else 'merge'} out"
                )

        return hook

    # ---- tokens ----

    def _changed(self, at: int, tokens: Tensor) -> Tensor:
        """The tokens that go into a block, from those that the one before made."""
        spending, asked, device = self.spending, self.spending.tokens, tokens.device
        cells, passage = spending.cells, None
        if at == 0:
            self.owners = torch.arange(cells.patches, device=device) + cells.prefix
            self.weighed.clear()
            self.cap.passages.clear()
            if spending.layout is not None:
                tokens, passage = self._foveated(spending.layout)
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
        if self.spending.layout is not None:
            if at == 0:
                mixed = _mixed_table(self.spending, self.embedded, number)
                self.tables.append((table, mixed))
            first, mixed = self.tables[number]
            if table is not first:
                raise AttentionRefused(
                    f"{self.spending.blocks.names[at]} has positions of its own, which the embedding does not tell: "
                    "leave fovea out"
                )
            patches = Grid(1, self.patches, (1, 1), grid.prefix, grid.suffix)
            return rows_of(mixed, kind, self.order, patches)
        return table if len(self.order) == grid.tokens else rows_of(table, kind, self.order, grid)

    # ---- a fovea ----

    def embed(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a forward: what its pixels are as patches of each size."""
        if self.embedding is not None or threading.get_ident() != self.thread:
            return
        self.embedded, self.tables = [], []
        try:
            for patch, self.embedding, arguments in self.spending.embeds:
                try:
                    with resized(core(module), patch):
                        module(*args, **{**kwargs, **arguments})
                except _Reached:
                    continue
        finally:
            self.embedding = None

    def _keep_embedded(self, given: Arguments, grid: Grid) -> None:
        tables: list[tuple[Tensor, str]] = []
        found: list[Tensor] = []

        def keep(table: Tensor, kind: str) -> Tensor:
            tables.append((table, kind))
            return table

        def change(tokens: Tensor) -> Tensor:
            found.append(tokens)
            return tokens

        replaced(given, grid, grid.tokens, change, keep)
        self.embedded.append((found[0], tables))
        raise _Reached

    def _foveated(self, layout: Layout) -> tuple[Tensor, Passage]:
        """The sequence of patches of all sizes, and the passage to it from cells of the smallest."""
        cells, sequences = self.spending.cells, [tokens for tokens, _ in self.embedded]
        device = sequences[0].device
        rows = _rows_of_sizes(layout, [tokens.shape[1] for tokens in sequences], cells.prefix)
        last = torch.arange(cells.suffix) + sequences[0].shape[1] - cells.suffix
        order = torch.cat([torch.arange(cells.prefix), rows, last]).to(device)
        owner = torch.from_numpy(layout.owner).flatten().to(device)
        count = torch.bincount(owner, minlength=layout.patches)
        ends = [torch.arange(cells.prefix, device=device), torch.arange(cells.suffix, device=device) + layout.patches]
        into = torch.cat([ends[0], owner + cells.prefix, ends[1] + cells.prefix])
        one = [torch.ones(len(end), device=device) for end in ends]
        passage = Passage(into, torch.cat([one[0], 1 / count[owner], one[1]]), len(order))
        return torch.cat(sequences, 1)[:, order], passage


def _rows_of_sizes(layout: Layout, lengths: list[int], prefix: int) -> Tensor:
    """Where each patch stands in the sequences of all sizes, one after the other. -> (patches,) long"""
    starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
    return starts[torch.from_numpy(layout.level)] + prefix + torch.from_numpy(layout.index)


def _mixed_table(spending: Spending, embedded: list[tuple[Tensor, list[tuple[Tensor, str]]]], number: int) -> Tensor:
    """A table of positions for patches of all sizes, each at its own centre."""
    assert spending.layout is not None
    tables = [of_size[number] for _, of_size in embedded]
    whole = tables[0][1] == "tokens"
    prefix, suffix = (spending.cells.prefix, spending.cells.suffix) if whole else (0, 0)
    lengths = [table.shape[-2] for table, _ in tables]
    rows = _rows_of_sizes(spending.layout, lengths, prefix)
    order = torch.cat([torch.arange(prefix), rows, torch.arange(suffix) + lengths[0] - suffix])
    return torch.cat([table for table, _ in tables], -2).index_select(-2, order.to(tables[0][0].device))


class _Weighing(TorchFunctionMode):
    """Attention within the blocks counts a merged token as often as it stands for patches, and leaves heads out.

    The first as Bolya et al. 2023, section 3: the logarithm of a key's size is added to its logits. The second before
    the output projection.
    """

    def __init__(self, turn: _Turn) -> None:
        super().__init__()
        self.turn = turn

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, turn = kwargs or {}, self.turn
        if func not in _SIGNATURES or turn.at is None:
            return func(*args, **kwargs)
        bound = _SIGNATURES[func].bind(*args, **kwargs)
        bound.apply_defaults()
        a, heads = bound.arguments, (turn.spending.tokens.heads_off or {}).get(turn.at, ())
        turn.weighed.add(turn.at)
        if bool((turn.sizes > 1).any()):
            bias = turn.sizes.log().to(a["query"].dtype)
            mask = a["attn_mask"]
            if mask is not None and mask.dtype == torch.bool:
                kept = mask if func is _FUSED else ~mask
                mask = torch.zeros(mask.shape, dtype=bias.dtype, device=bias.device).masked_fill(~kept, -torch.inf)
            bias = bias.expand(len(bias), -1) if func is _MULTI_HEAD else bias[None, None, None]
            a["attn_mask"] = bias if mask is None else mask + bias
        if func is _FUSED:
            output = func(**a)
            return output * _on(heads, output.shape[1], output)[:, None, None] if heads else output
        if heads:
            on = _on(heads, a["num_heads"], a["out_proj_weight"])
            a["out_proj_weight"] = a["out_proj_weight"] * on.repeat_interleave(a["embed_dim_to_check"] // len(on))
        return func(**a)


def _on(heads: tuple[int, ...], count: int, like: Tensor) -> Tensor:
    """1 for each head, and 0 for those that are off. -> (count,)"""
    on = torch.ones(count, dtype=like.dtype, device=like.device)
    on[list(heads)] = 0
    return on
