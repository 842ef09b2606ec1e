"""Where an image processor puts the pixels of an image, found by running it on ramps of the same size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from ..core.geometry import Frame

Prepare = Callable[[np.ndarray], Tensor]
_LEAST, _BENT = 8, 0.02  # px of an image's side; by how much a ramp may be bent, a share of its height


def seen_frame(prepare: Prepare, source: tuple[int, int], name: str) -> Frame:
    """The transform from an image of `source` (height, width) to what `prepare` makes of it, (1, 3, h, w).

    Black and white pictures show what is padding, and two ramps where each pixel comes from: within a pixel of the
    model's input, exactly where the whole image is resized. Raises ValueError for images cut in tiles, turned or bent.
    """
    if min(source) < _LEAST:
        raise ValueError(
            f"an image of {source[1]}×{source[0]} px is too small to tell where {name} sees its pixels: "
            f"take one of at least {_LEAST}×{_LEAST} px"
        )
    dark, light, ramp = (prepare(picture).float() for picture in _pictures(source))
    if not dark.shape == light.shape == ramp.shape or len(ramp) != 1 or ramp.shape[1] != 3:
        raise ValueError(
            f"{name} is shown {tuple(ramp.shape)} for one picture, such as tiles, which vislab does not follow"
        )
    span = (light - dark)[0, :2]
    real = (span.abs() > 1e-6).all(0).numpy()
    share = ((ramp - dark)[0, :2] / span.where(span.abs() > 1e-6, span.new_ones(()))).double().numpy()
    placed = []
    for axis, values in ((0, share[1]), (1, share[0])):  # rows tell y, which is green
        there = np.flatnonzero(real.any(1 - axis))
        if len(there) < 2 or not real[np.ix_(*(np.flatnonzero(real.any(1 - a)) for a in (0, 1)))].all():
            raise ValueError(f"{name} leaves too little of this image to tell where its pixels go")
        placed.append(_placed(np.ma.masked_array(values, ~real), there, axis, source[axis], name))
    (down, top), (along, left) = placed
    return Frame(source, (int(ramp.shape[2]), int(ramp.shape[3])), (down, along), (top, left))


def whole(frame: Frame) -> bool:
    """Whether all of the image fills all of the model's input."""
    filled = all(abs(s * k - m) < 1e-6 for s, k, m in zip(frame.source, frame.scale, frame.model, strict=True))
    return filled and frame.offset == (0.0, 0.0)


def _pictures(source: tuple[int, int]) -> list[np.ndarray]:
    """Black, white, and one whose red and blue grow with x, and green with y."""
    down, along = ((np.arange(side) + 0.5) / side * 255 for side in source)
    ramp = np.empty((*source, 3), np.uint8)
    ramp[..., 0] = ramp[..., 2] = np.round(along)
    ramp[..., 1] = np.round(down)[:, None]
    return [np.zeros_like(ramp), np.full_like(ramp, 255), ramp]


def _placed(values: np.ma.MaskedArray, there: np.ndarray, axis: int, side: int, name: str) -> tuple[float, float]:
    """(scale, offset) along an axis. there: the model's rows or columns that are no padding, of an image's side, px."""
    line = np.ma.median(values, axis=1 - axis).filled(0)[there]
    spread = np.ma.max(np.ma.max(values, axis=1 - axis) - np.ma.min(values, axis=1 - axis))
    inner = slice(len(there) // 10, len(there) - len(there) // 10)
    slope, start = np.polyfit(there[inner] + 0.5, line[inner], 1)
    bent = np.abs(slope * (there[inner] + 0.5) + start - line[inner]).max()
    if not slope > 0 or bent > _BENT or spread > _BENT or len(there) != there[-1] - there[0] + 1:
        raise ValueError(
            f"{name} is shown pictures in a way that vislab does not follow, such as in tiles or turned, so masks "
            "would not lie where they belong: take a processor that resizes, crops or pads"
        )
    first, end = float(there[0]), float(there[-1] + 1)
    ends = (slope * first + start, 1 - slope * end - start)
    if max(map(abs, ends)) < slope + 0.005:
        return (end - first) / side, first
    resized = max(1, round(1 / slope))
    return resized / side, float(round(-start / slope))
