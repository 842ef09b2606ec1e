"""Crops that hold what a map looks at: shares are exact, crops keep their promise."""

from __future__ import annotations

import numpy as np
import pytest

from vislab.core.geometry import Frame, Grid
from vislab.core.heatmap import Heatmap
from vislab.masks.maps import on_pixels
from vislab.masks.sparing import Attended, crop

GRID = Grid(4, 6, (10, 10))
FRAMES = {
    "stretched": Frame.stretch((80, 90), (40, 60)),
    "letterboxed": Frame.letterbox((50, 100), (40, 60)),
    "cropped": Frame.crop((60, 100), (60, 100), (40, 60)),
}
RATIO = (3 / 4, 4 / 3)


def heat(frame: Frame) -> Heatmap:
    values = np.random.default_rng(1).random((4, 6)) * 0.1
    values[1:3, 3:5] += 1
    return Heatmap(values, GRID, frame, "cls")


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_shares_are_those_of_the_pixels_of_the_patches_above_otsus_level(frame: Frame) -> None:
    one, fine = heat(frame), 8
    (height, width), scale = frame.source, (frame.scale[0] / fine, frame.scale[1] / fine)
    frame_of_fine = Frame((height * fine, width * fine), frame.model, scale, frame.offset)
    weight = np.zeros(frame_of_fine.source)
    for row in (1, 2):
        for col in (3, 4):
            cell = np.zeros((1, 4, 6), bool)
            cell[0, row, col] = True
            weight[on_pixels(cell, GRID, frame_of_fine)[0]] = one.values[row, col]
    for x0, y0, x1, y1 in ((0, 0, frame.source[1], frame.source[0]), (30, 20, 61, 43), (7, 9, 50, 33)):
        part = weight[y0 * fine : y1 * fine, x0 * fine : x1 * fine].sum() / weight.sum()
        assert Attended.of(one).share(np.array([[x0, y0, x1, y1]], float))[0] == pytest.approx(part, abs=0.02)


@pytest.mark.parametrize("spare", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_crops_hold_the_share_and_are_drawn_from_the_whole_range(frame: Frame, spare: float) -> None:
    attended, draws = Attended.of(heat(frame)), np.random.default_rng(0)
    (height, width), areas = frame.source, []
    for _ in range(60):
        x0, y0, x1, y1 = crop(attended, draws.random, spare=spare, scale=(0.1, 0.9), ratio=RATIO)
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert attended.share(np.array([[x0, y0, x1, y1]], float))[0] >= spare - 1e-9
        areas.append((x1 - x0) * (y1 - y0) / (width * height))
        if areas[-1] < 1:
            assert RATIO[0] * 0.8 < (x1 - x0) / (y1 - y0) < RATIO[1] * 1.25
    assert len({round(area, 3) for area in areas}) > 10
    assert min(areas) < (0.2 if spare == 0 else 0.8)


def test_crops_too_small_for_what_they_must_hold_are_the_whole_image() -> None:
    attended = Attended.of(heat(FRAMES["stretched"]))
    found = crop(attended, np.random.default_rng(0).random, spare=0.9, scale=(0.01, 0.02), ratio=RATIO)
    assert found == (0, 0, 90, 80)


def test_where_nothing_stands_out_all_of_the_image_counts_alike() -> None:
    flat = Attended.of(Heatmap(np.ones((4, 6)), GRID, FRAMES["stretched"], "cls"))
    assert flat.share(np.array([[0, 0, 45, 80], [0, 0, 45, 40]], float)) == pytest.approx([0.5, 0.25])
