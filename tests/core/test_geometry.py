"""Laws of places: token and patch, model pixel and source pixel are one another's inverses, in every frame."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from vislab.core.costs import attention_flops, attention_memory
from vislab.core.geometry import Frame, Grid
from vislab.core.heatmap import Heatmap
from vislab.core.images import load_image

sides = st.integers(1, 400)
sizes = st.tuples(sides, sides)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    few = st.integers(1, 30)
    return Grid(draw(few), draw(few), (draw(few), draw(few)), draw(st.integers(0, 5)), draw(st.integers(0, 5)))


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Any photo brought to any model input of at least 8 px in each of the ways there are."""
    source, model = draw(sizes), draw(st.tuples(st.integers(8, 300), st.integers(8, 300)))
    way = draw(st.sampled_from(["stretch", "crop", "letterbox"]))
    if way == "stretch":
        return Frame.stretch(source, model)
    if way == "letterbox":
        return Frame.letterbox(source, model)
    ratio = draw(st.floats(1, 1.5)) * max(m / s for m, s in zip(model, source, strict=True))
    resized = (max(1, round(source[0] * ratio)), max(1, round(source[1] * ratio)))
    return Frame.crop(source, resized, model, to_even=draw(st.booleans()))


@given(grids())
def test_token_and_cell_are_inverse(grid: Grid) -> None:
    tokens = list(range(grid.tokens))[grid.patch_tokens]
    assert [grid.token(*grid.cell(token)) for token in tokens] == tokens
    assert [grid.cell(token) for token in tokens] == [(r, c) for r in range(grid.rows) for c in range(grid.cols)]
    for outside in (grid.prefix - 1, grid.prefix + grid.patches):
        with pytest.raises(IndexError, match=f"token {outside} is no patch: patches are tokens {grid.prefix} to"):
            grid.cell(outside)


@given(grids())
def test_the_centre_of_a_patch_lies_in_that_patch(grid: Grid) -> None:
    for row, col in np.ndindex(grid.rows, grid.cols):
        x0, y0, x1, y1 = grid.box(row, col)
        assert (y1 - y0, x1 - x0) == grid.patch
        assert grid.cell_at((x0 + x1) / 2, (y0 + y1) / 2) == (row, col)
        assert grid.cell_at(x0, y0) == (row, col)
    assert grid.cell_at(x1, y1) is None
    assert grid.cell_at(-0.1, 0) is None


def test_a_grid_counts_whole_patches_and_has_any_shape() -> None:
    grid = Grid.of((37, 90), (8, 16), prefix=1, suffix=2)
    assert (grid.rows, grid.cols, grid.tokens) == (4, 5, 23)
    assert grid.cell_at(79.9, 31.9) == (3, 4)
    assert grid.cell_at(80.1, 31.9) is None  # left over at the right
    assert grid.cell_at(79.9, 32.1) is None  # left over at the bottom
    assert str(grid) == "4 × 5 + 3 = 23 tokens"


