"""Calls of nn.MultiheadAttention: its arguments, scaled where a capture wants it, and what is kept of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import ProjectedCall, batch_first, joined, multi_head_mask, wide

_SIGNATURE = inspect.signature(F.multi_head_attention_forward)


class MultiHead:
    """One call of F.multi_head_attention_forward, by its arguments."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._bound = _SIGNATURE.bind(*args, **kwargs)
        self._bound.apply_defaults()
        self._a = self._bound.arguments
        self._weights, self._biases = self._projections()

    @property
    def device(self) -> torch.device:
        return self._a["query"].device

    @property
    def dropout(self) -> bool:
        """Whether its dropout is active."""
        return bool(self._a["training"] and self._a["dropout_p"] > 0)

    @property
    def more_keys(self) -> bool:
        """Whether it attends to keys that it was not given."""
        a = self._a
        return a["bias_k"] is not None or a["add_zero_attn"] or a["static_k"] is not None or a["static_v"] is not None

    def run(self, func: Callable[..., Any], scale: float) -> Any:
        """What the function returns, its queries scaled through copies: the module's own weights are never touched."""
        a, weights, biases = dict(self._a), self._weights, self._biases
        if scale != 1:
            if a["use_separate_proj_weight"]:
                a["q_proj_weight"] = weights[0] * scale
            else:
                a["in_proj_weight"] = torch.cat([weights[0] * scale, *weights[1:]])
            if biases[0] is not None:
                a["in_proj_bias"] = torch.cat([biases[0] * scale, *biases[1:]])
        return func(**a)

    def call(self, scale: float, *, gradients: bool) -> ProjectedCall:
        """What is kept of it."""
        a, heads = self._a, self._a["num_heads"]
        dtype = self._weights[0].dtype  # under autocast the inputs may have another one
        query, key = (batch_first(a[name]).to(dtype) for name in ("query", "key"))
        mask = multi_head_mask(a["attn_mask"], a["key_padding_mask"], heads, dtype)
        weights = tuple(w.detach() for w in self._weights)
        biases = tuple(None if b is None else b.detach() for b in self._biases)
        call = ProjectedCall(query, key, weights, biases, heads, mask, scale)
        return replace(call, value=self._value(), out=a["out_proj_weight"].detach()) if gradients else call

    def operands(self, call: ProjectedCall, output: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """Values, output and the way between them, for the call's verification."""
        a = self._a
        values = torch.nn.functional.linear(self._value(), call.weights[2], call.biases[2])
        dtype = wide(a["out_proj_weight"].dtype)
        weight = a["out_proj_weight"].to(dtype)
        bias = None if a["out_proj_bias"] is None else a["out_proj_bias"].to(dtype)
        by_head = values.unflatten(-1, (call.heads, -1)).transpose(1, 2)
        return by_head, batch_first(output), lambda heads: F.linear(joined(heads), weight, bias)

    def _value(self) -> Tensor:
        return batch_first(self._a["value"]).to(self._weights[0].dtype)

    def _projections(self) -> tuple[Sequence[Tensor], Sequence[Any]]:
        """Weights and biases of the query, key and value projections."""
        a = self._a
        if a["use_separate_proj_weight"]:
            weights = [a["q_proj_weight"], a["k_proj_weight"], a["v_proj_weight"]]
        else:
            weights = list(a["in_proj_weight"].chunk(3))
        return weights, [None] * 3 if a["in_proj_bias"] is None else list(a["in_proj_bias"].chunk(3))
