"""transformers' image processor as a Preprocessing: what it says of itself, proven by running it on a few pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

_RESAMPLE: dict[int, Literal["nearest", "bilinear", "bicubic"]] = {0: "nearest", 2: "bilinear"}
_SAME, _NEAR = 0.35, 2.0  # levels of 255, on average, by which pixels are others: by rounding, or by a pixel's place
_LEVIT = 256 / 224  # by which LeViT's processor resizes more than it says


def of_processor(processor: Any, own: Callable[[], tuple[int, int]]) -> Preprocessing:
    """The Preprocessing that makes of a picture what an image processor makes of it.

    own: tells the (height, width) px that its model was made for. One that keeps the aspect without a crop (YOLOS)
    makes inputs of any shape: here the image is stretched to the model's own size. What only tells of itself, and is
    not to be called, is believed. Raises ValueError for a processor that does something else to pictures.
    """
    said = _said(processor, own)
    return _proven(processor, said) if callable(processor) else said


def _said(processor: Any, own: Callable[[], tuple[int, int]]) -> Preprocessing:
    size: dict[str, Any] = dict(processor.size or {})
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    if processor.do_normalize:
        mean, std = _three(processor.image_mean, 0.0), _three(processor.image_std, 1.0)
    kind = getattr(processor, "resample", None)
    resample = "bicubic" if kind is None else _RESAMPLE.get(int(kind), "bicubic")
    resized_to = (int(size["height"]), int(size["width"])) if size.get("height") else None
    crop_size = dict(getattr(processor, "crop_size", None) or {})
    if not getattr(processor, "do_center_crop", False) or not crop_size.get("height"):
        return Preprocessing(resized_to or own(), "stretch", 1.0, mean, std, resample)
    crop = (int(crop_size["height"]), int(crop_size["width"]))
    resized_to = resized_to or (int(size.get("shortest_edge") or crop[0]),) * 2
    if crop[0] * resized_to[1] != crop[1] * resized_to[0] or crop > resized_to:
        raise ValueError(
            f"its preprocessing cuts {crop} out of {resized_to}, and vislab cuts out only the same shape, no larger."
        )
    mode: Literal["stretch", "crop"] = "crop" if size.get("shortest_edge") else "stretch"
    return Preprocessing(crop, mode, resized_to[0] / crop[0], mean, std, resample)


def _three(value: Any, usual: float) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value or usual),) * 3


def _proven(processor: Any, said: Preprocessing) -> Preprocessing:
    """What is said, with the colours, the size and the cut that the processor's own pictures show.

    Raises ValueError where none of the ways that vislab knows makes them.
    """
    import torch

    colours = [_prepared(processor, np.full((48, 48, 3), c, np.uint8)) for c in ((0,) * 3, (255,) * 3, (255, 0, 0))]
    picture = _picture()
    theirs = _prepared(processor, picture)
    if theirs is None or colours[0] is None:
        return said  # patches in lines or tiles, which vislab cuts itself
    how = _coloured(processor, said, *(x[:, x.shape[1] // 2, x.shape[2] // 2] for x in colours if x is not None))
    if theirs.shape != colours[0].shape:
        return how  # it keeps the aspect
    size = (int(theirs.shape[1]), int(theirs.shape[2]))
    best, least = how, _NEAR
    for one in _cuts(processor, replace(how, size=size), theirs):
        apart = float(((one(picture)[0][0] - theirs) * torch.tensor(how.std)[:, None, None]).abs().mean()) * 255
        if apart < _SAME:
            return one
        best, least = (one, apart) if apart < least else (best, least)
    if least < _NEAR:
        return best
    raise ValueError(
        f"{type(processor).__name__} prepares pictures in a way that vislab does not follow, such as in tiles, so "
        "places would not be true: load the module itself, vislab.load(module, processor=…), with one that resizes, "
        f"cuts out the centre and normalises, such as transformers.ViTImageProcessor(size={{'height': {size[0]}, "
        f"'width': {size[1]}}})"
    )


def _picture() -> np.ndarray:
    """A picture whose every part is another: smooth, and not square."""
    coarse = np.random.default_rng(0).random((6, 8, 3))
    rows, cols = (np.linspace(0, n - 1.001, side) for n, side in ((6, 150), (8, 200)))
    at = [(np.floor(x).astype(int), x - np.floor(x)) for x in (rows, cols)]
    (top, down), (left, right) = at
    upper = coarse[top][:, left] * (1 - right)[:, None] + coarse[top][:, left + 1] * right[:, None]
    lower = coarse[top + 1][:, left] * (1 - right)[:, None] + coarse[top + 1][:, left + 1] * right[:, None]
    down = down[:, None, None]
    return np.asarray((upper * (1 - down) + lower * down) * 255, np.uint8)


def _prepared(processor: Any, picture: np.ndarray) -> Tensor | None:
    """What the processor makes of one picture, (3, height, width); None where that is no image."""
    import torch

    try:
        made = processor(picture, return_tensors="pt")
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(
            f"{type(processor).__name__} does not prepare one picture alone ({' '.join(str(error).split())[:120]}): "
            "load the module itself, vislab.load(module, processor=…), with one that does, such as "
            "transformers.ViTImageProcessor()"
        ) from error
    made = made if isinstance(made, torch.Tensor) else made.get("pixel_values", next(iter(made.values()), None))
    if not isinstance(made, torch.Tensor) or made.ndim < 4 or made.shape[-3] != 3:
        return None
    made = made.flatten(0, -4)
    return made[0].float() if len(made) == 1 else None


def _coloured(processor: Any, said: Preprocessing, black: Tensor, white: Tensor, red: Tensor) -> Preprocessing:
    """The Preprocessing with the processor's colours, by what it makes of three of them."""
    import torch

    span = white - black
    shares = (red - black) / span
    bgr = bool((shares - torch.tensor([0.0, 0.0, 1.0])).abs().max() < 0.02)
    if not bgr and not bool((shares - torch.tensor([1.0, 0.0, 0.0])).abs().max() < 0.02):
        raise ValueError(
            f"{type(processor).__name__} mixes colours, and vislab shows models pictures as they are: load the module "
            "itself, vislab.load(module, processor=…), with one that does not, such as transformers.ViTImageProcessor()"
        )
    mean, std = (-black / span), 1 / span
    if torch.allclose(mean, torch.tensor(said.mean), atol=1e-3) and torch.allclose(std, torch.tensor(said.std), 1e-3):
        return replace(said, bgr=bgr)
    return replace(said, mean=tuple(mean.tolist()), std=tuple(std.tolist()), bgr=bgr)


def _cuts(processor: Any, how: Preprocessing, theirs: Tensor) -> Iterator[Preprocessing]:
    """The ways to resize a picture and cut it out, or pad it, that may be a processor's, the likeliest first."""
    yield how
    share, height = getattr(processor, "crop_pct", None), how.size[0]
    shares = (1 / share, int(height / share) / height) if share else ()
    for edge in (how.edge, *shares, _LEVIT, 1.0):
        yield replace(how, mode="crop", edge=edge)
        yield replace(how, mode="stretch", edge=edge)
    for mode in ("pad", "centre"):
        yield replace(how, mode=mode, edge=1.0, fill=tuple(theirs[:, -1, -1].tolist()))
