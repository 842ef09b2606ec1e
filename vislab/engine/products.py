"""Products: the operands of a product, however it is called, and what the dimensions of its result run over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .axes import Axes, Dim, Dims


def operands(args: tuple[Any, ...], kwargs: dict[str, Any], *, added: bool = False) -> tuple[Any, Any]:
    """The two operands of a matrix product, by place or by name; (None, None) where it has other ones.

    added: whether the product is added to a first argument, as baddbmm does.
    """
    names = (("batch1", "mat1"), ("batch2", "mat2")) if added else (("input",), ("other", "mat2"))
    found = []
    for place, several in enumerate(names, start=int(added)):
        given = args[place] if len(args) > place else None
        found.append(next((kwargs[name] for name in several if name in kwargs), given))
    left, right = found
    return (left, right) if isinstance(left, Tensor) and isinstance(right, Tensor) else (None, None)


def product(axes: Axes, left: Tensor, right: Tensor, output: Tensor) -> Dims | None:
    """The dimensions of a matrix product: rows of the left operand, columns of the right one."""
    one, other = axes.of(left), axes.of(right)
    if (one is None and other is None) or left.ndim < 2 or right.ndim < 2:
        return None
    lead: list[Dim] = []
    for back in range(-output.ndim, -2):
        there = [d[back] for d in (one, other) if d is not None and len(d) >= -back]
        lead.append(next((dim for dim in there if dim), axes.new("unknown", output.shape[back])))
    rows = one[-2] if one is not None else axes.new("unknown", output.shape[-2])
    if other is not None:
        columns = tuple(factor._replace(key=not factor.key) for factor in other[-1])
    else:
        columns = axes.new("channel" if right.ndim == 2 else "unknown", output.shape[-1])
    return (*lead, rows, columns)


def einsum(axes: Axes, args: tuple[Any, ...], output: Tensor) -> Dims | None:
    """The dimensions of an einsum: each letter runs over what it does in the first operand that is known."""
    spelled = summed(args)
    if spelled is None:
        return None
    (terms, factors), result = spelled[:2], spelled[2]
    found: dict[str, Dim] = {}
    side = False
    for term, factor in zip(terms, factors, strict=True):
        dims = axes.of(factor)
        for letter, dim in zip(term, dims or (), strict=False):
            free = letter in result and sum(letter in other for other in terms) == 1
            if letter not in found or not found[letter]:
                found[letter] = tuple(f._replace(key=not f.key) for f in dim) if side and free else dim
        side = side or dims is not None  # what comes after the first known operand is to its right
    if not found:
        return None
    return tuple(
        found[letter] if letter in found else axes.new("channel", size)
        for letter, size in zip(result, output.shape, strict=True)
    )


def summed(args: tuple[Any, ...]) -> tuple[list[str], Sequence[Tensor], str] | None:
    """The terms, operands and result of an einsum, a letter a dimension; None of what is not spelled so."""
    if not args or not isinstance(args[0], str) or "->" not in args[0]:
        return None
    left, result = args[0].replace(" ", "").split("->")
    given = args[1] if isinstance(args[1], list | tuple) else args[1:]
    terms = left.split(",")
    if len(terms) != len(given):
        return None
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in left]
    counts = {x.ndim - len(term.replace("...", "")) for term, x in zip(terms, given, strict=True) if "..." in term}
    if len(counts) > 1:
        return None
    dots = "".join(spare[: counts.pop()]) if counts else ""
    return [term.replace("...", dots) for term in terms], given, result.replace("...", dots)
