"""Tiny vision-language models of every family with processors of their own, made without any file of a hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import transformers as hf
from tiny import roughened
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import nn

import vislab

WORDS = "what is on the hill left right top bottom of where a church fish red door in sun lies near no one two . ? ,"
MARKS = [
    *("<pad>", "<s>", "</s>", "<unk>", "<image>", "<boi>", "<eoi>", "<video>", "<fake_token_around_image>"),
    *("<end_of_utterance>", "<global-img>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    *("<img>", "</img>", "<ctx>"),
]
PIECES = ["##ch", "##es", "chur", "Here", "original", "some", "crops", "to", "help", "you", "see", "better", "and",
          "are", "image"]  # fmt: skip
TILES = [f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5)]
VOCABULARY = [*MARKS, *TILES, *WORDS.split(), *PIECES, "user", "assistant", ":"]
TEXT: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SIGHT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def token(word: str) -> int:
    return VOCABULARY.index(word)


def tokenizer(*, bos: bool = True, **more: str) -> hf.PreTrainedTokenizerFast:
    """Words in any case, each one token, "churches" three; `more` names special tokens as a family's processor does."""
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    made.decoder = decoders.WordPiece(cleanup=False)
    if bos:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens=more,
    )  # fmt: skip
    fast.add_special_tokens({"additional_special_tokens": [*MARKS[4:], *TILES]})
    return fast


@dataclass(frozen=True)
class Family:
    """make: attention implementation -> the model and its processor."""

    make: Callable[[str], tuple[nn.Module, Any]]

    def pair(self, attention: str = "sdpa") -> tuple[nn.Module, Any]:
        """The same weights each time, attention far from uniform."""
        torch.manual_seed(0)
        module, processor = self.make(attention)
        module = roughened(module).eval()
        module.generation_config.eos_token_id, module.generation_config.pad_token_id = 2, 0
        return module, processor


def llava(attention: str) -> tuple[nn.Module, Any]:
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**SIGHT), text_config=hf.LlamaConfig(**TEXT),
        image_token_index=token("<image>"), attn_implementation=attention,
    )  # fmt: skip
    images = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = hf.LlavaProcessor(images, tokenizer(image_token="<image>"), 8, "default", num_additional_image_tokens=1)
    return hf.LlavaForConditionalGeneration(config), processor


def llava_padded(attention: str) -> tuple[nn.Module, Any]:
    module, processor = llava(attention)
    images = hf.LlavaImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_pad=True)
    processor.image_processor = images
    return module, processor


PINPOINTS = [[32, 64], [64, 32], [64, 64], [32, 96], [96, 32]]


def llava_next(attention: str) -> tuple[nn.Module, Any]:
    config = hf.LlavaNextConfig(
        vision_config=hf.CLIPVisionConfig(**SIGHT), text_config=hf.LlamaConfig(**TEXT),
        image_token_index=token("<image>"), image_grid_pinpoints=PINPOINTS, attn_implementation=attention,
    )  # fmt: skip
    images = hf.LlavaNextImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=PINPOINTS
    )
    words = tokenizer(image_token="<image>")
    processor = hf.LlavaNextProcessor(images, words, patch_size=8, vision_feature_select_strategy="default",
                                      num_additional_image_tokens=1)  # fmt: skip
    return hf.LlavaNextForConditionalGeneration(config), processor


def onevision(attention: str, most: int = 9) -> tuple[nn.Module, Any]:
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(**SIGHT, vision_use_head=False), text_config=hf.Qwen2Config(**TEXT),
        image_token_index=token("<image>"), video_token_index=token("<video>"), image_grid_pinpoints=PINPOINTS,
        vision_aspect_ratio=f"anyres_max_{most}", attn_implementation=attention,
    )  # fmt: skip
    images = hf.LlavaOnevisionImageProcessor(size={"height": 32, "width": 32}, image_grid_pinpoints=PINPOINTS)
    words = tokenizer(image_token="<image>", video_token="<video>")
    processor = hf.LlavaOnevisionProcessor(
        images, words, hf.LlavaOnevisionVideoProcessor(), num_image_tokens=16, vision_feature_select_strategy="full",
        vision_aspect_ratio=f"anyres_max_{most}",
    )  # fmt: skip
    return hf.LlavaOnevisionForConditionalGeneration(config), processor


