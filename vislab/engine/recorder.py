"""The recorder of one attention module's call: which of the functions called inside it attends, and with what."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .attention import (
    AreaCall,
    Call,
    FusedCall,
    ProjectedCall,
    WeightsCall,
    batch_first,
    exactly,
    kept_mask,
    multi_head_mask,
    repeat_heads,
    wide,
)
from .site import AttentionRefused, Site

_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)
_SOFTMAX = {torch.softmax, torch.Tensor.softmax, F.softmax}
_PRODUCT = {torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm, torch.Tensor.bmm, torch.einsum}
_CASTS = {torch.Tensor.to, torch.Tensor.type_as, torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}
# What recomputed rows may differ by, relative to what uniform attention would change: rounding of the fused kernels.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


class Tap(TorchFunctionMode):
    """Sees the torch functions called inside one attention module, and records and scales the one that attends."""

    def __init__(self, module: nn.Module, entered: Sequence[tuple[Site, float]]) -> None:
        super().__init__()
        self.module = module
        self.sites = [site for site, _ in entered]
        self.scale = math.prod(scale for _, scale in entered)
        self.differentiable = any(site._differentiable for site in self.sites)
        self.bias_kv = isinstance(module, nn.MultiheadAttention) and (module.bias_k is not None or module.add_zero_attn)
        self.product: tuple[Tensor, Tensor, Tensor] | None = None  # of two matrices and its factors, if done just now
        self.call: FusedCall | WeightsCall | None = None  # what the softmax was taken of
        # the softmax's result as it may weigh the values, in whichever dtype, each with its version
        self.casts: list[tuple[Tensor, int | None]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._fused(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._multi_head(*args, **kwargs)
        if func in _SOFTMAX:
            return self._softmax(func, args, kwargs)
        product = func in _PRODUCT and len(args) > 1
        if self.call is not None and product:
            self._product(func, args)
        output = func(*args, **kwargs)
        self.product = (output, *args[:2]) if product and func is not torch.einsum else None
        if func in _CASTS and self._weighing(args[0]) is not None:
            self.casts.append((output, _version(output)))
        return output

    def _begin_graph(self, result: Tensor) -> Tensor:
        """A result that the gradient is taken at; where nothing before it has one, the graph begins here."""
        if self.differentiable and torch.is_grad_enabled() and not torch.is_inference(result):
            result.requires_grad_()
        return result

    def _record(self, call: Call | None, why: str | None = None, result: Tensor | None = None) -> None:
        for site in self.sites:
            site._calls += 1
            if site._calls > 1:
                site.refused = "it attends more than once in one forward"
            elif why is not None:
                site.refused = why
            elif call is not None:
                site._keep(call, result)

    def _unverified(self, call: FusedCall | ProjectedCall, width: int) -> bool:
        """Whether this module is yet to be verified on calls of this form: then it is, once."""
        kept = [site for site in self.sites if site._call is call]
        causal = isinstance(call, FusedCall) and call.causal
        form = (type(call), width, call.shape[1], call.device, call.dtype, call.mask is None, causal)
        if not kept or _verified.get(self.module) == form:
            return False
        for site in kept:
            site._confirm = functools.partial(_verified.__setitem__, self.module, form)
        return True

    def _verify(
        self, call: FusedCall | ProjectedCall, values: Tensor, output: Tensor, then: Callable[[Tensor], Tensor]
    ) -> None:
        """Compare some rows of the recomputed attention, applied to the values, with the output of the call itself.

        values: (batch, heads, keys, dim); output: (batch, queries, …), as `then` makes it of the heads' outputs. The
        error is held against what uniform attention would change, and what rounding alone explains.
        """
        rows = _some_rows(call.shape[2], output.device)
        values = repeat_heads(values, call.shape[1]).to(wide(values.dtype))
        mixed, even = call.attention(rows) @ values, values.mean(2, keepdim=True).expand(-1, -1, len(rows), -1)
        given, mixed, even = output[:, rows].to(values.dtype), then(mixed), then(even)
        rounding = torch.finfo(output.dtype).eps * 2 * max(2.0, call.shape[3] ** 0.5)  # of a sum over the keys
        limit = _TOLERANCE[output.dtype] * (given - even).norm() + rounding * given.norm()
        for site in self.sites:
            if site._call is call:
                site._check = ((given - mixed).norm(), limit)

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        own = query.shape[-1] ** -0.5 if scale is None else scale
        if self.scale != 1:
            scale = own * self.scale
        more = {"enable_gqa": True} if enable_gqa else {}
        output = F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **more)
        self._begin_graph(output)
        if dropout_p > 0:
            self._record(None, "its dropout is active: call eval() on the model first")
        elif query.ndim != 4 or query.shape[0] != key.shape[0] or query.shape[1] % key.shape[1]:
            shapes = f"{tuple(query.shape)} and {tuple(key.shape)}"
            self._record(None, f"queries and keys have shapes {shapes}, not (batch, heads, tokens, dim)")
        else:
            with exactly(query.device):
                mask, values = kept_mask(attn_mask), value.detach() if self.differentiable else None
                call = FusedCall(query.detach(), key.detach(), own * self.scale, mask, is_causal, values)
                self._record(call, result=output)
                if self._unverified(call, query.shape[-1]):
                    self._verify(call, value.detach(), _joined(output.detach()), _joined)
        return output

    def _multi_head(self, *args: Any, **kwargs: Any) -> Any:
        given = _MULTI_HEAD.bind(*args, **kwargs)
        given.apply_defaults()
        a = given.arguments
        width, heads = a["embed_dim_to_check"], a["num_heads"]
        if a["use_separate_proj_weight"]:
            weights = (a["q_proj_weight"], a["k_proj_weight"], a["v_proj_weight"])
        else:
            weights = a["in_proj_weight"].split(width)
        biases: Sequence[Any] = [None] * 3 if a["in_proj_bias"] is None else a["in_proj_bias"].split(width)
        if self.scale != 1:  # scaled queries, through a copy: the module's own weights are never touched
            scaled = weights[0] * self.scale
            if a["use_separate_proj_weight"]:
                a["q_proj_weight"] = scaled
            else:
                a["in_proj_weight"] = torch.cat([scaled, *weights[1:]])
            if biases[0] is not None:
                a["in_proj_bias"] = torch.cat([biases[0] * self.scale, *biases[1:]])
        output = F.multi_head_attention_forward(*given.args, **given.kwargs)
        self._begin_graph(output[0])
        if self.bias_kv or a["static_k"] is not None or a["static_v"] is not None:
            self._record(None, "it adds keys of its own (add_bias_kv or add_zero_attn)")
        elif a["training"] and a["dropout_p"] > 0:
            self._record(None, "its dropout is active: call eval() on the model first")
        else:
            with exactly(a["query"].device):
                dtype = weights[0].dtype  # under autocast the inputs may have another
                query, key, value = (batch_first(a[name]).to(dtype) for name in ("query", "key", "value"))
                mask = multi_head_mask(a["attn_mask"], a["key_padding_mask"], heads, dtype)
                projections = tuple(w.detach() for w in weights)
                offsets = tuple(None if b is None else b.detach() for b in biases)
                call = ProjectedCall(query, key, projections, offsets, heads, mask, self.scale)
                if self.differentiable:
                    call = replace(call, value=value, out=a["out_proj_weight"].detach())
                self._record(call, result=output[0])
                if self._unverified(call, width):
                    values = F.linear(value, weights[2], biases[2]).unflatten(-1, (heads, -1)).transpose(1, 2)
                    weight, bias = a["out_proj_weight"], a["out_proj_bias"]
                    dtype = wide(weight.dtype)
                    bias = None if bias is None else bias.to(dtype)
                    then = functools.partial(_projected, weight=weight.to(dtype), bias=bias)
                    self._verify(call, values, batch_first(output[0]), then)
        return output

    def _softmax(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bare, self.product = self.product, None
        if bare is not None and (not args or args[0] is not bare[0] or bare[1].ndim != 4 or bare[2].ndim != 4):
            bare = None
        if self.scale != 1 and bare is None:
            raise AttentionRefused(
                f"the attention of {self.sites[0].name!r} ({self.sites[0].kind}) cannot be scaled: it makes its own "
                "softmax. Load the model with fused attention (transformers: attn_implementation='sdpa')"
            )
        if self.scale != 1:
            args = (args[0] * self.scale, *args[1:])
        output = func(*args, **kwargs)
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if isinstance(output, Tensor) and output.ndim == 4 and dim in (-1, 3):
            self._begin_graph(output)
            self.call = WeightsCall(output.detach())
            if bare is not None and not self.differentiable:  # the gradient is taken at the weights
                self.call = FusedCall(bare[1].detach(), bare[2].detach().mT, self.scale)
            self.casts = [(output, _version(output))]
            self._record(None, "its softmax is changed before it weighs the values (active dropout, talking heads)")
        return output

    def _product(self, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """A product over the keys with the softmax's own result proves that it is the attention.

        Where that was changed in place, or may have been, the attention is what weighs the values now.
        """
        assert self.call is not None
        if func is torch.einsum:
            weights = self._einsum(*args)
        else:
            left, right = args[:2]
            weights = self._weighing(left)
            if weights is None and right.ndim > 1:
                weights = self._weighing(right.mT)
        if weights is None:
            return
        call = self.call
        if self._unchanged(weights):
            weights = self.casts[0][0]
        else:
            call = WeightsCall(weights.detach())
        for site in self.sites:
            if site._calls == 1:
                site._keep(self._on_map(call), weights)
        self.call, self.casts = None, []

    def _unchanged(self, weights: Tensor) -> bool:
        """Whether the weights are what the softmax made: by their versions, or where nobody counts, on some rows."""
        if not weights.is_inference():
            return all(version == _version(cast) for cast, version in self.casts)
        if isinstance(self.call, WeightsCall):
            return False
        assert self.call is not None
        with exactly(weights.device):
            rows = _some_rows(weights.shape[2], weights.device)
            made, given = self.call.attention(rows), weights[:, :, rows].to(wide(weights.dtype))
            limit = _TOLERANCE[weights.dtype] * (given - given.mean(-1, keepdim=True)).norm()
            return bool((made - given).norm() <= limit + torch.finfo(weights.dtype).eps * given.norm())

    def _on_map(self, call: FusedCall | WeightsCall) -> Call:
        """The call with areas put back on their map: YOLO12's modules say how many, and hold them in the batch."""
        areas = getattr(self.module, "area", 1)
        return AreaCall(call, areas) if type(areas) is int and areas > 1 and call.shape[0] % areas == 0 else call

    def _einsum(self, equation: Any, *operands: Any) -> Tensor | None:
        """The weights that an einsum sums over their keys, together with the values', and over nothing else."""
        if not isinstance(equation, str) or "->" not in equation:
            return None
        left, result = equation.replace(" ", "").split("->")
        terms, factors = left.split(","), operands[0] if isinstance(operands[0], list | tuple) else operands
        for term, factor in zip(terms, factors, strict=True):
            weights, key = self._weighing(factor), term[-1]
            if weights is not None:
                return weights if key not in result and left.count(key) == 2 and set(term[:-1]) <= set(result) else None
        return None

    def _weighing(self, operand: Tensor) -> Tensor | None:
        """The softmax's result that an operand is, rows as rows, be it with batch and heads in one dimension."""
        for cast, _ in self.casts:
            if (
                operand.data_ptr() == cast.data_ptr()
                and operand.shape[-2:] == cast.shape[-2:]
                and operand.stride()[-2:] == cast.stride()[-2:]
            ):
                return cast
        return None


def _some_rows(count: int, device: torch.device) -> Tensor:
    return torch.tensor(sorted({0, count // 3, 2 * count // 3, count - 1}), device=device)


def _version(x: Tensor) -> int | None:
    """How often a tensor was changed in place; of those made under inference_mode nobody counts it."""
    return None if x.is_inference() else x._version


def _joined(heads: Tensor) -> Tensor:
    """(batch, heads, tokens, dim) -> (batch, tokens, heads·dim)."""
    return heads.transpose(1, 2).flatten(2)


def _projected(heads: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Heads joined and through the output projection, as nn.MultiheadAttention does it."""
    return F.linear(_joined(heads), weight, bias)


_verified: WeakKeyDictionary[nn.Module, tuple[Any, ...]] = WeakKeyDictionary()
