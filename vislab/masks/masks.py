"""The regions of an image as masks in its own pixels, with what each is called and how sure or how large it is."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from ..core.shown import Shown, drawing
from .measures import MEASURES, iou, measured, over_classes

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


@dataclass(frozen=True)
class Match:
    """A region beside the mask that overlaps it most.

    region: its label. mask: the mask's index, and label: the mask's, None where none overlaps. values: each measure of
    the two by its name, 0..1 ("iou", "dice", "pixel_accuracy", "boundary_f").
    """

    region: str
    mask: int | None
    label: str | None
    values: Mapping[str, float]


@dataclass(frozen=True, eq=False, repr=False)
class Masks(Shown):
    """The regions that were found in an image; there may be none, and they may overlap.

    masks: (n, H, W) bool, source pixels. labels: n names. scores: (n,) float32, 0..1; scored: what they are, in words.
    method: how they were made, and model: by which. image: (H, W, 3) uint8, the source, or None. facts: what the run
    told beside them. Pixels that the model never saw are in no mask. Shows itself over its image as the last expression
    of a notebook cell; `np.asarray(masks)` is its masks.

        masks = vislab.segment("photo.jpg")
        masks.labels, masks[0].masks.mean(), masks.boxes
        masks.iou(vislab.segment("photo.jpg", method="otsu"))
    """

    masks: np.ndarray
    labels: tuple[str, ...]
    scores: np.ndarray
    scored: str
    method: str
    model: str
    image: np.ndarray | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        masks, scores, labels = np.array(self.masks), np.array(self.scores, dtype=np.float32), tuple(self.labels)
        if masks.dtype != bool or masks.ndim != 3 or 0 in masks.shape[1:]:
            raise ValueError(f"masks are an array of bool, (n, H, W), not {masks.dtype} {masks.shape}")
        if not len(masks) == len(labels) or scores.shape != (len(labels),):
            raise ValueError(f"{len(masks)} masks need as many labels and scores, not {len(labels)} and {scores.shape}")
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("scores lie between 0 and 1")
        if self.image is not None and self.image.shape[:2] != masks.shape[1:]:
            raise ValueError(f"the masks are of an image of {masks.shape[1:]}, not of {self.image.shape[:2]}")
        for name, values in (("masks", masks), ("scores", scores)):
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: SupportsIndex | slice | Sequence[int] | np.ndarray) -> Masks:
        """Some of the masks: one by its index, a slice, several by theirs, or those where an array of bool is True."""
        if not isinstance(which, slice | Sequence | np.ndarray):
            index = operator.index(which)
            if not -len(self) <= index < len(self):
                raise IndexError(f"no mask {index}: there are {len(self)}")
            which = slice(index % len(self), index % len(self) + 1)
        kept = np.arange(len(self))[which]
        labels = tuple(self.labels[i] for i in kept)
        return replace(self, masks=self.masks[kept], labels=labels, scores=self.scores[kept])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """`np.asarray(masks)` is its masks, (n, H, W) bool; without a copy where none is needed."""
        return np.array(self.masks, dtype=dtype, copy=copy)

    @property
    def boxes(self) -> np.ndarray:
        """The smallest box around each mask -> (n, 4) float32, source pixels; zeros of an empty one."""
        found = np.zeros((len(self), 4), np.float32)
        for box, mask in zip(found, self.masks, strict=True):
            rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(rows):
                box[:] = cols[0], rows[0], cols[-1] + 1, rows[-1] + 1
        return found

    def iou(self, other: Any) -> np.ndarray:
        """IoU of each of these masks with each of others -> (n, m) float64, 0..1; of two empty ones 1.

        other: Masks of the same image, or an array of bool, (H, W) or (m, H, W).
        """
        theirs = self._others(other)[0]
        found = [iou(mine, their) for mine in self.masks for their in theirs]
        return np.array(found, dtype=np.float64).reshape(len(self), len(theirs))

    def agreement(self, other: Masks, *, measure: str = "iou") -> dict[str, float]:
        """How much two segmentations agree, class by class, and on the "mean" over classes -> {label: value, 0..1}.

        Masks of one label are taken together; a class that one side does not have is empty there. measure: "iou",
        "dice", "pixel_accuracy" or "boundary_f" (boundaries within 0.008 of the diagonal). Two empty masks agree: 1.
        Raises ValueError where neither has a mask, or they are of images of other sizes.
        """
        measured(measure)
        theirs, labels = self._others(other)
        if labels is None:
            raise ValueError("classes are compared with other Masks: of an array of bool, take masks.iou(array)")
        found = over_classes(self.masks, theirs, (self.labels, labels), measure)
        if not found:
            raise ValueError("neither of the two has a mask, so there is no class to compare")
        return {**found, "mean": sum(found.values()) / len(found)}

    def matches(self, regions: Masks) -> tuple[Match, ...]:
        """Each of some regions, such as those that somebody drew, beside that of these masks which overlaps it most.

        regions: Masks of the same image, whatever their labels. Where nothing overlaps, mask is None, and the region is
        compared with an empty mask. Raises ValueError for regions of an image of another size.
        """
        if not isinstance(regions, Masks):
            raise TypeError(
                f"regions are Masks, not {type(regions).__name__}: vislab.load_masks reads them from a file"
            )
        found, overlaps = [], self.iou(regions)
        for label, region, column in zip(regions.labels, regions.masks, overlaps.T, strict=True):
            best = int(column.argmax()) if column.max(initial=0) > 0 else None
            mask = np.zeros_like(region) if best is None else self.masks[best]
            values = {name: of(mask, region) for name, of in MEASURES.items()}
            found.append(Match(label, best, None if best is None else self.labels[best], values))
        return tuple(found)

    def overlay(self, *, opacity: float = 0.5) -> np.ndarray:
        """The masks in colours, with their labels, on the image -> (H, W, 3) uint8.

        Raises ValueError where there is no image.
        """
        picture: np.ndarray = drawing("overlay").overlay(self, opacity=opacity)
        return picture

    def _others(self, other: Any) -> tuple[np.ndarray, tuple[str, ...] | None]:
        labels = other.labels if isinstance(other, Masks) else None
        theirs = other.masks if isinstance(other, Masks) else np.asarray(other)
        theirs = theirs[None] if theirs.ndim == 2 else theirs
        if theirs.dtype != bool or theirs.ndim != 3:
            raise ValueError(
                f"masks are compared with Masks or an array of bool, (H, W) or (m, H, W), not {theirs.dtype} "
                f"{theirs.shape}"
            )
        if theirs.shape[1:] != self.masks.shape[1:]:
            (height, width), (h, w) = self.masks.shape[1:], theirs.shape[1:]
            raise ValueError(f"these masks are {width}×{height} px, and the others {w}×{h}: compare those of one image")
        return theirs, labels

    def __repr__(self) -> str:
        high, wide = self.masks.shape[1:]
        return f"Masks({self}; image of {wide} × {high} px)"

    def __str__(self) -> str:
        count = f"{len(self) or 'no'} mask{'s' * (len(self) != 1)}"
        return f"{count} by {self.method}; model {self.model}; scores: {self.scored}"
