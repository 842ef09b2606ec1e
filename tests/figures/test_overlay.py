"""Laws of rendering: every colour on the pixels it belongs to, and nothing drawn where the model saw nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pictures
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import vislab
from vislab.cli.main import main
from vislab.core.geometry import Frame, Grid
from vislab.core.heatmap import Heatmap
from vislab.figures import captions, notebook, overlay, panel, text
from vislab.figures import colours as figures_colours

YELLOW, PURPLE = (253, 231, 37), (68, 1, 84)  # the two ends of viridis
SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")

FRAMES = {
    "stretch": Frame.stretch((37, 53), (224, 224)),
    "stretch to non-square": Frame.stretch((181, 97), (160, 320)),
    "enlarged crop": Frame.crop((37, 53), (224, 321), (224, 224)),
    "reduced crop": Frame.crop((301, 211), (320, 224), (224, 224)),
    "odd crop": Frame.crop((100, 75), (299, 224), (223, 221)),
    "crop that pads": Frame.crop((90, 150), (134, 224), (224, 224)),
    "letterbox": Frame.letterbox((101, 67), (128, 128)),
    "wide letterbox": Frame.letterbox((67, 301), (96, 160)),
}


def heatmap(values: object, frame: Frame | None = None, patch: int = 16, **more: object) -> Heatmap:
    values = np.asarray(values, dtype=np.float32)
    rows, cols = values.shape
    frame = frame or Frame.stretch((rows * patch, cols * patch), (rows * patch, cols * patch))
    return Heatmap(values, Grid(rows, cols, (patch, patch), 1), frame, "cls", **more)


def lit(frame: Frame, patch: int, row: int, col: int) -> Heatmap:
    grid = Grid.of(frame.model, (patch, patch), 1)
    values = np.zeros((grid.rows, grid.cols))
    values[row, col] = 1
    return heatmap(values, frame, patch)


def photo(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def preprocess(image: np.ndarray, frame: Frame) -> np.ndarray:
    """What the model sees, made from the frame's numbers by resizing and pasting: black where there is no photo."""
    height, width = (round(s * k) for s, k in zip(frame.source, frame.scale, strict=True))
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = (round(o) for o in frame.offset)
    pixels = np.zeros((*frame.model, 3), np.uint8)
    y0, x0 = max(top, 0), max(left, 0)
    seen = resized[max(-top, 0) :, max(-left, 0) :][: frame.model[0] - y0, : frame.model[1] - x0]
    pixels[y0 : y0 + seen.shape[0], x0 : x0 + seen.shape[1]] = seen
    return pixels


@pytest.mark.parametrize("patch", [16, 31])
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_each_pixel_takes_the_patch_its_centre_falls_in(frame: Frame, patch: int) -> None:
    image = photo(frame.source)
    heat = lit(frame, patch, 2, 1)
    shown = overlay.overlay(heat, image=image, opacity=1)
    for y, x in np.ndindex(*frame.source):
        cell = heat.cell_at(x + 0.5, y + 0.5)
        expected = image[y, x] if cell is None else YELLOW if cell == (2, 1) else PURPLE
        assert tuple(shown[y, x]) == tuple(expected), (x, y, cell)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_lit_scene_comes_back_where_it_was(frame: Frame) -> None:
    grid = Grid.of(frame.model, (32, 32))
    row, col = grid.rows // 2, grid.cols // 2
    x0, y0, x1, y1 = frame.box_to_source(grid.box(row, col))
    scene = np.zeros((*frame.source, 3), np.uint8)
    inside = np.s_[round(y0) : round(y1), round(x0) : round(x1)]
    scene[inside] = 255
    pixels = preprocess(scene, frame)[: grid.rows * 32, : grid.cols * 32, 0]
    seen = heatmap(pixels.reshape(grid.rows, 32, grid.cols, 32).mean((1, 3)), frame, 32)

    shown = overlay.overlay(seen, image=scene, opacity=1, normalise=(127, 128))
    assert (shown[inside] == YELLOW).all()
    assert (shown == YELLOW).all(-1).sum() == scene[inside][..., 0].size


