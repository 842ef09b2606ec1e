"""What single heads do: queries and keys made ready to be multiplied elsewhere, small maps, entropy and distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.geometry import Grid
from ..engine.capture import Capture
from ..engine.site import AttentionRefused, Site
from ..methods.question import encoder

_ROWS = 2**18  # attention values of one head looked at in a survey, about
_LOGITS = 2**24  # logits held at a time


@dataclass(frozen=True, eq=False)
class Survey:
    """All heads at a glance.

    maps: (layers, heads, patches) attention of one token. entropy: (layers, heads), bits, the mean over `queries`
    patches of the entropy of their attention. distance: (layers, heads), model pixels, how far from themselves these
    patches attend on average (mean attention distance, Dosovitskiy et al. 2021, fig. 7).
    """

    maps: np.ndarray
    entropy: np.ndarray
    distance: np.ndarray
    queries: int


@torch.no_grad()
def operands(capture: Capture, site: Site) -> tuple[np.ndarray, np.ndarray]:
    """A site's queries and keys such that softmax(q·kᵀ) is its attention -> (q, k), (heads, tokens, dim) float32.

    The scale is in q. The mean key is taken from every key, which adds the same to all logits of a row, changes no
    attention, and leaves small numbers that half precision holds well. Raises AttentionRefused where more than q·kᵀ
    enters the softmax (a bias, a mask).
    """
    q, k = site.q[0].float() * site.scale, site.k[0].float()
    k = k.repeat_interleave(len(q) // len(k), 0)
    k = k - k.mean(1, keepdim=True)
    rows = sorted({0, site.queries // 2, site.queries - 1})
    exact, again = capture.attention(site, rows)[0], (q[:, rows] @ k.mT).softmax(-1)
    if (exact - again).abs().max() > 1e-3 * exact.max():
        raise AttentionRefused(
            f"{site.name} adds a bias or a mask to q·kᵀ: its rows can be read in Python, not made in the browser"
        )
    return q.cpu().numpy(), k.cpu().numpy()


@torch.no_grad()
def log_sums(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """log Σⱼ exp(qᵢ·kⱼ) of every row: with it, one column of attention needs no other. -> (heads, tokens) float32."""
    queries, keys = torch.from_numpy(q), torch.from_numpy(k)
    step = max(1, _LOGITS // (keys.shape[0] * keys.shape[1]))
    sums = [(block @ keys.mT).logsumexp(-1) for block in queries.split(step, 1)]
    return torch.cat(sums, 1).numpy()


def by_strength(q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same q·kᵀ from channels that are uncorrelated, the one that adds most to it first: its singular vectors."""
    made = []
    for own_q, own_k in zip(q, k, strict=True):
        (basis_q, rest_q), (basis_k, rest_k) = np.linalg.qr(own_q), np.linalg.qr(own_k)
        left, strength, right = np.linalg.svd(rest_q @ rest_k.T)
        made.append((basis_q @ (left * np.sqrt(strength)), basis_k @ (right.T * np.sqrt(strength))))
    return np.stack([q for q, _ in made]), np.stack([k for _, k in made])


@torch.no_grad()
def survey(capture: Capture, grid: Grid, *, token: int | None = 0, layers: Sequence[int] | None = None) -> Survey:
    """Look at every head of the layers (all by default). token: whose maps, or None for the mean over the patches.

    Entropy and distance are means over all patches of a small grid, over evenly spread ones of a large one.
    """
    sites = encoder(capture, grid)
    chosen = sites if layers is None else [sites[layer] for layer in layers]
    count = min(grid.patches, max(16, min(256, _ROWS // grid.tokens)))
    patches = torch.linspace(0, grid.patches - 1, count).round().long()
    apart = _distances(grid, patches)
    maps, entropy, distance = [], [], []
    for site in chosen:
        rows = capture.attention(site, (patches + grid.prefix).tolist())[0].cpu()
        entropy.append(-torch.special.xlogy(rows, rows).sum(-1).mean(1) / np.log(2))
        seen = rows[..., grid.patch_tokens]
        distance.append(((seen * apart).sum(-1) / seen.sum(-1)).mean(1))
        own = seen.mean(1) if token is None else capture.attention(site, token)[0].cpu()[..., grid.patch_tokens]
        maps.append(own)
    all_maps, bits, pixels = (torch.stack(part).float().numpy() for part in (maps, entropy, distance))
    return Survey(all_maps, bits, pixels, count)


def _distances(grid: Grid, patches: Tensor) -> Tensor:
    """From the centres of some patches to all -> (len(patches), patches), model pixels."""
    index = torch.arange(grid.patches)
    rows, cols = index // grid.cols, index % grid.cols
    centres = torch.stack([rows * grid.patch[0], cols * grid.patch[1]], 1).float()
    return torch.cdist(centres[patches], centres)
