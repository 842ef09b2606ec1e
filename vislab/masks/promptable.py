"""Models that make the mask of what a point or a box shows them: SAM, SAM-HQ and SAM2 of transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..core.cache import KEEPERS, Latest
from ..core.checks import first_line
from ..core.files import place_of
from ..core.fingerprints import of_module, of_weights
from ..core.imports import library
from ..models.cache import saved
from ..models.device import fastest, module_bytes
from ..models.embedding import reason
from ..models.given import given
from ..models.hub import advice, bring_transformers, part, quiet, safely, weighted
from ..models.modes import evaluating
from .masks import Masks
from .prompts import Prompt

_KNOWN = ("SamModel", "SamHQModel", "Sam2Model")
_FAULTS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)


@dataclass(frozen=True, eq=False)
class Encoded:
    """An image as the decoder takes it. scale: (x, y), the model's pixels a source pixel; sizes: for the processor."""

    name: str
    embeddings: dict[str, Any]
    scale: tuple[float, float]
    sizes: dict[str, Tensor]

    @property
    def bytes(self) -> int:
        parts = [one if isinstance(one, Sequence) else [one] for one in self.embeddings.values()]
        return sum(tensor.nbytes for tensors in parts for tensor in tensors)


@dataclass(frozen=True, eq=False)
class _Key:
    """An image that a model was shown, and nobody writes to: equal where weights, processor and all pixels are."""

    weights: str
    processor: Any
    image: np.ndarray

    def __hash__(self) -> int:
        return hash((self.weights, id(self.processor), self.image.shape))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Key) or self.processor is not other.processor:
            return False
        return self.weights == other.weights and (self.image is other.image or np.array_equal(self.image, other.image))


ENCODED: Latest[Encoded] = Latest("run", 2, lambda one: one.bytes)
KEEPERS.append(ENCODED)


