"""How pixels reach a model: Preprocessing, and what a module itself says of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..core.checks import shown, whole
from ..core.decode import MAX_PIXELS
from ..core.geometry import Frame

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How pixels reach the model: resized, perhaps centre-cropped or padded, normalised.

    size: (height, width) of the input. mode: "stretch" resizes the whole image to `edge` times the input, "crop"
    resizes it to cover that, its aspect kept; then the centre is cut out. "pad" resizes it to fit in, its aspect kept,
    at the top left, "centre" in the middle; around it is `fill`, normalised. mean, std, fill: of the channels in the
    order in which the model gets them, mean and std of values from 0 to 1. to_even: see `Frame.crop`. bgr: whether blue
    comes first.
    """

    size: tuple[int, int]
    mode: Literal["stretch", "crop", "pad", "centre"] = "stretch"
    edge: float = 1.0
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resample: Literal["nearest", "bilinear", "bicubic"] = "bicubic"
    to_even: bool = False
    bgr: bool = False
    fill: tuple[float, ...] = (0.0, 0.0, 0.0)

    def frame(self, source: tuple[int, int], size: tuple[int, int] | None = None) -> Frame:
        """The transform that an image of `source` (height, width) undergoes.

        Raises ValueError for an image so long, or an input so large, that it takes more pixels than any image may have.
        """
        size = size or self.size
        if self.mode in ("pad", "centre"):
            ratio = min(size[0] / source[0], size[1] / source[1])
            resized = [max(1, int(side * ratio + 0.5)) for side in source]
            scale = (resized[0] / source[0], resized[1] / source[1])
            spare = [(m - r) // 2 if self.mode == "centre" else 0 for m, r in zip(size, resized, strict=True)]
            return Frame(source, size, scale, (float(spare[0]), float(spare[1])))
        height, width = (round(side * self.edge) for side in size)
        if self.mode == "crop":
            ratio = max(height / source[0], width / source[1])
            height, width = (max(t, int(s * ratio + 1e-6)) for t, s in zip((height, width), source, strict=True))
        if height * width > MAX_PIXELS and self.mode == "stretch":
            raise ValueError(f"{width}×{height} px are more than any image may have: take a smaller image_size")
        if height * width > MAX_PIXELS:
            raise ValueError(
                f"an image of {source[1]}×{source[0]} px is too long for a model that sees the centre of it resized to "
                f"{width}×{height} px: crop it first"
            )
        return Frame.crop(source, (height, width), size, to_even=self.to_even)

    def __call__(self, image: np.ndarray, size: tuple[int, int] | None = None) -> tuple[Tensor, Frame]:
        """(H, W, 3) uint8 -> ((1, 3, h, w) float32, Frame)."""
        import torch
        import torch.nn.functional as F

        frame = self.frame((image.shape[0], image.shape[1]), size)
        resized_to = [round(s * scale) for s, scale in zip(frame.source, frame.scale, strict=True)]
        antialias = self.resample != "nearest"
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        pixels = F.interpolate(pixels, size=resized_to, mode=self.resample, antialias=antialias)
        top, left = (int(-o) for o in frame.offset)
        pixels = pixels[:, :, max(0, top) : top + frame.model[0], max(0, left) : left + frame.model[1]].float() / 255
        pixels = pixels.flip(1) if self.bgr else pixels
        mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (self.mean, self.std))
        pixels = (pixels - mean) / std
        if pixels.shape[2:] == frame.model:
            return pixels, frame
        whole = torch.tensor(self.fill)[:, None, None].repeat(1, 1, *frame.model)
        whole[:, :, -top : -top + pixels.shape[2], -left : -left + pixels.shape[3]] = pixels
        return whole, frame


