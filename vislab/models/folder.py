"""A local folder -> Model: as transformers saves them, as timm does, or a reason why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..core.checks import first_line
from ..core.imports import LOADING
from .describe import described
from .hub import advice, of_transformers, timm_library
from .model import Model

_WEIGHTS = "model.safetensors"


def of_folder(name: str, folder: Path, processor: Any = None) -> Model:
    """A model from a folder with its configuration and weights.

    processor: the image processor, of a folder without one. Raises ValueError for a folder that is something else, with
    what it is; OSError for one whose files do not make a model.
    """
    names = sorted(path.name for path in folder.iterdir())
    if "adapter_config.json" in names:
        base = _json(folder / "adapter_config.json").get("base_model_name_or_path") or "the model it was trained on"
        raise ValueError(
            f"{name} holds a PEFT adapter, not a whole model: load its base ({base}), put the adapter on it with "
            "peft.PeftModel.from_pretrained(base, folder).merge_and_unload(), and give vislab.load that module"
        )
    if "config.json" not in names or not any(one.endswith(".safetensors") for one in names):
        held = ", ".join(names[:6]) or "nothing"
        raise ValueError(f"{name} needs config.json and model.safetensors (pickles are not opened); it holds {held}")
    config = _json(folder / "config.json")
    if "model_type" not in config and isinstance(config.get("architecture"), str):
        if processor is not None:
            raise ValueError(f"{name} was saved by timm and brings its own preprocessing: leave processor out")
        return _of_timm(name, folder, config)
    if "model_type" not in config and "architectures" not in config:
        said = ", ".join(list(config)[:4]) or "nothing"
        raise ValueError(
            f"the config.json of {name} is neither of transformers (model_type) nor of timm (architecture): it says "
            f"{said}. Make the module with the library that saved it, and give vislab.load that"
        )
    return of_transformers(name, str(folder), processor)


def _of_timm(name: str, folder: Path, config: dict[str, Any]) -> Model:
    """A folder that timm's save_for_hf wrote."""
    timm = timm_library(name)
    recipe = dict(config.get("pretrained_cfg") or {})
    recipe |= {key: config[key] for key in ("label_names", "label_descriptions", "num_classes") if key in config}
    arguments = dict(config.get("model_args") or {})
    arguments |= {"num_classes": config["num_classes"]} if "num_classes" in config else {}
    try:
        from safetensors.torch import load_file

        with LOADING:
            module = timm.create_model(
                config["architecture"], pretrained=False, pretrained_cfg_overlay=recipe, **arguments
            )
        weights = folder / _WEIGHTS if (folder / _WEIGHTS).is_file() else next(folder.glob("*.safetensors"))
        module.load_state_dict(load_file(weights))
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        raise OSError(
            f"cannot load {name!r}, saved by timm: {first_line(error)} {advice(name, 'vislab.load')}"
        ) from error
    module.pretrained_cfg |= recipe
    return described(name, module.eval(), None)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OSError(f"{path} cannot be read: {first_line(error)}") from error
    return content if isinstance(content, dict) else {}
