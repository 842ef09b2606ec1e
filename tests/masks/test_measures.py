"""Measures of two masks are those of scipy, with empty and full ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.spatial.distance as distance

from vislab.masks.measures import boundary_f, dice, iou, over_classes, pixel_accuracy

EMPTY, FULL = np.zeros((9, 7), bool), np.ones((9, 7), bool)
SOME = np.pad(np.ones((3, 2), bool), ((2, 4), (1, 4)))
PLUS = scipy.ndimage.generate_binary_structure(2, 1)


def blobs(seed: int, size: tuple[int, int] = (40, 56)) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=size), 3) > 0.02


@pytest.mark.parametrize("seed", range(4))
def test_measures_are_scipys(seed: int) -> None:
    first, other = blobs(seed), blobs(seed + 100)
    assert iou(first, other) == pytest.approx(1 - distance.jaccard(first.ravel(), other.ravel()))
    assert dice(first, other) == pytest.approx(1 - distance.dice(first.ravel(), other.ravel()))
    assert pixel_accuracy(first, other) == pytest.approx(1 - distance.hamming(first.ravel(), other.ravel()))


@pytest.mark.parametrize("tolerance", [0, 1, 2.5, 5])
def test_boundary_f_is_that_of_exact_distances(tolerance: float) -> None:
    first, other = blobs(1), blobs(2)
    edges = [mask & ~scipy.ndimage.binary_erosion(mask, PLUS, border_value=1) for mask in (first, other)]
    precision, recall = (
        (scipy.ndimage.distance_transform_edt(~b)[a] <= tolerance).mean() for a, b in (edges, edges[::-1])
    )
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert boundary_f(first, other, tolerance=tolerance) == pytest.approx(expected)
    assert boundary_f(first, first) == 1
    assert boundary_f(SOME, np.roll(SOME, 4, 1), tolerance=0) == 0


@pytest.mark.parametrize(
    ("first", "other", "expected"),
    [
        (EMPTY, EMPTY, (1, 1, 1, 1)),
        (FULL, FULL, (1, 1, 1, 1)),
        (EMPTY, FULL, (0, 0, 0, 0)),
        (SOME, EMPTY, (0, 0, 57 / 63, 0)),
        (FULL, SOME, (6 / 63, 12 / 69, 6 / 63, 0)),
    ],
)
def test_empty_and_full_masks_are_defined(first: np.ndarray, other: np.ndarray, expected: tuple[float, ...]) -> None:
    for measure, value in zip((iou, dice, pixel_accuracy, boundary_f), expected, strict=True):
        assert measure(first, other) == measure(other, first) == pytest.approx(value)


def test_masks_of_a_class_are_taken_together() -> None:
    left, right = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    left[:, :2], right[:, 2:] = True, True
    found = over_classes([left, right], [left | right], (["a", "a"], ["a"]), "iou")
    assert found == {"a": 1.0}
    assert over_classes([left], [right], (["a"], ["b"]), "dice") == {"a": 0.0, "b": 0.0}


@pytest.mark.parametrize(
    ("first", "other", "says"),
    [
        (SOME, SOME[:3], "masks of one picture"),
        (SOME * 1, SOME, "an array of bool"),
        (SOME[0], SOME, "an array of bool"),
    ],
)
def test_what_is_no_mask_is_refused(first: Any, other: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        iou(first, other)


@pytest.mark.parametrize("tolerance", [-1, "2", True, float("nan"), float("inf")])
def test_tolerance_is_a_number_of_pixels(tolerance: Any) -> None:
    with pytest.raises(ValueError, match="tolerance is a number of pixels"):
        boundary_f(SOME, SOME, tolerance=tolerance)
