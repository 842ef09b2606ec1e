"""Masks of heatmaps lie on exactly the pixels of their patches."""

from __future__ import annotations

import numpy as np
import pytest

import vislab
from vislab.core.geometry import Frame, Grid
from vislab.core.heatmap import Heatmap
from vislab.masks.maps import chosen, on_pixels, visible

GRID = Grid(4, 6, (8, 8))
FRAMES = {
    "stretched": Frame.stretch((50, 70), (32, 48)),
    "cropped": Frame.crop((100, 90), (44, 48), (32, 48)),
    "letterboxed": Frame.letterbox((100, 60), (32, 48)),
    "cut out": Frame.stretch((20, 30), (32, 48)).cut_from((60, 80), (17, 23)),
}


def heatmap(values: object, frame: Frame = FRAMES["stretched"], **changes: object) -> Heatmap:
    return Heatmap(np.asarray(values, np.float32), GRID, frame, "cls", **changes)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_patch_is_on_the_pixels_whose_centre_it_holds(frame: Frame) -> None:
    cells = np.random.default_rng(0).random((3, 4, 6)) > 0.5
    masks = on_pixels(cells, GRID, frame)
    heat, seen = heatmap(cells[0], frame), np.zeros((4, 6), bool)
    for y in range(frame.source[0]):
        for x in range(frame.source[1]):
            cell = heat.cell_at(x + 0.5, y + 0.5)
            assert masks[:, y, x].tolist() == ([False] * 3 if cell is None else cells[:, *cell].tolist())
            if cell is not None:
                seen[cell] = True
    assert np.array_equal(visible(GRID, frame), seen)


def test_threshold_and_share_take_what_they_say() -> None:
    values = np.arange(24).reshape(4, 6)
    kept, mass = chosen(heatmap(values), "threshold", 0.5)
    assert np.array_equal(kept, values >= 11.5)
    assert mass == pytest.approx(values[kept].sum() / values.sum())
    for level in (0.0, 0.1, 0.5, 1.0):
        kept, mass = chosen(heatmap(values), "share", level)
        assert mass >= level - 1e-9
        least = values[kept].min()
        assert kept.sum() == (values >= least).sum()
        assert (values[kept].sum() - least) / values.sum() < max(level, 1e-9)


def test_otsu_divides_two_heaps_where_every_level_is_tried() -> None:
    values = np.random.default_rng(1).normal(size=24) + np.repeat([0, 4], [16, 8])
    kept, _ = chosen(heatmap(values.reshape(4, 6)), "otsu", 0.0)

    def between(level: float) -> float:
        high = values > level
        return high.mean() * (1 - high.mean()) * (values[high].mean() - values[~high].mean()) ** 2

    best = max(np.sort(values)[:-1], key=between)
    assert np.array_equal(kept.ravel(), values > best)


def test_padding_and_what_speaks_against_are_never_taken() -> None:
    values = np.linspace(-1, 1, 24).reshape(4, 6)[:, ::-1]
    for method in ("otsu", "threshold", "share"):
        kept, _ = chosen(heatmap(values, signed=True), method, 0.1)
        assert kept.any()
        assert (values[kept] > 0).all()
    frame = FRAMES["letterboxed"]
    loud = np.where(visible(GRID, frame), np.arange(24).reshape(4, 6), 1000)
    for method in ("otsu", "threshold", "share"):
        kept, mass = chosen(heatmap(loud, frame), method, 0.5)
        assert not (kept & ~visible(GRID, frame)).any()
        assert 0 < mass <= 1


def test_maps_on_which_nothing_stands_out_are_refused() -> None:
    with pytest.raises(ValueError, match="no region stands out"):
        vislab.segment(heatmap(np.ones((4, 6))))
    with pytest.raises(ValueError, match="no mass to take a share of"):
        vislab.segment(heatmap(-np.arange(24).reshape(4, 6)), method="share")
    assert vislab.segment(heatmap(-np.arange(24).reshape(4, 6))).scores.tolist() == [0]
