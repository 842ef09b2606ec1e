"""vislab: see where a Vision Transformer looks, exactly, on the source image.

Every public name is loaded with its module when it is first used, so that `import vislab` loads no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.ask import ask
    from .api.augmentation import Augmentation
    from .api.detect import detect
    from .api.explain import explain
    from .api.explain_box import explain_box
    from .api.explain_clip import explain_clip
    from .api.focus import Focus, focus
    from .api.reproduce import Reproduction, reproduce
    from .api.segment import segment
    from .api.token_map import token_map
    from .core.cache import Cache, cache
    from .core.clip import ClipFrame, frames
    from .core.costs import attention_flops, attention_memory
    from .core.features import FeatureMap
    from .core.geometry import Frame, Grid
    from .core.heatmap import Heatmap
    from .core.images import load_image, samples
    from .core.token_map import TokenMap
    from .detectors.detections import Detections
    from .detectors.detector import Detector
    from .detectors.export import Exported, export_detector
    from .detectors.glance import Glance
    from .detectors.load import load_detector
    from .detectors.points import Points
    from .engine.capture import Capture
    from .engine.hooks import capture
    from .engine.site import AttentionRefused
    from .evaluation.compare import Comparison, compare
    from .evaluation.drawn import Agreement, evaluate_masks
    from .evaluation.evaluate import evaluate
    from .evaluation.removal import Removal, patch_score, removal
    from .evaluation.report import Evaluation
    from .figures.diagram import Diagram, diagram
    from .figures.overlay import overlay
    from .figures.page import Panel
    from .figures.panel import panel
    from .figures.provenance import provenance
    from .figures.save import save
    from .lab.widget import Lab
    from .language.answer import Answer
    from .language.words import Word
    from .masks.files import load_masks
    from .masks.masks import Masks
    from .methods.heads import Survey, survey
    from .methods.lens import Lens, lens
    from .methods.tokens import patch_tokens
    from .models.load import load
    from .models.model import Model
    from .models.run import Run
    from .page.class_page import class_page
    from .spread.many import Tally, many

__version__ = "0.1.0"
__all__ = [
    "Agreement",
    "Answer",
    "AttentionRefused",
    "Augmentation",
    "Cache",
    "Capture",
    "ClipFrame",
    "Comparison",
    "Detections",
    "Detector",
    "Diagram",
    "Evaluation",
    "Exported",
    "FeatureMap",
    "Focus",
    "Frame",
    "Glance",
    "Grid",
    "Heatmap",
    "Lab",
    "Lens",
    "Masks",
    "Model",
    "Panel",
    "Points",
    "Removal",
    "Reproduction",
    "Run",
    "Survey",
    "Tally",
    "TokenMap",
    "Word",
    "ask",
    "attention_flops",
    "attention_memory",
    "cache",
    "capture",
    "class_page",
    "compare",
    "detect",
    "diagram",
    "evaluate",
    "evaluate_masks",
    "explain",
    "explain_box",
    "explain_clip",
    "export_detector",
    "focus",
    "frames",
    "lens",
    "load",
    "load_detector",
    "load_image",
    "load_masks",
    "many",
    "overlay",
    "panel",
    "patch_score",
    "patch_tokens",
    "provenance",
    "removal",
    "reproduce",
    "samples",
    "save",
    "segment",
    "survey",
    "token_map",
]

_HOME = {
    "Agreement": "evaluation.drawn",
    "Answer": "language.answer",
    "AttentionRefused": "engine.site",
    "Augmentation": "api.augmentation",
    "Cache": "core.cache",
    "Capture": "engine.capture",
    "ClipFrame": "core.clip",
    "Comparison": "evaluation.compare",
    "Detections": "detectors.detections",
    "Detector": "detectors.detector",
    "Diagram": "figures.diagram",
    "Evaluation": "evaluation.report",
    "Exported": "detectors.export",
    "FeatureMap": "core.features",
    "Focus": "api.focus",
    "Frame": "core.geometry",
    "Glance": "detectors.glance",
    "Grid": "core.geometry",
    "Heatmap": "core.heatmap",
    "Lab": "lab.widget",
    "Lens": "methods.lens",
    "Masks": "masks.masks",
    "Model": "models.model",
    "Panel": "figures.page",
    "Points": "detectors.points",
    "Removal": "evaluation.removal",
    "Reproduction": "api.reproduce",
    "Run": "models.run",
    "Survey": "methods.heads",
    "Tally": "spread.many",
    "TokenMap": "core.token_map",
    "Word": "language.words",
    "ask": "api.ask",
    "attention_flops": "core.costs",
    "attention_memory": "core.costs",
    "cache": "core.cache",
    "capture": "engine.hooks",
    "class_page": "page.class_page",
    "compare": "evaluation.compare",
    "detect": "api.detect",
    "diagram": "figures.diagram",
    "evaluate": "evaluation.evaluate",
    "evaluate_masks": "evaluation.drawn",
    "explain": "api.explain",
    "explain_box": "api.explain_box",
    "explain_clip": "api.explain_clip",
    "export_detector": "detectors.export",
    "focus": "api.focus",
    "frames": "core.clip",
    "lens": "methods.lens",
    "load": "models.load",
    "load_detector": "detectors.load",
    "load_image": "core.images",
    "load_masks": "masks.files",
    "many": "spread.many",
    "overlay": "figures.overlay",
    "panel": "figures.panel",
    "patch_score": "evaluation.removal",
    "patch_tokens": "methods.tokens",
    "provenance": "figures.provenance",
    "removal": "evaluation.removal",
    "reproduce": "api.reproduce",
    "samples": "core.images",
    "save": "figures.save",
    "segment": "api.segment",
    "survey": "methods.heads",
    "token_map": "api.token_map",
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
