"""Where a language model's image tokens are: the views that its vision tower is shown, laid back on the source image.

A view is one picture that the tower sees, the whole image or a tile of it. Its image tokens form a grid, and its frame
carries that to the source image. Which token stands where, one rule a family tells (`rules`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..core.geometry import Box, Frame, Grid


@dataclass(frozen=True, eq=False)
class View:
    """One picture that the vision tower is shown, and the image tokens made of it.

    grid: of the image tokens, in the view's pixels. frame: from the source image to these. tokens: (rows, cols), which
    of the image tokens stands at each cell, -1 where none does. order: (rows·pool, cols·pool), which of the tower's
    tokens, counted from the first patch, each patch is; None where they run row by row.
    """

    grid: Grid
    frame: Frame
    tokens: np.ndarray
    order: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ImagePlaces:
    """All views of an image. grid, frame: of the map that they are laid on together, the finest of them.

    count: image tokens, those that stand for no pixels (ends of lines) included. pool: patches of the vision tower
    along each side of an image token; None where its tokens are made otherwise, such as by interpolation. marks: tokens
    of the prompt that stand for the image, where they are others than those that have places (see `ways`).
    """

    views: tuple[View, ...]
    grid: Grid
    frame: Frame
    count: int
    pool: int | None = 1
    marks: int | None = None

    def boxes(self, token: int) -> list[Box]:
        """The pixels that an image token stands for: (x0, y0, x1, y1) in the source image; none of an end of a line."""
        found: list[Box] = []
        for view in self.views:
            for row, col in np.argwhere(view.tokens == token).tolist():
                found.append(view.frame.box_to_source(view.grid.box(row, col)))
        return found

    def values(self, shares: np.ndarray) -> np.ndarray:
        """shares: one a token, (…, count) -> maps, (…, rows, cols). What a token has is spread over its own pixels.

        Where several views see a pixel, what they have of it is added, so that the map sums to the shares of all tokens
        that stand for pixels of the image.
        """
        given = np.asarray(shares, dtype=np.float64)
        padded = np.concatenate([given, np.zeros((*given.shape[:-1], 1))], -1)
        return self.laid([padded[..., view.tokens] for view in self.views])

    def laid(self, maps: list[np.ndarray]) -> np.ndarray:
        """maps: of each view, (…, rows·n, cols·n), n the same in all -> on the finest grid, its cells n times finer."""
        finer = maps[0].shape[-2] // self.views[0].grid.rows
        grid = finer_grid(self.grid, finer)
        out = np.zeros((*maps[0].shape[:-2], grid.rows, grid.cols))
        for view, values in zip(self.views, maps, strict=True):
            down, across = (
                _overlap(finer_grid(view.grid, finer), view.frame, grid, self.frame, axis) for axis in (0, 1)
            )
            out += down @ values @ across.T
        return out


def finer_grid(grid: Grid, factor: int) -> Grid:
    """A grid with so many cells in place of each along a side; where pixels do not divide, its frame is `spread`."""
    height, width = grid.patch
    patch = (height // factor, width // factor)
    if (patch[0] * factor, patch[1] * factor) != grid.patch:
        raise ValueError(f"cells of {height}×{width} px have no {factor} patches along a side")
    return replace(grid, rows=grid.rows * factor, cols=grid.cols * factor, patch=patch)


def _overlap(one: Grid, frame: Frame, other: Grid, place: Frame, axis: int) -> np.ndarray:
    """Along an axis, the share of each cell of one grid that lies in each of another's -> (cells of other, of one).

    What lies outside of the image counts for nothing: a cell that reaches beyond it is what is inside.
    """
    mine, theirs = (
        np.clip(_edges(grid, where, axis), 0, where.source[axis]) for grid, where in ((one, frame), (other, place))
    )
    low = np.maximum(mine[None, :-1], theirs[:-1, None])
    high = np.minimum(mine[None, 1:], theirs[1:, None])
    length = np.diff(mine)
    return np.clip(high - low, 0, None) / np.where(length > 1e-9, length, np.inf)


def _edges(grid: Grid, frame: Frame, axis: int) -> np.ndarray:
    """Of a grid's cells along an axis (0 is y), in source pixels."""
    count = (grid.rows, grid.cols)[axis]
    return (np.arange(count + 1) * grid.patch[axis] - frame.offset[axis]) / frame.scale[axis]


def raster(rows: int, cols: int, first: int = 0) -> np.ndarray:
    """Tokens row by row, counted from the first."""
    return first + np.arange(rows * cols).reshape(rows, cols)


def tiles(
    source: tuple[int, int],
    rows: int,
    cols: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    offset: tuple[float, float] = (0.0, 0.0),
) -> Iterator[Frame]:
    """The frames of so many tiles of one size, row by row, of an image that was scaled and moved onto all of them."""
    for row in range(rows):
        for col in range(cols):
            yield Frame(source, size, scale, (offset[0] - row * size[0], offset[1] - col * size[1]))
