"""Detectors that were loaded by name, kept for the next call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.cache import KEEPERS, Latest
from ..models.cache import saved
from ..models.device import module_bytes
from .detector import Detector
from .load import load_detector

DETECTORS: Latest[Detector] = Latest("detector", 2, lambda detector: module_bytes(detector.module))
KEEPERS.append(DETECTORS)


def detector_of(detector: str | Path | Detector | Any, trust: bool = False) -> Detector:
    """A detector by its name, loaded once; a Detector as it is; a Detector of a module or an ultralytics YOLO."""
    if isinstance(detector, str | Path):
        name = str(detector)
        return DETECTORS.once((name, trust, saved(name)), lambda: load_detector(name, trust=trust))
    return load_detector(detector)
