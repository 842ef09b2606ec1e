"""Laws of drawn panels: what is lit is printed where it belongs, and labels stay on their photo."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
from pictures import heatmap, photo, pixels
from PIL import Image

from vislab.core.geometry import Frame, Grid
from vislab.core.heatmap import Heatmap
from vislab.figures import drawing, layers, layout, panel, save


def run_of(mask: np.ndarray) -> tuple[int, int]:
    """First and last position of the only run of True."""
    where = np.flatnonzero(mask)
    assert where[-1] - where[0] + 1 == len(where)
    return int(where[0]), int(where[-1]) + 1


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize(
    "frame",
    [
        Frame.stretch((60, 90), (64, 64)),
        Frame.crop((90, 60), (96, 64), (64, 64)),
        Frame.letterbox((61, 93), (128, 128)),
    ],
    ids=["stretch", "crop", "letterbox"],
)
def test_a_lit_patch_is_printed_where_it_belongs(tmp_path: Path, frame: Frame, smooth: bool) -> None:
    grid = Grid.of(frame.model, (16, 16))
    row, col = grid.rows // 2, 1
    values = np.zeros((grid.rows, grid.cols))
    values[row, col] = 1
    heat = Heatmap(values, grid, frame, "cls")
    black = np.zeros((*frame.source, 3), np.uint8)
    drawn = {"opacity": 1, "colormap": "gray", "threshold": 0.5, "smooth": smooth, "caption": ""}
    page = pixels(save.save(tmp_path / "f.png", heat, image=black, **drawn)).mean(-1)

    edge = round(layout.EDGE / 25.4 * 300) + 4  # on the page's white, then on the black photo, beside the lit patch
    left, top = (int(np.argmax(line < 128)) for line in (page[edge], page[:, edge]))
    bottom = top + int(np.argmax(page[top:, edge] > 128))
    scale = (bottom - top) / frame.source[0]
    bright = page[top:bottom, left : left + round(frame.source[1] * scale) - 1] > 120
    x0, y0, x1, y1 = np.array(heat.box(row, col)) * scale
    for found, expected in ((run_of(bright.any(0)), (x0, x1)), (run_of(bright.any(1)), (y0, y1))):
        assert found == pytest.approx(expected, abs=1.5)  # print pixels


def test_the_layer_stands_on_the_grid_and_the_photo_on_itself() -> None:
    frame = Frame.crop((90, 61), (96, 65), (64, 64))
    heat = Heatmap(np.eye(3), Grid(3, 3, (20, 20)), frame, "cls")
    image = photo((90, 61))
    made = panel.panel(replace(heat, image=image), opacity=0.5, threshold=0.4, width=80, caption="")
    ax = drawing.figure_of(made, vector=True).axes[0]
    under, over = ax.images
    assert under.get_extent() == [0, 61, 90, 0]
    assert (under.get_array() == image).all()
    x0, y0, x1, y1 = frame.box_to_source((0, 0, 60, 60))
    assert over.get_extent() == pytest.approx([x0, x1, y1, y0])
    layer = over.get_array()
    fine = layer.shape[0] // 3
    assert (layer[:fine, :fine] == [253, 231, 37, 128]).all()
    assert (layer[:fine, fine:, 3] == 0).all()
    width, height = (ax.bbox.width, ax.bbox.height)
    assert height / width == pytest.approx(90 / 61)


def test_labels_of_boxes_stay_on_the_photo() -> None:
    heat = heatmap(source=(80, 120))
    corners = np.array([[-9.0, -9, 30, 30], [110, 70, 130, 90], [118, 2, 120, 9]])
    found = SimpleNamespace(xyxy=corners, scores=np.ones(3), labels=["golf ball", "gas pump", "chain saw"])
    ax = drawing.figure_of(panel.panel(heat, detections=found, caption=""), vector=False).axes[0]
    assert [text.get_text() for text in ax.texts] == ["golf ball 1.00", "gas pump 1.00", "chain saw 1.00"]
    for text in ax.texts:
        box = text.get_window_extent()
        assert ax.bbox.x0 <= box.x0 < box.x1 <= ax.bbox.x1
        assert ax.bbox.y0 <= box.y0 < box.y1 <= ax.bbox.y1


def test_print_holds_no_more_of_a_photo_than_a_printer_shows() -> None:
    image = photo((300, 3000))
    heat = replace(heatmap(source=(300, 3000)), image=image)
    for vector, most in ((True, 85 / 25.4 * drawing.SHARPEST), (False, 3000)):
        drawn = drawing.figure_of(panel.panel(heat, width="column"), vector=vector).axes[0].images[0]
        assert most / 2 < drawn.get_array().shape[1] <= most
        assert drawn.get_extent() == [0, 3000, 300, 0]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_its_page_and_a_transparent_page_is_none(theme: str) -> None:
    figure = drawing.figure_of(panel.panel(heatmap(), theme=theme), vector=False)
    ground = np.array(matplotlib.colors.to_rgb(figure.get_facecolor()))
    words = [*figure.texts, *figure.axes[1].get_yticklabels()]
    assert words
    assert all(abs(np.array(matplotlib.colors.to_rgb(text.get_color())) - ground).min() > 0.8 for text in words)
    clear = drawing.preview(panel.panel(heatmap(), theme=theme, transparent=True))
    with Image.open(io.BytesIO(clear)) as page:
        assert page.getpixel((0, 0))[3] == 0


def test_maps_are_read_in_grey_print_too() -> None:
    """The highest colour on black is brighter than the lowest on white, and brightness grows with the value."""
    black = np.zeros((8, 16, 3), np.uint8)
    values = np.linspace(0, 1, 16)[None]
    heat = Heatmap(values, Grid(1, 16, (8, 1)), Frame.stretch((8, 16), (8, 16)), "cls", image=black)
    made = panel.panel(heat)
    layer = layers.layer_of(heat, (0, 1), made.look)[0, :: 1024 // 16].astype(float)
    grey, opacity = layer[:, :3] @ [0.299, 0.587, 0.114], layer[:, 3] / 255
    assert (np.diff(grey) > 0).all()
    assert (opacity * grey)[-1] > (opacity * grey + (1 - opacity) * 255)[0]


def test_nothing_of_the_users_style_reaches_a_figure() -> None:
    plain = drawing.preview(panel.panel(heatmap()))
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "image.cmap": "jet", "axes.edgecolor": "red"}):
        assert drawing.preview(panel.panel(heatmap())) == plain


def test_numbers_of_short_bars_keep_apart() -> None:
    heats = [heatmap([[0, 1], [2, top]], (24, 48), head=top) for top in (3, 7, 10)]
    with drawing.styled():
        figure = drawing.figure_of(panel.panel(heats, width="column"), vector=False)
        figure.draw_without_rendering()
        for ax in figure.axes[3:]:
            boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
            assert len(boxes) >= 2
            assert all(low.y1 <= high.y0 for low, high in pairwise(boxes))


def test_a_label_that_would_hide_its_photo_is_left_out() -> None:
    found = SimpleNamespace(
        xyxy=np.array([[2.0, 2, 30, 30]]), scores=np.ones(1), labels=["a very long name of a thing"]
    )
    small = drawing.figure_of(panel.panel([heatmap()] * 3, detections=found, width="column"), vector=False).axes[0]
    assert not small.texts
    assert len(small.patches) == 2


@pytest.mark.parametrize("look", [{}, {"blend": "value", "threshold": 0.3}], ids=["veil", "value"])
@pytest.mark.parametrize(
    "frame",
    [
        Frame.stretch((60, 90), (64, 64)),
        Frame.crop((90, 60), (96, 64), (64, 64)),
        Frame.letterbox((61, 93), (128, 128)),
        Frame.stretch((20, 400), (160, 32)),
    ],
    ids=["stretch", "crop", "letterbox", "long"],
)
def test_a_layer_sampled_by_the_line_is_the_whole_layer_pixel_by_pixel(
    frame: Frame, look: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its edges too, which cut through pixels of the page."""
    grid = Grid.of(frame.model, (16, 16))
    rng = np.random.default_rng(0)
    dropped = rng.random((grid.rows, grid.cols)) < 0.2
    heat = Heatmap(rng.random(dropped.shape), grid, frame, "cls", image=photo(frame.source), dropped=dropped)
    made = panel.panel(heat, width=43.7, dpi=171, **look)
    quick = drawing.pixels_of(made)
    monkeypatch.setattr(layers, "ROWS", 0)
    assert (quick == drawing.pixels_of(made)).all()
