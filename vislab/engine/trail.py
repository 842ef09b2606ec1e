"""Trails: a product of queries and keys, followed to its softmax, and that to the product in which it weighs values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .axes import Axes, Dim
from .products import operands, summed
from .recording import Visit
from .rules import functions

SOFTMAX = {torch.softmax, torch.Tensor.softmax, F.softmax, torch.special.softmax}
MATMUL = {torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm, torch.Tensor.bmm}
ADDED = {torch.baddbmm, torch.Tensor.baddbmm}
PRODUCT = {*MATMUL, *ADDED, torch.einsum}
_TIMES = {
    torch.mul,
    torch.Tensor.mul,
    torch.Tensor.__mul__,
    torch.Tensor.mul_,
    torch.Tensor.__imul__,
    torch.Tensor.__rmul__,
}
_OVER = {torch.div, torch.Tensor.div, torch.Tensor.__truediv__, torch.Tensor.div_, torch.Tensor.__itruediv__}
_LAYOUT = {
    *functions("view", "reshape", "flatten", "unflatten", "transpose", "permute", "squeeze", "unsqueeze", "contiguous"),
    *functions("clone", "detach", "expand", "to", "type_as", "float", "half", "bfloat16", "double", "type", "view_as"),
    *functions("reshape_as", "swapaxes", "movedim", "mT"),
}
_DROPOUT = {F.dropout, torch.dropout, F.alpha_dropout}


@dataclass(frozen=True, eq=False)
class Logits:
    """What a product of queries and keys became.

    left, right: (…, rows, dim) and (…, dim, columns), None where the product is not of that form. summed: what the
    product was summed over, () where that is not known. factor: of the product, None where more was done to it. numel:
    how many logits there are. scaled: whether a number has multiplied them. version: see `version`.
    """

    left: Tensor | None
    right: Tensor | None
    summed: Dim
    factor: float | None
    numel: int
    scaled: bool = False
    version: int | None = None


@dataclass(frozen=True, eq=False)
class Softmax:
    """A softmax that was made. weights: its result. keys: the dimension that it runs over.

    logits: what it was made of, None of other things. rows: what its queries run over. visits: of the captures that
    take part. layout: what is known of the product it was made of, None of nothing.
    """

    weights: Tensor
    keys: int
    logits: Logits | None
    rows: Dim
    visits: Sequence[Visit]
    layout: Any


@dataclass(frozen=True, eq=False)
class Weights:
    """What a softmax became. same: whether it is still what it was, in whatever layout and dtype.

    dropped: whether a dropout was active on it.
    """

    origin: Softmax
    same: bool
    version: int | None
    dropped: bool = False


@dataclass(frozen=True, eq=False)
class Weighing:
    """A product that a softmax is about to take part in. keys: which dimension is summed over. values: the others."""

    weights: Weights
    operand: Tensor
    keys: int
    values: Sequence[Tensor]


class Trail:
    """The labels of the tensors of one thread that stem from products of queries and keys, or from a softmax."""

    def __init__(self) -> None:
        self._labels: dict[int, tuple[ref[Tensor], Logits | Weights]] = {}

    def __len__(self) -> int:
        return len(self._labels)

    def of(self, x: Any) -> Logits | Weights | None:
        """The label of a tensor, told apart from what was changed in place since."""
        entry = self._labels.get(id(x))
        if entry is None or entry[0]() is not x or not isinstance(x, Tensor):
            return None
        label = entry[1]
        if label.version == version(x):
            return label
        return replace(label, factor=None) if isinstance(label, Logits) else replace(label, same=False)

    def say(self, x: Tensor, label: Logits | Weights) -> None:
        key = id(x)
        self._labels[key] = ref(x, lambda tensor: self._lose(key, tensor)), replace(label, version=version(x))

    def _lose(self, key: int, tensor: ref[Tensor]) -> None:
        """A tensor is gone: while no label is left, most functions need not be looked at."""
        if key in self._labels and self._labels[key][0] is tensor:
            self._labels.pop(key, None)

    def say_weights(self, x: Tensor, origin: Softmax) -> None:
        """A softmax was made."""
        self.say(x, Weights(origin, same=True, version=None))

    def forget(self) -> None:
        self._labels.clear()

    def drop(self, origin: Softmax) -> None:
        """All that a softmax became."""
        for key, (_, label) in [*self._labels.items()]:
            if isinstance(label, Weights) and label.origin is origin:
                del self._labels[key]

    def weighing(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Weighing | None:
        """The part that a softmax takes in a product which is about to be made, if any does."""
        spelled = summed(args) if func is torch.einsum else None
        if spelled is not None:
            terms, factors, result = spelled
            for term, x in zip(terms, factors, strict=True):
                gone = [i for i, letter in enumerate(term) if letter not in result]
                shared = [i for i in gone if sum(term[i] in other for other in terms) > 1]
                label = self.of(x)
                if isinstance(label, Weights) and len(gone) == 1 and gone == shared:
                    return Weighing(label, x, gone[0], [other for other in factors if other is not x])
        elif func is not torch.einsum:
            left, right = operands(args, kwargs, added=func in ADDED)
            for x, other, dim in ((left, right, -1), (right, left, -2)):
                label = self.of(x)
                if isinstance(label, Weights) and x.ndim > 1:
                    return Weighing(label, x, x.ndim + dim, [other])
        return None

    def follow(
        self, axes: Axes, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """A torch function has run: what its output stems from."""
        if func is torch.Tensor.__setitem__:
            output = args[0]
        if not isinstance(output, Tensor) or not output.is_floating_point() or output.ndim < 2:
            if isinstance(output, tuple | list) and self._labels:
                for part in output:
                    self.follow(axes, func, args, kwargs, part)
            return
        if func in PRODUCT and not any(isinstance(self.of(x), Weights) for x in args):
            self._product(axes, func, args, kwargs, output)
            return
        for x in args:
            for one in x if isinstance(x, tuple | list) else (x,):
                label = self.of(one) if isinstance(one, Tensor) else None
                if label is not None:
                    self._label(axes, label, func, args, kwargs, output)
                    return

    def _label(
        self,
        axes: Axes,
        label: Logits | Weights,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Tensor,
    ) -> None:
        if isinstance(label, Logits) and output.numel() < label.numel:
            return  # a part of them is none
        kept = func in _LAYOUT or (func in _DROPOUT and not _active(args, kwargs))
        if isinstance(label, Logits):
            factor = label.factor
            number = next((a for a in args[:2] if isinstance(a, Real)), None)
            if number is not None and factor is not None and func in _TIMES:
                factor *= float(number)
            elif number is not None and factor is not None and func in _OVER and args[1] is number and number:
                factor /= float(number)
            elif not kept:
                factor = None
            self.say(output, replace(label, factor=factor, scaled=label.scaled or not kept))
            return
        dims = axes.of(output)  # where the keys are gone, so is the softmax
        if dims is not None and any(factor.key for dim in dims for factor in dim):
            dropped = label.dropped or (func in _DROPOUT and not kept)
            self.say(output, replace(label, same=label.same and kept, dropped=dropped))

    def _product(self, axes: Axes, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        """A product of two tensors of the forward; one with a parameter is a projection."""
        spelled = summed(args) if func is torch.einsum else None
        if spelled is not None and len(spelled[1]) == 2:
            one, other = spelled[1]
            gone = [i for i, letter in enumerate(spelled[0][0]) if letter not in spelled[2]]
        elif func is not torch.einsum:
            one, other = operands(args, kwargs, added=func in ADDED)
            gone = [-1]
        else:
            return
        if one is None or any(isinstance(x, nn.Parameter) or x.ndim < 2 for x in (one, other)):
            return
        dims = axes.of(one)
        if (dims is None or axes.of(other) is None) and min(one.ndim, other.ndim) < 3:
            return
        over = () if dims is None else tuple(factor for i in gone for factor in dims[i])
        left, right = (None, None) if spelled is not None else (one, other)
        factor = 1.0 if left is not None and func in MATMUL else None
        self.say(output, Logits(left, right, over, factor, output.numel()))


def _active(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a dropout changes anything."""
    chance = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
    training = args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", True))
    return bool(training) and chance > 0


def version(x: Tensor) -> int | None:
    """How often a tensor was changed in place; of those made under inference_mode nobody counts it."""
    return None if x.is_inference() else x._version
