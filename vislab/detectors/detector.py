"""A Detector: a network that makes boxes, and the one forward of it from which boxes and maps are read."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..core.features import FeatureMap
from ..core.geometry import Grid
from ..core.images import load_image
from ..engine.hooks import capture
from ..engine.site import AttentionRefused
from ..models.embedding import reason
from ..models.modes import evaluating
from ..models.preprocessing import ImageSize, sides
from . import detr, worded, yolo
from .glance import Glance


@dataclass(frozen=True, eq=False, repr=False)
class Detector:
    """A detector ready to look at images; make one with `vislab.load_detector`.

    family: how images are prepared for it and its output decoded. labels: class names. given: whether its network was
    given, and no name loads it.
    """

    name: str
    family: yolo.Yolo | detr.Detr | worded.Worded
    given: bool = False
    _lock: Any = field(default_factory=threading.RLock, repr=False)

    def __repr__(self) -> str:
        return f"<Detector {self.name}: {type(self.module).__name__}, {len(self.labels)} classes>"

    @property
    def module(self) -> nn.Module:
        """The network that runs."""
        return self.family.module

    @property
    def labels(self) -> tuple[str, ...]:
        return self.family.labels

    def told(self, labels: Any) -> Detector:
        """Itself, or, given texts, itself looking for these. ValueError where it is not told in words."""
        if labels is None:
            return self
        if not isinstance(self.family, worded.Worded):
            raise ValueError(
                f"{self.name} looks for its own {len(self.labels)} classes: leave labels out, or take a detector that "
                f"is told in words what to look for ({worded.USUAL})"
            )
        return replace(self, family=self.family.told(labels))

    def glance(
        self,
        image: np.ndarray,
        *,
        image_size: ImageSize | None = None,
        attention_scale: float | Mapping[int, float] = 1.0,
    ) -> Glance:
        """One forward of an image, (H, W, 3) uint8. See `vislab.detect` for the settings."""
        size = self.family.size if image_size is None else sides(image_size)
        arguments, frame = self.family.prepare(image, size)  # type: ignore[arg-type]
        parameter = next(self.module.parameters())
        arguments = {
            name: x.to(parameter.device, parameter.dtype if x.is_floating_point() else None)
            for name, x in arguments.items()
        }
        if self.family.deformable and attention_scale != 1 and not isinstance(attention_scale, Mapping):
            attention_scale = {0: attention_scale}  # what samples points has no q·k to scale
        features: list[Tensor] = []
        watching = capture(self.module, attention_scale=attention_scale)
        sampling = _Sampling() if self.family.deformable else nullcontext()
        with self._lock, torch.no_grad(), evaluating(self.module), watching as cap, sampling as samples:
            head = self.family.head
            with head.register_forward_pre_hook(_keep(features)) if head is not None else nullcontext():
                output = self._forward(arguments)
        if attention_scale != 1 and not cap.sites:
            raise ValueError(f"{self.name} has no attention to scale: leave attention_scale out")
        return Glance(self, cap, frame, image, tuple(features), samples.layers() if samples else (), output)

    def _forward(self, arguments: Mapping[str, Tensor]) -> Any:
        try:
            return self.module(**arguments)
        except (MemoryError, torch.OutOfMemoryError, AttentionRefused):
            raise
        except (RuntimeError, TypeError, AttributeError, LookupError, AssertionError) as error:
            shape = "×".join(map(str, next(iter(arguments.values())).shape))
            raise ValueError(
                f"{self.name} does not run on an input of {shape}: {reason(error)}. Its weights may be of another "
                "version or a fork of its library: save it anew with the one that is installed, or leave image_size out"
            ) from error

    def features(self, image: Any, *, image_size: ImageSize | None = None) -> list[FeatureMap]:
        """The feature maps that lead into the detector's head (P3 to P5 of most), their cells as tokens.

        image: what `load_image` takes. Raises ValueError for a detector without such a neck, of transformers.
        """
        glance = self.glance(load_image(image), image_size=image_size)
        if not glance.features:
            raise ValueError(f"{self.name} has no neck of feature maps: take a detector of ultralytics")
        maps = []
        for x in glance.features:
            if x.ndim < 4:  # YOLOE's head is given its classes beside the maps
                continue
            rows, cols = x.shape[2:]
            grid = Grid(rows, cols, (glance.frame.model[0] // rows, glance.frame.model[1] // cols))
            tokens = x[0].flatten(1).mT.float().cpu().numpy()
            maps.append(FeatureMap(f"P{round(math.log2(grid.patch[0]))}", tokens, grid, glance.frame, glance.image))
        return maps


class _Sampling(TorchFunctionMode):
    """Keeps where deformable attention samples its maps: a softmax of weights, then one grid_sample for each map."""

    def __init__(self) -> None:
        super().__init__()
        self._weights: Tensor | None = None
        self._calls: list[tuple[Tensor, list[Tensor]]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in (F.softmax, torch.softmax, Tensor.softmax):
            self._weights = output
        elif func is F.grid_sample:
            if self._weights is not None:
                self._calls.append((self._weights, []))
                self._weights = None
            if self._calls:
                self._calls[-1][1].append(args[1])
        return output

    def layers(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """See `Glance.samples`; the forward's weights were (1, queries, heads, maps·points), its grids a map each."""
        samples = []
        for weights, grids in self._calls:
            points = (torch.stack(grids, 2) + 1) / 2  # grid_sample counts from -1 to 1, from edge to edge
            samples.append((points, weights[0].transpose(0, 1).reshape(points.shape[:-1])))
        return tuple(samples)


def _keep(features: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """A hook that keeps the maps that go into a head."""

    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        features[:] = args[0]

    return hook
