"""Patches removed and put back in the order of a map, and what that does to a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..core.checks import one_of, shown
from ..core.geometry import Grid
from ..core.heatmap import Heatmap
from ..core.images import load_image
from ..models.cache import model_of
from ..models.classes import Classes
from ..models.fovea import on_input
from ..models.model import Model
from ..models.preprocessing import ImageSize
from ..models.tokens import Tokens

Fill = Literal["blur", "mean"]
BLUR = 0.1  # the blur's deviation, as a share of the input's shorter side: colours stay, shapes go
BATCH_TOKENS = {"cpu": 1600}  # a processor is fastest with small batches, other devices idle with them
BATCH_TOKENS_ELSEWHERE = 2**16


@dataclass(frozen=True, eq=False)
class Removal:
    """Scores while patches are removed and while they are put back, highest value first; `removal` makes one.

    share: (steps + 1,) of the patches changed, 0 to 1. deletion, insertion: (steps + 1,) scores. A map that finds what
    the score depends on has a low area under deletion and a high one under insertion.
    """

    share: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def deletion_area(self) -> float:
        return float(np.trapezoid(self.deletion, self.share))

    @property
    def insertion_area(self) -> float:
        return float(np.trapezoid(self.insertion, self.share))


def removal(
    heat: Heatmap | np.ndarray,
    *,
    score: Callable[[np.ndarray], np.ndarray],
    steps: int = 28,
    seed: int | np.random.Generator = 0,
) -> Removal:
    """Delete and insert patches in the order of a heatmap's values, highest first, ties in random order.

    heat: a heatmap, or (rows, cols). score: what `patch_score` makes, or any function of (n, rows, cols) bool, the
    patches that are kept -> (n,). It is called once, with n = 2 · steps: both curves share their ends. steps: at most
    as many as there are patches; then each takes one. seed: of the order of ties.

        score = vislab.patch_score(image, target="church")
        vislab.removal(vislab.explain(image, method="cls"), score=score).deletion_area

    Source: Petsiuk, Das & Saenko 2018 (RISE), section 4.3, with patches for pixels.
    """
    values, rng = np.asarray(heat), np.random.default_rng(seed)
    if values.ndim != 2:
        raise ValueError(f"patches are removed in the order of a heatmap, (rows, cols), not of {values.shape}")
    if not 1 <= steps <= values.size:
        raise ValueError(f"{values.size} patches are removed in 1 to {values.size} steps, not in {steps}")
    rank = np.empty(values.size, dtype=int)
    rank[np.lexsort((rng.random(values.size), -values.ravel()))] = np.arange(values.size)
    counts = np.rint(np.linspace(0, values.size, steps + 1)).astype(int)
    changed = rank.reshape(values.shape) < counts[:, None, None]
    scores = np.asarray(score(np.concatenate([~changed, changed[1:-1]])))
    deletion = scores[: steps + 1]
    insertion = np.concatenate([deletion[-1:], scores[steps + 1 :], deletion[:1]])
    return Removal(counts / values.size, deletion, insertion)


def patch_score(
    image: Any,
    *,
    model: str | Path | Model | nn.Module = "embedded",
    target: str | int | None = None,
    fill: Fill = "blur",
    patch_size: int | None = None,
    image_size: ImageSize | None = None,
    **tokens: Any,
) -> Callable[[np.ndarray], np.ndarray]:
    """The probability of a class for an image of which only some patches are kept -> (n, rows, cols) bool -> (n,).

    image: what `load_image` takes. model, patch_size, image_size and tokens, how they are spent: as of `explain`.
    target: a class, by default the one predicted on the whole image. The grid is the model's, or under a fovea that of
    its smallest patches. fill: what a removed patch shows, the image blurred until its shapes are gone, or its mean
    colour. Raises ValueError for a model without a classifier, or one that gives numbers, and for masks of other grids.

        score = vislab.patch_score("photo.jpg", target="church")
        values = vislab.explain("photo.jpg").values
        score(values[None] > values.mean())  # of the patches that rollout finds
    """
    ready = model_of(model)
    sizes: dict[str, Any] = {"patch_size": patch_size, "image_size": image_size}
    scores = patch_scores(image, model=ready, fill=fill, **sizes, **tokens)
    if target is None:  # of the logits: probabilities of classes that are each for itself may be alike
        pixels, frame = ready.preprocessing(load_image(image), ready.input_size(image_size))
        index = int(ready.logits(pixels, **sizes, **on_input(tokens, frame, ready.name)).argmax())
    else:
        index = ready.class_index(target)
    return lambda kept: scores(kept)[:, index]


def patch_scores(
    image: Any,
    *,
    model: Model,
    fill: Fill = "blur",
    patch_size: int | None = None,
    image_size: ImageSize | None = None,
    **tokens: Any,
) -> Callable[[np.ndarray], np.ndarray]:
    """As `patch_score`, of all classes at once -> (n, rows, cols) bool -> (n, classes)."""
    classes = classes_of(model)
    grid = model.grid(image_size, patch_size)
    pixels, frame = model.preprocessing(load_image(image), model.input_size(image_size))
    spent = on_input(tokens, frame, model.name)
    whole = pixels.to(model.device, model.dtype)
    removed = filled(pixels[0], fill)[None].to(whole)
    grids = {(one.rows, one.cols): one for one in (grid, *_small(model, spent, image_size))}
    budget = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS_ELSEWHERE)

    def scores(kept: np.ndarray) -> np.ndarray:
        masks = torch.from_numpy(kept).to(model.device)
        own = grids.get((masks.shape[1], masks.shape[2])) if masks.ndim == 3 else None
        if own is None:
            fitting = " or ".join(f"(n, {rows}, {cols})" for rows, cols in grids)
            raise ValueError(f"masks of patches are {fitting} here, not {tuple(masks.shape)}: one for each patch")
        # pixels that are left over at the right and bottom go with the last patch
        row, col = (
            (torch.arange(side, device=model.device) // patch).clamp(max=count - 1)
            for side, patch, count in zip(pixels.shape[2:], own.patch, (own.rows, own.cols), strict=True)
        )
        parts = []
        for part in masks.split(max(1, budget // grid.tokens)):
            shown = torch.where(part[:, row][:, :, col][:, None], whole, removed)
            logits = model.logits(shown, patch_size=patch_size, image_size=image_size, **spent)
            parts.append(classes.scores(logits))
        return torch.cat(parts).cpu().numpy()

    return scores


def _small(model: Model, spent: Mapping[str, Any], image_size: ImageSize | None) -> list[Grid]:
    """The grid of the smallest patches of a fovea, where there is one."""
    tokens = Tokens.of(spent)
    return [] if tokens is None or tokens.fovea is None else [model.grid(image_size, tokens.fovea_patches[0])]


def classes_of(model: Model) -> Classes:
    """The classes whose probability falls while patches are removed. Raises ValueError where there is none to watch."""
    if model.classes is None and model.texts is not None:
        raise ValueError(
            f"{model.name} compares an image with texts, and a probability takes several: give it labels, "
            "vislab.load(…, labels=['a church', 'a fish'])"
        )
    if model.classes is None:
        raise ValueError(f"{model.name} has no classifier: what it returns are features, and no probability to watch")
    if model.classes.kind == "number":
        raise ValueError(
            f"{model.name} gives {' and '.join(model.classes.labels[:3])} as a number, and no probability: deletion "
            "and insertion have nothing to watch. vislab.removal takes any score of yours, and vislab.explain "
            "makes its maps"
        )
    if model.classes.kind == "exclusive" and len(model.classes.labels) == 1:
        raise ValueError(
            f"{model.name} has {model.classes.labels[0]!r} alone to choose from, whose probability is always 1: give "
            "it several labels"
        )
    return model.classes


def filled(pixels: Tensor, fill: Fill) -> Tensor:
    """The whole image as removed patches show it: blurred, or its mean colour. pixels: (3, h, w) -> (3, h, w)"""
    if not one_of(fill, ("blur", "mean")):
        raise ValueError(f"fill is 'blur' or 'mean', not {shown(fill)}")
    if fill == "mean":
        return pixels.mean((1, 2), keepdim=True).expand_as(pixels)
    deviation = BLUR * min(pixels.shape[1:])
    down, across = (_gaussian(side, deviation) for side in pixels.shape[1:])
    return down @ pixels @ across.T


def _gaussian(side: int, deviation: float) -> Tensor:
    """The matrix that blurs along one axis; beyond the border nothing is counted. -> (side, side), rows sum to 1."""
    at = torch.arange(side, dtype=torch.float32)
    return (-(((at[:, None] - at) / deviation) ** 2) / 2).softmax(1)
