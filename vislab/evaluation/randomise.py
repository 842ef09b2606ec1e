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
from .ranks import spearman
from .report import BASELINES
from .trials import Plan, Seen, counted, maps_of, sizes


def randomisation(
    asked: Plan, seen: Sequence[tuple[Seen, np.ndarray]], progress: bool
) -> tuple[tuple[str, ...], np.ndarray]:
    """Parts from the top, and the rank correlations with the untouched model's maps: (methods, images, parts)."""
    if not seen:
        return (), np.zeros((len(asked.methods) + len(BASELINES), 0, 0))
    parts = model_parts(asked.model, seen[0][1], **sizes(asked))
    changed = replace(asked.model, module=copy.deepcopy(asked.model.module))
    generator = torch.Generator().manual_seed(asked.seed)
    found = []
    for stage, names in enumerate(counted(list(parts.values()), "part", progress)):
        draw_anew(changed.module, names, generator)
        for one, image in seen:
            maps = maps_of(replace(asked, model=changed), image, one.target, one.number, 4 + stage)
            found.append([spearman(one.maps[name], values) for name, values in maps.items()])
    correlations = np.array(found).reshape(len(parts), len(seen), -1)
    return tuple(parts), correlations.transpose(2, 1, 0)


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
