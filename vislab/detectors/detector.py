"""A Detector, and a Glance: one forward of it under capture, from which boxes and maps are read."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..core.geometry import Frame, Grid
from ..core.images import load_image
from ..engine.capture import Capture
from ..engine.hooks import capture
from ..models.modes import evaluating
from ..models.preprocessing import ImageSize, sides
from . import detr, yolo
from .detections import Detections, check_confidence
from .features import FeatureMap


@dataclass(frozen=True, eq=False)
class Glance:
    """One forward of a detector under capture.

    features: the maps that lead into its head, if it has such a neck, and the classes of YOLOE. samples: of each layer
    of deformable attention, where its queries sample the maps, (heads, queries, maps, points, 2), (x, y) in shares of
    the input, and the weights of the samples, (heads, queries, maps, points).
    """

    detector: Detector
    capture: Capture
    frame: Frame
    image: np.ndarray
    features: tuple[Tensor, ...]
    samples: tuple[tuple[Tensor, Tensor], ...]
    _output: Any = field(repr=False)

    def detections(self, confidence: float = 0.25, iou: float = 0.7) -> Detections:
        """The boxes above a confidence; of those that overlap more than `iou` the most certain, where cells make them.

        Both lie in 0..1. No forward is needed.
        """
        check_confidence(confidence)
        if not 0 <= iou <= 1:
            raise ValueError(f"iou lies between 0 and 1, not at {iou!r}")
        family = self.detector.family
        decoded = family.decode(self._output, self.frame, confidence, iou)
        xyxy, scores, class_ids, origin = (torch.as_tensor(part).cpu().numpy() for part in decoded)
        return Detections(
            xyxy=np.concatenate([np.minimum(xyxy[:, :2], xyxy[:, 2:]), np.maximum(xyxy[:, :2], xyxy[:, 2:])], 1),
            scores=scores,
            labels=tuple(self.detector.labels[int(i)] for i in class_ids),
            class_ids=class_ids,
            origin=origin,
            frame=self.frame,
            confidence=confidence,
            detector=self.detector.name,
            levels=family.levels(self.frame),
            image=self.image,
        )


@dataclass(frozen=True, eq=False)
class Detector:
    """A detector ready to look at images; make one with `vislab.load_detector`.

    family: how images are prepared for it and its output decoded. labels: class names.
    """

    name: str
    family: yolo.Yolo | detr.Detr
    _lock: Any = field(default_factory=threading.RLock, repr=False)

    @property
    def module(self) -> nn.Module:
        """The network that runs."""
        return self.family.module

    @property
    def labels(self) -> tuple[str, ...]:
        return self.family.labels

    def glance(
        self,
        image: np.ndarray,
        *,
        image_size: ImageSize | None = None,
        attention_scale: float | Mapping[int, float] = 1.0,
    ) -> Glance:
        """One forward of an image, (H, W, 3) uint8. See `vislab.detect` for the settings."""
        size = self.family.size if image_size is None else sides(image_size)
        given, frame = self.family.prepare(image, size)  # type: ignore[arg-type]
        parameter = next(self.module.parameters())
        given = {
            name: x.to(parameter.device, parameter.dtype if x.is_floating_point() else None)
            for name, x in given.items()
        }
        if self.family.deformable and attention_scale != 1 and not isinstance(attention_scale, Mapping):
            attention_scale = {0: attention_scale}  # what samples points has no q·k to scale
        features: list[Tensor] = []
        watched = capture(self.module, attention_scale=attention_scale)
        sampling = _Sampling() if self.family.deformable else nullcontext()
        with self._lock, torch.no_grad(), evaluating(self.module), watched as cap, sampling as seen:
            head = self.family.head
            with head.register_forward_pre_hook(_keep(features)) if head is not None else nullcontext():
                output = self.module(**given)
        if attention_scale != 1 and not cap.sites:
            raise ValueError(f"{self.name} has no attention to scale: leave attention_scale out")
        return Glance(self, cap, frame, image, tuple(features), seen.layers() if seen else (), output)

    def features(self, image: Any, *, image_size: ImageSize | None = None) -> list[FeatureMap]:
        """The feature maps that lead into the detector's head (P3 to P5 of most), their cells as tokens.

        image: what `load_image` takes. Raises ValueError for a detector without such a neck, of transformers.
        """
        glance = self.glance(load_image(image), image_size=image_size)
        if not glance.features:
            raise ValueError(f"{self.name} has no neck of feature maps: take a detector of ultralytics")
        found = []
        for x in glance.features:
            if x.ndim < 4:  # YOLOE's head is given its classes beside the maps
                continue
            rows, cols = x.shape[2:]
            grid = Grid(rows, cols, (glance.frame.model[0] // rows, glance.frame.model[1] // cols))
            tokens = x[0].flatten(1).mT.float().cpu().numpy()
            found.append(FeatureMap(f"P{round(math.log2(grid.patch[0]))}", tokens, grid, glance.frame, glance.image))
        return found


class _Sampling(TorchFunctionMode):
    """Keeps where deformable attention samples its maps: a softmax of weights, then one grid_sample for each map."""

    def __init__(self) -> None:
        super().__init__()
        self._weights: Tensor | None = None
        self._seen: list[tuple[Tensor, list[Tensor]]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in (F.softmax, torch.softmax, Tensor.softmax):
            self._weights = output
        elif func is F.grid_sample:
            if self._weights is not None:
                self._seen.append((self._weights, []))
                self._weights = None
            if self._seen:
                self._seen[-1][1].append(args[1])
        return output

    def layers(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """See `Glance`: of the weights (1, queries, heads, maps·points) and grids (heads, queries, points, 2) seen."""
        found = []
        for weights, grids in self._seen:
            points = (torch.stack(grids, 2) + 1) / 2  # grid_sample counts from -1 to 1, from edge to edge
            found.append((points, weights[0].transpose(0, 1).reshape(points.shape[:-1])))
        return tuple(found)


def _keep(features: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """A hook that keeps the maps that a head is given."""

    def hook(module: nn.Module, given: tuple[Any, ...]) -> None:
        features[:] = given[0]

    return hook