def idefics3(attention: str, kind: str = "Idefics3") -> tuple[nn.Module, Any]:
    vision = getattr(hf, f"{kind}VisionConfig")(**SIGHT)
    config = getattr(hf, f"{kind}Config")(
        vision_config=vision, text_config=hf.LlamaConfig(**TEXT), image_token_id=token("<image>"), scale_factor=2,
        pad_token_id=0, attn_implementation=attention,
    )  # fmt: skip
    images = hf.Idefics3ImageProcessor(size={"longest_edge": 96}, max_image_size={"longest_edge": 32})
    processor = hf.Idefics3Processor(images, tokenizer(), image_seq_len=4)
    return getattr(hf, f"{kind}ForConditionalGeneration")(config), processor


def qwen(attention: str, kind: str = "Qwen2VL") -> tuple[nn.Module, Any]:
    marks = {
        "image_token_id": token("<|image_pad|>"), "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"), "vision_end_token_id": token("<|vision_end|>"),
    }  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    sight: dict[str, Any] = {"depth": 2, "num_heads": 4, "patch_size": 8, "spatial_merge_size": 2}
    if kind == "Qwen2VL":
        sight |= {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
    elif kind == "Qwen2_5_VL":
        sight |= {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32, "window_size": 32,
                  "fullatt_block_indexes": [1]}  # fmt: skip
    else:
        sight |= {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32, "num_position_embeddings": 64,
                  "deepstack_visual_indexes": [0]}  # fmt: skip
        rope |= {"mrope_interleaved": True}
    text = {**TEXT, "rope_parameters": rope, **({"head_dim": 8} if kind == "Qwen3VL" else {})}
    config = getattr(hf, f"{kind}Config")(vision_config=sight, text_config=text, attn_implementation=attention, **marks)
    images = hf.Qwen2VLImageProcessor(size={"shortest_edge": 16 * 16, "longest_edge": 64 * 64}, patch_size=8)
    words = tokenizer(bos=False, image_token="<|image_pad|>", video_token="<|video_pad|>",
                      vision_start_token="<|vision_start|>", vision_end_token="<|vision_end|>")  # fmt: skip
    video = hf.Qwen3VLVideoProcessor() if kind == "Qwen3VL" else hf.Qwen2VLVideoProcessor()
    processor = getattr(hf, f"{kind}Processor")(images, words, video)
    return getattr(hf, f"{kind}ForConditionalGeneration")(config), processor


def paligemma(attention: str) -> tuple[nn.Module, Any]:
    text = hf.GemmaConfig(**TEXT | {"num_key_value_heads": 1}, head_dim=8)
    config = hf.PaliGemmaConfig(
        vision_config=hf.SiglipVisionConfig(**SIGHT, vision_use_head=False, projection_dim=32), text_config=text,
        image_token_index=token("<image>"), projection_dim=32, attn_implementation=attention,
    )  # fmt: skip
    images = hf.SiglipImageProcessor(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    processor = hf.PaliGemmaProcessor(images, tokenizer(bos=False, image_token="<image>"))
    return hf.PaliGemmaForConditionalGeneration(config), processor


def gemma3(attention: str) -> tuple[nn.Module, Any]:
    text = hf.Gemma3TextConfig(**TEXT, head_dim=8, sliding_window=16, query_pre_attn_scalar=8,
                               layer_types=["sliding_attention", "full_attention"])  # fmt: skip
    config = hf.Gemma3Config(
        vision_config=hf.SiglipVisionConfig(**SIGHT, vision_use_head=False), text_config=text, mm_tokens_per_image=4,
        image_token_index=token("<image>"), boi_token_index=token("<boi>"), eoi_token_index=token("<eoi>"),
        attn_implementation=attention,
    )  # fmt: skip
    images = hf.Gemma3ImageProcessor(size={"height": 32, "width": 32})
    words = tokenizer(image_token="<image>", boi_token="<boi>", eoi_token="<eoi>")
    processor = hf.Gemma3Processor(images, words, image_seq_length=4)
    return hf.Gemma3ForConditionalGeneration(config), processor


def internvl(attention: str) -> tuple[nn.Module, Any]:
    vision = {name: value for name, value in SIGHT.items() if name not in ("image_size", "patch_size")}
    config = hf.InternVLConfig(
        vision_config=hf.InternVLVisionConfig(**vision, image_size=[32, 32], patch_size=[8, 8]),
        text_config=hf.Qwen2Config(**TEXT), image_token_id=token("<ctx>"), downsample_ratio=0.5,
        attn_implementation=attention,
    )  # fmt: skip
    images = hf.GotOcr2ImageProcessor(size={"height": 32, "width": 32}, crop_to_patches=True, max_patches=6)
    words = tokenizer(bos=False, start_image_token="<img>", end_image_token="</img>", context_image_token="<ctx>",
                      video_token="<video>")  # fmt: skip
    processor = hf.InternVLProcessor(images, words, hf.InternVLVideoProcessor(), image_seq_length=4)
    return hf.InternVLForConditionalGeneration(config), processor


FAMILIES = {
    "LLaVA-1.5": Family(llava),
    "LLaVA-1.5, padded": Family(llava_padded),
    "LLaVA-NeXT": Family(llava_next),
    "LLaVA-OneVision": Family(onevision),
    "Idefics3": Family(idefics3),
    "SmolVLM": Family(lambda attention: idefics3(attention, "SmolVLM")),
    "Qwen2-VL": Family(qwen),
    "Qwen2.5-VL": Family(lambda attention: qwen(attention, "Qwen2_5_VL")),
    "Qwen3-VL": Family(lambda attention: qwen(attention, "Qwen3VL")),
    "PaliGemma": Family(paligemma),
    "Gemma 3": Family(gemma3),
    "InternVL": Family(internvl),
}


def q_former(attention: str, kind: str = "Blip2") -> tuple[nn.Module, Any]:
    former = {
        "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
        "encoder_hidden_size": 32, "cross_attention_frequency": 2,
    }  # fmt: skip
    opt = {"ffn_dim": 48, "word_embed_proj_dim": 32}
    text = hf.OPTConfig(**TEXT, **opt) if kind == "Blip2" else hf.LlamaConfig(**TEXT)
    config = getattr(hf, f"{kind}Config")(
        vision_config=getattr(hf, f"{kind}VisionConfig")(**SIGHT), text_config=text, num_query_tokens=5,
        qformer_config=getattr(hf, f"{kind}QFormerConfig")(**former), image_token_index=token("<image>"),
        attn_implementation=attention,
    )  # fmt: skip
    images = hf.BlipImageProcessor(size={"height": 32, "width": 32})
    words = [tokenizer()] if kind == "Blip2" else [tokenizer(), tokenizer()]
    processor = getattr(hf, f"{kind}Processor")(images, *words, num_query_tokens=5)
    return getattr(hf, f"{kind}ForConditionalGeneration")(config), processor


def blip(attention: str) -> tuple[nn.Module, Any]:
    shared = {name: value for name, value in TEXT.items() if name != "num_key_value_heads"}
    text = hf.BlipTextConfig(**shared, encoder_hidden_size=32, sep_token_id=2)
    config = hf.BlipConfig(vision_config=hf.BlipVisionConfig(**SIGHT).to_dict(), text_config=text.to_dict())
    words = tokenizer()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    images = hf.BlipImageProcessor(size={"height": 32, "width": 32})
    return hf.BlipForConditionalGeneration(config), hf.BlipProcessor(images, words)


def mllama(attention: str) -> tuple[nn.Module, Any]:
    from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig

    ratios = [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]]
    vision = MllamaVisionConfig(
        hidden_size=32, num_hidden_layers=2, num_global_layers=1, attention_heads=4, intermediate_size=48,
        vision_output_dim=64, image_size=32, patch_size=8, max_num_tiles=4, intermediate_layers_indices=[0],
        supported_aspect_ratios=ratios,
    )  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    text = MllamaTextConfig(
        **{**TEXT, "num_hidden_layers": 5}, cross_attention_layers=[1, 3], rope_parameters=rope
    )  # fmt: skip
    config = hf.MllamaConfig(
        vision_config=vision, text_config=text, image_token_index=token("<image>"), attn_implementation=attention
    )
    images = hf.MllamaImageProcessor(size={"height": 32, "width": 32}, max_image_tiles=4)
    return hf.MllamaForConditionalGeneration(config), hf.MllamaProcessor(images, tokenizer(image_token="<image>"))


# Those in which words reach the image by a Q-Former's queries, or cross to it.
CROSSED = {
    "BLIP-2": Family(q_former),
    "InstructBLIP": Family(lambda attention: q_former(attention, "InstructBlip")),
    "BLIP": Family(blip),
    "Mllama": Family(mllama),
}

PICTURE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
QUESTION, SAID = "What is on the hill ?", "a church lies left of churches ."


@cache
def pair(family: str, attention: str = "sdpa") -> tuple[Any, Any]:
    return (FAMILIES | CROSSED)[family].pair(attention)


def ask(family: str = "LLaVA-1.5", answer: str | None = SAID, **more: Any) -> vislab.Answer:
    module, processor = pair(family)
    return vislab.ask(PICTURE, QUESTION, model=module, processor=processor, answer=answer, **more)
