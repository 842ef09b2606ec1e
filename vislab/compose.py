"""The one place where parts meet: from an image and a model to a heatmap."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from . import attribution, models
from .geometry import Heatmap
from .images import load_image
from .models import ImageSize, Model, Run

Query = Literal["cls"] | tuple[float, float]


@lru_cache(maxsize=2)
def _loaded(name: str) -> Model:
    return models.load(name)


def _model(model: str | Path | Model | Any) -> Model:
    if isinstance(model, Model):
        return model
    return _loaded(str(model)) if isinstance(model, str | Path) else models.load(model)


def explain(
    image: Any,
    *,
    model: str | Path | Model | Any = "embedded",
    method: str = "rollout",
    layer: attribution.Layer = -1,
    head: attribution.Head = "mean",
    query: Query = "cls",
    target: str | int | None = None,
    attention_scale: float | Mapping[int, float] = 1.0,
    patch_size: int | None = None,
    image_size: ImageSize | None = None,
    **method_options: Any,
) -> Heatmap:
    """Where a Vision Transformer looks in an image, as one value per patch.

    image: what `load_image` takes. model: a Model, or what `load` takes. method: "rollout" (options start, residual,
    discard), "cls" or "attention". layer: index of a self-attention layer, -1 the last, or "mean"; for rollout the last
    one it goes through. head: index, "mean", "max" or "min". query: the attending token, "cls" or the patch over a
    point (x, y) in source pixels. attention_scale: factor of q·kᵀ, for all layers or {layer: factor}, a real
    intervention. patch_size: px. image_size: px of the model's input, a side or (height, width).

    Raises ValueError, before the model runs where it can, for what is unknown or impossible.

        heat = vislab.explain("photo.jpg", method="cls", layer=11, head=3)
        vislab.save("figure.pdf", vislab.load_image("photo.jpg"), heat)
    """
    attribution.method(method, method_options)
    if target is not None:
        raise ValueError(f"method {method!r} is attention, which is the same for every class: leave target out")
    picture, ready = load_image(image), _model(model)
    token = _token(query, ready, picture.shape, image_size, patch_size)
    attribution.check(method, attribution.Question(token, ready.cls, layer, head), ready.layers, ready.heads)
    run = ready.run(picture, image_size=image_size, patch_size=patch_size, attention_scale=attention_scale)
    asked: dict[str, Any] = {"layer": layer, "head": head, "query": query, "attention_scale": attention_scale}
    asked |= {"patch_size": patch_size, "image_size": image_size}
    return heatmap(ready, run, picture, method=method, token=token, asked=asked, options=method_options)


def heatmap(
    model: Model,
    run: Run,
    image: Any,
    *,
    method: str,
    token: int | None,
    asked: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Heatmap:
    """The heatmap of a run that was made. token: the attending one, or None for the model's own summary."""
    question = attribution.Question(token, model.cls, asked["layer"], asked["head"])
    attribution.check(method, question, model.layers, model.heads)
    answer = attribution.method(method, options)(run.capture, run.grid, question, **options)
    values = answer.values.float().cpu().numpy().reshape(run.grid.rows, run.grid.cols)
    settings = {"model": model.name, **asked, **options}
    return Heatmap(values, run.grid, run.frame, method, query=answer.query, settings=settings, image=image)


def _token(
    query: Query, model: Model, shape: tuple[int, ...], image_size: ImageSize | None, patch_size: int | None
) -> int | None:
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
    grid = model.grid(image_size, patch_size)
    size = model.preprocessing.size if image_size is None else model._size(image_size)
    frame = model.preprocessing.frame((shape[0], shape[1]), size)
    cell = grid.cell_at(*frame.to_model(x, y))
    if cell is None:
        x0, y0, x1, y1 = (round(v) for v in frame.visible)
        raise ValueError(
            f"no patch lies over the point ({x:g}, {y:g}) of this image of {shape[1]}×{shape[0]} px: the model sees x "
            f"from {x0} to {x1} and y from {y0} to {y1}"
        )
    return grid.token(*cell)
