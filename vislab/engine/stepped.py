"""A StepsCall: what one site did in the forwards of a generation, and the rows of attention recomputed from that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .attention import FusedCall, WeightsCall, wide


@dataclass(frozen=True, eq=False)
class StepsCall:
    """The calls of one site in the forwards of a generation, as one call over all tokens; see `steps`.

    steps: of each forward, its queries (batch, heads, queries, dim), or the weights that it made itself. masks, causal:
    of each. seen: the first of all keys that it saw, and the one after the last. k: the keys of all tokens in the order
    they came, (batch, key heads, keys, dim) each; none where weights are kept.
    """

    steps: tuple[Tensor, ...]
    masks: tuple[Tensor | None, ...]
    causal: tuple[bool, ...]
    seen: tuple[tuple[int, int], ...]
    k: tuple[Tensor, ...]
    scale: float

    @classmethod
    def of(cls, call: FusedCall | WeightsCall) -> StepsCall:
        """The first forward's call."""
        seen = ((0, call.shape[3]),)
        if isinstance(call, WeightsCall):
            return cls((call.weights,), (None,), (False,), seen, (), 1.0)
        return cls((call.q,), (call.mask,), (call.causal,), seen, (call.k,), call.scale)

    def sees(self, call: FusedCall | WeightsCall) -> tuple[int, int] | None:
        """Which of all keys one more forward's call sees; None where they cannot be those of its tokens."""
        (batch, heads, first, _), queries, keys = self.shape, call.shape[2], call.shape[3]
        if call.shape[:2] != (batch, heads) or isinstance(call, FusedCall) != bool(self.k):
            return None
        if self.steps[0].shape[2] != self.seen[0][1]:  # cross-attention: the keys stay the same
            return (0, keys) if keys == self.shape[3] else None
        if first != self.shape[3] or not 0 <= first + queries - keys <= first or (keys < first and not self.k):
            return None
        return first + queries - keys, first + queries

    def extended(self, call: FusedCall | WeightsCall, seen: tuple[int, int]) -> StepsCall:
        """With one more forward's call. Of its keys those of its own tokens are kept, the others are there."""
        more = seen[1] - self.shape[3]
        whole, causal = isinstance(call, FusedCall), isinstance(call, FusedCall) and call.causal
        k = (*self.k, call.k[:, :, -more:].clone()) if isinstance(call, FusedCall) and more else self.k
        return StepsCall(
            (*self.steps, call.q if isinstance(call, FusedCall) else call.weights),
            (*self.masks, call.mask if isinstance(call, FusedCall) else None),
            (*self.causal, whole and causal),
            (*self.seen, seen),
            k,
            self.scale,
        )

    @property
    def held(self) -> Iterator[Tensor | None]:
        """All that is kept, forward by forward: what one more adds comes last."""
        more, total = iter(self.k), 0
        for step, mask, (_, last) in zip(self.steps, self.masks, self.seen, strict=True):
            yield from (step, mask, next(more, None) if last > total else None)
            total = max(total, last)

    @property
    def last(self) -> tuple[Tensor | None, ...]:
        """What the last forward added."""
        grew = self.k and (len(self.seen) == 1 or self.seen[-1][1] > self.seen[-2][1])
        return self.steps[-1], self.masks[-1], self.k[-1] if grew else None

    @property
    def device(self) -> torch.device:
        return self.steps[0].device

    @property
    def dtype(self) -> torch.dtype:
        return self.steps[0].dtype

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        batch, heads, _, _ = self.steps[0].shape
        return batch, heads, sum(step.shape[2] for step in self.steps), max(last for _, last in self.seen)

    @property
    def keys(self) -> Tensor:
        """Of all tokens. -> (batch, key heads, keys, dim)"""
        return torch.cat(self.k, 2) if len(self.k) > 1 else self.k[0]

    def key(self, token: int) -> Tensor:
        """Of one token. -> (batch, key heads, dim)"""
        piece = 0
        while token >= self.k[piece].shape[2]:
            token -= self.k[piece].shape[2]
            piece += 1
        return self.k[piece][:, :, token]

    def whole(self) -> FusedCall:
        """All queries and all keys in one call each, without what hides some keys from a query."""
        return FusedCall(torch.cat(self.steps, 2), self.keys, self.scale)

    def attention(self, rows: slice | Tensor, batch: slice = slice(None)) -> Tensor:
        _, heads, queries, keys = self.shape
        index = torch.arange(queries)[rows if isinstance(rows, slice) else rows.cpu()]
        out = torch.zeros(
            len(range(self.shape[0])[batch]), heads, len(index), keys, dtype=wide(self.dtype), device=self.device
        )
        k, start = self.keys if self.k else None, 0
        for step, mask, causal, (first, last) in zip(self.steps, self.masks, self.causal, self.seen, strict=True):
            at = ((index >= start) & (index < start + step.shape[2])).nonzero().squeeze(1)
            if len(at):
                call = (
                    WeightsCall(step) if k is None else FusedCall(step, k[:, :, first:last], self.scale, mask, causal)
                )
                own = (index[at] - start).to(self.device)
                out[:, :, at.to(self.device), first:last] = call.attention(own, batch)
            start += step.shape[2]
        return out
