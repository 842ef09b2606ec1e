"""What is read of a capture as it is, the same for every class: attention and rollout, one value per patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .calls import Fusion
from .geometry import Grid
from .sites import Capture, Site, whole

Layer = int | Literal["mean"]
Head = int | Fusion


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
        cap.site(-1)
        counts = sorted({site.keys for site in cap.layers})
        raise ValueError(
            f"the model attends over {', '.join(map(str, counts))} tokens, and the input makes {grid}: windowed "
            "attention, dropped patches or unknown extra tokens. vislab.capture reads its sites as they are"
        )
    return sites


def cls(cap: Capture, grid: Grid, question: Question) -> Answer:
    """Attention of CLS; without one, of the pooling head after the last layer; elsewhere the mean over all queries."""
    if question.cls:
        return _attention(cap, grid, question, 0, "CLS")
    pooling = pooling_head(cap, grid, question.layer)
    if pooling is not None:
        row = fused_heads(mean_query(cap, pooling), question.head)
        return Answer(row[grid.patch_tokens], f"pooling head {pooling.name}")
    return _attention(cap, grid, question, None, "mean of all queries")


def attention(cap: Capture, grid: Grid, question: Question) -> Answer:
    """Attention of any one token; without one, as `cls`."""
    if question.token is None:
        return cls(cap, grid, question)
    return _attention(cap, grid, question, question.token, token_name(grid, question.token))


def rollout(
    cap: Capture, grid: Grid, question: Question, *, start: int = 0, residual: float = 0.5, discard: float = 0.0
) -> Answer:
    """Attention rollout from layer `start` to `layer` (Abnar & Zuidema 2020); see `Capture.rollout`.

    Without CLS it starts from the pooling head's attention, or from the mean over all queries.
    """
    sites, head = encoder(cap, grid), rollout_fusion(question)
    last = layer_index(question.layer, len(sites))
    if not 0 <= start <= last:
        raise ValueError(f"rollout from layer {start} to {last} has no layer: start runs from 0 to {last}")
    query: int | Tensor
    query, name = 0, "CLS"
    if question.token is not None:
        query, name = question.token, token_name(grid, question.token)
    elif not question.cls:
        pooling = pooling_head(cap, grid, question.layer)
        if pooling is not None:
            query, name = mean_query(cap, pooling).mean(0), f"pooling head {pooling.name}"
        else:
            query = torch.full((grid.tokens,), 1 / grid.tokens)
            name = "mean of all queries"
    chain = sites[start : last + 1]
    row = cap.rollout(query, sites=chain, head=head, residual=residual, discard=discard, prefix=grid.prefix)
    return Answer(row[0, grid.patch_tokens], name)


def _attention(cap: Capture, grid: Grid, question: Question, token: int | None, name: str) -> Answer:
    """One token's attention to the patches, or all tokens' mean, at a layer or on the mean of the layers."""
    sites = encoder(cap, grid)
    chosen = sites if question.layer == "mean" else [sites[layer_index(question.layer, len(sites))]]
    values = torch.zeros(grid.patches)
    for site in chosen:
        rows = cap.attention(site, token)[0] if token is not None else mean_query(cap, site)
        values = values + fused_heads(rows, question.head)[grid.patch_tokens].cpu() / len(chosen)
    return Answer(values, name)


def mean_query(cap: Capture, site: Site) -> Tensor:
    """The mean over all queries -> (heads, keys); in blocks, so that memory stays O(n)."""
    blocks = (cap.attention(site, slice(start, start + 64))[0] for start in range(0, site.queries, 64))
    return sum((block.sum(1) for block in blocks), torch.zeros(())) / site.queries


def rollout_fusion(question: Question) -> Fusion:
    """How rollout fuses the heads."""
    if question.layer == "mean" or not isinstance(question.head, str):
        raise ValueError(
            "rollout goes through the layers and fuses their heads: layer is the last one's index, head is 'mean', "
            f"'max' or 'min', not layer={question.layer!r} and head={question.head!r}"
        )
    return question.head


def fused_heads(rows: Tensor, head: Head) -> Tensor:
    """(heads, …) -> (…): one head, or all of them fused."""
    if whole(head):
        if not -len(rows) <= head < len(rows):
            raise ValueError(f"no head {head}: heads run from 0 to {len(rows) - 1}")
        return rows[head]
    if head == "mean":
        return rows.mean(0)
    if head in ("max", "min"):
        return rows.amax(0) if head == "max" else rows.amin(0)
    raise ValueError(f"head is an index, 'mean', 'max' or 'min', not {head!r}")


def layer_index(layer: Layer, count: int) -> int:
    if not whole(layer) or not -count <= layer < count:
        raise ValueError(f"no layer {layer!r}: layers run from 0 to {count - 1}, or from -1 to {-count}")
    return layer % count


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
