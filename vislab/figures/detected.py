"""Boxes on their photograph as a file, with how they were found inside, and that as a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.bands import how_read
from ..core.fingerprints import of_image, of_name
from ..core.python_call import call, plain
from ..detectors.detections import Detections
from .boxes import Boxes, with_boxes
from .drawing import figure_of, styled
from .formats import WRITERS, jpg_of, png_of
from .page import Cell, Look, Panel
from .provenance import boxes_of, found_of, version_of, versions

FORMATS = tuple(WRITERS)


def check_suffix(suffix: str) -> None:
    """ValueError for a file that holds no boxes."""
    if suffix not in FORMATS:
        raise ValueError(
            f"boxes are drawn as {', '.join(FORMATS)}, not as {suffix or 'a file without a suffix'}; their numbers are "
            "boxes.xyxy and boxes.scores"
        )


def record_of_boxes(boxes: Detections, image: np.ndarray, suffix: str) -> dict[str, Any]:
    """What travels with boxes on an image, (H, W, 3) uint8. It names no path of the machine it was made on."""
    digest = of_image(image)
    return {
        "vislab": version_of("vislab"),
        "images": {digest: {"height": image.shape[0], "width": image.shape[1], **plain(how_read(digest))}},
        "detections": boxes_of(boxes),
        "detected": found_of(boxes),
        "caption": _caption(boxes),
        "versions": versions(),
        "call": call("vislab.save", repr(f"figure{suffix}"), "boxes"),
    }


def file_of_boxes(boxes: Detections, suffix: str) -> bytes:
    """Boxes on their image as the contents of a file: a picture of its own size, or in PDF and SVG a page."""
    image, caption = boxes.image, _caption(boxes)
    if image is None:
        raise ValueError("these boxes have no image: give the one that was looked at, vislab.save(…, image=…)")
    record: Mapping[str, Any] = record_of_boxes(boxes, image, suffix)
    if suffix == ".png":
        return png_of(with_boxes(image, boxes), None, caption, caption, record)
    if suffix in (".jpg", ".jpeg"):
        return jpg_of(with_boxes(image, boxes), record)
    page = page_of(boxes, image, caption)
    with styled():
        return WRITERS[suffix](figure_of(page, vector=True), page.look.dpi, caption, caption, record)


def page_of(boxes: Boxes, image: np.ndarray, caption: str) -> Panel:
    """A page with the photograph and its boxes alone."""
    return Panel(((Cell(image, of_image(image)),),), (), (), caption, boxes, Look())


def _caption(boxes: Detections) -> str:
    many = f"{len(boxes) or 'no'} box{'es' * (len(boxes) != 1)}"
    return f"{many} found by {of_name(boxes.detector)} above {boxes.confidence:g}"
