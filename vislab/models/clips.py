"""Models of clips as models of one image: the sheet on which a clip's frames lie, patch beside patch.

A model of clips makes each token of one patch in one frame, or in a few frames that follow each other (a tubelet). On
the sheet the pixels of a token lie together, and tokens stand in the order in which the model has them, row by row. So
all that is done with an image and its grid is done with a clip and the sheet, the experiment of `places` included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.checks import shown
from ..core.images import load_image
from .calling import core
from .embedding import DoesNotRun, Lost, entrance
from .feasible import squares
from .modes import evaluating
from .preprocessing import input_sizes

_FRAMES = ("num_frames", "frames_per_clip")  # in configurations
_COUNTS, _SIZES = (16, 8), ((224, 224), (256, 256), (112, 112))  # of modules that do not say theirs


class OfClip(nn.Module):
    """A model of clips as one that takes a sheet.

    frames: how many a clip has. size: (height, width) px of a frame. patch: px, the side of its patches. tubelet: how
    many frames a token sees. by_frame: whether tokens go frame by frame, each a raster of patches; else patch by patch,
    each in all its frames. channels_first: whether the model wants (batch, channels, frames, height, width), else
    (batch, frames, channels, height, width).
    """

    def __init__(
        self,
        model: nn.Module,
        frames: int,
        size: tuple[int, int],
        patch: int,
        tubelet: int,
        *,
        by_frame: bool,
        channels_first: bool,
    ) -> None:
        super().__init__()
        self.model, self.frames, self.size, self.side, self.tubelet = model, frames, size, patch, tubelet
        self.by_frame, self.channels_first = by_frame, channels_first
        rows, cols = size[0] // patch, size[1] // patch
        self.grid, steps = (rows, cols), frames // tubelet
        high, wide = (steps * rows, cols) if by_frame else (rows, cols * steps)
        self.patch_size = (patch, tubelet * patch)
        self.input_size = (high * patch, wide * tubelet * patch)
        self.train(model.training)

    @property
    def config(self) -> Any:
        return getattr(core(self.model), "config", None)

    def forward(self, sheet: Tensor) -> Any:
        """sheet: (batch, channels, height, width)."""
        clip = self.clip(sheet)
        return self.model(clip.transpose(1, 2) if self.channels_first else clip)

    def clip(self, sheet: Tensor) -> Tensor:
        """The frames on a sheet, (batch, frames, channels, height, width)."""
        (rows, cols), side, steps = self.grid, self.side, self.frames // self.tubelet
        if self.by_frame:
            parts = sheet.unflatten(3, (cols, self.tubelet, side)).unflatten(2, (steps, rows * side))
            ordered = parts.permute(0, 2, 5, 1, 3, 4, 6)
        else:
            ordered = sheet.unflatten(3, (cols, steps, self.tubelet, side)).permute(0, 4, 5, 1, 2, 3, 6)
        return ordered.flatten(5, 6).flatten(1, 2)

    def sheet(self, clip: Tensor) -> Tensor:
        """The sheet of frames, (batch, frames, channels, height, width); the inverse of `clip`."""
        cols, side = self.grid[1], self.side
        parts = clip.unflatten(1, (-1, self.tubelet)).unflatten(5, (cols, side))  # (batch, steps, tubelet, channels, …)
        if self.by_frame:
            return parts.permute(0, 3, 1, 4, 5, 2, 6).flatten(4, 6).flatten(2, 3)
        return parts.permute(0, 3, 4, 5, 1, 2, 6).flatten(3, 6)

    def by_frames(self, values: np.ndarray) -> list[np.ndarray]:
        """Values of a sheet's patches -> those of each frame's, (rows, cols); the frames of a tubelet share theirs."""
        rows, steps = self.grid[0], self.frames // self.tubelet
        cut = [values[k * rows : (k + 1) * rows] if self.by_frame else values[:, k::steps] for k in range(steps)]
        return [one for one in cut for _ in range(self.tubelet)]


def sheets(module: nn.Module) -> Iterator[OfClip]:
    """The ways in which a module that does not run on an image may see a clip, the likeliest first.

    The last cuts the frames into squares that no token has, for a model whose tokens are found in no other.
    """
    config = getattr(core(module), "config", None)
    said = next((n for name in _FRAMES if isinstance(n := getattr(config, name, None), int)), None)
    sizes = input_sizes(module) or [(n, n) for n in [getattr(config, "crop_size", None)] if isinstance(n, int)]
    stem = next((p for p in module.modules() if isinstance(p, nn.Conv2d | nn.Conv3d) and p.in_channels == 3), None)
    stride = (1, *stem.stride)[-3:] if stem is not None else (1, 16, 16)
    for count, size in [(c, s) for c in ([said] if said else _COUNTS) for s in (sizes[:1] or _SIZES)]:
        for channels_first in (False, True):
            if not _runs(module, count, size, channels_first):
                continue
            tubelet, patch = int(stride[0]), int(stride[1])
            if stride[1] == stride[2] and not (count % tubelet or size[0] % patch or size[1] % patch):
                for by_frame in (True, False):
                    yield OfClip(module, count, size, patch, tubelet, by_frame=by_frame, channels_first=channels_first)
            side = squares(size)
            cut = (size[0] // side * side, size[1] // side * side)
            if cut == size:
                yield OfClip(module, count, size, side, 1, by_frame=True, channels_first=channels_first)
            return


def _runs(module: nn.Module, frames: int, size: tuple[int, int], channels_first: bool) -> bool:
    weight = next(module.parameters())
    shape = (1, 3, frames, *size) if channels_first else (1, frames, 3, *size)
    try:
        with torch.no_grad(), evaluating(module):
            entrance(module, torch.zeros(shape, device=weight.device, dtype=weight.dtype), {})
    except DoesNotRun:
        return False
    except Lost:
        return True
    return True


def clip_of(frames: Any, count: int, name: str) -> list[np.ndarray]:
    """The pictures of a clip for a model that takes so many, each (H, W, 3) uint8. Raises ValueError for another clip.

    frames: a sequence of what `load_image` takes. name: of the model.
    """
    take = f"[*vislab.frames('clip.mp4', every=4)][:{count}]"
    if isinstance(frames, str | bytes) or not isinstance(frames, Sequence | np.ndarray):
        raise ValueError(f"{name} takes a clip, a list of {count} pictures such as {take}, not {shown(frames)}")
    if len(frames) != count:
        raise ValueError(f"{name} takes clips of {count} frames, not of {len(frames)}: give a list such as {take}")
    pictures = [load_image(frame) for frame in frames]
    sizes = {picture.shape[:2] for picture in pictures}
    if len(sizes) > 1:
        one, other = sorted(sizes)[:2]
        raise ValueError(f"the frames of a clip have one size, and these have {one[::-1]} and {other[::-1]} px")
    return pictures
