"""Tiny models of every family, attention far from uniform, each with an independent account of its own attention.

The account is what the model's own unfused code computes: transformers by eager attention, timm without fused
attention, torch's nn.MultiheadAttention by the weights it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torchvision
import transformers as hf
from tiny import DINO, SIZE, TEXT, VIT, roughened
from torch import Tensor, nn

Inputs = dict[str, Any]
BATCH = 2


@dataclass(frozen=True)
class Family:
    """A model, its input, and its own attention by unfused code.

    make: whether unfused -> the model. attention: (unfused model, inputs) -> (batch, heads, queries, keys) a site.
    tokens: at each site; sites are all that execute, in that order.
    """

    make: Callable[[bool], nn.Module]
    inputs: Callable[[], Inputs]
    attention: Callable[[nn.Module, Inputs], list[Tensor]]
    tokens: int

    def model(self, *, unfused: bool = False) -> nn.Module:
        torch.manual_seed(0)
        return roughened(self.make(unfused)).eval()


def pixels(height: int = 32, width: int = 32, **more: Any) -> Callable[[], Inputs]:
    return lambda: {"pixel_values": image(height, width), **more}


def image(height: int = 32, width: int = 32) -> Tensor:
    return torch.randn(BATCH, 3, height, width, generator=torch.Generator().manual_seed(1))


def transformer(model: type, config: type, inputs: Callable[[], Inputs], tokens: int, **settings: Any) -> Family:
    def make(unfused: bool) -> nn.Module:
        return model(config(**settings, attn_implementation="eager" if unfused else "sdpa"))

    return Family(make, inputs, reported, tokens)


def reported(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """What a transformers model reports of itself, and its pooling head where that attends."""
    with torch.no_grad():
        return [*model(**inputs, output_attentions=True).attentions, *multi_head(model, inputs)]


def multi_head(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """The weights that nn.MultiheadAttention returns when asked for them by head."""
    found: list[Tensor] = []

    def ask(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return args, kwargs | {"need_weights": True, "average_attn_weights": False}

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        found.append(output[1])

    parts = [part for part in model.modules() if isinstance(part, nn.MultiheadAttention)]
    for part in parts:
        part.register_forward_pre_hook(ask, with_kwargs=True)
        part.register_forward_hook(keep)
    if parts:
        with torch.no_grad():
            model(**inputs)
    return found


def before_dropout(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """What timm's modules hand to the dropout of their attention."""
    found: list[Tensor] = []
    for part in model.modules():
        if hasattr(part, "attn_drop"):
            part.attn_drop.register_forward_hook(lambda module, args, output: found.append(output))
    with torch.no_grad():
        model(**inputs)
    return found


def timm_family(make: Callable[[Any], nn.Module], tokens: int, height: int = 32, width: int = 32) -> Family:
    def build(unfused: bool) -> nn.Module:
        with fused(not unfused):
            return make(pytest.importorskip("timm"))

    return Family(build, lambda: {"x": image(height, width)}, before_dropout, tokens)


@contextmanager
def fused(enable: bool) -> Iterator[None]:
    layers = pytest.importorskip("timm.layers")
    try:
        layers.set_fused_attn(enable)
        yield
    finally:
        layers.set_fused_attn(True)


def timm_vit(timm: Any, **settings: Any) -> nn.Module:
    return timm.models.VisionTransformer(**TIMM | settings)


def sentences() -> Inputs:
    """Two sentences, the second one shorter."""
    ids = torch.randint(3, 50, (BATCH, 7), generator=torch.Generator().manual_seed(2))
    ids[0, -1] = ids[1, 4] = TEXT["eos_token_id"]
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def padded_patches() -> Inputs:
    """Two images of 3×5 and 2×4 patches in 16 places."""
    mask = torch.zeros(BATCH, 16, dtype=torch.long)
    mask[0, :15] = mask[1, :8] = 1
    patches = torch.randn(BATCH, 16, 3 * 8 * 8, generator=torch.Generator().manual_seed(3))
    return {"pixel_values": patches, "pixel_attention_mask": mask, "spatial_shapes": torch.tensor([[3, 5], [2, 4]])}


NOISE = torch.rand(BATCH, 16, generator=torch.Generator().manual_seed(4))
BIAS = {"use_relative_position_bias": True}
SHARED = {"use_shared_relative_position_bias": True}
STRETCHED = {"interpolate_pos_encoding": True}
YOLOS: dict[str, Any] = VIT | {"image_size": [32, 48], "num_detection_tokens": 5}
SIGLIP2: dict[str, Any] = SIZE | {"patch_size": 8, "num_patches": 16}
TIMM: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}
DINOV3: dict[str, Any] = {"embed_dim": 64, "num_heads": 2, "depth": 2, "img_size": 64}

