"""Laws of detections: what they hold is what was found, whichever part of it is taken."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import supervision
from PIL import Image

import vislab
from vislab.core.geometry import Frame, Grid
from vislab.core.heatmap import Heatmap
from vislab.detectors.detections import Detections

LEVELS = (Grid(8, 12, (8, 8)), Grid(4, 6, (16, 16)), Grid(2, 3, (32, 32)))
FRAME = Frame.letterbox((128, 192), (64, 96))
NAMES, CLASSES = ("dog", "cat", "dog", "mouse"), (16, 15, 16, 64)


def made(**changes: Any) -> Detections:
    xyxy = np.array([[10, 20, 60, 90], [0, 0, 192, 128], [-5, 4, 30, 4], [100.5, 50, 150, 100]])
    parts = {"xyxy": xyxy, "scores": [0.9, 0.7, 0.7, 0.3], "labels": NAMES, "class_ids": CLASSES}
    parts |= {"origin": [0, 95, 96, 125]}
    return Detections(**parts | {"frame": FRAME, "confidence": 0.25, "detector": "tiny", "levels": LEVELS} | changes)


def none_found() -> Detections:
    return made(xyxy=np.zeros((0, 4)), scores=[], labels=(), class_ids=[], origin=[])


@pytest.mark.parametrize("confidence", [0.25, 0.3, 0.31, 0.7, 0.8, 0.95])
def test_above_keeps_those_whose_score_is(confidence: float) -> None:
    kept = made().above(confidence)
    expected = [i for i, score in enumerate((0.9, 0.7, 0.7, 0.3)) if score > confidence]
    assert kept.labels == tuple(NAMES[i] for i in expected)
    assert np.array_equal(kept.xyxy, made().xyxy[expected])
    assert kept.origin.tolist() == [(0, 95, 96, 125)[i] for i in expected]
    assert kept.confidence == confidence
    assert np.array_equal(kept.above(confidence).xyxy, kept.xyxy)


def test_numbers_of_numpy_are_numbers() -> None:
    boxes = made()
    assert boxes[np.argmin(boxes.scores)].labels == boxes[3].labels == ("mouse",)
    assert boxes[np.int64(-3)].labels == ("cat",)
    assert boxes.cell(np.argmin(boxes.scores)) == boxes.cell(3)
    above = boxes.above(boxes.scores[0] - np.float32(0.01))
    assert above.labels == ("dog",)
    assert type(above.confidence) is float
    with pytest.raises(TypeError):
        boxes[1.0]


def test_above_a_lower_confidence_is_not_known() -> None:
    with pytest.raises(ValueError, match=r"above a confidence of 0\.25.* detect again with confidence=0\.1"):
        made().above(0.1)


@pytest.mark.parametrize("confidence", [-0.1, 1, float("nan"), "0.5", True, np.True_, None])
def test_confidence_is_a_share(confidence: Any) -> None:
    with pytest.raises(ValueError, match="confidence lies between 0 and below 1"):
        made().above(confidence)


def test_parts_are_detections() -> None:
    boxes = made()
    assert boxes[1].labels == boxes[-3].labels == ("cat",)
    assert boxes[1:3].labels == ("cat", "dog")
    assert boxes[[2, -1]].labels == ("dog", "mouse")
    assert boxes[np.array([True, False, False, True])].labels == ("dog", "mouse")
    assert [one.labels[0] for one in boxes] == list(NAMES)
    with pytest.raises(IndexError, match="no box 4: tiny found 4 boxes"):
        boxes[4]


def test_boxes_print_as_a_short_table_and_are_one_line_in_a_list() -> None:
    boxes = made()
    head, columns, *rows = str(boxes).splitlines()
    assert head == boxes.summary == "tiny found 4 boxes above 0.25"
    assert columns.split() == ["score", "label", "left", "top", "right", "bottom"]
    for index, (row, box) in enumerate(zip(rows, boxes, strict=True)):
        told = [str(index), f"{box.scores[0]:.2f}", box.labels[0], *(f"{edge:.1f}" for edge in box.xyxy[0])]
        assert row.split() == told
    assert len({len(row) for row in (columns, *rows)}) == 1  # right edges stand below each other
    (first, *_), (high, wide) = boxes, boxes.frame.source
    assert repr(boxes).startswith(f"Detections({head}: {first.labels[0]} {first.scores[0]:.2f}, ")
    assert repr(boxes).endswith(f", …; image of {wide} × {high} px)")
    assert "\n" not in repr(boxes)
    many = boxes[[0] * 30]
    assert str(many).splitlines()[-1] == "… and 10 more"


def test_nothing_found_is_a_state_of_its_own() -> None:
    boxes = none_found()
    assert len(boxes) == 0
    assert len(boxes.above(0.5)) == 0
    assert boxes.xyxy.shape == (0, 4)
    assert str(boxes) == "tiny found no boxes above 0.25"
    assert list(boxes) == []
    with pytest.raises(IndexError, match="no box 0: tiny found no boxes"):
        boxes[0]


@pytest.mark.parametrize("level", range(3))
def test_every_cell_is_found_again(level: int) -> None:
    before = sum(grid.patches for grid in LEVELS[:level])
    grid = LEVELS[level]
    for row in range(grid.rows):
        for col in range(grid.cols):
            assert made(origin=[before + row * grid.cols + col, 0, 0, 0]).cell(0) == (level, row, col)


def test_boxes_of_queries_have_no_cell() -> None:
    boxes = made(levels=(), origin=[3, 1, 99, 0])
    assert boxes.origin.tolist() == [3, 1, 99, 0]
    with pytest.raises(ValueError, match="made by queries, not by cells"):
        boxes.cell(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xyxy": np.zeros((3, 4))}, r"4 labels need boxes of shape \(4, 4\)"),
        ({"scores": [0.9]}, "4 labels need"),
        ({"origin": []}, "4 labels need"),
        ({"class_ids": [1]}, "4 labels need"),
        ({"xyxy": np.full((4, 4), np.nan)}, "all of them finite"),
        ({"xyxy": np.tile([5, 0, 4, 1], (4, 1))}, "x0 ≤ x1"),
        ({"scores": [0.9, 0.7, 0.8, 0.3]}, "and fall"),
        ({"scores": [0.9, 0.7, 0.7, 0.25]}, "above the confidence of 0.25"),
        ({"scores": [1.1, 0.7, 0.7, 0.3]}, "up to 1"),
        ({"scores": [np.nan, 0.7, 0.7, 0.3]}, "scores lie above"),
        ({"origin": [0, 1, 2, 126]}, "from 0 to 125"),
        ({"origin": [0, 1, 2, -1]}, "from 0 to 125"),
        ({"confidence": 1.5}, "confidence lies between"),
        ({"image": np.zeros((128, 190, 3), np.uint8)}, "the frame is of an image"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_what_is_held_stays_as_it_is() -> None:
    scores = np.array([0.9, 0.7, 0.7, 0.3], np.float32)
    boxes = made(scores=scores)
    scores[0] = 0
    assert boxes.scores[0] == np.float32(0.9)
    with pytest.raises(ValueError, match="read-only"):
        boxes.xyxy[0] = 0


@pytest.mark.parametrize("count", [0, 4, 3000])
def test_they_are_drawn_on_their_photo(count: int) -> None:
    photo = np.full((128, 192, 3), 120, np.uint8)
    corner = np.random.default_rng(0).uniform(-50, 150, (count, 2))  # outside the image too
    xyxy, scores = np.concatenate([corner, corner + 40], 1), np.linspace(0.9, 0.3, count)
    boxes = made(
        xyxy=xyxy, scores=scores, labels=["dog"] * count, class_ids=[0] * count, origin=[0] * count, image=photo
    )
    heat = Heatmap(np.zeros((2, 3)), LEVELS[2], FRAME, "attention")
    plain, drawn = vislab.overlay(heat, image=photo), vislab.overlay(heat, image=photo, detections=boxes)
    assert (plain == drawn).all() == (count == 0)
    shown = np.asarray(Image.open(io.BytesIO(boxes._repr_png_())))
    empty = np.asarray(Image.open(io.BytesIO(replace(boxes[:0])._repr_png_())))
    assert shown.shape == empty.shape
    assert (shown[:200] == empty[:200]).all() == (count == 0)


def test_without_a_photo_they_are_shown_on_white() -> None:
    shown = np.asarray(Image.open(io.BytesIO(none_found()._repr_png_())))
    assert (shown[:128] == 255).all()
    assert not (shown == 255).all()


def test_supervision_gets_the_same_boxes() -> None:
    boxes = made()
    theirs = boxes.to_supervision()
    assert isinstance(theirs, supervision.Detections)
    assert np.array_equal(theirs.xyxy, boxes.xyxy)
    assert np.array_equal(theirs.confidence, boxes.scores)
    assert (theirs.class_id.tolist(), theirs.data["class_name"].tolist()) == (list(CLASSES), list(NAMES))
    assert theirs[theirs.class_id == 15].data["class_name"].tolist() == ["cat"]
    theirs.xyxy[0] = 0  # theirs may be changed
    assert boxes.xyxy[0, 2] == 60
    assert len(none_found().to_supervision()) == 0


def test_without_supervision_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        made().to_supervision()
