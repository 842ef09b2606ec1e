"""What a notebook shows of a heatmap, of boxes, of masks and of other values: one picture with a caption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..core.features import FeatureMap
from ..core.geometry import Frame
from ..core.heatmap import Heatmap
from ..core.token_map import TokenMap
from ..detectors.detections import Detections
from ..detectors.points import Points
from ..masks.masks import Masks
from . import drawing
from .boxes import NONE, explained_box, scaled, with_asking, with_boxes
from .captions import SIGNED, describe, measure_of
from .colours import centred, colour_range, colour_ticks, colours, colours_of, fraction
from .overlay import OPACITY, overlay
from .page import Panel
from .png import png
from .text import INK, WHITE, font, line_image, wrapped

SHOWN_SIDE = (400, 720)  # px, the photo's long side in a notebook: below it is enlarged, above it reduced


@singledispatch
def picture(value: object) -> bytes:
    """What a notebook shows of a value, as a PNG file."""
    raise TypeError(f"no picture is drawn of {type(value).__name__}")


@picture.register
def _(value: Heatmap) -> bytes:
    return png(figure_array(value))


@picture.register
def _(value: Detections) -> bytes:
    return png(boxes_array(value))


@picture.register
def _(value: FeatureMap | Points) -> bytes:
    return png(captioned(value.overlay(), [str(value).replace("\n", " ")]))


@picture.register
def _(value: TokenMap) -> bytes:
    return png(captioned(value.overlay(), str(value).splitlines()[-1:]))


@picture.register
def _(value: Masks) -> bytes:
    photo = value.image if value.image is not None else np.full((*value.masks.shape[1:], 3), 255, np.uint8)
    return png(captioned(overlay(value, image=photo, opacity=0.5), [str(value)]))


@picture.register
def _(value: Panel) -> bytes:
    return drawing.preview(value)


def figure_array(heat: Heatmap) -> np.ndarray:
    """What a notebook shows of a heatmap: on its photo (on white if it has none), colour bar, caption -> RGB uint8."""
    own, before = explained_box(heat), heat.frame.source
    heat = _at_shown_size(heat)
    own = NONE if own is None else scaled(own, _scale(before, heat.frame.source))
    photo = heat.image if heat.image is not None else np.full((*heat.frame.source, 3), 255, np.uint8)
    opacity = OPACITY if heat.image is not None else 1
    picture = with_asking(overlay(heat, image=photo, opacity=opacity, detections=own), heat)
    height, width = picture.shape[:2]
    span = colour_range(heat)
    values, labels, factor = colour_ticks(span, count=max(2, min(6, height // 60)))
    small, edge, bar = font(12), 10, 14
    bar_height = max(height, 60)
    bar_left = edge + width + 12
    top = edge + (18 if factor else 0)
    right = bar_left + bar + 7 + math.ceil(max(small.getlength(text) for text in [*labels, factor]))
    measure = line_image(measure_of([heat]), small)
    right += measure.height + 6 if measure is not None and measure.width <= bar_height else 0
    phrases = describe(heat).split(" · ") + ([SIGNED] if centred(span) else [])
    lines = wrapped(phrases, max(right, 380) - edge, small)
    below = top + bar_height + 10

    page = Image.new("RGB", (max(right, 380) + edge, below + 18 * len(lines) + edge - 4), WHITE)
    page.paste(Image.fromarray(picture), (edge, top))
    ramp = colours(np.linspace(1 if span[0] < span[1] else 0, 0, bar_height)[:, None], colours_of(span, "viridis"))
    page.paste(Image.fromarray(ramp.repeat(bar, axis=1)), (bar_left, top))
    draw = ImageDraw.Draw(page)
    for value, label in zip(values, labels, strict=True):
        y = top + round((1 - float(fraction(np.array(value), span))) * (bar_height - 1))
        draw.line((bar_left + bar, y, bar_left + bar + 3, y), fill=INK)
        draw.text((bar_left + bar + 7, y), label, INK, small, anchor="lm")
    draw.text((bar_left, top - 7), factor, INK, small, anchor="ls")
    if measure is not None and measure.width <= bar_height:
        page.paste(measure.rotate(90, expand=True), (right - measure.height, top + (bar_height - measure.width) // 2))
    for number, line in enumerate(lines):
        draw.text((edge, below + 18 * number), line, INK, small, anchor="la")
    return np.asarray(page)


def boxes_array(boxes: Detections) -> np.ndarray:
    """What a notebook shows of detections: boxes on their photo (on white if it has none), a caption -> RGB uint8."""
    photo = boxes.image if boxes.image is not None else np.full((*boxes.frame.source, 3), 255, np.uint8)
    size = shown_size(boxes.frame.source)
    moved = scaled(boxes, _scale(boxes.frame.source, size))
    return captioned(with_boxes(resized(photo, size), moved), [boxes.summary])


def _scale(before: tuple[int, int], after: tuple[int, int]) -> np.ndarray:
    """How much wider and higher a picture is. before, after: (height, width) px."""
    return np.array([after[1] / before[1], after[0] / before[0]])


def captioned(picture: np.ndarray, phrases: Sequence[str]) -> np.ndarray:
    """picture: (H, W, 3) uint8 -> the same at a notebook's size, with phrases in lines below it."""
    edge, small = 10, font(12)
    picture = resized(picture, shown_size((picture.shape[0], picture.shape[1])))
    height, width = picture.shape[:2]
    lines = wrapped(phrases, max(width, 380), small)
    page = Image.new("RGB", (max(width, 380) + 2 * edge, height + 2 * edge + 6 + 18 * len(lines)), WHITE)
    page.paste(Image.fromarray(picture), (edge, edge))
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        draw.text((edge, edge + height + 10 + 18 * number), line, INK, small, anchor="la")
    return np.asarray(page)


def _at_shown_size(heat: Heatmap) -> Heatmap:
    """The same heatmap over a photo of a size that suits a notebook."""
    height, width = heat.frame.source
    size = shown_size((height, width))
    if size == (height, width):
        return heat
    image = None if heat.image is None else resized(heat.image, size)
    scale = (heat.frame.scale[0] * height / size[0], heat.frame.scale[1] * width / size[1])
    return replace(heat, frame=Frame(size, heat.frame.model, scale, heat.frame.offset), image=image)


def shown_size(source: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) at which a notebook shows a photo."""
    smallest, largest = SHOWN_SIDE
    long = max(source)
    zoom = largest / long if long > largest else max(1, smallest // long)
    return max(1, round(source[0] * zoom)), max(1, round(source[1] * zoom))


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    way = cv2.INTER_AREA if size < image.shape[:2] else cv2.INTER_CUBIC
    return cv2.resize(image, size[::-1], interpolation=way)
