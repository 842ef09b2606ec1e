"""Boxes and their labels, and the patch that asks, drawn on a picture."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw

from ..core.geometry import Box
from ..core.heatmap import Heatmap
from .text import WHITE, font


class Boxes(Protocol):
    """What is drawn of detections: xyxy (n, 4) in source pixels, scores (n,), labels (n names)."""

    @property
    def xyxy(self) -> np.ndarray: ...
    @property
    def scores(self) -> np.ndarray: ...
    @property
    def labels(self) -> Sequence[str]: ...


@dataclass(frozen=True, eq=False)
class Drawn:
    """Boxes with nothing but what is drawn of them; see `Detections`."""

    xyxy: np.ndarray
    scores: np.ndarray
    labels: Sequence[str]
    keypoints: np.ndarray | None = None
    corners: np.ndarray | None = None


NONE = Drawn(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), ())


def boxes_given(boxes: Any) -> Boxes | None:
    """Boxes as they were given, () as no box; None where none were. TypeError for what cannot be drawn as boxes."""
    if isinstance(boxes, tuple) and not boxes:
        return NONE
    if boxes is not None and not all(hasattr(boxes, part) for part in ("xyxy", "scores", "labels")):
        raise TypeError(
            "boxes are what vislab.detect finds, with xyxy, scores and labels, or () for none, not "
            f"{type(boxes).__name__}"
        )
    found: Boxes | None = boxes
    return found


def explained_box(heat: Any) -> Drawn | None:
    """The box that a heatmap explains, in source pixels; None where it explains none."""
    box = heat.facts.get("box") if isinstance(heat, Heatmap) else None
    if box is None:
        return None
    parts = {name: np.array([box[name]]) for name in ("keypoints", "corners") if name in box}
    return Drawn(np.array([box["xyxy"]]), np.array([box["score"]]), (box["label"],), **parts)


def scaled(boxes: Boxes, scale: np.ndarray) -> Drawn:
    """The same boxes on a picture of another size. scale: how much wider and higher it is, (2,)."""
    points, corners = getattr(boxes, "keypoints", None), getattr(boxes, "corners", None)
    return Drawn(
        boxes.xyxy * np.tile(scale, 2),
        boxes.scores,
        boxes.labels,
        None if points is None else np.concatenate([points[..., :2] * scale, points[..., 2:]], -1),
        None if corners is None else corners * scale,
    )


def box_labels(boxes: Boxes) -> list[str]:
    """What stands beside each box: its name and score."""
    return [
        f"{' '.join(name.split())} {float(score):.2f}" for name, score in zip(boxes.labels, boxes.scores, strict=True)
    ]


def apart(labels: Sequence[Box], bottom: float) -> list[Box]:
    """Labels moved up or down by as little as lets none hide another, the first staying where they are.

    labels: (left, top, right, bottom) of each, in one unit. bottom: of the picture. Where there is no room left, a
    label stays where it was.
    """
    placed: list[Box] = []
    for x0, y0, x1, y1 in labels:
        beside = [other for other in placed if other[0] < x1 and x0 < other[2]]
        # It is free where it was, or right above or below a label that stands in its way.
        tops = [y0, *(other[3] for other in beside), *(other[1] - (y1 - y0) for other in beside)]
        free = [
            top
            for top in tops
            if 0 <= top <= max(y0, bottom - (y1 - y0))
            and all(top >= other[3] or top + y1 - y0 <= other[1] for other in beside)
        ]
        top = min(free, key=lambda top: abs(top - y0), default=y0)
        placed.append((x0, top, x1, top + y1 - y0))
    return placed


def with_boxes(image: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Boxes as white lines cased in black, labels white on black: legible on a photo and on every colormap."""
    height, width = image.shape[:2]
    line = _line(image)
    face = font(max(11, round(min(height, width) / 38)))
    page = Image.fromarray(image)
    draw = ImageDraw.Draw(page, "RGBA")
    corners = [[round(float(v)) for v in box] for box in boxes.xyxy]
    texts = box_labels(boxes)
    for number, box in enumerate(corners):
        turned, points = turned_of(boxes, number), points_of(boxes, number)
        if turned is None:
            _outline(draw, box, line)
        else:
            _turned(draw, turned, line)
        _dots(draw, points, line)
    high, labels = sum(face.getmetrics()) + 2, []
    for (x0, y0, _, _), text in zip(corners, texts, strict=True):
        wide = math.ceil(face.getlength(text)) + 8
        left = max(0, min(x0 - line, width - wide))
        top = y0 - line - high if y0 - line >= high else max(0, min(y0 + line, height - high))
        labels.append((left, top, left + wide, top + high))
    for (left, top, right, bottom), text in reversed(list(zip(apart(labels, height), texts, strict=True))):
        draw.rectangle((left, top, right - 1, bottom - 1), fill=(0, 0, 0, 190))  # the first on top
        draw.text((left + 4, top + high / 2), text, WHITE, face, anchor="lm")
    return np.array(page)


def asking(heat: Heatmap) -> Box | None:
    """The patch that asks, in source pixels; None where no patch of the map does, but CLS, the mean or a box."""
    found = re.fullmatch(r"patch \((\d+), (\d+)\)", heat.query or "")
    return heat.box(int(found[1]), int(found[2])) if found else None


def with_asking(image: np.ndarray, heat: Heatmap) -> np.ndarray:
    """The picture of a heatmap with an outline around the patch that asks, where one does. image: (H, W, 3) uint8"""
    box = asking(heat)
    if box is None:
        return image
    page = Image.fromarray(image)
    _outline(ImageDraw.Draw(page, "RGBA"), [round(v) for v in box], _line(image))
    return np.array(page)


def _line(image: np.ndarray) -> int:
    """How thick a line is on a picture, px."""
    return max(1, round(min(image.shape[:2]) / 320))


def turned_of(boxes: Boxes, number: int) -> np.ndarray | None:
    """The corners of a turned box, (4, 2) px; None of one that is not turned."""
    corners = getattr(boxes, "corners", None)
    return None if corners is None else np.asarray(corners[number])


def points_of(boxes: Boxes, number: int) -> list[tuple[float, float]]:
    """A box's keypoints that are visible, px: of three numbers the last says how sure that is, and is at least ½."""
    points = getattr(boxes, "keypoints", None)
    every = [] if points is None else np.asarray(points[number]).tolist()
    return [(x, y) for x, y, *visible in every if not visible or visible[0] >= 0.5]


def _turned(draw: ImageDraw.ImageDraw, corners: np.ndarray, line: int) -> None:
    """A white line cased in black around a turned box. corners: (4, 2) px."""
    path = [tuple(corner) for corner in [*corners.tolist(), *corners[:2].tolist()]]
    draw.line(path, (0, 0, 0, 190), 3 * line)
    draw.line(path, WHITE, line)


def _dots(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], line: int) -> None:
    """White dots cased in black."""
    for x, y in points:
        for size, colour in ((2.5 * line, (0, 0, 0, 190)), (1.5 * line, WHITE)):
            draw.ellipse((x - size, y - size, x + size, y + size), fill=colour)


def _outline(draw: ImageDraw.ImageDraw, box: Sequence[int], line: int) -> None:
    """A white line cased in black."""
    x0, y0, x1, y1 = box
    draw.rectangle((x0 - line, y0 - line, x1 + line, y1 + line), outline=(0, 0, 0, 190), width=3 * line)
    draw.rectangle((x0, y0, x1, y1), outline=WHITE, width=line)
