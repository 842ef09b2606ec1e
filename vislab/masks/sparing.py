"""Crops at random that hold what a map looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core.geometry import Frame, Grid
from ..core.heatmap import Heatmap
from .maps import chosen, visible

Uniform = Callable[[tuple[int, ...]], np.ndarray]  # numbers from 0 to 1, of a shape
_TRIES = 64


@dataclass(frozen=True, eq=False)
class Attended:
    """How much of what is looked at lies in any box. table: (rows + 1, cols + 1), what lies above and left of a corner
    of the grid, a share of all."""

    table: np.ndarray
    grid: Grid
    frame: Frame

    @classmethod
    def of(cls, heat: Heatmap) -> Attended:
        """The patches above Otsu's level, each by its value; of a map on which nothing stands out, all alike."""
        seen = visible(heat.grid, heat.frame)
        try:
            kept, _ = chosen(heat, "otsu", 0.0)
        except ValueError:
            kept = np.zeros_like(seen)
        weight = np.where(kept, np.maximum(heat.values, 0), 0).astype(np.float64)
        weight = weight if weight.sum() > 0 else seen.astype(np.float64)
        table = np.pad(weight.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        return cls(table, heat.grid, heat.frame)

    def share(self, boxes: np.ndarray) -> np.ndarray:
        """(n, 4) x0, y0, x1, y1 in source pixels -> (n,) of all that is looked at on the image, 0..1.

        Within a patch it is spread evenly, so that the share is exact for boxes that cut patches.
        """
        height, width = self.frame.source
        return np.asarray(self._within(boxes) / self._within(np.array([[0.0, 0.0, width, height]])))

    def _within(self, boxes: np.ndarray) -> np.ndarray:
        (down, along), (top, left), patch = self.frame.scale, self.frame.offset, self.grid.patch
        x = np.clip((boxes[:, [0, 2]] * along + left) / patch[1], 0, self.grid.cols)
        y = np.clip((boxes[:, [1, 3]] * down + top) / patch[0], 0, self.grid.rows)
        corner = [[self._above(y[:, i], x[:, j]) for j in (0, 1)] for i in (0, 1)]
        return np.asarray(corner[1][1] - corner[0][1] - corner[1][0] + corner[0][0])

    def _above(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        row, col = (np.minimum(p.astype(int), n - 1) for p, n in ((y, self.grid.rows), (x, self.grid.cols)))
        v, u = y - row, x - col
        low = self.table[row, col] * (1 - u) + self.table[row, col + 1] * u
        high = self.table[row + 1, col] * (1 - u) + self.table[row + 1, col + 1] * u
        return np.asarray(low * (1 - v) + high * v)


def crop(
    attended: Attended, uniform: Uniform, *, spare: float, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """A crop at random -> (x0, y0, x1, y1), whole source pixels, that holds at least a share of what is looked at.

    Drawn as torchvision's RandomResizedCrop draws: scale, the share of the image's area, evenly; ratio, width by
    height, evenly on a logarithmic scale; then the place. The first of 64 that holds the share `spare`, 0..1, is
    taken; where none does, the whole image.
    """
    height, width = attended.frame.source
    draws = uniform((_TRIES, 4))
    area = height * width * (scale[0] + draws[:, 0] * (scale[1] - scale[0]))
    shape = ratio[0] * (ratio[1] / ratio[0]) ** draws[:, 1]
    wide, high = (np.clip(np.round(np.sqrt(side)), 1, None) for side in (area * shape, area / shape))
    fits = (wide <= width) & (high <= height)
    x0, y0 = np.floor(draws[:, 2] * (width - wide + 1)), np.floor(draws[:, 3] * (height - high + 1))
    boxes = np.stack([x0, y0, x0 + wide, y0 + high], 1)
    good = np.flatnonzero(fits & (attended.share(boxes) >= spare))
    if not len(good):
        return 0, 0, width, height
    left, top, right, bottom = (int(v) for v in boxes[good[0]])
    return left, top, right, bottom
