"""Which map to trust, measured: removal of patches, mosaics, weights drawn anew, agreement between methods."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from ..core.checks import check_counts, check_flags, shown
from ..core.files import check_folder
from ..core.fingerprints import of_name
from ..core.images import load_image
from ..engine.site import AttentionRefused
from ..language.answer import Answer
from ..methods import registry
from ..methods.request import Request
from ..models.cache import model_of
from ..models.classes import label_names
from ..models.model import Model
from ..models.preprocessing import ImageSize
from ..models.tokens import BOX, Tokens
from ..spread.cluster import spread
from ..spread.errors import PhotoError
from .answered import box_of, evaluate_answers
from .measured import Item, LeftOut, elsewhere, measured, pointed, seen
from .plan import Maps, Outcome, Plan, counted, maps_of, rng
from .pointing import mosaics
from .randomise import randomisation
from .ranks import spearman
from .removal import Fill, classes_of
from .report import BASELINES, Evaluation


def evaluate(
    images: Iterable[Any],
    *,
    model: str | Path | Model | nn.Module = "embedded",
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    targets: Sequence[str | int] | None = None,
    boxes: Sequence[Sequence[float] | None] | None = None,
    fill: Fill = "blur",
    steps: int = 28,
    randomised: int = 8,
    seed: int = 0,
    patch_size: int | None = None,
    image_size: ImageSize | None = None,
    kept: str | os.PathLike[str] | None = None,
    ray: str | None = None,
    actors: int | None = None,
    progress: bool = True,
    **tokens: Any,
) -> Evaluation:
    """Measure how faithful the maps of several methods are to a model, beside a random order and a centre blob.

    images: a list of what `load_image` takes, or a mapping to it, such as `samples()`; those that cannot be read are
    named in a warning and left out. methods: names that `explain` knows, by default all that the model has an answer
    to, the others named in a warning; or {name: keywords of explain} to compare settings, such as {"last": {"method":
    "cls"}, "first": {"method": "cls", "layer": 0}}. targets: each image's class, by default the one predicted on the
    whole image; it is held fixed throughout. Of an image-text model without labels, texts: they are its classes. fill:
    what a removed patch shows, the image blurred until its shapes are gone, or its mean colour. steps: of removal, at
    most one a patch. randomised: on how many images, the first ones, the randomisation check is done; 0 leaves it out.
    The same seed gives the same numbers, in whatever order the images stand. tokens: how every forward spends them, as
    of `explain`: keep, merge, heads_off, …; with fovea="box", on a box of each image and each mosaic, and those where
    none is found are left out.

    Of answers that `ask` gave, targets are words, one of each answer, by default its longest, and what is watched is
    the word's probability while squares of the image are removed, a 16th of its sides; model is theirs. boxes: of each
    word the place that it rests on, (x0, y0, x1, y1) in source pixels, or None, for pointing. Weights stay.

    - Deletion and insertion: the class's probability while patches are removed, or put back, highest value first
      (Petsiuk, Das & Saenko 2018, RISE).
    - Grid pointing game: four images of different classes in a 2 × 2 mosaic; how much of the map of one of the classes
      lies in its quarter (Böhle, Fritz & Schiele 2021, CoDA Nets). Maps that are the same for every class score ¼.
    - Randomisation check: the weights are drawn anew, part by part from the top; a map that stays what it was does not
      show what the model has learned (Adebayo et al. 2018, cascading randomisation).
    - Agreement: rank correlation of the methods' maps, image by image (Spearman 1904).

    kept: a folder that what was measured of each image is written to: the same call then goes on where it was ended.
    ray, actors: a Ray cluster that images and mosaics are spread over, as of `many`; the model is then one that its
    processes load by its name.

    ValueError: a model without a classifier, or one that gives numbers, an unknown method or class, no image that
    could be read.
    """
    sources = _listed(images)
    check_counts(steps=steps, randomised=randomised, seed=seed)
    check_flags(progress=progress)
    if sources and all(isinstance(one, Answer) for one in sources):
        if given := {**tokens, **{n: v for n, v in (("patch_size", patch_size), ("image_size", image_size)) if v}}:
            raise ValueError(f"an answer knows its model and its image as they were: leave {', '.join(given)} out")
        places = None if boxes is None else [None if box is None else box_of(box) for box in boxes]
        how: dict[str, Any] = {"fill": fill, "steps": steps, "seed": seed, "progress": progress}
        return evaluate_answers(sources, methods=methods, targets=targets, boxes=places, **how)
    if boxes is not None:
        raise ValueError("boxes are of words of answers: images of classes point at each other in mosaics")
    ready = _of_texts(model_of(model), targets)
    known = classes_of(ready)
    plan = Plan(ready, _by_name(methods, ready), fill, steps, seed, patch_size, image_size, _spent(tokens))
    plan = replace(plan, steps=min(steps, plan.grid.patches))
    classes: Sequence[int | None] = _targets(ready, targets, len(sources)) or [None] * len(sources)
    items = [*zip(range(len(sources)), sources, classes, strict=True)]
    folder = None if kept is None else _folder(kept)
    if methods is None:
        plan = _answered(plan, items, progress)

    def each(one: Callable[..., Any], of: Sequence[Any], **options: Any) -> Iterator[Any]:
        if ray is None:
            return map(partial(one, plan, **options), of)
        return spread(elsewhere(plan, one, **options), of, ray=ray, actors=actors)

    found = [*counted(each(measured, items, kept=folder), "image", progress, len(items))]
    outcomes = sorted((one for one in found if isinstance(one, Outcome)), key=lambda one: one.number)
    left = sorted((one for one in found if isinstance(one, LeftOut)), key=lambda one: one.number)
    skipped = [f"image {one.number}: {one.why}" for one in left]
    for said in skipped:
        warnings.warn(f"left out {said}", stacklevel=2)
    if not outcomes:
        raise ValueError(f"none of the {len(sources)} images could be read: {'; '.join(skipped[:3]) or 'give some'}")
    fours = mosaics(outcomes, rng(seed, "mosaics"))
    numbered = [*enumerate(fours)]
    asked = sorted(counted(each(pointed, numbered), "mosaic", progress, len(fours)), key=lambda one: one[0])
    pointing = [scores for _, scores in asked if scores]
    checked = [load_image(sources[one.number]) for one in outcomes[:randomised]]
    parts, correlations = randomisation(plan, list(zip(outcomes, checked, strict=False)), progress)
    return Evaluation(
        methods=tuple(outcomes[0].maps),
        targets=tuple(known.labels[one.target] for one in outcomes),
        share=outcomes[0].curves[0].share,
        deletion=np.stack([[curve.deletion for curve in one.curves] for one in outcomes], 1),
        insertion=np.stack([[curve.insertion for curve in one.curves] for one in outcomes], 1),
        agreement=np.stack([_agreement(one.maps) for one in outcomes], -1),
        pointing=np.array(pointing).reshape(len(pointing), len(outcomes[0].maps)).T,
        parts=parts,
        randomised=correlations,
        skipped=tuple(skipped),
        settings={"model": of_name(ready.name), "methods": plan.methods, "fill": fill, "seed": seed, **plan.sizes},
    )


def _spent(tokens: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of tokens by name. ValueError for what `explain` refuses, and for a fovea that is one image's."""
    asked = Tokens.of(tokens)
    if asked is not None and asked.fovea not in (None, BOX):
        raise ValueError(
            "a fovea of such boxes lies in one image, and several are evaluated: take fovea='box', a box that is found "
            "in each of them, or leave fovea out"
        )
    return dict(tokens)


