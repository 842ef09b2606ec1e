"""SAM, SAM-HQ and SAM2 in small, with random weights: (module, processor) each."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from torch import nn


def decided(module: nn.Module) -> nn.Module:
    """Random weights whose logits differ from place to place and from prompt to prompt."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim > 1 or "no_mem" in name:
                weight.normal_(std=weight[0].numel() ** -0.5 * 1.5 if weight.ndim > 1 else 0.3)
    return module.eval()


def sam(kind: str = "Sam") -> tuple[nn.Module, Any]:
    vision = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32}
    vision |= {"image_size": 64, "patch_size": 8, "num_pos_feats": 8, "global_attn_indexes": [1], "window_size": 4}
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4}
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    decoder |= {"vit_dim": 16} if kind == "SamHQ" else {}
    config = getattr(hf, f"{kind}Config")(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
    )
    pad = {"pad_size": {"height": 64, "width": 64}}
    return decided(getattr(hf, f"{kind}Model")(config)), getattr(hf, f"{kind}Processor")(
        hf.SamImageProcessor(size={"longest_edge": 64}, **pad)
    )


def sam2() -> tuple[nn.Module, Any]:
    backbone = hf.Sam2HieraDetConfig(
        hidden_size=8, image_size=[64, 64], embed_dim_per_stage=[8, 16, 32, 64], blocks_per_stage=[1, 1, 2, 1],
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[4, 4, 4, 2], global_attention_blocks=[3],
    )  # fmt: skip
    vision = hf.Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=32,
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
    )  # fmt: skip
    prompt = {"hidden_size": 32, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
    decoder = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    config = hf.Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    size = {"height": 64, "width": 64}
    return decided(hf.Sam2Model(config)), hf.Sam2Processor(hf.Sam2ImageProcessor(size=size))
