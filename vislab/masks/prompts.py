"""What a model is asked for by points and boxes: checked, one prompt an object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.checks import shown
from ..core.geometry import Box


@dataclass(frozen=True)
class Prompt:
    """One object. points: (x, y), source pixels; inside: which of them lie on it. box: around it. label: its name."""

    points: tuple[tuple[float, float], ...]
    inside: tuple[bool, ...]
    box: Box | None
    label: str

    @property
    def said(self) -> str:
        """What it is made of, in words."""
        parts = [f"{len(self.points)} point{'s' * (len(self.points) > 1)}"] if self.points else []
        return " and ".join([*parts, "a box"] if self.box else parts)


def prompts_of(points: Any, outside: Any, boxes: Any, size: tuple[int, int]) -> tuple[Prompt, ...]:
    """One prompt of all points, with the box where there is one; of boxes alone a prompt each.

    points, outside: (x, y) of one object and of what is none of it. boxes: (x0, y0, x1, y1), or Detections, whose
    labels are kept. size: (height, width) of the image. Raises ValueError for what is no such list or lies beside the
    image.
    """
    on, off = pairs("points", points, size), pairs("outside", outside, size)
    around, labels = corners(boxes, size)
    if off and not (on or around):
        raise ValueError("points outside an object say nothing of it alone: give points=[(x, y)] that lie on it too")
    if not on and not off:
        if not around:
            raise ValueError("there are no boxes to ask by: give boxes=[(x0, y0, x1, y1)] or points=[(x, y)]")
        return tuple(Prompt((), (), box, label) for box, label in zip(around, labels, strict=True))
    if len(around) > 1:
        raise ValueError(
            f"points describe one object, and there are {len(around)} boxes: give the one box that they belong to, "
            "or the boxes alone"
        )
    inside = (True,) * len(on) + (False,) * len(off)
    return (Prompt((*on, *off), inside, around[0] if around else None, labels[0] if labels else "object"),)


def pairs(name: str, given: Any, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Points (x, y) of an image of a size, (height, width); none of None. Raises ValueError, which says name."""
    found = _numbers(name, given, 2, "(x, y), such as [(120, 80)]")
    height, width = size
    for x, y in found:
        if not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(f"{name}: ({x:g}, {y:g}) lies beside the image, which is {width}×{height} px")
    return [(x, y) for x, y in found]


def corners(boxes: Any, size: tuple[int, int]) -> tuple[list[Box], list[str]]:
    """Boxes (x0, y0, x1, y1) that touch an image of a size, and what they are called. Raises ValueError."""
    labels = getattr(boxes, "labels", None)
    found = _numbers("boxes", getattr(boxes, "xyxy", boxes), 4, "(x0, y0, x1, y1), such as [(20, 30, 180, 150)]")
    height, width = size
    for x0, y0, x1, y1 in found:
        if not (x0 < x1 and y0 < y1):
            raise ValueError(
                f"boxes: ({x0:g}, {y0:g}, {x1:g}, {y1:g}) has no area: left, top, right and bottom are wanted"
            )
        if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
            raise ValueError(
                f"boxes: ({x0:g}, {y0:g}, {x1:g}, {y1:g}) lies beside the image, which is {width}×{height} px"
            )
    names = [f"box {i + 1}" for i in range(len(found))] if labels is None else [*labels]
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in found], names


def _numbers(name: str, given: Any, count: int, wanted: str) -> list[list[float]]:
    """Rows of so many numbers; none of None."""
    if given is None:
        return []
    try:
        rows = np.asarray(given if isinstance(given, np.ndarray) else [*given], dtype=np.float64)
    except (TypeError, ValueError):
        rows = np.full(0, np.nan)
    empty = isinstance(given, Sequence | np.ndarray) and not len(given)
    if not empty and (rows.ndim != 2 or rows.shape[1] != count or not np.isfinite(rows).all()):
        raise ValueError(f"{name} is a list of {wanted}, in pixels of the image, not {shown(given)}")
    found: list[list[float]] = [] if empty else rows.tolist()
    return found
