"""What is asked of a capture and what is answered, and how layers, heads and tokens are chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.checks import one_of, shown, whole
from ..core.geometry import Grid
from ..engine.capture import Capture
from ..engine.site import Site
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

    signed: whether values below 0 speak against the target, so that 0 has a meaning of its own.
    """

    values: Tensor
    query: str | None = None
    signed: bool = False


def encoder(cap: Capture, grid: Grid) -> list[Site]:
    """The self-attention sites over the whole token grid, in execution order.

    Raises ValueError where no site attends over that many tokens: the grid would be wrong, so nothing is shown.
    """
    sites = [site for site in cap.layers if site.keys == grid.tokens]
    if not sites:
        cap.site(-1)  # raises where nothing was captured or nothing is self-attention
        counts = sorted({site.keys for site in cap.layers})
        raise ValueError(
            f"the model attends over {', '.join(map(str, counts))} tokens, and the input makes {grid}: windowed "
            "attention, dropped patches or unknown extra tokens. vislab.capture reads its sites as they are"
        )
    return sites


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
    count = len(encoder(cap, grid))
    if layer == "mean" or layer_index(layer, count) < count - 1:
        return None
    pooling = [s for s in cap.sites.values() if not s.self_attention and s.keys == grid.tokens]
    return pooling[-1] if pooling else None


def token_name(grid: Grid, token: int) -> str:
    if grid.prefix <= token < grid.prefix + grid.patches:
        row, col = grid.cell(token)
        return f"patch ({row}, {col})"
    return f"token {token}"


def check_tokens(tokens: Tensor, grid: Grid) -> None:
    if tokens.ndim != 3 or tokens.shape[1] != grid.tokens:
        raise ValueError(f"{grid} were expected between the layers, not a tensor of shape {tuple(tokens.shape)}")
