"""From an image and a model to a heatmap."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..core import fingerprints
from ..core.checks import shown
from ..core.clip import told
from ..core.geometry import Frame, Grid
from ..core.heatmap import Heatmap
from ..core.images import load_image
from ..engine.site import AttentionRefused
from ..engine.verification import NOT_FINITE
from ..language.answer import Answer
from ..methods import registry
from ..methods.layers import in_sequence
from ..methods.probe import Progress, probing
from ..methods.question import Question
from ..methods.request import DEFAULTS, Head, Layer, Query, Request, Target
from ..models.budget import budget
from ..models.cache import model_of
from ..models.model import Model
from ..models.preprocessing import ImageSize
from ..models.run import Run
from ..models.tokens import BOX, Found, Tokens
from ..models.worth import values_on
from .explain_word import explain_word
from .scales import explained

if TYPE_CHECKING:
    from ..detectors.detections import Detections

_OF_WORDS = {"method", "layer", "head", "target"}  # what is asked of a word, too


def explain(
    image: Any,
    *,
    model: str | Path | Model | Any = "embedded",
    method: str | None = None,
    layer: Layer = -1,
    head: Head = "mean",
    query: Query = "cls",
    target: Target = None,
    attention_scale: float | Mapping[int, float] = 1.0,
    patch_size: int | None = None,
    image_size: ImageSize | None = None,
    region: Sequence[int] | None = None,
    keep: float = 1.0,
    keep_by: Any = "attention",
    keep_at: int | Sequence[int] | None = None,
    gather: bool = False,
    merge: int = 0,
    fovea: Sequence[Any] | Detections | Literal["box"] | None = None,
    fovea_patches: Sequence[int] = (8, 32),
    heads_off: Mapping[int, Sequence[int]] | None = None,
    scales: Sequence[ImageSize] | None = None,
    **options: Any,
) -> Heatmap:
    """Where a model looks in an image, or what speaks for a class in it, as one value per patch.

    image: what `load_image` takes, or an answer that `ask` gave. model: a Model, or what `load` takes. method, the same
    for all classes: "rollout" (the default; options start, residual, discard), "cls" or "attention"; for one class or
    text: "relevance", "grad_rollout" (option residual), "legrad", "maskclip" (each patch's own score), and, with values
    below 0 where something speaks against it, "grad_eclip", "grad_cam", "integrated_gradients" (option steps),
    "occlusion" (option square), "cls_contribution", "token_contribution" and "both_contribution", and "lens", what the
    head would say of each patch after a layer. layer: index of a self-attention layer, -1 the last, or "mean"; for
    rollout the last one it goes through. head: index, "mean", "max" or "min". query: the attending token, "cls" or the
    patch over a point (x, y) in source pixels. target: what is explained, a class by label or index, by default the
    predicted one; of an image-text model (CLIP, SigLIP and their kin) any text, whose similarity to the image is the
    score, as the model scales it; or a function that makes one number of the model's output. attention_scale: factor of
    q·kᵀ, for all layers or {layer: factor}, a real intervention. patch_size: px. image_size: px of the model's input, a
    side or (height, width). region: (x0, y0, x1, y1), source pixels, the part of the image that the model gets to see;
    by default all of it. scales: several sizes of the model's input, (224, 336, 448), whose maps become one on the
    source image: their mean, each value spread evenly over its patch, on the finest grid. options: those of the method.

    Tokens are spent, of any plain ViT, by: keep, the share of patches that are left in the end, dropped before the
    layers keep_at by what keep_by says ("attention" of CLS, "norm", "random", "centre", a heatmap or an array), or
    gathered in one token (gather=True); merge, pairs of like tokens that become one between any two layers; fovea, (x0,
    y0, x1, y1) in source pixels or several, the boxes of `detect`, or "box", the most certain one of the embedded
    detector, with patches of fovea_patches px, from within outwards; heads_off, {layer: [head, …]}, whose output is
    zero. A value is drawn on all patches that its token stands for.

    Of an answer, target is one of its words, by its text or its place, and method "relevance" (the default),
    "attention" or "rollout", with layer and head of the language model. A word looks from the token at which it is
    predicted, the one before it. "lens" takes any text: how probable it is as the word that each image token would say
    after a layer (`Answer.lens`). What a detector's box rests on is told by `explain_box`. Raises ValueError, before
    the model runs where it can, for what is unknown or impossible.

        heat = vislab.explain("photo.jpg", method="cls", layer=11, head=2)
        heat = vislab.explain("photo.jpg", method="relevance", target="church")
        heat = vislab.explain(answer, target="church", method="attention", layer=14)  # needs the network
        vislab.save("figure.pdf", heat)
    """
    given = dict(locals())  # the keywords by their names, of which the signature is the one list here
    if isinstance(image, Answer):
        usual: dict[str, Any] = {**DEFAULTS, "model": "embedded"}
        foreign = {name: value for name, value in given.items() if name in usual.keys() - _OF_WORDS}
        if own := [name for name, value in foreign.items() if value is not usual[name] and value != usual[name]]:
            raise ValueError(f"an answer knows its model and its image as they were: leave {', '.join(own)} out")
        return explain_word(image, {"layer": layer, "head": head, **options}, method=method, target=target)
    asked = {name: value for name, value in given.items() if name in DEFAULTS}
    request = Request.named(options | asked | {"method": "rollout" if method is None else method, "region": None})
    picture, ready = load_image(image), model_of(model)
    request.fits(ready)
    whole, corners = (picture.shape[0], picture.shape[1]), _region(region, picture)
    x0, y0, x1, y1 = corners
    seen = np.ascontiguousarray(picture[y0:y1, x0:x1])
    request, found = placed(request, seen, corners)
    request = request if region is None else replace(request, region=corners)

    def one(asked: Request) -> Heatmap:
        sizes: dict[str, Any] = {"image_size": asked.image_size, "patch_size": asked.patch_size}
        frame = ready.frame((y1 - y0, x1 - x0), **sizes).cut_from(whole, (x0, y0))
        spent, grid = _spent(asked, ready, frame, corners)
        return heatmap(ready, None, seen, spent, token=_token(spent.query, grid, frame))

    heat = one(request) if request.scales is None else explained(ready, seen, request, one)
    heat = replace(heat, facts={**heat.facts, **found, **told(image)})
    if region is None:
        return heat
    boxes = request.tokens.fovea
    named = {**heat.settings, **({} if boxes is None else {"fovea": _moved(boxes, x0, y0)})}
    return replace(heat, frame=heat.frame.cut_from(whole, (x0, y0)), image=picture, settings=named)


def heatmap(
    model: Model,
    run: Run | None,
    image: np.ndarray,
    request: Request,
    *,
    token: int | None,
    progress: Progress | None = None,
) -> Heatmap:
    """The heatmap that a request asks for, of a run that was made of the image, or of one that is made now.

    image: (H, W, 3) uint8, what the model sees, or a clip, (frames, H, W, 3), whose map is that of its sheet. run: of
    the request's forward, or None; methods for one target make runs of their own. token: the attending one, or None for
    the model's own summary. progress: told (done, total) where it takes long.
    """
    request.fits(model)
    if request.entry.walks:
        in_sequence(model)
    question = Question(token, model.cls, request.layer, request.head)
    method, target = request.entry.load(), None
    try:
        if request.entry.targeted:
            with probing(model, image, request.target, progress=progress, **request.forward) as probe:
                answer = method(probe, question, **request.options)
                grid, target = answer.grid or probe.grid, probe.target
                if model.texts is not None and not callable(request.target):
                    request = replace(request, target=target)  # in the record the text itself, whatever the labels are
                frame = probe.by_pixels if answer.by_pixels else probe.frame
                frame = probe.by_pixels.spread(grid) if answer.grid and not answer.by_pixels else frame
        else:
            run = run or model.run(image, **request.forward)
            answer = method(run.capture, run.grid, question, **request.options)
            grid, frame = run.grid, run.frame
    except AttentionRefused as error:
        if not request.entry.attends or NOT_FINITE in str(error):
            raise
        raise AttentionRefused(f"{error}; {registry.instead()} make maps without it") from error
    with model.lock:  # while it is at work in another thread, it may have a kernel of another size
        facts = fingerprints.of_module(model.module, given=model.given)
    if answer.cells is not None:
        facts["cells"] = answer.cells
    if model.found is not None and model.found.overlap and not answer.by_pixels:
        facts["tokens"] = "each also sees pixels beyond its patch"
    if run is not None and run.logits is not None:
        facts["predictions"] = model.top(run)
        if model.classes is not None and model.classes.kind != "exclusive":
            facts["scores"] = model.classes.words
    facts |= _counts(model, request, image)
    values, dropped = answer.values.float().cpu().numpy(), answer.dropped
    return Heatmap(
        values.reshape(grid.rows, grid.cols),
        grid,
        frame,
        request.method,
        target,
        settings={"model": model.name, **request.settings},
        image=image if image.ndim == 3 else None,
        query=answer.query,
        facts=facts,
        signed=answer.signed,
        dropped=None if dropped is None else dropped.numpy().reshape(grid.rows, grid.cols),
    )


def placed(request: Request, seen: np.ndarray, corners: Sequence[int]) -> tuple[Request, dict[str, Any]]:
    """The request with its fovea in pixels of the part of the image that the model sees, and what a detector told.

    seen: (h, w, 3) uint8, that part. corners: its own in the image. Raises ValueError where a detector finds no box.
    """
    if request.tokens.fovea is None:
        return request, {}
    if request.tokens.fovea != BOX:
        return request.spending(fovea=_moved(request.tokens.fovea, -corners[0], -corners[1])), {}
    from .detect import detect

    boxes = detect(seen)[:1]
    request = request.spending(fovea=boxes)  # which says where there is none
    return request, {"fovea": f"{boxes.labels[0]} {boxes.scores[0]:.2f}, found by the detector {boxes.detector}"}


def _spent(request: Request, model: Model, frame: Frame, corners: Sequence[int]) -> tuple[Request, Grid]:
    """The request as it is of the region that the model sees, with a heatmap of worth as its values; and the grid.

    Raises ValueError for what the model or the image does not allow.
    """
    x0, y0, x1, y1 = corners
    sizes: dict[str, Any] = {"image_size": request.image_size, "patch_size": request.patch_size}
    if request.tokens == Tokens():
        return request, model.grid(**sizes)
    planned = budget(model, request.tokens, (y1 - y0, x1 - x0), **sizes)
    request = request.spending(fovea=planned.tokens.fovea)
    if isinstance(request.tokens.keep_by, Heatmap):
        request = request.spending(keep_by=values_on(request.tokens.keep_by, planned.cells, frame))
    return request, planned.cells


def _counts(model: Model, request: Request, image: np.ndarray) -> dict[str, Any]:
    """How many tokens each layer attended over, where these are not the grid's."""
    if request.tokens == Tokens():
        return {}
    sizes: dict[str, Any] = {"image_size": request.image_size, "patch_size": request.patch_size}
    planned = budget(model, request.tokens, (image.shape[0], image.shape[1]), **sizes)
    return {"counts": list(planned.counts)} if {*planned.counts} != {planned.cells.tokens} else {}


def _moved(boxes: Sequence[Sequence[float]], x: float, y: float) -> tuple[tuple[float, ...], ...]:
    moved = ((x0 + x, y0 + y, x1 + x, y1 + y) for x0, y0, x1, y1 in boxes)
    return Found(moved) if isinstance(boxes, Found) else tuple(moved)


def _region(region: Any, image: np.ndarray) -> tuple[int, int, int, int]:
    height, width = image.shape[:2]
    try:
        x0, y0, x1, y1 = (0, 0, width, height) if region is None else map(operator.index, region)
    except (TypeError, ValueError):
        x0 = y0 = x1 = y1 = -1
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(
            f"region is (x0, y0, x1, y1), whole pixels within this image of {width}×{height} px, not {shown(region)}"
        )
    return x0, y0, x1, y1


def _token(query: Query, grid: Grid, frame: Frame) -> int | None:
    """The token index of a query; None for "cls"."""
    if query == "cls":
        return None
    x, y = query
    cell = grid.cell_at(*frame.to_model(x, y))
    if cell is None:
        height, width = frame.source
        x0, y0, x1, y1 = (round(v) for v in frame.visible)
        raise ValueError(
            f"no patch lies over the point ({x:g}, {y:g}) of this image of {width}×{height} px: the model sees x "
            f"from {x0} to {x1} and y from {y0} to {y1}"
        )
    return grid.token(*cell)
