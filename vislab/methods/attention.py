"""What is read of a capture as it is, the same for every class: attention and rollout, one value per patch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.geometry import Grid
from ..engine.capture import Capture
from ..engine.site import Site
from .layers import Layers, encoder
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
        row, layers = fused_heads(mean_query(cap, pooling), question.head), encoder(cap, grid)
        return _placed(layers, [layers[-1]], [row], f"pooling head {pooling.name}")
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
        query, name = sites.cells.token(sites[last], question.token), token_name(grid, question.token)
    elif not question.cls:
        pooling = pooling_head(cap, grid, question.layer)
        if pooling is not None:
            query, name = mean_query(cap, pooling).mean(0), f"pooling head {pooling.name}"
        else:
            tokens = sites.cells.count(sites[last])
            query = torch.full((tokens,), 1 / tokens)
            name = "mean of all queries"
    chain = sites.walk(start, last)
    assert not isinstance(question.head, int)  # it fuses them
    row = cap.rollout(query, sites=chain, head=question.head, residual=residual, discard=discard, prefix=grid.prefix)
    return _placed(sites, chain[:1], [row[0]], name)


def _attention(cap: Capture, grid: Grid, question: Question, token: int | None, name: str) -> Answer:
    """One token's attention to the patches, or all tokens' mean, at a layer or on the mean of the layers."""
    sites = encoder(cap, grid)
    chosen = sites if question.layer == "mean" else [sites[layer_index(question.layer, len(sites))]]
    of_tokens = []
    for site in chosen:
        rows = mean_query(cap, site) if token is None else cap.attention(site, sites.cells.token(site, token))[0]
        of_tokens.append(fused_heads(rows, question.head))
    return _placed(sites, chosen, of_tokens, name)


def _placed(layers: Layers, sites: Sequence[Site], rows: Sequence[Tensor], name: str) -> Answer:
    """What the tokens of some layers have, a row each, on the cells that they stand for, averaged over the layers."""
    values = torch.zeros(layers.cells.grid.patches)
    for site, row in zip(sites, rows, strict=True):
        values = values + layers.cells.values(site, row).cpu() / len(sites)
    return Answer(values, name, dropped=layers.cells.dropped(*sites))
