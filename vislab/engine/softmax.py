"""An explicit softmax, as the captures want it, and what is kept of it once it weighs the values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from .arrangement import Unclear, arranged, conventional
from .attention import FusedCall, WeightsCall, uncast, wide
from .axes import Axes, Dim, Dims
from .layouts import Layouts
from .recorder import CHANNELS, DROPOUT, NEW_SHAPES, begin_graph, enlist, keep, refuse, scale_of
from .recording import Visit
from .site import AttentionRefused
from .trail import Logits, Softmax, Trail, Weighing
from .verification import TOLERANCE, some_rows


@dataclass(frozen=True, eq=False)
class Layout:
    """What the dimensions of a softmax's logits run over, and of the queries and keys that they are the product of.

    over_channels: whether that product was summed over tokens, so that its rows and columns are channels.
    """

    logits: Dims | None = None
    left: Dims | None = None
    right: Dims | None = None
    over_channels: bool = False


class SoftmaxRecorder:
    """axes, trail: of the tensors of the thread. layouts: what was learnt of the calls of earlier forwards."""

    def __init__(self, axes: Axes, trail: Trail, layouts: Layouts) -> None:
        self._axes, self._trail, self._layouts = axes, trail, layouts
        self._parts: WeakSet[Softmax] = WeakSet()  # of which a part has weighed values

    def softmax(
        self, visits: Sequence[Visit], func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """torch.softmax of a tensor of two dimensions or more."""
        x, *rest = args if args else (kwargs.pop("input"),)
        label, scale = self._trail.of(x), scale_of(visits)
        logits = label if isinstance(label, Logits) else None
        if logits is not None and scale != 1:
            if logits.factor is None:
                raise _unscalable(visits[0])
            x, logits = x * scale, replace(logits, factor=logits.factor * scale)
        output = func(x, *rest, **kwargs)
        dim = kwargs.get("dim", rest[0] if rest else None)
        if not isinstance(output, Tensor) or not isinstance(dim, int):
            return output
        if logits is not None:
            begin_graph(visits, output)
            enlist(visits)
        layout = self._learnt(visits, args[0] if args else x, logits)
        dims = self._dims(x, dim % x.ndim, layout)
        self._axes.say(output, dims)
        keys = dim % x.ndim
        self._trail.say_weights(output, Softmax(output, keys, logits, _rows(self._axes, dims, keys), visits, layout))
        return output

    def _learnt(self, visits: Sequence[Visit], x: Tensor, logits: Logits | None) -> Layout | Unclear:
        left, right = (None, None) if logits is None else (logits.left, logits.right)
        axes = self._axes

        def learn() -> tuple[Any, Any]:
            kind = axes.kind(logits.summed) if logits is not None and logits.summed else "channel"
            layout = Layout(axes.of(x), axes.of(left), axes.of(right), kind in ("token", "image"))
            laid = conventional(x) if layout.logits is None else arranged(axes, layout.logits, x)
            plain = not isinstance(laid, Unclear) and laid.plain and not layout.over_channels
            return layout, Layout() if plain else None

        shapes = tuple(None if y is None else y.shape for y in (x, left, right))
        alike = (x.ndim, x.shape[1:-2], *(None if y is None else y.ndim for y in (left, right)))
        layout = self._layouts.of(visits, shapes, alike, learn)
        return Unclear(NEW_SHAPES) if layout is None else layout

    def _dims(self, x: Tensor, dim: int, layout: Layout | Unclear) -> Dims:
        """What a softmax's dimensions run over, those of its keys marked; by convention where nothing is known."""
        dims = None if isinstance(layout, Unclear) else layout.logits
        if dims is None:
            kinds: tuple[Any, ...] = ("image", "channel", "token", "token") if x.ndim == 4 else ("unknown",) * x.ndim
            dims = tuple(self._axes.new(kind, size) for kind, size in zip(kinds, x.shape, strict=True))
        return tuple(tuple(f._replace(key=i == dim) for f in one) for i, one in enumerate(dims))

    def weigh(self, seen: Weighing, running: Collection[nn.Module]) -> bool:
        """A softmax is about to take part in a product. running: the modules that do. -> whether its trail ends."""
        dims = self._axes.of(seen.operand)
        summed: Dim = () if dims is None else dims[seen.keys]
        if summed and self._axes.kind(summed) == "channel" and not all(factor.key for factor in summed):
            return False  # heads are mixed
        origin, x = seen.weights.origin, seen.operand
        if origin.logits is None and not self._weighs_tokens(seen):
            return False
        whole = x.shape[seen.keys] == origin.weights.shape[origin.keys]
        if whole:
            self._trail.drop(origin)
        elif origin in self._parts:
            refuse(origin.visits, "its softmax weighs values in several parts")
            return True
        else:
            self._parts.add(origin)
        for visit in origin.visits:
            visit.settle(next((module for module in visit.modules if module in running), visit.modules[0]))
        reason = self._refusal(seen, dims, summed)
        if reason is not None:
            if origin.logits is None:
                if scale_of(origin.visits) != 1:
                    raise _unscalable(origin.visits[0])
                enlist(origin.visits)
            refuse(origin.visits, reason)
            return True
        keys = seen.keys
        if seen.weights.same and not x.is_inference():  # before any cast
            x, keys = origin.weights, origin.keys
        laid = arranged(self._axes, self._axes.of(x), x, rows=origin.rows, last=keys)
        if isinstance(laid, Unclear):
            refuse(origin.visits, laid.reason)
            return True
        with torch.no_grad(), uncast(x.device):
            weights, product = WeightsCall(laid.of(x.detach())), self._product(seen)
            proven = product is not None and product.shape == weights.shape
            if product is not None and proven and not (laid.plain and not x.is_inference()):
                proven = _same(product, weights)
            keep(origin.visits, product if product is not None and proven else weights, laid, x)
        return True

    def _weighs_tokens(self, seen: Weighing) -> bool:
        """Whether a softmax of no product weighs what the forward made, not constants, as a mean does."""

        def learn() -> tuple[Any, Any]:
            return any(self._axes.of(x) is not None for x in seen.values), None

        shapes = ("values", seen.operand.shape, *(x.shape for x in seen.values))
        return self._layouts.of(seen.weights.origin.visits, shapes, None, learn) is not False

    def _refusal(self, seen: Weighing, dims: Dims | None, summed: Dim) -> str | None:
        """Why what weighs is no attention that can be read, or None."""
        origin = seen.weights.origin
        if origin.logits is None:
            return "no product of queries and keys was seen that its softmax is taken of, as in linear attention"
        if isinstance(origin.layout, Unclear):
            return origin.layout.reason
        if origin.layout.over_channels:
            return CHANNELS
        if seen.weights.dropped:
            return DROPOUT
        if dims is None or not all(factor.key for factor in summed):
            return "the values are not weighed along the keys that its softmax runs over"
        return None

    def _product(self, seen: Weighing) -> FusedCall | None:
        """The queries and keys that a softmax was made of, or None where it is to be kept itself.

        It is where there is more to it than their product, where its rows are keys, where half precision rounded
        that product when it was scaled, and for gradients, which are taken at the softmax.
        """
        origin, logits = seen.weights.origin, seen.weights.origin.logits
        if logits is None or logits.factor is None or logits.left is None or logits.right is None:
            return None
        if origin.keys != origin.weights.ndim - 1 or not seen.weights.same:
            return None
        if any(visit.recording.gradients for visit in origin.visits):
            return None
        left, right = logits.left.detach(), logits.right.detach()
        if (logits.scaled and wide(left.dtype) != left.dtype) or left.ndim != right.ndim:
            return None
        layout = origin.layout
        q = arranged(self._axes, layout.left, left)
        k = arranged(self._axes, layout.right, right, rows=None if layout.right is None else layout.right[-1], last=-2)
        if isinstance(q, Unclear) or isinstance(k, Unclear) or q.shape[0] != k.shape[0] or q.shape[1] % k.shape[1]:
            return None
        return FusedCall(q.of(left), k.of(right), logits.factor)


