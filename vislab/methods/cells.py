"""Which token of a layer stands for each cell of the grid, where tokens were dropped, joined or of several sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.geometry import Grid
from ..engine.capture import Capture
from ..engine.site import Site


class Cells:
    """The token maps of a capture's layers: each is a partition of the cells that are left among the layer's tokens."""

    def __init__(self, cap: Capture, sites: Sequence[Site], grid: Grid) -> None:
        self.grid, self.plain = grid, not cap.passages
        self._owners: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        owners, count = torch.arange(grid.patches) + grid.prefix, grid.tokens
        for site in sites:
            if site.path in cap.passages and site.path not in self._counts:
                passage = cap.passages[site.path]
                owners, count = passage.owners(owners.to(passage.into.device)), passage.count
            self._owners[site.path], self._counts[site.path] = owners, count

    def count(self, site: Site) -> int:
        """How many tokens a layer should attend over."""
        return self._counts[site.path]

    def patches(self, site: Site) -> slice:
        """Where the tokens that stand for cells are in a layer's sequence."""
        return slice(self.grid.prefix, self.count(site) - self.grid.suffix)

    def owners(self, site: Site) -> Tensor:
        """The token that stands for each cell at a layer, -1 for none. -> (cells,)"""
        return self._owners[site.path]

    def values(self, site: Site, row: Tensor) -> Tensor:
        """What a layer's tokens have, on all cells that each stands for; 0 on those of none. (tokens,) -> (cells,)"""
        if self.plain:
            return row[self.grid.patch_tokens]
        owners = self.owners(site).to(row.device)
        return torch.where(owners >= 0, row[owners.clamp_min(0)], 0)

    def dropped(self, *sites: Site) -> Tensor | None:
        """The cells that no token of these layers stands for, (cells,) bool; None where there can be none."""
        if self.plain:
            return None
        return torch.stack([(self.owners(site) < 0).cpu() for site in sites]).all(0)

    def token(self, site: Site, token: int) -> int:
        """The token of a layer that stands for one of the grid's sequence. Raises ValueError where it was dropped."""
        grid = self.grid
        if self.plain or token < grid.prefix:
            return token
        if token >= grid.prefix + grid.patches:
            return token - grid.tokens + self.count(site)
        found = int(self.owners(site)[token - grid.prefix])
        if found < 0:
            row, col = grid.cell(token)
            raise ValueError(
                f"patch ({row}, {col}) was dropped before {site.name}, and attends to nothing there: ask another one, "
                "an earlier layer, or keep more"
            )
        return found
