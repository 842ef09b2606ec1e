"""What travels with a figure: how it was made, in words that a program reads."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..core.bands import how_read
from ..core.fingerprints import of_image, of_name
from ..core.heatmap import Heatmap
from ..core.python_call import Source, call, plain
from ..detectors.detections import Detections
from ..detectors.request import BoxRequest
from ..language import request as words
from ..masks.masks import Masks
from ..methods.registry import METHODS
from ..methods.request import Request
from .boxes import Boxes
from .formats import READERS
from .layout import plan
from .page import Cell, Panel

POINTS = ("keypoints", "corners")  # of boxes, where they have some
PACKAGES = ("vislab", "numpy", "matplotlib", "torch", "transformers", "timm", "ultralytics")


def provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """How a figure that `save` wrote was made: maps, display, versions, and the Python call that makes it again.

    ValueError: a file that vislab did not write, or that lost its metadata on the way.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"no provenance is kept in {path.suffix or path.name!r}: use one of {', '.join(READERS)}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}: check the path")
    data = path.read_bytes()
    try:
        record = json.loads(reader(data))
        if "vislab" in record:
            return record
    except Exception as error:  # whatever a foreign or damaged file makes its reader say
        raise ValueError(f"{path} holds no provenance of vislab: it was not written by it, or was edited") from error
    raise ValueError(f"{path} holds no provenance of vislab: it was not written by it")


def record_of(panel: Panel, suffix: str, *, alone: bool = False) -> dict[str, Any]:
    """What travels with the file. It names no path of the machine it was made on.

    alone: whether the file holds a heatmap on its photograph without a page.
    """
    maps = [
        {
            "image": cell.digest,
            "method": heat.method,
            "query": heat.query,
            "target": heat.target,
            "source": METHODS[heat.method].source if heat.method in METHODS else None,
            "settings": _public(heat.settings),
            "facts": plain(heat.facts),
            "grid": asdict(heat.grid),
            "frame": asdict(heat.frame),
            "colours": cell.span,
        }
        for _, _, cell in panel.filled()
        if (heat := cell.heat) is not None
    ]
    images = {
        cell.digest: {"height": cell.image.shape[0], "width": cell.image.shape[1], **plain(how_read(cell.digest))}
        for *_, cell in panel.filled()
    }
    masks = [{**_regions(cell.masks), "image": cell.digest} for *_, cell in panel.filled() if cell.masks is not None]
    number, of_masks = count(), count()
    cells = [[_content(cell, number, of_masks) for cell in row] for row in panel.cells]
    boxes = panel.detections
    return {
        "vislab": version_of("vislab"),
        "images": images,
        "maps": maps,
        "cells": cells,
        "listed": panel.listed,
        "detections": None if boxes is None else boxes_of(boxes),
        "display": asdict(panel.look),
        "options": plain(panel.options),
        "caption": panel.caption,
        "versions": versions(),
        "call": _call(panel, list(images), suffix, alone),
        **({} if boxes is None or (found := found_of(boxes)) is None else {"detected": found}),
        **({"masks": masks} if masks else {}),
        **({"plain": True} if alone else {}),
    }


def boxes_of(boxes: Boxes) -> list[dict[str, Any]]:
    """What is recorded of boxes, each with its keypoints or its corners where it has some."""
    more = {name: part.tolist() for name in POINTS if (part := getattr(boxes, name, None)) is not None}
    found = zip(boxes.labels, boxes.scores.tolist(), boxes.xyxy.tolist(), strict=True)
    return [
        {"label": label, "score": score, "xyxy": box, **{name: part[number] for name, part in more.items()}}
        for number, (label, score, box) in enumerate(found)
    ]


def boxes_again(record: Mapping[str, Any]) -> Any:
    """The boxes of a record as they were given to `panel`: none, or () where no box was to be drawn."""
    boxes = record["detections"]
    if not boxes:
        return None if boxes is None else ()
    return SimpleNamespace(
        xyxy=np.array([box["xyxy"] for box in boxes]),
        scores=np.array([box["score"] for box in boxes]),
        labels=[box["label"] for box in boxes],
        detected=record.get("detected"),
        **{name: np.array([box[name] for box in boxes]) for name in POINTS if name in boxes[0]},
    )


def found_of(boxes: Boxes) -> dict[str, Any] | None:
    """How boxes were found: detector, confidence and settings, and facts; None where they do not tell."""
    if not isinstance(boxes, Detections):
        return getattr(boxes, "detected", None)
    how = {"detector": of_name(boxes.detector), "confidence": boxes.confidence, **plain(boxes.settings)}
    return {**how, "facts": plain(boxes.facts)}


def record_of_masks(masks: Masks, image: np.ndarray | None) -> dict[str, Any]:
    """What travels with masks on an image, (H, W, 3) uint8, or without one. It names no path of the machine."""
    images: dict[str, Any] = {}
    if image is not None:
        digest = of_image(image)
        images[digest] = {"height": image.shape[0], "width": image.shape[1], **plain(how_read(digest))}
    return {"vislab": version_of("vislab"), "images": images, "masks": _regions(masks), "versions": versions()}


