"""vislab: see where a Vision Transformer looks, exactly, on the source image.

Every public name is loaded with its module when it is first used, so that `import vislab` loads no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compose import detect, explain
    from .detection import Detections
    from .detectors import Detector, load_detector
    from .evaluation import evaluate
    from .export import save
    from .geometry import Frame, Grid, Heatmap
    from .images import load_image, samples
    from .loading import load
    from .models import Model
    from .panels import panel
    from .records import provenance
    from .regions import Focus, focus
    from .render import overlay
    from .reproduction import reproduce
    from .scores import Evaluation
    from .sites import Capture
    from .watching import capture
    from .widgets import Lab

__version__ = "0.1.0"
__all__ = [
    "Capture",
    "Detections",
    "Detector",
    "Evaluation",
    "Focus",
    "Frame",
    "Grid",
    "Heatmap",
    "Lab",
    "Model",
    "capture",
    "detect",
    "evaluate",
    "explain",
    "focus",
    "load",
    "load_detector",
    "load_image",
    "overlay",
    "panel",
    "provenance",
    "reproduce",
    "samples",
    "save",
]

_HOME = {
    "Capture": "sites",
    "Detections": "detection",
    "Detector": "detectors",
    "Evaluation": "scores",
    "Focus": "regions",
    "Frame": "geometry",
    "Grid": "geometry",
    "Heatmap": "geometry",
    "Lab": "widgets",
    "Model": "models",
    "capture": "watching",
    "detect": "compose",
    "evaluate": "evaluation",
    "explain": "compose",
    "focus": "regions",
    "load": "loading",
    "load_detector": "detectors",
    "load_image": "images",
    "overlay": "render",
    "panel": "panels",
    "provenance": "records",
    "reproduce": "reproduction",
    "samples": "images",
    "save": "export",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"vislab has no {name!r}: it has {', '.join(__all__)}", name=name)
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
