"""The Outline of a plain ViT from the files of its folder, for which no framework is needed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..core.files import assets
from .known import EMBEDDED
from .outline import Outline
from .processor import of_processor

# What both files must say. Where one leaves something to a default of transformers, only transformers knows it.
_CONFIG = ("architectures", "hidden_size", "id2label", "image_size", "num_attention_heads", "num_hidden_layers")
_PROCESSOR = ("do_normalize", "do_resize", "image_mean", "image_std", "resample", "size")


def outline_of(name: str) -> Outline | None:
    """The Outline of what comes with vislab, or of a folder, by the name that `load` takes."""
    folder = assets() / "models" / EMBEDDED[name] if name in EMBEDDED else Path(name).expanduser()
    return outline(name, folder)


def outline(name: str, folder: Path) -> Outline | None:
    """What config.json and preprocessor_config.json say of a ViT that classifies; None where they alone do not tell.

    It has one token before its patches, CLS, and none after them.
    """
    config, processor = (_said(folder / f"{kind}.json") for kind in ("config", "preprocessor_config"))
    plain = config.get("model_type") == "vit" and config.get("architectures") == ["ViTForImageClassification"]
    plain = plain and str(processor.get("image_processor_type")).startswith("ViTImageProcessor")
    if not (plain and config.keys() >= {*_CONFIG, "patch_size"} and processor.keys() >= {*_PROCESSOR}):
        return None
    usual = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_center_crop": False}
    if any(abs(processor.get(name, value) - value) > 1e-6 for name, value in usual.items()):
        return None  # what that makes of a picture is found by running it
    if config.get("problem_type") not in (None, "single_label_classification") or len(config["id2label"]) < 2:
        return None  # what it returns are not classes of which one is right
    side, patch = config["image_size"], config["patch_size"]
    if not (isinstance(side, int) and isinstance(patch, int)):
        return None
    how = of_processor(SimpleNamespace(**processor), lambda: (side, side))
    labels = tuple(config["id2label"][index] for index in sorted(config["id2label"], key=int))
    shape = config["num_hidden_layers"], config["num_attention_heads"], config["hidden_size"]
    return Outline(name, "vit", (side, side), how, (patch, patch), 1, 0, True, labels, *shape, biased=False)


def _said(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
