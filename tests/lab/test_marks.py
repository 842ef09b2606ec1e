"""Laws of what a segmenter is shown: points and boxes lie in their image, and go with it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import prompted
import pytest
import traitlets

import vislab
from vislab.lab.marks import MARKS, segmenter_ready
from vislab.lab.traits import Settings
from vislab.lab.values import named

PHOTO = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
GIVEN = {"points": [(31.0, 22.0), (40, 30)], "outside": np.array([[5, 5]]), "boxes": [(12.0, 8.0, 70.0, 52.0)]}


@pytest.fixture
def settings() -> Settings:
    made = Settings()
    made.image = PHOTO
    return made


def test_marks_are_kept_as_json_brings_them_back(settings: Settings) -> None:
    settings.state = GIVEN
    kept = {name: getattr(settings, name) for name in MARKS}
    assert kept == {
        "points": [[31.0, 22.0], [40.0, 30.0]],
        "outside": [[5.0, 5.0]],
        "boxes": [[12.0, 8.0, 70.0, 52.0]],
    }
    assert json.loads(json.dumps(kept)) == kept
    again = Settings()
    again.state = {**settings.state, "image": PHOTO}
    assert {name: getattr(again, name) for name in MARKS} == kept
    for name in MARKS:
        setattr(settings, name, [])
        assert getattr(settings, name) is None


def test_boxes_of_a_detector_are_taken(settings: Settings) -> None:
    frame = vislab.Frame.stretch((60, 90), (60, 90))
    found = vislab.Detections(np.array([[2, 3, 30, 40]]), [0.9], ("dog",), [0], [0], frame, 0.25, "mine")
    settings.boxes = found
    assert settings.boxes == [[2.0, 3.0, 30.0, 40.0]]


def test_marks_go_with_their_image(settings: Settings) -> None:
    settings.state = GIVEN
    settings.image = PHOTO.copy()  # the same pixels
    assert settings.points is not None
    settings.image = PHOTO[:, ::-1].copy()
    assert {getattr(settings, name) for name in MARKS} == {None}
    settings.state = {"points": [(600, 380)], "image": "coffee"}  # the order does not matter
    assert settings.points == [[600.0, 380.0]]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("points", [(91, 20)], r"points: \(91, 20\) lies beside the image, which is 90×60 px"),
        ("outside", [(10, 61)], r"outside: \(10, 61\) lies beside the image"),
        ("points", (10, 20), r"points is a list of \(x, y\)"),
        ("points", "here", r"points is a list of \(x, y\)"),
        ("boxes", [(30, 10, 20, 40)], "has no area"),
        ("boxes", [(100, 10, 120, 40)], "lies beside the image"),
        ("segmenter", 5, "this is of type int"),
        ("segmenter", (1, 2, 3), r"segmenter is what vislab.segment takes as model, or \(module, processor\)"),
        ("masked", "yes", "masked"),
    ],
)
def test_what_is_impossible_is_refused_and_what_was_there_stays(
    settings: Settings, name: str, value: Any, says: str
) -> None:
    settings.state = GIVEN
    before = settings.state
    with pytest.raises(traitlets.TraitError, match=says):
        setattr(settings, name, value)
    assert settings.state == before


def test_segmenters_are_objects_or_names(settings: Settings) -> None:
    module, processor = prompted.sam2()
    with pytest.raises(traitlets.TraitError, match=r"nothing says how Sam2Model.*Sam2Processor"):
        settings.segmenter = module
    settings.segmenter = module, processor
    ready = settings.segmenter
    assert segmenter_ready(ready) is ready
    assert settings.state["segmenter"] == named(ready) == ""  # it has no name that loads it again
    settings.segmenter = "facebook/sam2.1-hiera-tiny"
    assert settings.state["segmenter"] == "facebook/sam2.1-hiera-tiny"
    settings.segmenter = None
    assert settings.state["segmenter"] is None
