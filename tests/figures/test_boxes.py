"""Laws of what is drawn on a picture: labels that do not hide each other, and the patch that asks."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import heatmap
from PIL import Image

import vislab
from vislab.core.geometry import Box
from vislab.figures import boxes, drawing, notebook

LABELS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 190)), max_size=6).map(
    lambda corners: [(float(x), float(y), x + 30.0, y + 10.0) for x, y in corners]
)


def hide(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@given(labels=LABELS)
def test_labels_hide_none_and_stay_in_the_picture(labels: list[Box]) -> None:
    placed = boxes.apart(labels, 200)
    assert placed[:1] == labels[:1]
    assert not any(hide(one, other) for one, other in combinations(placed, 2))
    for was, now in zip(labels, placed, strict=True):
        assert (now[0], now[2], now[3] - now[1]) == (was[0], was[2], 10)
        assert 0 <= now[1] <= now[3] <= 200


def test_labels_apart_stay_where_they_are_and_others_go_no_farther_than_they_must() -> None:
    free = [(0.0, 0.0, 30.0, 10.0), (40.0, 0.0, 70.0, 10.0)]
    assert boxes.apart(free, 200) == free
    assert [one[1] for one in boxes.apart([(0, 50, 30, 60), (5, 52, 35, 62), (5, 47, 35, 57)], 200)] == [50, 60, 40]
    stuck = [(0.0, 0.0, 30.0, 10.0)] * 2  # a picture with room for one label
    assert boxes.apart(stuck, 10) == stuck


def test_the_patch_that_asks_is_outlined() -> None:
    heat = replace(heatmap(np.zeros((4, 4)), source=(256, 256)), query="patch (1, 2)")
    assert boxes.asking(heat) == heat.box(1, 2)
    ground = np.full((256, 256, 3), 128, np.uint8)
    shown = boxes.with_asking(ground, heat)
    changed = (shown != ground).any(2)
    x0, y0, x1, y1 = (round(v) for v in heat.box(1, 2))
    assert (shown[y0, x0 : x1 + 1] == 255).all()  # the line stands on the patch's own edge
    changed[y0 - 2 : y1 + 3, x0 - 2 : x1 + 3] = False
    assert not changed.any()
    assert (shown[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3] == 128).all()


def test_a_map_of_a_box_shows_it_unless_other_boxes_or_none_are_given(tmp_path: Path) -> None:
    found = {"xyxy": [40.0, 60.0, 200.0, 220.0], "score": 0.5, "label": "fish", "confidence": 0.25}
    ground = np.full((256, 256, 3), 128, np.uint8)
    bare = replace(heatmap(np.zeros((4, 4)), source=(256, 256)), image=ground)
    heat = replace(bare, facts={"box": found})
    own = boxes.explained_box(heat)
    assert own is not None
    assert boxes.explained_box(bare) is None
    for draw in (
        vislab.overlay,
        lambda heat, **how: drawing.pixels_of(vislab.panel(heat, **how)),
        lambda heat, **how: vislab.load_image(vislab.save(tmp_path / "f.png", heat, plain=True, **how)),
    ):
        without = draw(bare)
        assert (draw(heat, detections=()) == without).all()
        assert (draw(heat) == draw(bare, detections=own)).all()
        assert (draw(heat) != without).any()
        other = replace(own, labels=("boat",))
        assert (draw(heat, detections=other) == draw(bare, detections=other)).all()


@pytest.mark.parametrize("given", [{}, {"detections": ()}])
def test_the_box_of_a_map_is_drawn_again_from_the_record_or_left_out(tmp_path: Path, given: dict[str, Any]) -> None:
    image = np.array(Image.new("RGB", (160, 128), (90, 120, 150)))
    Image.fromarray(image).save(tmp_path / "photo.png")
    heat = vislab.explain_box(image, box=0)
    path = vislab.save(tmp_path / "map.png", heat, dpi=80, **given)
    assert vislab.reproduce(path).differences == ()
    assert ("detections=()" in vislab.provenance(path)["call"]) == bool(given)


def test_a_notebook_shows_the_box_of_a_map_where_it_lies_on_the_photograph_as_shown() -> None:
    """A small photograph is enlarged, and its box with it."""
    found = {"xyxy": [10.0, 10.0, 50.0, 50.0], "score": 0.5, "label": "fish", "confidence": 0.25}
    bare = replace(heatmap(np.zeros((4, 4)), source=(64, 64)), image=np.full((64, 64, 3), 128, np.uint8))
    was, now = (notebook.figure_array(one) for one in (bare, replace(bare, facts={"box": found})))
    (high, wide), edge = notebook.shown_size((64, 64)), 10
    changed = np.argwhere((was != now).any(2)[edge : edge + high, edge : edge + wide]) / (high / 64)
    assert changed.max(0) == pytest.approx([50, 50], abs=1)


def test_where_no_patch_asks_nothing_is_outlined() -> None:
    for query in ("CLS", "mean of all queries", None):
        heat = replace(heatmap(), query=query)
        assert boxes.asking(heat) is None
        assert boxes.with_asking(heat.image, heat) is heat.image


def test_notebooks_and_files_outline_it_too() -> None:
    plain, asks = (replace(heatmap(), query=query) for query in ("CLS", "patch (0, 1)"))
    for drawn in (notebook.figure_array, lambda heat: drawing.pixels_of(vislab.panel(heat, caption="", dpi=100))):
        was, now = (drawn(replace(heat, settings={})) for heat in (plain, asks))
        same = was[: min(len(was), len(now)) * 3 // 4], now[: min(len(was), len(now)) * 3 // 4]
        assert (same[0] != same[1]).any()
