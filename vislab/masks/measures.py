"""How much two masks agree: IoU, Dice, pixel accuracy and boundary F, and their means over classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..core.checks import one_of, real, shown

Measure = Callable[[np.ndarray, np.ndarray], float]
_OF_DIAGONAL = 0.008  # how far boundaries may lie apart, a share of the picture's diagonal (Perazzi et al. 2016)


def iou(first: Any, other: Any) -> float:
    """|A ∩ B| / |A ∪ B|, 0..1. Two empty masks agree: 1; an empty one and another: 0. Masks (H, W) bool."""
    first, other = pair(first, other)
    union = np.count_nonzero(first | other)
    return int(np.count_nonzero(first & other)) / int(union) if union else 1.0


def dice(first: Any, other: Any) -> float:
    """2 |A ∩ B| / (|A| + |B|), 0..1. Two empty masks agree: 1; an empty one and another: 0. Masks (H, W) bool."""
    first, other = pair(first, other)
    both = np.count_nonzero(first) + np.count_nonzero(other)
    return 2 * int(np.count_nonzero(first & other)) / int(both) if both else 1.0


def pixel_accuracy(first: Any, other: Any) -> float:
    """The share of pixels on which two masks say the same, 0..1. Masks (H, W) bool."""
    first, other = pair(first, other)
    return int(np.count_nonzero(first == other)) / first.size


def boundary_f(first: Any, other: Any, *, tolerance: float | None = None) -> float:
    """F of two boundaries, 0..1: the harmonic mean of the shares of each that lie near the other (Martin et al. 2004).

    Masks (H, W) bool. A boundary pixel is in the mask and has one of its four neighbours outside of it; the picture's
    edge is no boundary, so that empty and full masks have none: with one of these, 1 where both masks are the same,
    else 0. tolerance: px from centre to centre that count as near, by default 0.008 of the picture's diagonal, rounded
    up.
    """
    import cv2

    first, other = pair(first, other)
    if tolerance is None:
        tolerance = math.ceil(_OF_DIAGONAL * math.hypot(*first.shape))
    if not real(tolerance) or not 0 <= float(tolerance) < math.inf:
        raise ValueError(f"tolerance is a number of pixels from 0, not {shown(tolerance)}")
    edges = [boundary(first), boundary(other)]
    if not (edges[0].any() and edges[1].any()):
        return float(np.array_equal(first, other))
    near = []
    for edge, opposite in (edges, edges[::-1]):
        apart = cv2.distanceTransform((~opposite).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        near.append(float((apart[edge] <= float(tolerance) + 1e-3).mean()))
    precision, recall = near
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask, (H, W) bool, that have one of their four neighbours outside of it -> (H, W) bool."""
    padded = np.pad(mask, 1, mode="edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


MEASURES: dict[str, Measure] = {
    "iou": iou,
    "dice": dice,
    "pixel_accuracy": pixel_accuracy,
    "boundary_f": boundary_f,
}


def measured(name: Any) -> Measure:
    """A measure by its name. Raises ValueError for another."""
    if not one_of(name, MEASURES):
        raise ValueError(f"measure is one of {', '.join(MEASURES)}, not {shown(name)}")
    return MEASURES[name]


def over_classes(
    first: Iterable[np.ndarray], other: Iterable[np.ndarray], labels: tuple[Sequence[str], Sequence[str]], measure: str
) -> dict[str, float]:
    """A measure of the masks of each class that one of the two knows -> {label: value, 0..1}.

    first, other: masks (n, H, W) bool; labels: of each. Masks of one label are taken together; a class that one side
    does not have is an empty mask there.
    """
    of = measured(measure)
    known = dict.fromkeys([*labels[0], *labels[1]])
    sides = [_together(masks, names) for masks, names in zip((first, other), labels, strict=True)]
    found = {}
    for label in known:
        both = [side.get(label) for side in sides]
        there = next(one for one in both if one is not None)
        found[label] = of(*(np.zeros_like(there) if one is None else one for one in both))
    return found


def _together(masks: Iterable[np.ndarray], labels: Sequence[str]) -> dict[str, np.ndarray]:
    union: dict[str, np.ndarray] = {}
    for label, mask in zip(labels, masks, strict=True):
        union[label] = union[label] | mask if label in union else mask
    return union


def pair(first: Any, other: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two masks of one picture, (H, W) bool. Raises ValueError for others."""
    both = np.asarray(first), np.asarray(other)
    for mask in both:
        if mask.ndim != 2 or mask.dtype != bool or not mask.size:
            raise ValueError(f"a mask is an array of bool, (H, W), not {mask.dtype} {mask.shape}: compare with > first")
    if both[0].shape != both[1].shape:
        raise ValueError(f"masks of one picture are compared, not of {both[0].shape} and {both[1].shape} pixels")
    return both
