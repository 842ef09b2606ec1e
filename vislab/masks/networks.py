"""Segmentation models of transformers and torchvision, with their own preprocessing and post-processing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..core.cache import KEEPERS, Latest
from ..core.checks import first_line, shown
from ..core.files import place_of
from ..core.fingerprints import of_module
from ..core.geometry import Grid
from ..core.imports import LOADING, library
from ..models.cache import saved
from ..models.device import fastest, module_bytes
from ..models.embedding import reason
from ..models.given import given
from ..models.hub import advice, bring_transformers, part, quiet, safely, weighted
from ..models.modes import evaluating
from .maps import on_pixels
from .masks import Masks
from .methods import KINDS
from .seen import seen_frame, whole

_SEMANTIC, _UNIVERSAL = "ForSemanticSegmentation", ("ForUniversalSegmentation", "ForInstanceSegmentation")


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A segmentation model. processor: of transformers, or the transforms of torchvision's weights."""

    name: str
    module: nn.Module
    processor: Any
    labels: tuple[str, ...]

    @property
    def of_torchvision(self) -> bool:
        return _of_torchvisions(self.module)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of regions that it is read for, of `KINDS`."""
        if self.of_torchvision or type(self.module).__name__.endswith(_SEMANTIC):
            return ("semantic",)
        return tuple(kind for kind in KINDS if hasattr(self.processor, f"post_process_{kind}_segmentation"))

    def segment(self, image: np.ndarray, kind: str) -> Masks:
        """The regions of an image, (H, W, 3) uint8, as the library's own post-processing makes them.

        Where the processor crops or pads, that is done in the pixels of the model's input, of which each source pixel
        takes the one that its centre falls in. Raises ValueError where the model does not give such regions.
        """
        if kind not in self.kinds:
            raise ValueError(f"{self.name} gives {' and '.join(self.kinds)} masks, not {kind} ones")
        source = (image.shape[0], image.shape[1])
        frame = seen_frame(lambda picture: self._prepared(picture, kind)["pixel_values"], source, self.name)
        size = source if whole(frame) else frame.model
        output = self._output(self._prepared(image, kind))
        regions, labels, scores = self._regions(output, kind, size)
        if not whole(frame):
            regions = on_pixels(regions, Grid(size[0], size[1], (1, 1)), frame)
        if scores is None:
            scores = [float(region.mean()) for region in regions]
        order = sorted(range(len(labels)), key=lambda i: -scores[i])
        there = [i for i in order if regions[i].any()]  # the rest lies in the padding alone
        return Masks(
            regions[there],
            tuple(labels[i] for i in there),
            np.array([scores[i] for i in there]),
            "share of the picture" if kind == "semantic" else "model's own",
            f"{kind} segmentation",
            self.name,
            image,
            of_module(self.module),
        )

    def _prepared(self, image: np.ndarray, kind: str) -> dict[str, Tensor]:
        """What the module is given for an image, (H, W, 3) uint8."""
        picture = Image.fromarray(image)
        if self.of_torchvision:
            return {"pixel_values": self.processor(picture)[None]}
        asked = {"task_inputs": [kind]} if _one_former(self.module) else {}
        try:
            made = self.processor(images=picture, return_tensors="pt", **asked)
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise ValueError(f"the processor of {self.name} does not prepare this picture: {reason(error)}") from error
        return {name: made[name] for name in ("pixel_values", "pixel_mask", "task_inputs") if name in made}

    @torch.no_grad()
    def _output(self, inputs: Mapping[str, Tensor]) -> Any:
        weight = next(self.module.parameters())
        placed = {k: v.to(weight.device, weight.dtype if v.is_floating_point() else None) for k, v in inputs.items()}
        try:
            with evaluating(self.module):
                return self.module(placed["pixel_values"]) if self.of_torchvision else self.module(**placed)
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ValueError(f"{self.name} does not run on this picture: {reason(error)}") from error

    def _regions(
        self, output: Any, kind: str, size: tuple[int, int]
    ) -> tuple[np.ndarray, list[str], list[float] | None]:
        """(n, height, width) bool of a size, labels, and scores where the model has its own."""
        if kind == "semantic":
            if self.of_torchvision:
                logits = nn.functional.interpolate(output["out"].float(), size, mode="bilinear", align_corners=False)
                found = logits[0].argmax(0).cpu().numpy()
            else:
                (classes,) = self.processor.post_process_semantic_segmentation(output, target_sizes=[size])
                found = classes.cpu().numpy()
            ids = np.unique(found)
            return found == ids[:, None, None], [self._label(int(i)) for i in ids], None
        process = getattr(self.processor, f"post_process_{kind}_segmentation")
        (made,) = process(output, target_sizes=[size])
        segments = made["segments_info"]
        if not segments:
            return np.zeros((0, *size), bool), [], []
        found = made["segmentation"].cpu().numpy()
        regions = np.stack([found == one["id"] for one in segments])
        return regions, [self._label(one["label_id"]) for one in segments], [float(one["score"]) for one in segments]

    def _label(self, index: int) -> str:
        return self.labels[index] if index < len(self.labels) else f"class {index}"


SEGMENTERS: Latest[Segmenter] = Latest("model", 1, lambda one: module_bytes(one.module))
KEEPERS.append(SEGMENTERS)


def segmenter_of(model: Any, processor: Any = None) -> Segmenter | None:
    """A segmentation model by its name on a hub or its folder, or of a module or pipeline; None of what is none.

    Raises ValueError for a module without a processor, OSError where the hub or the folder does not give all of it.
    """
    if isinstance(model, Segmenter):
        return model
    if isinstance(model, str | Path):
        name = str(model)
        if not (name.startswith("torchvision/") or _is_segmenter(name)):
            return None
        return SEGMENTERS.once((name, saved(name)), lambda: _named(name))
    if not hasattr(model, "model") and not isinstance(model, nn.Module):
        return None
    module, own = given(model)
    if not makes_masks(module):
        return None
    kind, of_torchvision = type(module), _of_torchvisions(module)
    processor = own if processor is None else processor
    if not callable(processor):
        such = "weights.transforms()" if of_torchvision else "the image processor that it was trained with"
        raise ValueError(f"nothing says how {kind.__name__} is shown pictures: give vislab.segment processor=…, {such}")
    if not of_torchvision and not hasattr(processor, "post_process_semantic_segmentation"):
        raise ValueError(
            f"{type(processor).__name__} has no post-processing for masks: take the image processor of "
            f"{kind.__name__}'s own family"
        )
    if _one_former(module) and not hasattr(processor, "tokenizer"):
        raise ValueError(
            f"{kind.__name__} is told its task in words, which {type(processor).__name__} does not make: give "
            "processor=…, the whole transformers.OneFormerProcessor"
        )
    names = getattr(getattr(module, "config", None), "id2label", None) or {}
    return Segmenter(kind.__name__, module, processor, _in_order(names))


def makes_masks(module: nn.Module) -> bool:
    """Whether a module of transformers or torchvision is made for segmentation."""
    return _of_torchvisions(module) or type(module).__name__.endswith((_SEMANTIC, *_UNIVERSAL))


def _of_torchvisions(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torchvision.models.segmentation")


def _one_former(module: nn.Module) -> bool:
    return type(module).__name__.startswith("OneFormer")


def _in_order(names: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(names.get(i, f"class {i}") for i in range(max(names, default=-1) + 1))


def _is_segmenter(name: str) -> bool:
    """Whether the configuration of a name says that it is a segmentation model; what cannot be read is none."""
    try:
        if "/" not in name and not place_of(name).is_dir():
            return False
        with quiet():
            config = part("AutoConfig").from_pretrained(name, **safely(name))
    except (OSError, ValueError, KeyError):
        return False
    return any(one.endswith((_SEMANTIC, *_UNIVERSAL)) for one in config.architectures or ())


def _named(name: str) -> Segmenter:
    library_name, _, which = name.partition("/")
    if library_name == "torchvision" and not place_of(name).is_dir():
        return _of_torchvision(name, which)
    try:
        with quiet():
            config = part("AutoConfig").from_pretrained(name, **safely(name))
            bring_transformers(config)
            module = weighted(part(config.architectures[0]), name, config=config).eval()
            one_former = config.model_type == "oneformer"
            processor = part("AutoProcessor" if one_former else "AutoImageProcessor").from_pretrained(
                name, **safely(name)
            )
    except (OSError, ValueError, AttributeError, RuntimeError) as error:
        raise OSError(f"cannot load {name!r}: {first_line(error)} {advice(name, 'vislab.load')}") from error
    return Segmenter(name, module.to(fastest()), processor, _in_order(config.id2label))


def _of_torchvision(name: str, which: str) -> Segmenter:
    models = library("torchvision").models
    known: Sequence[str] = models.list_models(module=models.segmentation)
    if which not in known:
        raise ValueError(f"torchvision has no segmentation model {shown(which)}: it has {', '.join(known)}")
    weights = models.get_model_weights(which).DEFAULT
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        raise OSError(f"cannot load {name!r}: {first_line(error)} {advice(name, 'vislab.load')}") from error
    names = tuple(weights.meta["categories"])
    with LOADING:
        module = models.get_model(which, weights=None, weights_backbone=None, num_classes=len(names), aux_loss=True)
    module.load_state_dict(state)
    return Segmenter(name, module.eval().to(fastest()), weights.transforms(), names)
