"""A model's weights drawn anew part by part, and how far its maps change with them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models.model import Model
from .plan import Outcome, Plan, counted, maps_of, placed
from .ranks import spearman
from .report import BASELINES


def randomisation(
    plan: Plan, outcomes: Sequence[tuple[Outcome, np.ndarray]], progress: bool
) -> tuple[tuple[str, ...], np.ndarray]:
    """Parts from the top, and the rank correlations with the untouched model's maps: (methods, images, parts)."""
    if not outcomes:
        return (), np.zeros((len(plan.methods) + len(BASELINES), 0, 0))
    plans = [placed(plan, image) for _, image in outcomes]
    parts = model_parts(plan.model, outcomes[0][1], **plans[0].sizes)
    model = replace(plan.model, module=copy.deepcopy(plan.model.module))
    generator = torch.Generator().manual_seed(plan.seed)
    correlations = []
    for stage, names in enumerate(counted(list(parts.values()), "part", progress)):
        draw_anew(model.module, names, generator)
        for own, (one, image) in zip(plans, outcomes, strict=True):
            maps = maps_of(replace(own, model=model), image, one.target, 4 + stage)
            correlations.append([spearman(one.maps[name], values) for name, values in maps.items()])
    by_part = np.array(correlations).reshape(len(parts), len(outcomes), -1)
    return tuple(parts), by_part.transpose(2, 1, 0)


def model_parts(model: Model, image: np.ndarray, **sizes: Any) -> dict[str, list[str]]:
    """A model's parameters by name, in parts from the top: what follows the layers, each layer, what precedes them.

    A layer is the largest module that holds one site of attention among the model's layers.
    """
    sites = [site.name.split(".") for site in model.run(image, **sizes).capture.layers]
    layers = [_own_prefix(site, sites) for site in sites]
    parts: dict[str, list[str]] = {"head": [], **{str(k): [] for k in reversed(range(len(layers)))}, "input": []}
    within = "input"
    for name, _ in model.module.named_parameters():
        layer = next((k for k, prefix in enumerate(layers) if name.startswith(prefix + ".")), None)
        within = str(layer) if layer is not None else "input" if within == "input" else "head"
        parts[within].append(name)
    return {part: names for part, names in parts.items() if names}


def _own_prefix(site: Sequence[str], sites: Sequence[Sequence[str]]) -> str:
    """The shortest beginning of a module path that no other site shares."""
    own = (n for n in range(1, len(site)) if sum(other[:n] == site[:n] for other in sites) == 1)
    return ".".join(site[: next(own, len(site))])


def draw_anew(module: nn.Module, names: Iterable[str], generator: torch.Generator) -> None:
    """Draw parameters from the normal distribution of their own mean and deviation, which keeps signals their size."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name in names:
            old = parameters[name].float().cpu()
            fresh = torch.randn(old.shape, generator=generator) * old.std(correction=0) + old.mean()
            parameters[name].copy_(fresh)
