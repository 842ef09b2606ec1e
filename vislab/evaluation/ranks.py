"""Orders and samples in numbers: rank correlation, mean and standard error, and the blob in the centre."""

from __future__ import annotations

import math

import numpy as np


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
