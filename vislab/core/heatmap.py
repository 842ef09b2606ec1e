"""A Heatmap: one value a patch, with the frame that carries it back to the source image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .geometry import Box, Frame, Grid, pixel_cells, within
from .shown import Shown

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


@dataclass(frozen=True, eq=False, repr=False)
class Heatmap(Shown):
    """One value per patch of a grid, with the frame that carries it back to the source image.

    values: (rows, cols) float32, finite. method: "cls", "rollout", … target: what was explained, in words, or None.
    settings: the keywords of `explain` that made it. image: (H, W, 3) uint8, the source image, or None. query: the
    attending token in words ("CLS", "patch (3, 4)", "mean of all queries", …). facts: what the run told beside the map:
    the fingerprint of its weights, dtype, device, and predictions [(label, probability), …] where it classifies,
    beside them scores, what these are, where they are no shares of a softmax.
    signed: whether values below 0 speak against the target; such a map has two colours, which meet at 0. dropped: the
    patches that no token stood for, (rows, cols) bool, whose value is 0 and is not drawn; None where there are none.
    Shows itself over its image as the last expression of a notebook cell; `np.asarray(heat)` is its values, one a
    patch, and `heat.pixels()` one a pixel of the source image.
    """

    values: np.ndarray
    grid: Grid
    frame: Frame
    method: str
    target: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    image: np.ndarray | None = None
    query: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    signed: bool = False
    dropped: np.ndarray | None = None

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float32)
        if values.shape != (self.grid.rows, self.grid.cols):
            raise ValueError(
                f"a heatmap of {self.grid.rows}×{self.grid.cols} patches needs values of that shape, not {values.shape}"
            )
        if not np.isfinite(values).all():
            raise ValueError("the heatmap holds NaN or infinite values: look for them in the pixels and the weights")
        if self.image is not None and self.image.shape[:2] != self.frame.source:
            raise ValueError(f"the frame is of an image of {self.frame.source}, not of {self.image.shape[:2]}")
        if self.dropped is not None and (self.dropped.shape != values.shape or self.dropped.dtype != bool):
            raise ValueError(f"dropped is True or False a patch, {values.shape}, not {self.dropped.shape}")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """`np.asarray(heat)` is its values; without a copy, where none is asked for and the dtype stays."""
        return np.array(self.values, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        high, wide = self.frame.source
        what = f"{self.method}{f' of {self.query}' if self.query else ''}{f' for {self.target}' if self.target else ''}"
        return f"Heatmap({what}, {self.grid.rows} × {self.grid.cols} patches, image of {wide} × {high} px)"

    def pixels(self) -> np.ndarray:
        """The map laid over its photograph: a value for each source pixel -> (H, W) float32.

        A pixel has the value of the patch that its centre falls in, undivided, so that over a patch's pixels the mean
        is its value, and the range stays; NaN where the model saw nothing (cropped away, beside a region), and where
        the patch was dropped. Padding around the photograph has no pixel.

            heat = vislab.explain("photo.jpg")
            inside = heat.pixels()[100:300, 200:400]
        """
        values = self.values if self.dropped is None else np.where(self.dropped, np.float32(np.nan), self.values)
        rows, cols = (pixel_cells(self.grid, self.frame, axis) for axis in (0, 1))
        down, along = within(rows, self.grid.rows), within(cols, self.grid.cols)
        laid = np.full(self.frame.source, np.nan, dtype=np.float32)
        laid[down, along] = values[np.ix_(rows[down].astype(int), cols[along].astype(int))]
        return laid

    def box(self, row: int, col: int) -> Box:
        """A patch's box in source pixels; it may reach beyond the image (letterbox padding)."""
        return self.frame.box_to_source(self.grid.box(row, col))

    def cell_at(self, x: float, y: float) -> tuple[int, int] | None:
        """(row, col) of the patch over a point in source pixels, or None where the model saw nothing."""
        return self.grid.cell_at(*self.frame.to_model(x, y))
