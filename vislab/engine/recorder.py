"""The recorder of one run of an attention module: which of the functions called inside it attends, and with what."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import (
    AreaCall,
    Call,
    FusedCall,
    ProjectedCall,
    WeightsCall,
    batch_first,
    kept_mask,
    multi_head_mask,
    uncast,
    wide,
)
from .recording import Recording, Visit
from .site import AttentionRefused, Refused, Unproven
from .softmax import SOFTMAX, Trail
from .verification import Check, verification

_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)
_DROPOUT = Refused("its dropout is active: call eval() on the model first")


class Recorder:
    """Sees the torch functions called inside one attention module, and records and scales the one that attends.

    visits: of all captures that watch the module. Their attention scales multiply.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.visits: list[Visit] = []
        self.scale = 1.0
        self.gradients = False
        self._recordings: list[Recording] = []
        self._trail = Trail()

    def join(self, recording: Recording, name: str) -> None:
        """One more capture takes part, in which the module has this name."""
        visit = recording.visit(name, self.module)
        self._recordings.append(recording)
        self.visits.append(visit)
        self.scale *= visit.scale
        self.gradients |= visit.gradients

    def records_for(self, recording: Recording) -> bool:
        """Whether a capture takes part."""
        return any(recording is other for other in self._recordings)

    def see(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a torch function returns, called as the captures want it."""
        if func is F.scaled_dot_product_attention:
            return self._fused(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._multi_head(*args, **kwargs)
        if func in SOFTMAX:
            return self._softmax(func, args, kwargs)
        seen = self._trail.weighing(func, args)
        if seen is not None:
            call = self._on_map(seen.call)
            for visit in self.visits:
                visit.site.prove(visit.outcome(call, result=seen.weights))
        output = func(*args, **kwargs)
        self._trail.follow(func, args, output)
        return output

    def _record(self, call: Call, check: Check | None, result: Tensor) -> None:
        for visit in self.visits:
            visit.site.attend(visit.outcome(call, check, result))

    def _refuse(self, state: Refused) -> None:
        for visit in self.visits:
            visit.site.attend(state)

    def _begin_graph(self, result: Tensor) -> None:
        """Of a result that the gradient is taken at; where nothing before it has one, the graph begins here."""
        if self.gradients and torch.is_grad_enabled() and not torch.is_inference(result):
            result.requires_grad_()

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
            self._refuse(_DROPOUT)
        elif query.ndim != 4 or query.shape[0] != key.shape[0] or query.shape[1] % key.shape[1]:
            shapes = f"{tuple(query.shape)} and {tuple(key.shape)}"
            self._refuse(Refused(f"queries and keys have shapes {shapes}, not (batch, heads, tokens, dim)"))
        else:
            with torch.no_grad(), uncast(query.device):
                mask, values = kept_mask(attn_mask), value.detach() if self.gradients else None
                call = FusedCall(query.detach(), key.detach(), own * self.scale, mask, is_causal, values)
                check = verification(self.module, call, lambda: (value.detach(), _joined(output.detach()), _joined))
                self._record(call, check, output)
        return output

    def _multi_head(self, *args: Any, **kwargs: Any) -> Any:
        bound = _MULTI_HEAD.bind(*args, **kwargs)
        bound.apply_defaults()
        a = bound.arguments
        projections, offsets = _projections(a)
        if self.scale != 1:
            _scale_queries(a, projections, offsets, self.scale)
        output = F.multi_head_attention_forward(*bound.args, **bound.kwargs)
        self._begin_graph(output[0])
        if a["bias_k"] is not None or a["add_zero_attn"] or a["static_k"] is not None or a["static_v"] is not None:
            self._refuse(Refused("it adds keys of its own (add_bias_kv or add_zero_attn)"))
        elif a["training"] and a["dropout_p"] > 0:
            self._refuse(_DROPOUT)
        else:
            with torch.no_grad(), uncast(a["query"].device):
                call, value = self._projected_call(a, projections, offsets)
                check = verification(self.module, call, functools.partial(_projected, a, call, value, output[0]))
                self._record(call, check, output[0])
        return output

    def _projected_call(
        self, a: dict[str, Any], projections: Sequence[Tensor], offsets: Sequence[Tensor | None]
    ) -> tuple[ProjectedCall, Tensor]:
        """The call with the arguments of nn.MultiheadAttention's function, and the values' input."""
        dtype, heads = projections[0].dtype, a["num_heads"]  # under autocast the inputs may have another dtype
        query, key, value = (batch_first(a[name]).to(dtype) for name in ("query", "key", "value"))
        mask = multi_head_mask(a["attn_mask"], a["key_padding_mask"], heads, dtype)
        weights = tuple(w.detach() for w in projections)
        biases = tuple(None if b is None else b.detach() for b in offsets)
        call = ProjectedCall(query, key, weights, biases, heads, mask, self.scale)
        if self.gradients:
            call = replace(call, value=value, out=a["out_proj_weight"].detach())
        return call, value

    def _softmax(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        product = self._trail.logits(args)
        if self.scale != 1:
            if product is None:
                site = self.visits[0].site
                raise AttentionRefused(
                    f"the attention of {site.name!r} ({site.kind}) cannot be scaled: it makes its own "
                    "softmax. Load the model with fused attention (transformers: attn_implementation='sdpa')"
                )
            args = (args[0] * self.scale, *args[1:])
        output = func(*args, **kwargs)
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if isinstance(output, Tensor) and output.ndim == 4 and dim in (-1, 3):
            self._begin_graph(output)
            if product is None or self.gradients:  # the gradient is taken at the weights
                self._trail.start(WeightsCall(output.detach()), output)
            else:
                queries, keys = product.left.detach(), product.right.detach().mT
                self._trail.start(FusedCall(queries, keys, self.scale), output)
            self._refuse(Unproven())
        return output

    def _on_map(self, call: FusedCall | WeightsCall) -> Call:
        """The call with areas put back on their map: YOLO12's modules say how many, and hold them in the batch."""
        areas = getattr(self.module, "area", 1)
        return AreaCall(call, areas) if type(areas) is int and areas > 1 and call.shape[0] % areas == 0 else call


def _projections(a: dict[str, Any]) -> tuple[Sequence[Tensor], Sequence[Any]]:
    """Weights and biases of the query, key and value projections, of a call of multi_head_attention_forward."""
    width = a["embed_dim_to_check"]
    if a["use_separate_proj_weight"]:
        weights = (a["q_proj_weight"], a["k_proj_weight"], a["v_proj_weight"])
    else:
        weights = a["in_proj_weight"].split(width)
    return weights, (None,) * 3 if a["in_proj_bias"] is None else a["in_proj_bias"].split(width)


def _scale_queries(a: dict[str, Any], weights: Sequence[Tensor], biases: Sequence[Any], scale: float) -> None:
    """Arguments with scaled queries, through copies: the module's own weights are never touched."""
    scaled = weights[0] * scale
    if a["use_separate_proj_weight"]:
        a["q_proj_weight"] = scaled
    else:
        a["in_proj_weight"] = torch.cat([scaled, *weights[1:]])
    if biases[0] is not None:
        a["in_proj_bias"] = torch.cat([biases[0] * scale, *biases[1:]])


def _projected(
    a: dict[str, Any], call: ProjectedCall, value: Tensor, output: Tensor
) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Values, output and the way between them, of a call of nn.MultiheadAttention, for its verification."""
    values = F.linear(value, call.weights[2], call.biases[2]).unflatten(-1, (call.heads, -1)).transpose(1, 2)
    weight, bias = a["out_proj_weight"], a["out_proj_bias"]
    dtype = wide(weight.dtype)
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    return values, batch_first(output), lambda heads: F.linear(_joined(heads), weight, bias)


def _joined(heads: Tensor) -> Tensor:
    """(batch, heads, tokens, dim) -> (batch, tokens, heads·dim)."""
    return heads.transpose(1, 2).flatten(2)
