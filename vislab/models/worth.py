"""What each cell of a grid is worth where a user says it: nearness to the centre, or values of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.geometry import Frame, Grid
from ..core.heatmap import Heatmap


def worth(keep_by: Any, cells: Grid, frame: Frame) -> Tensor | None:
    """-> (cells,) float64; None where the forward itself decides. frame: of the cells. keep_by: see `Tokens`."""
    if isinstance(keep_by, str):
        return _near_the_centre(cells) if keep_by == "centre" else None
    return torch.tensor(values_on(keep_by, cells, frame), dtype=torch.float64).flatten()


def values_on(keep_by: Any, cells: Grid, frame: Frame) -> tuple[tuple[float, ...], ...]:
    """A heatmap, or (rows, cols) spread evenly over the grid, at the centre of each of its cells -> as rows.

    Cells that a heatmap does not cover have its lowest value. ValueError for a heatmap of an image of another size.
    """
    y, x = ((np.arange(n) + 0.5) for n in (cells.rows, cells.cols))
    if not isinstance(keep_by, Heatmap):
        values = np.array(keep_by)
        rows, cols = (y * values.shape[0] // cells.rows, x * values.shape[1] // cells.cols)
        picked = values[np.ix_(rows.astype(int), cols.astype(int))]
        return tuple(map(tuple, picked.tolist()))
    if keep_by.frame.source != frame.source:
        (height, width), (h, w) = frame.source, keep_by.frame.source
        raise ValueError(
            f"keep_by is a heatmap of an image of {w}×{h} px, and this one has {width}×{height}: explain this one first"
        )
    low, picked = float(keep_by.values.min()), np.empty((cells.rows, cells.cols))
    for row in range(cells.rows):
        for col in range(cells.cols):
            at = keep_by.cell_at(*frame.to_source(x[col] * cells.patch[1], y[row] * cells.patch[0]))
            picked[row, col] = low if at is None else keep_by.values[at]
    return tuple(map(tuple, picked.tolist()))


def _near_the_centre(cells: Grid) -> Tensor:
    y = (torch.arange(cells.rows, dtype=torch.float64) + 0.5 - cells.rows / 2) * cells.patch[0]
    x = (torch.arange(cells.cols, dtype=torch.float64) + 0.5 - cells.cols / 2) * cells.patch[1]
    return -torch.hypot(y[:, None], x[None, :]).flatten()
