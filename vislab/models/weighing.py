"""Attention that counts merged tokens by their size, and leaves heads out: what goes into its call, and comes out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FUSED, _MULTI_HEAD = F.scaled_dot_product_attention, F.multi_head_attention_forward
_SIGNATURES = {
    _FUSED: inspect.signature(
        lambda query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False: None
    ),
    _MULTI_HEAD: inspect.signature(_MULTI_HEAD),
}


class Weighing(TorchFunctionMode):
    """Changes the calls of attention between `begin` and `end` of a block.

    The logarithm of a key's size is added to its logits (proportional attention, Bolya et al. 2023, section 3); the
    output of heads that are off is zero before the output projection. off: {layer: heads}.
    """

    def __init__(self, off: Mapping[int, Sequence[int]]) -> None:
        super().__init__()
        self._off, self._at, self._seen = off, -1, False
        self._bias: Tensor | None = None

    def begin(self, at: int, sizes: Tensor) -> None:
        """A block runs, on tokens that stand for so many patches each. sizes: (images, tokens)"""
        self._at, self._seen = at, False
        self._bias = sizes.log() if bool((sizes > 1).any()) else None

    def end(self) -> str:
        """The block has run -> the setting that it was to heed, where no call that can be changed was seen, else ""."""
        setting = "heads_off" if self._off.get(self._at) else "merge" if self._bias is not None else ""
        self._at = -1
        return "" if self._seen else setting

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _SIGNATURES or self._at < 0:
            return func(*args, **kwargs)
        bound = _SIGNATURES[func].bind(*args, **kwargs)
        bound.apply_defaults()
        a, heads, self._seen = bound.arguments, self._off.get(self._at, ()), True
        if self._bias is not None:
            bias = self._bias.to(a["query"].dtype)[:, None, None]
            if func is _MULTI_HEAD:
                bias = bias.expand(-1, a["num_heads"], bias.shape[-1], -1).flatten(0, 1)
            a["attn_mask"] = bias if a["attn_mask"] is None else bias + a["attn_mask"]
        if func is _FUSED:
            output = func(**a)
            return output * _on(heads, output.shape[1], output)[:, None, None] if heads else output
        if heads:
            on = _on(heads, a["num_heads"], a["out_proj_weight"])
            a["out_proj_weight"] = a["out_proj_weight"] * on.repeat_interleave(a["embed_dim_to_check"] // len(on))
        return func(**a)


def _on(heads: Sequence[int], count: int, like: Tensor) -> Tensor:
    """1 for each head, and 0 for those that are off. -> (count,)"""
    on = torch.ones(count, dtype=like.dtype, device=like.device)
    on[list(heads)] = 0
    return on
