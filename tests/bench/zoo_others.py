"""Small models of timm, torchvision, ultralytics, vit-pytorch, x-transformers and open_clip, with inputs."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[[nn.Module], Any]

# From small to large: of architectures that differ in nothing else, the first is taken.
SIZES = [
    "atto",
    "femto",
    "pico",
    "zepto",
    "nano",
    "n",
    "xxtiny",
    "xxs",
    "xxsmall",
    "xtiny",
    "tiny",
    "t",
    "mini",
    "xs",
    "xsmall",
    "wee",
    "pwee",
    "dwee",
    "dpwee",
    "dlittle",
    "little",
    "s0",
    "small",
    "s",
    "mci0",
    "betwixt",
    "lite",
    "medium",
    "mediumd",
    "m",
    "base",
    "b",
    "so150m",
    "so150m2",
    "large",
    "l",
    "so400m",
    "xlarge",
    "xxlarge",
    "huge",
    "giant",
    "gigantic",
    "enormous",
    "ultra",
    "h",
    "g",
    "p",
    "xl",
    "intern300m",
    "giantopt",
]
LIMIT = 120e6  # weights


# ---- timm ----


def timm_architectures() -> list[str]:
    """The smallest of each kind of architecture in each file of timm that may attend, and one of each other file."""
    import timm

    kinds: dict[tuple[str, str], list[str]] = {}
    for name in timm.list_models():
        file = timm.models.model_entrypoint(name).__module__
        attends = _attends(file) and "resnet" not in file and "nfnet" not in file and not file.endswith("ghostnet")
        words = [w for w in name.split("_") if w not in SIZES and not re.fullmatch(r"[a-z]{0,7}\d+(to\d+)?[a-z]?", w)]
        first = re.sub(r"(?<=[a-z])\d+[a-z]*$", "", name.split("_")[0])
        kinds.setdefault((file, "_".join([first, *words]) if attends else ""), []).append(name)
    return sorted(min(names, key=_size) for names in kinds.values())


def _attends(file: str) -> bool:
    return bool(re.search(r"softmax|scaled_dot_product|\bAttention", inspect.getsource(importlib.import_module(file))))


def _size(name: str) -> tuple[Any, ...]:
    words = name.split("_")
    numbers = [int(n) for n in re.findall(r"\d+", name)]
    return "test" not in words, min([SIZES.index(w) for w in words if w in SIZES] or [20]), sum(numbers), name


def timm_model(name: str) -> Iterator[tuple[nn.Module, Run]]:
    import timm

    native = timm.get_pretrained_cfg(name, allow_unregistered=True)
    sides = [native.min_input_size[-1]] if native and native.min_input_size else []
    sides += [96, 128, 112, *([native.input_size[-1]] if native else [224])]
    for more, side in itertools.product(({}, {"depth": 2}), dict.fromkeys(sides)):
        for size in ({"img_size": side}, {}):
            try:
                with torch.device("meta"):
                    if weights(timm.create_model(name, **more, **size)) > LIMIT:
                        continue
            except (RuntimeError, NotImplementedError):  # some read the values of what they make, which here has none
                pass
            except Exception:
                continue
            try:
                model = timm.create_model(name, **more, **size)
            except Exception:
                continue
            yield model, pictures(side)


def weights(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def pictures(height: int, width: int | None = None, count: int = 2) -> Run:
    x = torch.randn(count, 3, height, width or height, generator=torch.Generator().manual_seed(1))
    return lambda model: model(x)


# ---- torchvision ----

TORCHVISION: dict[str, dict[str, Any]] = {
    "vit_b_16": {"image_size": 64},
    "vit_b_32": {"image_size": 64},
    "swin_t": {},
    "swin_v2_t": {},
    "maxvit_t": {},
    "resnet18": {},
    "convnext_tiny": {},
    "efficientnet_b0": {},
    "regnet_y_400mf": {},
    "mobilenet_v3_small": {},
    "swin3d_t": {},
    "mvit_v1_b": {},
    "mvit_v2_s": {},
    "r3d_18": {},
    "fasterrcnn_mobilenet_v3_large_320_fpn": {},
    "retinanet_resnet50_fpn": {},
    "ssdlite320_mobilenet_v3_large": {},
    "maskrcnn_resnet50_fpn": {},
    "fcos_resnet50_fpn": {},
    "deeplabv3_mobilenet_v3_large": {},
    "raft_small": {},
}


def torchvision_model(name: str) -> Iterator[tuple[nn.Module, Run]]:
    import torchvision

    more = (
        {"weights_backbone": None}
        if "rcnn" in name or "net_resnet" in name or "ssd" in name or "fcos" in name or "deeplab" in name
        else {}
    )
    model = torchvision.models.get_model(name, weights=None, **TORCHVISION[name], **more)
    if name == "raft_small":
        x = torch.randn(1, 3, 128, 128)
        yield model, lambda m: m(x, x, num_flow_updates=1)
    elif more and "deeplab" not in name:
        yield model, lambda m: m([torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))])
    elif "3d" in name or "mvit" in name:
        clip = torch.randn(
            1, 3, 16 if "mvit" in name else 4, 224 if "mvit" in name else 64, 224 if "mvit" in name else 64
        )
        yield model, lambda m: m(clip)
    else:
        yield model, pictures({"maxvit_t": 224}.get(name, 64))


# ---- ultralytics ----


def ultralytics_models() -> list[str]:
    return [
        "yolo11n.yaml",
        "yolo11n-seg.yaml",
        "yolo11n-pose.yaml",
        "yolo11n-obb.yaml",
        "yolo11n-cls.yaml",
        "yolo12n.yaml",
        "yolo12n-seg.yaml",
        "yolo12n-cls.yaml",
        "yolo12x.yaml",
        "yolo26n.yaml",
        "yolo26n-seg.yaml",
        "yolo26n-cls.yaml",
        "yolov10n.yaml",
        "rtdetr-l.yaml",
        "rtdetr-resnet50.yaml",
        "yolov8n-rtdetr.yaml",
        "yolov8n.yaml",
        "yolov8s-world.yaml",
        "yolov8s-worldv2.yaml",
        "yoloe-11s.yaml",
        "yoloe-v8s.yaml",
        "yolov9t.yaml",
    ]


def ultralytics_model(name: str) -> Iterator[tuple[nn.Module, Run]]:
    from ultralytics.nn import tasks

    kinds = {
        "rtdetr": "RTDETRDetectionModel",
        "world": "WorldModel",
        "yoloe": "YOLOEModel",
        "-seg": "SegmentationModel",
        "-pose": "PoseModel",
        "-obb": "OBBModel",
        "-cls": "ClassificationModel",
        "": "DetectionModel",
    }
    kind = getattr(tasks, next(v for k, v in kinds.items() if k in name))
    yield kind(name, verbose=False), pictures(128, 160)


# ---- bench extras ----

_VIT: dict[str, Any] = {
    "image_size": 64,
    "patch_size": 16,
    "num_classes": 5,
    "dim": 32,
    "depth": 2,
    "heads": 2,
    "mlp_dim": 48,
    "dim_head": 16,
    "channels": 3,
    "frames": 4,
    "frame_patch_size": 2,
    "image_patch_size": 16,
    "spatial_depth": 2,
    "temporal_depth": 2,
    "sm_dim": 32,
    "lg_dim": 32,
    "sm_patch_size": 16,
    "lg_patch_size": 32,
    "seq_len": 64,
    "cls_depth": 1,
    "patch_merge_layer": 1,
    "patch_merge_num_tokens": 4,
    "max_tokens_per_depth": (12, 8),
    "num_patches": 16,
    "num_register_tokens": 2,
    "block_size": 2,
    "reduction_factor": (2, 1),
    "window_size": 4,
    "mlp_mult": 2,
    "ndim": 2,
    "input_shape": (64, 64),
    "num_reg_tokens": 2,
    "embedding_dim": 32,
    "img_size": 64,
    "num_heads": 2,
    "num_layers": 2,
    "mlp_ratio": 2,
    "num_memories": 2,
    "max_seq_len": 64,
    "channel_first": True,
    "time_image_size": 4,
    "num_jumbo_cls": 1,
    "dims": (16, 24, 32),
    "num_hierarchies": 2,
    "block_repeats": (1, 1),
    "freq_patch_size": 8,
    "max_frames": 4,
    "num_residual_streams": 2,
    "jumbo_cls_k": 2,
    "dim_conv_stem": 16,
}
_STAGED: dict[str, Any] = {
    "dim": (32, 32, 64, 64),
    "depth": (1, 1, 1, 1),
    "heads": (2, 2, 2, 2),
    "num_hierarchies": 2,
    "reduction_factor": (4, 2, 2, 1),
    "image_size": 224,
    "window_size": 7,
    "dims": (16, 32, 64),
}


def vit_pytorch_models() -> list[str]:
    import vit_pytorch

    skip = {
        "dino",
        "distill",
        "es_vit",
        "extractor",
        "lejepa",
        "levjepa",
        "levjepa_nd",
        "mae",
        "mpp",
        "mp3",
        "recorder",
        "simmim",
        "accept_video_wrapper",
        "vivit_with_moss",
        "vaat",
        "vat",
        "vat_siglip",
        "wwt",
    }
    return [m.name for m in pkgutil.iter_modules(vit_pytorch.__path__) if m.name not in skip]


def vit_pytorch_model(name: str) -> Iterator[tuple[nn.Module, Run]]:
    module = importlib.import_module(f"vit_pytorch.{name}")
    own = [
        k
        for k in vars(module).values()
        if inspect.isclass(k) and issubclass(k, nn.Module) and k.__module__ == module.__name__
    ]
    failure: Exception = LookupError("no class")
    variants = [
        _VIT,
        _VIT | _STAGED,
        _VIT | _STAGED | {"dim": 32},
        _VIT | {"depth": (1, 1), "image_size": 64},
        _VIT | {"dim": (32, 64, 64), "depth": (1, 1, 1), "heads": (2, 2, 2), "image_size": 224},
    ]
    for kind in reversed(own):
        if kind.__name__.lower().replace("_", "") in (
            "attention",
            "feedforward",
            "transformer",
            "layernorm",
            "rmsnorm",
        ):
            continue
        takes = inspect.signature(kind.__init__).parameters
        if not {"num_classes", "image_size", "seq_len"} & {*takes} and "cct" not in kind.__name__.lower():
            continue
        for given in variants:
            try:
                model = kind(**{k: v for k, v in given.items() if k in takes})
            except Exception as other:
                failure = other
                continue
            side = given["image_size"]
            for shape in (
                (2, 3, side, side),
                (2, 3, 4, side, side),
                (2, 3, 64),
                (2, 3, 224, 224),
                (2, 4, 3, side, side),
            ):
                x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
                yield model, lambda m, x=x: m(x)
    raise failure


_X: dict[str, dict[str, Any]] = {
    "decoder": {},
    "encoder": {"_kind": "Encoder"},
    "flash": {"attn_flash": True},
    "rotary": {"rotary_pos_emb": True},
    "alibi": {"alibi_pos_bias": True},
    "t5 bias": {"rel_pos_bias": True},
    "post talking heads": {"attn_post_talking_heads": True},
    "talking heads": {"attn_pre_talking_heads": True},
    "one kv head": {"attn_one_kv_head": True},
    "kv heads": {"attn_kv_heads": 1},
    "memory kv": {"attn_num_mem_kv": 3},
    "qk norm": {"attn_qk_norm": True},
    "top-k": {"attn_sparse_topk": 3},
    "gated values": {"attn_gate_values": True},
    "residual attention": {"residual_attn": True},
    "null kv": {"attn_add_zero_kv": True},
    "softclamp": {"attn_softclamp_logits": True},
    "flash, kv heads": {"attn_flash": True, "attn_kv_heads": 1},
    "laser": {"attn_laser": True},
    "sinks": {"attn_head_learned_sink": True},
    "value residual": {"add_value_residual": True},
    "macaron": {"macaron": True},
    "sandwich": {"sandwich_coef": 1},
    "causal, no cross": {"cross_attend": False},
    "dynamic positions": {"dynamic_pos_bias": True},
    "cope": {"attn_use_cope": True},
    "hybrid forget": {"attn_data_dependent_alibi": True},
    "value heads": {"attn_value_dim_head": 8},
    "selective": {"attn_selective": True},
    "vit": {"_kind": "vit"},
    "enc-dec": {"_kind": "encdec"},
}


def x_transformers_model(name: str) -> Iterator[tuple[nn.Module, Run]]:
    import x_transformers as x

    words = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(1))
    more = dict(_X[name])
    which = more.pop("_kind", "Decoder")
    if which == "vit":
        yield (
            x.ViTransformerWrapper(
                image_size=32, patch_size=8, num_classes=5, attn_layers=x.Encoder(dim=32, depth=2, heads=2)
            ),
            pictures(32),
        )
    elif which == "encdec":
        model = x.XTransformer(
            dim=32,
            enc_num_tokens=50,
            enc_depth=2,
            enc_heads=2,
            enc_max_seq_len=32,
            dec_num_tokens=50,
            dec_depth=2,
            dec_heads=2,
            dec_max_seq_len=32,
        )
        yield model, lambda m: m(words, words)
    else:
        layers = getattr(x, which)(dim=32, depth=2, heads=2, attn_dim_head=16, **more)
        yield x.TransformerWrapper(num_tokens=50, max_seq_len=32, attn_layers=layers), lambda m: m(words)


def open_clip_models() -> list[str]:
    return [
        "ViT-B-32",
        "ViT-S-16",
        "ViT-S-16-alt",
        "ViT-M-32",
        "ViT-B-32-quickgelu",
        "RN50",
        "RN50-quickgelu",
        "coca_ViT-B-32",
        "convnext_tiny",
        "swin_base_patch4_window7_224",
        "vit_medium_patch16_gap_256",
        "vit_relpos_medium_patch16_cls_224",
        "EVA02-B-16",
        "ViT-B-16-SigLIP",
        "ViT-B-16-SigLIP2",
        "PE-Core-T-16-384",
        "MobileCLIP2-S0",
        "MobileCLIP-B",
        "ViTamin-S",
        "ViT-L-14-CLIPA",
    ]


def open_clip_model(name: str) -> Iterator[tuple[nn.Module, Run]]:
    import open_clip

    config = open_clip.get_model_config(name)
    for key in ("vision_cfg", "text_cfg", "multimodal_cfg"):
        if key in config and isinstance(config[key].get("layers"), int):
            config[key]["layers"] = 2
    if "text_cfg" in config and "vocab_size" in config["text_cfg"]:
        config["text_cfg"]["vocab_size"] = 600
    custom = (
        config.pop("custom_text", False) or "multimodal_cfg" in config or "hf_model_name" in config.get("text_cfg", {})
    )
    for key in ("init_logit_scale", "init_logit_bias"):
        config.pop(key, None)
    plain = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    model = (open_clip.CoCa if "multimodal_cfg" in config else plain)(**config)
    size = config["vision_cfg"].get("image_size", 224)
    length = config["text_cfg"].get("context_length", 77)
    text = torch.randint(1, 500, (1, length), generator=torch.Generator().manual_seed(1))
    picture = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    yield model, lambda m: m(picture, text)


# ---- all ----

_MODELS: dict[str, tuple[Callable[[], list[str]], Callable[[str], Iterator[tuple[nn.Module, Run]]]]] = {
    "timm": (timm_architectures, timm_model),
    "torchvision": (lambda: [*TORCHVISION], torchvision_model),
    "ultralytics": (ultralytics_models, ultralytics_model),
    "vit_pytorch": (vit_pytorch_models, vit_pytorch_model),
    "x_transformers": (lambda: [*_X], x_transformers_model),
    "open_clip": (open_clip_models, open_clip_model),
}


def listed(zoo: str) -> list[str]:
    if importlib.util.find_spec(zoo) is None:
        print(f"{zoo} is not installed: skipped")
        return []
    return _MODELS[zoo][0]()


def built(zoo: str, name: str) -> tuple[nn.Module, Run]:
    """A small model and how to run it. Raises what the last try raised."""
    failure: Exception = LookupError("nothing to try")
    torch.manual_seed(0)
    candidates = _MODELS[zoo][1](name)
    while True:
        try:
            model, run = next(candidates)
        except StopIteration:
            raise failure from None
        except Exception as other:
            raise (other if isinstance(failure, LookupError) else failure) from None
        try:
            model.eval()
            torch.manual_seed(0)
            with torch.no_grad():
                run(model)
        except Exception as other:
            failure = other
            continue
        return model, run


def module(zoo: str, name: str) -> nn.Module:
    return built(zoo, name)[0]


def output(given: Any) -> Tensor | None:
    return given if isinstance(given, Tensor) else None
