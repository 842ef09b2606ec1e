"""Models that were loaded by name, kept for the next call."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from .load import load
from .model import Model


@lru_cache(maxsize=2)
def _loaded(name: str, _saved: object) -> Model:
    return load(name)


_TURNS: dict[str, threading.RLock] = {}


def model_of(model: str | Path | Model | Any) -> Model:
    if isinstance(model, Model):
        return model
    if not isinstance(model, str | Path):
        return load(model)
    with turn(model):
        return _loaded(str(model), saved(model))


def turn(name: str | Path) -> threading.RLock:
    """Held while a name is loaded: who asks for it meanwhile is given the same."""
    return _TURNS.setdefault(str(name), threading.RLock())


def saved(name: str | Path) -> tuple[Path, int] | None:
    """Which weights a path names now: others may be saved there later. None for a name that is no path."""
    path = Path(name).expanduser().resolve()
    files = [*path.iterdir()] if path.is_dir() else [path] if path.is_file() else []
    return (path, max(file.stat().st_mtime_ns for file in files)) if files else None
