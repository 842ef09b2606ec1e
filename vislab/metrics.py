"""How far a heatmap can be trusted: what its ranking of patches does to the model's score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


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
    score: Callable[[np.ndarray], np.ndarray],
    pixels: np.ndarray,
    values: np.ndarray,
    *,
    fill: np.ndarray,
    steps: int = 14,
) -> Removal:
    """Delete and insert the patches of an image in the order of a heatmap's values.

    score: (n, H, W, 3) -> (n,). pixels: (H, W, 3) as the model sees them. values: (rows, cols) that divide it. fill:
    (H, W, 3), what a removed patch shows (a blurred image keeps the model near what it knows).

    Source: Petsiuk, Das & Saenko 2018 (RISE), section 4.3.
    """
    height, width = pixels.shape[:2]
    rows, cols = values.shape
    if height % rows or width % cols or fill.shape != pixels.shape:
        raise ValueError(f"{rows}×{cols} patches and a fill of {fill.shape} do not fit pixels of {pixels.shape}")
    rank = np.empty(values.size, dtype=int)
    rank[np.argsort(-values, axis=None, kind="stable")] = np.arange(values.size)
    rank = rank.reshape(values.shape).repeat(height // rows, 0).repeat(width // cols, 1)
    share = np.linspace(0, 1, steps + 1)
    changed = [(rank < round(s * values.size))[..., None] for s in share]
    deleted = np.stack([np.where(mask, fill, pixels) for mask in changed])
    inserted = np.stack([np.where(mask, pixels, fill) for mask in changed])
    return Removal(share, score(deleted), score(inserted))
