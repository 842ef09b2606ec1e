"""How a heatmap lies on its photograph: as a veil, by its value, multiplied, as contour lines, as a spotlight."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..core.checks import meant, one_of, shown
from .colours import Range, centred

Blend = Literal["even", "value", "multiply", "contour", "spotlight"]
BLENDS = ("even", "value", "multiply", "contour", "spotlight")
LEVELS = (0.2, 0.4, 0.6, 0.8)  # of a map's strength, at which lines are drawn
LINES = 300  # a line is this part of the longer side wide, but no thinner than two pixels


def check_blend(blend: object) -> None:
    """ValueError for what is no way to lay a heatmap on its photograph."""
    if not one_of(blend, BLENDS):
        names = ", ".join(map(repr, BLENDS))
        raise ValueError(
            f"blend is {names}, not {shown(blend)}{meant(blend, BLENDS) if isinstance(blend, str) else ''}"
        )


def strength(share: np.ndarray, span: Range) -> np.ndarray:
    """How strong values are, 0 to 1: share, in 0..1 of their range, or, where 0 is in its middle, the way from it."""
    return np.abs(2 * share - 1) if centred(span) else share


def lines(strong: np.ndarray) -> np.ndarray:
    """Where contour lines are, (H, W) bool: strong, (H, W) in 0..1, crosses one of LEVELS; none where all is one."""
    import cv2

    level = np.searchsorted(LEVELS, strong, side="right")
    edge = np.zeros(level.shape, np.uint8)
    edge[:, 1:] |= level[:, 1:] != level[:, :-1]
    edge[1:] |= level[1:] != level[:-1]
    wide = max(2, round(max(level.shape) / LINES))
    return cv2.dilate(edge, np.ones((wide, wide), np.uint8)).astype(bool)


def layer(colour: np.ndarray, strong: np.ndarray, opacity: float, blend: Blend) -> np.ndarray:
    """A heatmap as what lies over a photograph, (H, W, 4) uint8, for every blend but "multiply".

    colour: (H, W, 3) uint8. strong: (H, W), see `strength`, smoothed for lines. "even": as opaque everywhere. "value":
    the stronger the more opaque, up to `opacity`. "contour": lines in the map's colours, with a dark edge. "spotlight":
    black, the weaker the more opaque.
    """
    if blend == "contour":
        line = lines(strong)
        cased = _grown(line)
        picture = np.where(line[..., None], colour, 0).astype(np.uint8)
        alpha = np.where(line, 255, np.where(cased, 140, 0))
        return np.dstack([picture, (alpha * min(1.0, opacity / 0.6)).astype(np.uint8)])
    if blend == "spotlight":
        return np.dstack([np.zeros_like(colour), np.rint(opacity * (1 - strong) * 255).astype(np.uint8)])
    weight = strong if blend == "value" else np.ones_like(strong)
    return np.dstack([colour, np.rint(opacity * weight * 255).astype(np.uint8)])


def blended(photo: np.ndarray, colour: np.ndarray, strong: np.ndarray, opacity: float, blend: Blend) -> np.ndarray:
    """A photograph, (H, W, 3) uint8, under a heatmap: see `layer`; "multiply": times the colours -> (H, W, 3) uint8."""
    if blend == "multiply":
        return np.rint(photo * (1 - opacity + opacity * (colour / np.float32(255)))).astype(np.uint8)
    over = layer(colour, strong, opacity, blend)
    alpha = over[..., 3:] / np.float32(255)
    return np.rint(photo * (1 - alpha) + over[..., :3] * alpha).astype(np.uint8)


def _grown(line: np.ndarray) -> np.ndarray:
    import cv2

    by = 2 * max(1, round(max(line.shape) / LINES / 2)) + 1
    return cv2.dilate(line.astype(np.uint8), np.ones((by, by), np.uint8)).astype(bool)
