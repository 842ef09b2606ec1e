"""From an image and a model to a heatmap."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from ..core import fingerprints
from ..core.geometry import Frame, Grid
from ..core.heatmap import Heatmap
from ..core.images import load_image
from ..detectors import maps
from ..detectors.cache import detector_of
from ..detectors.detector import Detector
from ..methods import registry
from ..methods.probe import Progress, Target, probing
from ..methods.question import Head, Layer, Question
from ..models.cache import model_of
from ..models.model import Model, Run
from ..models.preprocessing import ImageSize

Query = Literal["cls"] | tuple[float, float]


def explain(
    image: Any,
    *,
    model: str | Path | Model | Any = "embedded",
    detector: str | Path | Detector | Any | None = None,
    box: int | None = None,
    method: str | None = None,
    layer: Layer | str = -1,
    head: Head = "mean",
    query: Query = "cls",
    target: Target = None,
    attention_scale: float | Mapping[int, float] = 1.0,
    patch_size: int | None = None,
    image_size: ImageSize | None = None,
    region: Sequence[int] | None = None,
    **method_options: Any,
) -> Heatmap:
    """Where a Vision Transformer looks in an image, or what speaks for a class in it, as one value per patch.

    image: what `load_image` takes. model: a Model, or what `load` takes. method, the same for all classes: "rollout"
    (options start, residual, discard), "cls" or "attention"; for one class: "relevance", "grad_rollout" (option
    residual), and, with values below 0 where something speaks against it, "grad_cam", "integrated_gradients" (option
    steps), "occlusion", "cls_contribution", "token_contribution" and "both_contribution". layer: index of a
    self-attention layer, -1 the last, or "mean"; for rollout the last one it goes through. head: index, "mean", "max"
    or "min". query: the attending token, "cls" or the patch over a point (x, y) in source pixels. target: what is
    explained, a class by label or index, by default the predicted one, or a function that makes one number of the
    model's output. attention_scale: factor of q·kᵀ, for all layers or {layer: factor}, a real intervention.
    patch_size: px. image_size: px of the model's input, a side or (height, width). region: (x0, y0, x1, y1), source
    pixels, the part of the image that the model gets to see; by default all of it.

    detector, box: what a box of a detector rests on instead, or with a point as query, what it attends to there.
    detector: a Detector, or what `load_detector` takes. box: index among what `detect` finds. method is then
    "attention", of the cells or the query behind the box, at one of the detector's sites (layer: index or name), or
    "grad_cam" of the box's score, by default where the detector has no attention.

    Raises ValueError, before the model runs where it can, for what is unknown or impossible.

        heat = vislab.explain("photo.jpg", method="cls", layer=11, head=3)
        heat = vislab.explain("photo.jpg", method="relevance", target="church")
        heat = vislab.explain("photo.jpg", detector="embedded", box=0, layer="model.6.m.0.0.attn")
        vislab.save("figure.pdf", heat)
    """
    if detector is not None or box is not None:
        odd = {"target": target, "patch_size": patch_size, "region": region, **method_options}
        odd = {name: value for name, value in odd.items() if value is not None}
        if odd:
            raise ValueError(f"maps of a detector have no {', '.join(odd)}: leave it out")
        if model is not None and model != "embedded":
            raise ValueError("a box is a detector's: give detector=… with it, and leave model out")
        about = {"box": box, "query": query, "layer": layer, "head": head}
        finder = detector_of("embedded" if detector is None else detector)
        return _of_detector(finder, load_image(image), method, about, image_size, attention_scale)
    method = method or "rollout"
    registry.method(method, method_options)
    targeted = method in registry.TARGETED
    if target is not None and not targeted:
        raise ValueError(
            f"method {method!r} is attention, which is the same for every class: leave target out, or take one of "
            f"{', '.join(registry.TARGETED)}"
        )
    picture, ready = load_image(image), model_of(model)
    x0, y0, x1, y1 = corners = _region(region, picture)
    seen = np.ascontiguousarray(picture[y0:y1, x0:x1])
    frame = ready.preprocessing.frame((y1 - y0, x1 - x0), ready.input_size(image_size))
    frame = frame.cut_from((picture.shape[0], picture.shape[1]), (x0, y0))
    token = _token(query, ready.grid(image_size, patch_size), frame)
    question = Question(token, ready.cls, layer, head)  # type: ignore[arg-type]
    registry.check(method, question, ready.layers, ready.heads)
    forward: dict[str, Any] = {"attention_scale": attention_scale, "patch_size": patch_size, "image_size": image_size}
    asked: dict[str, Any] = {"layer": layer, "head": head, "query": query, "target": target, **forward}
    run = None if targeted else ready.run(seen, **forward)
    heat = heatmap(ready, run, seen, method=method, token=token, asked=asked, options=method_options)
    if region is None:
        return heat
    return replace(heat, frame=frame, image=picture, settings={**heat.settings, "region": corners})


def _region(region: Any, image: np.ndarray) -> tuple[int, int, int, int]:
    height, width = image.shape[:2]
    try:
        x0, y0, x1, y1 = (0, 0, width, height) if region is None else map(operator.index, region)
    except (TypeError, ValueError):
        x0 = y0 = x1 = y1 = -1
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(
            f"region is (x0, y0, x1, y1), whole pixels within this image of {width}×{height} px, not {region!r}"
        )
    return x0, y0, x1, y1


def _of_detector(
    detector: Detector,
    image: np.ndarray,
    method: str | None,
    asked: Mapping[str, Any],
    image_size: ImageSize | None,
    attention_scale: float | Mapping[int, float],
) -> Heatmap:
    """The heatmap of a detector's box, or of a point."""
    question = dict(asked)
    query = question.pop("query")
    glance = detector.glance(image, image_size=image_size, attention_scale=attention_scale)
    heat = maps.heatmap(glance, method=method, point=None if query == "cls" else query, **question)
    settings = {"detector": detector.name, **asked, "attention_scale": attention_scale, "image_size": image_size}
    if heat.method == "grad_cam":
        settings |= dict.fromkeys(("layer", "head", "query"))
    return replace(heat, settings=settings, facts=_facts(detector.module))


