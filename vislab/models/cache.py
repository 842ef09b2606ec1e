"""Models that were loaded by name, kept for the next call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.cache import KEEPERS, Latest
from .device import module_bytes
from .load import load
from .model import Model

MODELS: Latest[Model] = Latest("model", 2, lambda model: module_bytes(model.module))
KEEPERS.append(MODELS)


def model_of(model: str | Path | Model | Any) -> Model:
    """A model by its name, loaded once; a Model as it is; a Model of a module."""
    if isinstance(model, str | Path):
        return MODELS.once((str(model), saved(model)), lambda: load(str(model)))
    return model if isinstance(model, Model) else load(model)


def saved(name: str | Path) -> tuple[Path, int] | None:
    """Which weights a path names now: others may be saved there later. None for a name that is no path."""
    path = Path(name).expanduser().resolve()
    files = [*path.iterdir()] if path.is_dir() else [path] if path.is_file() else []
    return (path, max(file.stat().st_mtime_ns for file in files)) if files else None
