"""Boxes, or masks, alone on their photograph as a file, with how they were found inside, and that as a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.bands import how_read
from ..core.fingerprints import of_image, of_name
from ..core.python_call import call, plain
from ..detectors.detections import Detections
from ..masks.masks import Masks
from .boxes import Boxes, with_boxes
from .drawing import figure_of, styled
from .formats import WRITERS, jpg_of, png_of
from .overlay import overlay
from .page import Cell, Look, Panel
from .provenance import boxes_of, found_of, record_of_masks, version_of, versions

FORMATS = tuple(WRITERS)
PAGE = ("width", "caption", "theme", "transparent", "dpi")  # of a page; without them a picture has its photo's own size
OPACITY = 0.5  # of masks alone


def check_suffix(suffix: str) -> None:
    """ValueError for a file that holds no boxes."""
    if suffix not in FORMATS:
        raise ValueError(
            f"boxes are drawn as {', '.join(FORMATS)}, not as {suffix or 'a file without a suffix'}; their numbers are "
            "boxes.xyxy and boxes.scores"
        )


def record_of_boxes(boxes: Detections, image: np.ndarray, suffix: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What travels with boxes on an image, (H, W, 3) uint8. It names no path of the machine it was made on."""
    digest = of_image(image)
    return {
        "vislab": version_of("vislab"),
        "images": {digest: {"height": image.shape[0], "width": image.shape[1], **plain(how_read(digest))}},
        "detections": boxes_of(boxes),
        "detected": found_of(boxes),
        "caption": options.get("caption", _caption(boxes)),
        "versions": versions(),
        "call": call("vislab.save", repr(f"figure{suffix}"), "boxes", **options),
    }


def file_of_boxes(boxes: Detections, suffix: str, options: Mapping[str, Any]) -> bytes:
    """Boxes on their image as the contents of a file: a picture of its own size, or a page. options: of a page."""
    image = boxes.image
    if image is None:
        raise ValueError("these boxes have no image: give the one that was looked at, vislab.save(…, image=…)")
    record = record_of_boxes(boxes, image, suffix, options)
    if _is_page(suffix, options):
        return _page(Cell(image, of_image(image)), boxes, _caption(boxes), suffix, options, record)
    return _picture(with_boxes(image, boxes), _caption(boxes), str(record["caption"]), suffix, record)


def file_of_masks(masks: Masks, image: np.ndarray, suffix: str, options: Mapping[str, Any]) -> bytes:
    """Masks on their image, as boxes are; options may have an opacity too."""
    record, opacity = record_of_masks(masks, image), {"opacity": OPACITY, **options}["opacity"]
    if _is_page(suffix, options):
        cell, said = Cell(image, of_image(image), masks=masks), options.get("caption", str(masks))
        return _page(cell, None, str(masks), suffix, {**options, "opacity": opacity}, record | {"caption": said})
    return _picture(overlay(masks, image=image, opacity=opacity), masks.method, str(masks), suffix, record)


def _is_page(suffix: str, options: Mapping[str, Any]) -> bool:
    return suffix in (".pdf", ".svg") or any(name in options for name in PAGE)


def _picture(pixels: np.ndarray, title: str, caption: str, suffix: str, record: Mapping[str, Any]) -> bytes:
    return png_of(pixels, None, title, caption, record) if suffix == ".png" else jpg_of(pixels, record)


def _page(
    cell: Cell, boxes: Boxes | None, caption: str, suffix: str, options: Mapping[str, Any], record: Mapping[str, Any]
) -> bytes:
    """A page with the photograph and its boxes or masks alone. caption: where the options have none."""
    look = {name: value for name, value in options.items() if name != "caption"}
    page = Panel(((cell,),), (), (), options.get("caption", caption), boxes, Look(**look))
    check_transparent(suffix, page.look.transparent)
    with styled():
        drawing = figure_of(page, vector=suffix in (".pdf", ".svg"))
        return WRITERS[suffix](drawing, page.look.dpi, page.title, page.caption, record)


def check_transparent(suffix: str, transparent: bool) -> None:
    if transparent and suffix in (".jpg", ".jpeg"):
        raise ValueError("JPEG knows no transparency: take .png, .pdf or .svg, or leave transparent out")


def _caption(boxes: Detections) -> str:
    many = f"{len(boxes) or 'no'} box{'es' * (len(boxes) != 1)}"
    return f"{many} found by {of_name(boxes.detector)} above {boxes.confidence:g}"
