"""Which map to trust, measured: removal of patches, mosaics, weights drawn anew, agreement between methods."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from . import attribution, metrics
from .compose import explain, model_of
from .fingerprints import of_name
from .geometry import Frame, Grid
from .images import load_image
from .models import ImageSize, Model
from .scores import BASELINES, CENTRE, RANDOM, Evaluation

Fill = Literal["blur", "mean"]
Maps = dict[str, np.ndarray]
BLUR = 0.1  # of the input's shorter side, the deviation of a blur that keeps colours and takes shapes
BATCH_TOKENS = {"cpu": 1600}  # a processor is fastest with small batches, other devices idle with them
BATCH_TOKENS_ELSEWHERE = 2**16


@dataclass(frozen=True, eq=False)
class _Asked:
    """What stays the same from image to image. methods: name -> keywords of `explain`."""

    model: Model
    methods: Mapping[str, Mapping[str, Any]]
    fill: Fill
    steps: int
    seed: int
    patch_size: int | None
    image_size: ImageSize | None

    @property
    def grid(self) -> Grid:
        return self.model.grid(self.image_size, self.patch_size)


@dataclass(frozen=True, eq=False)
class _Seen:
    """An image that was evaluated. number: its place among those given. target: class index. maps: one a method.

    quarter: (h, w, 3) uint8, what the model saw of it, at half the input's size.
    """

    number: int
    target: int
    maps: Maps
    curves: Sequence[metrics.Removal]
    quarter: np.ndarray


def evaluate(
    images: Iterable[Any],
    model: str | Path | Model | nn.Module = "embedded",
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    *,
    targets: Sequence[str | int] | None = None,
    fill: Fill = "blur",
    steps: int = 28,
    randomised: int = 8,
    seed: int = 0,
    patch_size: int | None = None,
    image_size: ImageSize | None = None,
    progress: bool = True,
) -> Evaluation:
    """Measure how faithful the maps of several methods are to a model, beside a random order and a centre blob.

    images: a list of what `load_image` takes, or a mapping to it, such as `samples()`; those that cannot be read are
    named in a warning and left out. methods: names that `explain` knows, by default all; or {name: keywords of explain}
    to compare settings, such as {"last": {"method": "cls"}, "first": {"method": "cls", "layer": 0}}. targets: each
    image's class, by default the one predicted on the whole image; it is held fixed throughout. fill: what a removed
    patch shows, the image blurred until its shapes are gone, or its mean colour. steps: of removal, at most one a
    patch. randomised: on how many images, the first ones, the randomisation check is done; 0 leaves it out. The same
    seed gives the same numbers.

    - Deletion and insertion: the class's probability while patches are removed, or put back, highest value first
      (Petsiuk, Das & Saenko 2018, RISE).
    - Grid pointing game: four images of different classes in a 2 × 2 mosaic; how much of the map of one of the classes
      lies in its quarter (Böhle, Fritz & Schiele 2021, CoDA Nets). Maps that are the same for every class score ¼.
    - Randomisation check: the weights are drawn anew, part by part from the top; a map that stays what it was does not
      show what the model has learned (Adebayo et al. 2018, cascading randomisation).
    - Agreement: rank correlation of the methods' maps, image by image (Spearman 1904).

    ValueError: a model without a classifier, an unknown method or class, no image that could be read.
    """
    given = _listed(images)
    ready = model_of(model)
    asked = _Asked(ready, _by_name(methods), fill, steps, seed, patch_size, image_size)
    asked = replace(asked, steps=min(steps, asked.grid.patches))
    known = _targets(ready, targets, len(given))
    seen: list[_Seen] = []
    skipped: list[str] = []
    first: list[np.ndarray] = []  # images of the randomisation check
    for number, source in enumerate(_progress(given, "image", progress)):
        try:
            image = load_image(source)
            pixels, frame = ready.preprocessing(image, ready.input_size(image_size))
        except (OSError, ValueError) as error:
            skipped.append(f"image {number}: {error}")
            warnings.warn(f"left out {skipped[-1]}", stacklevel=2)
            continue
        target = known[number] if known else int(ready.logits(pixels, **_sizes(asked)).argmax())
        maps = _maps(asked, image, target, number)
        curves = _removed(asked, pixels, maps, target, number)
        seen.append(_Seen(number, target, maps, curves, _quarter(image, frame)))
        first += [image] if len(first) < randomised else []
    if not seen:
        raise ValueError(f"none of the {len(given)} images could be read: {'; '.join(skipped[:3]) or 'give some'}")
    mosaics = _mosaics(seen, rng(seed, "mosaics"))
    pointing = [_pointing(asked, mosaic) for mosaic in _progress(mosaics, "mosaic", progress)]
    parts, correlations = _randomisation(asked, list(zip(seen, first, strict=False)), progress)
    return Evaluation(
        methods=tuple(seen[0].maps),
        targets=tuple(ready.labels[one.target] if ready.labels else f"class {one.target}" for one in seen),
        share=seen[0].curves[0].share,
        deletion=np.stack([[curve.deletion for curve in one.curves] for one in seen], 1),
        insertion=np.stack([[curve.insertion for curve in one.curves] for one in seen], 1),
        agreement=np.stack([_agreement(one.maps) for one in seen], -1),
        pointing=np.array(pointing).reshape(len(mosaics), len(seen[0].maps)).T,
        parts=parts,
        randomised=correlations,
        skipped=tuple(skipped),
        settings={"model": of_name(ready.name), "methods": asked.methods, "fill": fill, "seed": seed, **_sizes(asked)},
    )


# ---- what was asked ----


def _listed(images: Iterable[Any]) -> list[Any]:
    single = isinstance(images, str | os.PathLike | bytes | Image.Image)
    if single or (isinstance(images, np.ndarray) and images.ndim < 4):
        raise ValueError("evaluate takes several images: give a list, if only of one, [image]")
    return list(images.values() if isinstance(images, Mapping) else images)


def _by_name(methods: Sequence[str] | Mapping[str, Mapping[str, Any]] | None) -> dict[str, dict[str, Any]]:
    """Name -> keywords of `explain`. Raises ValueError for unknown methods and for names of baselines."""
    if methods is None:
        methods = list(attribution.METHODS)
    if isinstance(methods, str):
        raise ValueError(f"methods is a list of names, [{methods!r}], or a mapping from names to keywords of explain")
    named = methods if isinstance(methods, Mapping) else {name: {"method": name} for name in methods}
    for name, keywords in named.items():
        if name in BASELINES:
            raise ValueError(f"{name!r} is always there, as a baseline: leave it out of methods")
        attribution.method(keywords.get("method", name), {})
    return {name: {"method": name} | dict(keywords) for name, keywords in named.items()}


def _targets(model: Model, targets: Sequence[str | int] | None, count: int) -> list[int]:
    """Class indices, or none where they are to be predicted."""
    if targets is None:
        return []
    if len(targets) != count:
        raise ValueError(f"{count} images take {count} targets, not {len(targets)}")
    return [model.class_index(target) for target in targets]


def rng(seed: int, purpose: Literal["maps", "ties", "mosaics"], *key: int) -> np.random.Generator:
    """A source of chance of its own for each purpose and key, so that no number depends on what was drawn before."""
    return np.random.default_rng([seed, *purpose.encode(), *key])


def _sizes(asked: _Asked) -> dict[str, Any]:
    return {"patch_size": asked.patch_size, "image_size": asked.image_size}


def _progress(items: Sequence[Any], unit: str, shown: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(items, unit=unit, disable=not (shown and items), leave=False)


# ---- maps ----


def _maps(asked: _Asked, image: np.ndarray, target: int, *key: int) -> Maps:
    """The map of each method and baseline; random is drawn anew for each key."""
    maps = {}
    for name, keywords in asked.methods.items():
        targeted: dict[str, Any] = {"target": target} if keywords["method"] in attribution.TARGETED else {}
        maps[name] = explain(image, model=asked.model, **(_sizes(asked) | targeted | dict(keywords))).values
    shape = asked.grid.rows, asked.grid.cols
    return maps | {RANDOM: rng(asked.seed, "maps", *key).random(shape), CENTRE: metrics.centre(*shape)}


def _agreement(maps: Maps) -> np.ndarray:
    """Rank correlation of every two maps. -> (methods, methods)"""
    return np.array([[metrics.spearman(one, other) for other in maps.values()] for one in maps.values()])


# ---- removal ----


def _removed(asked: _Asked, pixels: Tensor, maps: Maps, target: int, number: int) -> list[metrics.Removal]:
    score = kept_score(asked.model, pixels, target, fill=asked.fill, **_sizes(asked))
    # ties fall alike for every method, so that a method's numbers do not depend on which others are there
    fresh = (rng(asked.seed, "ties", number) for _ in maps)
    return [metrics.removal(score, one, steps=asked.steps, rng=r) for one, r in zip(maps.values(), fresh, strict=True)]


def kept_score(
    model: Model,
    pixels: Tensor,
    target: int,
    *,
    fill: Fill = "blur",
    patch_size: int | None = None,
    image_size: ImageSize | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    """The probability of a class for an image of which only some patches are kept, as `metrics.removal` asks for it.

    pixels: (1, 3, h, w) from the model's preprocessing. -> a function of (n, rows, cols) bool -> (n,)
    """
    grid = model.grid(image_size, patch_size)
    whole = pixels.to(model.device, model.dtype)
    removed = filled(pixels[0], fill)[None].to(whole)
    # pixels that are left over at the right and bottom go with the last patch
    row, col = (
        (torch.arange(side, device=model.device) // patch).clamp(max=count - 1)
        for side, patch, count in zip(pixels.shape[2:], grid.patch, (grid.rows, grid.cols), strict=True)
    )
    budget = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS_ELSEWHERE)

    def score(kept: np.ndarray) -> np.ndarray:
        masks = torch.from_numpy(kept).to(model.device)
        parts = []
        for part in masks.split(max(1, budget // grid.tokens)):
            shown = torch.where(part[:, row][:, :, col][:, None], whole, removed)
            logits = model.logits(shown, patch_size=patch_size, image_size=image_size)
            parts.append(logits.softmax(1)[:, target])
        return torch.cat(parts).cpu().numpy()

    return score


def filled(pixels: Tensor, fill: Fill) -> Tensor:
    """What the removed patches of an image show. pixels: (3, h, w) -> (3, h, w)"""
    if fill == "mean":
        return pixels.mean((1, 2), keepdim=True).expand_as(pixels)
    if fill != "blur":
        raise ValueError(f"fill is 'blur' or 'mean', not {fill!r}")
    deviation = BLUR * min(pixels.shape[1:])
    down, across = (_gaussian(side, deviation) for side in pixels.shape[1:])
    return down @ pixels @ across.T


def _gaussian(side: int, deviation: float) -> Tensor:
    """The matrix that blurs along one axis; beyond the border nothing is counted. -> (side, side), rows sum to 1."""
    at = torch.arange(side, dtype=torch.float32)
    return (-(((at[:, None] - at) / deviation) ** 2) / 2).softmax(1)


# ---- mosaics ----


def _quarter(image: np.ndarray, frame: Frame) -> np.ndarray:
    """What the model sees of an image, at half the size of its input. -> (h, w, 3) uint8"""
    height, width = frame.model
    small = Image.fromarray(image).resize((width // 2, height // 2), Image.Resampling.BICUBIC, box=frame.visible)
    return np.asarray(small)


def _mosaics(seen: Sequence[_Seen], rng: np.random.Generator) -> list[list[_Seen]]:
    """Fours of images of different classes, in random order, as many as there can be; each image is in one at most."""
    classes: dict[int, list[_Seen]] = {}
    for k in rng.permutation(len(seen)):
        classes.setdefault(seen[k].target, []).append(seen[k])
    mosaics = []
    while len(fullest := sorted(filter(None, classes.values()), key=len)[-4:]) == 4:
        four = [members.pop() for members in fullest]
        mosaics.append([four[k] for k in rng.permutation(4)])
    return mosaics


def _pointing(asked: _Asked, mosaic: Sequence[_Seen]) -> list[float]:
    """Each method's mean over the four classes of a mosaic."""
    a, b, c, d = (one.quarter for one in mosaic)
    image = np.vstack([np.hstack([a, b]), np.hstack([c, d])])
    size = asked.model.input_size(asked.image_size)
    frame = asked.model.preprocessing.frame((image.shape[0], image.shape[1]), size)
    found = []
    for quarter, one in enumerate(mosaic):
        maps = _maps(asked, image, one.target, one.number, quarter)
        inside = _inside(asked.grid, frame, quarter)
        found.append([metrics.pointing(values, inside) for values in maps.values()])
    return np.mean(found, 0).tolist()


