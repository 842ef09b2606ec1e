"""What is asked of a capture and what is answered, and how layers, heads and tokens are chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.checks import one_of, shown, whole
from ..core.geometry import Grid
from ..engine.capture import Capture
from ..engine.site import Site
from .layers import encoder
from .request import Head, Layer, layer_index


@dataclass(frozen=True)
class Question:
    """What is asked of a capture. token: the attending token, or None for the model's own summary of the image.

    cls: whether token 0 is CLS. layer, head: index or fusion.
    """

    token: int | None
    cls: bool
    layer: Layer
    head: Head


@dataclass(frozen=True, eq=False)
class Answer:
    """values: one per patch token, (patches,). query: the attending token in words; None where no token attends.

    signed: whether values below 0 speak against the target, so that 0 has a meaning of its own. by_pixels: whether the
    values are of the input's pixels in patches from its corner, whatever its tokens are. grid: of the values, where
    they are not one a patch of the model's grid, and then spread evenly over the input; cells: what its cells are, in
    words. dropped: the patches that no token stands for, (patches,) bool, or None.
    """

    values: Tensor
    query: str | None = None
    signed: bool = False
    by_pixels: bool = False
    grid: Grid | None = None
    cells: str | None = None
    dropped: Tensor | None = None


def mean_query(cap: Capture, site: Site) -> Tensor:
    """The mean over all queries -> (heads, keys); in blocks, so that memory stays O(n)."""
    blocks = (cap.attention(site, slice(start, start + 64))[0] for start in range(0, site.queries, 64))
    return sum((block.sum(1) for block in blocks), torch.zeros(())) / site.queries


def fused_heads(rows: Tensor, head: Head) -> Tensor:
    """(heads, …) -> (…): one head, or all of them fused."""
    if whole(head):
        if not -len(rows) <= head < len(rows):
            raise ValueError(f"no head {head}: heads run from 0 to {len(rows) - 1}")
        return rows[head]
    if not one_of(head, ("mean", "max", "min")):
        raise ValueError(f"head is an index, 'mean', 'max' or 'min', not {shown(head)}")
    if head == "mean":
        return rows.mean(0)
    return rows.amax(0) if head == "max" else rows.amin(0)


def pooling_head(cap: Capture, grid: Grid, layer: Layer) -> Site | None:
    """An attention-pooling head: few queries over the keys of the whole grid, as they leave the last layer."""
    layers = encoder(cap, grid)
    if layer == "mean" or layer_index(layer, len(layers)) < len(layers) - 1:
        return None
    tokens = layers.cells.count(layers[-1])  # raises where they are not the grid's, which no head then pools
    few = (s for s in cap.sites.values() if not s.self_attention and "decoder" not in s.name)
    pooling = [s for s in few if s.keys == tokens]
    return pooling[-1] if pooling else None


def token_name(grid: Grid, token: int) -> str:
    if grid.prefix <= token < grid.prefix + grid.patches:
        row, col = grid.cell(token)
        return f"patch ({row}, {col})"
    return f"token {token}"


def check_tokens(tokens: Tensor, count: int) -> None:
    if tokens.ndim != 3 or tokens.shape[1] != count:
        raise ValueError(
            f"{count} tokens were expected between the layers, not a tensor of shape {tuple(tokens.shape)}"
        )


def tokens_given(args: Iterable[Any], kwargs: Mapping[str, Any], count: int) -> Tensor:
    """The tokens among what a module is given. Raises ValueError where there are not so many."""
    found = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.ndim == 3), None)
    if found is None:
        raise ValueError(f"{count} tokens were expected between the layers, and no row of tokens enters one of them")
    check_tokens(found, count)
    return found
