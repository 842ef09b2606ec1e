"""Tiny models of all families of transformers, with inputs: configurations shrunk by the names of their fields.

A table entry is for a family that the rules do not build; nothing here knows of vislab.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Any]
HIDDEN, HEADS, LAYERS, VOCABULARY, LENGTH, SIDE, BATCH = 64, 4, 2, 300, 12, 32, 2

# By a field's name; what is not here keeps its default unless a rule below shrinks it.
SIZES: dict[str, int] = {
    **dict.fromkeys(
        [
            "hidden_size",
            "d_model",
            "n_embd",
            "embed_dim",
            "dim",
            "hidden_dim",
            "emb_dim",
            "embedding_size",
            "embedding_dim",
            "projection_dim",
            "encoder_hidden_size",
            "decoder_hidden_size",
            "output_dim",
            "out_hidden_size",
            "text_embed_dim",
            "mm_hidden_size",
            "encoder_hidden_dim",
            "decoder_hidden_dim",
            "conv_dim",
            "n_embed",
            "model_dim",
            "hidden_channels",
            "attention_hidden_size",
            "cross_attention_hidden_size",
            "text_dim",
            "d_text",
            "mask_feature_size",
            "feature_size",
            "fpn_hidden_size",
            "d_latents",
            "encoder_embed_dim",
            "decoder_embed_dim",
            "word_embed_proj_dim",
            "output_hidden_size",
            "projector_hidden_size",
            "reduce_hidden_size",
            "projection_hidden_size",
            "text_hidden_size",
            "vision_hidden_size",
            "embed_size",
        ],
        HIDDEN,
    ),
    **dict.fromkeys(
        [
            "intermediate_size",
            "ffn_dim",
            "encoder_ffn_dim",
            "decoder_ffn_dim",
            "d_ff",
            "n_inner",
            "dim_feedforward",
            "mlp_dim",
            "feed_forward_size",
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "encoder_intermediate_size",
            "decoder_intermediate_size",
            "feedforward_dim",
            "dense_intermediate_size",
            "expert_ffn_hidden_size",
            "ffn_hidden_size",
            "moe_shared_expert_intermediate_size",
            "intermediate_dim",
            "mlp_hidden_size",
            "linear_intermediate_size",
        ],
        96,
    ),
    **dict.fromkeys(
        [
            "num_attention_heads",
            "num_heads",
            "n_head",
            "n_heads",
            "encoder_attention_heads",
            "decoder_attention_heads",
            "encoder_num_attention_heads",
            "decoder_num_attention_heads",
            "attention_heads",
            "num_encoder_attention_heads",
            "num_decoder_attention_heads",
            "vision_attention_heads",
            "mask_decoder_num_attention_heads",
        ],
        HEADS,
    ),
    **dict.fromkeys(
        [
            "num_key_value_heads",
            "num_kv_heads",
            "n_head_kv",
            "multi_query_group_num",
            "encoder_num_key_value_heads",
            "decoder_num_key_value_heads",
            "swa_num_key_value_heads",
            "num_global_key_value_heads",
        ],
        2,
    ),
    **dict.fromkeys(
        [
            "head_dim",
            "attention_head_dim",
            "kv_channels",
            "d_kv",
            "attention_head_size",
            "key_length",
            "global_head_dim",
        ],
        HIDDEN // HEADS,
    ),
    **dict.fromkeys(
        [
            "num_hidden_layers",
            "num_layers",
            "n_layer",
            "n_layers",
            "encoder_layers",
            "decoder_layers",
            "depth",
            "encoder_num_layers",
            "decoder_num_layers",
            "num_encoder_layers",
            "num_decoder_layers",
            "encoder_depth",
            "num_text_layers",
            "num_block",
            "encoder_num_hidden_layers",
            "decoder_num_hidden_layers",
            "num_hidden_groups",
            "layers",
            "num_blocks",
            "num_coarse_layers",
            "num_fusion_layers",
        ],
        LAYERS,
    ),
    **dict.fromkeys(
        [
            "vocab_size",
            "text_vocab_size",
            "decoder_vocab_size",
            "vocab_size_per_layer_input",
            "src_vocab_size",
            "tgt_vocab_size",
        ],
        VOCABULARY,
    ),
    **dict.fromkeys(
        [
            "max_position_embeddings",
            "n_positions",
            "max_seq_len",
            "n_ctx",
            "max_source_positions",
            "max_target_positions",
            "max_text_len",
        ],
        128,
    ),
    **dict.fromkeys(["image_size", "img_size", "vision_image_size", "input_image_size"], SIDE),
    **dict.fromkeys(["patch_size", "vision_patch_size"], 8),
    **dict.fromkeys(
        ["num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts", "num_routed_experts"], 4
    ),
    **dict.fromkeys(["num_experts_per_tok", "moe_top_k", "moe_k", "top_k_experts", "num_experts_per_token"], 2),
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "sliding_window": 8,
    "first_k_dense_replace": 1,
    "num_queries": 9,
    "state_size": 8,
    "mamba_d_state": 8,
    "num_query_tokens": 4,
    "n_group": 1,
    "topk_group": 1,
    "adapter_attn_dim": 16,
    "num_mel_bins": 16,
    "num_latents": 8,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "index_topk": 4,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "hidden_size_per_layer_input": 8,
    "rotary_dim": 8,
    "num_groups": 1,
    "attention_window": 4,
    "local_attention": 4,
    "image_seq_length": 16,
    "num_image_tokens": 16,
    "mlp_expansion_factor": 2,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "max_window_layers": 1,
    "decoder_layerdrop": 0,
    "encoder_layerdrop": 0,
    "num_feature_levels": 3,
    "kv_size": HIDDEN,
    "num_frames": 4,
    "tubelet_size": 2,
    "block_size": 4,
    "num_codebooks": 2,
    "vocab_size_audio": 64,
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "ssm_state_size": 8,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "prediction_length": 4,
    "context_length": 16,
    "num_time_features": 1,
    "codebook_size": 32,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
    "max_2d_position_embeddings": 128,
    "coordinate_size": 10,
    "shape_size": 12,
    "sinkhorn_iterations": 3,
    "num_attention_heads_per_layer": HEADS,
    "speech_encoder_layers": LAYERS,
    "text_encoder_layers": LAYERS,
}
FLOATS = {"layerdrop": 0.0, "mask_ratio": 0.0, "mask_time_prob": 0.0, "mask_feature_prob": 0.0}

_DEPTHS = ("layer", "depth", "block", "vocab", "expert", "hidden_groups")
THIN = {
    name: size
    for name, size in SIZES.items()
    if any(word in name for word in _DEPTHS) and "size" not in name.replace("vocab_size", "")
}
THIN |= {"num_attention_heads": 10**9}

# What the rules do not build. "config": fields; "sub": fields of sub-configurations; "inputs": what forward is given.
SPECIAL: dict[str, dict[str, Any]] = {
    # features of 64 px are too few for the queries and windows of these
    "grounding-dino": {"config": {"num_queries": 4, "num_feature_levels": 4}, "side": 64},
    "mm-grounding-dino": {"config": {"num_queries": 4, "num_feature_levels": 4}, "side": 64},
    "lw_detr": {"sub": {"backbone_config": {"image_size": 64, "num_windows": 4, "patch_size": 8}}},
    "cvt": {"config": {"depth": [1, 1, 1]}},
}


def families() -> list[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return sorted(CONFIG_MAPPING_NAMES)


def classes(family: str) -> list[type[nn.Module]]:
    """The model classes of a configuration, the bare model first."""
    import transformers
    from transformers import PreTrainedModel
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    tables = sorted(
        (n for n in dir(modeling_auto) if n.endswith("MAPPING_NAMES") and n != "CONFIG_MAPPING_NAMES"),
        key=lambda n: (n != "MODEL_MAPPING_NAMES", "IMAGE_TEXT" not in n, "CAUSAL_LM" not in n, n),
    )
    found: list[type[nn.Module]] = []
    for table in tables:
        names = getattr(modeling_auto, table).get(family, ())
        for name in [names] if isinstance(names, str) else names:
            kind = getattr(transformers, name, None)
            if inspect.isclass(kind) and kind not in found:
                found.append(kind)
    config = CONFIG_MAPPING[family]
    module = importlib.import_module(config.__module__.replace("configuration", "modeling"))
    for kind in vars(module).values():
        model = inspect.isclass(kind) and issubclass(kind, PreTrainedModel) and kind not in found
        if model and kind.config_class is config and not kind.__name__.endswith("PreTrainedModel"):
            found.append(kind)
    return [kind for kind in found if getattr(kind, "config_class", config) is config or kind.config_class is None]


def tiny_config(family: str, sizes: dict[str, int] = SIZES) -> Any:
    """A configuration with these sizes: all of them, or only those of depth and vocabulary (THIN)."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind, special = CONFIG_MAPPING[family], SPECIAL.get(family, {})
    base = special.get("base", {})
    if "backbone_config" in _names(kind) and not base and getattr(kind(), "backbone_config", None) is None:
        base = {
            "backbone_config": resnet(),
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone": None,
        }
        base = {k: v for k, v in base.items() if k in _names(kind) or k == "backbone_config"}
    given = shrunk(kind(**base), special.get("sub", {}), sizes)
    return kind(**base | given | special.get("config", {}))


