"""Where tokens, model pixels and source pixels are: Grid and Frame.

Points are (x, y) and boxes (x0, y0, x1, y1) in pixels, measured from the image's top left corner (0, 0), so that the
centre of the first pixel is (0.5, 0.5). Sizes are (height, width).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Grid:
    """The patches of a token sequence: rows x cols of them, row-major, after `prefix` and before `suffix` tokens.

    patch: (height, width) of one patch, model pixels. prefix: CLS, distillation, registers. suffix: YOLOS' detection
    tokens.
    """

    rows: int
    cols: int
    patch: tuple[int, int]
    prefix: int = 0
    suffix: int = 0

    def __post_init__(self) -> None:
        if min(self.rows, self.cols, *self.patch) < 1 or min(self.prefix, self.suffix) < 0:
            raise ValueError(f"a grid needs at least one patch of at least one pixel, not {self}")

    @classmethod
    def of(cls, size: tuple[int, int], patch: tuple[int, int], prefix: int = 0, suffix: int = 0) -> Grid:
        """The grid of an input of `size` (height, width); what is left over at the right and bottom has no token."""
        if size[0] < patch[0] or size[1] < patch[1]:
            raise ValueError(
                f"a patch of {patch[0]}×{patch[1]} px is larger than the input of {size[0]}×{size[1]} px: "
                "take a smaller patch_size or a larger image_size"
            )
        return cls(size[0] // patch[0], size[1] // patch[1], patch, prefix, suffix)

    @property
    def patches(self) -> int:
        return self.rows * self.cols

    @property
    def tokens(self) -> int:
        return self.prefix + self.patches + self.suffix

    @property
    def patch_tokens(self) -> slice:
        """Where the patches stand in the token sequence."""
        return slice(self.prefix, self.prefix + self.patches)

    def token(self, row: int, col: int) -> int:
        """Index in the token sequence of the patch at (row, col)."""
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise IndexError(
                f"no patch ({row}, {col}): rows run from 0 to {self.rows - 1}, columns from 0 to {self.cols - 1}"
            )
        return self.prefix + row * self.cols + col

    def cell(self, token: int) -> tuple[int, int]:
        """(row, col) of a patch token; the inverse of `token`."""
        if not 0 <= token - self.prefix < self.patches:
            raise IndexError(
                f"token {token} is no patch: patches are tokens {self.prefix} to {self.prefix + self.patches - 1}"
            )
        return divmod(token - self.prefix, self.cols)

    def box(self, row: int, col: int) -> Box:
        """The patch's box in model pixels."""
        self.token(row, col)
        height, width = self.patch
        return (col * width, row * height, (col + 1) * width, (row + 1) * height)

    def cell_at(self, x: float, y: float) -> tuple[int, int] | None:
        """(row, col) of the patch that holds a point in model pixels, or None where no patch is."""
        row, col = math.floor(y / self.patch[0]), math.floor(x / self.patch[1])
        return (row, col) if 0 <= row < self.rows and 0 <= col < self.cols else None

    def __str__(self) -> str:
        extra = self.tokens - self.patches
        return f"{self.rows} × {self.cols}" + (f" + {extra}" if extra else "") + f" = {self.tokens} tokens"


