"""How pixels reach a model: Preprocessing, and reading it from what the libraries say of theirs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..core.checks import shown, whole
from ..core.decode import MAX_PIXELS
from ..core.geometry import Frame

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RESAMPLE: dict[int, Literal["nearest", "bilinear", "bicubic"]] = {0: "nearest", 2: "bilinear"}


@dataclass(frozen=True)
class Preprocessing:
    """How pixels reach the model: resized, perhaps centre-cropped, normalised.

    size: (height, width) of the input. mode: "stretch" resizes the whole image to `edge` times the input, "crop"
    resizes it to cover that, its aspect kept; then the centre is cut out. to_even: see `Frame.crop`.
    """

    size: tuple[int, int]
    mode: Literal["stretch", "crop"] = "stretch"
    edge: float = 1.0
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resample: Literal["nearest", "bilinear", "bicubic"] = "bicubic"
    to_even: bool = False

    def frame(self, source: tuple[int, int], size: tuple[int, int] | None = None) -> Frame:
        """The transform that an image of `source` (height, width) undergoes.

        Raises ValueError for an image so long, or an input so large, that it takes more pixels than any image may have.
        """
        size = size or self.size
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
        pixels = pixels[:, :, top : top + frame.model[0], left : left + frame.model[1]].float() / 255
        mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (self.mean, self.std))
        return (pixels - mean) / std, frame


def of_processor(processor: Any, own: Callable[[], tuple[int, int]]) -> Preprocessing:
    """transformers' image processor as a Preprocessing. own: tells the (height, width) px that its model was made for.

    One that keeps the aspect without a crop (YOLOS) makes inputs of any shape: here the image is stretched to the
    model's own size.
    """
    size: dict[str, Any] = dict(processor.size)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if processor.do_normalize:
        mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    resample = _RESAMPLE.get(int(processor.resample), "bicubic")
    resized_to = (int(size["height"]), int(size["width"])) if "height" in size else None
    if not getattr(processor, "do_center_crop", False):
        return Preprocessing(resized_to or own(), "stretch", 1.0, mean, std, resample)
    crop = (int(processor.crop_size["height"]), int(processor.crop_size["width"]))
    resized_to = resized_to or (int(size["shortest_edge"]),) * 2
    if crop[0] * resized_to[1] != crop[1] * resized_to[0] or crop > resized_to:
        raise ValueError(
            f"its preprocessing cuts {crop} out of {resized_to}, and vislab cuts out only the same shape, no larger."
        )
    mode: Literal["stretch", "crop"] = "stretch" if "height" in size else "crop"
    return Preprocessing(crop, mode, resized_to[0] / crop[0], mean, std, resample)


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
