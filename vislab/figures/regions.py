"""Regions drawn on a picture: masks, a colour and an outline each, and the regions of tokens in their own colours."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from ..core.geometry import Frame, Grid, pixel_cells, within
from ..masks.masks import Masks
from .boxes import apart
from .text import WHITE, font

# Okabe & Ito's colours, which people who confuse red and green tell apart; from the ninth mask on they come again.
COLOURS = np.array(
    [
        *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
        *((0, 114, 178), (213, 94, 0), (204, 121, 167), (150, 150, 150)),
    ],
    np.uint8,
)
_EDGE = (24, 24, 24)  # between two regions of tokens
_LABELLED = 0.002  # of the picture, below which a mask has no label


def with_masks(image: np.ndarray, masks: Masks, opacity: float) -> np.ndarray:
    """Masks over a picture, the largest first, with labels and scores -> (H, W, 3) uint8. image: (H, W, 3) uint8."""
    import cv2

    picture = np.array(image)
    areas = masks.masks.sum((1, 2))
    line = max(1, round(min(image.shape[:2]) / 320))
    for number in np.argsort(-areas, kind="stable"):
        mask, colour = masks.masks[number], COLOURS[number % len(COLOURS)]
        tint = cv2.addWeighted(picture, 1 - opacity, np.broadcast_to(colour, picture.shape).copy(), opacity, 0)
        picture[mask] = tint[mask]
    for number, mask in enumerate(masks.masks):
        edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, edges, -1, WHITE, 3 * line)
        cv2.drawContours(picture, edges, -1, COLOURS[number % len(COLOURS)].tolist(), line)
    return _labelled(picture, masks, areas)


def deepest(mask: np.ndarray) -> tuple[int, int]:
    """(H, W) bool -> (x, y), the pixel of a mask that is farthest from its edges."""
    import cv2

    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = divmod(int(depth.argmax()), mask.shape[1])
    return x, y


def with_regions(image: np.ndarray, regions: np.ndarray, grid: Grid, frame: Frame) -> np.ndarray:
    """Each region of patches in the mean colour of its pixels, edged; what is in none is grey and dark.

    image: (H, W, 3) uint8. regions: (rows, cols) int, numbers from 0, -1 for none; of a grid. frame: of it.
    -> (H, W, 3) uint8. Pixels outside of the grid stay as they are.
    """
    rows, cols = (pixel_cells(grid, frame, axis) for axis in (0, 1))
    down, across = within(rows, grid.rows), within(cols, grid.cols)
    number = regions[np.ix_(rows[down].astype(int), cols[across].astype(int))]
    picture, seen = np.array(image), image[down, across].astype(np.float64)
    count = int(number.max(initial=-1)) + 1
    at = number.ravel() + 1  # 0 for what is in none
    size = np.maximum(np.bincount(at, minlength=count + 1), 1)
    means = np.stack([np.bincount(at, band.ravel(), count + 1) / size for band in np.moveaxis(seen, 2, 0)], -1)
    drawn = means[at].reshape(seen.shape)
    grey = (seen @ [0.299, 0.587, 0.114])[..., None] * 0.35
    drawn = np.where((number < 0)[..., None], grey, drawn)
    line = max(1, round(min(image.shape[:2]) / 400))
    drawn[_edges(number, line)] = _EDGE
    picture[down, across] = drawn.round().astype(np.uint8)
    return picture


def _edges(number: np.ndarray, line: int) -> np.ndarray:
    """The pixels at which another region begins, so many wide. -> bool, as number"""
    edge = np.zeros(number.shape, bool)
    for step in range(1, line + 1):
        edge[:, step:] |= number[:, step:] != number[:, :-step]
        edge[step:] |= number[step:] != number[:-step]
    return edge


def _labelled(picture: np.ndarray, masks: Masks, areas: np.ndarray) -> np.ndarray:
    """Labels at the places of the masks that are farthest from their edges."""
    height, width = picture.shape[:2]
    face = font(max(11, round(min(height, width) / 38)))
    high, places, texts = sum(face.getmetrics()) + 2, [], []
    for number, mask in enumerate(masks.masks):
        if areas[number] < _LABELLED * mask.size:
            continue
        x, y = deepest(mask)
        text = f"{' '.join(masks.labels[number].split())} {masks.scores[number]:.2f}"
        wide = math.ceil(face.getlength(text)) + 8
        left, top = max(0, min(x - wide // 2, width - wide)), max(0, min(y - high // 2, height - high))
        places.append((left, top, left + wide, top + high))
        texts.append((text, number))
    page = Image.fromarray(picture)
    draw = ImageDraw.Draw(page, "RGBA")
    for (left, top, right, bottom), (text, number) in reversed(list(zip(apart(places, height), texts, strict=True))):
        draw.rectangle((left, top, right - 1, bottom - 1), fill=(0, 0, 0, 190))
        draw.rectangle((left, top, left + 2, bottom - 1), fill=(*COLOURS[number % len(COLOURS)].tolist(), 255))
        draw.text((left + 5, top + high / 2), text, WHITE, face, anchor="lm")
    return np.array(page)
