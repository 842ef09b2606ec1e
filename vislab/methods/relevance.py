"""Methods for one target that walk through the layers by gradients: relevance and gradient rollout."""

from __future__ import annotations

from torch import Tensor

from ..engine.capture import Capture
from ..engine.site import AttentionRefused, Site
from .cells import Cells
from .layers import aside, encoder, in_sequence
from .probe import Probe
from .question import Answer, Question, pooling_head, token_name


def relevance(probe: Probe, question: Question) -> Answer:
    """Relevance propagated through all layers (Chefer, Gur & Wolf 2021); see `Capture.relevance`.

    It starts from the question's token. Without one, from the first of these that the score depends on: CLS, the
    pooling head, the mean of all tokens that it reads.
    """
    cap = probe.captured()
    sites, start, name, cells = _start(cap, probe, question)
    row = cap.relevance(start, sites=sites)[0]
    return Answer(cells.values(sites[0], row), name, dropped=cells.dropped(sites[0]))


def grad_rollout(probe: Probe, question: Question, *, residual: float = 0.5) -> Answer:
    """Rollout through attention weighted by its positive gradients; see `Capture.grad_rollout`.

    It starts where `relevance` does. residual: share of the residual path.
    """
    cap = probe.captured()
    sites, start, name, cells = _start(cap, probe, question)
    row = cap.grad_rollout(start, sites=sites, residual=residual)[0]
    return Answer(cells.values(sites[0], row), name, dropped=cells.dropped(sites[0]))


def _start(cap: Capture, probe: Probe, question: Question) -> tuple[list[Site], int | Tensor, str, Cells]:
    """The sites that the score depends on, what the walk through them starts with, that in words, and token maps."""
    in_sequence(probe.model)
    grid, layers = probe.grid, encoder(cap, probe.grid)
    for site in aside(cap, layers):
        if site.refused is not None or cap.queries_read(site).any():
            raise AttentionRefused(
                f"{site.name} ({site.kind}) attends after the layers, over tokens that they made, and the score "
                "depends on it: this walk goes through the layers alone; take method='rollout' or 'grad_cam'"
            )
    sites = layers.walk(0, len(layers) - 1)
    while len(sites) > 1 and not cap.queries_read(sites[-1]).any():
        sites = sites[:-1]
    if question.token is not None:
        return sites, layers.cells.token(sites[-1], question.token), token_name(grid, question.token), layers.cells
    read = cap.queries_read(sites[-1])[0]
    if question.cls and read[0]:
        return sites, 0, "CLS", layers.cells
    pooling = pooling_head(cap, grid, -1)
    if pooling is not None and cap.queries_read(pooling).any():
        weighted = cap.attention(pooling, slice(None)) * cap.gradient(pooling, slice(None)).relu()
        return sites, weighted[0].mean((0, 1)), f"pooling head {pooling.name}", layers.cells
    name = "mean of all queries" if read.all() else f"mean of the {int(read.sum())} tokens that the score reads"
    return sites, read / read.sum().clamp_min(1), name, layers.cells
