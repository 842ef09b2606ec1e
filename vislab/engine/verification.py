"""Verification of a call: some recomputed rows, applied to the values, must give the module's own output."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .attention import FusedCall, ProjectedCall, repeat_heads, wide

NOT_FINITE = "it holds NaN or infinite values: look for them in the weights and the pixels"
# What recomputed rows may differ by, relative to what uniform attention would change: rounding of the fused kernels.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True, eq=False)
class Check:
    """How far the recomputed output of a call is from its own, and how far it may be: two numbers on its device."""

    error: Tensor
    limit: Tensor

    @functools.cached_property
    def failure(self) -> str | None:
        """Why the call is not what it seems, or None. Worked out when first read: no forward waits for a device."""
        error, limit = float(self.error), float(self.limit)
        if not (math.isfinite(error) and math.isfinite(limit)):
            return NOT_FINITE
        if error > limit:
            return (
                f"recomputed from its queries and keys it does not give the module's output (error {error:.2g}, "
                f"limit {limit:.2g}): the module does something else with them"
            )
        return None


_checks: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], Check]] = WeakKeyDictionary()


def verification(
    module: nn.Module,
    call: FusedCall | ProjectedCall,
    operands: Callable[[], tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]],
) -> Check | None:
    """The check of a call, or None where one of this form passed in the module's last verified forward.

    operands: the values, the output and the way from the heads' outputs to it, as `compared` takes them.
    """
    causal = isinstance(call, FusedCall) and call.causal
    form = (type(call), call.width, call.shape[1], call.device, call.dtype, call.mask is None, causal)
    known = _checks.get(module)
    if known is not None and known[0] == form and known[1].failure is None:
        return None
    check = compared(call, *operands())
    _checks[module] = (form, check)
    return check


def compared(
    call: FusedCall | ProjectedCall, values: Tensor, output: Tensor, outward: Callable[[Tensor], Tensor]
) -> Check:
    """Some rows of the recomputed attention, applied to the values, against the output of the call itself.

    values: (batch, heads, keys, dim); output: (batch, queries, …), as `outward` makes it of the heads' outputs. The
    error is held against what uniform attention would change, and what rounding alone explains.
    """
    rows = some_rows(call.shape[2], output.device)
    values = repeat_heads(values, call.shape[1]).to(wide(values.dtype))
    mixed, even = call.attention(rows) @ values, values.mean(2, keepdim=True).expand(-1, -1, len(rows), -1)
    own, mixed, even = output[:, rows].to(values.dtype), outward(mixed), outward(even)
    rounding = torch.finfo(output.dtype).eps * 2 * max(2.0, call.shape[3] ** 0.5)  # of a sum over the keys
    limit = TOLERANCE[output.dtype] * (own - even).norm() + rounding * own.norm()
    return Check((own - mixed).norm(), limit)


@functools.lru_cache
def some_rows(count: int, device: torch.device) -> Tensor:
    """Up to four indices of queries, from the first to the last."""
    with torch.inference_mode(False):  # kept: also of use where gradients are taken
        return torch.tensor(sorted({0, count // 3, 2 * count // 3, count - 1}), device=device)
