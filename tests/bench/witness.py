"""An independent account of all attention in a forward, for the sweep; it shares no code with vislab.

A dispatch mode sees what reaches the kernels: fused attention as one operation, everything else as matrix products,
softmaxes and views. Tensors carry marks: which numbers of a tensor are channels (what a weight made), whether it is a
product of two activations (logits), and which numbers of it belong to which key of a softmax. A softmax attends where
a product sums over its keys. The weights are kept in float64, as they enter that product.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

_VIEWS = {
    "view",
    "_unsafe_view",
    "reshape",
    "transpose",
    "permute",
    "t",
    "expand",
    "unsqueeze",
    "squeeze",
    "slice",
    "select",
    "clone",
    "contiguous",
    "split",
    "split_with_sizes",
    "chunk",
    "unbind",
    "alias",
    "detach",
    "roll",
    "flip",
    "repeat",
    "index_select",
    "as_strided",
    "constant_pad_nd",
    "_reshape_alias",
    "unfold",
    "index",
    "gather",
    "lift_fresh",
    "unsafe_split",
    "unsafe_chunk",
    "movedim",
    "diagonal",
    "narrow",
    "squeeze_",
    "repeat_interleave",
}
_PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}
_FUSED = {
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
}
_SOFTMAX = {"_softmax", "_safe_softmax"}
_NOT_ELEMENTWISE = {"embedding", "convolution", "cumsum", "sort", "topk", "argsort", "scatter", "arange"}


@dataclass(frozen=True)
class Softmax:
    """A softmax that was made. path: the innermost running module. over: what the product compares that it is of.
    rounding: by how much its logits, as large as they are, differ in float32 by the order of their sums."""

    path: str
    shape: tuple[int, ...]
    over: str
    rounding: float = 0.0


@dataclass(frozen=True)
class Event:
    """Queries met keys. weights: (…, queries, keys), float64. paths: the modules in which they may be looked for, the
    innermost of the weighing and of the softmax. over: "tokens", "channels", "none" (its operand is no product of
    queries and keys), or "unknown". rounding: how far float32 is from float64 in it."""

    paths: tuple[str, ...]
    weights: Tensor
    over: str
    kind: str
    rounding: float = 0.0

    @property
    def path(self) -> str:
        return self.paths[0]


@dataclass(frozen=True)
class Mark:
    """What is known of a tensor's numbers.

    parameter: it is a weight, seen from another side. channels: which channel each number belongs to. columns: in which
    column of a product of two activations it was made, and over: what that product compares ("" of no product). keys:
    which key of a softmax it belongs to.
    """

    parameter: bool = False
    over: str = ""
    softmax: Softmax | None = None
    channels: Tensor | None = None
    columns: Tensor | None = None
    keys: Tensor | None = None

    def seen(self, view: Callable[[Tensor], Tensor | None]) -> Mark:
        """The mark on a view of its tensor, or on what it was spread to."""
        channels, columns, keys = (None if x is None else view(x) for x in (self.channels, self.columns, self.keys))
        return Mark(
            self.parameter,
            "" if columns is None else self.over,
            None if keys is None else self.softmax,
            channels,
            columns,
            keys,
        )

    @property
    def empty(self) -> bool:
        return not self.parameter and self.channels is None and self.columns is None and self.keys is None


@dataclass
class Account:
    """All that the witness saw. weighed: the softmaxes that weighed values, by their id."""

    events: list[Event] = field(default_factory=list)
    softmaxes: list[Softmax] = field(default_factory=list)
    weighed: set[int] = field(default_factory=set)

    @property
    def unweighed(self) -> list[Softmax]:
        """Softmaxes that no product summed over: routers, classifiers, points that are sampled."""
        return [s for s in self.softmaxes if id(s) not in self.weighed]


@contextmanager
def witness(root: nn.Module) -> Iterator[Account]:
    """Account for the attention of all forwards in the block."""
    account, names = Account(), {id(module): name for name, module in root.named_modules()}
    running: list[str] = []

    def enter(module: nn.Module, args: Any) -> None:
        running.append(names.get(id(module), running[-1] if running else ""))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        running.pop()

    handles = [
        torch_module.register_module_forward_pre_hook(enter),
        torch_module.register_module_forward_hook(leave, always_call=True),
    ]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), _Mode(account, running):
            yield account
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()


class _Mode(TorchDispatchMode):
    def __init__(self, account: Account, running: list[str]) -> None:
        super().__init__()
        self._account, self._running = account, running
        self._marks: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:
                return func.decompose(*args, **kwargs)
        weighed = self._weigh(name, args) if name in _PRODUCTS else None
        output = func(*args, **kwargs)
        if weighed is not None:
            self._set(output, weighed.seen(lambda ids: ids.expand(output.shape)))
        else:
            with suppress(RuntimeError, IndexError, TypeError, ValueError):  # where that is not known, marks end
                self._follow(func, name, args, kwargs, output)
        return output

    # ---- marks ----

    def _mark(self, x: Any) -> Mark:
        if not isinstance(x, Tensor):
            return Mark()
        return Mark(parameter=True) if isinstance(x, nn.Parameter) else self._marks.get(x, Mark())

    def _set(self, x: Any, mark: Mark) -> None:
        if isinstance(x, Tensor) and not mark.empty:
            self._marks[x] = mark

    def _follow(self, func: Any, name: str, args: Any, kwargs: Any, output: Any) -> None:
        if name in _FUSED:
            self._fused(args, kwargs)
            channels = self._mark(args[2]).channels
            if channels is not None and channels.shape[-3] == output[0].shape[-3]:
                self._set(output[0], Mark(channels=channels.narrow(-2, 0, 1).expand(output[0].shape)))
        elif name in _SOFTMAX:
            self._softmax(args, output)
        elif name in _PRODUCTS:
            self._product(*(args[i] for i in _PRODUCTS[name]), output)
        elif name == "convolution":
            mixed = self._mark(args[0]).seen(lambda ids: ids[:, :1].expand(output.shape))
            self._set(output, replace(mixed, channels=_numbered(output, 1)))
        elif name == "embedding":
            self._set(output, Mark(channels=_numbered(output, -1)))
        elif name in ("cat", "stack"):
            self._joined(func, args, kwargs, output)
        elif name in _VIEWS:
            self._viewed(func, name, args, kwargs, output)
        elif name == "copy_":
            self._set(args[0], self._mark(args[1]).seen(lambda ids: _fit(ids, args[0].shape)))
        elif isinstance(output, tuple) and name.startswith("native"):  # norms and dropout
            self._elementwise(args, output[0])
        elif isinstance(output, Tensor) and name not in _NOT_ELEMENTWISE:
            self._elementwise(args, output)

    def _elementwise(self, args: Any, output: Tensor) -> None:
        flat = [x for a in args for x in (a if isinstance(a, list | tuple) else [a])]
        given = [self._mark(x) for x in flat if isinstance(x, Tensor)]
        marks = [m.seen(lambda ids: _fit(ids, output.shape)) for m in given if not m.parameter]
        if len(given) == 1 and given[0].parameter:
            return self._set(output, given[0])
        channels = next((m.channels for m in marks if m.channels is not None), None)
        product = next((m for m in marks if m.columns is not None), Mark())
        weights = next((m for m in marks if m.keys is not None), Mark())
        self._set(output, Mark(False, product.over, weights.softmax, channels, product.columns, weights.keys))

    def _viewed(self, func: Any, name: str, args: Any, kwargs: Any, output: Any) -> None:
        mark, parts = self._mark(args[0]), output if isinstance(output, list | tuple) else [output]

        def part_of(ids: Tensor, i: int) -> Any:
            views = func(ids, *args[1:], **kwargs)
            return views if parts[i] is output else views[i]

        for i, part in enumerate(parts):
            if name in ("view", "_unsafe_view", "reshape"):
                seen = mark.seen(functools.partial(_reshaped, shape=part.shape))
            elif name in ("clone", "alias", "detach", "lift_fresh"):
                seen = mark
            elif name == "constant_pad_nd":
                seen = mark.seen(lambda ids: func(ids, args[1], -1))
            else:
                seen = mark.seen(functools.partial(part_of, i=i))
            self._set(part, seen)

    def _joined(self, func: Any, args: Any, kwargs: Any, output: Tensor) -> None:
        marks = [self._mark(x) for x in args[0]]

        def joined(which: str) -> Tensor | None:
            ids = [getattr(m, which) for m in marks]
            if all(x is None for x in ids):
                return None
            ids = [torch.full(t.shape, -1) if x is None else x for x, t in zip(ids, args[0], strict=True)]
            return func(ids, *args[1:], **kwargs)

        over = next((m.over for m in marks if m.over), "")
        softmax = next((m.softmax for m in marks if m.softmax is not None), None)
        self._set(output, Mark(False, over, softmax, joined("channels"), joined("columns"), joined("keys")))

    # ---- products and softmaxes ----

    def _product(self, left: Tensor, right: Tensor, output: Tensor) -> None:
        one, other = self._mark(left), self._mark(right)
        for mark, given, at in ((one, other, -1), (other, one, -2)):
            if (mark.columns is None and mark.keys is None) or mark.channels is not None or given.channels is not None:
                continue  # what has channels are values, weighed before

            def mixed(ids: Tensor, at: int = at) -> Tensor | None:
                return None if _varies(ids, at) else ids.narrow(at, 0, 1).expand(output.shape)

            if not (seen := mark.seen(mixed)).empty:  # logits or weights mixed over their heads, or by a matrix
                return self._set(output, seen)
        if one.parameter or other.parameter:
            self._set(output, Mark(channels=_numbered(output, -1 if other.parameter else -2)))
        else:
            over = _compared(one.channels, other.channels)
            self._set(output, Mark(over=over, columns=_numbered(output, -1), channels=_carried(one, other, output)))

    def _softmax(self, args: Any, output: Tensor) -> None:
        source = self._mark(args[0])
        counted = args[0][output > 0].abs()
        rounding = 4 * torch.finfo(torch.float32).eps * float(counted.max()) if counted.numel() else 0.0
        softmax = Softmax(self._innermost(), tuple(output.shape), source.over, rounding)
        self._account.softmaxes.append(softmax)
        self._set(output, Mark(keys=_numbered(output, args[1]), softmax=softmax))

    def _weigh(self, name: str, args: Any) -> Mark | None:
        """Where a product sums over the keys of a softmax, that is attention: the mark of the values' channels."""
        left, right = (args[i] for i in _PRODUCTS[name])
        for operand, values, at, turned in ((left, right, -1, False), (right, left, -2, True)):
            mark = self._mark(operand)
            if mark.keys is None or mark.softmax is None or not _along(mark.keys, at):
                continue
            softmax, channels = mark.softmax, self._mark(values).channels
            self._account.weighed.add(id(softmax))
            paths = tuple(dict.fromkeys((self._innermost(), softmax.path)))
            weights = operand.mT if turned else operand
            self._account.events.append(
                Event(paths, weights.double().clone(), softmax.over or "none", "softmax", softmax.rounding)
            )
            return Mark(channels=None if channels is None else channels.narrow(-1 if turned else -2, 0, 1))
        return None

    def _fused(self, args: Any, kwargs: Any) -> None:
        names = ("query", "key", "value", "dropout_p", "is_causal", "attn_mask", "scale")
        a = dict(zip(names, args, strict=False)) | kwargs
        q, k, mask = a["query"].double(), a["key"].double(), a.get("attn_mask")
        if q.shape[-3] != k.shape[-3]:
            k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)
        logits = q @ k.mT * (q.shape[-1] ** -0.5 if a.get("scale") is None else a["scale"])
        if a.get("is_causal"):
            logits = logits.masked_fill(~torch.ones(logits.shape[-2:], dtype=torch.bool).tril(), -math.inf)
        if mask is not None:
            logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask.double()
        weights = logits.softmax(-1)
        weights = torch.where(weights.isnan(), 0.0, weights)  # rows that may attend to nothing
        keys = self._mark(a["key"]).channels
        over = _compared(self._mark(a["query"]).channels, None if keys is None else keys.mT)
        rounding = float((logits.float().softmax(-1) - weights).nan_to_num().abs().max())
        less = (a["query"].float() @ k.float().mT).double()  # in single precision
        scale = a["query"].shape[-1] ** -0.5 if a.get("scale") is None else a["scale"]
        rounding = max(rounding, float((less * scale - q @ k.mT * scale).abs().max()))
        self._account.events.append(Event((self._innermost(),), weights, over, "fused", rounding))

    def _innermost(self) -> str:
        return self._running[-1] if self._running else ""


