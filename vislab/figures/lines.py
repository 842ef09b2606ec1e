"""Lines between the patches of a map, as a picture and a page draw them."""

from __future__ import annotations

import numpy as np

from ..core.geometry import pixel_cells, within
from ..core.heatmap import Heatmap

FAINT = 24  # px of a patch's side below which its lines are drawn the fainter, else they hide what they divide
STRONGEST = 0.65


def edges(heat: Heatmap) -> tuple[np.ndarray, np.ndarray]:
    """The edges of a heatmap's patches in source pixels -> (of the rows, of the columns)."""
    down, across = (
        (np.arange(count + 1) * heat.grid.patch[axis] - heat.frame.offset[axis]) / heat.frame.scale[axis]
        for axis, count in enumerate(heat.values.shape)
    )
    return down, across


def faintness(finest: float) -> float:
    """The opacity of lines between patches whose shorter side is so long, px of what is looked at."""
    return min(STRONGEST, finest / FAINT)


def with_grid(image: np.ndarray, heat: Heatmap) -> np.ndarray:
    """A picture with white lines between the patches of its heatmap. image: (H, W, 3) uint8 -> the same, new."""
    line = max(1, round(min(image.shape[:2]) / 640))
    opacity = faintness(min(np.diff(one).min() for one in edges(heat)) / line)
    ruled, covered = [], []
    for axis, places in enumerate(edges(heat)):
        count = image.shape[axis]
        on, inside = np.zeros(count, bool), np.zeros(count, bool)
        inside[within(pixel_cells(heat.grid, heat.frame, axis), heat.values.shape[axis])] = True
        for start in np.rint(places - line / 2).astype(int):
            if -line < start < count + line:  # lines at the picture's own edge are drawn inside it
                first = min(max(start, 0), count - line)
                on[first : first + line] = True
        ruled.append(on & inside)
        covered.append(inside)
    drawn = (ruled[0][:, None] & covered[1]) | (covered[0][:, None] & ruled[1])
    picture = image.copy()
    picture[drawn] = np.rint(picture[drawn] * (1 - opacity) + 255 * opacity).astype(np.uint8)
    return picture
