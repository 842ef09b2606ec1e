"""A fovea's layout: where patches of several sizes lie, small ones within some boxes and larger ones around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.geometry import Frame
from .tokens import Box, Tokens


@dataclass(frozen=True, eq=False)
class Layout:
    """Patches of several sizes that fill an input, in the order of their top left corners, row by row.

    sizes: px, the smallest first. level: (patches,), which size each has. index: (patches,), which patch it is of the
    grid of that size. owner: (rows, cols) of the smallest patches, the patch that each cell is part of.
    """

    sizes: tuple[int, ...]
    level: np.ndarray
    index: np.ndarray
    owner: np.ndarray

    @property
    def patches(self) -> int:
        return len(self.level)


def layout(boxes: Sequence[Box], sizes: Sequence[int], size: tuple[int, int]) -> Layout:
    """Where patches lie. boxes: model pixels. sizes: px, the smallest first. size: (height, width) px of the input.

    Each patch of the largest size that a box touches is cut into those of the next; with more than two sizes, so is one
    that is nearer to a box than the sizes in between are wide, which makes rings.
    """
    small, (height, width) = sizes[0], size
    level = np.full((height // small, width // small), len(sizes) - 1)
    for step in range(len(sizes) - 1, 0, -1):
        side, margin = sizes[step] // small, sum(sizes[1:step])
        touched = np.zeros((height // sizes[step], width // sizes[step]), bool)
        for x0, y0, x1, y1 in boxes:
            top, left = (max(0, int((low - margin) // sizes[step])) for low in (y0, x0))
            bottom, right = (int(-(-(high + margin) // sizes[step])) for high in (y1, x1))
            touched[top:bottom, left:right] = True
        cells = touched.repeat(side, 0).repeat(side, 1)
        level[cells & (level == step)] = step - 1
    row, col = np.indices(level.shape)
    sides = np.array(sizes)[level] // small
    first = (row % sides == 0) & (col % sides == 0)
    numbers = np.full(level.shape, -1)
    numbers[first] = np.arange(first.sum())
    owner = numbers[row // sides * sides, col // sides * sides]
    index = row // sides * (width // small // sides) + col // sides
    return Layout(tuple(sizes), level[first], index[first], owner)


def layout_of(tokens: Tokens, frame: Frame, name: str) -> Layout:
    """The layout that is asked for of an input. frame: of its pixels. name: of the model, for errors.

    ValueError for patches that do not fill the input, and for a fovea that lies outside or is smaller than a patch.
    """
    sizes, (height, width) = tokens.fovea_patches, frame.model
    if height % sizes[-1] or width % sizes[-1]:
        raise ValueError(
            f"patches of {sizes[-1]} px do not fill the input of {height}×{width} px of {name}: take other "
            "fovea_patches, or an image_size that is a multiple of the largest"
        )
    boxes = []
    for box in tokens.fovea or ():
        x0, y0 = frame.to_model(*box[:2])
        x1, y1 = frame.to_model(*box[2:])
        words = f"the fovea ({', '.join(f'{v:g}' for v in box)})"
        seen = tuple(round(v) for v in frame.visible)
        if x0 < -0.5 or y0 < -0.5 or x1 > width + 0.5 or y1 > height + 0.5:
            raise ValueError(f"{words} reaches out of what {name} sees, {seen} in source pixels: take a part of that")
        if min(x1 - x0, y1 - y0) < sizes[0] - 1e-6:
            small = " × ".join(f"{sizes[0] / scale:.3g}" for scale in frame.scale[::-1])
            raise ValueError(
                f"{words} is smaller than one of its patches of {sizes[0]} px, which is {small} source pixels: take a "
                "larger one, or smaller fovea_patches"
            )
        x1, y1 = min(x1, float(width)), min(y1, float(height))
        # rounded, so that an error of rounding touches no further patch
        boxes.append((round(max(x0, 0.0), 6), round(max(y0, 0.0), 6), round(x1, 6), round(y1, 6)))
    return layout(boxes, sizes, (height, width))
