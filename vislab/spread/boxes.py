"""What is asked of a detector about one of its boxes, on each photograph of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..figures.task import Task
from .errors import photo_errors
from .figures import Figures

if TYPE_CHECKING:
    from ..core.clip import ClipFrame
    from ..core.heatmap import Heatmap


@dataclass(frozen=True, eq=False)
class BoxFigures(Figures):
    """A question to one detector; each figure shows the box that was asked about.

    model: the detector's name. asked: keywords of `explain_box`. trust: as of `load_detector`.
    """

    trust: bool = False

    def loaded(self) -> Any:
        from ..detectors.load import load_detector

        return load_detector(self.model, trust=self.trust, device=self.device)

    def explained(self, ready: Any, image: np.ndarray | ClipFrame, *, name: str) -> Heatmap:
        from ..api.explain_box import explain_box

        with photo_errors(ValueError, IndexError, name=name):
            return explain_box(image, detector=ready, **self.asked)

    def predictions(self, ready: Any, image: np.ndarray, heat: Heatmap) -> list[tuple[str, float]]:
        """None: a detector says what it finds, box by box."""
        return []

    def task(self, path: Path, heat: Heatmap, notes: Mapping[str, Any]) -> Task:
        plain = super().task(path, heat, notes)
        return replace(plain, look={**plain.look, "detections": _found(heat)})


def _found(heat: Heatmap) -> SimpleNamespace:
    """The box that a map is of, to be drawn, and how it was found, for the record."""
    box = dict(heat.facts["box"])
    how = ("detector", "image_size", "attention_scale", "labels")
    usual = {"image_size": None, "attention_scale": 1.0}
    settings = {name: heat.settings[name] for name in how if heat.settings.get(name, None) != usual.get(name)}
    detected = {**settings, "confidence": box.pop("confidence"), "facts": {}}
    parts = {"labels": [box.pop("label")], "scores": np.array([box.pop("score")])}
    return SimpleNamespace(**parts, detected=detected, **{name: np.array([part]) for name, part in box.items()})
