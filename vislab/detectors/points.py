"""Where a query of deformable attention samples the feature maps, and with which weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ..core.shown import Shown
from .detections import Detections

_COLOURS = ("orange", "deepskyblue", "magenta", "lime")


@dataclass(frozen=True, eq=False, repr=False)
class Points(Shown):
    """Where the query behind a box samples the feature maps: deformable attention has points instead of a map.

    xy: (heads, maps, points, 2), source pixels; a point may lie outside the image. weights: (heads, maps, points),
    those of a head sum to 1. strides: px of the detector's input, one a map. box: that of the query. Shows itself over
    its image as the last expression of a notebook cell; `Glance.points` makes them.
    """

    xy: np.ndarray
    weights: np.ndarray
    strides: tuple[int, ...]
    box: Detections
    query: str

    def overlay(self) -> np.ndarray:
        """The points on the photo, a colour for each map, their areas as their weights -> (H, W, 3) uint8."""
        assert self.box.image is not None
        picture = Image.fromarray(self.box.image)
        draw = ImageDraw.Draw(picture)
        x0, y0, x1, y1 = (float(v) for v in self.box.xyxy[0])
        draw.rectangle((x0, y0, x1, y1), outline="white", width=2)
        largest = float(np.clip(min(x1 - x0, y1 - y0) / 14, 3, max(3, min(picture.size) / 40)))
        order = np.argsort(-self.weights, axis=None)  # small ones on top
        for head, level, point in zip(*np.unravel_index(order, self.weights.shape), strict=True):
            x, y = (float(v) for v in self.xy[head, level, point])
            r = max(1, largest * float(self.weights[head, level, point] / self.weights.max()) ** 0.5)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=_COLOURS[level % len(_COLOURS)], outline="black")
        return np.asarray(picture)

    def __repr__(self) -> str:
        return f"Points({self._told()})"

    def __str__(self) -> str:
        heads = len(self.weights)
        shares = zip(_COLOURS, self.strides, self.weights.sum((0, 2)) / heads, strict=False)
        told = ", ".join(f"{colour} {share:.0%} at stride {stride}" for colour, stride, share in shares)
        return f"{self._told()};\n{told}"

    def _told(self) -> str:
        heads, _, points = self.weights.shape
        return f"{self.query}: {heads} heads of {points} points a map"