@given(frames(), st.integers(1, 8), st.integers(1, 8))
def test_pixel_to_token_to_pixel_is_the_identity(frame: Frame, height: int, width: int) -> None:
    grid = Grid.of(frame.model, (height, width), 1)
    heat = Heatmap(np.zeros((grid.rows, grid.cols)), grid, frame, "cls")
    for token in range(1, grid.tokens, 1 + grid.patches // 50):
        x0, y0, x1, y1 = heat.box(*grid.cell(token))
        cell = heat.cell_at((x0 + x1) / 2, (y0 + y1) / 2)
        assert cell is not None
        assert grid.token(*cell) == token
        assert frame.to_model(*frame.to_source(x0, y0)) == pytest.approx((x0, y0), abs=1e-9, rel=1e-9)


@given(frames(), st.integers(0, 50), st.integers(0, 50))
def test_a_frame_in_a_larger_image_shows_the_same_points(frame: Frame, left: int, top: int) -> None:
    height, width = frame.source
    larger = frame.cut_from((height + top + 7, width + left + 3), (left, top))
    for x, y in ((0.0, 0.0), (width / 3, height / 2)):
        assert larger.to_model(x + left, y + top) == pytest.approx(frame.to_model(x, y), abs=1e-6)
        assert larger.to_source(*frame.to_model(x, y)) == pytest.approx((x + left, y + top), abs=1e-6)


@given(frames())
def test_what_is_visible_lies_in_the_photo_and_in_the_input(frame: Frame) -> None:
    x0, y0, x1, y1 = frame.visible
    height, width = frame.source
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    for point in ((x0, y0), (x1, y1)):
        x, y = frame.to_model(*point)
        assert -1e-6 <= x <= frame.model[1] + 1e-6
        assert -1e-6 <= y <= frame.model[0] + 1e-6


def test_letterbox_is_that_of_ultralytics() -> None:
    from ultralytics.data.augment import LetterBox

    random = np.random.default_rng(0)
    pairs = [(random.integers(1, 300, 2), random.integers(32, 200, 2)) for _ in range(150)]
    for source, model in [((1, 1), (64, 64)), ((720, 1280), (640, 640)), *pairs]:
        height, width = (int(s) for s in source)
        boxed = LetterBox(tuple(int(m) for m in model), auto=False)(image=np.full((height, width, 3), 255, np.uint8))
        rows, cols = (np.flatnonzero((boxed == 255).all(2).any(axis)) for axis in (1, 0))
        frame = Frame.letterbox((height, width), boxed.shape[:2])
        x0, y0 = frame.to_model(0, 0)
        x1, y1 = frame.to_model(width, height)
        assert (x0, y0, x1, y1) == pytest.approx((cols[0], rows[0], cols[-1] + 1, rows[-1] + 1)), (source, model)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_lit_patch_of_a_turned_photo_is_where_the_upright_photo_shows_it(orientation: int) -> None:
    upright = np.zeros((60, 84, 3), np.uint8)
    upright[40:50, 12:24] = 255
    turn = {  # how the camera stores the upright scene, by what its EXIF tag says
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }
    stored, file = Image.fromarray(np.ascontiguousarray(turn[orientation])), BytesIO()
    exif = stored.getexif()
    exif[0x0112] = orientation
    stored.save(file, "PNG", exif=exif)
    image = load_image(file.getvalue())
    frame = Frame.stretch(image.shape[:2], (96, 112))
    grid = Grid.of(frame.model, (16, 16))
    heat = Heatmap(np.zeros((6, 7)), grid, frame, "cls")
    lit = {heat.cell_at(x + 0.5, y + 0.5) for y, x in np.argwhere(image[..., 0] == 255)}
    assert lit == {(4, 1)}
    assert heat.box(4, 1) == pytest.approx((12, 40, 24, 50))


@pytest.mark.parametrize(("tokens", "dim", "heads"), [(7, 8, 2), (50, 24, 3)])
def test_attention_costs_what_the_two_products_cost(tokens: int, dim: int, heads: int) -> None:
    q, k, v = torch.randn(3, heads, tokens, dim // heads)
    with FlopCounterMode(display=False) as counted:
        maps = q @ k.mT
        maps.softmax(-1) @ v
    assert attention_flops(tokens, dim) == counted.get_total_flops()
    assert attention_flops(tokens, dim, layers=12) == 12 * counted.get_total_flops()
    assert attention_memory(tokens, heads) == maps.nbytes
    assert attention_memory(tokens, heads, 12, 2) == 12 * maps.half().nbytes


def test_impossible_places_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"a patch of 32×32 px is larger than the input of 16×64 px: take a smaller"):
        Grid.of((16, 64), (32, 32))
    with pytest.raises(ValueError, match="at least one patch"):
        Grid(0, 3, (8, 8))
    with pytest.raises(IndexError, match=r"no patch \(2, 0\): rows run from 0 to 1, columns from 0 to 2"):
        Grid(2, 3, (8, 8)).token(2, 0)
    with pytest.raises(ValueError, match="sizes and scales above zero"):
        Frame((0, 3), (8, 8), (1.0, 1.0))


def test_a_heatmap_is_checked_when_it_is_made() -> None:
    grid, frame = Grid(2, 3, (8, 8)), Frame.stretch((20, 30), (16, 24))
    with pytest.raises(ValueError, match="2×3 patches needs values of that shape, not \\(3, 2\\)"):
        Heatmap(np.zeros((3, 2)), grid, frame, "cls")
    with pytest.raises(ValueError, match="NaN or infinite values: look for them in the pixels and the weights"):
        Heatmap(np.full((2, 3), np.nan), grid, frame, "cls")
    with pytest.raises(ValueError, match=r"the frame is of an image of \(20, 30\)"):
        Heatmap(np.zeros((2, 3)), grid, frame, "cls", image=np.zeros((30, 20, 3), np.uint8))
    given = np.zeros((2, 3))
    heat = Heatmap(given, grid, frame, "cls")
    given[:] = 1
    assert not heat.values.any()
    with pytest.raises(ValueError, match="read-only"):
        heat.values[0, 0] = 1