def _inside(grid: Grid, frame: Frame, quarter: int) -> np.ndarray:
    """The share of each patch in a quarter of the source image, 0 the top left and 1 the top right. -> (rows, cols)"""
    x, y = frame.to_model(frame.source[1] / 2, frame.source[0] / 2)
    top = np.clip(y / grid.patch[0] - np.arange(grid.rows), 0, 1)
    left = np.clip(x / grid.patch[1] - np.arange(grid.cols), 0, 1)
    below, right = divmod(quarter, 2)
    return np.outer(1 - top if below else top, 1 - left if right else left)


# ---- randomisation ----


def _randomisation(
    asked: _Asked, seen: Sequence[tuple[_Seen, np.ndarray]], progress: bool
) -> tuple[tuple[str, ...], np.ndarray]:
    """Parts from the top, and the rank correlations with the untouched model's maps: (methods, images, parts)."""
    if not seen:
        return (), np.zeros((len(asked.methods) + len(BASELINES), 0, 0))
    parts = model_parts(asked.model, seen[0][1], **_sizes(asked))
    changed = replace(asked.model, module=copy.deepcopy(asked.model.module))
    generator = torch.Generator().manual_seed(asked.seed)
    found = []
    for stage, names in enumerate(_progress(list(parts.values()), "part", progress)):
        draw_anew(changed.module, names, generator)
        for one, image in seen:
            maps = _maps(replace(asked, model=changed), image, one.target, one.number, 4 + stage)
            found.append([metrics.spearman(one.maps[name], values) for name, values in maps.items()])
    correlations = np.array(found).reshape(len(parts), len(seen), -1)
    return tuple(parts), correlations.transpose(2, 1, 0)


