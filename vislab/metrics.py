"""How far a heatmap can be trusted, in numbers: what its order of patches does to a score, and how two orders agree."""

from __future__ import annotations

import math
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


def pointing(values: np.ndarray, inside: np.ndarray) -> float:
    """The share of a heatmap's positive values that lies where it should. -> 0 to 1.

    values: (rows, cols). inside: (rows, cols), the share of each patch that lies there. A map without positive values
    points nowhere, and counts as a uniform one.

    Source: the grid pointing game of Böhle, Fritz & Schiele 2021 (CoDA Nets), section 5.1.
    """
    positive = np.maximum(values, 0.0)
    if not positive.any():
        positive = np.ones_like(positive)
    return float((positive * inside).sum() / positive.sum())


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation of two arrays of one shape, tied values sharing their mean rank. -> -1 to 1.

    0 where one of them is constant, since it ranks nothing.

    Source: Spearman 1904, as Pearson's correlation of the ranks.
    """
    if first.shape != second.shape:
        raise ValueError(f"ranks are compared of arrays of one shape, not of {first.shape} and {second.shape}")
    one, other = (ranks - ranks.mean() for ranks in (_ranks(first), _ranks(second)))
    spread = math.sqrt((one @ one) * (other @ other))
    return float(one @ other / spread) if spread else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, (n,); equal values share the mean of theirs."""
    _, place, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]


def centre(rows: int, cols: int) -> np.ndarray:
    """A blob in the middle of a grid, what photographers do without looking. -> (rows, cols), above 0 to 1.

    A Gaussian whose deviation is a quarter of each side.
    """
    y, x = (np.exp(-8 * ((np.arange(n) + 0.5) / n - 0.5) ** 2) for n in (rows, cols))
    return np.outer(y, x)


def mean_and_error(samples: np.ndarray) -> tuple[float, float]:
    """The mean of (n,) samples and its standard error; NaN where there are too few."""
    count = len(samples)
    mean = float(np.mean(samples)) if count else math.nan
    return mean, float(np.std(samples, ddof=1)) / math.sqrt(count) if count > 1 else math.nan
