"""Arrangement: where in a tensor its images, windows, heads and tokens lie; and the tensor with them in place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .axes import Axes, Dim, Dims, Factor


@dataclass(frozen=True, eq=False)
class Arrangement:
    """How a tensor is laid out as (batch, heads, tokens, last).

    sizes: of its factors, the last dimension left out, in the order they have in the tensor. order: of the factors in
    the layout. shape: (batch, heads, tokens). last: which dimension of the tensor is the last one of the layout.
    dims: sizes of the tensor's dimensions, without that last one. images: of the batch, whose rest are windows, and
    frames, crops or tiles of each image. windows: of each map, with place: (windows, tokens), where on the map each of
    their tokens lies; 1 and None where attention runs over all.
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, int, int]
    last: int
    dims: tuple[int, ...]
    images: int
    windows: int = 1
    place: Tensor | None = None

    def of(self, x: Tensor) -> Tensor:
        """x, laid out; its last dimension may have another size. -> (batch, heads, tokens, …)."""
        if self.plain:
            return x
        moved = x.movedim(self.last, -1)
        split = moved.reshape(*self.sizes, moved.shape[-1])
        return split.permute(*self.order, len(self.order)).reshape(*self.shape, moved.shape[-1])

    @property
    def plain(self) -> bool:
        """Whether the tensor is (batch, heads, tokens, last) as it is, and the batch is one of images."""
        ordered = self.last == 3 and self.order == tuple(range(len(self.order))) and self.dims == self.shape
        return ordered and self.windows == self.frames == 1

    @property
    def frames(self) -> int:
        """Maps an image has."""
        return self.shape[0] // (self.images * self.windows)


@dataclass(frozen=True)
class Unclear:
    """No arrangement, for a reason that completes "cannot be read: …"."""

    reason: str


def conventional(x: Tensor) -> Arrangement | Unclear:
    """What is taken of a tensor of which nothing is known: (batch, heads, tokens, …)."""
    if x.ndim != 4:
        return _unclear(x)
    batch, heads, tokens, _ = x.shape
    return Arrangement((batch, heads, tokens), (0, 1, 2), (batch, heads, tokens), 3, (batch, heads, tokens), batch)


def _unclear(x: Tensor) -> Unclear:
    return Unclear(
        f"which dimensions of a tensor of shape {tuple(x.shape)} are images, heads and tokens could not be followed"
    )


def arranged(
    axes: Axes, dims: Dims | None, x: Tensor, *, rows: Dim | None = None, last: int = -1
) -> Arrangement | Unclear:
    """The arrangement of a tensor.

    dims: what its dimensions run over. rows: the factors of its tokens, those of the last dimension but one by default.
    last: the dimension that is the layout's last.
    """
    last %= x.ndim
    if dims is None or any(axes.kind((factor,)) == "unknown" for i, d in enumerate(dims) if i != last for factor in d):
        return conventional(x) if last == x.ndim - 1 and _fits(axes, dims) else _unclear(x)
    rows = dims[-2] if rows is None else rows
    lead = [factor for i, dim in enumerate(dims) if i != last for factor in dim]
    heads = [f for f in lead if axes.kind((f,)) == "channel"]
    tokens = [f for f in lead if f in rows and f not in heads]
    if len(tokens) != sum(axes.kind((f,)) != "channel" for f in rows):
        return Unclear("the rows of its attention are taken apart before they weigh the values")
    batch = [f for f in lead if f not in heads and f not in tokens]
    windowed = {f.axis for f in tokens}
    windows = [f for f in batch if f.axis in windowed]
    images = [f for f in batch if axes.kind((f,)) == "image"] or [f for f in batch if f not in windows][:1]
    if any(f in windows for f in images):
        return _unclear(x)  # images and tokens are one row, and parts of it attend
    frames = [f for f in batch if f not in windows and f not in images]
    place = _place(axes, tuple(windows), tuple(tokens)) if windows else None
    order = [*images, *frames, *windows, *heads, *tokens]
    count = [math.prod(f.size for f in group) for group in (images + frames + windows, heads, tokens, images, windows)]
    return Arrangement(
        tuple(f.size for f in lead),
        tuple(_positions(lead, order)),
        (count[0], count[1], count[2]),
        last,
        tuple(size for i, size in enumerate(x.shape) if i != last),
        count[3],
        1 if place is None else count[4],
        place,
    )


def _fits(axes: Axes, dims: Dims | None) -> bool:
    """Whether nothing that is known of four dimensions speaks against (batch, heads, tokens, …)."""
    if dims is None:
        return True
    if len(dims) != 4:
        return False
    allowed = ({"image", "token"}, {"channel"}, {"image", "token"})
    return all(axes.kind((f,)) in {*kinds, "unknown"} for kinds, dim in zip(allowed, dims, strict=False) for f in dim)


def _positions(lead: Sequence[Factor], order: Sequence[Factor]) -> list[int]:
    """Where each factor of `order` stands in `lead`; a factor may stand there twice."""
    free = list(range(len(lead)))
    found = []
    for factor in order:
        at = next(i for i in free if lead[i] == factor)
        free.remove(at)
        found.append(at)
    return found


def _place(axes: Axes, windows: Dim, tokens: Dim) -> Tensor | None:
    """Where on a map the tokens of its windows lie -> (windows, tokens); None where they do not make up one map."""
    if (windows, tokens) not in axes.places:
        axes.places[windows, tokens] = _placed(axes, windows, tokens)
    return axes.places[windows, tokens]


def _placed(axes: Axes, windows: Dim, tokens: Dim) -> Tensor | None:
    axis_of = sorted({f.axis for f in (*windows, *tokens)}, key=lambda a: _origin(axes, a))
    if any(math.prod(f.size for f in (*windows, *tokens) if f.axis == a) != axes.axes[a].size for a in axis_of):
        return None
    place = torch.zeros(1, dtype=torch.long)
    for a in axis_of:
        at = torch.zeros(1, dtype=torch.long)
        for factor in (*windows, *tokens):
            steps = torch.arange(factor.size) * factor.step if factor.axis == a else torch.zeros(factor.size).long()
            at = (at[:, None] + steps).flatten()
        size, axis = axes.axes[a].size, axes.axes[a]
        while axis.parent is not None:
            at, axis = (at - axis.shift) % size, axes.axes[axis.parent]
        place = place * size + at
    return place.view(math.prod(f.size for f in windows), -1)


def _origin(axes: Axes, a: int) -> int:
    """The axis that one was before it was rolled."""
    while (parent := axes.axes[a].parent) is not None:
        a = parent
    return a