FAMILIES = {
    "ViT": transformer(hf.ViTModel, hf.ViTConfig, pixels(), 17, **VIT),
    "ViT, non-square": transformer(hf.ViTModel, hf.ViTConfig, pixels(24, 40, **STRETCHED), 16, **VIT),
    "ViT, classifier": transformer(hf.ViTForImageClassification, hf.ViTConfig, pixels(), 17, **VIT),
    "DeiT": transformer(hf.DeiTModel, hf.DeiTConfig, pixels(), 18, **VIT),
    "DeiT, distilled, non-square": transformer(
        hf.DeiTForImageClassificationWithTeacher, hf.DeiTConfig, pixels(24, 40, **STRETCHED), 17, **VIT
    ),
    "MSN": transformer(hf.ViTMSNModel, hf.ViTMSNConfig, pixels(), 17, **VIT),
    "MAE": transformer(hf.ViTMAEModel, hf.ViTMAEConfig, pixels(noise=NOISE), 5, **VIT, mask_ratio=0.75),
    "DINOv2": transformer(hf.Dinov2Model, hf.Dinov2Config, pixels(24, 40), 16, **DINO),
    "DINOv2 with registers": transformer(
        hf.Dinov2WithRegistersModel, hf.Dinov2WithRegistersConfig, pixels(), 20, **DINO, num_register_tokens=3
    ),
    "DINOv3": transformer(hf.DINOv3ViTModel, hf.DINOv3ViTConfig, pixels(24, 40), 18, **VIT, num_register_tokens=2),
    "CLIP, vision": transformer(hf.CLIPVisionModel, hf.CLIPVisionConfig, pixels(), 17, **VIT),
    "CLIP, text": transformer(hf.CLIPTextModel, hf.CLIPTextConfig, sentences, 7, **TEXT),
    "SigLIP, vision": transformer(hf.SiglipVisionModel, hf.SiglipVisionConfig, pixels(24, 40, **STRETCHED), 15, **VIT),
    "SigLIP, text": transformer(hf.SiglipTextModel, hf.SiglipTextConfig, sentences, 7, **TEXT),
    "SigLIP2, vision": transformer(hf.Siglip2VisionModel, hf.Siglip2VisionConfig, padded_patches, 16, **SIGLIP2),
    "BEiT, bias": transformer(hf.BeitModel, hf.BeitConfig, pixels(), 17, **VIT, **BIAS),
    "BEiT, bias, non-square": transformer(hf.BeitModel, hf.BeitConfig, pixels(24, 40), 16, **VIT, **BIAS),
    "BEiT, shared bias": transformer(hf.BeitModel, hf.BeitConfig, pixels(), 17, **VIT, **SHARED),
    "data2vec, bias": transformer(hf.Data2VecVisionModel, hf.Data2VecVisionConfig, pixels(), 17, **VIT, **BIAS),
    "data2vec, shared bias": transformer(
        hf.Data2VecVisionModel, hf.Data2VecVisionConfig, pixels(), 17, **VIT, **SHARED
    ),
    "YOLOS": transformer(hf.YolosModel, hf.YolosConfig, pixels(32, 48), 30, **YOLOS),
    "DPT": transformer(hf.DPTModel, hf.DPTConfig, pixels(), 17, **VIT, backbone_out_indices=[0, 0, 1, 1]),
    "torchvision": Family(
        lambda unfused: torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 48),
        lambda: {"x": image()},
        multi_head,
        17,
    ),
    "timm": timm_family(timm_vit, 17),
    "timm, normalised": timm_family(lambda timm: timm_vit(timm, qk_norm=True), 17),
    "timm, registers": timm_family(lambda timm: timm_vit(timm, reg_tokens=3, class_token=False, global_pool="avg"), 19),
    "timm, non-square": timm_family(lambda timm: timm_vit(timm, img_size=(24, 40)), 16, 24, 40),
    "timm, EVA-02": timm_family(
        lambda timm: timm.models.eva.Eva(**TIMM, use_rot_pos_emb=True, qkv_fused=False, swiglu_mlp=True), 17
    ),
    "timm, DINOv3": timm_family(lambda timm: timm.create_model("vit_small_patch16_dinov3", **DINOV3), 21, 64, 64),
}
