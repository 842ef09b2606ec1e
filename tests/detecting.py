"""Networks of every kind of detector, small, random and alive: their boxes, and their attention, differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from PIL import Image
from torch import nn
from ultralytics import RTDETR, YOLO

PHOTO = np.random.default_rng(0).integers(0, 256, (9, 15, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)  # 72 × 120 px

SMALL: dict[str, Any] = {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "decoder_layers": 2}
SMALL |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_labels": 5}
STAGES: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}


def yolo(name: str) -> YOLO:
    """An ultralytics detector of random weights: "yolo12n", "yolov8n", …"""
    torch.manual_seed(0)
    made = YOLO(f"{name}.yaml")
    if name.startswith("yoloe"):
        made.set_classes(["here", "there", "nowhere"], torch.randn(1, 3, made.model.model[-1].embed))
    settle(made.model)
    return made


def settle(network: nn.Module) -> None:
    """Batch norm takes its statistics from noise like PHOTO's, so that signals reach the last layers."""
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.3)
        network.train()
        network(nn.functional.interpolate(torch.rand(8, 3, 16, 20), scale_factor=8))
        network.eval()
        head = network.model[-1]
        for contrast in getattr(head, "cv4", []):  # of YOLOE: classes are vectors that it compares with
            if hasattr(contrast, "logit_scale"):
                contrast.bias.fill_(-2)
                contrast.logit_scale.fill_(1)
        for classifier in [*head.cv3, *getattr(head, "one2one_cv3", [])]:
            classifier[-1].weight.normal_(0, 3 * classifier[-1].in_channels ** -0.5)
            classifier[-1].bias.fill_(-2)


def rtdetr() -> RTDETR:
    torch.manual_seed(0)
    made = RTDETR("rtdetr-l.yaml")
    with torch.no_grad():
        for name, parameter in made.model.named_parameters():
            if "dec_score_head" in name and name.endswith("bias"):
                parameter.fill_(-1)
    made.model.eval()
    return made


def detr(**settings: Any) -> nn.Module:
    torch.manual_seed(0)
    backbone = hf.ResNetConfig(**STAGES, out_features=["stage4"])
    config = hf.DetrConfig(backbone_config=backbone, encoder_layers=2, num_queries=7, **SMALL, **settings)
    return roughened(hf.DetrForObjectDetection(config))


def hf_rtdetr(version: str = "") -> nn.Module:
    """version: "" or "V2"."""
    torch.manual_seed(0)
    backbone = hf.RTDetrResNetConfig(**STAGES, layer_type="basic", out_features=["stage2", "stage3", "stage4"])
    sizes: dict[str, Any] = {"encoder_in_channels": [8, 16, 16], "decoder_in_channels": [32] * 3}
    config = getattr(hf, f"RTDetr{version}Config")(
        backbone_config=backbone, encoder_hidden_dim=32, num_queries=9, anchor_image_size=None, **sizes, **SMALL
    )
    return roughened(getattr(hf, f"RTDetr{version}ForObjectDetection")(config))


def yolos(**settings: Any) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = hf.YolosConfig(
        **sizes, image_size=[32, 48], patch_size=8, num_detection_tokens=5, num_labels=5, **settings
    )
    return roughened(hf.YolosForObjectDetection(config))


def roughened(module: nn.Module) -> nn.Module:
    """The network with linear layers so large that queries, and scores, differ."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Linear):
                part.weight.copy_(torch.randn_like(part.weight) * 1.5 * part.in_features**-0.5)
    return module.eval()


def folder_of(path: Path) -> Path:
    """A folder with a detector of one's own, mine.pt, and a photograph, photo.png -> it."""
    torch.save({"model": yolo("yolo12n").model}, path / "mine.pt")
    Image.fromarray(PHOTO).save(path / "photo.png")
    return path
