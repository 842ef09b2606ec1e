"""Tiny image-text models with tokenizers of few words, and what the library itself says of an image and texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tiny
import torch
import torch.nn.functional as F
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
WORDS = [
    *SPECIAL,
    "a",
    "the",
    "red",
    "blue",
    "door",
    "fish",
    "church",
    "dog",
    "photo",
    "of",
    "on",
    "hill",
    "is",
    "there",
]
MOST = 12  # tokens of a text
LABELS = ["a church", "a fish on the hill", "the red door"]
TEXT: dict[str, Any] = tiny.SIZE | {
    "vocab_size": len(WORDS),
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
    "sep_token_id": 3,
    "max_position_embeddings": MOST,
}
BOTH: dict[str, Any] = {"vision_config": tiny.VIT, "text_config": TEXT}
CROSSED: dict[str, Any] = {"vision_config": tiny.VIT, "text_config": TEXT | {"encoder_hidden_size": 32}}
ROWS: dict[str, Any] = tiny.SIZE | {"patch_size": 8, "num_patches": 16}
ROBERTA: dict[str, Any] = TEXT | {"project_dim": 32, "max_position_embeddings": MOST + 1}  # counts from padding on

FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "CLIP": lambda: hf.CLIPModel(hf.CLIPConfig(**BOTH, projection_dim=24)),
    "SigLIP": lambda: hf.SiglipModel(hf.SiglipConfig(**BOTH)),
    "SigLIP2": lambda: hf.Siglip2Model(hf.Siglip2Config(vision_config=ROWS, text_config=TEXT)),
    "MetaCLIP 2": lambda: hf.MetaClip2Model(hf.MetaClip2Config(**BOTH, projection_dim=24)),
    "AltCLIP": lambda: hf.AltCLIPModel(
        hf.AltCLIPConfig(vision_config=tiny.VIT, text_config=ROBERTA, projection_dim=24)
    ),
    "Chinese-CLIP": lambda: hf.ChineseCLIPModel(hf.ChineseCLIPConfig(**BOTH, projection_dim=24)),
    "OWL-ViT": lambda: hf.OwlViTModel(hf.OwlViTConfig(**BOTH, projection_dim=24)),
    "OWLv2": lambda: hf.Owlv2Model(hf.Owlv2Config(**BOTH, projection_dim=24)),
    "CLIPSeg": lambda: hf.CLIPSegModel(hf.CLIPSegConfig(**BOTH, projection_dim=24)),
    "AIMv2": lambda: hf.Aimv2Model(hf.Aimv2Config(**BOTH, projection_dim=24)),
    "BLIP": lambda: hf.BlipModel(hf.BlipConfig(**CROSSED, projection_dim=24)),
    "BLIP, retrieval": lambda: hf.BlipForImageTextRetrieval(hf.BlipConfig(**CROSSED, image_text_hidden_size=24)),
    "GroupViT": lambda: hf.GroupViTModel(
        hf.GroupViTConfig(
            vision_config=tiny.VIT | {"depths": [1, 1], "num_group_tokens": [4, 0], "num_output_groups": [4, 2]},
            text_config=TEXT,
            projection_dim=24,
        )
    ),
    "two encoders": lambda: hf.VisionTextDualEncoderModel(
        hf.VisionTextDualEncoderConfig(
            vision_config=hf.ViTConfig(**tiny.VIT).to_dict(), text_config=hf.BertConfig(**TEXT).to_dict()
        )
    ),
}


def make(family: str) -> nn.Module:
    torch.manual_seed(0)
    return tiny.roughened(FAMILIES[family]()).eval()


def tokenizer(most: int = MOST) -> Any:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)])
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=most, **named)


def processor() -> Any:
    """Images of any size are stretched to 32 × 32 px."""
    return hf.CLIPProcessor(hf.CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False), tokenizer())


def own_logits(module: Any, pixels: Tensor, texts: Sequence[str]) -> Tensor:
    """What the library's own forward says of one image, (1, 3, 32, 32), and several texts together -> (texts,)."""
    kind = module.config.model_type
    filled: dict[str, Any] = {"padding": "max_length", "max_length": MOST} if "siglip" in kind else {"padding": True}
    tokens: Mapping[str, Tensor] = tokenizer()([*texts], return_tensors="pt", **filled)
    given = {name: value for name, value in tokens.items() if name != "token_type_ids"}
    seen: dict[str, Any] = {"pixel_values": pixels}
    if kind == "siglip2":
        rows = F.unfold(pixels, 8, stride=8).unflatten(1, (3, 64)).permute(0, 3, 2, 1).flatten(2)
        seen = {"pixel_values": rows, "spatial_shapes": torch.tensor([[4, 4]])}
        seen["pixel_attention_mask"] = torch.ones(1, 16, dtype=torch.long)
    retrieval = isinstance(module, hf.BlipForImageTextRetrieval)
    with torch.no_grad():
        said = module(**seen, **given, **({"use_itm_head": False} if retrieval else {}))
    return (said.itm_score if retrieval else said.logits_per_image)[0]


class OpenClip(nn.Module):
    """As models of open_clip are: two towers behind two doors."""

    def __init__(self, bias: float | None = None, resize_mode: str = "shortest") -> None:
        super().__init__()
        clip: Any = make("CLIP")
        self.visual, self.text, self.projection = clip.vision_model, clip.text_model, clip.visual_projection
        self.logit_scale = clip.logit_scale
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias))
        self.out = clip.text_projection
        self.context_length = MOST
        self.visual.preprocess_cfg = {
            "size": 32,
            "mean": (0.5, 0.4, 0.3),
            "std": (0.2, 0.3, 0.4),
            "interpolation": "bicubic",
            "resize_mode": resize_mode,
        }

    def encode_image(self, image: Tensor) -> Tensor:
        return self.projection(self.visual(image).pooler_output)

    def encode_text(self, text: Tensor) -> Tensor:
        return self.out(self.text(text).pooler_output)

    def get_logits(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        one, other = F.normalize(self.encode_image(image), dim=-1), F.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * one @ other.T + (0 if self.logit_bias is None else self.logit_bias)
        return logits, logits.T

    def forward(self, image: Tensor, text: Tensor | None = None) -> Any:
        return self.encode_image(image), None if text is None else self.encode_text(text)


class OpenTokenizer:
    """As tokenizers of open_clip are: every text is filled up, and what is over is cut off. inner: from the hub."""

    def __init__(self, *, inner: bool) -> None:
        self.context_length, self.own = MOST, tokenizer()
        if inner:
            self.tokenizer = self.own
        self.all_special_ids = [2, 3]

    def encode(self, text: str) -> list[int]:
        return self.own(text)["input_ids"][1:-1]

    def __call__(self, texts: str | list[str]) -> Tensor:
        many = [texts] if isinstance(texts, str) else texts
        filled = {"padding": "max_length", "truncation": True, "max_length": MOST}
        return self.own(many, return_tensors="pt", **filled)["input_ids"]
