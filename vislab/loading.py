"""Name -> Model: what comes with vislab, a hub, a folder, or a module that is given. Only tensors are read."""

from __future__ import annotations

import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from .images import assets
from .models import Model, family_of
from .patch_size import patch_projection
from .preprocessing import Preprocessing, of_module, of_processor

EMBEDDED = {"embedded": "vit-tiny-imagenette"}
# Names of published models whose families the tests verify, with what they teach.
KNOWN = {
    "google/vit-base-patch16-224": "ViT-B/16, 1,000 ImageNet classes",
    "facebook/deit-base-distilled-patch16-224": "DeiT with a distillation token",
    "facebook/dinov2-small": "DINOv2, self-supervised",
    "facebook/dinov2-with-registers-small": "DINOv2 with 4 register tokens: calm maps",
    "facebook/dinov3-vits16-pretrain-lvd1689m": "DINOv3, rotary positions",
    "facebook/vit-mae-base": "MAE, all patches visible",
    "facebook/vit-msn-small": "MSN, self-supervised",
    "openai/clip-vit-base-patch32": "CLIP's image tower",
    "google/siglip-base-patch16-224": "SigLIP's image tower: a pooling head in place of CLS",
    "google/siglip2-base-patch16-224": "SigLIP2's image tower",
    "microsoft/beit-base-patch16-224": "BEiT, relative position bias",
    "facebook/data2vec-vision-base": "data2vec, relative position bias",
    "hustvl/yolos-tiny": "YOLOS, a detector made of tokens",
    "Intel/dpt-large": "DPT's ViT, made for depth",
    "timm/vit_small_patch16_224.augreg_in21k_ft_in1k": "timm's ViT-S/16 (pip install timm)",
    "timm/eva02_tiny_patch14_336.mim_in22k_ft_in1k": "timm's EVA-02 (pip install timm)",
    "torchvision/vit_b_16": "torchvision's ViT-B/16",
}

_PREFIX = ("cls_token", "class_token", "class_embedding", "distillation_token", "dist_token")
_CLS = _PREFIX[:3]
_REGISTERS = ("register_tokens", "reg_token")


def load(
    model: str | Path | nn.Module | Model = "embedded",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    processor: Any = None,
) -> Model:
    """Load a Vision Transformer.

    model: "embedded" (needs no network), a name on the hub ("facebook/dinov2-small", "timm/…", "torchvision/…"), a
    local folder of transformers, or a torch module of transformers, timm or torchvision. device: "cpu", "cuda", "mps",
    …; by default the fastest there is, or where a given module is. dtype: "float32", "bfloat16" or "float16"; by
    default float32, or a given module's. processor: the image processor of transformers that a given module was trained
    with; without it timm's modules say theirs, and of others it is assumed that they see the whole image, normalised by
    ImageNet's mean and deviation.

    A given module is taken as it is, a compiled one as what it was compiled from, and moved only where device or dtype
    say so. Weights are read as tensors alone, safetensors by preference; no pickle is executed. Raises ValueError for
    an unknown name, for files of pickles and for a processor beside what brings its own, OSError where the hub or the
    folder does not give the model.
    """
    if processor is not None and not isinstance(model, nn.Module):
        raise ValueError(f"{getattr(model, 'name', model)} brings its own preprocessing: leave processor out")
    if isinstance(model, Model):
        made = model
    elif isinstance(model, nn.Module):
        module = getattr(model, "_orig_mod", model)  # hooks and other patch sizes would compile it anew each time
        how = None if processor is None else of_processor(processor, module)
        made = _described(type(module).__name__, module, how)
    else:
        made = _named(str(model))
        device, dtype = device or _fastest(), dtype or "float32"
    made.module.to(_device(device) if device is not None else None, _dtype(dtype) if dtype is not None else None)
    return made


def _fastest() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"no device {str(device)!r} here ({_first_line(error)}): this machine has {_fastest()}"
        ) from None
    return found


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
    found = known.get(dtype) if isinstance(dtype, str) else dtype
    if found not in known.values():
        raise ValueError(f"dtype is {', '.join(known)}, not {dtype!r}")
    return found  # type: ignore[return-value]


