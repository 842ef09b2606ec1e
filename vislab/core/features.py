"""Cells of a feature map, or patches, as tokens: how many, where they lie, and in colours what they have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .checks import shown, whole
from .geometry import Frame, Grid, pixel_cells, within
from .shown import Shown

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


@dataclass(frozen=True, eq=False, repr=False)
class FeatureMap(Shown):
    """One of the maps that lead into a detector's head, or what a layer makes of an image's patches, cell by cell.

    name: "P3", its stride being 2³ px, or "layer 11". tokens: (cells, channels) float32, row-major on the grid. frame:
    source pixels to the model's. image: (H, W, 3) uint8, the source. Shows itself in colours over its image in a
    notebook; `np.asarray` of it is its tokens. `Detector.features` and `vislab.patch_tokens` make them.
    """

    name: str
    tokens: np.ndarray
    grid: Grid
    frame: Frame
    image: np.ndarray

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or len(self.tokens) != self.grid.patches:
            raise ValueError(f"{self.grid.patches} cells need as many tokens, not {self.tokens.shape}")

    def colours(self) -> np.ndarray:
        """The first three principal components as red, green and blue -> (rows, cols, 3) uint8."""
        return principal_colours(self.tokens)[0].reshape(self.grid.rows, self.grid.cols, 3)

    def components(self, count: int = 3) -> np.ndarray:
        """The first principal components of the tokens -> (rows, cols, count) float64, the largest variance first.

        Of each the mean over cells is 0, and the sign is that in which its largest weight of a channel is positive.
        Raises ValueError for more than there are channels.
        """
        channels = self.tokens.shape[1]
        if not whole(count) or not 1 <= count <= channels:
            raise ValueError(f"tokens of {channels} channels have 1 to {channels} components, not {shown(count)}")
        return principal_components(self.tokens, count)[0].reshape(self.grid.rows, self.grid.cols, count)

    def overlay(self) -> np.ndarray:
        """Its colours on the image, each cell's where its pixels are -> (H, W, 3) uint8."""
        rows, cols = (pixel_cells(self.grid, self.frame, axis) for axis in (0, 1))
        covered = within(rows, self.grid.rows), within(cols, self.grid.cols)
        picture = self.image.copy()
        picture[covered] = self.colours()[np.ix_(rows[covered[0]].astype(int), cols[covered[1]].astype(int))]
        return picture

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.tokens, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"FeatureMap({self._told()})"

    def __str__(self) -> str:
        share = principal_colours(self.tokens)[1]
        return f"{self._told()};\nthree components hold {share:.0%} of their variance"

    def _told(self) -> str:
        rows, cols = self.grid.rows, self.grid.cols
        count = f"{rows} × {cols} = {rows * cols:,} tokens of {self.tokens.shape[1]} channels"
        return f"{self.name}: {count}, one every {self.grid.patch[0]} px"


def principal_components(tokens: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """tokens: (n, channels), finite -> ((n, count) float64, (channels,) the variance along each axis times n, falling).

    The sign of each is that in which its largest weight of a channel is positive.
    """
    centred = np.asarray(tokens, np.float64) - np.mean(tokens, 0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)  # of the channels: few, however many tokens there are
    axes = vectors[:, ::-1][:, :count]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    return centred @ axes, values[::-1].clip(0)


def principal_colours(tokens: np.ndarray) -> tuple[np.ndarray, float]:
    """The first three principal components of tokens as red, green and blue, with their share of the variance.

    tokens: (n, channels), finite -> ((n, 3) uint8, 0..1). Each component runs from its lowest to its highest value,
    the outermost hundredths cut. Fewer components leave the last colours at 0.
    """
    components, values = principal_components(tokens, 3)
    total = float(values.sum())
    low, high = np.percentile(components, (1, 99), axis=0)
    kept = np.flatnonzero(high - low > 1e-9 * max(1e-30, np.sqrt(total)))
    colours = np.zeros((len(components), 3), np.uint8)
    share = (components[:, kept] - low[kept]) / (high - low)[kept]
    colours[:, kept] = np.rint(255 * share.clip(0, 1))
    return colours, float(values[:3].sum()) / total if total > 0 else 1.0
