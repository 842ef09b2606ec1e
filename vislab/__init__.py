"""vislab: see where a Vision Transformer looks, exactly, on the source image.

Every public name is loaded with its module when it is first used, so that `import vislab` loads no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.detect import detect
    from .api.explain import explain
    from .api.explain_box import explain_box
    from .api.focus import Focus, focus
    from .api.reproduce import reproduce
    from .core.geometry import Frame, Grid
    from .core.heatmap import Heatmap
    from .core.images import load_image, samples
    from .detectors.detections import Detections
    from .detectors.detector import Detector
    from .detectors.load import load_detector
    from .engine.capture import Capture
    from .engine.hooks import capture
    from .evaluation.evaluate import evaluate
    from .evaluation.report import Evaluation
    from .figures.overlay import overlay
    from .figures.panel import panel
    from .figures.provenance import provenance
    from .figures.save import save
    from .lab.widget import Lab
    from .models.load import load
    from .models.model import Model

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
    "explain_box",
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
    "Capture": "engine.capture",
    "Detections": "detectors.detections",
    "Detector": "detectors.detector",
    "Evaluation": "evaluation.report",
    "Focus": "api.focus",
    "Frame": "core.geometry",
    "Grid": "core.geometry",
    "Heatmap": "core.heatmap",
    "Lab": "lab.widget",
    "Model": "models.model",
    "capture": "engine.hooks",
    "detect": "api.detect",
    "evaluate": "evaluation.evaluate",
    "explain": "api.explain",
    "explain_box": "api.explain_box",
    "focus": "api.focus",
    "load": "models.load",
    "load_detector": "detectors.load",
    "load_image": "core.images",
    "overlay": "figures.overlay",
    "panel": "figures.panel",
    "provenance": "figures.provenance",
    "reproduce": "api.reproduce",
    "samples": "core.images",
    "save": "figures.save",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"vislab has no {name!r}: it has {', '.join(__all__)}", name=name)
    library = import_module(".core.imports", __name__).library  # threads take turns
    value = getattr(library(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