def test_pixels_the_model_never_saw_stay_as_they_are() -> None:
    frame = Frame.crop((200, 100), (200, 100), (64, 64))  # sees x 18 to 82, y 68 to 132
    image = photo((200, 100))
    heat = lit(frame, 30, 0, 0)  # 2 × 2 patches, 4 px left over right and below
    shown = overlay.overlay(heat, image=image, opacity=1)
    covered = np.zeros((200, 100), bool)
    covered[68:128, 18:78] = True
    assert (shown[~covered] == image[~covered]).all()
    assert {tuple(c) for c in shown[covered]} == {YELLOW, PURPLE}


def test_opacity_blends_photo_and_colour() -> None:
    image = np.full((32, 32, 3), 100, np.uint8)
    heat = heatmap([[0, 1], [1, 0]])
    blend = overlay.overlay(heat, image=image, opacity=0.25)
    assert np.abs(blend[0, 31] - (0.75 * 100 + 0.25 * np.array(YELLOW))).max() <= 0.5
    assert np.abs(blend[0, 0] - (0.75 * 100 + 0.25 * np.array(PURPLE))).max() <= 0.5
    assert (overlay.overlay(heat, image=image, opacity=0) == image).all()
    assert (image == 100).all()


def test_smooth_is_linear_between_patch_centres_and_constant_beyond() -> None:
    heat = heatmap([[0, 1, 2], [10, 11, 12]], patch=10)
    at = np.arange(30) + 0.5
    value = overlay.sample(heat.values, at[:20] / 10, at / 10, smooth=True)
    expected = np.clip(at / 10 - 0.5, 0, 2) + 10 * np.clip(at[:20, None] / 10 - 0.5, 0, 1)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    smooth = overlay.overlay(heat, image=photo((20, 30)), opacity=1, smooth=True)
    assert tuple(smooth[0, 0]) == PURPLE
    assert tuple(smooth[-1, -1]) == YELLOW
    assert len(np.unique(smooth.reshape(-1, 3), axis=0)) > 6


@pytest.mark.parametrize("smooth", [False, True])
def test_the_photo_shows_through_below_the_threshold(smooth: bool) -> None:
    heat = heatmap([[0, 1, 2, 4]])
    image = photo((16, 64))
    plain = overlay.overlay(heat, image=image, smooth=smooth)
    cut = overlay.overlay(heat, image=image, smooth=smooth, threshold=0.5)
    value = overlay.sample(heat.values, np.full(16, 0.5), (np.arange(64) + 0.5) / 16, smooth=smooth)
    assert (cut[value >= 2] == plain[value >= 2]).all()
    assert (cut[value < 2] == image[value < 2]).all()
    assert (value < 2).any()
    assert (value >= 2).any()


def test_colours_run_per_map_shared_absolute_or_as_given() -> None:
    low, high = heatmap([[0.25, 0.5]]), heatmap([[0.5, 0.75]])
    assert figures_colours.colour_range(low) == (0.25, 0.5)
    assert figures_colours.colour_range([low, high]) == (0.25, 0.75)
    assert figures_colours.colour_range(low, "absolute") == (0, 1)
    assert figures_colours.colour_range([low, high], (-1, 2)) == (-1, 2)
    image = photo((16, 32))
    colours = figures_colours.colour_table("viridis")
    assert tuple(overlay.overlay(low, image=image, opacity=1, normalise="absolute")[0, 0]) == tuple(colours[64])
    assert tuple(overlay.overlay(low, image=image, opacity=1, normalise=(0.4, 0.45))[0, 0]) == PURPLE


def test_padding_does_not_count_in_the_colours() -> None:
    frame = Frame.letterbox((64, 128), (128, 128))  # rows 0 and 3 of 4 see padding only
    assert figures_colours.colour_range(heatmap([[9] * 4, [1, 2, 3, 4], [4, 3, 2, 1], [-9] * 4], frame, 32)) == (1, 4)