def resnet() -> Any:
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 16, 32, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )


def shrunk(config: Any, sub: dict[str, Any], sizes: dict[str, int]) -> dict[str, Any]:
    """Fields that make a configuration tiny, sub-configurations included."""
    from transformers import PreTrainedConfig

    fields: dict[str, Any] = {}
    names = _names(type(config))
    for name in names:
        try:
            value = getattr(config, name, None)
        except Exception:  # fields that differ from layer to layer
            fields |= {name: sizes[name]} if name in sizes else {}
            continue
        if isinstance(value, PreTrainedConfig):
            convolutional = type(value).__name__ in ("ResNetConfig", "TimmBackboneConfig")
            fields[name] = (
                resnet()
                if convolutional
                else type(value)(**_own(value) | shrunk(value, sub, sizes) | sub.get(name, {}))
            )
        elif name in FLOATS and value is not None:
            fields[name] = FLOATS[name]
        elif name in sizes and isinstance(value, int) and not isinstance(value, bool) and value > sizes[name]:
            fields[name] = sizes[name]
            if "key_value_heads" in name and value == getattr(config, "num_attention_heads", None):
                fields[name] = sizes["num_attention_heads"]
        elif name == "window_size" and isinstance(value, int) and value > 32 and sizes is SIZES:
            fields[name] = 32
        elif name in ("image_size", "patch_size", "img_size") and isinstance(value, list | tuple) and name in sizes:
            fields[name] = type(value)(sizes[name] for _ in value)
        elif (
            isinstance(value, int)
            and not isinstance(value, bool)
            and name.endswith(("_token_id", "_token_index", "_id"))
        ):
            if value >= VOCABULARY:
                fields[name] = VOCABULARY - 10 - sum(k.endswith(("_id", "_index")) for k in fields)
        elif isinstance(value, list | tuple) and value:
            shorter = _shorter(config, name, value, sizes is SIZES)
            if shorter is not None:
                fields[name] = type(value)(shorter) if isinstance(value, list) else tuple(shorter)
        elif isinstance(value, dict) and any("mrope" in key for key in value):
            fields[name] = value | {k: [2, 3, 3] for k in value if k == "mrope_section"}
    if (
        (
            sizes is SIZES
            and "rope_parameters" in names
            and "mrope_section" in inspect.getsource(inspect.getmodule(type(config)))
        )
        and "num_hidden_layers" in names
        and "vocab_size" in names
    ):
        fields["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    kinds = getattr(config, "layer_types", None)
    if (
        isinstance(kinds, list)
        and all(isinstance(k, str) for k in kinds)
        and len({*kinds}) > 1
        and "layer_types" in names
    ):
        fields["layer_types"] = [*dict.fromkeys(kinds)]
        for count in ("num_hidden_layers", "num_layers", "n_layer"):
            if count in fields:
                fields[count] = len(fields["layer_types"])
    taps = getattr(config, "out_indices", None)
    if isinstance(taps, list | tuple) and len(taps) > 2 and "num_hidden_layers" in fields:
        fields["num_hidden_layers"], fields["out_indices"] = len(taps), [*range(1, len(taps) + 1)]
    if (
        isinstance(getattr(config, "num_heads", None), list | tuple)
        and isinstance(getattr(config, "embed_dim", 0), int)
        and "embed_dim" in fields
    ):
        fields["embed_dim"] = 8 * config.num_heads[0]
    return fields


def _own(config: Any) -> dict[str, Any]:
    """What a sub-configuration has otherwise than its class."""
    try:
        default = type(config)()
        named = {n: getattr(config, n) for n in _names(type(config)) if n != "layer_types"}
        return {n: v for n, v in named.items() if v != getattr(default, n)}
    except Exception:
        return {}


def _names(kind: type) -> list[str]:
    if dataclasses.is_dataclass(kind):
        base = {"output_hidden_states", "return_dict", "dtype", "id2label", "label2id", "architectures"}
        names = [f.name for f in dataclasses.fields(kind) if f.name not in base and not f.name.startswith("_")]
    else:
        names = [*inspect.signature(kind.__init__).parameters][1:]
    return list(dict.fromkeys([*names, *getattr(kind, "sub_configs", {})]))


def _shorter(config: Any, name: str, value: Any, narrow: bool) -> list[Any] | None:
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    if not whole:
        return None
    if "depth" in name or name in ("layers", "num_blocks", "blocks_per_stage"):
        return [min(v, 1 + (i == 0)) for i, v in enumerate(value)]
    if "ind" in name and name not in ("out_indices", "depth_token_index"):
        return [min(v, LAYERS - 1) for v in value]
    if narrow and ("hidden" in name or "embed" in name or "channels" in name or "dims" in name) and max(value) >= 256:
        heads = next((getattr(config, n) for n in ("num_attention_heads", "num_heads") if hasattr(config, n)), 1)
        heads = heads if isinstance(heads, list | tuple) else [heads] * len(value)
        if len(heads) == len(value) and all(
            v % (4 * h) == 0 and v // 4 >= 8 for v, h in zip(value, heads, strict=True)
        ):
            return [v // 4 for v in value]
    return None


# ---- models and inputs ----


def make(kind: type[nn.Module], config: Any) -> nn.Module:
    """A model in float32 and eval mode; MemoryError where the configuration is not tiny after all."""
    with torch.device("meta"):
        sizes = sorted(((p.numel(), n) for n, p in kind(_copy(config)).named_parameters()), reverse=True)
    if sum(size for size, _ in sizes) > 130e6:
        raise MemoryError(f"{sum(size for size, _ in sizes) / 1e6:.0f}M weights, the largest {sizes[:3]}")
    torch.manual_seed(0)
    return kind(config).float().eval()


def _copy(config: Any) -> Any:
    import copy

    return copy.deepcopy(config)


def attempts(model: nn.Module, family: str) -> Iterator[Inputs]:
    """Inputs to try, the fullest first."""
    special = SPECIAL.get(family, {}).get("inputs")
    if special is not None:
        yield special(model)
    parameters = inspect.signature(model.forward).parameters
    required = {
        n for n, p in parameters.items() if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    main = getattr(model, "main_input_name", "input_ids")
    pictures = {
        n
        for n in parameters
        if n in ("pixel_values", "image_grid_thw", "bbox", "spatial_shapes", "pixel_attention_mask")
    }
    words = {n for n in parameters if n in ("input_ids", "decoder_input_ids", "input_features", "input_values")}
    tries = [
        required | {main} | pictures | words,
        required | {main} | pictures - {"pixel_attention_mask"},
        required | {main},
        required | {main} | words,
        words,
        {main, "decoder_input_ids"},
        pictures | {"input_ids"},
    ]
    seen: list[set[str]] = []
    for names in tries:
        names = {n for n in names if n in parameters}
        if names in seen:
            continue
        seen.append(names)
        inputs = {n: x for n in parameters if n in names and (x := made(n, model, names)) is not None}
        if "input_ids" in inputs and "pixel_values" in inputs:
            try:
                with_images(model, inputs)
            except Exception:
                continue
        yield inputs
        for name in {"input_values", "input_features"} & {*inputs}:
            yield inputs | {name: inputs[name].unsqueeze(1) if name == "input_values" else inputs[name].mT}


def made(name: str, model: nn.Module, names: set[str]) -> Any:
    config = model.config
    text, vision = part(config, "text"), part(config, "vision")
    generator = torch.Generator().manual_seed(1)
    vocabulary = min(int(getattr(text, "vocab_size", VOCABULARY) or VOCABULARY), 200)
    if name in ("input_ids", "decoder_input_ids", "labels", "encoder_input_ids"):
        return torch.randint(min(5, vocabulary - 1), vocabulary, (BATCH, LENGTH), generator=generator)
    if name in ("pixel_values", "pixels", "images", "image", "pixel_values_images"):
        return pixels(vision, names, generator)
    if name in ("pixel_values_videos", "video", "videos"):
        frames = getattr(vision, "num_frames", 4)
        return torch.randn(BATCH, frames, 3, *side(vision), generator=generator)
    if name == "qformer_input_ids":
        return torch.randint(5, 20, (BATCH, LENGTH), generator=generator)
    if name == "aspect_ratio_ids":
        return torch.ones(BATCH, *(1,) * (type(model).__name__ != "MllamaVisionModel"), dtype=torch.long)
    if name == "image_grid_thw":
        return torch.tensor([[1, 4, 4]] * BATCH)
    if name == "grid_thw":
        return torch.tensor([[1, 4, 4]] * BATCH)
    if name == "bbox":
        return torch.randint(0, 50, (BATCH, LENGTH, 2), generator=generator).sort(1)[0].repeat(1, 1, 2).sort(-1)[0]
    if name in ("input_features", "features", "audio_features", "input_audio_embeds"):
        bins = next(
            (
                getattr(c, n)
                for c in (config, part(config, "audio"))
                for n in ("num_mel_bins", "feature_size", "input_dim", "input_feat_per_channel", "input_channels")
                if isinstance(getattr(c, n, None), int)
            ),
            80,
        )
        length = 2 * getattr(part(config, "audio"), "max_source_positions", 50)
        if "whisper" in type(model).__name__.lower() or "audio" in type(model).__name__.lower():
            return torch.randn(BATCH, bins, length, generator=generator)
        return torch.randn(BATCH, 64, bins, generator=generator)
    if name in ("input_values", "audio_values", "waveform"):
        bins = getattr(config, "num_mel_bins", None)
        if bins and hasattr(config, "max_length"):
            return torch.randn(BATCH, config.max_length, bins, generator=generator)
        return torch.randn(BATCH, 4000, generator=generator)
    if name == "past_values":
        return torch.randn(
            BATCH, getattr(config, "context_length", 16), getattr(config, "num_input_channels", 1), generator=generator
        )
    if name == "hidden_states" and "grid_thw" in names:
        return pixels(vision, names, generator)
    if name in ("hidden_states", "inputs_embeds", "encoder_hidden_states", "query_embeds"):
        return torch.randn(BATCH, LENGTH, getattr(text, "hidden_size", HIDDEN), generator=generator)
    if name in ("attention_mask",):
        return torch.ones(BATCH, LENGTH, dtype=torch.long)
    if name == "spatial_shapes":
        return torch.tensor([[4, 4]] * BATCH)
    if name == "pixel_attention_mask":
        return None
    if name in ("position_ids", "cache_position"):
        return torch.arange(LENGTH).expand(BATCH, -1)
    if name == "task_inputs":
        return torch.randint(0, 50, (BATCH, 8), generator=generator)
    return None


def part(config: Any, which: str) -> Any:
    """The configuration's part for text, vision or audio, or all of it."""
    names = {
        "text": ("text_config", "decoder", "llm_config", "language_config", "thinker_config", "text_encoder"),
        "vision": (
            "vision_config",
            "backbone_config",
            "encoder",
            "vit_config",
            "vision_backbone_config",
            "image_config",
        ),
        "audio": ("audio_config", "encoder_config", "audio_encoder", "speech_encoder", "encoder"),
    }[which]
    for name in names:
        inner = getattr(config, name, None)
        if inner is not None and hasattr(inner, "to_dict"):
            return part(inner, which)
    return config


def side(vision: Any) -> tuple[int, int]:
    size = getattr(vision, "image_size", None) or getattr(vision, "img_size", None) or 64
    if isinstance(size, dict):
        return (size.get("height", 64), size.get("width", 64))
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) else (int(size), int(size))


def pixels(vision: Any, names: set[str], generator: torch.Generator) -> Tensor:
    channels = getattr(vision, "num_channels", None) or getattr(vision, "in_channels", None) or 3
    channels = channels if isinstance(channels, int) else 3
    patch = getattr(vision, "patch_size", 8)
    patch = patch if isinstance(patch, int) else 8
    if names & {"image_grid_thw", "grid_thw"}:
        width = channels * patch * patch * int(getattr(vision, "temporal_patch_size", 1))
        return torch.randn(BATCH * 16, width, generator=generator)
    if "spatial_shapes" in names:
        return torch.randn(BATCH, 16, channels * patch * patch, generator=generator)
    if hasattr(vision, "num_frames") or hasattr(vision, "tubelet_size"):
        return torch.randn(BATCH, getattr(vision, "num_frames", 4), channels, *side(vision), generator=generator)
    return torch.randn(BATCH, channels, *side(vision), generator=generator)


def with_images(model: nn.Module, inputs: Inputs) -> None:
    """Put as many image tokens into the text as the model makes of the images."""
    config = model.config
    token = next(
        (
            getattr(config, n)
            for n in ("image_token_id", "image_token_index")
            if isinstance(getattr(config, n, None), int)
        ),
        None,
    )
    if token is None or not hasattr(model, "get_image_features"):
        return
    takes = inspect.signature(model.get_image_features).parameters
    with torch.no_grad():
        found = model.get_image_features(**{n: x for n, x in inputs.items() if n in takes and n != "input_ids"})
    found = getattr(found, "pooler_output", found)
    features = [f.reshape(-1, f.shape[-1]) for f in (found if isinstance(found, list | tuple) else [found])]
    count = sum(len(f) for f in features) // BATCH
    words = inputs["input_ids"]
    words[words == token] = 5
    inputs["input_ids"] = torch.cat([words[:, :3], torch.full((BATCH, count), token), words[:, 3:]], 1)
    if "mm_token_type_ids" in inspect.signature(model.forward).parameters:
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == token).long()
    if "token_type_ids" in inspect.signature(model.forward).parameters:
        inputs["token_type_ids"] = (inputs["input_ids"] == token).long()


def built(family: str) -> tuple[nn.Module, Inputs]:
    """A tiny model of a family, with an input that it runs on. Raises what the last try raised."""
    failures: list[str] = []
    for sizes, kind in itertools.product((SIZES, THIN), classes(family)[:3]):
        try:
            model = make(kind, tiny_config(family, sizes))
        except Exception as failure:
            failures.append(f"{kind.__name__}: {type(failure).__name__}: {failure}")
            continue
        for inputs in attempts(model, family):
            try:
                torch.manual_seed(0)
                with torch.no_grad():
                    model(**inputs)
                return model, inputs
            except Exception as failure:
                failures.append(f"{kind.__name__}({', '.join(inputs)}): {type(failure).__name__}: {failure}")
    failures = [f for f in failures if "missing" not in f] or failures
    raise LookupError("not built: " + " | ".join(f[:200] for f in [*failures[:2], *failures[-2:]]) or "no class")


def vision(family: str) -> list[tuple[str, Callable[[], nn.Module]]]:
    """The classes of a family that take pictures and nothing else, each with how to make a tiny one."""
    found = []
    for kind in classes(family):
        parameters = inspect.signature(kind.forward).parameters
        required = [
            n for n, p in parameters.items() if p.default is p.empty and n != "self" and p.kind.name[:3] != "VAR"
        ]
        sees = getattr(kind, "main_input_name", "") == "pixel_values" and "input_ids" not in parameters
        if sees and set(required) <= {"pixel_values"}:
            found.append((kind.__name__, functools.partial(_either, kind, family)))
    return found


def _either(kind: type[nn.Module], family: str) -> nn.Module:
    try:
        return make(kind, tiny_config(family))
    except Exception:
        return make(kind, tiny_config(family, THIN))
