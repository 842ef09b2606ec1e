"""Queries and keys made ready to be multiplied elsewhere: in the browser."""

from __future__ import annotations

import numpy as np
import torch

from ..engine.capture import Capture
from ..engine.site import AttentionRefused, Site

_LOGITS = 2**24  # logits held at a time


@torch.no_grad()
def operands(capture: Capture, site: Site) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A site's queries and keys, (heads, tokens, dim), and what is added to each key's logits, (tokens,) or None.

    softmax(q·kᵀ + added) is its attention; all float32. The scale is in q. The mean key is taken from every key, which
    adds the same to all logits of a row, changes no attention, and leaves small numbers that half precision holds well.
    Raises AttentionRefused where something is added that is not the same for all queries (a bias, a mask).
    """
    q, k = site.q[0].float() * site.scale, site.k[0].float()
    k = k.repeat_interleave(len(q) // len(k), 0)
    k = k - k.mean(1, keepdim=True)
    rows = sorted({0, site.queries // 2, site.queries - 1})
    added = site.added()
    bias = None if added is None else added[0].float()
    logits = q[:, rows] @ k.mT
    exact, again = capture.attention(site, rows)[0], (logits if bias is None else logits + bias).softmax(-1)
    if not (exact - again).abs().max() <= 1e-3 * exact.max():
        raise AttentionRefused(
            f"{site.name} adds a bias or a mask to q·kᵀ: its rows can be read in Python, not made in the browser"
        )
    return q.cpu().numpy(), k.cpu().numpy(), None if bias is None else bias.cpu().numpy()


@torch.no_grad()
def log_sums(q: np.ndarray, k: np.ndarray, added: np.ndarray | None = None) -> np.ndarray:
    """log Σⱼ exp(qᵢ·kⱼ + addedⱼ) of every row: with it, one column of attention needs no other.

    -> (heads, tokens) float32.
    """
    queries, keys = torch.from_numpy(q), torch.from_numpy(k)
    bias = torch.zeros(keys.shape[1]) if added is None else torch.from_numpy(added)
    step = max(1, _LOGITS // (keys.shape[0] * keys.shape[1]))
    sums = [(block @ keys.mT + bias).logsumexp(-1) for block in queries.split(step, 1)]
    return torch.cat(sums, 1).numpy()


def by_strength(q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same q·kᵀ from channels that are uncorrelated, the one that adds most to it first: its singular vectors."""
    made = []
    for own_q, own_k in zip(q, k, strict=True):
        (basis_q, rest_q), (basis_k, rest_k) = np.linalg.qr(own_q), np.linalg.qr(own_k)
        left, strength, right = np.linalg.svd(rest_q @ rest_k.T)
        made.append((basis_q @ (left * np.sqrt(strength)), basis_k @ (right.T * np.sqrt(strength))))
    return np.stack([q for q, _ in made]), np.stack([k for _, k in made])