def _named(name: str) -> Model:
    if name in EMBEDDED:
        return _transformers(name, str(assets() / "models" / EMBEDDED[name]))
    library, _, rest = name.partition("/")
    folder = Path(name).expanduser()
    if folder.is_file():
        raise ValueError(
            f"{name} is a file: give a folder with config.json and model.safetensors. Pickles (.pt, .pth, .bin) can "
            "run anything when opened, so vislab never opens them"
        )
    if name and folder.is_dir():
        if not (folder / "config.json").exists() or not list(folder.glob("*.safetensors")):
            held = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing"
            raise ValueError(
                f"{name} needs config.json and model.safetensors (pickles are not opened); it holds {held}"
            )
        return _transformers(name, str(folder))
    if library == "torchvision" and rest:
        return _torchvision(name, rest)
    if library == "timm" and rest:
        return _timm(name, rest)
    if not rest or name.startswith((".", "/", "~")):
        raise ValueError(
            f"unknown model {name!r}: take 'embedded', a hub name such as 'facebook/dinov2-small', or a local folder"
        )
    return _transformers(name, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of transformers for weights that lie on the disk; its setting is put back."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _transformers(name: str, where: str) -> Model:
    import transformers

    # code that lies beside the weights is never run, and nobody is asked whether it may
    safely = {"local_files_only": not (Path(where).is_dir() or hub_answers()), "trust_remote_code": False}
    try:
        with _quiet():
            config = transformers.AutoConfig.from_pretrained(where, **safely)
            if config.model_type == "vit_mae":
                config.mask_ratio = 0.0
            architecture = (config.architectures or [""])[0]
            whole = architecture.endswith(("ForImageClassification", "WithTeacher", "ForObjectDetection"))
            loader = getattr(transformers, architecture) if whole else transformers.AutoModel
            module, found = loader.from_pretrained(
                where, config=config, use_safetensors=True, output_loading_info=True, **safely
            )
            processor = transformers.AutoImageProcessor.from_pretrained(where, **safely)
            missing = sorted(key for key in found["missing_keys"] if "pooler" not in key)
            if missing:
                raise ValueError(f"its weights lack {len(missing)} of the model's, such as {missing[0]}.")
            how = of_processor(processor, module)
    except (OSError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
        raise OSError(
            f"cannot load {name!r}: {_first_line(error)} Check the name and the network, or take the embedded model, "
            "which needs neither: vislab.load('embedded')"
        ) from error
    return _described(name, module.eval(), how)


def hub_answers() -> bool:
    """Whether the hub can be reached, found out within 2 s; its own client would try for half a minute."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    if urllib.request.getproxies().get("https"):
        return True
    host, answered = urllib.parse.urlsplit(constants.ENDPOINT), threading.Event()

    def knock() -> None:
        with suppress(OSError), socket.create_connection((host.hostname or "", host.port or 443), timeout=2):
            answered.set()

    # in a thread, since looking up the host's name heeds no timeout
    knocking = threading.Thread(target=knock, daemon=True)
    knocking.start()
    knocking.join(1.5)
    return answered.is_set()


def _torchvision(name: str, which: str) -> Model:
    import torchvision

    if which not in torchvision.models.list_models() or not which.startswith("vit_"):
        known = ", ".join(m for m in torchvision.models.list_models() if m.startswith("vit_"))
        raise ValueError(f"torchvision has no Vision Transformer {which!r}: it has {known}")
    weights = torchvision.models.get_model_weights(which).DEFAULT
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        raise OSError(f"cannot load {name!r}: {_first_line(error)} Try vislab.load('embedded')") from error
    module = torchvision.models.get_model(which, image_size=weights.meta["min_size"][0]).eval()
    module.load_state_dict(state)
    preset = weights.transforms()
    side = preset.crop_size[0]
    edge, mean, std = preset.resize_size[0] / side, tuple(preset.mean), tuple(preset.std)
    how = Preprocessing((side, side), "crop", edge, mean, std, preset.interpolation.value, to_even=True)
    return _described(name, module, how, labels=tuple(weights.meta["categories"]))


def _timm(name: str, which: str) -> Model:
    try:
        import timm
    except ImportError:
        raise ImportError(f"{name} needs timm: pip install timm") from None
    from huggingface_hub import try_to_load_from_cache

    try:
        if not isinstance(try_to_load_from_cache(f"timm/{which}", "config.json"), str) and not hub_answers():
            raise OSError("the hub does not answer.")
        module = timm.create_model(f"hf-hub:timm/{which}", pretrained=True).eval()
    except (OSError, RuntimeError) as error:
        raise OSError(f"cannot load {name!r}: {_first_line(error)} Try vislab.load('embedded')") from error
    return _described(name, module, None)


def _described(name: str, module: nn.Module, how: Preprocessing | None, labels: Sequence[str] | None = None) -> Model:
    """A Model of a module: what it does not say itself is read from its parts."""
    if family_of(module) in ("clip", "siglip"):  # the image tower alone
        module = module.get_submodule("vision_model")
    elif family_of(module) == "vit_mae":
        module = getattr(module, "vit", module)  # the decoder's layers are not the encoder's
        dropped: float = getattr(module.config, "mask_ratio", 0.0)
        if dropped > 0:
            raise ValueError(f"{name} drops {dropped:.0%} of its patches: set config.mask_ratio = 0 to keep all")
    projection = patch_projection(module)
    how = how or of_module(module)
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
    config = getattr(module, "config", None)
    classifies = hasattr(module, "classifier") or hasattr(module, "cls_classifier")  # DeiT with its teacher has two
    if config is not None and labels is None and getattr(config, "id2label", None) and classifies:
        labels = [config.id2label[i] for i in sorted(config.id2label)]
    layers, heads, dim = _shape(module)
    patch = (int(projection.kernel_size[0]), int(projection.kernel_size[1]))
    named = tuple(labels) if labels else None
    return Model(name, module, how, patch, prefix, suffix, cls, named, layers, heads, dim)


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


def _first_line(error: BaseException) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0].strip()
    return line if line.endswith((".", "!", "?")) else line + "."