def _numbered(x: Tensor, axis: int) -> Tensor:
    """Each number's place along an axis, for a tensor of this shape."""
    shape = [1] * x.ndim
    shape[axis] = -1
    return torch.arange(x.shape[axis]).view(shape).expand(x.shape)


def _along(ids: Tensor, axis: int) -> bool:
    """Whether what a product sums over, an axis of a matrix, is what the numbers count. -1 is of no number."""
    return ids.shape[axis] > 1 and _varies(ids, axis) and not _varies(ids, -1 if axis == -2 else -2)


def _varies(ids: Tensor, axis: int) -> bool:
    return bool((ids.amax(axis) > ids.where(ids >= 0, ids.amax(axis, keepdim=True)).amin(axis)).any())


def _reshaped(ids: Tensor, shape: Any) -> Tensor:
    return ids.reshape(shape)


def _compared(left: Tensor | None, right: Tensor | None) -> str:
    """What a product compares, by what it sums over: its left operand's last axis, its right one's first."""
    found = set()
    for ids, summed, free in ((left, -1, -2), (right, -2, -1)):
        if ids is not None and _along(ids, summed):
            found.add("tokens")
        elif ids is not None and _along(ids, free):
            found.add("channels")
    return found.pop() if len(found) == 1 else "unknown"


def _carried(one: Mark, other: Mark, output: Tensor) -> Tensor | None:
    """The channels that a product of two activations leaves: those of an operand's other axis."""
    for mark, own, summed in ((other, -1, -2), (one, -2, -1)):
        if mark.channels is not None and _along(mark.channels, own):
            return mark.channels.narrow(summed, 0, 1).expand(output.shape)
    return None


def _fit(ids: Tensor, shape: Any) -> Tensor | None:
    try:
        return ids.expand(shape)
    except RuntimeError:
        return None
