"""Laws of feature maps as tokens: each cell lies on its pixels, and colours are what the cells have in common."""

from __future__ import annotations

import io

import detecting
import numpy as np
import pytest
import torch
from PIL import Image

import vislab
from vislab.core.features import FeatureMap, principal_colours
from vislab.core.geometry import Frame, Grid


@pytest.fixture(scope="module")
def detector() -> vislab.Detector:
    return vislab.load_detector(detecting.yolo("yolo12n"))


@pytest.mark.parametrize("name", ["yolo12n", "yoloe-11n"])
def test_maps_are_those_that_the_head_is_given(name: str) -> None:
    detector = vislab.load_detector(detecting.yolo(name))
    seen: list[torch.Tensor] = []
    handle = detector.module.model[-1].register_forward_pre_hook(lambda _, given: seen.extend(given[0]))
    maps = detector.features(detecting.PHOTO, image_size=(96, 160))
    handle.remove()
    assert [one.name for one in maps] == ["P3", "P4", "P5"]
    assert [(one.grid.rows, one.grid.cols) for one in maps] == [(12, 20), (6, 10), (3, 5)]
    for one, own in zip(maps, seen[:3], strict=True):
        assert one.tokens.shape == (one.grid.patches, own.shape[1])
        for row, col in ((0, 0), (1, 2), (one.grid.rows - 1, one.grid.cols - 1)):
            assert np.array_equal(one.tokens[one.grid.token(row, col)], own[0, :, row, col].numpy())


def test_at_640_px_they_are_8400_tokens(detector: vislab.Detector) -> None:
    maps = detector.features(np.zeros((64, 64, 3), np.uint8), image_size=640)
    assert [len(one.tokens) for one in maps] == [6400, 1600, 400]


def test_queries_alone_have_no_maps() -> None:
    with pytest.raises(ValueError, match="has no neck of feature maps"):
        vislab.load_detector(detecting.yolos()).features(detecting.PHOTO, image_size=(32, 48))
    maps = vislab.load_detector(detecting.rtdetr()).features(detecting.PHOTO, image_size=96)
    assert [one.grid.patch for one in maps] == [(8, 8), (16, 16), (32, 32)]


def test_colours_are_principal_components() -> None:
    """Held against a singular value decomposition."""
    tokens = np.random.default_rng(0).normal(size=(60, 12)) @ np.diag(2.0 ** -np.arange(12)) + 5
    colours, share = principal_colours(tokens)
    left, values, right = np.linalg.svd(tokens - tokens.mean(0), full_matrices=False)
    assert share == pytest.approx((values[:3] ** 2).sum() / (values**2).sum())
    for n in range(3):
        found = left[:, n] * np.sign(right[n, np.abs(right[n]).argmax()])
        low, high = np.quantile(found, [0.01, 0.99])
        assert colours[:, n] == pytest.approx(255 * np.clip((found - low) / (high - low), 0, 1), abs=0.51)


@pytest.mark.parametrize(("cells", "channels"), [((6, 10), 12), ((3, 4), 40)])
def test_components_are_those_of_a_singular_value_decomposition(cells: tuple[int, int], channels: int) -> None:
    tokens = np.random.default_rng(4).normal(size=(cells[0] * cells[1], channels)) + 3
    frame = Frame.stretch((48, 80), (8 * cells[0], 8 * cells[1]))
    one = FeatureMap("layer 3", tokens, Grid(*cells, (8, 8)), frame, np.zeros((48, 80, 3), np.uint8))
    left, values, right = np.linalg.svd(tokens - tokens.mean(0), full_matrices=False)
    found = one.components(5)
    assert found.shape == (*cells, 5)
    dense = left[:, :5] * values[:5] * np.sign(right[np.arange(5), np.abs(right[:5]).argmax(1)])
    np.testing.assert_allclose(found.reshape(-1, 5), dense, atol=1e-9)
    np.testing.assert_allclose(one.components(), found[..., :3], atol=1e-12)
    for count in (0, channels + 1, 1.5):
        with pytest.raises(ValueError, match=f"have 1 to {channels} components"):
            one.components(count)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_colours_do_not_depend_on_scale_or_origin(scale: float) -> None:
    tokens = np.random.default_rng(1).normal(size=(40, 8))
    shifted, _ = principal_colours(tokens * scale + 3 * scale)
    assert np.abs(shifted.astype(int) - principal_colours(tokens)[0]).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_few_components_leave_colours_empty(channels: int) -> None:
    rank_one = np.outer(np.arange(7.0), np.ones(channels))
    colours, share = principal_colours(rank_one)
    assert share == pytest.approx(1)
    assert colours[:, 0] == pytest.approx(np.clip((np.arange(7) - 0.06) / 5.88, 0, 1) * 255, abs=0.51)
    assert (colours[:, 1:] == 0).all()
    assert (principal_colours(np.ones((7, channels)))[0] == 0).all()


def test_colours_lie_on_their_pixels() -> None:
    """Letterboxed: 40 × 80 px in 64 × 64, two rows of cells of padding above and below."""
    frame, grid = Frame.letterbox((40, 80), (64, 64)), Grid(8, 8, (8, 8))
    image = np.full((40, 80, 3), 7, np.uint8)
    one = FeatureMap("P3", np.random.default_rng(2).normal(size=(64, 4)), grid, frame, image)
    drawn = one.overlay()
    assert np.asarray(one) is one.tokens
    assert drawn.shape == image.shape
    for y, x in ((0, 0), (20, 41), (39, 79)):
        row, col = grid.cell_at(*frame.to_model(x + 0.5, y + 0.5)) or (-1, -1)
        assert np.array_equal(drawn[y, x], one.colours()[row, col])
    assert Image.open(io.BytesIO(one._repr_png_())).size[0] >= 400
    assert str(one).startswith("P3: 8 × 8 = 64 tokens of 4 channels, one every 8 px;\nthree components hold ")
    assert repr(one) == "FeatureMap(P3: 8 × 8 = 64 tokens of 4 channels, one every 8 px)"


def test_tokens_fill_the_grid() -> None:
    with pytest.raises(ValueError, match="6 cells need as many tokens"):
        FeatureMap("P5", np.zeros((5, 3)), Grid(2, 3, (32, 32)), Frame.stretch((8, 8), (64, 96)), np.zeros((8, 8, 3)))