def heatmap(
    model: Model,
    run: Run | None,
    image: Any,
    *,
    method: str,
    token: int | None,
    asked: Mapping[str, Any],
    options: Mapping[str, Any],
    progress: Progress | None = None,
) -> Heatmap:
    """The heatmap of a run that was made; a method for one class makes its own.

    token: the attending one, or None for the model's own summary. asked: `explain`'s other keywords. progress: told
    (done, total) where it takes long.
    """
    question = Question(token, model.cls, asked["layer"], asked["head"])
    registry.check(method, question, model.layers, model.heads)
    how = registry.method(method, options)
    forward = {name: asked[name] for name in ("attention_scale", "patch_size", "image_size")}
    target = None
    if method in registry.TARGETED:
        with probing(model, image, asked.get("target"), progress=progress, **forward) as probe:
            answer = how(probe, question, **options)
            grid, frame, target = probe.grid, probe.frame, probe.target
    else:
        run = run or model.run(image, **forward)
        answer = how(run.capture, run.grid, question, **options)
        grid, frame = run.grid, run.frame
    values = answer.values.float().cpu().numpy().reshape(grid.rows, grid.cols)
    kept = {name: value for name, value in asked.items() if name in registry.ASKED[method] or name in forward}
    settings = {"model": model.name, **kept, **_not_default(method, options)}
    more: dict[str, Any] = {"query": answer.query, "signed": answer.signed, "settings": settings, "image": image}
    more["facts"] = _facts(model.module)
    if run is not None and run.logits is not None:
        more["facts"]["predictions"] = model.top(run)
    return Heatmap(values, grid, frame, method, target, **more)


def _not_default(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that change what the method does by itself: captions name them."""
    own = inspect.signature(registry.METHODS[method]).parameters
    return {name: value for name, value in options.items() if value != own[name].default}


def _facts(module: nn.Module) -> dict[str, Any]:
    one = next(module.parameters())
    dtype = str(one.dtype).removeprefix("torch.")
    return {"weights": fingerprints.of_weights(module), "device": one.device.type, "dtype": dtype}


def _token(query: Query, grid: Grid, frame: Frame) -> int | None:
    """The token index of a query; None for "cls"."""
    if isinstance(query, str):
        if query != "cls":
            raise ValueError(f"query is 'cls' or a point (x, y) in pixels of the image, not {query!r}")
        return None
    try:
        x, y = (float(v) for v in query)
    except (TypeError, ValueError):
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"query is 'cls' or a point (x, y) in pixels of the image, not {query!r}")
    cell = grid.cell_at(*frame.to_model(x, y))
    if cell is None:
        height, width = frame.source
        x0, y0, x1, y1 = (round(v) for v in frame.visible)
        raise ValueError(
            f"no patch lies over the point ({x:g}, {y:g}) of this image of {width}×{height} px: the model sees x "
            f"from {x0} to {x1} and y from {y0} to {y1}"
        )
    return grid.token(*cell)
