"""Laws of `explain_box`: what it is asked, what it answers, and what makes the same map again."""

from __future__ import annotations

from typing import Any

import detecting
import numpy as np
import pytest

import vislab
from vislab.detectors import cache

PHOTO = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def detector() -> vislab.Detector:
    return vislab.load_detector(detecting.yolo("yolo12n"))


def test_the_map_says_how_it_was_made(detector: vislab.Detector) -> None:
    boxes = vislab.detect(PHOTO, detector=detector, image_size=160)
    assert len(boxes) > 2
    asked = {"box": 2, "layer": 1, "head": 0, "attention_scale": 0.8, "image_size": 160}
    heat = vislab.explain_box(PHOTO, detector=detector, **asked)
    assert heat.method == "attention"
    assert heat.frame == boxes.frame
    assert np.array_equal(heat.image, PHOTO)
    assert heat.settings == asked | {"detector": "yolo12n.yaml"}
    assert heat.facts["dtype"] == "float32"
    again = vislab.explain_box(PHOTO, **dict(heat.settings) | {"detector": detector}, method=heat.method)
    assert np.array_equal(heat.values, again.values)


def test_the_attention_scale_changes_what_a_point_attends_to(detector: vislab.Detector) -> None:
    asked = {"query": (45, 25), "layer": 1, "head": 0, "image_size": 160}
    free = vislab.explain_box(PHOTO, detector=detector, **asked)
    scaled = vislab.explain_box(PHOTO, detector=detector, attention_scale=0.8, **asked)
    assert not np.array_equal(free.values, scaled.values)


def test_a_gradient_of_a_box_has_no_layer(detector: vislab.Detector) -> None:
    heat = vislab.explain_box(PHOTO, detector=detector, box=0, method="grad_cam", image_size=160)
    assert heat.signed
    assert str(heat.target).startswith("box 0: ")
    assert not {"layer", "head", "query"} & set(heat.settings)


def test_the_embedded_detector_is_loaded_once_and_by_default() -> None:
    assert cache.detector_of("embedded") is cache.detector_of("embedded")
    assert vislab.detect(PHOTO).detector == "embedded"
    assert vislab.explain_box(PHOTO, query=(45, 25)).grid.patch == (32, 32)


def test_the_surest_box_is_meant_where_none_is_named(detector: vislab.Detector) -> None:
    first = vislab.explain_box(PHOTO, detector=detector, image_size=160)
    assert first.settings["box"] == 0
    assert np.array_equal(first.values, vislab.explain_box(PHOTO, detector=detector, box=0, image_size=160).values)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"box": 0, "query": (1, 2)}, "ask about one thing: box=.* or query="),
        ({"box": -1}, "from 0, not -1"),
        ({"box": "first"}, "from 0, not 'first'"),
        ({"query": "cls"}, "query is a point .* not 'cls'"),
        ({"query": (1, float("nan"))}, "query is a point"),
        ({"method": "rollout"}, "no method 'rollout' for detectors: there are attention, grad_cam"),
        ({"method": "grad_camm"}, "did you mean 'grad_cam'"),
        ({"method": "grad_cam", "query": (1, 2)}, "explains the score of a box"),
        ({"method": "grad_cam", "layer": 0}, "leave layer and head out"),
    ],
)
def test_what_has_no_answer_is_refused_before_anything_runs(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        vislab.explain_box("nowhere.jpg", detector="nothing", **asked)
