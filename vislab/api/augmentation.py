"""Crops and mosaics for training that spare what a model looks at, as a transform of torchvision."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from ..core.arrays import MAX_PIXELS
from ..core.checks import check_counts, check_shares, real, shown, whole
from ..core.fingerprints import of_image
from ..core.heatmap import Heatmap
from ..core.images import load_image
from ..figures.overlay import overlay
from ..masks.sparing import Attended, crop
from ..models.cache import model_of
from ..models.model import Model
from .explain import explain

_KEPT = 20_000  # maps of images that were seen before, about 2 kB each
_GAP, _PENS = 4, ("white", "black", "red", "cyan")  # px between the pictures of a preview; outlines of crops
_CENTRE = (0.3, 0.7)  # where the four images of a mosaic meet, a share of its side


class Augmentation(v2.Transform):
    """Crops at random that hold what a model looks at: a transform of torchvision v2, which boxes and masks follow.

    size: of what comes out, px. spare: the share, 0..1, of what is looked at that each crop holds; of a heatmap these
    are the patches above Otsu's level, each by its value. scale: the crop's share of the image's area. ratio: its width
    by its height. They are drawn as torchvision's RandomResizedCrop draws them, until one of 64 holds the share; where
    none does, the whole image is taken. model, method and options: what `explain` takes. seed: of a generator of its
    own; None draws from torch's. An image is looked at once; its map is kept.

    It takes what transforms of torchvision v2 take: an image (PIL, or a tensor (3, H, W) uint8 or of 0..1), alone or
    with boxes, masks and labels. Boxes that lie outside a crop become empty: let `v2.SanitizeBoundingBoxes` follow.

        from torchvision.transforms import v2

        augment = vislab.Augmentation(224, spare=0.8, seed=0)
        picture = v2.Compose([v2.ToImage(), augment])(image)  # or of (image, {"boxes": …, "labels": …})
        four = augment.mosaic([picture] * 4)

    Raises ValueError for settings out of range, and for batches: give images one by one.
    """

    def __init__(
        self,
        size: int = 224,
        *,
        spare: float = 0.8,
        scale: tuple[float, float] = (0.1, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        model: str | Path | Model | Any = "embedded",
        method: str = "rollout",
        seed: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_shares(spare=spare)
        if not whole(size) or size < 1:
            raise ValueError(f"size is a whole number of pixels, not {shown(size)}")
        if size**2 > MAX_PIXELS:
            raise ValueError(f"size is up to {math.isqrt(MAX_PIXELS):,} px, as large as pictures may be, not {size:,}")
        if not _range(scale) or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale is two shares of an image's area, such as (0.1, 1.0), not {shown(scale)}")
        if not _range(ratio) or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(
                f"ratio is width by height, the least and the most, such as (0.75, 1.33), not {shown(ratio)}"
            )
        if seed is not None and (not whole(seed) or seed < 0):
            raise ValueError(f"seed is a whole number from 0, or None, not {shown(seed)}")
        self.size, self.spare = int(size), float(spare)
        self.scale, self.ratio = (scale[0], scale[1]), (ratio[0], ratio[1])
        self.model, self.method, self.options = model, method, options
        self._draws = None if seed is None else torch.Generator().manual_seed(int(seed))
        self._maps: OrderedDict[str, Heatmap] = OrderedDict()

    def heatmap(self, image: Any) -> Heatmap:
        """Where the model looks in an image, what `load_image` takes or a tensor (3, H, W); looked at once."""
        picture = _pixels(image)
        key = of_image(picture)
        if key not in self._maps:
            self._maps[key] = explain(picture, model=model_of(self.model), method=self.method, **self.options)
            if len(self._maps) > _KEPT:
                self._maps.popitem(last=False)
        return self._maps[key]

    def crop(self, image: Any, *, ratio: tuple[float, float] | None = None) -> tuple[int, int, int, int]:
        """A crop of an image at random -> (x0, y0, x1, y1), whole source pixels. ratio: in place of the own one."""
        shape = self.ratio if ratio is None else ratio
        attended = Attended.of(self.heatmap(image))
        return crop(attended, self._uniform, spare=self.spare, scale=self.scale, ratio=shape)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The crop of the image among what a sample holds; torchvision calls this."""
        images = [one for one in flat_inputs if _is_image(one)]
        if not images:
            raise ValueError(
                "there is no image in this sample: give a PIL image or a tensor (3, H, W), and what follows it"
            )
        return {"box": self.crop(images[0])}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """What a sample holds, cut and resized as its image is; torchvision calls this."""
        return _cut(inpt, params["box"], (self.size, self.size))

    def mosaic(self, samples: Sequence[Any]) -> Any:
        """One image put together of four, each a crop that spares what is looked at in it.

        samples: four images, or four (image, target), of which a target holds "boxes", tv_tensors.BoundingBoxes, and
        "labels", (n,), or one of them. -> what a sample is: a tv_tensors.Image (3, size, size) uint8, with a target
        where there was one, whose boxes are those that are still at least a pixel wide and high.
        """
        if not isinstance(samples, Sequence) or len(samples) != 4:
            raise ValueError(f"a mosaic is made of four samples, not of {shown(samples)}")
        pairs = [one if isinstance(one, tuple) else (one, None) for one in samples]
        if len({target is None for _, target in pairs}) > 1:
            raise ValueError(
                "some of these four samples have a target and some have none: give all of them one, or none"
            )
        low, high = _CENTRE
        across, down = (round(self.size * (low + u * (high - low))) for u in self._uniform((2,)))
        canvas = torch.zeros(3, self.size, self.size, dtype=torch.uint8)
        boxes, labels = [], []
        for number, (image, target) in enumerate(pairs):
            x0, x1 = ((0, across), (across, self.size))[number % 2]
            y0, y1 = ((0, down), (down, self.size))[number // 2]
            if x1 == x0 or y1 == y0:
                continue
            picture = _tensor(image)
            box = self.crop(image, ratio=((x1 - x0) / (y1 - y0),) * 2)
            canvas[:, y0:y1, x0:x1] = _cut(picture, box, (y1 - y0, x1 - x0))
            if target is not None:
                own, names = _placed(target, box, (y1 - y0, x1 - x0))
                boxes.append(own + torch.tensor([x0, y0, x0, y0]))
                labels.append(names)
        picture = tv_tensors.Image(canvas)
        if pairs[0][1] is None:
            return picture
        together: dict[str, Any] = {}
        if "boxes" in pairs[0][1]:
            size = (self.size, self.size)
            together["boxes"] = tv_tensors.BoundingBoxes(torch.cat(boxes), format="XYXY", canvas_size=size)
        if "labels" in pairs[0][1]:
            together["labels"] = torch.cat(labels)
        return picture, together

    def preview(self, images: Sequence[Any], *, crops: int = 3) -> np.ndarray:
        """A row an image: its heatmap with some crops outlined, then these -> (H, W, 3) uint8."""
        check_counts(crops=crops)
        if not len(images):
            raise ValueError("there are no images to show: give one or more, as load_image takes them")
        rows = [self._row(one, crops) for one in images]
        together = np.full((len(rows) * (self.size + _GAP) - _GAP, max(row.shape[1] for row in rows), 3), 255, np.uint8)
        for number, row in enumerate(rows):
            top = number * (self.size + _GAP)
            together[top : top + self.size, : row.shape[1]] = row
        return together

    def _row(self, image: Any, crops: int) -> np.ndarray:
        picture = _tensor(image)
        boxes = [self.crop(image) for _ in range(crops)]
        seen = Image.fromarray(overlay(self.heatmap(image)))
        pen = ImageDraw.Draw(seen)
        for (x0, y0, x1, y1), colour in zip(boxes, cycle(_PENS), strict=False):
            pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=colour, width=max(2, round(max(seen.size) / 150)))
        row = np.full((self.size, self.size * 3 // 2 + crops * (self.size + _GAP), 3), 255, np.uint8)
        seen.thumbnail((self.size * 3 // 2, self.size))
        row[: seen.height, : seen.width] = np.asarray(seen)
        for number, box in enumerate(boxes):
            left = self.size * 3 // 2 + _GAP + number * (self.size + _GAP)
            row[:, left : left + self.size] = _cut(picture, box, (self.size, self.size)).permute(1, 2, 0).numpy()
        return row

    def _uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        return torch.rand(shape, generator=self._draws, dtype=torch.float64).numpy()

    def extra_repr(self) -> str:
        """What it is set to, as torchvision shows it."""
        return f"size={self.size}, spare={self.spare}, scale={self.scale}, ratio={self.ratio}, method={self.method!r}"


def _range(pair: Any) -> bool:
    return isinstance(pair, Sequence) and len(pair) == 2 and all(real(end) for end in pair)


def _is_image(one: Any) -> bool:
    plain = isinstance(one, torch.Tensor) and (
        not isinstance(one, tv_tensors.TVTensor) or isinstance(one, tv_tensors.Image)
    )
    return (plain and one.ndim >= 3) or type(one).__module__.startswith("PIL.")


def _pixels(image: Any) -> np.ndarray:
    """What `load_image` takes, or a tensor (3, H, W) -> (H, W, 3) uint8."""
    if not isinstance(image, torch.Tensor):
        return load_image(image)
    if image.ndim != 3:
        raise ValueError(f"images are augmented one by one, as tensors (3, H, W), not {tuple(image.shape)}")
    return load_image(image.permute(1, 2, 0).cpu().numpy())


def _tensor(image: Any) -> torch.Tensor:
    return torch.from_numpy(_pixels(image).copy()).permute(2, 0, 1)


def _cut(one: Any, box: tuple[int, int, int, int], size: tuple[int, int]) -> Any:
    x0, y0, x1, y1 = box
    return F.resized_crop(one, y0, x0, y1 - y0, x1 - x0, list(size), antialias=True)


def _placed(
    target: Mapping[str, Any], box: tuple[int, int, int, int], size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The boxes, (n, 4), and labels, (n,), of a target that are left in a crop."""
    if not {"boxes", "labels"} & {*target}:
        raise ValueError(f"a target holds 'boxes', 'labels' or both, not {shown([*target])}")
    labels = torch.as_tensor(target.get("labels", torch.zeros(0))).reshape(-1)
    if "boxes" not in target:
        return torch.zeros(0, 4), labels
    own = target["boxes"]
    if not isinstance(own, tv_tensors.BoundingBoxes):
        raise ValueError(f"boxes are torchvision's tv_tensors.BoundingBoxes, not {type(own).__name__}")
    own = F.convert_bounding_box_format(own, new_format=tv_tensors.BoundingBoxFormat.XYXY)
    corners = _cut(own, box, size).as_subclass(torch.Tensor).float()
    there = (corners[:, 2] - corners[:, 0] >= 1) & (corners[:, 3] - corners[:, 1] >= 1)
    return corners[there], labels[there] if "labels" in target else labels
