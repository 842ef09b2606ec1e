"""What is read of a capture as it is, the same for every class: attention and rollout, one value per patch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.geometry import Grid
from ..engine.capture import Capture
from .layers import encoder
from .question import (
    Answer,
    Question,
    fused_heads,
    mean_query,
    pooling_head,
    token_name,
)
from .request import layer_index


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
    sites = encoder(cap, grid)
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
    chain = sites.walk(start, last)
    assert not isinstance(question.head, int)  # it fuses them
    row = cap.rollout(query, sites=chain, head=question.head, residual=residual, discard=discard, prefix=grid.prefix)
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
