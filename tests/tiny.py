"""Tiny Vision Transformers of every family, and a fingerprint of all that vislab must leave as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torchvision
import transformers as hf
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

SIZE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
VIT: dict[str, Any] = SIZE | {"image_size": 32, "patch_size": 8}
DINO: dict[str, Any] = {k: v for k, v in VIT.items() if k != "intermediate_size"}
TEXT: dict[str, Any] = SIZE | {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
MAE: dict[str, Any] = {
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 32,
}


@dataclass(frozen=True)
class Family:
    """A tiny model with what `load` must find out: prefix and suffix tokens, and whether the first is CLS."""

    make: Callable[[], nn.Module]
    prefix: int = 1
    suffix: int = 0
    cls: bool = True


FAMILIES = {
    "ViT": Family(lambda: hf.ViTModel(hf.ViTConfig(**VIT))),
    "ViT classifier": Family(lambda: hf.ViTForImageClassification(hf.ViTConfig(**VIT, num_labels=5))),
    "DeiT": Family(lambda: hf.DeiTModel(hf.DeiTConfig(**VIT)), prefix=2),
    "DeiT with teacher": Family(
        lambda: hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(**VIT, num_labels=5)), prefix=2
    ),
    "MSN": Family(lambda: hf.ViTMSNModel(hf.ViTMSNConfig(**VIT))),
    "MAE": Family(lambda: hf.ViTMAEModel(hf.ViTMAEConfig(**VIT, mask_ratio=0.0))),
    "MAE with decoder": Family(lambda: hf.ViTMAEForPreTraining(hf.ViTMAEConfig(**VIT, **MAE, mask_ratio=0.0))),
    "DINOv2": Family(lambda: hf.Dinov2Model(hf.Dinov2Config(**DINO))),
    "DINOv2 with registers": Family(
        lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**DINO, num_register_tokens=3)), prefix=4
    ),
    "DINOv3": Family(lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**VIT, num_register_tokens=2)), prefix=3),
    "CLIP vision": Family(lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**VIT))),
    "CLIP": Family(lambda: hf.CLIPModel(hf.CLIPConfig(vision_config=VIT, text_config=TEXT))),
    "CLIP's tower": Family(lambda: hf.CLIPModel(hf.CLIPConfig(vision_config=VIT, text_config=TEXT)).vision_model),
    "SigLIP vision": Family(lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**VIT)), prefix=0, cls=False),
    "SigLIP": Family(lambda: hf.SiglipModel(hf.SiglipConfig(vision_config=VIT, text_config=TEXT)), prefix=0, cls=False),
    "SigLIP without head": Family(
        lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**VIT, vision_use_head=False)), prefix=0, cls=False
    ),
    "BEiT": Family(lambda: hf.BeitModel(hf.BeitConfig(**VIT, use_relative_position_bias=True))),
    "BEiT, shared bias": Family(lambda: hf.BeitModel(hf.BeitConfig(**VIT, use_shared_relative_position_bias=True))),
    "BEiT, positions": Family(lambda: hf.BeitModel(hf.BeitConfig(**VIT, use_absolute_position_embeddings=True))),
    "data2vec": Family(lambda: hf.Data2VecVisionModel(hf.Data2VecVisionConfig(**VIT, use_relative_position_bias=True))),
    "YOLOS": Family(
        lambda: hf.YolosModel(hf.YolosConfig(**VIT | {"image_size": [32, 48]}, num_detection_tokens=5)), suffix=5
    ),
    "YOLOS detector": Family(
        lambda: hf.YolosForObjectDetection(hf.YolosConfig(**VIT | {"image_size": [32, 48]}, num_detection_tokens=5)),
        suffix=5,
    ),
    "DPT": Family(lambda: hf.DPTModel(hf.DPTConfig(**VIT, backbone_out_indices=[0, 0, 1, 1]))),
    "torchvision": Family(lambda: torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 48)),
    "timm": Family(lambda: VisionTransformer(32, 8, embed_dim=32, depth=2, num_heads=4)),
    "timm, average of patches": Family(
        lambda: VisionTransformer(
            32, 8, embed_dim=32, depth=2, num_heads=4, class_token=False, reg_tokens=3, global_pool="avg"
        ),
        prefix=3,
        cls=False,
    ),
    "timm, pooling head": Family(
        lambda: VisionTransformer(32, 8, embed_dim=32, depth=2, num_heads=4, class_token=False, global_pool="map"),
        prefix=0,
        cls=False,
    ),
    "timm EVA": Family(lambda: Eva(32, 8, embed_dim=32, depth=2, num_heads=4, use_rot_pos_emb=True)),
    "timm DINOv3": Family(
        lambda: timm.create_model("vit_small_patch16_dinov3", embed_dim=64, num_heads=2, depth=2, img_size=64), prefix=5
    ),
}

ANY_SIZE = ("YOLOS", "timm DINOv3")  # of the image, by their own code, though not any patch size


def make(family: str) -> nn.Module:
    """A model of a family whose attention is far from uniform, with the same weights each time."""
    torch.manual_seed(0)
    return roughened(FAMILIES[family].make())


def roughened(module: nn.Module) -> nn.Module:
    """The module with large random weights."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                width = parameter[0].numel() if parameter.shape[0] > 1 else 16
                parameter.copy_(torch.randn_like(parameter) * 1.5 * width**-0.5)
    return module


def fingerprint(module: nn.Module) -> list[Any]:
    """All that may not change: weights and their identity, modes, hooks, wrappers, records of sizes, configuration."""
    found: list[Any] = [torch.is_grad_enabled(), torch.is_inference_mode_enabled()]
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        values = tensor.detach().flatten().view(torch.uint8).numpy().tobytes() if tensor.ndim else tensor.item()
        found.append((name, id(tensor), tensor.requires_grad, values))
    for name, part in module.named_modules():
        hooks = [len(h) for key, h in sorted(vars(part).items()) if key.endswith("_hooks") and isinstance(h, dict)]
        sizes = [getattr(part, key, None) for key in ("patch_size", "kernel_size", "stride", "image_size")]
        found.append((name, part.training, hooks, "forward" in vars(part), str(sizes)))
    config = getattr(module, "config", None)
    found.append(None if config is None else config.to_dict())
    return found
