"""Laws of every detector, whichever library it comes from: one forward, any question after it, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import detecting
import numpy as np
import pytest
import torch
from tiny import fingerprint

import vislab

MAKERS: dict[str, Callable[[], Any]] = {
    "yolo12n": lambda: detecting.yolo("yolo12n"),
    "yolov8n": lambda: detecting.yolo("yolov8n"),
    "detr": detecting.detr,
    "rt_detr": detecting.hf_rtdetr,
    "yolos": detecting.yolos,
}
SIZE = (96, 160)


@pytest.fixture(scope="module", params=MAKERS)
def detector(request: pytest.FixtureRequest) -> vislab.Detector:
    return vislab.load_detector(MAKERS[request.param]())


def test_a_glance_leaves_the_network_as_it_is(detector: vislab.Detector) -> None:
    detector.glance(detecting.PHOTO, image_size=SIZE)  # ultralytics' heads remember the shape of their last input
    before = fingerprint(detector.module)
    glance = detector.glance(detecting.PHOTO, image_size=SIZE)
    glance.detections()
    assert fingerprint(detector.module) == before


def test_the_same_is_found_each_time(detector: vislab.Detector) -> None:
    first = detector.glance(detecting.PHOTO, image_size=SIZE)
    found = first.detections(0.1)
    detector.glance(255 - detecting.PHOTO, image_size=SIZE)
    again = first.detections(0.1)
    anew = detector.glance(detecting.PHOTO, image_size=SIZE).detections(0.1)
    for other in (again, anew):
        assert np.array_equal(found.xyxy, other.xyxy)
        assert np.array_equal(found.scores, other.scores)


def test_boxes_know_their_photo_and_their_detector(detector: vislab.Detector) -> None:
    boxes = detector.glance(detecting.PHOTO, image_size=SIZE).detections(0.0)
    assert boxes.image is not None
    assert np.array_equal(boxes.image, detecting.PHOTO)
    assert boxes.detector == detector.name
    assert set(boxes.labels) <= set(detector.labels)
    assert boxes.frame.source == detecting.PHOTO.shape[:2]


def test_nothing_above_a_high_confidence_is_no_error(detector: vislab.Detector) -> None:
    boxes = vislab.detect(detecting.PHOTO, detector=detector, confidence=0.99999, image_size=SIZE)
    assert len(boxes) == 0
    assert boxes.xyxy.shape == (0, 4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (300, 2)])
def test_photos_of_any_shape_are_taken(detector: vislab.Detector, shape: tuple[int, int]) -> None:
    boxes = vislab.detect(np.zeros((*shape, 3), np.uint8), detector=detector, image_size=SIZE, confidence=0.0)
    assert np.isfinite(boxes.xyxy).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 0}, "image_size is a number of pixels"),
        ({"image_size": (96,)}, "image_size is a number of pixels"),
        ({"image_size": 96.0}, "image_size is a number of pixels"),
        ({"image_size": SIZE, "confidence": 2}, "confidence lies between 0 and below 1"),
        ({"image_size": SIZE, "iou": -1}, "iou lies between 0 and 1"),
        ({"image_size": SIZE, "attention_scale": 0}, "attention_scale must be a number above 0"),
    ],
)
def test_bad_settings_are_said(detector: vislab.Detector, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vislab.detect(detecting.PHOTO, detector=detector, **settings)


def test_a_size_may_be_a_number_of_numpy(detector: vislab.Detector) -> None:
    plain, sized = (detector.glance(detecting.PHOTO, image_size=side).frame for side in (96, np.int64(96)))
    assert repr(plain) == repr(sized)


def test_a_detector_is_taken_as_it_is(detector: vislab.Detector) -> None:
    assert vislab.load_detector(detector) is detector


def test_parameters_ask_for_no_gradient_of_a_glance(detector: vislab.Detector) -> None:
    with torch.enable_grad():
        glance = detector.glance(detecting.PHOTO, image_size=SIZE)
    assert not any(x.requires_grad for x in glance.features)
