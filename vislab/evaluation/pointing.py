"""Whether a map points where it should: the share inside a region, and mosaics of four images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..core.geometry import Frame, Grid
from .plan import Outcome, Plan, maps_of, placed


def pointing(values: np.ndarray, inside: np.ndarray) -> float:
    """The share of a heatmap's positive values that lies where it should. -> 0 to 1.

    values: (rows, cols). inside: (rows, cols), the share of each patch that lies there. A map without positive values
    points nowhere, and counts as a uniform one.

    Source: the grid pointing game of Böhle, Fritz & Schiele 2021 (CoDA Nets), section 5.1.
    """
    positive = np.maximum(values, 0.0)
    if not positive.any():
        positive = np.ones_like(positive)
    return float((positive * inside).sum() / positive.sum())


def quarter(image: np.ndarray, frame: Frame) -> np.ndarray:
    """What the model sees of an image, at half the size of its input. -> (h, w, 3) uint8"""
    height, width = frame.model
    small = Image.fromarray(image).resize((width // 2, height // 2), Image.Resampling.BICUBIC, box=frame.visible)
    return np.asarray(small)


def mosaics(outcomes: Sequence[Outcome], rng: np.random.Generator) -> list[list[Outcome]]:
    """Fours of images of different classes, in random order, as many as there can be; each image is in one at most."""
    classes: dict[int, list[Outcome]] = {}
    for k in rng.permutation(len(outcomes)):
        classes.setdefault(outcomes[k].target, []).append(outcomes[k])
    fours = []
    while len(fullest := sorted(filter(None, classes.values()), key=len)[-4:]) == 4:
        four = [members.pop() for members in fullest]
        fours.append([four[k] for k in rng.permutation(4)])
    return fours


def pointing_scores(plan: Plan, mosaic: Sequence[Outcome]) -> list[float]:
    """Each method's mean over the four classes of a mosaic; none where a fovea is to lie on a box that is not found."""
    a, b, c, d = (one.quarter for one in mosaic)
    image = np.vstack([np.hstack([a, b]), np.hstack([c, d])])
    source = (image.shape[0], image.shape[1])
    frame = plan.model.frame(source, image_size=plan.image_size, patch_size=plan.patch_size)
    try:
        plan = placed(plan, image)
    except ValueError:
        return []
    scores = []
    for place, one in enumerate(mosaic):
        maps = maps_of(plan, image, one.target, place)
        inside = _inside(plan.grid, frame, place)
        scores.append([pointing(values, inside) for values in maps.values()])
    return np.mean(scores, 0).tolist()


def _inside(grid: Grid, frame: Frame, quarter: int) -> np.ndarray:
    """The share of each patch in a quarter of the source image, 0 the top left and 1 the top right. -> (rows, cols)"""
    x, y = frame.to_model(frame.source[1] / 2, frame.source[0] / 2)
    top = np.clip(y / grid.patch[0] - np.arange(grid.rows), 0, 1)
    left = np.clip(x / grid.patch[1] - np.arange(grid.cols), 0, 1)
    below, right = divmod(quarter, 2)
    return np.outer(1 - top if below else top, 1 - left if right else left)
