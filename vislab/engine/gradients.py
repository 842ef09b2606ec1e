"""Gradients of a score at the attention of sites."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..core.checks import listed
from .attention import Differentiable, ProjectedCall, WindowCall
from .site import AttentionRefused, Recorded, Scored, Site
from .stepped import StepsCall


def differentiate(sites: Iterable[Site], score: Tensor) -> None:
    """Keep the gradient of a score at the attention of sites; its graph is freed.

    score: one number. Raises ValueError where there is no gradient to take.
    """
    if score.numel() != 1:
        raise ValueError(f"a score is one number, not a tensor of shape {tuple(score.shape)}: choose one of them")
    if not score.requires_grad:
        raise ValueError(
            "the score has no gradient: the model ran under torch.no_grad or torch.inference_mode, or detaches it"
        )
    sites = list(sites)
    results = {site: result for site in sites if (result := site.release()) is not None}
    gradients: Sequence[Tensor | None] = ()
    if results:
        gradients = torch.autograd.grad(score.reshape(()), [*results.values()], allow_unused=True)
    if all(gradient is None for gradient in gradients):
        names = listed(site.name for site in sites)
        raise ValueError(f"the score depends on none of the sites: {names or 'none was captured'}")
    by_site = dict(zip(results, gradients, strict=True))
    for site in sites:
        site.scored = Scored(_at_attention(site, by_site.get(site)))


def _at_attention(site: Site, gradient: Tensor | None) -> Tensor | None:
    """A gradient at what a site's module made of its call, as the gradient that the call's `gradient` takes."""
    if gradient is None or not isinstance(site.state, Recorded):
        return gradient
    if isinstance(site.state.call, ProjectedCall):
        return site.state.call.at_heads(gradient)
    return gradient if site.state.arrangement is None else site.state.arrangement.of(gradient)


def scored(site: Site) -> tuple[Differentiable, Tensor | None]:
    """The call of a site and the gradient at it, None where the score does not depend on it."""
    call = site.read()
    if isinstance(call, WindowCall):
        raise AttentionRefused(f"gradients are not followed through the windows of {site.name!r} ({site.kind})")
    if site.scored is None:
        raise ValueError("no score was given: call differentiate(score) after the forward")
    assert not isinstance(call, StepsCall)  # which no score is given for
    return call, site.scored.gradient
