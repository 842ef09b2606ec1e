"""Rows of weights carried through attention, layer by layer, in blocks that are dropped at once: O(n) memory."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .attention import Call, Differentiable, FusedCall, ProjectedCall, repeat_heads

Fusion = Literal["mean", "max", "min"]
_BLOCK = 512 * 1024  # attention values a thread computes at a time in rollout: 2 MB of float32 stay in the cache


def carried(call: Call, row: Tensor, head: Fusion, discard: float, prefix: int) -> Tensor:
    """row · A, where A is the attention with its heads fused. row: (batch, queries) -> (batch, keys)."""
    if isinstance(call, ProjectedCall):
        call = call.project()
    out = row.new_zeros(len(row), call.shape[3])
    for b in range(len(row)):
        index = row[b].nonzero().squeeze(1)  # at the last layer a single query
        if head == "mean" and discard == 0 and isinstance(call, FusedCall) and call.plain:
            out[b] = _carried_plain(call, b, index, row[b, index])
            continue
        for rows in index.split(_rows_at_a_time(call, row.device)):
            block = call.attention(rows, slice(b, b + 1)).to(row.dtype)[0]
            fused = block.mean(0) if head == "mean" else block.amax(0) if head == "max" else block.amin(0)
            if discard:
                fused = _discarded(fused, discard, prefix)
            sums = fused.sum(1)
            out[b] += torch.where(sums > 0, row[b, rows] / sums, 0) @ fused
    return out


def carried_positive(call: Differentiable, upstream: Tensor, row: Tensor, *, normalised: bool = False) -> Tensor:
    """row · Ā, where Ā is the mean over the heads of attention × the positive part of its gradient.

    upstream: the gradient that the call's `gradient` takes. row: (batch, n) -> (batch, keys). normalised: each row
    of Ā divided by its sum; a query without any positive gradient then keeps what it carries.
    """
    if isinstance(call, ProjectedCall):
        call = call.project()
    out, size = row.new_zeros(len(row), call.shape[3]), _rows_at_a_time(call, row.device)
    for b in range(len(row)):
        one = slice(b, b + 1)
        for rows in row[b].nonzero().squeeze(1).split(size):
            block = call.attention(rows, one) * call.gradient(upstream, rows, one).relu()
            fused, weights = block[0].mean(0), row[b, rows]
            if normalised:
                sums = fused.sum(1)
                out[b, rows] += torch.where(sums > 0, 0, weights)
                weights = torch.where(sums > 0, weights / sums, 0)
            out[b] += weights @ fused.to(row.dtype)
    return out


def _rows_at_a_time(call: Call, device: torch.device) -> int:
    """How many rows of attention, of all heads, are made in one block."""
    _, heads, _, keys = call.shape
    return max(1, (_BLOCK if device.type == "cpu" else 64 * _BLOCK) // (heads * keys))


def queries_read(upstream: Tensor) -> Tensor:
    """Which queries a score reads, (batch, queries). upstream: the gradient at a call, (batch, heads, queries, …)."""
    return upstream.abs().amax((1, 3)) > 0


def _carried_plain(call: FusedCall, b: int, index: Tensor, weights: Tensor) -> Tensor:
    """weights · A for image `b`, as `carried` has it for the mean of the heads, but with fewer passes -> (tokens,).

    index: the queries whose weight is not 0. weights: one for each of them. No maximum is looked for: softmax stays the
    same when one vector is subtracted from all keys, and when that is their mean, a row's logits have mean 0, so its n
    exponentials sum to at least n and can only overflow. No row is divided by its sum: its weight is.
    """
    _, heads, query_count, tokens = call.shape
    dtype = weights.dtype
    size = max(16, min(len(index), _BLOCK // tokens))
    # A batched product gives each thread heads of its own, whose block stays in that core's cache.
    group = min(heads, max(1, torch.get_num_threads() * _BLOCK // (size * tokens)))
    buffer = torch.empty(group * size * tokens, dtype=dtype)
    out = torch.zeros(heads, 1, tokens, dtype=dtype)
    q = call.q[b] if len(index) == query_count else call.q[b, :, index]
    k = repeat_heads(call.k[b : b + 1], heads)[0]
    for h in range(0, heads, group):
        queries = q[h : h + group].to(dtype) * (call.scale * math.log2(math.e))  # torch's exp2 is faster than its exp
        keys = k[h : h + group].to(dtype)
        keys = (keys - keys.mean(1, keepdim=True)).mT
        for start in range(0, len(index), size):
            some = queries[:, start : start + size]
            shape = (*some.shape[:2], tokens)
            block = torch.bmm(some, keys, out=buffer[: math.prod(shape)].view(shape)).exp2_()
            sums = block.sum(2)
            if not float(sums.max()) < 1e30:  # near overflow, or NaN: again, with the maximum subtracted
                block = torch.bmm(some, keys, out=block)
                block = block.sub_(block.amax(2, keepdim=True)).exp2_()
                sums = block.sum(2)
            out[h : h + group].baddbmm_((weights[start : start + size] / sums)[:, None], block)
    return out.mean((0, 1))


def _discarded(rows: Tensor, discard: float, prefix: int) -> Tensor:
    """Each row without the lowest `discard` share of its values; the first `prefix` columns are exempt."""
    count = int(discard * (rows.shape[1] - prefix))
    if count == 0:
        return rows
    lowest = rows[:, prefix:].topk(count, dim=1, largest=False).indices + prefix
    return rows.scatter(1, lowest, 0.0)
