"""What somebody gives in place of a name: a module, or what holds one; and the image processor beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def given(model: Any) -> tuple[nn.Module, Any]:
    """The module of what was given, and the image processor that it brings, or None.

    Raises TypeError for what is no module and holds none, with what to do instead.
    """
    if isinstance(model, nn.Module):
        return getattr(model, "_orig_mod", model), None  # hooks and other patch sizes would compile it anew each time
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise TypeError(
            f"{model.__name__} is a class of modules, not a module: make one, with its weights, and give that"
        )
    if isinstance(model, Mapping) and model and all(isinstance(value, Tensor) for value in model.values()):
        raise TypeError(
            f"a state_dict of {len(model)} tensors is no model: make the module that they belong to, load them into it "
            "with module.load_state_dict(…), and give vislab.load the module"
        )
    held = getattr(model, "model", None)
    if not isinstance(held, nn.Module) and isinstance(model, Mapping):
        held = next((value for value in model.values() if isinstance(value, nn.Module)), None)
    if isinstance(held, nn.Module) and not isinstance(model, Mapping):
        processor = getattr(model, "image_processor", None) or getattr(model, "processor", None)
        return held, image_processor(processor)  # a pipeline of transformers
    inside = "; it holds a module: give that" if isinstance(held, nn.Module) else ""
    kind = "a checkpoint, a mapping" if isinstance(model, Mapping) else f"of type {type(model).__name__}"
    raise TypeError(
        f"load takes a name, a folder or a torch module, and this is {kind}{inside}. vislab.load('embedded') is a "
        "model to begin with"
    )


def image_processor(processor: Any) -> Any:
    """What prepares images in a processor, which may prepare words too; None where nothing does."""
    found = getattr(processor, "image_processor", processor)
    return found if hasattr(found, "size") and hasattr(found, "do_normalize") else None
