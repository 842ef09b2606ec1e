"""How much the masks of maps agree with regions that people drew."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..api.explain import explain
from ..api.segment import segment
from ..core.checks import check_flags, meant, one_of, shown
from ..core.images import load_image
from ..masks.files import load_masks
from ..masks.masks import Masks
from ..masks.measures import MEASURES
from ..masks.methods import OF_HEATMAPS
from ..methods.registry import METHODS
from ..models.cache import model_of
from ..models.model import Model
from .plan import counted
from .ranks import mean_and_error
from .report import DIRECTIONS, averaged
from .rows import csv_of

WHOLE = "the whole picture"
_NAMES = {"iou": "IoU ↑", "dice": "Dice ↑", "pixel_accuracy": "pixel accuracy ↑", "boundary_f": "boundary F ↑"}
COLUMNS = ("method", "measure", "mean", "standard_error", "n")
FILE_COLUMNS = (*COLUMNS, "direction", "model", "mask")


@dataclass(frozen=True, eq=False, repr=False)
class Agreement:
    """How much masks agree with drawn ones, method by method; `evaluate_masks` makes one.

    methods: names of maps, the whole picture last. values: measure -> (methods, images), 0..1. skipped: a sentence for
    each image left out. mask: how masks were made of maps; model: of which. Shows its table where it is printed.
    """

    methods: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    skipped: tuple[str, ...]
    mask: str
    model: str

    def rows(self) -> list[dict[str, Any]]:
        """The table as a list of {method, measure, mean, standard_error, n}."""
        return [
            dict(zip(COLUMNS, (method, measure, *mean_and_error(values[m]), values.shape[1]), strict=True))
            for m, method in enumerate(self.methods)
            for measure, values in self.values.items()
        ]

    def csv(self) -> str:
        """The rows as CSV, each with which way is better, the model, and how masks were made of maps."""
        known = {"direction": DIRECTIONS["↑"], "model": self.model, "mask": self.mask}
        return csv_of(({**row, **known} for row in self.rows()), FILE_COLUMNS)

    def __repr__(self) -> str:
        count = len(self.values["iou"][0])
        head = ["", *(_NAMES[measure] for measure in self.values)]
        body = [[name, *(_cell(values[m]) for values in self.values.values())] for m, name in enumerate(self.methods)]
        wide = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        lines = [" | ".join(map(str.ljust, cells, wide)) for cells in (head, ["-" * n for n in wide], *body)]
        seen = f"{count} image{'s' * (count != 1)}" + (f", {len(self.skipped)} left out" if self.skipped else "")
        title = f"{self.model} · {seen} · masks of maps by {self.mask} · {averaged(count)}\n"
        return "\n".join([title, *(f"| {line} |" for line in lines)])


def evaluate_masks(
    images: Mapping[str, Any],
    *,
    masks: Mapping[str, Masks | str | Path],
    model: str | Path | Model | nn.Module = "embedded",
    methods: Sequence[str] = ("cls", "rollout", "relevance", "grad_cam"),
    mask: str = "otsu",
    refine: bool = False,
    progress: bool = True,
    **forward: Any,
) -> Agreement:
    """Measure how much the masks of several methods' maps agree with regions that people drew.

    images: {name: what `load_image` takes}. masks: {name: the drawn regions of that image, Masks or a file as
    `load_masks` takes it}; they are taken together. methods: names that `explain` knows; one for a class explains the
    predicted one. mask: "otsu", "threshold" or "share", how a mask is made of a map; refine: as of `segment`. forward:
    settings of the forward, as of `explain`: patch_size, image_size, keep, …. An image that cannot be read, has no
    drawn regions, or a map on which nothing stands out, is named in a warning and left out.

        drawn = vislab.segment("photo.jpg", method="kmeans", clusters=2)[0]  # or the path of a mask file
        vislab.evaluate_masks({"photo": "photo.jpg"}, masks={"photo": drawn}, methods=["cls", "rollout"])

    IoU, Dice, pixel accuracy and boundary F, each beside that of a mask of the whole picture. Raises ValueError for an
    unknown method, and where no image is left.
    """
    for name in methods:
        if not one_of(name, METHODS):
            raise ValueError(f"no method {shown(name)} of maps: there are {', '.join(METHODS)}{meant(name, METHODS)}")
    if not one_of(mask, OF_HEATMAPS):
        raise ValueError(f"masks are made of maps by {', '.join(OF_HEATMAPS)}, not by {shown(mask)}")
    check_flags(refine=refine, progress=progress)
    ready, skipped = model_of(model), []
    found: dict[str, list[list[float]]] = {measure: [] for measure in MEASURES}
    for name in counted(list(images), "image", progress):
        try:
            image = load_image(images[name])
            truth = _drawn(masks, name, image.shape[:2])
            heats = [explain(image, model=ready, method=method, **forward) for method in methods]
            made = [segment(heat, method=mask, refine=refine).masks[0] for heat in heats] + [np.ones_like(truth)]
        except (OSError, ValueError) as error:
            skipped.append(f"{name}: {error}")
            warnings.warn(f"left out {skipped[-1]}", stacklevel=2)
            continue
        for measure, of in MEASURES.items():
            found[measure].append([of(one, truth) for one in made])
    if not found["iou"]:
        raise ValueError(f"none of the {len(images)} images could be measured: {'; '.join(skipped[:3]) or 'give some'}")
    values = {measure: np.array(rows).T for measure, rows in found.items()}
    how = f"{mask}, refined by GrabCut" if refine else mask
    return Agreement((*methods, WHOLE), values, tuple(skipped), how, ready.name)


def _drawn(masks: Mapping[str, Masks | str | Path], name: str, size: tuple[int, ...]) -> np.ndarray:
    """All drawn regions of an image as one mask, (H, W) bool."""
    if name not in masks:
        raise ValueError("nobody drew a mask of it")
    given = masks[name]
    regions = given if isinstance(given, Masks) else load_masks(given)
    if regions.masks.shape[1:] != size:
        (height, width), (h, w) = size, regions.masks.shape[1:]
        raise ValueError(f"its mask is {w}×{h} px, and the image {width}×{height}")
    together: np.ndarray = np.any(regions.masks, axis=0)
    if not together.any():
        raise ValueError("its mask is empty")
    return together


def _cell(samples: np.ndarray) -> str:
    numbers = [f"{value:.3f}" for value in mean_and_error(samples) if not np.isnan(value)]
    return " ± ".join(numbers)
