"""Detectors of transformers whose boxes are made by queries: DETR, RT-DETR and YOLOS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.checks import first_line
from ..core.geometry import Frame, Grid
from ..core.imports import library
from ..models.hub import advice, bring_transformers, part, quiet
from .detections import Decoded

# Families by what their scores are: a softmax with a class for "nothing here", or a sigmoid for each class.
_SOFTMAX, _SIGMOID = ("detr", "yolos"), ("rt_detr", "rt_detr_v2")


@dataclass(frozen=True, eq=False)
class Detr:
    """A detector of transformers with its image processor.

    size: (height, width) px of the input, or None where the processor finds it from the image.
    """

    module: nn.Module
    labels: tuple[str, ...]
    processor: Any
    size: tuple[int, int] | None = None

    @property
    def family(self) -> str:
        return str(self.module.config.model_type)  # type: ignore[union-attr]

    @property
    def deformable(self) -> bool:
        return self.family in _SIGMOID

    @property
    def head(self) -> None:
        """No neck of feature maps leads into one head, as in ultralytics' detectors."""

    def prepare(self, image: np.ndarray, size: tuple[int, int] | None) -> tuple[dict[str, Tensor], Frame]:
        """(H, W, 3) uint8 -> (the network's arguments, Frame), as the image processor does it."""
        sized = {} if size is None else {"size": {"height": size[0], "width": size[1]}}
        inputs = self.processor(images=image, input_data_format="channels_last", return_tensors="pt", **sized)
        pixels = inputs["pixel_values"]
        inner = (pixels.shape[2], pixels.shape[3])
        arguments = {"pixel_values": pixels}
        if "pixel_mask" in inputs and self.family == "detr":
            arguments["pixel_mask"] = mask = inputs["pixel_mask"]
            inner = (int(mask[0, :, 0].sum()), int(mask[0, 0].sum()))  # the rest is padding
        scale = (inner[0] / image.shape[0], inner[1] / image.shape[1])
        return arguments, Frame((image.shape[0], image.shape[1]), (pixels.shape[2], pixels.shape[3]), scale)

    def levels(self, frame: Frame) -> tuple[Grid, ...]:
        return ()

    def maps(self, frame: Frame) -> tuple[Grid, ...]:
        """The grid of YOLOS' tokens, or those of the feature maps that a module inside may attend over."""
        if self.family == "yolos":
            config: Any = self.module.config
            side = config.patch_size
            return (Grid.of(frame.model, (side, side), prefix=1, suffix=config.num_detection_tokens),)
        height, width = frame.model
        return tuple(Grid(math.ceil(height / s), math.ceil(width / s), (s, s)) for s in (8, 16, 32))

    def decode(self, output: Any, frame: Frame, confidence: float, iou: float) -> Decoded:
        """Boxes above a confidence, the most certain first; queries leave none to be suppressed."""
        logits, boxes = output.logits[0].float(), output.pred_boxes[0].float()
        if self.family in _SOFTMAX:
            score, label = logits.softmax(-1)[:, :-1].max(-1)
            query = torch.arange(len(score), device=score.device)
        else:  # the best pairs of a query and a class
            score, pair = logits.sigmoid().flatten().topk(len(logits))
            query, label = pair // logits.shape[1], pair % logits.shape[1]
        order = score.argsort(descending=True, stable=True)
        order = order[score[order] > confidence]
        centre, sides = boxes[query[order]].split(2, -1)
        size = boxes.new_tensor([frame.source[1], frame.source[0]] * 2)
        xyxy = torch.cat([centre - sides / 2, centre + sides / 2], -1) * size
        return Decoded(xyxy, score[order], label[order], query[order])

    def score(self, features: Sequence[Tensor], label: int, cell: int) -> Tensor:
        raise ValueError(f"{type(self.module).__name__} has no cells: its boxes are made by queries")


def of_module(module: nn.Module, device: torch.device | None = None, processor: Any = None) -> Detr | None:
    """A detector of transformers as it is; None for another. processor: by default the one that its family has."""
    config: Any = getattr(module, "config", None)
    if not type(module).__name__.endswith("ForObjectDetection") or config is None:
        return None
    if config.model_type not in _SOFTMAX + _SIGMOID:
        raise ValueError(f"{type(module).__name__} is none of the families read here: {', '.join(_SOFTMAX + _SIGMOID)}")
    if processor is not None:
        return _with_labels(module, processor, device)
    # the second RT-DETR has none of its own
    family = part("RTDetrConfig") if config.model_type == "rt_detr_v2" else type(config)
    known = library("transformers.models.auto.image_processing_auto").IMAGE_PROCESSOR_MAPPING
    return _with_labels(module, known[family]["torchvision"](), device)


def named(name: str, *, local: bool, device: torch.device) -> Detr:
    """A detector of transformers by its name on the hub, or its folder. Raises OSError where neither gives it."""
    safely = {"local_files_only": local or Path(name).is_dir(), "trust_remote_code": False}
    try:
        with quiet():
            config = part("AutoConfig").from_pretrained(name, **safely)
            if config.model_type not in _SOFTMAX + _SIGMOID:
                raise ValueError(f"it is {config.model_type}, and read are {', '.join(_SOFTMAX + _SIGMOID)}")
            bring_transformers(config)
            loader = part("AutoModelForObjectDetection")
            module = loader.from_pretrained(name, config=config, use_safetensors=True, **safely)
            processor = part("AutoImageProcessor").from_pretrained(name, **safely)
    except (OSError, ValueError) as error:
        raise OSError(
            f"cannot load the detector {name!r}: {first_line(error)} {advice(name, 'vislab.load_detector')}"
        ) from error
    return _with_labels(module.eval(), processor, device)


def _with_labels(module: Any, processor: Any, device: torch.device | None) -> Detr:
    if device is not None:
        module.to(device)
    names = module.config.id2label
    return Detr(module, tuple(names[i] for i in sorted(names)), processor)
