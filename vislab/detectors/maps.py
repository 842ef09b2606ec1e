"""What a detector's box rests on: the attention of its cell or query, or the gradient of its score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core.geometry import Grid
from ..core.heatmap import Heatmap
from ..engine.site import Site
from ..methods.question import fused_heads
from ..methods.request import Point, layer_index
from .detections import Detections
from .points import Points
from .request import BoxRequest

if TYPE_CHECKING:
    from .glance import Glance


@dataclass(frozen=True, eq=False)
class Place:
    """Where a detector attends over cells or patches: a site, and the grid of its keys.

    of_boxes: whether the queries that make boxes attend, else those cells.
    """

    site: Site
    grid: Grid
    of_boxes: bool

    @property
    def areas(self) -> np.ndarray:
        """Which area each cell lies in -> (rows, cols) int: runs of cells, row-major, that attend to themselves alone.

        0 everywhere but in YOLO12's first sites.
        """
        areas, places = np.zeros(self.grid.patches, dtype=int), self.site.places
        for index, cells in enumerate(() if places is None else places.numpy()):
            areas[cells] = index
        return areas.reshape(self.grid.rows, self.grid.cols)


def places(glance: Glance) -> list[Place]:
    """See `Glance.places`; attention among queries is none."""
    grids = {grid.tokens: grid for grid in glance.detector.family.maps(glance.frame)}
    known = []
    for site in glance.capture.sites.values():
        *path, leaf = site.name.split(".")
        decodes = "decoder" in path
        if "text_model" in path:  # what a detector is told in words
            continue
        if site.refused is None and site.keys in grids and decodes == (leaf in ("encoder_attn", "cross_attn")):
            known.append(Place(site, grids[site.keys], decodes))
    return known


def heatmap(glance: Glance, request: BoxRequest) -> Heatmap:
    """See `Glance.heatmap`."""
    box, layer = request.box, request.layer
    method = request.method or ("attention" if places(glance) or not glance.features else "grad_cam")
    if method == "grad_cam":
        return grad_cam(glance, replace(request, method="grad_cam"))
    boxes = None if box is None else boxes_to(glance, box)
    chosen = _chosen(glance, boxes, layer)
    rows = torch.zeros(())
    for place in chosen:
        if boxes is None or box is None:
            tokens, where = _cells(glance, place, request.query)
        else:
            tokens, where = _behind(place, boxes, box)
        attention = glance.capture.attention(place.site, tokens)[0].mean(1)
        rows = rows + fused_heads(attention, request.head)[place.grid.patch_tokens].cpu() / len(chosen)
    grid = chosen[0].grid
    values = rows.reshape(grid.rows, grid.cols).numpy()
    return Heatmap(values, grid, glance.frame, "attention", query=where, image=glance.image)


def points(glance: Glance, box: int, *, layer: int = -1) -> Points:
    """See `Glance.points`."""
    samples = glance.samples[-getattr(glance.detector.family, "decoders", 0) :]  # its encoder's cells sample too
    if not samples:
        raise ValueError(f"{glance.detector.name} samples no points: vislab.explain_box(image, box={box}) draws a map")
    boxes = boxes_to(glance, box)
    origin = int(boxes.origin[box])
    layer = layer_index(layer, len(samples))
    where, weight = (part[:, origin].cpu().double().numpy() for part in samples[layer])
    frame = glance.frame
    xy = (where * frame.model[::-1] - frame.offset[::-1]) / frame.scale[::-1]
    strides = tuple(grid.patch[0] for grid in glance.detector.family.maps(frame))[-where.shape[1] :]
    name = f"{_named(boxes, box)}, query {origin}, decoder layer {layer}"
    return Points(xy, weight, strides, boxes[box], name)


def grad_cam(glance: Glance, request: BoxRequest) -> Heatmap:
    """Grad-CAM of a box's class score, on the neck's map whose cell made the box: no attention.

    Signed: what speaks against the class is below 0. Source: Selvaraju et al. 2017, eqs. 1 and 2, without the ReLU.
    """
    box = request.box
    assert box is not None
    boxes = boxes_to(glance, box)
    if boxes.levels and not glance.features:
        glance.detector.family.score((), int(boxes.class_ids[box]), int(boxes.origin[box]))  # which says why not
    level, row, col = boxes.cell(box)
    grid = boxes.levels[level]
    with torch.enable_grad():
        features = [x.detach().clone().requires_grad_(n == level) for n, x in enumerate(glance.features)]
        score = glance.detector.family.score(features, int(boxes.class_ids[box]), int(boxes.origin[box]))
        [gradient] = torch.autograd.grad(score, [features[level]])
    weights = gradient.mean((2, 3), keepdim=True)
    values = (weights * features[level].detach()).sum(1)[0].float().cpu().numpy()
    target = f"{_named(boxes, box)}, cell ({row}, {col}) of stride {grid.patch[0]}"
    return Heatmap(values, grid, glance.frame, "grad_cam", target, image=glance.image, signed=True)


def boxes_to(glance: Glance, box: int) -> Detections:
    """The boxes by falling score, this one among them: with a lower confidence, those before it stay the same."""
    for confidence in (0.25, 0.001):
        boxes = glance.detections(confidence)
        if 0 <= box < len(boxes):
            return boxes
    raise IndexError(f"no box {box}: {boxes.summary}, counted from 0 by falling score")


def _named(boxes: Detections, box: int) -> str:
    return f"box {box}: {boxes.labels[box]} {boxes.scores[box]:.2f}"


def _chosen(glance: Glance, boxes: Detections | None, layer: int | str) -> Sequence[Place]:
    """The places that a question is put to: one, or for "mean" all of them, which then share a grid."""
    detector, family = glance.detector, glance.detector.family
    known = places(glance)
    by_queries = boxes is not None and not boxes.levels and not any(place.grid.suffix for place in known)
    answering = [place for place in known if place.of_boxes == by_queries]
    if isinstance(layer, str) and layer != "mean":
        if layer not in [place.site.name for place in answering]:
            glance.capture.site(layer).read()  # which says why, where its attention cannot be read
            raise ValueError(
                f"the attention of {layer!r} answers another question than this one: here {detector.name} has "
                f"{', '.join(place.site.name for place in answering) or 'none'}"
            )
        return [place for place in answering if place.site.name == layer]
    if not answering and by_queries and family.deformable:
        raise ValueError(
            f"the boxes of {detector.name} are made by deformable attention, which samples a few points of the maps "
            "and weighs them without queries meeting keys: there is no map of it; "
            "vislab.load_detector(…).glance(image).points(box) has the points, and query=(x, y) reads the attention of "
            "its encoder at a point"
        )
    if not answering:
        instead = "method='grad_cam' explains a box's score" if boxes is not None else "ask about a box: box=0"
        raise ValueError(f"{detector.name} has no attention over its feature maps; {instead}")
    if not isinstance(layer, str):
        return [answering[layer_index(layer, len(answering))]]
    if len({place.grid for place in answering}) > 1:
        grids = ", ".join(dict.fromkeys(f"{place.grid.rows}×{place.grid.cols}" for place in answering))
        raise ValueError(f"{detector.name} attends on several grids ({grids}), whose mean is no map: pick one layer")
    return answering


def _cells(glance: Glance, place: Place, point: Point | None) -> tuple[list[int], str]:
    """The token of the cell over a point, and where it is in words."""
    assert point is not None
    x, y = point
    height, width = glance.frame.source
    cell = place.grid.cell_at(*glance.frame.to_model(x, y)) if 0 <= x <= width and 0 <= y <= height else None
    if cell is None:
        raise ValueError(f"the point ({x:g}, {y:g}) lies outside this image of {width}×{height} px")
    return [place.grid.token(*cell)], f"cell {cell} of stride {place.grid.patch[0]}"


def _behind(place: Place, boxes: Detections, box: int) -> tuple[list[int], str]:
    """The tokens at a place that stand behind a box: its query, or the cells that lie over the one which made it."""
    origin, name = int(boxes.origin[box]), _named(boxes, box)
    if place.of_boxes:
        return [origin], f"{name}, query {origin}"
    if place.grid.suffix:
        return [place.grid.prefix + place.grid.patches + origin], f"{name}, detection token {origin}"
    level, row, col = boxes.cell(box)
    x0, y0, x1, y1 = boxes.levels[level].box(row, col)
    height, width = place.grid.patch
    rows = range(int(y0 // height), min(place.grid.rows, math.ceil(y1 / height)))
    cols = range(int(x0 // width), min(place.grid.cols, math.ceil(x1 / width)))
    tokens = [place.grid.token(r, c) for r in rows for c in cols]
    return tokens, f"{name}, cell ({row}, {col}) of stride {boxes.levels[level].patch[0]}"
