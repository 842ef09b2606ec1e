"""One call of attention: what went into it, and the rows of attention recomputed from that.

Memory is O(n): a row of attention is made when someone asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from .stepped import StepsCall


@dataclass(frozen=True, eq=False)
class FusedCall:
    """What went into one call of fused attention. q: (batch, heads, queries, dim), k: (batch, heads, keys, dim).

    v: (batch, heads, keys, dim) values, kept where gradients are asked for.
    """

    q: Tensor
    k: Tensor
    scale: float
    mask: Tensor | None = None
    causal: bool = False
    v: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.q.device

    @property
    def dtype(self) -> torch.dtype:
        return self.q.dtype

    @property
    def shape(self) -> tuple[int, int, int, int]:
        batch, heads, queries, _ = self.q.shape
        return batch, heads, queries, self.k.shape[2]

    @property
    def width(self) -> int:
        """Of one head's queries and keys."""
        return self.q.shape[3]

    @property
    def plain(self) -> bool:
        """Whether the logits are q·kᵀ alone and lie on the CPU."""
        return self.mask is None and not self.causal and self.device.type == "cpu"

    def bias(self, rows: slice | Tensor, batch: slice) -> Tensor | None:
        """What is added to the logits of those rows, broadcastable to (batch, heads, rows, keys)."""
        bias = None
        if self.mask is not None:
            full = self.mask.expand(*self.shape[:2], *self.mask.shape[-2:])[batch]
            full = full[:, :, rows] if full.shape[2] > 1 else full
            bias = additive(full, wide(self.q.dtype))
        if self.causal:
            index = torch.arange(self.shape[2], device=self.q.device)[rows]
            later = torch.arange(self.shape[3], device=self.q.device) > index[:, None]
            hidden = torch.zeros(later.shape, dtype=wide(self.q.dtype), device=self.q.device)
            hidden.masked_fill_(later, -torch.inf)
            bias = hidden if bias is None else bias + hidden
        return bias

    def attention(self, rows: slice | Tensor, batch: slice = slice(None)) -> Tensor:
        dtype = wide(self.q.dtype)
        q = self.q[batch][:, :, rows].to(dtype)
        k = repeat_heads(self.k[batch], self.shape[1]).to(dtype)
        logits = (q * self.scale) @ k.mT
        bias = self.bias(rows, batch)
        if bias is None:
            return logits.softmax(-1)
        nothing = bias.isneginf().all(-1, keepdim=True)  # such a query attends to nothing, as in the fused call
        return (logits + bias).softmax(-1).masked_fill(nothing, 0)

    def gradient(self, upstream: Tensor, rows: slice | Tensor, batch: slice = slice(None)) -> Tensor:
        """The gradient at rows of the attention. upstream: at the heads' outputs, (batch, heads, queries, dim)."""
        assert self.v is not None
        dtype = wide(self.v.dtype)
        values = repeat_heads(self.v[batch], self.shape[1])
        return upstream[batch][:, :, rows].to(dtype) @ values.to(dtype).mT


@dataclass(frozen=True, eq=False)
class ProjectedCall:
    """A call of nn.MultiheadAttention, whose queries and keys are projected when someone asks.

    query, key: (batch, tokens, width) inputs; weights and biases: of the query, key and value projections. value, out:
    the values' input and the weight of the output projection, kept where gradients are asked for.
    """

    query: Tensor
    key: Tensor
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    heads: int
    mask: Tensor | None
    factor: float
    value: Tensor | None = None
    out: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.query.device

    @property
    def dtype(self) -> torch.dtype:
        return self.query.dtype

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.query.shape[0], self.heads, self.query.shape[1], self.key.shape[1]

    @property
    def width(self) -> int:
        """Of all heads' queries and keys together."""
        return self.weights[0].shape[0]

    def project(self) -> FusedCall:
        q, k, v = (
            None if x is None else self._by_head(F.linear(x, w, b))
            for x, w, b in zip((self.query, self.key, self.value), self.weights, self.biases, strict=True)
        )
        assert q is not None
        assert k is not None
        return FusedCall(q, k, self.factor * q.shape[-1] ** -0.5, self.mask, v=v)

    def at_heads(self, upstream: Tensor) -> Tensor:
        """A gradient at the module's output, (queries, batch, width), as the gradient at the heads' outputs."""
        assert self.out is not None
        return self._by_head(batch_first(upstream).to(self.out.dtype) @ self.out)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attention(self, rows: slice | Tensor) -> Tensor:
        return self.project().attention(rows)

    def gradient(self, upstream: Tensor, rows: slice | Tensor) -> Tensor:
        return self.project().gradient(upstream, rows)


@dataclass(frozen=True, eq=False)
class WeightsCall:
    """The attention that a module without fused attention made itself. weights: (batch, heads, queries, keys).

    Its rows are copies: whoever changes them in place leaves the weights what they were.
    """

    weights: Tensor

    @property
    def device(self) -> torch.device:
        return self.weights.device

    @property
    def dtype(self) -> torch.dtype:
        return self.weights.dtype

    @property
    def shape(self) -> tuple[int, int, int, int]:
        batch, heads, queries, keys = self.weights.shape
        return batch, heads, queries, keys

    def attention(self, rows: slice | Tensor, batch: slice = slice(None)) -> Tensor:
        return self.weights[batch][:, :, rows].to(wide(self.dtype), copy=True)

    def gradient(self, upstream: Tensor, rows: slice | Tensor, batch: slice = slice(None)) -> Tensor:
        """The gradient at rows of the attention. upstream: at the attention itself."""
        return upstream[batch][:, :, rows].to(wide(self.dtype), copy=True)