@dataclass(frozen=True)
class Frame:
    """The transform between source-image pixels and model pixels, one scale and one offset an axis.

    source, model: (height, width). scale, offset: (y, x), in model = source · scale + offset.
    """

    source: tuple[int, int]
    model: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if min(*self.source, *self.model) < 1 or min(self.scale) <= 0:
            raise ValueError(f"a frame needs sizes and scales above zero, not {self}")

    @classmethod
    def stretch(cls, source: tuple[int, int], model: tuple[int, int]) -> Frame:
        """The whole image resized to the model's input; its aspect ratio may change."""
        return cls(source, model, (model[0] / source[0], model[1] / source[1]))

    @classmethod
    def crop(
        cls, source: tuple[int, int], resized: tuple[int, int], model: tuple[int, int], *, to_even: bool = False
    ) -> Frame:
        """The image resized to `resized`, then its centre cut out (or padded, where smaller) to `model`.

        The cut begins at (resized - model) / 2, rounded towards zero as transformers does it, or, `to_even`, halves to
        the even neighbour as torchvision and timm do.
        """
        excess = [r - m for r, m in zip(resized, model, strict=True)]
        top, left = (round(e / 2) if to_even and e > 0 else int(e / 2) for e in excess)
        scale = (resized[0] / source[0], resized[1] / source[1])
        return cls(source, model, scale, (float(-top), float(-left)))

    @classmethod
    def letterbox(cls, source: tuple[int, int], model: tuple[int, int]) -> Frame:
        """The image resized with its aspect kept, centred, the rest of the input padded, as ultralytics does."""
        ratio = min(model[0] / source[0], model[1] / source[1])
        resized = (max(1, round(source[0] * ratio)), max(1, round(source[1] * ratio)))
        top, left = (round((m - r) / 2 - 0.1) for m, r in zip(model, resized, strict=True))
        scale = (resized[0] / source[0], resized[1] / source[1])
        return cls(source, model, scale, (float(top), float(left)))

    def cut_from(self, source: tuple[int, int], corner: tuple[int, int]) -> Frame:
        """The frame of the same model input in a larger image, from which this frame's source image was cut.

        source: size of the larger image. corner: (x, y) in it of the cut image's top left corner.

        >>> Frame.stretch((10, 10), (20, 20)).cut_from((100, 100), (30, 40)).visible
        (30.0, 40.0, 40.0, 50.0)
        """
        y, x = self.offset[0] - corner[1] * self.scale[0], self.offset[1] - corner[0] * self.scale[1]
        return Frame(source, self.model, self.scale, (y, x))

    def spread(self, grid: Grid) -> Frame:
        """The frame of a grid whose cells are spread evenly over this frame's model input, whatever their size is."""
        size = (grid.rows * grid.patch[0], grid.cols * grid.patch[1])
        share = [s / m for s, m in zip(size, self.model, strict=True)]
        scale, offset = ((x[0] * share[0], x[1] * share[1]) for x in (self.scale, self.offset))
        return Frame(self.source, size, scale, offset)

    def to_model(self, x: float, y: float) -> tuple[float, float]:
        """A point in source pixels -> the same point in model pixels."""
        return x * self.scale[1] + self.offset[1], y * self.scale[0] + self.offset[0]

    def to_source(self, x: float, y: float) -> tuple[float, float]:
        """A point in model pixels -> the same point in source pixels; the inverse of `to_model`."""
        return (x - self.offset[1]) / self.scale[1], (y - self.offset[0]) / self.scale[0]

    def box_to_source(self, box: Box) -> Box:
        """A box in model pixels -> the same box in source pixels; it may reach beyond the image."""
        return (*self.to_source(*box[:2]), *self.to_source(*box[2:]))

    @property
    def visible(self) -> Box:
        """The part of the source image that the model sees, source pixels."""
        x0, y0, x1, y1 = self.box_to_source((0, 0, self.model[1], self.model[0]))
        height, width = self.source
        return (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))


def pixel_cells(grid: Grid, frame: Frame, axis: int) -> np.ndarray:
    """Where the centres of the source pixels along an axis (0 is y) stand on the grid, counted in patches -> (n,)."""
    centres = np.arange(frame.source[axis]) + 0.5
    return (centres * frame.scale[axis] + frame.offset[axis]) / grid.patch[axis]


def within(cells: np.ndarray, count: int) -> slice:
    """The pixels of `pixel_cells` that lie on a grid of so many patches: one run, since positions only grow."""
    return slice(int(np.searchsorted(cells, 0)), int(np.searchsorted(cells, count)))
