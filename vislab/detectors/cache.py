"""Detectors that were loaded by name, kept for the next call."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from ..models.cache import saved, turn
from .detector import Detector
from .load import load_detector


@lru_cache(maxsize=2)
def _loaded_detector(name: str, trust: bool, _saved: object) -> Detector:
    return load_detector(name, trust=trust)


def detector_of(detector: str | Path | Detector | Any, trust: bool = False) -> Detector:
    if isinstance(detector, str | Path):
        with turn(detector):
            return _loaded_detector(str(detector), trust, saved(detector))
    return load_detector(detector)
