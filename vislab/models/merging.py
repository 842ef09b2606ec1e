"""Tokens that are alike become one: bipartite soft matching."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.passage import Passage


def merged(keys: Tensor, sizes: Tensor, count: int, prefix: int, suffix: int) -> Passage:
    """Join so many pairs of tokens, those whose keys are most alike.

    keys: (n, dim), of the tokens. sizes: (n,), how many patches each stands for. count: at most half the patches.
    Every other token is offered the most similar of those in between, by the cosine of their keys; the best offers are
    taken, and a token that takes becomes the mean of all that it took, weighted by their sizes. Prefix and suffix stay.

    Source: Bolya et al. 2023, Token Merging, section 3.
    """
    n = len(keys)
    if not count:
        return Passage(torch.arange(n, device=keys.device), torch.ones_like(sizes), n)
    places = torch.arange(n, device=keys.device)
    offering, taking = (places[prefix + (prefix + first) % 2 : n - suffix : 2] for first in (0, 1))
    unit = F.normalize(keys.float(), dim=-1)
    alike = unit[offering] @ unit[taking].T
    offers = alike.amax(1).argsort(descending=True, stable=True)[:count]
    gone, takers = offering[offers], taking[alike[offers].argmax(1)]
    target = places.clone()
    target[gone] = takers
    left = torch.ones(n, dtype=torch.bool, device=keys.device)
    left[gone] = False
    into = (left.cumsum(0) - 1)[target]
    total = torch.zeros(n - count, dtype=sizes.dtype, device=keys.device).index_add(0, into, sizes)
    return Passage(into, sizes / total[into], n - count)
