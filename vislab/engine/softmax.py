"""An explicit softmax, followed from the product that it is taken of to the values that it weighs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import FusedCall, WeightsCall, uncast, wide
from .verification import TOLERANCE, some_rows

SOFTMAX = {torch.softmax, torch.Tensor.softmax, F.softmax}
_PRODUCT = {torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm, torch.Tensor.bmm, torch.einsum}
_CASTS = {torch.Tensor.to, torch.Tensor.type_as, torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}


class Product(NamedTuple):
    """A product of two matrices."""

    result: Tensor
    left: Tensor
    right: Tensor


class Weighing(NamedTuple):
    """What weighed the values: the call that made the weights, and the weights in the graph."""

    call: FusedCall | WeightsCall
    weights: Tensor


class Trail:
    """The way of one module's softmax: a product, the softmax, its casts, the product with the values."""

    def __init__(self) -> None:
        self._product: Product | None = None  # made by the last function
        self._call: FusedCall | WeightsCall | None = None  # what the softmax is the result of
        # the softmax's result as it may weigh the values, in whichever dtype, each with its version
        self._casts: list[tuple[Tensor, int | None]] = []

    def logits(self, args: tuple[Any, ...]) -> Product | None:
        """The bare product of queries and keys that a softmax is taken of, or None; asked once, before the softmax."""
        product, self._product = self._product, None
        if product is None or not args or args[0] is not product.result:
            return None
        return product if product.left.ndim == product.right.ndim == 4 else None

    def start(self, call: FusedCall | WeightsCall, output: Tensor) -> None:
        """A softmax was made, as this call makes its rows."""
        self._call, self._casts = call, [(output, _version(output))]

    def weighing(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Weighing | None:
        """What a function that is about to run weighs the values by, where it does.

        A product over the keys with the softmax's own result proves that it is the attention. Where that was changed in
        place, or may have been, the attention is what weighs the values now.
        """
        if self._call is None or func not in _PRODUCT or len(args) < 2:
            return None
        if func is torch.einsum:
            weights = self._summed(*args)
        else:
            left, right = args[:2]
            weights = self._cast(left)
            if weights is None and right.ndim > 1:
                weights = self._cast(right.mT)
        if weights is None:
            return None
        if self._unchanged(weights):
            seen = Weighing(self._call, self._casts[0][0])
        else:
            seen = Weighing(WeightsCall(weights.detach()), weights)
        self._call, self._casts = None, []
        return seen

    def follow(self, func: Callable[..., Any], args: tuple[Any, ...], output: Any) -> None:
        """A function has run."""
        bare = func in _PRODUCT and len(args) > 1 and func is not torch.einsum
        self._product = Product(output, *args[:2]) if bare else None
        if func in _CASTS and self._cast(args[0]) is not None:
            self._casts.append((output, _version(output)))

    def _unchanged(self, weights: Tensor) -> bool:
        """Whether the weights are what the softmax made: by their versions, or where nobody counts, on some rows."""
        if not weights.is_inference():
            return all(version == _version(cast) for cast, version in self._casts)
        if not isinstance(self._call, FusedCall):
            return False
        with torch.no_grad(), uncast(weights.device):
            rows = some_rows(weights.shape[2], weights.device)
            made, now = self._call.attention(rows), weights[:, :, rows].to(wide(weights.dtype))
            limit = TOLERANCE[weights.dtype] * (now - now.mean(-1, keepdim=True)).norm()
            return bool((made - now).norm() <= limit + torch.finfo(weights.dtype).eps * now.norm())

    def _summed(self, equation: Any, *operands: Any) -> Tensor | None:
        """The weights that an einsum sums over their keys, together with the values', and over nothing else."""
        if not isinstance(equation, str) or "->" not in equation:
            return None
        left, result = equation.replace(" ", "").split("->")
        terms, factors = left.split(","), operands[0] if isinstance(operands[0], list | tuple) else operands
        for term, factor in zip(terms, factors, strict=True):
            weights, key = self._cast(factor), term[-1]
            if weights is not None:
                return weights if key not in result and left.count(key) == 2 and set(term[:-1]) <= set(result) else None
        return None

    def _cast(self, operand: Tensor) -> Tensor | None:
        """The softmax's result that an operand is, rows as rows, be it with batch and heads in one dimension."""
        for cast, _ in self._casts:
            if (
                operand.data_ptr() == cast.data_ptr()
                and operand.shape[-2:] == cast.shape[-2:]
                and operand.stride()[-2:] == cast.stride()[-2:]
            ):
                return cast
        return None


def _version(x: Tensor) -> int | None:
    """How often a tensor was changed in place; of those made under inference_mode nobody counts it."""
    return None if x.is_inference() else x._version
