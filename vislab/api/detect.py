"""From an image and a detector to boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core import fingerprints
from ..core.images import load_image
from ..detectors.cache import detector_of
from ..detectors.detections import Detections, check_confidence
from ..detectors.detector import Detector
from ..methods.request import scales_of
from ..models.preprocessing import ImageSize
from .scales import together


def detect(
    image: Any,
    *,
    detector: str | Path | Detector | Any = "embedded",
    labels: Sequence[str] | None = None,
    confidence: float = 0.25,
    iou: float = 0.7,
    image_size: ImageSize | None = None,
    scales: Sequence[ImageSize] | None = None,
    attention_scale: float | Mapping[int, float] = 1.0,
    trust: bool = False,
) -> Detections:
    """The objects in an image, as boxes in source pixels; `Detections.above` keeps fewer without another forward.

    image: what `load_image` takes. detector: a Detector, or what `load_detector` takes; see there for trust.
    labels: what to look for, in words, of detectors that are told so (OWL-ViT, OWLv2, Grounding DINO). confidence: of a
    box, above which it counts, 0..1. iou: how much boxes of a class may overlap, 0..1. image_size: px
    of the detector's input, a side or (height, width). scales: several such sizes, (480, 640), whose boxes become one
    list: of those of a class that overlap more than iou the most certain. attention_scale: factor of q·kᵀ inside the
    detector, for all of its sites or {index: factor}, a real intervention; in RT-DETR of the encoder alone.

    Boxes of ultralytics' detectors are those of its own predict(), with the same confidence and iou.

        boxes = vislab.detect("photo.jpg", confidence=0.1)
        vislab.overlay(vislab.explain_box("photo.jpg", box=0), detections=boxes.above(0.2))
        boxes = vislab.detect("photo.jpg", scales=(480, 640, 960))
        boxes = vislab.detect("photo.jpg", detector="yolo12n.pt")  # needs the network
        name, labels = "google/owlvit-base-patch32", ["a church", "a fish"]
        boxes = vislab.detect("photo.jpg", detector=name, labels=labels, confidence=0.1)  # needs the network
    """
    check_confidence(confidence)
    sizes = scales_of(scales)
    if sizes is not None and image_size is not None:
        raise ValueError("scales are sizes of the detector's input: leave image_size out")
    ready, picture = detector_of(detector, trust).told(labels), load_image(image)
    found = [
        ready.glance(picture, image_size=size, attention_scale=attention_scale).detections(confidence, iou)
        for size in sizes or (image_size,)
    ]
    boxes = found[0] if len(found) == 1 else together(found, iou)
    asked = {
        "labels": labels,
        "iou": iou,
        "image_size": image_size,
        "scales": sizes,
        "attention_scale": attention_scale,
    }
    usual: dict[str, Any] = {"iou": 0.7, "attention_scale": 1.0}
    settings = {name: value for name, value in asked.items() if value != usual.get(name)}
    return replace(boxes, settings=settings, facts=fingerprints.of_module(ready.module, given=ready.given))
