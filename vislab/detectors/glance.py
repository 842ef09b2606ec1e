"""A Glance: one forward of a detector under capture, from which its boxes and what they rest on are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..core.checks import check_shares
from ..core.geometry import Frame
from ..core.heatmap import Heatmap
from ..engine.capture import Capture
from ..methods.request import Head
from . import maps
from .detections import Decoded, Detections, check_confidence
from .maps import Place
from .points import Points
from .request import BoxRequest

if TYPE_CHECKING:
    from .detector import Detector


@dataclass(frozen=True, eq=False, repr=False)
class Glance:
    """One forward of a detector under capture, from which boxes and maps are read; `Detector.glance` makes one.

    image: (H, W, 3) uint8, the source. features: the maps that lead into its head, (1, channels, rows, cols), if it has
    such a neck, and the classes of YOLOE. samples: of each layer of deformable attention, where its queries sample the
    maps, (heads, queries, maps, points, 2), (x, y) in shares of the input, and the weights of the samples, (heads,
    queries, maps, points).
    """

    detector: Detector
    capture: Capture
    frame: Frame
    image: np.ndarray
    features: tuple[Tensor, ...]
    samples: tuple[tuple[Tensor, Tensor], ...]
    _output: Any = field(repr=False)

    def __repr__(self) -> str:
        (high, wide), (h, w) = self.frame.source, self.frame.model
        return f"<Glance of {self.detector.name} at an image of {wide} × {high} px, as {w} × {h} px>"

    def detections(self, confidence: float = 0.25, iou: float = 0.7) -> Detections:
        """The boxes above a confidence; of those that overlap more than `iou` the most certain, where cells make them.

        Both lie in 0..1. No forward is needed.
        """
        decoded = self._decoded(confidence, iou)
        xyxy, scores, class_ids, origin = (torch.as_tensor(part).cpu().numpy() for part in decoded[:4])
        keypoints, corners = (
            None if one is None else one.cpu().numpy() for one in (decoded.keypoints, decoded.corners)
        )
        return Detections(
            xyxy=np.concatenate([np.minimum(xyxy[:, :2], xyxy[:, 2:]), np.maximum(xyxy[:, :2], xyxy[:, 2:])], 1),
            scores=scores,
            labels=tuple(self.detector.labels[int(i)] for i in class_ids),
            class_ids=class_ids,
            origin=origin,
            frame=self.frame,
            confidence=confidence,
            detector=self.detector.name,
            levels=self.detector.family.levels(self.frame),
            image=self.image,
            keypoints=keypoints,
            corners=corners,
        )

    def masks(self, confidence: float = 0.25, iou: float = 0.7) -> np.ndarray:
        """The mask of each of these boxes -> (n, h, w) bool, pixels of the detector's input; no forward is needed.

        Raises ValueError for a detector that makes none.
        """
        masks = self._decoded(confidence, iou).masks
        if masks is None:
            raise ValueError(f"{self.detector.name} makes boxes without masks: take one that does, as 'yolo11n-seg.pt'")
        found: np.ndarray = masks.cpu().numpy()
        return found

    def _decoded(self, confidence: float, iou: float) -> Decoded:
        check_confidence(confidence)
        check_shares(iou=iou)
        return self.detector.family.decode(self._output, self.frame, confidence, iou)

    def places(self) -> list[Place]:
        """The sites that attend over a feature map or over patches, in execution order, each with its grid."""
        return maps.places(self)

    def heatmap(
        self,
        *,
        box: int | None = None,
        query: tuple[float, float] | None = None,
        method: Literal["attention", "grad_cam"] | None = None,
        layer: int | str = -1,
        head: Head = "mean",
    ) -> Heatmap:
        """What a box rests on, or what the cell over a point attends to; no forward is needed.

        box: index among the boxes by falling score, by default 0; or query: a point (x, y), source pixels. method:
        "attention", by default where the detector has any, or "grad_cam" of a box. layer: index among the sites that
        answer (-1 the last), a site's name, or "mean", of those on one grid. head: index, "mean", "max" or "min".
        Raises ValueError for what this detector does not answer, IndexError where there is no such box.

            glance = vislab.load_detector("embedded").glance(vislab.load_image("photo.jpg"))
            glance.heatmap(box=0, layer=3, head=1)
        """
        return maps.heatmap(self, BoxRequest(box, query, method, layer, head))

    def points(self, box: int, *, layer: int = -1) -> Points:
        """Where the query behind a box of RT-DETR samples the feature maps, and with which weights.

        box: index among the boxes by falling score. layer: of the decoder, -1 the last. Raises ValueError for a
        detector without deformable attention, IndexError where there is no such box.

        Source: Zhu et al. 2021 (Deformable DETR), eq. 3.
        """
        return maps.points(self, box, layer=layer)