@dataclass(frozen=True, eq=False)
class Promptable:
    """A model that is asked by points and boxes, with its processor, both of transformers."""

    name: str
    module: nn.Module
    processor: Any

    def segment(self, image: np.ndarray, prompts: Sequence[Prompt], candidates: bool = False) -> Masks:
        """The mask of each prompt on an image, (H, W, 3) uint8, by the model's own post-processing.

        Of the masks that the model proposes for a prompt, the one that it scores highest, or with candidates all. The
        image is encoded once: while it is asked for the next prompt, the decoder alone runs.
        """
        facts, seen = of_module(self.module), self.encoded(image)
        masks, scores, labels = [], [], []
        for prompt in prompts:
            logits, sure = self._decoded(seen, prompt)
            order = sure.argsort(descending=True)
            order = order if candidates else order[:1]
            masks += [mask[0] for mask in self._placed(logits[order, None].float(), seen)]
            scores += sure[order].clamp(0, 1).tolist()
            several = len(order) > 1
            labels += [f"{prompt.label}, candidate {i + 1}" if several else prompt.label for i in range(len(order))]
        how = prompts[0].said if len(prompts) == 1 else f"{len(prompts)} boxes"
        facts |= {"prompts": [{"points": p.points, "inside": p.inside, "box": p.box} for p in prompts]}
        found = np.stack(masks)
        scored = "IoU that the model expects"
        return Masks(found, tuple(labels), np.array(scores), scored, how, self.name, image, facts)

    def encoded(self, image: np.ndarray) -> Encoded:
        """An image, (H, W, 3) uint8, as the decoder takes it: encoded now, or before and remembered."""
        key = _Key(of_weights(self.module), self.processor, image)
        return ENCODED.once(key, lambda: self._encoded(image))

    @torch.no_grad()
    def _encoded(self, image: np.ndarray) -> Encoded:
        height, width = image.shape[:2]
        try:
            corner = [[[[float(width), float(height)]]]]  # where it lies in the model's pixels tells the scale
            made = self.processor(images=Image.fromarray(image), input_points=corner, return_tensors="pt")
            x, y = made["input_points"].flatten().tolist()
            weight = next(self.module.parameters())
            with evaluating(self.module):
                encode: Callable[[Tensor], Any] = self.module.get_image_embeddings  # type: ignore[assignment]
                found = encode(made["pixel_values"].to(weight.device, weight.dtype))
        except _FAULTS as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ValueError(f"{self.name} does not run on this picture: {reason(error)}") from error
        embeddings = {"image_embeddings": found}
        if isinstance(found, tuple):
            embeddings = {"image_embeddings": found[0], "intermediate_embeddings": found[1]}
        sizes = {name: made[name] for name in ("original_sizes", "reshaped_input_sizes") if name in made}
        return Encoded(self.name, embeddings, (x / width, y / height), sizes)

    @torch.no_grad()
    def _decoded(self, seen: Encoded, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """((n, h, w) logits of masks, (n,) how sure the model is of each)."""
        device = next(self.module.parameters()).device
        asked: dict[str, Tensor] = {}
        scale = torch.tensor(seen.scale, dtype=torch.float64)
        if prompt.points:
            points = torch.tensor(prompt.points, dtype=torch.float64) * scale
            asked["input_points"] = points.float()[None, None].to(device)
            asked["input_labels"] = torch.tensor(prompt.inside, dtype=torch.int64)[None, None].to(device)
        if prompt.box:
            box = torch.tensor(prompt.box, dtype=torch.float64).view(2, 2) * scale
            asked["input_boxes"] = box.float().view(1, 1, 4).to(device)
        try:
            with evaluating(self.module):
                output = self.module(**seen.embeddings, **asked, multimask_output=True)
        except _FAULTS as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ValueError(f"{self.name} does not answer {prompt.said}: {reason(error)}") from error
        return output.pred_masks[0, 0], output.iou_scores[0, 0].float()

    def _placed(self, logits: Tensor, seen: Encoded) -> np.ndarray:
        """(n, 1, h, w) -> (n, 1, H, W) bool, source pixels."""
        (made,) = self.processor.post_process_masks([logits], **seen.sizes)
        found: np.ndarray = made.cpu().numpy()
        return found


MODELS: Latest[Promptable] = Latest("model", 1, lambda one: module_bytes(one.module))
KEEPERS.append(MODELS)


def promptable_of(model: Any, processor: Any = None) -> Promptable | None:
    """A model that takes points and boxes by its name or folder, or of a module or pipeline; None of what is none.

    Raises ValueError for a module without a processor, OSError where the hub or the folder does not give all of it.
    """
    if isinstance(model, Promptable):
        return model
    if isinstance(model, str | Path):
        name = str(model)
        kind = _kind(name)
        return None if kind is None else MODELS.once((name, saved(name)), lambda: _named(name, kind))
    if not hasattr(model, "model") and not isinstance(model, nn.Module):
        return None
    module, own = given(model)
    if type(module).__name__ not in _KNOWN:
        return None
    processor = own if processor is None else processor
    if not hasattr(processor, "post_process_masks"):
        what = f"{type(processor).__name__} does not say" if processor is not None else "nothing says"
        raise ValueError(
            f"{what} how {type(module).__name__} is shown pictures and points: give vislab.segment processor=…, such "
            f"as transformers.{_processor_class(module).__name__}"
        )
    if not hasattr(processor, "image_processor"):
        processor = _processor_class(module)(image_processor=processor)
    return Promptable(type(module).__name__, module, processor)


def _processor_class(module: nn.Module) -> Any:
    return library("transformers.models.auto.processing_auto").PROCESSOR_MAPPING[type(module.config)]


def _kind(name: str) -> str | None:
    """The class of transformers that a name's configuration asks for, where it is one that takes points."""
    try:
        if "/" not in name and not place_of(name).is_dir():
            return None
        with quiet():
            config = part("AutoConfig").from_pretrained(name, **safely(name))
    except (OSError, ValueError, KeyError):
        return None
    names = library("transformers.models.auto.modeling_auto").MODEL_FOR_MASK_GENERATION_MAPPING_NAMES
    kind = names.get(config.model_type)
    return kind if kind in _KNOWN else None


def _named(name: str, kind: str) -> Promptable:
    try:
        with quiet():
            bring_transformers()
            module = weighted(part(kind), name).eval()
            processor = _processor_class(module).from_pretrained(name, **safely(name))
    except (OSError, ValueError, AttributeError, RuntimeError) as error:
        raise OSError(f"cannot load {name!r}: {first_line(error)} {advice(name, 'vislab.load')}") from error
    return Promptable(name, module.to(fastest()), processor)
