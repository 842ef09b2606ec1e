"""Detectors of transformers that are told in words what to look for: OWL-ViT, OWLv2 and Grounding DINO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.checks import first_line, shown
from ..core.geometry import Frame, Grid
from ..models.hub import advice, bring_transformers, part, quiet
from .detections import Decoded

OWL, DINO = ("owlvit", "owlv2"), ("grounding-dino",)
FAMILIES = OWL + DINO
USUAL = "OWL-ViT, OWLv2 and Grounding DINO"


@dataclass(frozen=True, eq=False)
class Worded:
    """A detector with its processor, of images and texts. labels: what to look for; none before it is told.

    OWL-ViT and OWLv2 make a box at each patch, so a box is explained by what its patch attends to in the vision tower.
    Grounding DINO makes boxes by queries that sample a few points of the maps, so there are points and no map.
    """

    module: nn.Module
    processor: Any
    labels: tuple[str, ...] = ()
    size: tuple[int, int] | None = None

    @property
    def family(self) -> str:
        return str(self.module.config.model_type)  # type: ignore[union-attr]

    @property
    def deformable(self) -> bool:
        return self.family in DINO

    @property
    def decoders(self) -> int:
        """How many layers of deformable attention, the last of all, are the decoder's."""
        config: Any = self.module.config
        return int(config.decoder_layers) if self.deformable else 0

    @property
    def head(self) -> None:
        """No neck of feature maps leads into one head, as in ultralytics' detectors."""

    def told(self, labels: Any) -> Worded:
        """The same detector, looking for these. Raises ValueError for what is no list of texts."""
        several = isinstance(labels, Sequence) and not isinstance(labels, str)
        if not several or not labels or not all(isinstance(one, str) and one.strip() for one in labels):
            raise ValueError(
                f"labels are what to look for, in words, such as labels=['a church', 'a fish'], not {shown(labels)}"
            )
        texts = tuple(one.strip() for one in labels)
        if len({*texts}) < len(texts):
            raise ValueError(f"labels name each thing once, not {shown(list(labels))}")
        if self.deformable and (dotted := next((one for one in texts if "." in one), None)):
            raise ValueError(f"{shown(dotted)} has a point, by which this detector tells labels apart: leave it out")
        return replace(self, labels=texts)

    def prepare(self, image: np.ndarray, size: tuple[int, int] | None) -> tuple[dict[str, Tensor], Frame]:
        """(H, W, 3) uint8 -> (the network's arguments, Frame), as the processor does it.

        Raises ValueError before it is told what to look for, for a size, and for texts longer than it takes.
        """
        if not self.labels:
            raise ValueError(
                f"{type(self.module).__name__} looks for what it is told: say it, labels=['a church', 'a fish']"
            )
        if size is not None:
            raise ValueError(
                f"{type(self.module).__name__} takes images of the size that its processor makes them: leave "
                "image_size and scales out"
            )
        texts = [list(self.labels)]
        made = self.processor(text=texts, images=image, return_tensors="pt", input_data_format="channels_last")
        most = self._longest
        if most is not None and made["input_ids"].shape[1] > most:
            longest = max(self.labels, key=len)
            which = "they are" if self.deformable else f"{shown(longest)} is"
            raise ValueError(f"labels of up to {most} tokens fit, and {which} longer: take fewer words")
        height, width = made["pixel_values"].shape[2:]
        source = (image.shape[0], image.shape[1])
        edges = (max(source),) * 2 if self.family == "owlv2" else source  # OWLv2's are padded to a square
        frame = Frame(source, (height, width), (height / edges[0], width / edges[1]))
        return dict(made), frame

    @property
    def _longest(self) -> int | None:
        config: Any = self.module.config
        if self.deformable:
            return int(config.max_text_len)
        return int(config.text_config.max_position_embeddings)

    def levels(self, frame: Frame) -> tuple[Grid, ...]:
        """The grid whose patches make boxes; none of queries."""
        return () if self.deformable else (self._patches(frame, 0),)

    def maps(self, frame: Frame) -> tuple[Grid, ...]:
        """The grid of the vision tower's tokens, or those of the maps that deformable attention samples."""
        if not self.deformable:
            return (self._patches(frame, 1),)
        config: Any = self.module.config
        (height, width), strides = frame.model, [8 * 2**n for n in range(config.num_feature_levels)]
        return tuple(Grid(-(-height // s), -(-width // s), (s, s)) for s in strides)

    def _patches(self, frame: Frame, prefix: int) -> Grid:
        config: Any = self.module.config
        side = int(config.vision_config.patch_size)
        return Grid.of(frame.model, (side, side), prefix=prefix)

    def decode(self, output: Any, frame: Frame, confidence: float, iou: float) -> Decoded:
        """Boxes above a confidence, the most certain first; as in their own processors, none is suppressed."""
        logits, boxes = output.logits[0].float(), output.pred_boxes[0].float()
        score, label = (self._by_label(logits, output) if self.deformable else logits).sigmoid().max(-1)
        order = score.argsort(descending=True, stable=True)
        order = order[score[order] > confidence]
        centre, sides = boxes[order].split(2, -1)
        size = boxes.new_tensor([frame.model[1] / frame.scale[1], frame.model[0] / frame.scale[0]] * 2)
        xyxy = torch.cat([centre - sides / 2, centre + sides / 2], -1) * size
        return Decoded(xyxy, score[order], label[order], order)

    def _by_label(self, logits: Tensor, output: Any) -> Tensor:
        """Of each label the highest of its tokens' logits, which a point ends. -> (queries, labels)"""
        ids, tokenizer = output.input_ids[0].tolist(), self.processor.tokenizer
        end, special = tokenizer.convert_tokens_to_ids("."), {*tokenizer.all_special_ids}
        runs: list[list[int]] = [[]]
        for at, token in enumerate(ids):
            if token == end:
                runs.append([])
            elif token not in special or token == tokenizer.unk_token_id:
                runs[-1].append(at)
        runs = [run for run in runs if run]
        if len(runs) != len(self.labels):
            raise ValueError(f"the tokenizer of {type(self.module).__name__} does not tell {shown(self.labels)} apart")
        return torch.stack([logits[:, run].amax(-1) for run in runs], -1)

    def score(self, features: Sequence[Tensor], label: int, cell: int) -> Tensor:
        raise ValueError(
            f"{type(self.module).__name__} has no neck of feature maps, on which grad_cam explains a box: take "
            "method='attention'"
        )


def of_module(module: nn.Module, device: torch.device | None, processor: Any) -> Worded | None:
    """A detector that is told in words, with its processor; None of another."""
    config: Any = getattr(module, "config", None)
    if not type(module).__name__.endswith("ForObjectDetection") or getattr(config, "model_type", None) not in FAMILIES:
        return None
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise ValueError(
            f"{type(module).__name__} needs its processor, of images and texts, to be told what to look for: "
            "vislab.load_detector(module, processor=transformers.AutoProcessor.from_pretrained(…))"
        )
    return Worded(module if device is None else module.to(device), processor)


def named(name: str, *, local: bool, device: torch.device) -> Worded | None:
    """By its name on the hub, or its folder; None of another family. Raises OSError where neither gives it."""
    safely = {"local_files_only": local or Path(name).is_dir(), "trust_remote_code": False}
    try:
        with quiet():
            config = part("AutoConfig").from_pretrained(name, **safely)
            if config.model_type not in FAMILIES:
                return None
            bring_transformers(config)
            loader = part("AutoModelForZeroShotObjectDetection")
            module = loader.from_pretrained(name, config=config, use_safetensors=True, **safely)
            processor = part("AutoProcessor").from_pretrained(name, **safely)
    except (OSError, ValueError) as error:
        raise OSError(
            f"cannot load the detector {name!r}: {first_line(error)} {advice(name, 'vislab.load_detector')}"
        ) from error
    return Worded(module.eval().to(device), processor)
