"""Masks as the page is told them: their pixels come back whole, and their edges are where they end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vislab
from vislab.lab.mask_messages import masks_of, runs_of

RNG = np.random.default_rng(0)
MASKS = {
    "empty": np.zeros((5, 7), bool),
    "full": np.ones((5, 7), bool),
    "one pixel": np.eye(1, 35, 17, dtype=bool).reshape(5, 7),
    "noise": RNG.random((23, 31)) < 0.5,
    "blocks": np.kron(RNG.random((4, 5)) < 0.5, np.ones((6, 3))).astype(bool),
    "first and last": np.eye(7, dtype=bool),
}


@pytest.mark.parametrize("name", MASKS)
def test_runs_are_the_mask(name: str, js: Any) -> None:
    mask = MASKS[name]
    runs = runs_of(mask)
    assert runs.dtype == "<u4"
    assert int(runs.sum()) == mask.size
    assert (runs[1:] > 0).all()
    inside = np.arange(len(runs)) % 2 == 1
    assert np.array_equal(np.repeat(inside, runs), mask.ravel())
    bits = js("lab.unrolled(runs, count)", runs=runs, count=mask.size)
    assert np.array_equal(np.array(bits, bool).reshape(mask.shape), mask)
    same = js("lab.sampled(runs, size).bits", runs=runs, size=list(mask.shape))
    assert same == bits


@pytest.mark.parametrize("name", MASKS)
def test_borders_lie_between_pixels_that_differ(name: str, js: Any) -> None:
    """Lines that are told apart by unit steps are exactly those between a pixel inside and one that is not."""
    mask = MASKS[name]
    high, wide = mask.shape
    lines = js("lab.bordersOf(lab.sampled(runs, size))", runs=runs_of(mask), size=[high, wide])
    told = set()
    for x0, y0, x1, y1 in np.array(lines, int).reshape(-1, 4).tolist():
        assert (x0 == x1) != (y0 == y1)
        told |= {("|", x0, y) for y in range(y0, y1)} | {("-", x, y0) for x in range(x0, x1)}
    padded = np.pad(mask, 1)
    upright = {("|", int(x), int(y)) for y, x in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])}
    level = {("-", int(x), int(y)) for y, x in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])}
    assert told == upright | level


def test_a_large_mask_is_sampled_under_the_centres(js: Any) -> None:
    mask = np.kron(RNG.random((30, 40)) < 0.5, np.ones((3, 3))).astype(bool)
    found = js("lab.sampled(runs, [90, 120], 40)", runs=runs_of(mask))
    assert (found["high"], found["wide"]) == (30, 40)
    bits = np.array([found["bits"][str(i)] for i in range(1200)], bool).reshape(30, 40)
    assert np.array_equal(bits, mask[1::3, 1::3])


def test_colours_lie_over_each_other_as_in_figures(js: Any) -> None:
    """Over any picture, what the page makes of overlapping masks is what one after the other makes of it."""
    first, second = MASKS["noise"], np.roll(MASKS["noise"], 3, 1)
    colours = [[230, 159, 0], [86, 180, 233]]
    before = "const pixels = new Uint8ClampedArray(4 * 713);" + "".join(
        f"lab.tint(pixels, lab.unrolled(runs{i}, 713), {colour}, 0.5);" for i, colour in enumerate(colours)
    )
    pixels = js("pixels", before=before, runs0=runs_of(first), runs1=runs_of(second))
    layer = np.array(pixels).reshape(*first.shape, 4)
    picture = RNG.integers(0, 256, (*first.shape, 3)).astype(float)
    expected = picture.copy()
    for mask, colour in zip((first, second), colours, strict=True):
        expected[mask] = 0.5 * expected[mask] + 0.5 * np.array(colour)
    alpha = layer[..., 3:] / 255
    assert np.abs(picture * (1 - alpha) + layer[..., :3] * alpha - expected).max() < 2.5
    assert np.array_equal(layer[..., 3] > 0, first | second)


def test_a_message_has_the_call_that_makes_its_masks() -> None:
    image = vislab.load_image(vislab.samples()["church"])
    masks = vislab.segment(image, method="kmeans", clusters=3)
    ready = vislab.load("embedded")
    content, buffers = masks_of("digest", ready, {"points": None, "outside": None, "boxes": None}, masks, "embedded")
    assert content["call"] == "vislab.segment(image, model='embedded')"
    assert [one["label"] for one in content["masks"]] == list(masks.labels)
    assert [one["share"] for one in content["masks"]] == pytest.approx(masks.masks.mean((1, 2)))
    for one, mask, runs in zip(content["masks"], masks.masks, buffers, strict=True):
        x, y = one["at"]
        assert mask[y, x]
        assert np.array_equal(np.frombuffer(runs, "<u4"), runs_of(mask))