def test_a_constant_map_is_drawn_in_the_lowest_colour() -> None:
    heat = heatmap(np.full((2, 2), 0.3))
    low, high = figures_colours.colour_range(heat)
    assert low == high == np.float32(0.3)
    with np.errstate(all="raise"):
        assert (overlay.overlay(heat, image=photo((32, 32)), opacity=1) == PURPLE).all()
        notebook.figure_array(heat)


def test_signed_maps_have_0_in_the_middle_of_their_colours() -> None:
    signed = heatmap([[-0.5, 0, 0.25]], signed=True)
    assert figures_colours.colour_range(signed) == (-0.5, 0.5)
    assert figures_colours.colour_range([signed, heatmap([[3.0]])]) == (-3.0, 3.0)
    assert figures_colours.colour_range(signed, "absolute") == (-1.0, 1.0)
    assert figures_colours.colour_range(signed, (0, 1)) == (0.0, 1.0)
    assert figures_colours.colour_range(heatmap([[0, 0]], signed=True)) == (-1.0, 1.0)
    table = figures_colours.colour_table("coolwarm")
    drawn = overlay.overlay(signed, image=photo((16, 48)), opacity=1)
    assert [tuple(drawn[8, x]) for x in (8, 24, 40)] == [tuple(table[k]) for k in (0, 128, 192)]
    assert tuple(notebook.figure_array(signed)[40, 20]) == tuple(table[0])


@pytest.mark.parametrize(("colormap", "used"), [("magma", "coolwarm"), ("RdBu_r", "RdBu_r"), ("viridis", "coolwarm")])
def test_colours_around_0_diverge(colormap: str, used: str) -> None:
    assert np.array_equal(figures_colours.colours_of((-2.0, 2.0), colormap), figures_colours.colour_table(used))
    assert np.array_equal(figures_colours.colours_of((0.0, 2.0), colormap), figures_colours.colour_table(colormap))
    with pytest.raises(ValueError, match="no colormap 'virdis'"):
        figures_colours.colours_of((-2.0, 2.0), "virdis")


def test_of_a_signed_map_the_photo_shows_through_where_it_is_near_0() -> None:
    image = photo((16, 80))
    signed = heatmap([[-1, -0.4, 0, 0.6, 0.5]], signed=True)
    drawn = overlay.overlay(signed, image=image, opacity=1, threshold=0.5)
    kept = [bool((drawn[:, 16 * k : 16 * k + 16] == image[:, 16 * k : 16 * k + 16]).all()) for k in range(5)]
    assert kept == [False, True, True, False, False]


def test_what_cannot_be_drawn_is_refused_in_words() -> None:
    heat = heatmap(np.eye(2))
    image = photo((32, 32))
    for wrong, words in [
        ({"colormap": "virids"}, "did you mean 'viridis'"),
        ({"colormap": "????"}, "try 'viridis'"),
        ({"opacity": 1.5}, "opacity lies between 0 and 1, not at 1.5"),
        ({"opacity": float("nan")}, "opacity lies between"),
        ({"threshold": -0.1}, "threshold lies between"),
        ({"normalise": "z-score"}, 'take "map"'),
        ({"normalise": (1, 1)}, "from a lower to a higher number"),
        ({"normalise": (0, float("nan"))}, "from a lower to a higher number"),
    ]:
        with pytest.raises(ValueError, match=words):
            overlay.overlay(heat, image=image, **wrong)
    with pytest.raises(ValueError, match="32 px wide and 32 high, this one is 48 wide and 16 high"):
        overlay.overlay(heat, image=photo((16, 48)))
    for wrong in (image / 255, image[..., 0], [image]):
        with pytest.raises(ValueError, match="load_image"):
            overlay.overlay(heat, image=wrong)
    with pytest.raises(ValueError, match=r"no photograph: give .*image="):
        overlay.overlay(heat)
    with pytest.raises(TypeError, match=r"a heatmap, not ndarray: vislab\.explain"):
        overlay.overlay(image)


