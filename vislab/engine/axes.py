"""Axes: what each dimension of a tensor runs over (images, tokens, channels), followed through a forward.

A dimension is a tuple of factors, each a stretch of one axis: `x.view(b, n, heads, dim)` splits the channel axis of a
projection into two factors, `flatten(0, 1)` lays two factors into one dimension, and windows of a map hold some factors
of its two axes in the batch and the others in the rows. Nothing is computed but shapes: cheap, and exact. What is
not known of a tensor is left out: whoever asks then gets None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple
from weakref import ref

from torch import Tensor

Kind = Literal["image", "token", "channel", "unknown"]


class Axis(NamedTuple):
    """One axis. parent: the axis that this one is, turned by `shift` places (torch.roll); None of all others."""

    kind: Kind
    size: int
    parent: int | None = None
    shift: int = 0


class Factor(NamedTuple):
    """A stretch of an axis: `size` indices, each `step` places of the axis after the one before.

    key: whether it came from the right operand of a product, of which attention's columns are made.
    """

    axis: int
    size: int
    step: int = 1
    key: bool = False


Dim = tuple[Factor, ...]  # the outermost first; () where the size is 1
Dims = tuple[Dim, ...]


class Axes:
    """The axes of one forward, and the dimensions of its tensors."""

    def __init__(self) -> None:
        self.axes: list[Axis] = []
        self.places: dict[tuple[Dim, Dim], Tensor | None] = {}  # by windows and tokens: see `arrangement`
        self._known: dict[int, tuple[ref[Tensor], Dims]] = {}

    def of(self, x: Any) -> Dims | None:
        """The dimensions of a tensor, or None."""
        entry = self._known.get(id(x))
        return entry[1] if entry is not None and entry[0]() is x else None

    def knows(self, args: Iterable[Any]) -> bool:
        """Whether anything is known of the tensors among some arguments."""
        return bool(self._known) and any(self.of(x) is not None for x in tensors(args))

    def say(self, x: Tensor, dims: Dims | None) -> None:
        """What a tensor's dimensions run over."""
        if dims is not None:
            self._known[id(x)] = ref(x), dims
        else:
            self._known.pop(id(x), None)

    def forget(self) -> None:
        """All tensors; axes stay."""
        self._known.clear()

    def clear(self) -> None:
        """All axes, and what was worked out of them; tensors are to be forgotten first."""
        self.axes.clear()
        self.places.clear()

    def new(self, kind: Kind, size: int) -> Dim:
        """A dimension that runs over an axis of its own."""
        if size == 1:
            return ()
        self.axes.append(Axis(kind, size))
        return (Factor(len(self.axes) - 1, size),)

    def kind(self, dim: Dim) -> Kind:
        """That of all of a dimension's factors, "unknown" where they are of several kinds."""
        kinds = {self.axes[factor.axis].kind for factor in dim}
        return kinds.pop() if len(kinds) == 1 else "unknown"

    def input(self, x: Tensor) -> None:
        """A tensor that a model is given: images first; tokens and channels where its rank and dtype tell."""
        kinds: list[Kind] = ["image", *["unknown"] * (x.ndim - 1)]  # type: ignore[list-item]
        if not x.is_floating_point():
            kinds[1:] = ["token"] * (x.ndim - 1)
        elif x.ndim in (2, 3):
            kinds[-1], kinds[1:-1] = "channel", ["token"] * (x.ndim - 2)
        self.say(x, tuple(self.new(kind, size) for kind, size in zip(kinds, x.shape, strict=True)))

    def tokens(self, dims: Iterable[Dim]) -> None:
        """What runs over these dimensions are no channels: a projection or a convolution says so."""
        for factor in (factor for dim in dims for factor in dim):
            if self.axes[factor.axis].kind == "unknown":
                self.axes[factor.axis] = self.axes[factor.axis]._replace(kind="token")

    def resized(self, dim: Dim, size: int) -> Dim:
        """A dimension of another size that runs over what `dim` does."""
        if size == math.prod(factor.size for factor in dim):
            return dim
        new = self.new(self.kind(dim) if dim else "unknown", size)
        return tuple(f._replace(key=True) for f in new) if dim and all(f.key for f in dim) else new

    def reshaped(self, dims: Dims, shape: Sequence[int]) -> Dims | None:
        """The dimensions after a reshape."""
        waiting = [factor for dim in dims for factor in dim]
        if not math.prod(shape) or math.prod(factor.size for factor in waiting) != math.prod(shape):
            return None
        out: list[Dim] = []
        for size in shape:
            dim: list[Factor] = []
            while size > 1:
                factor = waiting.pop(0)
                if size % factor.size == 0:
                    size //= factor.size
                    dim.append(factor)
                elif factor.size % size == 0:  # its outer part belongs here
                    inner = factor.size // size
                    dim.append(factor._replace(size=size, step=factor.step * inner))
                    waiting.insert(0, factor._replace(size=inner))
                    size = 1
                else:  # a border falls within a factor: it and those after it become one axis
                    merged = [factor]
                    while waiting and math.prod(f.size for f in merged) % size:
                        merged.append(waiting.pop(0))
                    if math.prod(f.size for f in merged) % size:
                        return None
                    kind = self.kind(tuple(merged))
                    waiting[:0] = self.new(kind, math.prod(f.size for f in merged))
            out.append(tuple(dim))
        return tuple(out)


def tensors(args: Iterable[Any]) -> list[Tensor]:
    """The tensors among arguments, and in those that are lists."""
    several = (one for arg in args for one in (arg if isinstance(arg, tuple | list) else (arg,)))
    return [one for one in several if isinstance(one, Tensor)]
