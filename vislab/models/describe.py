"""A module -> Model: its tokens, its labels and its shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from .model import Model
from .patch_size import patch_projection
from .preprocessing import Preprocessing, of_module, own_size

_PREFIX = ("cls_token", "class_token", "class_embedding", "distillation_token", "dist_token")
_CLS = _PREFIX[:3]
_REGISTERS = ("register_tokens", "reg_token")


def described(name: str, module: nn.Module, how: Preprocessing | None, labels: Sequence[str] | None = None) -> Model:
    """A Model of a module: what it does not say itself is read from its parts."""
    if family_of(module) in ("clip", "siglip"):  # the image tower alone
        module = module.get_submodule("vision_model")
    elif family_of(module) == "vit_mae":
        module = getattr(module, "vit", module)  # the decoder's layers are not the encoder's
        dropped: float = getattr(module.config, "mask_ratio", 0.0)
        if dropped > 0:
            raise ValueError(f"{name} drops {dropped:.0%} of its patches: set config.mask_ratio = 0 to keep all")
    kernel, size = patch_projection(module).kernel_size, own_size(module)
    prefix, suffix, cls = _tokens(module)
    config = getattr(module, "config", None)
    layers, heads, dim = _shape(module)
    return Model(
        name=name,
        module=module,
        family=family_of(module),
        own_size=size,
        preprocessing=how or of_module(module),
        patch=(int(kernel[0]), int(kernel[1])),
        prefix=prefix,
        suffix=suffix,
        cls=cls,
        labels=tuple(labels) if labels else _labels(module),
        layers=layers,
        heads=heads,
        dim=dim,
        biased=any(getattr(config, f"use_{which}relative_position_bias", False) for which in ("", "shared_")),
    )


def family_of(module: nn.Module) -> str:
    return str(getattr(getattr(module, "config", None), "model_type", ""))


def _tokens(module: nn.Module) -> tuple[int, int, bool]:
    """How many tokens stand before the patches and after them, and whether the first is CLS."""
    prefix = suffix = 0
    cls = False
    for path, parameter in module.named_parameters():
        leaf = path.rpartition(".")[2]
        cls = cls or leaf in _CLS
        if leaf in _PREFIX:
            prefix += 1
        elif leaf in _REGISTERS:
            prefix += parameter.shape[-2]
        elif leaf == "detection_tokens":
            suffix += parameter.shape[-2]
    return prefix, suffix, cls


def _labels(module: nn.Module) -> tuple[str, ...] | None:
    """The classes that a module of transformers names, where it has a classifier; DeiT with its teacher has two."""
    named = getattr(getattr(module, "config", None), "id2label", None)
    classifies = hasattr(module, "classifier") or hasattr(module, "cls_classifier")
    return tuple(named[i] for i in sorted(named)) if named and classifies else None


def _shape(module: nn.Module) -> tuple[int, int, int]:
    """(layers, heads, width) of transformers', timm's and torchvision's Vision Transformers."""
    config: Any = getattr(module, "config", None)
    if config is not None and hasattr(config, "num_hidden_layers"):
        return config.num_hidden_layers, config.num_attention_heads, config.hidden_size
    part: Any = module
    if hasattr(part, "blocks"):
        return len(part.blocks), part.blocks[0].attn.num_heads, part.embed_dim
    if hasattr(part, "encoder") and hasattr(part, "hidden_dim"):
        layers = part.encoder.layers
        return len(layers), layers[0].num_heads, part.hidden_dim
    raise ValueError(
        f"cannot tell layers and heads of {type(module).__name__}: load takes Vision Transformers of transformers, "
        "timm and torchvision; vislab.capture takes any module"
    )