def _regions(masks: Masks) -> dict[str, Any]:
    """What is recorded of masks: how they were made, and of each where it is and how much of the image it takes."""
    found = zip(
        masks.labels, masks.scores.tolist(), masks.boxes.tolist(), masks.masks.mean((1, 2)).tolist(), strict=True
    )
    return {
        "method": masks.method,
        "model": of_name(masks.model),
        "scored": masks.scored,
        "facts": plain(masks.facts),
        "regions": [{"label": n, "score": s, "xyxy": box, "share": part} for n, s, box, part in found],
    }


def call_of(heat: Heatmap, image: str = "image", *, given: Mapping[str, Collection[str]] | None = None) -> str:
    """The Python that makes a heatmap again. image: the source that names its photo; a clip's are `frames`.

    given: see `given_of`, of the figure that it is part of.
    """
    settings = {**_public(heat.settings), "method": heat.method}
    if "question" in settings:
        return words.call(settings, image)
    which = "detector" if "detector" in settings else "model"
    model = settings.get(which, "embedded")
    if "module" in heat.facts:
        model = Source(f"{which}s[{model!r}]" if len((given or {}).get(which, ())) > 1 else which)
    if which == "detector":
        return BoxRequest.of(settings).call(image, detector=model)
    if (one := heat.facts.get("frames")) is not None:
        return f"{Request.of(settings).call('frames', model=model, function='vislab.explain_clip')}[{one['index']}]"
    return Request.of(settings).call(image, model=model)


def given_of(record: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The models and detectors of a record that were modules in memory: what each was called -> its class."""
    given: dict[str, dict[str, str]] = {}
    found = record.get("detected")
    for one in (*record.get("maps", ()), *([] if found is None else [{"settings": found, "facts": found["facts"]}])):
        if "module" in one["facts"]:
            which = "detector" if "detector" in one["settings"] else "model"
            given.setdefault(which, {})[str(one["settings"][which])] = one["facts"]["module"]
    return given


def _public(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as plain values, a model that lies on this machine by its name alone."""
    named = {name: of_name(value) for name in ("model", "detector") if isinstance(value := settings.get(name), str)}
    return {**plain(settings), **named}


def _content(cell: Cell | None, number: Iterator[int], of_masks: Iterator[int]) -> int | str | dict[str, int] | None:
    """What stands in a cell: the number of a map, or of masks, the fingerprint of a photo alone, or nothing."""
    if cell is None:
        return None
    if cell.masks is not None:
        return {"masks": next(of_masks)}
    return cell.digest if cell.heat is None else next(number)


def versions() -> dict[str, str]:
    """Package -> version, of what had a part in it."""
    return {"python": platform.python_version()} | {n: v for n in PACKAGES if (v := version_of(n))}


def _call(panel: Panel, images: Sequence[str], suffix: str, alone: bool) -> str:
    """The Python that makes the figure again, once `image` (or `images`) is its photo, `boxes` what was detected
    and `masks` a list of those that it shows."""
    number = count()
    given = given_of({"maps": [{"facts": heat.facts, "settings": _public(heat.settings)} for heat in panel.heats]})
    names = {digest: "image" if len(images) == 1 else f"images[{n}]" for n, digest in enumerate(images)}

    def made(cell: Cell | None) -> str:
        if cell is None:
            return "None"
        if cell.masks is not None:
            return f"masks[{next(number)}]"
        photo = names[cell.digest]
        return photo if cell.heat is None else call_of(cell.heat, photo, given=given)

    path = repr("figure" + suffix)
    drawn = {**panel.options, **({"plain": True} if alone else {})}
    boxes = [] if panel.detections is None else [f"detections={'boxes' if len(panel.detections.labels) else ()}"]
    cells = [cell for row in panel.cells for cell in row]
    if len(cells) == 1:
        return f"heat = {made(cells[0])}\n{call('vislab.save', path, 'heat', *boxes, **drawn)}"
    rows = [[made(cell) for cell in row] for row in panel.cells]
    if panel.listed:
        heats = "[\n" + "".join(f"    {one},\n" for row in rows for one in row if one != "None") + "]"
    else:
        heats = "[\n" + "".join(f"    [{', '.join(row)}],\n" for row in rows) + "]"
    return f"heats = {heats}\n{call('vislab.save', path, call('vislab.panel', 'heats', *boxes, **drawn))}"


@cache  # looked up on the disk, for each of thousands of figures
def version_of(package: str) -> str | None:
    if package == "vislab":
        return str(import_module("vislab").__version__)
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def latex(name: str, panel: Panel, caption: str) -> str:
    """The lines that put a figure file into a LaTeX text, with its caption."""
    width = plan(panel).width
    load = "includesvg" if name.lower().endswith(".svg") else "includegraphics"  # of the packages svg and graphicx
    words = re.sub(r"[\\{}&%$#_~^]", _escaped, caption)
    label = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).stem).strip("-")
    return (
        "\\begin{figure}\n  \\centering\n"
        f"  \\{load}[width={width:g}mm]{{{name}}}\n"
        f"  \\caption{{{words}}}\n  \\label{{fig:{label}}}\n\\end{{figure}}\n"
    )


def _escaped(found: re.Match[str]) -> str:
    names = {"\\": "textbackslash", "~": "textasciitilde", "^": "textasciicircum"}
    return f"\\{names[found[0]]}{{}}" if found[0] in names else f"\\{found[0]}"
