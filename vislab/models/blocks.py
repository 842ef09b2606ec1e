"""The list of blocks that a plain Vision Transformer is, proven by running it: tokens may be taken out between them.

A block of such a list takes tokens, (batch, tokens, dim), and makes as many of them, treating each as all others,
wherever it stands; what says where a token belongs is in the token, or in tables of positions that are given beside it,
with a row a token. Then whatever is done to tokens between two blocks is a smaller problem of the same model. The
proof: the blocks run on tokens in another order, and make the same tokens in that order.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.geometry import Grid
from ..engine.hooks import capture

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
_ALIKE, _ROUNDED = 1e-3, 8  # of the largest value, and steps of its dtype: how much tokens in another order may differ
_REMEMBERED: weakref.WeakKeyDictionary[nn.Module, dict[Any, Blocks]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Blocks:
    """names: of the blocks, in order. sites: of the modules that attend in them. tables: whether rows of positions are
    given to them beside the tokens. bound: why tokens cannot be taken out between them, "" where they can.
    """

    names: tuple[str, ...]
    sites: tuple[str, ...]
    tables: bool = False
    bound: str = ""


def blocks(module: nn.Module, run: Callable[[], Any], grid: Grid, layers: int) -> Blocks:
    """Those of a module, proven once for a number of tokens. run: makes a forward of one image."""
    known = _REMEMBERED.setdefault(module, {})
    key = (grid.rows, grid.cols, grid.prefix, grid.suffix, hash(tuple(map(id, module.modules()))))
    if key not in known:
        known[key] = _proven(module, run, grid, layers)
    return known[key]


class _NotPlain(Exception):
    """Why a module is no plain list of blocks."""


@dataclass(eq=False)
class _Seen:
    """What a block was given and made in one forward."""

    given: Tensor | None = None
    made: Tensor | None = None
    tables: bool = False
    times: int = 0


@torch.no_grad()
def _proven(module: nn.Module, run: Callable[[], Any], grid: Grid, layers: int) -> Blocks:
    with capture(module) as cap:
        run()
    try:
        names, sites = _listed(module, [site.path for site in cap.layers], layers)
    except _NotPlain as why:
        return Blocks((), (), bound=str(why))
    try:
        return Blocks(names, sites, _moved(module, run, names, grid))
    except _NotPlain as why:
        return Blocks(names, sites, bound=str(why))


def _moved(module: nn.Module, run: Callable[[], Any], names: tuple[str, ...], grid: Grid) -> bool:
    """Prove that tokens may stand in any order; whether there are tables. Raises _NotPlain."""
    plain, other = ([_Seen() for _ in names] for _ in range(2))
    with _watching(module, names, plain, grid, None):
        run()
    for at, (name, seen) in enumerate(zip(names, plain, strict=True)):
        if seen.times != 1 or seen.given is None or seen.made is None or seen.made.shape != seen.given.shape:
            raise _NotPlain(f"{name} does not take {grid} once and make as many of them")
        before = plain[at - 1].made
        if at and (before is None or not torch.equal(before, seen.given)):
            raise _NotPlain(f"something else comes between {names[at - 1]} and {name}")
    order = torch.arange(grid.tokens)
    shuffled = torch.randperm(grid.patches, generator=torch.Generator().manual_seed(0))
    order[grid.patch_tokens] = grid.prefix + shuffled
    with _watching(module, names, other, grid, order), suppress(RuntimeError, ValueError, TypeError, LookupError):
        run()  # what comes after the blocks may miss the order
    for name, one, two in zip(names, plain, other, strict=True):
        assert one.made is not None
        same = one.made[:, order.to(one.made.device)]
        bound = max(_ALIKE, _ROUNDED * torch.finfo(same.dtype).eps) * float(same.abs().max())
        if two.made is None or not float((two.made - same).abs().max()) <= bound:
            raise _NotPlain(f"in {name} it matters where a token stands (windows, relative positions, convolutions)")
    return any(seen.tables for seen in plain)


def _listed(module: nn.Module, paths: list[str], layers: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The blocks of the list that attends first, and what attends in each."""
    parts = paths[0].split(".")
    for depth in range(len(parts) - 1, -1, -1):
        parent = ".".join(parts[:depth])
        within = [path for path in paths if not parent or path.startswith(parent + ".")]
        named = [".".join(path.split(".")[: depth + 1]) for path in within]
        listed = isinstance(module.get_submodule(parent), nn.ModuleList | nn.Sequential)
        if listed and len(named) == layers == len(set(named)):
            return tuple(named), tuple(within)
    raise _NotPlain(f"its {layers} layers do not stand one after the other in one list, each attending once")


@contextmanager
def _watching(
    module: nn.Module, names: tuple[str, ...], seen: list[_Seen], grid: Grid, order: Tensor | None
) -> Iterator[None]:
    """Blocks are watched; with an order, the first is given its tokens in it, and all their tables."""

    def enter(at: int) -> Callable[..., Arguments | None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
            one = seen[at]
            one.times += 1

            def change(tokens: Tensor) -> Tensor:
                tokens = tokens if order is None or at else tokens[:, order.to(tokens.device)]
                one.given = tokens.clone()
                return tokens

            def reorder(table: Tensor, kind: str) -> Tensor:
                one.tables = True
                return table if order is None else rows_of(table, kind, order, grid)

            return replaced((args, kwargs), grid, grid.tokens, change, reorder)

        return hook

    def leave(at: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, output: Any) -> None:
            made = output[0] if isinstance(output, tuple | list) and output else output
            seen[at].made = made.clone() if isinstance(made, Tensor) else None

        return hook

    with ExitStack() as stack:
        for at, name in enumerate(names):
            part = module.get_submodule(name)
            stack.callback(part.register_forward_pre_hook(enter(at), with_kwargs=True).remove)
            stack.callback(part.register_forward_hook(leave(at)).remove)
        yield


def replaced(
    given: Arguments,
    grid: Grid,
    count: int,
    change: Callable[[Tensor], Tensor],
    table: Callable[[Tensor, str], Tensor],
) -> Arguments:
    """What a block is given, with its tokens changed, of which there are `count`, and its tables of positions.

    table: told a table, and whether it has a row for each of the grid's "tokens" or "patches".
    """
    found = False

    def visit(value: Any) -> Any:
        nonlocal found
        if isinstance(value, Tensor):
            if not found and value.is_floating_point() and value.ndim == 3 and value.shape[1] == count:
                found = True
                return change(value)
            kind = _rows(value, grid)
            return table(value, kind) if kind else value
        if type(value) in (tuple, list):
            return type(value)(visit(one) for one in value)
        if type(value) is dict:
            return {name: visit(one) for name, one in value.items()}
        return value

    args, kwargs = visit(given[0]), visit(given[1])
    return args, kwargs


def _rows(value: Tensor, grid: Grid) -> str:
    """Of what a tensor beside the tokens has a row each; "" where it is no table of positions."""
    if value.ndim < 2:
        return ""
    return "tokens" if value.shape[-2] == grid.tokens else "patches" if value.shape[-2] == grid.patches else ""


def rows_of(table: Tensor, kind: str, tokens: Tensor, grid: Grid) -> Tensor:
    """The rows of some tokens, given by their index in the grid's sequence. kind: see `replaced`."""
    if kind == "patches":
        tokens = tokens[(tokens >= grid.prefix) & (tokens < grid.prefix + grid.patches)] - grid.prefix
    return table.index_select(-2, tokens.to(table.device))
