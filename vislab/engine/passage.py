"""A Passage: what becomes of tokens between two layers, where some are dropped, or several become one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Passage:
    """A linear map from the tokens of one layer to the fewer ones of the next, in O(n): each goes into one at most.

    into: (old,) long, the new token that each goes into, -1 for one that is dropped. weight: (old,), with which it
    does; those of a new token sum to 1. count: of new tokens.
    """

    into: Tensor
    weight: Tensor
    count: int

    @classmethod
    def chosen(cls, tokens: Tensor, old: int) -> Passage:
        """Some tokens go on, in this order, and the others are dropped. tokens: (new,) long."""
        into = torch.full((old,), -1, dtype=torch.long, device=tokens.device)
        into[tokens] = torch.arange(len(tokens), device=tokens.device)
        return cls(into, torch.ones(old, device=tokens.device), len(tokens))

    @property
    def old(self) -> int:
        return len(self.into)

    @property
    def only_drops(self) -> bool:
        return int((self.into >= 0).sum()) == self.count

    def forward(self, tokens: Tensor) -> Tensor:
        """The new tokens. tokens: (batch, old, dim) -> (batch, new, dim), differentiable."""
        left = (self.into >= 0).nonzero().squeeze(1)
        into, weight = self.into, self.weight
        if self.only_drops:  # no number is touched
            return tokens[:, left[into[left].argsort()]]
        if len(left) < self.old:
            tokens, into, weight = tokens[:, left], into[left], weight[left]
        new = torch.zeros(len(tokens), self.count, tokens.shape[2], dtype=tokens.dtype, device=tokens.device)
        return new.index_add(1, into, tokens * weight[:, None].to(tokens.dtype))

    def back(self, row: Tensor) -> Tensor:
        """A row of weights over the new tokens, carried to the old ones: row · T. (batch, new) -> (batch, old)"""
        return torch.where(self.into >= 0, row[:, self.into.clamp_min(0)] * self.weight.to(row.dtype), 0)

    def then(self, other: Passage) -> Passage:
        """Both in one, this first."""
        gone = self.into < 0
        at = self.into.clamp_min(0)
        into = other.into[at].masked_fill(gone, -1)
        return Passage(into, self.weight * other.weight[at], other.count)

    def owners(self, before: Tensor) -> Tensor:
        """Which token stands for each patch, -1 for none: before this passage -> after it, of the same shape."""
        return torch.where(before >= 0, self.into[before.clamp_min(0)], -1)
