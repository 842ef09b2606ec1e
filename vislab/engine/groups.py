"""Grouped heads, which share their keys: a call of theirs as the module means it, however it was laid out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Operands(NamedTuple):
    """What goes into a call of attention and comes out. packed: whether heads stood where queries stand."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    output: Tensor
    packed: bool = False


def grouped(module: nn.Module, operands: Operands) -> Operands:
    """The same call with one row a query and no keys repeated.

    transformers repeats the keys that several heads share, or, for a single query, packs those heads as so many
    queries of one head: (batch, heads, 1, dim) becomes (batch, key heads, group, dim). Which of the two it is, the keys
    tell: repeated ones are equal. query: (batch, heads, 1 or more, dim) afterwards; key, value: (batch, key heads, …).
    """
    query, key, value, mask, output, _ = operands
    group = getattr(module, "num_key_value_groups", 1)
    if not isinstance(group, int) or group < 2 or query.ndim != 4 or key.ndim != 4 or query.shape[1] != key.shape[1]:
        return operands
    if key.shape[1] % group == 0 and _repeated(key, group):
        return Operands(query, key[:, ::group].contiguous(), value[:, ::group].contiguous(), mask, output)
    if query.shape[2] != group:
        return operands
    if mask is not None and mask.ndim == 4 and mask.shape[1] != 1:
        mask = mask.reshape(mask.shape[0], -1, 1, mask.shape[-1])
    query, output = (x.reshape(x.shape[0], -1, 1, x.shape[-1]) for x in (query, output))
    return Operands(query, key, value, mask, output, packed=True)


def _repeated(key: Tensor, group: int) -> bool:
    """Whether each run of so many heads has the same keys, by the first and the last of them."""
    some = key[:, :, [0, -1]].unflatten(1, (-1, group))
    return bool(torch.equal(some, some[:, :, :1].expand_as(some)))
