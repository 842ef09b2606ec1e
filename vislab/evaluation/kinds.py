"""The kinds of models that are compared: what each is asked of a photograph, and what it says in a line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ..api.ask import ask
from ..api.detect import detect
from ..api.segment import detector_for, segment
from ..detectors.cache import detector_of
from ..detectors.detector import Detector
from ..engine.hooks import capture
from ..language.reader import reader_of
from ..masks.masks import Masks
from ..masks.networks import Segmenter, segmenter_of
from ..models.cache import model_of
from ..models.model import Model

_TOLD = 3  # boxes, classes or regions in a line


@dataclass(frozen=True)
class Look:
    """What one model made of one photograph. found: whether it found anything. tokens: None where it has none."""

    says: str
    found: bool
    tokens: int | None


@dataclass(frozen=True, eq=False)
class Contender:
    """A model of a kind, ready to look. look: (H, W, 3) uint8 -> Look."""

    kind: str
    name: str
    module: nn.Module
    look: Callable[[np.ndarray], Look]


def contender(kind: str, given: Any, question: str) -> Contender:
    """kind: of `KINDS`. given: what `detect`, `explain`, `segment` or `ask` takes as its model."""
    makers: dict[str, Callable[[Any, str], Contender]] = {
        "detector": _detector,
        "model": _model,
        "segmenter": _segmenter,
        "reader": _reader,
    }
    return makers[kind](given, question)


def _detector(given: Any, question: str) -> Contender:
    ready = detector_of(given)

    def look(image: np.ndarray) -> Look:
        boxes = detect(image, detector=ready)
        count = sum(grid.patches for grid in boxes.levels) or _queries(ready)
        told = [f"{label} {score:.2f}" for label, score in zip(boxes.labels, boxes.scores, strict=True)]
        return Look(_listed(f"{len(boxes)} box{'es' * (len(boxes) != 1)}", told), len(boxes) > 0, count)

    return Contender("detector", ready.name, ready.module, look)


def _queries(ready: Detector) -> int | None:
    """How many queries make the boxes of a detector without cells; None where nothing says it."""
    config, head = getattr(ready.module, "config", None), ready.family.head
    for place, name in ((config, "num_queries"), (config, "num_detection_tokens"), (head, "num_queries")):
        if isinstance(count := getattr(place, name, None), int):
            return count
    return None


def _model(given: Any, question: str) -> Contender:
    ready = model_of(given)
    tokens = ready.grid().tokens if ready.attends else None

    def look(image: np.ndarray) -> Look:
        if ready.classes is None:
            ready.run(image)
            return Look("no classes", False, tokens)
        told = [f"{label} {score:.2f}" for label, score in ready.predict(image, top=_TOLD)]
        return Look(", ".join(told), True, tokens)

    return Contender("model", ready.name, ready.module, look)


def _segmenter(given: Any, question: str) -> Contender:
    ready: Detector | Segmenter | Model = detector_for(given) or segmenter_of(given) or model_of(given)
    counted: list[int | None] = []

    def look(image: np.ndarray) -> Look:
        masks: Masks = segment(image, model=ready)
        if not counted:
            counted.append(_attending(ready, image))
        told = [f"{label} {part:.0%}" for label, part in zip(masks.labels, masks.masks.mean((1, 2)), strict=True)]
        says = _listed(f"{len(masks)} region{'s' * (len(masks) != 1)} by {masks.method}", told)
        return Look(says, len(masks) > 0, counted[0])

    return Contender("segmenter", ready.name, ready.module, look)


def _attending(ready: Detector | Segmenter | Model, image: np.ndarray) -> int | None:
    """The most tokens that attend in one place of a segmenter, or the cells of a detector; None of one without."""
    if isinstance(ready, Detector):
        return sum(grid.patches for grid in ready.family.levels(ready.glance(image).frame))
    if isinstance(ready, Model):
        return ready.grid().tokens if ready.attends else None
    with capture(ready.module) as cap:
        segment(image, model=ready)
    return max((site.queries for site in cap.sites.values() if site.refused is None), default=None)


def _reader(given: Any, question: str) -> Contender:
    ready = reader_of(given)

    def look(image: np.ndarray) -> Look:
        answer = ask(image, question, model=ready)
        return Look(answer.text, True, int(answer.inputs["input_ids"].shape[1]))

    return Contender("reader", ready.name, ready.module, look)


def _listed(count: str, told: list[str]) -> str:
    more = "" if len(told) <= _TOLD else ", …"
    return f"{count}: {', '.join(told[:_TOLD])}{more}" if told else count
