"""From an image and a detector to a heatmap of what one of its boxes rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ..core import fingerprints
from ..core.clip import told
from ..core.heatmap import Heatmap
from ..core.images import load_image
from ..detectors import maps
from ..detectors.cache import detector_of
from ..detectors.detector import Detector
from ..detectors.request import BoxRequest
from ..figures.provenance import boxes_of
from ..methods.request import Head
from ..models.preprocessing import ImageSize


def explain_box(
    image: Any,
    *,
    box: int | None = None,
    query: tuple[float, float] | None = None,
    detector: str | Path | Detector | Any = "embedded",
    method: Literal["attention", "grad_cam"] | None = None,
    layer: int | str = -1,
    head: Head = "mean",
    attention_scale: float | Mapping[int, float] = 1.0,
    image_size: ImageSize | None = None,
    labels: Sequence[str] | None = None,
) -> Heatmap:
    """What a detector's box rests on, or what its attention at a point reads, as one value per cell of a feature map.

    image: what `load_image` takes. box: index among what `detect` finds, by default 0, the most certain box; beyond
    those it goes on among boxes of scores down to 0.001, and the caption tells the score; or query: a point (x, y) in
    source pixels. detector: a Detector, or what `load_detector` takes. method: "attention", of the grid cells or the
    decoder query that made the box, or "grad_cam" of the box's score; by default attention where the detector has any.
    layer: one of the detector's sites, by index or name, or "mean" of those on one grid. head: index, "mean", "max" or
    "min". attention_scale: factor of q·kᵀ, for all sites or {index: factor}, a real intervention. image_size: px of the
    detector's input, a side or (height, width). labels: what to look for, as of `detect`. Pictures of it show the box,
    without `detections=()`.

    Raises ValueError for what this detector does not answer, IndexError for a box that is not there.

        heat = vislab.explain_box("photo.jpg", box=0, layer="model.6.m.0.0.attn")
        heat = vislab.explain_box("photo.jpg", query=(320, 200))
        heat = vislab.explain_box("photo.jpg", detector="yolo12n.pt")  # needs the network
    """
    request = BoxRequest(box, query, method, layer, head, attention_scale, image_size)
    ready = detector_of(detector).told(labels)
    glance = ready.glance(load_image(image), image_size=image_size, attention_scale=attention_scale)
    heat = maps.heatmap(glance, request)
    named = None if labels is None else ready.labels
    request = replace(request, method=heat.method, labels=named)  # type: ignore[arg-type]
    settings = {"detector": ready.name, **request.settings}
    facts = {**fingerprints.of_module(ready.module, given=ready.given), **told(image)}
    if request.box is not None:
        boxes = maps.boxes_to(glance, request.box)
        facts["box"] = {**boxes_of(boxes[request.box])[0], "confidence": boxes.confidence}
    return replace(heat, settings=settings, facts=facts)
