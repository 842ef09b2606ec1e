"""Rows carried through attention among tokens and from them to an image: relevance and rollout where words cross over.

Tokens and image are one state (t, i). Attention among tokens is a step of the matrix [[A, 0], [0, 0]], attention from
tokens to the image one of [[0, C], [0, 0]]; both beside the residual path. So one walk is both formulas, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..engine.attention import Call, uncast, wide
from ..engine.capture import Capture
from ..engine.gradients import scored
from ..engine.site import AttentionRefused, Site
from ..engine.verification import NOT_FINITE
from ..engine.walks import Fusion, carried, carried_positive

Walk = tuple[Tensor, Tensor]  # over the tokens, (n,), and over those of the image, (m,)
Taking = Callable[[Site, Call, Tensor], Tensor | None]


def relevance(sites: Sequence[Site], crosses: Callable[[str], bool], start: Tensor) -> Walk:
    """r <- r + r·Ā, with Ā = mean over the heads of (A ∘ dA)⁺, from the last site to the first. start: (n,).

    sites: in execution order, of a capture whose score was differentiated. Source: Chefer, Gur & Wolf 2021, eqs. 5 and
    6, of the state that holds tokens and image.
    """

    def take(site: Site, call: Call, row: Tensor) -> Tensor | None:
        differentiable, gradient = scored(site)
        return None if gradient is None else carried_positive(differentiable, gradient, row)

    return _walked(sites, crosses, start, take, 1.0, 1.0)


def rollout(
    sites: Sequence[Site],
    crosses: Callable[[str], bool],
    start: Tensor,
    *,
    head: Fusion = "mean",
    residual: float = 0.5,
    discard: float = 0.0,
    prefix: int = 1,
) -> Walk:
    """v <- residual·v + (1 - residual)·v·A, from the last site to the first. start: (n,); see `Capture.rollout`."""

    def take(site: Site, call: Call, row: Tensor) -> Tensor | None:
        return carried(call, row, head, discard, prefix)

    return _walked(sites, crosses, start, take, residual, 1 - residual)


def over_image(cap: Capture, sites: Sequence[Site], queries: int) -> Tensor:
    """What the first queries cross to, in the mean of layers and heads -> (queries, image tokens)."""
    rows = [cap.attention(site, slice(0, queries))[0].mean(0) for site in sites]
    return torch.stack(rows).mean(0)


def _walked(
    sites: Sequence[Site], crosses: Callable[[str], bool], start: Tensor, take: Taking, keeps: float, gives: float
) -> Walk:
    row, crossed = start[None], None
    with torch.no_grad():
        for site in reversed(sites):
            call = site.read()
            row = row.to(call.device, wide(call.dtype))
            with uncast(row.device):
                taken = take(site, call, row[:, : site.queries])
            if taken is not None and not taken.isfinite().all():
                raise AttentionRefused(f"the attention of {site.name!r} cannot be read: {NOT_FINITE}")
            if not crosses(site.path):
                row = row * keeps + (0 if taken is None else gives * taken)
                continue
            if crossed is None:
                crossed = row.new_zeros(1, site.keys)
            if taken is not None:
                crossed = crossed + gives * taken.to(crossed.device)
            row = torch.cat([row[:, : site.queries] * keeps, row[:, site.queries :]], 1)
    if crossed is None:
        raise AttentionRefused("no attention from tokens to the image was seen")
    return row[0], crossed[0]
