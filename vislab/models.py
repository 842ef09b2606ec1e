"""Name -> Model: a module with its preprocessing, its token grid and its labels."""

from __future__ import annotations

import difflib
import inspect
import math
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from .geometry import Frame, Grid, attention_memory
from .images import assets, load_image
from .patch_size import RESIZABLE, patch_projection, resized
from .preprocessing import Preprocessing, of_module, of_processor, own_size
from .sites import Capture
from .watching import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

EMBEDDED = {"embedded": "vit-tiny-imagenette"}
FEW = 20  # classes that a message lists

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

ImageSize = int | tuple[int, int]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as a model's input. pixels: (1, 3, height, width); arguments: what the module takes beside them."""

    pixels: Tensor
    grid: Grid
    frame: Frame
    arguments: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Run:
    """One forward under capture. logits: (classes,) or None where the model has no classifier."""

    capture: Capture
    grid: Grid
    frame: Frame
    logits: Tensor | None


@dataclass(frozen=True, eq=False)
class Model:
    """A Vision Transformer ready to look at images; make one with `vislab.load`.

    patch: (height, width) px. prefix, suffix: tokens before and after the patches. cls: whether the first token is CLS.
    labels: class names in the order of the logits, or None.
    """

    name: str
    module: nn.Module
    preprocessing: Preprocessing
    patch: tuple[int, int]
    prefix: int
    suffix: int
    cls: bool
    labels: tuple[str, ...] | None
    layers: int
    heads: int
    dim: int
    _lock: Any = field(default_factory=threading.RLock, repr=False)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.module.parameters()).dtype

    @property
    def resizable(self) -> bool:
        """Whether patch and image size can be changed.

        transformers interpolates position embeddings from a square grid only; DINOv3 has none.
        """
        family = _family(self.module)
        own = Grid.of(own_size(self.module), self.patch)
        return family in RESIZABLE and (own.rows == own.cols or family == "dinov3_vit")

    def grid(self, image_size: ImageSize | None = None, patch_size: int | None = None) -> Grid:
        """The token grid of an input. image_size: px, side of a square or (height, width); patch_size: px.

        Raises ValueError for sizes that leave pixels over, with those near them that do not.
        """
        size = self._size(image_size)
        patch = self.patch if patch_size is None else (self._patch_size(patch_size), patch_size)
        grid = Grid.of(size, patch, self.prefix, self.suffix)
        if (image_size is not None or patch_size is not None) and any(s % p for s, p in zip(size, patch, strict=True)):
            p = patch[0]
            fitting = [d for d in range(4, min(size) + 1) if size[0] % d == 0 and size[1] % d == 0]
            near = sorted({max(p, s // p * p) for s in size} | {(s // p + 1) * p for s in size})
            raise ValueError(
                f"patches of {p} px do not fill an input of {size[0]}×{size[1]} px: take an image_size of "
                f"{' or '.join(map(str, near))}, or a patch_size of {', '.join(map(str, fitting)) or 'another size'}"
            )
        return grid

    def run(
        self,
        image: np.ndarray,
        *,
        image_size: ImageSize | None = None,
        patch_size: int | None = None,
        attention_scale: float | Mapping[int, float] = 1.0,
    ) -> Run:
        """One forward of an image, (H, W, 3) uint8, under capture; the model is afterwards what it was."""
        with (
            self.prepared(image, image_size=image_size, patch_size=patch_size) as given,
            torch.no_grad(),
            self.captured(attention_scale) as cap,
        ):
            output = self.module(given.pixels, **given.arguments)
        logits = None if self.labels is None else self.class_logits(output)
        return Run(cap, given.grid, given.frame, None if logits is None else logits[0].float())

    @contextmanager
    def prepared(
        self,
        image: np.ndarray,
        *,
        image_size: ImageSize | None = None,
        patch_size: int | None = None,
        gradients: bool = False,
    ) -> Iterator[Prepared]:
        """The module made ready for an image, in evaluation mode and at work for nobody else; afterwards what it was.

        gradients: whether they will be taken; the weights are then frozen, and gradients are on whatever surrounds it.
        """
        grid, size = self.grid(image_size, patch_size), self._size(image_size)
        self._fits(grid, gradients=gradients)
        with ExitStack() as stack:
            stack.enter_context(self._lock)
            if gradients:
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.enable_grad())
                stack.enter_context(_frozen(self.module))
            stack.enter_context(_evaluating(self.module))
            pixels, frame = self.preprocessing(image, size)
            stack.enter_context(self._patched(patch_size))
            yield Prepared(pixels.to(self.device, self.dtype), grid, frame, self._arguments(size, grid))

    def captured(
        self, attention_scale: float | Mapping[int, float] = 1.0, *, gradients: bool = False
    ) -> AbstractContextManager[Capture]:
        """`capture` of the module, with a scale by layer counted from either end."""
        return capture(self.module, attention_scale=self._scales(attention_scale), gradients=gradients)

    def predict(
        self,
        image: Any,
        *,
        top: int = 5,
        image_size: ImageSize | None = None,
        patch_size: int | None = None,
        attention_scale: float | Mapping[int, float] = 1.0,
    ) -> list[tuple[str, float]]:
        """The most probable classes. -> [(label, probability)], most probable first.

        Raises ValueError for a model without a classifier.
        """
        run = self.run(load_image(image), image_size=image_size, patch_size=patch_size, attention_scale=attention_scale)
        return self.top(run, top)

    def logits(self, pixels: Tensor, *, image_size: ImageSize | None = None, patch_size: int | None = None) -> Tensor:
        """Plain forwards, nothing captured. pixels: (n, 3, h, w) from `preprocessing` -> (n, classes) float32.

        Raises ValueError for a model without a classifier.
        """
        arguments = self._arguments(self._size(image_size), self.grid(image_size, patch_size))
        pixels = pixels.to(self.device, self.dtype)
        with self._lock, torch.no_grad(), _evaluating(self.module), self._patched(patch_size):
            output = self.module(pixels, **arguments)
        logits = self.class_logits(output)
        if logits is None:
            raise ValueError(self._names_nothing())
        return logits.float()

    def class_logits(self, output: Any) -> Tensor | None:
        """The logits of classes in what the module returned, (n, classes); None for a model without a classifier."""
        logits = getattr(output, "logits", output)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or getattr(self.module, "num_classes", 1) == 0:
            return None  # timm calls a model that returns features one of 0 classes
        return logits if self.labels is None or logits.shape[1] == len(self.labels) else None

    def class_index(self, target: str | int) -> int:
        """The index of a class, given by its label or its index. Raises ValueError for one that is not there."""
        if self.labels is None:
            if isinstance(target, int) and target >= 0:
                return target
            raise ValueError(f"{self.name} has no names for classes: give an index, not {target!r}")
        if target in self.labels:
            return self.labels.index(str(target))
        if isinstance(target, int) and 0 <= target < len(self.labels):
            return target
        near = difflib.get_close_matches(str(target), self.labels, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        hint = hint or (f": it knows {', '.join(self.labels)}" if len(self.labels) <= FEW else "")
        raise ValueError(
            f"{self.name} knows no class {target!r}: give a label or an index from 0 to {len(self.labels) - 1}{hint}"
        )

    def _names_nothing(self) -> str:
        return f"{self.name} has no classifier: it sees, but names nothing. Try vislab.load('embedded')"

    def top(self, run: Run, count: int = 5) -> list[tuple[str, float]]:
        """The most probable classes of a run that was made."""
        if run.logits is None or self.labels is None:
            raise ValueError(self._names_nothing())
        best = run.logits.softmax(0).topk(min(count, len(self.labels)))
        return [(self.labels[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]

    # ---- sizes ----

    def _size(self, image_size: ImageSize | None) -> tuple[int, int]:
        if image_size is None:
            return self.preprocessing.size
        size = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
        if len(size) != 2 or not all(type(s) is int and s > 0 for s in size):
            raise ValueError(f"image_size is a number of pixels or (height, width), not {image_size!r}")
        if size != self.preprocessing.size and not (self.resizable or _family(self.module) == "yolos"):
            height, width = self.preprocessing.size
            raise ValueError(
                f"{self.name} takes {height}×{width} px only, not {size[0]}×{size[1]}: leave image_size out"
            )
        return size

    def _patch_size(self, patch_size: int) -> int:
        if type(patch_size) is not int or patch_size < 1:
            raise ValueError(f"patch_size is a whole number of pixels above 0, not {patch_size!r}")
        if (patch_size, patch_size) != self.patch and not self.resizable:
            raise ValueError(f"{self.name} keeps its patches of {self.patch[0]} px: leave patch_size out")
        return patch_size

    @contextmanager
    def _patched(self, patch_size: int | None) -> Iterator[None]:
        if patch_size is None:
            yield
        else:
            with resized(self.module, patch_size):
                yield

    def _scales(self, attention_scale: float | Mapping[int, float]) -> float | Mapping[int, float]:
        if not isinstance(attention_scale, Mapping):
            return attention_scale
        for layer in attention_scale:
            if type(layer) is not int or not -self.layers <= layer < self.layers:
                raise ValueError(
                    f"attention_scale is for no layer {layer!r}: layers of {self.name} run from 0 to {self.layers - 1}"
                )
        return {layer % self.layers: scale for layer, scale in attention_scale.items()}

    def _arguments(self, size: tuple[int, int], grid: Grid) -> dict[str, Any]:
        takes = inspect.signature(self.module.forward).parameters
        arguments: dict[str, Any] = {}
        if "interpolate_pos_encoding" in takes:
            arguments["interpolate_pos_encoding"] = (size, grid.patch) != (own_size(self.module), self.patch)
        if "noise" in takes:  # MAE shuffles its patches by it: in order, all of them
            arguments["noise"] = torch.arange(grid.patches, device=self.device, dtype=torch.float32)[None]
        return arguments

    def forecast(self, grid: Grid, *, gradients: bool = False) -> int:
        """Bytes that a forward under capture needs beside the weights, at most and roughly.

        Queries and keys of every layer are kept, where one projection makes them with the values too, and for gradients
        all that the backward pass reads; the activations of a few layers live at a time. Relative position bias, where
        there is one, is kept whole.
        """
        value = torch.finfo(self.dtype).bits // 8
        config = getattr(self.module, "config", None)
        biased = any(getattr(config, f"use_{which}relative_position_bias", False) for which in ("", "shared_"))
        bias = attention_memory(grid.tokens, self.heads, self.layers + 6, value) if biased else 0
        return grid.tokens * self.dim * value * ((12 if gradients else 3) * self.layers + 40) + bias

    def _fits(self, grid: Grid, *, gradients: bool = False) -> None:
        free, needed = free_memory(self.device), self.forecast(grid, gradients=gradients)
        if needed <= free:
            return
        patch, rows = grid.patch, math.isqrt(grid.patches)
        while rows and self.forecast(Grid(rows, rows, patch, self.prefix, self.suffix), gradients=gradients) > free:
            rows -= 1
        fits = f"take an image_size of at most {rows * patch[0]} px, or larger patches" if rows else "none would fit"
        raise MemoryError(
            f"{grid} would need about {needed / 1e9:.2g} GB, and {free / 1e9:.2g} GB are free on {self.device}: {fits}"
        )


def free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode; then each of its parts in its own again."""
    training = [part for part in module.modules() if part.training]
    try:
        module.eval()
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """The module's parameters without gradients; then those that had one have it again."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _family(module: nn.Module) -> str:
    return str(getattr(getattr(module, "config", None), "model_type", ""))


# ---- loading ----


def load(
    model: str | Path | nn.Module | Model = "embedded",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
) -> Model:
    """Load a Vision Transformer.

    model: "embedded" (needs no network), a name on the hub ("facebook/dinov2-small", "timm/…", "torchvision/…"), a
    local folder of transformers, or a torch module of transformers, timm or torchvision. device: "cpu", "cuda", "mps",
    …; by default the fastest there is, or where a given module is. dtype: "float32", "bfloat16" or "float16"; by
    default float32, or a given module's.

    A given module is taken as it is, and moved only where device or dtype say so. Weights are read as tensors alone,
    safetensors by preference; no pickle is executed. Raises ValueError for an unknown name and for files of pickles,
    OSError where the hub or the folder does not give the model.
    """
    if isinstance(model, Model):
        made = model
    elif isinstance(model, nn.Module):
        made = _described(type(model).__name__, model, None)
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
    safely = {"local_files_only": not (Path(where).is_dir() or _hub_answers()), "trust_remote_code": False}
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


def _hub_answers() -> bool:
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
        if not isinstance(try_to_load_from_cache(f"timm/{which}", "config.json"), str) and not _hub_answers():
            raise OSError("the hub does not answer.")
        module = timm.create_model(f"hf-hub:timm/{which}", pretrained=True).eval()
    except (OSError, RuntimeError) as error:
        raise OSError(f"cannot load {name!r}: {_first_line(error)} Try vislab.load('embedded')") from error
    return _described(name, module, None)


def _described(name: str, module: nn.Module, how: Preprocessing | None, labels: Sequence[str] | None = None) -> Model:
    """A Model of a module: what it does not say itself is read from its parts."""
    if _family(module) in ("clip", "siglip"):  # the image tower alone
        module = module.get_submodule("vision_model")
    elif _family(module) == "vit_mae":
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
