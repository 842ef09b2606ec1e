"""Every word of an answer at once: what each attended to in a layer, by each head and by all of them fused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..methods.question import fused_heads
from ..methods.request import Head, Layer, layer_index
from .answer import Answer
from .looks import laid_rows

FUSED: tuple[Head, ...] = ("mean", "max", "min")


@dataclass(frozen=True, eq=False)
class Atlas:
    """A layer's maps of all words, those of `looks.attention`.

    maps: (words, heads + 3, rows, cols) on the grid of the answer's places: each head's, then all heads by their mean,
    maximum and minimum, as FUSED has them. shares: (words, heads, 3), of a head's attention on image, text and first
    token, which sum to 1.
    """

    maps: np.ndarray
    shares: np.ndarray

    @property
    def heads(self) -> int:
        return int(self.shares.shape[1])

    def fused(self, word: int, head: Head = "mean") -> np.ndarray:
        """A word's map by all heads -> (rows, cols)"""
        values: np.ndarray = self.maps[word, self.heads + FUSED.index(head)]
        return values


def atlas(answer: Answer, layer: Layer) -> Atlas:
    """What every word attended to at a layer, or in the mean of all.

    Raises IndexError for a layer that is not there, AttentionRefused for one that cannot be read.
    """
    sites = answer.sites
    chosen = sites if layer == "mean" else [sites[layer_index(layer, len(sites))]]
    begin, end = answer.words[0].start - 1, answer.words[-1].stop - 1
    total: torch.Tensor | None = None
    for site in chosen:
        rows = answer.capture.attention(site, slice(begin, end))[0]
        words = [rows[:, [row - begin for row in answer.rows(number)]].mean(1) for number in range(len(answer.words))]
        total = torch.stack(words) if total is None else total + torch.stack(words)
    assert total is not None
    each = total / len(chosen)  # (words, heads, keys)
    fused = torch.stack([fused_heads(each.transpose(0, 1), how) for how in FUSED], 1)
    return Atlas(laid_rows(answer, torch.cat([each, fused], 1)), answer.parts(each).cpu().numpy())
