"""Laws of heatmaps: they are arrays of their values, and belong to their image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pictures import heatmap

from vislab.core.geometry import Frame, Grid
from vislab.core.heatmap import Heatmap


def test_a_heatmap_is_the_array_of_its_values() -> None:
    heat = heatmap(((0, 1, 2), (3, 4, 5)))
    assert np.asarray(heat) is heat.values
    assert np.asarray(heat).dtype == np.float32
    assert (np.array(heat) == [[0, 1, 2], [3, 4, 5]]).all()
    assert (np.stack([heat, heat]).shape, np.corrcoef(np.ravel(heat), np.ravel(heat))[0, 1]) == ((2, 2, 3), 1)
    assert (heat.values * heat == heat.values**2).all()


def test_a_copy_is_made_where_it_is_asked_for_or_needed() -> None:
    heat = heatmap()
    own = np.array(heat)
    own[0, 0] = 7
    assert heat.values[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(heat)[0, 0] = 7
    assert np.asarray(heat, dtype=np.float64).dtype == np.float64
    assert np.shares_memory(np.asarray(heat, copy=False), heat.values)
    assert not np.shares_memory(np.asarray(heat, copy=True), heat.values)
    with pytest.raises(ValueError, match=r"(?i)unable to avoid copy"):
        np.asarray(heat, dtype=np.float64, copy=False)


@pytest.mark.parametrize(
    ("values", "said"), [(((1, 2, 3),) * 3, "needs values of that shape"), (((0, np.nan),), "NaN or infinite")]
)
def test_values_that_fit_no_grid_are_refused(values: object, said: str) -> None:
    two = heatmap(((0, 1),))
    with pytest.raises(ValueError, match=said):
        replace(two, values=values)


FRAMES = {
    "stretched": Frame.stretch((48, 64), (32, 32)),
    "letterboxed": Frame.letterbox((40, 64), (32, 32)),
    "cropped": Frame.crop((40, 64), (32, 51), (32, 32)),
    "a region": Frame.stretch((20, 30), (32, 32)).cut_from((40, 64), (7, 11)),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_each_pixel_has_the_value_of_the_patch_over_its_centre(frame: Frame) -> None:
    values = np.random.default_rng(0).random((4, 4), dtype=np.float32)
    heat = Heatmap(values, Grid(4, 4, (8, 8)), frame, "cls")
    laid = heat.pixels()
    assert (laid.shape, laid.dtype) == (frame.source, np.float32)
    cells = [[heat.cell_at(x + 0.5, y + 0.5) for x in range(frame.source[1])] for y in range(frame.source[0])]
    expected = [[np.nan if cell is None else values[cell] for cell in row] for row in cells]
    assert np.array_equal(laid, np.float32(expected), equal_nan=True)


def test_over_the_pixels_of_a_patch_the_mean_is_its_value_and_the_range_stays() -> None:
    heat = Heatmap(np.random.default_rng(0).random((4, 4)), Grid(4, 4, (8, 8)), FRAMES["stretched"], "cls")
    means = heat.pixels().reshape(4, 12, 4, 16).mean((1, 3))
    assert means == pytest.approx(heat.values)
    assert (heat.pixels().min(), heat.pixels().max()) == (heat.values.min(), heat.values.max())


def test_dropped_patches_have_no_pixels() -> None:
    dropped = np.zeros((4, 4), bool)
    dropped[1, 2] = True
    heat = Heatmap(np.ones((4, 4)), Grid(4, 4, (8, 8)), FRAMES["stretched"], "cls", dropped=dropped)
    gone = np.isnan(heat.pixels())
    assert gone[12:24, 32:48].all()
    assert gone.sum() == 12 * 16


def test_it_says_what_it_is_in_one_line() -> None:
    frame = Frame.stretch((683, 1024), (224, 224))
    heat = Heatmap(np.eye(2), Grid(2, 2, (112, 112)), frame, "relevance", "church", query="CLS")
    assert repr(heat) == "Heatmap(relevance of CLS for church, 2 × 2 patches, image of 1024 × 683 px)"
    assert repr(replace(heat, target=None, query=None)).startswith("Heatmap(relevance, 2 × 2")
