"""A Placed: a module with the Outline of it, the inputs that it takes, and where its tokens lie in them."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..core.geometry import Frame, Grid
from ..engine.site import AttentionRefused
from .calling import arguments
from .classes import remember, watched
from .device import OnDevice, free_memory
from .embedding import Lost, reason, shape_of
from .feasible import runs
from .outline import RESIZABLE, Outline
from .places import Places, places
from .preprocessing import ImageSize, sides


class Stuck(ValueError):
    """A forward that did not run through; its cause is what the model's own code raised."""


@dataclass(frozen=True, eq=False)
class Placed(OnDevice, Outline):
    """A module that takes images alone, and where its tokens lie in them.

    module: what runs; the rest says what is known of it. found: where the experiment found its tokens; None of what
    comes from files that say all. beside: the path of a part that attends in several places side by side, "" where all
    come one after the other. blind: why none of its attention is one map over the image, where it has no layers. lock:
    held while the module is at work.
    """

    module: nn.Module
    found: Places | None = None
    beside: str = ""
    blind: str = ""
    lock: Any = field(default_factory=threading.RLock, repr=False)

    @property
    def unseen(self) -> str:
        return self.blind

    def forward(self, pixels: Tensor, arguments: Mapping[str, Any]) -> Any:
        """What the module makes of pixels, (n, 3, height, width). Raises ValueError in words where it cannot."""
        try:
            with watched(self.module) as watch:
                output = self.module(pixels, **arguments)
            if watch is not None:
                remember(self.module, watch.judged(self.module, output))
            return output
        except (MemoryError, torch.OutOfMemoryError, AttentionRefused):
            raise
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, OSError) as error:
            own = tuple(pixels.shape[2:]) == self.own_size
            part = "load the part that sees the image alone" if own else "leave image_size out"
            raise Stuck(
                f"{self.name} does not run through on an input of {shape_of(pixels)} alone: {reason(error)}; {part}"
            ) from error

    def _arguments(self, size: tuple[int, int], grid: Grid) -> dict[str, Any]:
        own = size == self.own_size and (grid.patch == self.patch or not self.attends)
        return arguments(self.module, grid.patches, interpolated=not own)

    def input_size(self, image_size: ImageSize | None = None) -> tuple[int, int]:
        size = self.preprocessing.size if image_size is None else sides(image_size)
        if not self.attends:
            return self._tried(size)
        if size in (self.preprocessing.size, self.own_size) or self._by_rule(size):
            return size
        if self.family in RESIZABLE:  # made for a grid that is not square, which it would not interpolate from
            return super().input_size(image_size)
        try:
            self._places(size)
        except Lost as lost:
            height, width = (max(p, side // p * p) for side, p in zip(size, self.patch, strict=True))
            if (height, width) != size and self._takes((height, width)):
                self._filled(size, self.patch)
            try:
                return super().input_size(image_size)  # which says that it takes its own alone
            except ValueError as refusal:
                raise ValueError(f"{refusal} (it was tried: {lost})") from lost
        return size

    def _tried(self, size: tuple[int, int]) -> tuple[int, int]:
        """A size that the module runs on, once it was tried. Raises ValueError with what the module says of it."""
        if size != self.own_size:
            with self.lock:
                try:
                    runs(self.module, size)
                except Lost as error:
                    own = f"{self.own_size[0]}×{self.own_size[1]} px"
                    raise ValueError(f"{self.name} was made for {own}, and {error}") from error
        return size

    def _takes(self, size: tuple[int, int]) -> bool:
        try:
            self._places(size)
        except Lost:
            return False
        return True

    def grid(self, image_size: ImageSize | None = None, patch_size: int | None = None) -> Grid:
        size = self.input_size(image_size)
        if self._by_rule(size) or not self.attends:
            return super().grid(image_size, patch_size)
        if patch_size is not None:
            self._patch_size(patch_size)
        try:
            found = self._places(size)
        except Lost as lost:
            raise ValueError(
                f"the preprocessing of {self.name} makes inputs of {size[0]}×{size[1]} px, and {lost}: it was made for "
                f"image_size={self.own_size}"
            ) from lost
        if image_size is not None and found.corner == (0.0, 0.0) and not found.overlap:
            self._filled(size, self.patch)
        return found.grid

    def frame(
        self, source: tuple[int, int], *, image_size: ImageSize | None = None, patch_size: int | None = None
    ) -> Frame:
        frame = super().frame(source, image_size=image_size)
        return self._of_cells(frame, self.grid(image_size, patch_size))

    @property
    def _regular(self) -> bool:
        """Whether its grid is the input cut into patches from the top left corner, as an Outline takes it to be."""
        found = self.found
        if found is None:
            return True
        return found.corner == (0.0, 0.0) and found.grid == Grid.of(self.own_size, self.patch, self.prefix, self.suffix)

    def _by_rule(self, size: tuple[int, int]) -> bool:
        """Whether the grid of an input follows from the patch size, so that nothing has to be tried."""
        return self._regular and (size == self.own_size or self.resizable)

    def _places(self, size: tuple[int, int]) -> Places:
        """By experiment, remembered. Raises Lost."""
        own = size == self.own_size
        if own and self.found is not None:
            return self.found
        with self.lock:
            patches = size[0] // self.patch[0] * (size[1] // self.patch[1])
            return places(self.module, size, arguments(self.module, patches, interpolated=not own))

    def _of_cells(self, frame: Frame, grid: Grid) -> Frame:
        """The frame of the grid's cells, from that of the input's pixels."""
        if self._by_rule(frame.model) or not self.attends:
            return frame
        top, left = self._places(frame.model).corner
        if (top, left) == (0, 0):
            return frame
        offset = (frame.offset[0] - top, frame.offset[1] - left)
        return Frame(frame.source, (grid.rows * grid.patch[0], grid.cols * grid.patch[1]), frame.scale, offset)

    def forecast(self, grid: Grid, *, gradients: bool = False) -> int:
        """Bytes that a forward under capture needs beside the weights, in the dtype that they have now."""
        return self.memory(grid, torch.finfo(self.dtype).bits // 8, gradients=gradients)

    def _fits(self, grid: Grid, *, gradients: bool = False) -> None:
        free, needed = free_memory(self.device), self.forecast(grid, gradients=gradients)
        if needed <= free:
            return
        patch, rows = grid.patch, math.isqrt(grid.patches)
        while rows and self.forecast(Grid(rows, rows, patch, self.prefix, self.suffix), gradients=gradients) > free:
            rows -= 1
        fits = f"take an image_size of at most {rows * patch[0]} px, or larger patches" if rows else "none would fit"
        raise MemoryError(
            f"{grid} would need about {needed / 1e9:.2g} GB, and {free / 1e9:.2g} GB are free on {self.device}: {fits}"
        )
