"""Grad-ECLIP: what each patch's values would add to the score through CLS, whose softmax is loosened."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..engine.attention import repeat_heads, uncast, wide
from ..engine.gradients import scored
from .layers import encoder
from .probe import Probe
from .question import Answer, Question
from .request import layer_index


@torch.no_grad()
def grad_eclip(probe: Probe, question: Question) -> Answer:
    """Gradient × value, weighted by how near the key of each patch is to the query of CLS (Zhao et al. 2024).

    Signed, without the ReLU. Σ over channels c of w_c · λ_i · v_ic: w is the gradient of the score at what the heads
    hand on for CLS, v_i the values of patch i, and λ_i the cosine of the query of CLS and the key of patch i, spread
    over 0 to 1; the channels are those of all heads together. Raises ValueError where the score reads nothing of CLS at
    that layer, AttentionRefused where queries and keys cannot be read.
    """
    grid, model = probe.grid, probe.model
    if not question.cls:
        raise ValueError(f"{model.name} has no CLS token whose attention grad_eclip loosens: take method='legrad'")
    with torch.enable_grad():
        cap = probe.captured()
    sites = encoder(cap, grid)
    site = sites[layer_index(question.layer, len(sites))]
    gradient = scored(site)[1]
    if gradient is None or not cap.queries_read(site)[0, 0]:
        raise ValueError(f"the score reads nothing of CLS at {site.name}: take method='legrad'")
    dtype = wide(probe.pixels.dtype)
    with uncast(probe.pixels.device):
        query, keys = site.q[0, :, 0].to(dtype), repeat_heads(site.k, site.heads)[0, :, grid.patch_tokens].to(dtype)
        values = repeat_heads(site.v, site.heads)[0, :, grid.patch_tokens].to(dtype)
        near = F.cosine_similarity(query.flatten()[None], keys.transpose(0, 1).flatten(1))
        span = near.max() - near.min()
        loosened = (near - near.min()) / span if span > 0 else torch.ones_like(near)
        channels = gradient[0, :, 0].to(dtype)[:, None] * values
        return Answer(channels.sum((0, 2)) * loosened, signed=True)
