"""Masks out of patches: cells of a grid on the source image, and the patches of a heatmap that count."""

from __future__ import annotations

import numpy as np

from ..core.geometry import Frame, Grid, pixel_cells, within
from ..core.heatmap import Heatmap


def on_pixels(cells: np.ndarray, grid: Grid, frame: Frame) -> np.ndarray:
    """cells: (n, rows, cols) bool -> (n, H, W) bool: source pixels whose centre falls into a patch that is in.

    Pixels that no patch covers are in no mask.
    """
    rows, cols = (pixel_cells(grid, frame, axis) for axis in (0, 1))
    down, along = within(rows, grid.rows), within(cols, grid.cols)
    masks = np.zeros((len(cells), *frame.source), bool)
    masks[:, down, along] = cells[:, rows[down].astype(int)][:, :, cols[along].astype(int)]
    return masks


def visible(grid: Grid, frame: Frame) -> np.ndarray:
    """Which patches hold the centre of a source pixel -> (rows, cols) bool: those that are no padding."""
    seen = []
    for axis, count in ((0, grid.rows), (1, grid.cols)):
        cells = pixel_cells(grid, frame, axis)
        seen.append(np.isin(np.arange(count), cells[within(cells, count)].astype(int)))
    return np.outer(*seen)


def chosen(heat: Heatmap, method: str, level: float) -> tuple[np.ndarray, float]:
    """The patches of a heatmap that make its mask -> ((rows, cols) bool, share of the map's mass in them, 0..1).

    method: "threshold" takes those at or above `level`, a fraction of the way from the lowest to the highest value
    shown, of a signed map from 0; "otsu" finds that level (Otsu 1979, by OpenCV, in 255 steps); "share" takes the
    fewest patches, the highest first, that hold the share `level` of the mass. Mass is what lies above 0; of a signed
    map nothing else is ever taken. Raises ValueError for a map on which nothing stands out.
    """
    seen = visible(heat.grid, heat.frame)
    values = np.where(seen, heat.values.astype(np.float64), 0)
    mass = np.maximum(values, 0)
    shown = np.maximum(values[seen], 0) if heat.signed else values[seen]
    low, high = (float(end) for end in (shown.min(initial=np.inf), shown.max(initial=-np.inf)))
    if not low < high:
        raise ValueError(
            f"all patches of this map by {heat.method} that lie on the image have one value, so no region stands out: "
            "take another method, layer or target"
        )
    if method == "share":
        kept = _holding(mass, level)
    else:
        fraction = (values - low) / (high - low)
        kept = fraction > _otsu(fraction[seen]) if method == "otsu" else fraction >= level
        kept &= seen & (values > 0) if heat.signed else seen
    total = mass.sum()
    return kept, float(min(1.0, mass[kept].sum() / total)) if total else 0.0


def _otsu(fractions: np.ndarray) -> float:
    """The level above which fractions, (n,) 0..1, are taken, by Otsu's method."""
    import cv2

    steps = np.round(fractions * 255).astype(np.uint8)
    level, _ = cv2.threshold(steps[:, None], 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return (float(level) + 0.5) / 255


def _holding(mass: np.ndarray, share: float) -> np.ndarray:
    """The fewest cells, the highest first, that hold a share of the mass -> the same shape, bool."""
    order = np.argsort(-mass, axis=None, kind="stable")
    held = np.cumsum(mass.ravel()[order])
    if held[-1] <= 0:
        raise ValueError("nothing of this map lies above 0, so it has no mass to take a share of: take method='otsu'")
    count = int(np.searchsorted(held, share * held[-1] * (1 - 1e-12))) + 1
    kept = np.zeros(mass.size, bool)
    kept[order[:count]] = True
    return kept.reshape(mass.shape)
