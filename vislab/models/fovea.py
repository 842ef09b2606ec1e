"""A fovea's layout: where patches of several sizes lie, small ones within some boxes and larger ones around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.geometry import Frame
from .tokens import BOX, Box, Found, Tokens


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


def settled(fovea: Any, frame: Frame, side: int, name: str) -> tuple[Box, ...]:
    """The boxes of a fovea, source pixels, those of a detector as a model can take them. frame: of its pixels.

    A box that was found is cut to what the model sees, and where it is smaller than a patch of `side` px, widened about
    its centre. ValueError where none lies there, and for a detector that was not asked yet. name: of the model.
    """
    if isinstance(fovea, str) and fovea == BOX:
        raise ValueError(
            "fovea='box' asks a detector, which vislab.explain and vislab.evaluate do: here give its boxes, "
            "fovea=vislab.detect(image)"
        )
    if not isinstance(fovea, Found):
        return tuple(fovea)
    (height, width), kept = frame.model, []
    for box in fovea:
        x0, y0, x1, y1 = (*frame.to_model(*box[:2]), *frame.to_model(*box[2:]))
        (x0, x1), (y0, y1) = _widened(x0, x1, side, width), _widened(y0, y1, side, height)
        if x0 < x1 and y0 < y1:
            kept.append(frame.box_to_source((x0, y0, x1, y1)))
    if not kept:
        raise ValueError(f"no box that was found lies in what {name} sees: give fovea, (x0, y0, x1, y1)")
    return tuple(kept)


def on_input(spent: Mapping[str, Any], frame: Frame, name: str) -> dict[str, Any]:
    """Settings of tokens, by name, with the boxes of a fovea in pixels of the model's input. frame: of its pixels."""
    tokens = Tokens.of(spent)
    if tokens is None or tokens.fovea is None:
        return dict(spent)
    boxes = settled(tokens.fovea, frame, tokens.fovea_patches[0], name)
    return {**spent, "fovea": tuple((*frame.to_model(*box[:2]), *frame.to_model(*box[2:])) for box in boxes)}


def _widened(low: float, high: float, side: int, length: int) -> tuple[float, float]:
    """An interval cut to 0..length, and at least a side long; an empty one where it lies outside."""
    low, high = max(low, 0.0), min(high, float(length))
    if low >= high:
        return 0.0, 0.0
    if high - low < side:
        low = min(max((low + high - side) / 2, 0.0), length - side)
        high = low + side
    return low, high


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
