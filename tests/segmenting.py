"""Tiny segmentation networks with random weights, and what shows them pictures."""

from __future__ import annotations

from typing import Any

import torch
import torchvision
import transformers as hf
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.fcn import FCN, FCNHead
from torchvision.transforms._presets import SemanticSegmentation

SIDE = {"size": {"height": 64, "width": 64}}


def segformer() -> nn.Module:
    small = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
    config = hf.SegformerConfig(**small, decoder_hidden_size=16, num_labels=6, id2label={i: f"c{i}" for i in range(6)})
    module = hf.SegformerForSemanticSegmentation(config).eval()
    with torch.no_grad():
        module.decode_head.classifier.weight.normal_(std=2)
    return module


def mask2former() -> nn.Module:
    torch.manual_seed(1)  # of these weights, queries win regions of each kind
    backbone = hf.SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, image_size=64, window_size=4)
    backbone.out_features = ["stage1", "stage2", "stage3", "stage4"]
    small = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16}
    small |= {"dim_feedforward": 16, "num_queries": 8, "encoder_layers": 1, "decoder_layers": 2}
    small |= {"num_attention_heads": 2, "num_labels": 5}
    module = hf.Mask2FormerForUniversalSegmentation(hf.Mask2FormerConfig(backbone_config=backbone, **small)).eval()
    with torch.no_grad():
        module.class_predictor.weight.normal_(std=3)
    return module


def fcn() -> nn.Module:
    torch.manual_seed(0)
    seen = IntermediateLayerGetter(torchvision.models.resnet18(weights=None), {"layer2": "out"})
    return FCN(seen, FCNHead(128, 6)).eval()


def networks() -> dict[str, tuple[nn.Module, Any]]:
    """One of each way to make masks: of classes by attention and by convolutions, and of queries."""
    return {
        "SegFormer": (segformer(), hf.SegformerImageProcessor(**SIDE)),
        "FCN": (fcn(), SemanticSegmentation(resize_size=64)),
        "Mask2Former": (mask2former(), hf.Mask2FormerImageProcessor(**SIDE)),
    }
