"""Boxes and their labels, drawn on a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw

from .text import WHITE, font


class Boxes(Protocol):
    """What is drawn of detections: xyxy (n, 4) in source pixels, scores (n,), labels (n names)."""

    @property
    def xyxy(self) -> np.ndarray: ...
    @property
    def scores(self) -> np.ndarray: ...
    @property
    def labels(self) -> Sequence[str]: ...


def check_boxes(boxes: Any) -> None:
    """TypeError for what cannot be drawn as boxes."""
    if boxes is not None and not all(hasattr(boxes, part) for part in ("xyxy", "scores", "labels")):
        raise TypeError(f"boxes are what vislab.detect finds, with xyxy, scores and labels, not {type(boxes).__name__}")


def box_labels(boxes: Boxes) -> list[str]:
    """What stands beside each box: its name and score."""
    return [
        f"{' '.join(name.split())} {float(score):.2f}" for name, score in zip(boxes.labels, boxes.scores, strict=True)
    ]


def with_boxes(image: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Boxes as white lines cased in black, labels white on black: legible on a photo and on every colormap."""
    height, width = image.shape[:2]
    line = max(1, round(min(height, width) / 320))
    face = font(max(11, round(min(height, width) / 38)))
    page = Image.fromarray(image)
    draw = ImageDraw.Draw(page, "RGBA")
    corners = [[round(float(v)) for v in box] for box in boxes.xyxy]
    for x0, y0, x1, y1 in corners:
        draw.rectangle((x0 - line, y0 - line, x1 + line, y1 + line), outline=(0, 0, 0, 190), width=3 * line)
        draw.rectangle((x0, y0, x1, y1), outline=WHITE, width=line)
    for (x0, y0, _, _), text in reversed(list(zip(corners, box_labels(boxes), strict=True))):  # the first on top
        wide, high = math.ceil(face.getlength(text)) + 8, sum(face.getmetrics()) + 2
        left = max(0, min(x0 - line, width - wide))
        top = y0 - line - high if y0 - line >= high else max(0, min(y0 + line, height - high))
        draw.rectangle((left, top, left + wide - 1, top + high - 1), fill=(0, 0, 0, 190))
        draw.text((left + 4, top + high / 2), text, WHITE, face, anchor="lm")
    return np.array(page)
