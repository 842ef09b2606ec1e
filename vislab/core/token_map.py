"""A TokenMap: which token of each layer stands for each patch, where tokens are dropped, merged or of several sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .checks import shown, whole
from .geometry import Frame, Grid
from .shown import Shown, drawing


@dataclass(frozen=True, eq=False, repr=False)
class TokenMap(Shown):
    """Which token stands for each patch, layer by layer; `vislab.token_map` makes one.

    owners: (layers, rows, cols) int, the token of the layer's sequence, -1 where the patch was dropped: patches of one
    number are one region. counts: how many tokens each layer attends over, CLS and its kin with them. grid, frame: of
    the patches; under a fovea of the smallest. image: (H, W, 3) uint8, the source. Shows the last layer's regions, in
    the colours of the image, as the last expression of a notebook cell.
    """

    owners: np.ndarray
    counts: tuple[int, ...]
    grid: Grid
    frame: Frame
    image: np.ndarray

    def regions(self, layer: int = -1) -> np.ndarray:
        """The regions of a layer, numbered from 0 in the order of their first patch; -1 where none is left.

        -> (rows, cols) int. Raises ValueError for a layer that is not there.
        """
        if not whole(layer) or not -len(self.owners) <= layer < len(self.owners):
            raise ValueError(f"no layer {shown(layer)}: layers run from 0 to {len(self.owners) - 1}, or from -1")
        owners = self.owners[layer]
        tokens, first = np.unique(owners[owners >= 0], return_index=True)
        numbers = np.full(max(self.counts) + 1, -1)
        numbers[tokens[first.argsort()]] = np.arange(len(tokens))
        return np.where(owners < 0, -1, numbers[owners])

    def overlay(self, layer: int = -1) -> np.ndarray:
        """The image with each region of a layer in its mean colour, edged; what was dropped is grey and dark.

        -> (H, W, 3) uint8. Pixels that the model did not see stay as they are.

        Source: the figures of Bolya et al. 2023, Token Merging.
        """
        picture: np.ndarray = drawing("regions").with_regions(self.image, self.regions(layer), self.grid, self.frame)
        return picture

    def __repr__(self) -> str:
        counts = " → ".join(f"{count}" for count in dict.fromkeys(self.counts))
        return f"TokenMap({counts} tokens in {len(self.counts)} layers, {self.grid.rows} × {self.grid.cols} patches)"

    def __str__(self) -> str:
        """A line a layer: how many tokens it has, and for how many patches the largest of them stands."""
        lines = []
        for layer, (owners, count) in enumerate(zip(self.owners, self.counts, strict=True)):
            sizes = np.unique(owners[owners >= 0], return_counts=True)[1]
            lines.append(
                f"layer {layer:2}: {count} tokens; of {owners.size} patches {int((owners < 0).sum())} dropped, "
                f"at most {sizes.max()} in one"
            )
        return "\n".join(lines)