def model_parts(model: Model, image: np.ndarray, **sizes: Any) -> dict[str, list[str]]:
    """A model's parameters by name, in parts from the top: what follows the layers, each layer, what precedes them.

    A layer is the largest module that holds one site of attention among the model's layers.
    """
    sites = [site.name.split(".") for site in model.run(image, **sizes).capture.layers]
    layers = [_own_prefix(site, sites) for site in sites]
    parts: dict[str, list[str]] = {"head": [], **{str(k): [] for k in reversed(range(len(layers)))}, "input": []}
    within = "input"
    for name, _ in model.module.named_parameters():
        layer = next((k for k, prefix in enumerate(layers) if name.startswith(prefix + ".")), None)
        within = str(layer) if layer is not None else "input" if within == "input" else "head"
        parts[within].append(name)
    return {part: names for part, names in parts.items() if names}


def _own_prefix(site: Sequence[str], sites: Sequence[Sequence[str]]) -> str:
    """The shortest beginning of a module path that no other site shares."""
    own = (n for n in range(1, len(site)) if sum(other[:n] == site[:n] for other in sites) == 1)
    return ".".join(site[: next(own, len(site))])


def draw_anew(module: nn.Module, names: Iterable[str], generator: torch.Generator) -> None:
    """Draw parameters from the normal distribution of their own mean and deviation, which keeps signals their size."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name in names:
            old = parameters[name].float().cpu()
            fresh = torch.randn(old.shape, generator=generator) * old.std(correction=0) + old.mean()
            parameters[name].copy_(fresh)
