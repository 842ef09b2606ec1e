"""The boxes of a detector on the source image, with the class, the score, and the cell or query behind each of them."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from numbers import Real
from typing import Any, NamedTuple, SupportsIndex

import numpy as np

from ..core.geometry import Frame, Grid
from ..core.shown import Shown, drawing

ROWS = 20  # of the table that is printed


class Decoded(NamedTuple):
    """A detector's output as boxes, tensors of length n; see `Detections`. masks: (n, h, w) bool, of its input."""

    xyxy: Any
    scores: Any
    class_ids: Any
    origin: Any
    masks: Any = None
    keypoints: Any = None
    corners: Any = None


@dataclass(frozen=True, eq=False, repr=False)
class Detections(Shown):
    """The boxes of an image's objects, the most certain first; there may be none.

    xyxy: (n, 4) float32, source pixels. scores: (n,) float32, 0..1, falling, all above `confidence`. labels: n names of
    classes. class_ids: (n,) int, the same classes as the detector counts them. origin: (n,) int, the detector's cell or
    query behind each box. levels: the grids whose cells make boxes, one level after the other, row-major; none where
    queries make them. scales: of boxes that were found at several sizes of the input, these, (height, width) px; origin
    is then the size that a box was found at, and frame that of the first. frame: source pixels to the detector's.
    keypoints: (n, k, 2 or 3) float32 of a -pose network, x and y in source pixels, and how sure it is that the point is
    visible, 0..1. corners: (n, 4, 2) float32 of an -obb network, those of the turned box that xyxy lies around. image:
    (H, W, 3) uint8, the source, or None. settings: the keywords of `detect` that found them, beside detector and
    confidence. facts: the fingerprint of its weights, dtype and device. Shows itself over its image as the last
    expression of a notebook cell, and as a table where it is printed; `vislab.save("boxes.pdf", boxes)` writes it.

        boxes = vislab.detect("photo.jpg", confidence=0.1)
        boxes.labels, boxes[0].xyxy, boxes.above(0.5).scores, len(boxes)
    """

    xyxy: np.ndarray
    scores: np.ndarray
    labels: tuple[str, ...]
    class_ids: np.ndarray
    origin: np.ndarray
    frame: Frame
    confidence: float
    detector: str
    levels: tuple[Grid, ...] = ()
    scales: tuple[tuple[int, int], ...] = ()
    image: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    corners: np.ndarray | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        xyxy = np.array(self.xyxy, dtype=np.float32)
        scores = np.array(self.scores, dtype=np.float32)
        class_ids, origin = (np.array(part, dtype=np.int64) for part in (self.class_ids, self.origin))
        labels = tuple(self.labels)
        count = len(labels)
        if xyxy.shape != (count, 4) or {scores.shape, class_ids.shape, origin.shape} != {(count,)}:
            raise ValueError(
                f"{count} labels need boxes of shape ({count}, 4) and as many scores, class_ids and origins, not "
                f"{xyxy.shape}, {scores.shape}, {class_ids.shape} and {origin.shape}"
            )
        check_confidence(self.confidence)
        object.__setattr__(self, "confidence", float(self.confidence))
        if not np.isfinite(xyxy).all() or (xyxy[:, 2:] < xyxy[:, :2]).any():
            raise ValueError("a box is (x0, y0, x1, y1) with x0 ≤ x1 and y0 ≤ y1, all of them finite")
        if not ((scores > np.float32(self.confidence)) & (scores <= 1)).all() or (np.diff(scores) > 0).any():
            raise ValueError(f"scores lie above the confidence of {self.confidence:g}, up to 1, and fall")
        cells = sum(grid.patches for grid in self.levels) or math.inf
        if ((origin < 0) | (origin >= cells)).any():
            raise ValueError(f"the origins of boxes run from 0 to {cells - 1}, not {origin.min()} to {origin.max()}")
        if self.image is not None and self.image.shape[:2] != self.frame.source:
            raise ValueError(f"the frame is of an image of {self.frame.source}, not of {self.image.shape[:2]}")
        arrays: dict[str, np.ndarray] = {"xyxy": xyxy, "scores": scores, "class_ids": class_ids, "origin": origin}
        for name in ("keypoints", "corners"):
            if (given := getattr(self, name)) is not None:
                arrays[name] = np.array(given, dtype=np.float32)
                if arrays[name].ndim != 3 or len(given) != count:
                    raise ValueError(f"{name} are an array (boxes, points, numbers), not {arrays[name].shape}")
        for name, values in arrays.items():
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: SupportsIndex | slice | Sequence[int] | np.ndarray) -> Detections:
        """Some of the boxes: one by its index, a slice, several by theirs, or those of a mask."""
        if not isinstance(which, slice | Sequence | np.ndarray):
            index = operator.index(which)
            if not -len(self) <= index < len(self):
                raise IndexError(f"no box {index}: {self._counted()}")
            which = slice(index % len(self), index % len(self) + 1)
        kept = np.arange(len(self))[which]
        return replace(
            self,
            xyxy=self.xyxy[kept],
            scores=self.scores[kept],
            labels=tuple(self.labels[i] for i in kept),
            class_ids=self.class_ids[kept],
            origin=self.origin[kept],
            keypoints=None if self.keypoints is None else self.keypoints[kept],
            corners=None if self.corners is None else self.corners[kept],
        )

    def above(self, confidence: float) -> Detections:
        """The boxes whose score is above a higher confidence: what the detector finds with it, without running it.

        Raises ValueError for a lower one than that with which they were found.
        """
        check_confidence(confidence)
        if confidence < self.confidence:
            raise ValueError(
                f"these boxes were found above a confidence of {self.confidence:g}: for those above {confidence:g}, "
                f"detect again with confidence={confidence:g}"
            )
        return replace(self[self.scores > np.float32(confidence)], confidence=confidence)

    def cell(self, box: int) -> tuple[int, int, int]:
        """(level, row, col) of the cell that made a box.

        Raises ValueError where queries make boxes, IndexError where there is no such box.
        """
        if self.scales:
            raise ValueError("boxes of several scales were made by cells of several inputs: detect at one image_size")
        if not self.levels:
            raise ValueError(f"the boxes of {self.detector} are made by queries, not by cells")
        ends = np.cumsum([grid.patches for grid in self.levels])
        origin = int(self[box].origin[0])
        level = int(np.searchsorted(ends, origin, side="right"))
        grid = self.levels[level]
        return level, *grid.cell(origin - int(ends[level]) + grid.patches)

    def overlay(self) -> np.ndarray:
        """The boxes with their labels and scores on the image -> (H, W, 3) uint8.

        Raises ValueError where there is no image.
        """
        if self.image is None:
            raise ValueError("these boxes have no image: give them one, dataclasses.replace(boxes, image=…)")
        picture: np.ndarray = drawing("boxes").with_boxes(self.image, self)
        return picture

    def to_supervision(self) -> Any:
        """The same boxes as a `supervision.Detections`: class_id the detector's, names in data["class_name"].

        Raises ImportError where supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise ImportError("to_supervision needs supervision: pip install supervision") from None
        return supervision.Detections(
            xyxy=self.xyxy.copy(),
            confidence=self.scores.copy(),
            class_id=self.class_ids.copy(),
            data={"class_name": np.array(self.labels, dtype=str)},
        )

    @property
    def summary(self) -> str:
        """How many boxes were found, by what, and above which confidence."""
        return f"{self._counted()} above {self.confidence:g}"

    def __repr__(self) -> str:
        (high, wide), best = (
            self.frame.source,
            [f"{n} {s:.2f}" for n, s in zip(self.labels[:3], self.scores, strict=False)],
        )
        named = f": {', '.join(best)}{', …' * (len(self) > 3)}" if best else ""
        return f"Detections({self.summary}{named}; image of {wide} × {high} px)"

    def __str__(self) -> str:
        """The summary, and the first boxes as a table with their indices."""
        if not len(self):
            return self.summary
        head = ("", "score", "label", "left", "top", "right", "bottom")
        boxes = zip(self.scores, self.labels, self.xyxy, strict=True)
        rows = [
            (str(index), f"{score:.2f}", label, *(f"{edge:.1f}" for edge in box))
            for index, (score, label, box) in enumerate(islice(boxes, ROWS))
        ]
        wide = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(w) if at == 2 else cell.rjust(w) for at, (cell, w) in enumerate(zip(row, wide, strict=True))
            )
            for row in (head, *rows)
        ]
        more = [f"… and {len(self) - ROWS} more"] if len(self) > ROWS else []
        return "\n".join([self.summary, *(line.rstrip() for line in lines), *more])

    def _counted(self) -> str:
        return f"{self.detector} found {len(self) or 'no'} box{'es' * (len(self) != 1)}"


def check_confidence(confidence: Any) -> None:
    """ValueError where a confidence is none."""
    if isinstance(confidence, bool) or not isinstance(confidence, Real) or not 0 <= float(confidence) < 1:
        raise ValueError(f"confidence lies between 0 and below 1, not at {confidence!r}")