def boxes(*xyxy: tuple[float, float, float, float]) -> SimpleNamespace:
    count = len(xyxy)
    array = np.array(xyxy, dtype=np.float32).reshape(-1, 4)
    return SimpleNamespace(xyxy=array, scores=np.full(count, 0.875), labels=["Äpfel\n"] * count)


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_boxes_stand_out_from_every_background(ground: int) -> None:
    image = np.full((200, 300, 3), ground, np.uint8)
    heat = heatmap(np.zeros((2, 3)), Frame.stretch((200, 300), (32, 48)))
    shown = overlay.overlay(heat, image=image, opacity=0, detections=boxes((100, 60, 180, 150)))
    across = shown[100, 90:110, 0].astype(int)
    assert across.max() == 255
    assert across.min() <= 70
    assert across[10] == 255  # the line stands on the box's own edge
    label = shown[40:59, 100:150, 0].astype(int)
    assert label.max() - label.min() > 150
    assert (shown[155:] == ground).all()
    assert (shown[65:145, 105:175] == ground).all()


def test_boxes_may_touch_or_leave_the_photo_or_be_none() -> None:
    heat = heatmap(np.eye(2))
    image = photo((32, 32))
    plain = overlay.overlay(heat, image=image)
    assert (overlay.overlay(heat, image=image, detections=boxes()) == plain).all()
    assert (overlay.overlay(heat, image=image, detections=boxes((-5, -5, 50, 50), (0, 0, 1, 1))) != plain).any()


def test_it_draws_into_given_axes_in_source_pixels() -> None:
    ax = Figure().add_subplot()
    shown = overlay.overlay(heatmap(np.eye(2, 3)), image=photo((32, 48)), ax=ax)
    assert ax.images[0].get_extent() == [0, 48, 32, 0]
    assert (ax.images[0].get_array() == shown).all()


@given(st.floats(-1e6, 1e6, width=32), st.floats(0, 1e6, width=32), st.sampled_from([1.0, 1e-5, 1e-12, 1e9]))
def test_numbers_of_a_colour_bar_lie_in_it_and_read_as_what_they_are(low: float, extent: float, unit: float) -> None:
    span = (low * unit, (low + extent) * unit)
    values, labels, factor = figures_colours.colour_ticks(span)
    power = int(factor.removeprefix("×10").translate(SUPERSCRIPTS) or 0)
    assert 1 <= len(values) <= 8
    assert all(span[0] <= value <= span[1] for value in values)
    step = values[1] - values[0] if len(values) > 1 else abs(values[0])
    for value, label in zip(values, labels, strict=True):
        read = float(label.replace("−", "-")) * 10.0**power
        assert abs(read - value) <= 0.01 * step + 1e-9 * max(map(abs, span))


def test_a_colour_bar_leaves_out_long_zeros() -> None:
    assert figures_colours.colour_ticks((0, 0.00042)) == (
        pytest.approx([0, 1e-4, 2e-4, 3e-4, 4e-4]),
        ["0", "1", "2", "3", "4"],
        "×10⁻⁴",
    )
    assert figures_colours.colour_ticks((-1, 1))[1] == ["−1.0", "−0.5", "0.0", "0.5", "1.0"]


def test_a_caption_says_what_is_shown() -> None:
    settings = {"model": "embedded", "layer": 11, "head": "mean", "query": (10.0, 20.5), "attention_scale": 0.5}
    heat = heatmap(np.eye(2), settings=settings)
    assert captions.describe(heat) == (
        "attention of pixel (10, 20.5) · model embedded · layer 11 · mean of heads · attention scale 0.5 · "
        "patches of 16 px · 2 × 2 + 1 = 5 tokens"
    )
    of_cls = heatmap(np.eye(2), settings={"query": "cls", "attention_scale": 1.0})
    assert captions.describe(of_cls).startswith("attention of CLS · patches")
    targeted = replace(of_cls, method="relevance", target="tench", query="CLS")
    assert captions.describe(targeted).startswith("relevance of tench · patches")  # of which CLS asks by itself
    asked = replace(targeted, query="patch (1, 0)", settings={"head": "max", "layer": 2})
    assert captions.describe(asked).startswith(
        "relevance of tench · asked by patch (1, 0) · layer 2 · highest of heads"
    )
    pooled = replace(of_cls, query="mean of all queries")
    assert captions.describe(pooled).startswith("attention · mean of all queries")
    foreign = replace(of_cls, method="somebody's", query=None, settings={})
    assert captions.describe(foreign).startswith("somebody's · patches")


