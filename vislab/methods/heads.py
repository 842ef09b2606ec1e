"""What single heads do: their maps, how many tokens they take from, and how far these lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.checks import shown, whole
from ..core.geometry import Grid
from ..models.run import Run
from .layers import encoder
from .request import layer_index

_ROWS = 2**18  # attention values of one head looked at in a survey, about


@dataclass(frozen=True, eq=False)
class Survey:
    """All heads side by side; `survey` makes one.

    maps: (layers, heads, patches), the attention of a token. entropy: (layers, heads), bits, the mean over at most
    `queries` patches of the entropy of their attention. distance: (layers, heads), model pixels, how far from
    themselves these patches attend on average (mean attention distance, Dosovitskiy et al. 2021, fig. 7). even:
    (layers,), what that would be if they attended to all patches alike. Where tokens are dropped, merged or of several
    sizes, those that are left count, each at the middle of its patches, and a map has a token's value on all of them.
    """

    maps: np.ndarray
    entropy: np.ndarray
    distance: np.ndarray
    even: np.ndarray
    queries: int


@torch.no_grad()
def survey(run: Run, *, token: int | None = 0, layers: Sequence[int] | None = None) -> Survey:
    """Look at every head of a run's layers, what it attends to and how widely.

    run: what `Model.run` gives. token: whose maps, or None for the mean over the patches. layers: indices, all by
    default. Entropy and distance are means over all patches of a small grid, over evenly spread ones of a large one.

        heads = vislab.survey(vislab.load("embedded").run(vislab.load_image("photo.jpg")))
        heads.maps.shape, heads.entropy.argmin()

    Raises AttentionRefused where a layer's attention cannot be read.
    """
    if not isinstance(run, Run):
        raise TypeError(f"heads are surveyed in a run, not in {type(run).__name__}: model.run(image) makes one")
    capture, grid = run.capture, run.grid
    if token is not None and (not whole(token) or not 0 <= token < grid.tokens):
        raise ValueError(f"token is an index from 0 to {grid.tokens - 1}, or None for the mean, not {shown(token)}")
    if layers is not None and (not isinstance(layers, list | tuple | range) or not layers):
        raise ValueError(f"layers is a list of indices, such as [0, -1], not {shown(layers)}")
    sites = encoder(capture, grid)
    chosen = sites if layers is None else [sites[layer_index(layer, len(sites))] for layer in layers]
    cells, most = sites.cells, 0
    maps, entropy, distance, even = [], [], [], []
    for site in chosen:
        left = cells.patches(site)
        tokens = left.stop - left.start
        count = min(tokens, max(16, min(256, _ROWS // cells.count(site))))
        asked, most = torch.linspace(0, tokens - 1, count).round().long(), max(most, count)
        rows = capture.attention(site, (asked + left.start).tolist())[0].cpu()
        entropy.append(-torch.special.xlogy(rows, rows).sum(-1).mean(1) / np.log(2))
        seen, centres = rows[..., left], _centres(grid, cells.owners(site).cpu() - left.start, tokens)
        apart = torch.cdist(centres[asked], centres)
        distance.append(((seen * apart).sum(-1) / seen.sum(-1)).mean(1))
        even.append(apart.mean())
        own = rows.mean(1) if token is None else capture.attention(site, cells.token(site, token))[0].cpu()
        maps.append(torch.stack([cells.values(site, row) for row in own]))
    all_maps, bits, pixels, alike = (torch.stack(part).float().numpy() for part in (maps, entropy, distance, even))
    return Survey(all_maps, bits, pixels, alike, most)


def _centres(grid: Grid, owners: Tensor, tokens: int) -> Tensor:
    """The middle of the cells that each token stands for -> (tokens, 2), model pixels from that of the first cell.

    owners: (cells,), the token of each, below 0 for none.
    """
    index = torch.arange(grid.patches)
    centres = torch.stack([index // grid.cols * grid.patch[0], index % grid.cols * grid.patch[1]], 1).float()
    there = owners >= 0
    total = torch.zeros(tokens, 2).index_add(0, owners[there], centres[there])
    return total / torch.zeros(tokens).index_add(0, owners[there], torch.ones(int(there.sum())))[:, None]