def of_module(module: nn.Module, size: tuple[int, int]) -> Preprocessing:
    """timm's and open_clip's own; for other bare modules, which do not say, the whole image with ImageNet's mean and
    deviation.

    size: (height, width) px of the module's input.
    """
    said = (getattr(part, "pretrained_cfg", None) for part in module.modules())
    recipe: Mapping[str, Any] = next((recipe for recipe in said if isinstance(recipe, Mapping)), {})
    said = (getattr(part, "preprocess_cfg", None) for part in module.modules())
    if (clip := next((recipe for recipe in said if isinstance(recipe, Mapping)), None)) is not None:
        return _of_open_clip(clip, size)
    mean, std = tuple(recipe.get("mean", IMAGENET_MEAN)), tuple(recipe.get("std", IMAGENET_STD))
    if "crop_pct" not in recipe:
        return Preprocessing(size, "stretch", 1.0, mean, std, "bilinear")
    modes: dict[str, Literal["stretch", "crop"]] = {"center": "crop", "squash": "stretch"}
    mode = recipe.get("crop_mode") or "center"
    if mode not in modes:
        raise ValueError(f"{type(module).__name__} wants its images padded (crop_mode {mode!r}), which vislab does not")
    edge = math.floor(size[0] / recipe["crop_pct"]) / size[0]
    resample: Literal["bilinear", "bicubic"] = "bilinear" if recipe.get("interpolation") == "bilinear" else "bicubic"
    return Preprocessing(size, modes[mode], edge, mean, std, resample, to_even=True)


def _of_open_clip(recipe: Mapping[str, Any], size: tuple[int, int]) -> Preprocessing:
    """size: (height, width) px of the input."""
    modes: dict[str, Literal["stretch", "crop"]] = {"shortest": "crop", "squash": "stretch"}
    mode = recipe.get("resize_mode") or "shortest"
    if mode not in modes:
        raise ValueError(f"its images are padded (resize_mode {mode!r}), which vislab does not")
    resample: Literal["bilinear", "bicubic"] = "bilinear" if recipe.get("interpolation") == "bilinear" else "bicubic"
    return Preprocessing(size, modes[mode], 1.0, tuple(recipe["mean"]), tuple(recipe["std"]), resample, to_even=True)


def own_size(module: nn.Module) -> tuple[int, int]:
    """The input size that a module was made for."""
    said = input_sizes(module)
    if not said:
        raise ValueError(f"cannot tell the input size of {type(module).__name__}: load it by name or from its folder")
    return said[0]


_SIZES = ("image_size", "img_size", "input_size")


def input_sizes(module: nn.Module) -> list[tuple[int, int]]:
    """The sizes that a module, its configuration and its parts say of images, (height, width) px, outermost first."""
    owners: list[Any] = []
    for part in module.modules():
        said = vars(part)  # of the outermost also what it hands on
        config = getattr(part, "config", None) if part is module else said.get("config")
        inner = [getattr(config, name, None) for name in ("vision_config", "backbone_config", "encoder")]
        owners += [config, part if part is module else said, *inner, said.get("pretrained_cfg")]
    found: dict[tuple[int, int], None] = {}
    for owner in owners:
        for name in _SIZES:
            value = owner.get(name) if isinstance(owner, Mapping) else getattr(owner, name, None)
            if isinstance(value, Mapping):
                value = (value.get("height"), value.get("width"))
            sides = (value, value) if isinstance(value, int) else value
            if isinstance(sides, tuple | list) and len(sides) >= 2 and all(whole(s) and s > 1 for s in sides[-2:]):
                found[(int(sides[-2]), int(sides[-1]))] = None
        patch, count = (getattr(owner, name, None) for name in ("patch_size", "num_patches"))
        if not found and whole(patch) and whole(count) and math.isqrt(count) ** 2 == count:
            found[(patch * math.isqrt(count),) * 2] = None
    return list(found)


ImageSize = int | tuple[int, int]


def sides(image_size: ImageSize) -> tuple[int, int]:
    """(height, width) px of an input. Raises ValueError for what is no size, or larger than pictures are."""
    size = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
    if len(size) != 2 or not all(whole(s) and s > 0 for s in size):
        raise ValueError(f"image_size is a number of pixels or (height, width), not {shown(image_size)}")
    if math.prod(map(int, size)) > MAX_PIXELS:
        side = math.isqrt(MAX_PIXELS)
        raise ValueError(
            f"image_size {shown(image_size)} is larger than any picture: the limit is {MAX_PIXELS // 10**6} million "
            f"pixels, such as {side}×{side}"
        )
    return int(size[0]), int(size[1])
