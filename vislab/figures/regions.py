"""Masks drawn on a picture: a colour and an outline each, and labels."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

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


def _labelled(picture: np.ndarray, masks: Masks, areas: np.ndarray) -> np.ndarray:
    """Labels at the places of the masks that are farthest from their edges."""
    import cv2

    height, width = picture.shape[:2]
    face = font(max(11, round(min(height, width) / 38)))
    high, places, texts = sum(face.getmetrics()) + 2, [], []
    for number, mask in enumerate(masks.masks):
        if areas[number] < _LABELLED * mask.size:
            continue
        depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
        y, x = divmod(int(depth.argmax()), width)
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
