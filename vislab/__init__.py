"""vislab: see where a Vision Transformer looks, exactly, on the source image.

Every public name is loaded with its module when it is first used, so that `import vislab` loads no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compose import explain
    from .export import provenance, save
    from .geometry import Frame, Grid, Heatmap
    from .images import load_image, samples
    from .models import Model, load
    from .render import overlay
    from .sites import Capture
    from .watching import capture
    from .widgets import Lab

__version__ = "0.1.0"
__all__ = [
    "Capture",
    "Frame",
    "Grid",
    "Heatmap",
    "Lab",
    "Model",
    "capture",
    "explain",
    "load",
    "load_image",
    "overlay",
    "provenance",
    "samples",
    "save",
]

_HOME = {
    "Capture": "sites",
    "Frame": "geometry",
    "Grid": "geometry",
    "Heatmap": "geometry",
    "Lab": "widgets",
    "Model": "models",
    "capture": "watching",
    "explain": "compose",
    "load": "models",
    "load_image": "images",
    "overlay": "render",
    "provenance": "export",
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
