"""A detector's feature maps as tokens: how many, where on the photo, and in colours what they have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..core.geometry import Frame, Grid, pixel_cells, within
from ..core.shown import Shown

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


@dataclass(frozen=True, eq=False)
class FeatureMap(Shown):
    """One of the maps that lead into a detector's head, its cells taken as tokens.

    name: "P3", its stride being 2³ px. tokens: (cells, channels) float32, row-major on the grid. frame: source
    pixels to the detector's. image: (H, W, 3) uint8, the source. Shows itself in colours over its image in a notebook;
    `np.asarray` of it is its tokens. `Detector.features` makes them; tokens of other models can be put into one.
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

    def overlay(self) -> np.ndarray:
        """Its colours on the image, each cell's where its pixels are -> (H, W, 3) uint8."""
        rows, cols = (pixel_cells(self.grid, self.frame, axis) for axis in (0, 1))
        covered = within(rows, self.grid.rows), within(cols, self.grid.cols)
        picture = self.image.copy()
        picture[covered] = self.colours()[np.ix_(rows[covered[0]].astype(int), cols[covered[1]].astype(int))]
        return picture

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.tokens, dtype=dtype, copy=copy)

    def __str__(self) -> str:
        share = principal_colours(self.tokens)[1]
        rows, cols = self.grid.rows, self.grid.cols
        return (
            f"{self.name}: {rows} × {cols} = {rows * cols:,} tokens of {self.tokens.shape[1]} channels, one every "
            f"{self.grid.patch[0]} px; three components hold {share:.0%} of their variance"
        )


def principal_colours(tokens: np.ndarray) -> tuple[np.ndarray, float]:
    """The first three principal components of tokens as red, green and blue, with their share of the variance.

    tokens: (n, channels), finite -> ((n, 3) uint8, 0..1). Each component runs from its lowest to its highest value,
    the outermost hundredths cut; its sign is that in which the largest weight of a channel is positive. Fewer
    components leave the last colours at 0.
    """
    centred = np.asarray(tokens, np.float64) - np.mean(tokens, 0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)  # of the channels: few, however many tokens there are
    total = float(values.clip(0).sum())
    axes = vectors[:, ::-1][:, :3]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    components = centred @ axes
    low, high = np.percentile(components, (1, 99), axis=0)
    kept = np.flatnonzero(high - low > 1e-9 * max(1e-30, np.sqrt(total)))
    colours = np.zeros((len(components), 3), np.uint8)
    share = (components[:, kept] - low[kept]) / (high - low)[kept]
    colours[:, kept] = np.rint(255 * share.clip(0, 1))
    return colours, float(values[::-1][:3].clip(0).sum()) / total if total > 0 else 1.0
