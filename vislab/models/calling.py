"""What of a module is run on an image, and what it takes beside the pixels."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_OF_IMAGES = ("vision_config", "image_config", "encoder")  # of a configuration: that of the part which sees


def core(module: nn.Module) -> nn.Module:
    """What a module runs that only hands on what it is given: of DataParallel, of adapters around a model."""
    while True:
        kinds = {p.kind for p in takes(module.forward).values()}
        children = [part for part in module.children() if next(part.parameters(), None) is not None]
        if inspect.Parameter.VAR_POSITIONAL not in kinds or len(children) != 1:
            return module
        (module,) = children


def family_of(module: nn.Module) -> str:
    """transformers' model type; "" for modules of other libraries."""
    return str(getattr(getattr(core(module), "config", None), "model_type", ""))


def image_part(module: nn.Module) -> nn.Module:
    """Of a module that also wants words, as CLIP or LLaVA, the part that sees; any other as it is."""
    inner = core(module)
    if not any(name.endswith("input_ids") for name in takes(inner.forward)):
        return module
    config = getattr(inner, "config", None)
    for said in (getattr(config, name, None) for name in _OF_IMAGES):
        for part in inner.modules():
            sees = next(iter(takes(part.forward)), "") == "pixel_values"
            if part is not inner and sees and said is not None and type(getattr(part, "config", None)) is type(said):
                return image_part(part)
    return module


def arguments(module: nn.Module, patches: int, *, interpolated: bool) -> dict[str, Any]:
    """What a module takes beside the pixels. interpolated: whether the grid is not the one that it was made for."""
    known = takes(core(module).forward)
    found: dict[str, Any] = {}
    if "interpolate_pos_encoding" in known:
        found["interpolate_pos_encoding"] = interpolated
    if "noise" in known:  # MAE shuffles its patches by it: in order, all of them
        device = next(module.parameters()).device
        found["noise"] = torch.arange(patches, device=device, dtype=torch.float32)[None]
    return found


def seeing(module: nn.Module) -> nn.Module:
    """A module as one that takes an image: those that take patches already cut (SigLIP2) with the cutting before."""
    config = getattr(core(module), "config", None)
    patch_size = getattr(getattr(config, "vision_config", config), "patch_size", None)
    if {"pixel_values", "spatial_shapes"} <= takes(core(module).forward).keys() and isinstance(patch_size, int):
        return OfPatches(module, patch_size)
    return module


class OfPatches(nn.Module):
    """A model that takes rows of patches, each (height, width, channels) in a line, as one that takes an image."""

    def __init__(self, model: nn.Module, patch_size: int) -> None:
        super().__init__()
        self.model, self.patch_size = model, patch_size
        self.train(model.training)

    @property
    def config(self) -> Any:
        return core(self.model).config

    def forward(self, pixels: Tensor) -> Any:
        """pixels: (batch, channels, height, width)."""
        p = self.patch_size
        batch, channels, height, width = pixels.shape
        rows, cols = height // p, width // p
        cut = pixels[..., : rows * p, : cols * p].unflatten(3, (cols, p)).unflatten(2, (rows, p))
        patches = cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * cols, p * p * channels)
        shapes = torch.tensor([[rows, cols]] * batch, device=pixels.device)
        mask = torch.ones(batch, rows * cols, dtype=torch.long, device=pixels.device)
        named = (
            "pixel_attention_mask" if "pixel_attention_mask" in takes(core(self.model).forward) else "attention_mask"
        )
        return self.model(pixel_values=patches, spatial_shapes=shapes, **{named: mask})


def takes(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function by name; none of one that does not tell."""
    plain = getattr(function, "__func__", None)  # of a method, which is bound anew whenever it is asked for
    if plain is None:
        return _parameters(function)
    if plain not in _TAKEN:
        _TAKEN[plain] = _parameters(function)
    return _TAKEN[plain]


_TAKEN: weakref.WeakKeyDictionary[Callable[..., Any], Mapping[str, inspect.Parameter]] = weakref.WeakKeyDictionary()


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
