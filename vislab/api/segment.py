"""From an image, or a heatmap of it, to masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core import fingerprints
from ..core.checks import check_flags, check_named, check_options, check_shares, meant, one_of, real, shown, whole
from ..core.features import FeatureMap
from ..core.geometry import Grid
from ..core.heatmap import Heatmap
from ..core.images import load_image
from ..detectors.cache import detector_of
from ..detectors.detector import Detector
from ..masks.maps import chosen, on_pixels, visible
from ..masks.masks import Masks
from ..masks.methods import KINDS, METHODS, OF_HEATMAPS, OF_TOKENS
from ..masks.networks import Segmenter, segmenter_of
from ..masks.promptable import Promptable, promptable_of
from ..masks.prompts import prompts_of
from ..masks.refine import refined
from ..masks.tokens import kmeans, tokencut
from ..methods.tokens import patch_tokens
from ..models.cache import model_of
from ..models.load import load
from ..models.model import Model
from ..models.preprocessing import ImageSize
from .explain import explain


def segment(
    image: Any,
    *,
    model: str | Path | Model | Any = "embedded",
    method: str | None = None,
    points: Any = None,
    boxes: Any = None,
    processor: Any = None,
    refine: bool = False,
    image_size: ImageSize | None = None,
    patch_size: int | None = None,
    name: str | None = None,
    **options: Any,
) -> Masks:
    """The regions of an image, as masks in source pixels.

    image: what `load_image` takes, or a heatmap, whose mask is made. model: a Vision Transformer as `load` takes it, or
    a segmentation model: of transformers (SegFormer, Mask2Former and their kin) or torchvision (FCN, DeepLabV3,
    LRASPP), by its name on the hub ("torchvision/fcn_resnet50"), its folder, or as a module with the processor that it
    was trained with (of torchvision its weights' transforms); or a -seg network of ultralytics as `load_detector` takes
    it ("yolo11n-seg.pt"), with the options confidence, iou and trust of `detect`. method, of a segmentation model:
    "semantic" (the default), "instance" (that of a -seg network) or "panoptic", by the library's own post-processing.

    Of a Vision Transformer, without training: of a heatmap, by default that of rollout, "otsu" (the default),
    "threshold" (option level, a fraction from its lowest to its highest value) or "share" (option level, of the map's
    mass); of the tokens of its last block, "kmeans", clusters (options clusters, seed), or "tokencut", one side of
    their normalised cut (option tau, the cosine above which two tokens are alike), which may be what lies behind the
    object. These are whole patches, on exactly the pixels of these; refine moves their edges by GrabCut, and the masks
    say so. image_size, patch_size: px, as of `explain`. name: what a given module is called in captions and records.

        masks = vislab.segment("photo.jpg", method="kmeans", clusters=3)
        masks = vislab.segment(vislab.explain("photo.jpg", method="relevance"), refine=True)
        masks = vislab.segment("photo.jpg", model="nvidia/segformer-b0-finetuned-ade-512-512")  # needs the network
        boxes, sam = vislab.detect("photo.jpg"), "facebook/sam2.1-hiera-tiny"
        masks = vislab.segment("photo.jpg", model=sam, points=[(320, 210)])  # needs the network
        masks = vislab.segment("photo.jpg", model=sam, boxes=boxes)  # needs the network

    ValueError: an unknown method or option, one that does not fit the model, or an image in which nothing stands out.
    """
    sizes: dict[str, Any]
    if name is not None:
        check_named(name, model)
        sizes = {"image_size": image_size, "patch_size": patch_size}
        shown_to = {"points": points, "boxes": boxes, "processor": processor}
        made = segment(image, model=model, method=method, refine=refine, **shown_to, **sizes, **options)
        return replace(made, model=name)
    check_flags(refine=refine)
    if method is not None and not one_of(method, METHODS):
        raise ValueError(
            f"no method {shown(method)} of masks{meant(method, METHODS) or ': take ' + ', '.join(METHODS)}"
        )
    if points is not None or boxes is not None or "outside" in options:
        sizes = {"image_size": image_size, "patch_size": patch_size}
        return _of_prompts(image, model, processor, method, refine, (points, boxes), {**options, **sizes})
    if isinstance(image, Heatmap):
        given = {"processor": processor, "image_size": image_size, "patch_size": patch_size}
        given["model"] = None if one_of(model, ["embedded"]) else model
        if own := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"a heatmap knows how it was made: leave {', '.join(own)} out")
        return _of_heatmap(image, method or "otsu", refine, options)
    if (detector := detector_for(model, options.get("trust", False))) is not None:
        options.pop("trust", None)
        return _of_detector(detector, load_image(image), method or "instance", refine, options, image_size, patch_size)
    if method is None or method in KINDS:
        found = segmenter_of(model, processor)
        if found is not None:
            return _of_network(found, load_image(image), method or "semantic", refine, options, image_size, patch_size)
        if promptable_of(model, processor) is not None:
            raise ValueError(
                "this model makes the mask of what it is shown: give points=[(x, y)] or boxes=[(x0, y0, x1, y1)]"
            )
        if method is not None:
            raise ValueError(
                f"{method} masks are made by a segmentation model, such as "
                "'nvidia/segformer-b0-finetuned-ade-512-512': this one has no such head, so take method='otsu'"
            )
    ready = model_of(model) if processor is None else load(model, processor=processor)
    sizes = {"image_size": image_size, "patch_size": patch_size}
    method = method or "otsu"
    if method in OF_HEATMAPS:
        _settings(method, OF_HEATMAPS[method], options)
        return _of_heatmap(explain(image, model=ready, **sizes), method, refine, options)
    settings = _settings(method, OF_TOKENS[method], options)
    picture = load_image(image)
    tokens = patch_tokens(picture, model=ready, **sizes)
    masks = _of_tokens(ready, tokens, method, settings)
    return (
        refined(masks, on_pixels(np.ones((1, *_shape(tokens)), bool), tokens.grid, tokens.frame)[0])
        if refine
        else masks
    )


def _of_prompts(
    image: Any,
    model: Any,
    processor: Any,
    method: str | None,
    refine: bool,
    shown: tuple[Any, Any],
    options: Mapping[str, Any],
) -> Masks:
    if isinstance(image, Heatmap):
        raise ValueError("points and boxes ask about an image, not about a heatmap: give its photograph")
    found = None if detector_for(model) is not None else promptable_of(model, processor)
    if found is None:
        if isinstance(model, str | Path) and detector_for(model) is None:
            model_of(model)  # says what it is, where it cannot be loaded
        name = model if isinstance(model, str | Path) else getattr(model, "name", type(model).__name__)
        raise ValueError(
            f"{name} takes no points or boxes: leave them out, or take a model that does, such as "
            "'facebook/sam2.1-hiera-tiny'"
        )
    outside, candidates = options.get("outside"), options.get("candidates", False)
    check_flags(candidates=candidates)
    rest = {"method": method, "refine": refine or None}
    for name, given in {**rest, **options, "outside": None, "candidates": None}.items():
        if given is not None:
            raise ValueError(f"{found.name} makes masks of pixels by points and boxes: leave {name} out")
    return prompted(found, load_image(image), points=shown[0], outside=outside, boxes=shown[1], candidates=candidates)


def prompted(
    found: Promptable,
    picture: np.ndarray,
    *,
    points: Any = None,
    outside: Any = None,
    boxes: Any = None,
    candidates: bool = False,
) -> Masks:
    """What `segment` makes of points and boxes. picture: (H, W, 3) uint8, its pixels as `load_image` gave them."""
    prompts = prompts_of(points, outside, boxes, (picture.shape[0], picture.shape[1]))
    return found.segment(picture, prompts, candidates)


def _of_heatmap(heat: Heatmap, method: str, refine: bool, options: Mapping[str, Any]) -> Masks:
    if method not in OF_HEATMAPS:
        raise ValueError(f"of a heatmap a mask is made by {', '.join(OF_HEATMAPS)}, not by {method}")
    settings = _settings(method, OF_HEATMAPS[method], options)
    if refine and heat.image is None:
        raise ValueError("this heatmap has no photograph to refine its mask by: dataclasses.replace(heat, image=…)")
    kept, mass = chosen(heat, method, settings.get("level", 0.0))
    name = str(heat.settings.get("model") or heat.settings.get("detector") or "a heatmap")
    masks = Masks(
        on_pixels(kept[None], heat.grid, heat.frame),
        (heat.target or heat.method,),
        np.array([mass]),
        "share of the map's mass above 0",
        f"{_said(method, settings)} on {heat.method}",
        name,
        heat.image,
        dict(heat.facts),
    )
    seen = on_pixels(visible(heat.grid, heat.frame)[None], heat.grid, heat.frame)[0]
    return refined(masks, seen) if refine else masks


def _of_tokens(model: Model, tokens: FeatureMap, method: str, settings: Mapping[str, Any]) -> Masks:
    values = tokens.tokens.astype(np.float64)
    if method == "tokencut":
        kept, clean = tokencut(values, settings["tau"])
        cells, labels, scores = kept[None], ["foreground"], np.array([clean])
        scored = "similarity that stays on either side of the cut"
    else:
        count = settings["clusters"]
        if count > tokens.grid.patches:
            raise ValueError(f"{count} clusters of {tokens.grid.patches} patches are too many: take fewer")
        cells = kmeans(values, **settings) == np.arange(count)[:, None]
        labels, scores = [f"cluster {i}" for i in range(count)], cells.mean(1)
        scored = "share of the patches"
    masks = on_pixels(cells.reshape(len(cells), *_shape(tokens)), tokens.grid, tokens.frame)
    with model.lock:
        facts = fingerprints.of_module(model.module, given=model.given)
    return Masks(masks, tuple(labels), scores, scored, _said(method, settings), model.name, tokens.image, facts)


def _of_network(
    found: Segmenter,
    image: np.ndarray,
    method: str,
    refine: bool,
    options: Mapping[str, Any],
    image_size: Any,
    patch_size: Any,
) -> Masks:
    for name, given in {
        "refine": refine or None,
        "image_size": image_size,
        "patch_size": patch_size,
        **options,
    }.items():
        if given is not None:
            raise ValueError(
                f"{found.name} makes masks of pixels, as its processor shows it pictures: leave {name} out"
            )
    return found.segment(image, method)


def detector_for(model: Any, trust: bool = False) -> Detector | None:
    """A -seg network of ultralytics, by the name of its file, as an object, or loaded; None of any other model."""
    ours = any(base.__module__.startswith("ultralytics.") for base in type(model).__mro__)
    if isinstance(model, Detector) or ours or (isinstance(model, str | Path) and str(model).endswith(".pt")):
        return detector_of(model, trust)
    return None


def _of_detector(
    detector: Detector,
    image: np.ndarray,
    method: str,
    refine: bool,
    options: Mapping[str, Any],
    image_size: ImageSize | None,
    patch_size: int | None,
) -> Masks:
    if method != "instance":
        raise ValueError(f"{detector.name} gives instance masks, not {method} ones")
    check_options("vislab.segment by a detector", options, ("confidence", "iou"))
    for name, given in {"refine": refine or None, "patch_size": patch_size}.items():
        if given is not None:
            raise ValueError(f"{detector.name} makes masks of pixels: leave {name} out")
    glance = detector.glance(image, image_size=image_size)
    boxes, masks = glance.detections(**options), glance.masks(**options)
    grid = Grid(*glance.frame.model, (1, 1))
    facts = fingerprints.of_module(detector.module, given=detector.given)
    placed, how = on_pixels(masks, grid, glance.frame), "instance segmentation"
    return Masks(placed, boxes.labels, boxes.scores, "model's own", how, detector.name, image, facts)


def _settings(method: str, known: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a method, checked, with those that were not given."""
    if options and not known:
        raise ValueError(f"method {method!r} of masks takes no {next(iter(options))}: leave it out")
    check_options(f"method {method!r} of masks", options, known)
    settings = {**known, **options}
    if "level" in settings:
        check_shares(level=settings["level"])
    if "tau" in settings and not (real(settings["tau"]) and -1 < settings["tau"] < 1):
        raise ValueError(f"tau is a cosine, between -1 and 1, not {shown(settings['tau'])}")
    for name, least in (("clusters", 2), ("seed", 0)):
        if name in settings and not (whole(settings[name]) and settings[name] >= least):
            raise ValueError(f"{name} is a whole number from {least}, not {shown(settings[name])}")
    return settings


def _said(method: str, settings: Mapping[str, Any]) -> str:
    """A method with its options, in words."""
    return method + (f" ({', '.join(f'{k} {v:g}' for k, v in settings.items())})" if settings else "")


def _shape(tokens: FeatureMap) -> tuple[int, int]:
    return tokens.grid.rows, tokens.grid.cols