def test_a_caption_says_where_a_map_has_one_value_alone() -> None:
    """Of the patches that are seen and that a token stood for, whichever way it is drawn."""
    zero, half = heatmap(np.zeros((2, 2))), heatmap(np.full((2, 2), 0.5))
    assert "all values equal, 0" in captions.describe(zero).split(" · ")
    assert "all values equal, 0.5" in captions.describe(half).split(" · ")
    assert "all values equal" not in captions.describe(heatmap(np.eye(2)))
    dropped = replace(heatmap(np.eye(2)), dropped=~np.eye(2, dtype=bool))
    assert "all values equal, 1" in captions.describe(dropped).split(" · ")
    lone = replace(zero, values=np.zeros((1, 1)), grid=Grid(1, 1, (32, 32)))
    assert "all values equal" not in captions.describe(lone)
    figure = panel.panel([replace(zero, image=photo((32, 32))), replace(heatmap(np.eye(2)), image=photo((32, 32)))])
    assert [cell.title for *_, cell in figure.filled()] == ["all values equal, 0", ""]


def test_a_caption_of_a_word_says_its_question_and_no_number_of_a_token() -> None:
    settings = {"model": "embedded-reader", "question": "where is it ?", "tokens": 64}
    word = replace(
        heatmap(np.eye(2), settings=settings), method="relevance", target="'church'", query="token 7, before the word"
    )
    assert captions.describe(word).startswith(
        "relevance of 'church' · asked by the token before the word · model embedded-reader · “where is it ?” · patches"
    )
    limited = replace(word, settings=settings | {"tokens": 3})
    assert "tokens 3" in captions.describe(limited)


def test_a_caption_names_the_layers_that_were_read() -> None:
    """Of rollout, which goes through all layers, none but the one it ends at, where that is not the last."""

    def said(method: str, layer: object) -> list[str]:
        heat = replace(heatmap(np.eye(2), settings={"layer": layer}), method=method)
        return [phrase for phrase in captions.describe(heat).split(" · ") if "layer" in phrase]

    assert [said("cls", layer) for layer in (-1, 3, "mean")] == [["last layer"], ["layer 3"], ["mean of layers"]]
    assert [said("rollout", layer) for layer in (-1, 3)] == [[], ["up to layer 3"]]


def test_lines_are_no_wider_than_asked() -> None:
    face = text.font(12)
    phrases = ["rollout", "an-organisation/a-model-with-a-long-name-and-no-space", "layer 11", "head mean"]
    lines = text.wrapped(phrases, 120, face)
    assert all(face.getlength(line) <= 120 for line in lines)
    assert "".join(lines).replace(" · ", "") == "".join(phrases)
    assert text.wrapped(phrases, 1e4, face) == [" · ".join(phrases)]


@given(st.lists(st.text("abcdefgh ", min_size=1, max_size=60), max_size=4), st.integers(20, 300))
def test_no_line_is_broken_inside_a_word_and_what_is_cut_says_so(phrases: list[str], width: int) -> None:
    face = text.font(12)
    lines = text.wrapped(phrases, width, face)
    whole = {word for phrase in phrases for word in phrase.split()}
    for line in lines:
        assert face.getlength(line) <= width
        for word in line.replace(" · ", " ").split():
            assert word in whole or (word.endswith("…") and any(one.startswith(word[:-1]) for one in whole))
    fitting = all(face.getlength(word) <= width for word in whole)
    said = [word for line in lines for word in line.replace(" · ", " ").split()]
    assert not fitting or said == [word for phrase in phrases for word in phrase.split()]


def test_a_notebook_shows_the_overlay_bar_and_caption() -> None:
    heat = heatmap(np.eye(3, 4), Frame.stretch((480, 640), (48, 64)), image=photo((480, 640)))
    page = notebook.figure_array(heat)
    assert (page[10:490, 10:650] == overlay.overlay(heat, image=heat.image)).all()
    bar = page[10:490, 662:676]
    assert (tuple(bar[0, 0]), tuple(bar[-1, 0])) == (YELLOW, PURPLE)
    assert page[500:].min() < 100
    assert (page[:, -3:] == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (10, 20_000), (3000, 7), (1200, 900)])
