"""From an image and a detector to boxes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.images import load_image
from ..detectors.cache import detector_of
from ..detectors.detections import Detections, check_confidence
from ..detectors.detector import Detector
from ..models.preprocessing import ImageSize


def detect(
    image: Any,
    *,
    detector: str | Path | Detector | Any = "embedded",
    confidence: float = 0.25,
    iou: float = 0.7,
    image_size: ImageSize | None = None,
    attention_scale: float | Mapping[int, float] = 1.0,
    trust: bool = False,
) -> Detections:
    """The objects in an image, as boxes in source pixels; `Detections.above` keeps fewer without another forward.

    image: what `load_image` takes. detector: a Detector, or what `load_detector` takes; see there for trust.
    confidence: of a box, above which it counts, 0..1. iou: how much boxes of a class may overlap, 0..1. image_size: px
    of the detector's input, a side or (height, width). attention_scale: factor of q·kᵀ inside the detector, for all of
    its sites or {index: factor}, a real intervention; in RT-DETR of the encoder alone.

    Boxes of ultralytics' detectors are those of its own predict(), with the same confidence and iou.

        boxes = vislab.detect("photo.jpg", confidence=0.1)
        vislab.overlay(vislab.explain_box("photo.jpg", box=0), detections=boxes.above(0.2))
        boxes = vislab.detect("photo.jpg", detector="yolo12n.pt")  # needs the network
    """
    check_confidence(confidence)
    ready = detector_of(detector, trust)
    glance = ready.glance(load_image(image), image_size=image_size, attention_scale=attention_scale)
    return glance.detections(confidence, iou)
