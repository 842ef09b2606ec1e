"""Several input sizes of one image: their heatmaps become one on the source image, and their boxes one list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..core.geometry import Frame, Grid
from ..core.heatmap import Heatmap
from ..detectors.detections import Detections
from ..methods import registry
from ..methods.request import Request
from ..models.model import Model


def explained(model: Model, image: np.ndarray, request: Request, one: Callable[[Request], Heatmap]) -> Heatmap:
    """One heatmap of the several input sizes of a request.

    image: the part that the model sees. one: makes the heatmap of a request of one size. Where no target is given, the
    class is explained whose score is highest in the mean of all sizes; its predictions are those means.
    """
    assert request.scales is not None
    best = predicted(model, image, request)
    if best and request.entry.targeted and request.target is None:
        request = replace(request, target=best[0][0])
    heats: list[Heatmap] = []
    for size in sorted(request.scales, key=lambda size: size[0] * size[1]):
        heats.append(one(replace(request, image_size=size, scales=None)))
        # what depends on the size of a patch is as the largest patches need it, at all sizes
        made = heats[0].settings
        request = request.spending(**{name: made[name] for name in ("fovea", "keep_by") if name in made})
    heat = merged(heats, request.scales)
    if not best or model.classes is None:
        return heat
    words = {} if model.classes.kind == "exclusive" else {"scores": model.classes.words}
    named = [(model.classes.labels[index], score) for index, score in best[:5]]
    return replace(heat, facts={**heat.facts, "predictions": named, **words})


def predicted(model: Model, image: np.ndarray, request: Request) -> list[tuple[int, float]]:
    """The classes, by index, with the mean of their scores over the sizes, the highest first; none without any."""
    if model.classes is None:
        return []
    runs = [model.run(image, **{**request.forward, "image_size": size}) for size in request.scales or ()]
    scores = [model.classes.scores(run.logits) for run in runs if run.logits is not None]
    if not scores:
        return []
    mean = sum(scores[1:], start=scores[0]) / len(scores)
    return sorted(enumerate(mean.tolist()), key=lambda pair: -pair[1])


def merged(heats: Sequence[Heatmap], scales: Sequence[tuple[int, int]]) -> Heatmap:
    """The mean of heatmaps of one image, on the finest of their grids.

    A value is spread evenly over its patch: where it is a share of a whole, as most are, it is divided among the cells
    that lie in the patch; where it is what a patch says by itself (lens, maskclip), they all have it.
    """
    finest = max(heats, key=lambda heat: heat.grid.patches)
    alone = finest.method in registry.METHODS and registry.METHODS[finest.method].alone
    values = np.mean([spread(heat, finest.grid, finest.frame, alone=alone) for heat in heats], axis=0)
    gone = [
        spread(replace(heat, values=heat.dropped), finest.grid, finest.frame, alone=True) > 1 - 1e-6
        for heat in heats
        if heat.dropped is not None
    ]
    facts = {name: value for name, value in finest.facts.items() if name not in ("counts", "predictions")}
    settings = {**finest.settings, "image_size": None, "scales": tuple(scales)}
    dropped = np.all(gone, axis=0) if len(gone) == len(heats) else None
    return replace(finest, values=values, settings=settings, facts=facts, dropped=dropped)


def spread(heat: Heatmap, grid: Grid, frame: Frame, *, alone: bool) -> np.ndarray:
    """A heatmap's values on the cells of another grid of the same image, by the area that they share.

    alone: whether a cell has the mean of the patches that it lies in, else a share of each. -> (rows, cols)
    """
    down, across = (_shared(heat, grid, frame, axis, alone=alone) for axis in (0, 1))
    on_cells: np.ndarray = down @ heat.values.astype(np.float64) @ across.T
    return on_cells


def _shared(heat: Heatmap, grid: Grid, frame: Frame, axis: int, *, alone: bool) -> np.ndarray:
    """Along an axis, how much of each patch lies in each cell: of the patch, or, alone, of what the cell has of all."""
    (low, high), (first, last) = _edges(grid, frame, axis), _edges(heat.grid, heat.frame, axis)
    overlap = np.clip(np.minimum(high[:, None], last) - np.maximum(low[:, None], first), 0, None)
    if alone:
        return overlap / np.maximum(overlap.sum(1, keepdims=True), 1e-12)
    return overlap / (last - first)


def _edges(grid: Grid, frame: Frame, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the cells along an axis begin and end, in source pixels."""
    count = (grid.rows, grid.cols)[axis]
    edges = (np.arange(count + 1) * grid.patch[axis] - frame.offset[axis]) / frame.scale[axis]
    return edges[:-1], edges[1:]


def together(found: Sequence[Detections], iou: float) -> Detections:
    """The boxes of several input sizes as one list: of those of a class that overlap more than `iou` the most certain.

    The origin of a box is then the size that it was found at, counted from 0.
    """
    import torch
    from torchvision.ops import batched_nms

    parts = [(one.xyxy, one.scores, one.class_ids, np.full(len(one), at)) for at, one in enumerate(found)]
    xyxy, scores, class_ids, origin = (np.concatenate(part) for part in zip(*parts, strict=True))
    labels = [label for one in found for label in one.labels]
    if any(one.keypoints is not None or one.corners is not None for one in found):
        raise ValueError("keypoints and turned boxes of several scales are not put together: detect at one image_size")
    kept = batched_nms(torch.tensor(xyxy), torch.tensor(scores), torch.tensor(class_ids), iou).numpy()
    return replace(
        found[0],
        xyxy=xyxy[kept],
        scores=scores[kept],
        labels=tuple(labels[i] for i in kept),
        class_ids=class_ids[kept],
        origin=origin[kept],
        levels=(),
        scales=tuple(one.frame.model for one in found),
    )