@pytest.mark.parametrize("has_image", [True, False])
def test_a_notebook_shows_any_size_at_a_size_that_suits_it(size: tuple[int, int], has_image: bool) -> None:
    heat = heatmap(np.eye(3, 4), Frame.stretch(size, (48, 64)))
    page = notebook.figure_array(replace(heat, image=photo(size)) if has_image else heat)
    assert page.dtype == np.uint8
    assert max(page.shape) <= 900
    assert page.shape[1] >= 380


def test_without_a_photo_the_bare_map_is_shown() -> None:
    page = notebook.figure_array(heatmap([[0, 1]], patch=400))
    assert tuple(page[50, 50]) == PURPLE
    assert tuple(page[50, 700]) == YELLOW


def test_a_notebook_always_shows_the_same() -> None:
    assert heatmap(np.eye(2))._repr_png_() == heatmap(np.eye(2))._repr_png_()


def test_rendering_leaves_matplotlib_as_it_was() -> None:
    script = (
        "import sys, numpy as np\n"
        "import vislab.figures.notebook\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from vislab import Frame, Grid, Heatmap\n"
        "Heatmap(np.eye(2), Grid(2, 2, (8, 8)), Frame.stretch((16, 16), (16, 16)), 'cls')._repr_png_()\n"
        "assert not {'matplotlib.pyplot', 'matplotlib.figure'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_dropped_patches_are_dark_and_take_no_part_in_the_colours() -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    values = np.array([[0, 1], [2, 3]], np.float32)
    dropped = np.array([[True, False], [False, False]])
    heat = Heatmap(values, Grid(2, 2, (20, 20)), Frame.stretch((40, 40), (40, 40)), "cls", image=image, dropped=dropped)
    plain = replace(heat, dropped=None)
    assert overlay.overlay(heat)[5, 5].tolist() == [70, 70, 70]
    assert figures_colours.colour_range(heat) == (1, 3)
    assert figures_colours.colour_range(plain) == (0, 3)
    for smooth in (False, True):  # what is dropped does not shine through beside it
        other = replace(heat, values=np.where(dropped, 99, values))
        assert np.array_equal(overlay.overlay(heat, smooth=smooth), overlay.overlay(other, smooth=smooth))
    with pytest.raises(ValueError, match="dropped is True or False a patch"):
        replace(heat, dropped=dropped[0])


def test_a_caption_says_that_the_model_saw_a_part_of_the_photograph_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Timm's and CLIP's preprocessing crops the centre; a letterbox and a stretch crop nothing."""
    whole = pictures.heatmap(np.zeros((4, 4)), source=(100, 200))
    cut = Frame.crop((100, 200), (72, 144), (64, 64))
    frames = {
        cut: f"the model saw only the centre · {(64 / 0.72) ** 2 / 20000:.0%} of the photograph",
        Frame((100, 200), (64, 64), cut.scale): f"saw only a part · {(64 / 0.72) ** 2 / 20000:.0%} of the photograph",
        Frame.letterbox((100, 200), (64, 64)): "",
        Frame.stretch((100, 200), (64, 64)): "",
        Frame.crop((100, 200), (64, 129), (64, 129)): "",
    }
    for frame, said in frames.items():
        told = captions.describe(replace(whole, frame=frame))
        assert told.endswith(said)
        assert ("saw only" in told) == bool(said)
    of_region = replace(whole, frame=cut, settings={"region": (50, 0, 150, 100)})
    assert captions.describe(of_region).endswith("saw only the centre · 79% of the region")
    path = vislab.save(tmp_path / "map.png", replace(whole, frame=cut))
    assert main(["show", str(path)]) == 0
    told = capsys.readouterr().out
    assert told.count(" · the model saw only the centre · 40% of the photograph") == 2  # of the map, and the caption
