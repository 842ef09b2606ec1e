"""Patches removed and put back in the order of a map, and what that does to a score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..models.model import Model
from ..models.preprocessing import ImageSize

Fill = Literal["blur", "mean"]
BLUR = 0.1  # of the input's shorter side, the deviation of a blur that keeps colours and takes shapes
BATCH_TOKENS = {"cpu": 1600}  # a processor is fastest with small batches, other devices idle with them
BATCH_TOKENS_ELSEWHERE = 2**16


@dataclass(frozen=True, eq=False)
class Removal:
    """Scores while patches are removed and while they are put back, highest value first.

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
    score: Callable[[np.ndarray], np.ndarray], values: np.ndarray, *, steps: int, rng: np.random.Generator
) -> Removal:
    """Delete and insert patches in the order of a heatmap's values, highest first, ties in random order.

    score: (n, rows, cols) bool, the patches that are kept -> (n,). It is called once, with n = 2 · steps: both curves
    share their ends. values: (rows, cols). steps: at most as many as there are patches; then each takes one.

    Source: Petsiuk, Das & Saenko 2018 (RISE), section 4.3, with patches for pixels.
    """
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


def kept_score(
    model: Model,
    pixels: Tensor,
    target: int,
    *,
    fill: Fill = "blur",
    patch_size: int | None = None,
    image_size: ImageSize | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    """The probability of a class for an image of which only some patches are kept, as `removal` asks for it.

    pixels: (1, 3, h, w) from the model's preprocessing. -> a function of (n, rows, cols) bool -> (n,)
    """
    grid = model.grid(image_size, patch_size)
    whole = pixels.to(model.device, model.dtype)
    removed = filled(pixels[0], fill)[None].to(whole)
    # pixels that are left over at the right and bottom go with the last patch
    row, col = (
        (torch.arange(side, device=model.device) // patch).clamp(max=count - 1)
        for side, patch, count in zip(pixels.shape[2:], grid.patch, (grid.rows, grid.cols), strict=True)
    )
    budget = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS_ELSEWHERE)

    def score(kept: np.ndarray) -> np.ndarray:
        masks = torch.from_numpy(kept).to(model.device)
        parts = []
        for part in masks.split(max(1, budget // grid.tokens)):
            shown = torch.where(part[:, row][:, :, col][:, None], whole, removed)
            logits = model.logits(shown, patch_size=patch_size, image_size=image_size)
            parts.append(logits.softmax(1)[:, target])
        return torch.cat(parts).cpu().numpy()

    return score


def filled(pixels: Tensor, fill: Fill) -> Tensor:
    """What the removed patches of an image show. pixels: (3, h, w) -> (3, h, w)"""
    if fill == "mean":
        return pixels.mean((1, 2), keepdim=True).expand_as(pixels)
    if fill != "blur":
        raise ValueError(f"fill is 'blur' or 'mean', not {fill!r}")
    deviation = BLUR * min(pixels.shape[1:])
    down, across = (_gaussian(side, deviation) for side in pixels.shape[1:])
    return down @ pixels @ across.T


def _gaussian(side: int, deviation: float) -> Tensor:
    """The matrix that blurs along one axis; beyond the border nothing is counted. -> (side, side), rows sum to 1."""
    at = torch.arange(side, dtype=torch.float32)
    return (-(((at[:, None] - at) / deviation) ** 2) / 2).softmax(1)