def _listed(images: Iterable[Any]) -> list[Any]:
    single = isinstance(images, str | os.PathLike | bytes | Image.Image)
    if single or (isinstance(images, np.ndarray) and images.ndim < 4):
        raise ValueError("evaluate takes several images: give a list, if only of one, [image]")
    if not isinstance(images, Iterable):
        raise TypeError(f"evaluate takes several images: give a list, not {type(images).__name__}")
    return list(images.values() if isinstance(images, Mapping) else images)


def _by_name(
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]] | None, model: Model
) -> dict[str, dict[str, Any]]:
    """Name -> keywords of `explain`. Raises ValueError for what `explain` refuses, and for names of baselines."""
    if methods is None:
        methods = [name for name, method in registry.METHODS.items() if model.attends or not method.attends]
    if isinstance(methods, str):
        raise ValueError(f"methods is a list of names, [{methods!r}], or a mapping from names to keywords of explain")
    if not isinstance(methods, Mapping):
        if not isinstance(methods, list | tuple | set | frozenset) or not all(isinstance(m, str) for m in methods):
            raise ValueError(f"methods is a list of names, or a mapping from names to keywords, not {shown(methods)}")
        methods = {name: {} for name in methods}
    if not all(isinstance(keywords, Mapping) for keywords in methods.values()):
        raise ValueError(
            f"methods maps each name to keywords of explain, {{'last': {{'layer': -1}}}}, not {shown(methods)}"
        )
    settings = methods
    named = {name: {"method": name} | dict(keywords) for name, keywords in settings.items()}
    for name, keywords in named.items():
        if name in BASELINES:
            raise ValueError(f"{name!r} is always there, as a baseline: leave it out of methods")
        Request.named(keywords).fits(model)
    return named


def _of_texts(model: Model, targets: Any) -> Model:
    """An image-text model that was given no labels, with the targets as its classes."""
    if model.texts is None or model.names is not None or not isinstance(targets, list | tuple):
        return model
    return model.labelled(label_names(dict.fromkeys(targets)))


def _answered(plan: Plan, items: Sequence[Item], progress: bool) -> Plan:
    """The plan with the methods that the model has an answer to, found on the first image that can be read."""
    for item in items:
        try:
            image, _, own, target = seen(plan, item)
        except PhotoError:
            continue
        return replace(plan, methods=_answering(own, image, target, progress))
    return plan


def _answering(plan: Plan, image: np.ndarray, target: int, progress: bool) -> dict[str, Mapping[str, Any]]:
    """The methods that a model has an answer to; those that need no attention always have one."""
    found = {}
    for name, keywords in counted([*plan.methods.items()], "method", progress):
        try:
            if registry.METHODS[name].attends:
                maps_of(replace(plan, methods={name: keywords}), image, target)
        except (ValueError, AttentionRefused) as error:
            warnings.warn(f"left out {name}: {error}", stacklevel=4)
            continue
        found[name] = keywords
    return found


def _targets(model: Model, targets: Sequence[str | int] | None, count: int) -> list[int]:
    """Class indices, or none where they are to be predicted."""
    if targets is None:
        return []
    if isinstance(targets, str) or not isinstance(targets, Sequence | np.ndarray) or np.ndim(targets) == 0:
        raise ValueError(f"targets is a list with each image's class, by label or index, not {shown(targets)}")
    if len(targets) != count:
        raise ValueError(f"{count} images take {count} targets, not {len(targets)}")
    return [model.class_index(target) for target in targets]


def _agreement(maps: Maps) -> np.ndarray:
    """Rank correlation of every two maps. -> (methods, methods)"""
    return np.array([[spearman(one, other) for other in maps.values()] for one in maps.values()])


def _folder(kept: str | os.PathLike[str]) -> Path:
    """Made where it is not there. OSError where it cannot be written to."""
    folder = Path(kept).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    check_folder(folder / "one.npz")
    return folder
