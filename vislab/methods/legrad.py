"""LeGrad: how the attention of every layer would have to change for that layer's own output to score higher."""

from __future__ import annotations

import torch

from ..engine.attention import wide
from .blocks import blocks, each_read
from .probe import Probe
from .question import Answer, Question

_ROWS = 64  # queries whose gradients are made at a time, so that memory stays O(n)


def legrad(probe: Probe, question: Question) -> Answer:
    """LeGrad: the positive part of the gradient at the attention, summed over the layers (Bousselham et al. 2024).

    What each layer hands on is pooled and scored as the model does it with its last layer: the final norm, pooling and
    projection, then the class or the text. The gradient of that score at this layer's attention is dO·Vᵀ, so that no
    softmax is made; its positive part is meaned over heads and queries. The authors' code for CLIP scores the mean of
    all tokens of a layer, where here it is what the model reads, such as CLS.
    """
    if probe.of_function:
        raise ValueError("legrad scores every layer: target is a class or a text, not a function of the output")
    layers, grid = blocks(probe), probe.grid
    with each_read(probe, [*layers.values()]):
        cap = probe.captured()
    values = torch.zeros(grid.tokens, dtype=wide(probe.pixels.dtype), device=probe.pixels.device)
    for site in map(cap.site, layers):
        for rows in cap.queries_read(site)[0].nonzero()[:, 0].split(_ROWS):
            gradients = cap.gradient(site, rows.tolist())
            values += gradients.relu().sum((0, 1, 2)) / (site.heads * site.queries)
    return Answer(values[grid.patch_tokens])
