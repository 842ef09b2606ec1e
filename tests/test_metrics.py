from __future__ import annotations

import numpy as np
import pytest

from vislab.metrics import removal

PIXELS = np.random.default_rng(0).integers(1, 256, (12, 8, 3)).astype(np.uint8)
BLACK = np.zeros_like(PIXELS)


def one_patch(batch: np.ndarray) -> np.ndarray:
    """1 where the patch at row 1, column 0 of a 3 × 2 grid is there, else 0."""
    return (batch[:, 4:8, :4] == PIXELS[4:8, :4]).all((1, 2, 3)).astype(float)


def lit(row: int, col: int) -> np.ndarray:
    values = np.zeros((3, 2))
    values[row, col] = 1
    return values


def test_the_map_that_knows_the_patch_is_best_at_both() -> None:
    right = removal(one_patch, PIXELS, lit(1, 0), fill=BLACK, steps=6)
    wrong = removal(one_patch, PIXELS, -lit(1, 0), fill=BLACK, steps=6)
    assert right.deletion.tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert right.insertion.tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert wrong.deletion.tolist() == [1, 1, 1, 1, 1, 1, 0]
    assert right.deletion_area == pytest.approx(1 / 12)
    assert right.insertion_area == pytest.approx(11 / 12)
    assert wrong.deletion_area == pytest.approx(11 / 12)


def test_all_or_nothing_at_the_ends() -> None:
    curve = removal(lambda batch: batch.sum((1, 2, 3)), PIXELS, lit(0, 1), fill=BLACK, steps=3)
    assert curve.share.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert (curve.deletion[0], curve.deletion[-1]) == (PIXELS.sum(), 0)
    assert (curve.deletion + curve.insertion).tolist() == [PIXELS.sum()] * 4


def test_patches_that_do_not_divide_the_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="5×2 patches"):
        removal(one_patch, PIXELS, np.zeros((5, 2)), fill=BLACK)