def _rows(axes: Axes, dims: Dims, dim: int) -> Dim:
    """What the queries of a softmax run over: its tokens beside the keys, in the dimension next to them."""
    near = [i for i in (dim - 1, dim + 1) if 0 <= i < len(dims)]
    tokens = [tuple(f for f in dims[i] if axes.kind((f,)) != "channel") for i in near]
    return next((factors for factors in tokens if factors), ())


def _same(product: FusedCall, call: WeightsCall) -> bool:
    """Whether some rows of weights are what a product makes.

    To be asked where they were laid out anew, and under inference_mode, where nobody counts their changes in place.
    """
    weights = call.weights
    rows = some_rows(weights.shape[2], weights.device)
    made, now = product.attention(rows), weights[:, :, rows].to(wide(weights.dtype))
    limit = TOLERANCE[weights.dtype] * (now - now.mean(-1, keepdim=True)).norm()
    return bool((made - now).norm() <= limit + torch.finfo(weights.dtype).eps * now.norm())


def _unscalable(visit: Visit) -> AttentionRefused:
    return AttentionRefused(
        f"the attention of {visit.site.name!r} ({visit.site.kind}) cannot be scaled: more than queries and keys goes "
        "into its own softmax. Load the model with fused attention (transformers: attn_implementation='sdpa')"
    )
