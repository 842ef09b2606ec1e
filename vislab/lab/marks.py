"""What a lab's segmenter is shown: points and boxes, refused in words where they are impossible."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from ..api.segment import detector_for
from ..core.checks import shown
from ..detectors.detector import Detector
from ..masks.networks import Segmenter, segmenter_of
from ..masks.promptable import Promptable, promptable_of
from ..masks.prompts import corners, pairs
from ..methods.registry import METHODS
from ..models.cache import model_of
from ..models.load import load
from ..models.model import Model
from .values import in_words, named

MARKS = ("points", "outside", "boxes")  # the settings of one object, as `segment` has them
Ready = Promptable | Segmenter | Detector | Model


def segmenter_ready(given: Any) -> Ready:
    """What makes masks, by its name, as an object, or as (module, processor). Raises what `segment` does."""
    if isinstance(given, Ready):
        return given
    model, processor = given if isinstance(given, tuple) else (given, None)
    found = detector_for(model) or promptable_of(model, processor) or segmenter_of(model, processor)
    return found or (model_of(model) if processor is None else load(model, processor=processor))


def no_map(model: Model, method: str) -> str:
    """What is said of a segmentation network that a lab was given as its model, where it has no map by a method."""
    return (
        f"{model.name} makes masks, and no map by the method “{METHODS[method].label}”; its masks are drawn where it "
        "is the lab's segmenter: vislab.Lab(image, segmenter=(module, processor))"
    )


class Marked(traitlets.HasTraits):
    """The settings of a lab that are about masks: who makes them, what it is shown, and whether they are drawn."""

    segmenter = traitlets.Any(None, allow_none=True).tag(sync=True, to_json=named)
    points = traitlets.Any(None, allow_none=True).tag(sync=True)
    outside = traitlets.Any(None, allow_none=True).tag(sync=True)
    boxes = traitlets.Any(None, allow_none=True).tag(sync=True)
    masked = traitlets.Bool(True).tag(sync=True)

    _pixels: np.ndarray  # of the image
    if TYPE_CHECKING:  # the settings' own

        def _lies_here(self, name: str) -> None: ...

    @traitlets.validate("segmenter")
    def _segmenter_is_one(self, proposal: Any) -> Any:
        value = proposal["value"]
        if value is None or isinstance(value, str | Path):
            return value
        if isinstance(value, list | tuple) and len(value) != 2:
            raise traitlets.TraitError(
                f"segmenter is what vislab.segment takes as model, or (module, processor), not {shown(value)}"
            )
        try:
            return segmenter_ready(tuple(value) if isinstance(value, list) else value)
        except (ValueError, TypeError, OSError) as error:
            own = "segmenter=(module, processor),"
            raise traitlets.TraitError(str(error).replace("vislab.segment processor=…,", own)) from error

    @traitlets.validate(*MARKS)
    def _marks_lie_in_the_image(self, proposal: Any) -> Any:
        name, size = proposal["trait"].name, (self._pixels.shape[0], self._pixels.shape[1])
        with in_words():
            value = proposal["value"]
            found = corners(value, size)[0] if name == "boxes" else pairs(name, value, size)
        self._lies_here(name)
        return [list(one) for one in found] or None  # as JSON brings it back