@dataclass(frozen=True, eq=False)
class WindowCall:
    """Attention within windows of a map (Swin, ViTDet), or within consecutive areas of it (YOLO12).

    inner: (batch·windows, heads, tokens of a window, the same). place: (windows, tokens of a window), where on the map
    each token lies. Put back on the map, a row is zero outside its window.
    """

    inner: FusedCall | WeightsCall
    place: Tensor

    @property
    def device(self) -> torch.device:
        return self.inner.device

    @property
    def dtype(self) -> torch.dtype:
        return self.inner.dtype

    @property
    def windows(self) -> int:
        return len(self.place)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        batch, heads, tokens, _ = self.inner.shape
        return batch // self.windows, heads, tokens * self.windows, tokens * self.windows

    def attention(self, rows: slice | Tensor, batch: slice = slice(None)) -> Tensor:
        folded, heads, size, _ = self.inner.shape
        order = self.place.flatten().argsort()  # of the places on the map, which token of which window lies there
        wanted = order[torch.arange(len(order))[rows]]
        images = range(folded // self.windows)[batch]
        out = torch.zeros(len(images), heads, len(wanted), len(order), dtype=wide(self.dtype), device=self.device)
        for window in (wanted // size).unique().tolist():
            at = (wanted // size == window).nonzero().squeeze(1)
            own = range(window, folded, self.windows)[batch]
            block = self.inner.attention(wanted[at] % size, slice(own.start, own.stop, own.step))
            out[:, :, at[:, None], self.place[window]] = block
        return out

    def unfolded(self) -> FusedCall | WeightsCall:
        """The inner call with all windows' queries and keys in one row each, as tokens of the map."""
        if isinstance(self.inner, WeightsCall):
            return self.inner
        order = self.place.flatten().argsort()
        q, k = (
            x.unflatten(0, (-1, self.windows)).transpose(1, 2).flatten(2, 3)[:, :, order]
            for x in (self.inner.q, self.inner.k)
        )
        return FusedCall(q, k, self.inner.scale)


Differentiable = FusedCall | ProjectedCall | WeightsCall
Call: TypeAlias = "Differentiable | WindowCall | StepsCall"


def uncast(device: torch.device) -> torch.autocast:
    """Arithmetic inside somebody's autocast in the dtypes that are written; to be entered together with no_grad."""
    return torch.autocast(device.type, enabled=False)


def versions(call: Call) -> tuple[int, ...]:
    """How often what the call holds was changed in place; of tensors made under inference_mode nobody counts it."""
    if isinstance(call, WindowCall):
        call = call.inner
    held = getattr(call, "held", None)  # of the forwards of a generation, in their order
    parts: list[Any] = []
    for one in vars(call).values() if held is None else held:
        parts += one if isinstance(one, tuple) else (one,)
    return count(parts)


def count(parts: Iterable[Any]) -> tuple[int, ...]:
    """How often each tensor among some parts of a call was changed in place."""
    return tuple([part._version for part in parts if isinstance(part, Tensor) and not part.is_inference()])


def repeat_heads(x: Tensor, heads: int) -> Tensor:
    """Grouped keys or values, repeated for each query head."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def batch_first(x: Tensor) -> Tensor:
    """(tokens, batch, width), or (tokens, width) -> (batch, tokens, width)."""
    x = x.detach()
    return x[None] if x.ndim == 2 else x.transpose(0, 1)


def joined(heads: Tensor) -> Tensor:
    """(batch, heads, tokens, dim) -> (batch, tokens, heads·dim)."""
    return heads.transpose(1, 2).flatten(2)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which attention is recomputed: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def kept_mask(mask: Tensor | None) -> Tensor | None:
    """A copy of a mask (some models change theirs in place from layer to layer), without what is only broadcast."""
    if mask is None:
        return None
    mask = mask.detach().reshape(*(1,) * (4 - mask.ndim), *mask.shape)
    for dim in range(4):
        if mask.stride(dim) == 0:
            mask = mask.narrow(dim, 0, 1)
    return mask.clone()


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as what is added to the logits; of a boolean one, True takes part."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)


def multi_head_mask(mask: Tensor | None, padding: Tensor | None, heads: int, dtype: torch.dtype) -> Tensor | None:
    """nn.MultiheadAttention's two masks as one additive (batch, heads, queries, keys); of a boolean, True is hidden."""
    parts = []
    if mask is not None:
        mask = ~mask if mask.dtype == torch.bool else mask
        parts.append(additive(mask.unflatten(0, (-1, heads)) if mask.ndim == 3 else mask[None, None], wide(dtype)))
    if padding is not None:
        padding = ~padding if padding.dtype == torch.bool else padding
        parts.append(additive(padding[None] if padding.ndim == 1 else padding, wide(dtype))[:, None, None])
    return kept_mask(sum(parts[1:], parts[0])) if parts else None
