"""Axes: what each dimension of a tensor runs over (images, tokens, channels), followed through a forward.

A dimension is a tuple of factors, each a stretch of one axis: `x.view(b, n, heads, dim)` splits the channel axis of a
projection into two factors, `flatten(0, 1)` lays two factors into one dimension, and windows of a map hold some factors
of its two axes in the batch and the others in the rows. Nothing is computed but shapes, so following is cheap and exact.
What is not known of a tensor is left out: whoever asks then gets None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any, Literal, NamedTuple
from weakref import ref

import torch
from torch import Tensor

Kind = Literal["image", "token", "channel", "unknown"]


class Axis(NamedTuple):
    """One axis. parent: the axis that this one is, turned by `shift` places (torch.roll); None of all others."""

    kind: Kind
    size: int
    parent: int | None = None
    shift: int = 0


class Factor(NamedTuple):
    """A stretch of an axis: `size` indices, each `step` places of the axis after the one before.

    key: whether it came from the right operand of a product, of which attention's columns are made.
    """

    axis: int
    size: int
    step: int = 1
    key: bool = False


Dim = tuple[Factor, ...]  # the outermost first; () where the size is 1
Dims = tuple[Dim, ...]


class Axes:
    """The axes of one forward, and the dimensions of its tensors."""

    def __init__(self) -> None:
        self.axes: list[Axis] = []
        self._known: dict[int, tuple[ref[Tensor], Dims]] = {}

    def of(self, x: Any) -> Dims | None:
        """The dimensions of a tensor, or None."""
        entry = self._known.get(id(x))
        return entry[1] if entry is not None and entry[0]() is x else None

    def knows(self, args: Iterable[Any]) -> bool:
        """Whether anything is known of the tensors among some arguments."""
        return bool(self._known) and any(self.of(x) is not None for x in _tensors(args))

    def say(self, x: Tensor, dims: Dims | None) -> None:
        """What a tensor's dimensions run over."""
        if dims is not None:
            self._known[id(x)] = ref(x), dims
        else:
            self._known.pop(id(x), None)

    def forget(self) -> None:
        """All tensors; axes stay."""
        self._known.clear()

    def new(self, kind: Kind, size: int) -> Dim:
        """A dimension that runs over an axis of its own."""
        if size == 1:
            return ()
        self.axes.append(Axis(kind, size))
        return (Factor(len(self.axes) - 1, size),)

    def kind(self, dim: Dim) -> Kind:
        """That of all of a dimension's factors, "unknown" where they are of several kinds."""
        kinds = {self.axes[factor.axis].kind for factor in dim}
        return kinds.pop() if len(kinds) == 1 else "unknown"

    def input(self, x: Tensor) -> None:
        """A tensor that a model is given: images first; tokens and channels where its rank and dtype tell."""
        kinds: list[Kind] = ["image", *["unknown"] * (x.ndim - 1)]  # type: ignore[list-item]
        if not x.is_floating_point():
            kinds[1:] = ["token"] * (x.ndim - 1)
        elif x.ndim in (2, 3):
            kinds[-1], kinds[1:-1] = "channel", ["token"] * (x.ndim - 2)
        self.say(x, tuple(self.new(kind, size) for kind, size in zip(kinds, x.shape, strict=True)))

    def follow(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """A torch function has run: what its output's dimensions run over."""
        rule = RULES.get(func)
        if not args and "input" in kwargs:
            args = (kwargs["input"],)
        if isinstance(output, Tensor):
            if output.ndim:
                self.say(output, (rule or _alike)(self, args, kwargs, output))
        elif isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
            several = func in _UNBIND
            for part in output:
                if isinstance(part, Tensor) and part.ndim:
                    self.say(part, _unbound(self, args, kwargs) if several else _alike(self, args, kwargs, part))

    def tokens(self, dims: Iterable[Dim]) -> None:
        """What runs over these dimensions are no channels: a projection or a convolution says so."""
        for factor in (factor for dim in dims for factor in dim):
            if self.axes[factor.axis].kind == "unknown":
                self.axes[factor.axis] = self.axes[factor.axis]._replace(kind="token")

    def resized(self, dim: Dim, size: int) -> Dim:
        """A dimension of another size that runs over what `dim` does."""
        if size == math.prod(factor.size for factor in dim):
            return dim
        new = self.new(self.kind(dim) if dim else "unknown", size)
        return tuple(f._replace(key=True) for f in new) if dim and all(f.key for f in dim) else new

    def reshaped(self, dims: Dims, shape: Sequence[int]) -> Dims | None:
        """The dimensions after a reshape."""
        waiting = [factor for dim in dims for factor in dim]
        if math.prod(factor.size for factor in waiting) != math.prod(shape):
            return None
        out: list[Dim] = []
        for size in shape:
            dim: list[Factor] = []
            while size > 1:
                factor = waiting.pop(0)
                if size % factor.size == 0:
                    size //= factor.size
                    dim.append(factor)
                elif factor.size % size == 0:  # its outer part belongs here
                    inner = factor.size // size
                    dim.append(factor._replace(size=size, step=factor.step * inner))
                    waiting.insert(0, factor._replace(size=inner))
                    size = 1
                else:  # a border falls within a factor: it and those after it become one axis
                    merged = [factor]
                    while waiting and math.prod(f.size for f in merged) % size:
                        merged.append(waiting.pop(0))
                    if math.prod(f.size for f in merged) % size:
                        return None
                    kind = self.kind(tuple(merged))
                    waiting[:0] = self.new(kind, math.prod(f.size for f in merged))
            out.append(tuple(dim))
        return tuple(out)


# ---- rules: (axes, args, kwargs, output) -> dimensions of the output ----

Rule = Callable[[Axes, tuple[Any, ...], dict[str, Any], Tensor], Dims | None]
RULES: dict[Any, Rule] = {}


def _named(*names: str) -> list[Any]:
    """torch's functions of these names: methods, functions and properties."""
    found = []
    for name in names:
        for space in (torch, torch.Tensor, torch.nn.functional, torch.special):
            func = getattr(space, name, None)
            if func is not None:
                found.append(func.__get__ if type(func).__name__ == "getset_descriptor" else func)
    return found


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def keep(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(_named(*names), rule))
        return rule

    return keep


_UNBIND = set(_named("unbind"))


def _tensors(args: Iterable[Any]) -> list[Tensor]:
    return [one for arg in args for one in (arg if isinstance(arg, tuple | list) else (arg,)) if isinstance(one, Tensor)]


def _option(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _alike(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    """Of a function whose output lies as its operands do, broadcast; where a size has changed, the kind has not."""
    known = [(x, dims) for x in _tensors(args) if (dims := axes.of(x)) is not None and x.ndim <= output.ndim]
    for x, dims in known:
        if x.shape == output.shape:
            return dims
    if not known or max(x.ndim for x, _ in known) < output.ndim:
        return None
    out: list[Dim] = []
    for back in range(-output.ndim, 0):
        size = output.shape[back]
        there = [(x.shape[back], dims[back]) for x, dims in known if x.ndim >= -back]
        same = [dim for length, dim in there if length == size]
        first = next((dim for _, dim in there if dim), ())
        out.append(same[0] if same else axes.resized(first, size))
    return tuple(out)


@_rule("view", "reshape", "view_as", "reshape_as", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel")
def _reshape(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    dims = axes.of(args[0])
    return None if dims is None else axes.reshaped(dims, output.shape)


@_rule("permute")
def _permute(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    dims = axes.of(args[0])
    order = args[1:] or (kwargs["dims"],)
    order = order[0] if isinstance(order[0], tuple | list) else order
    return None if dims is None else tuple(dims[i] for i in order)


@_rule("transpose", "swapaxes", "swapdims", "transpose_")
def _transpose(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    dims = axes.of(args[0])
    one, other = (*args[1:], *kwargs.values())[:2]
    if dims is None or not isinstance(one, int):
        return None
    out = list(dims)
    out[one], out[other] = out[other], out[one]
    return tuple(out)


@_rule("mT", "mH", "adjoint")
def _matrix_transpose(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    dims = axes.of(args[0])
    return None if dims is None else (*dims[:-2], dims[-1], dims[-2])


@_rule("T", "t", "H")
def _reverse(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    dims = axes.of(args[0])
    return None if dims is None else dims[::-1]


@_rule("movedim", "moveaxis")
def _move(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    dims = axes.of(args[0])
    if dims is None:
        return None
    order = torch.empty(tuple(range(2, 2 + len(dims))), device="meta").movedim(*args[1:], **kwargs).shape
    return tuple(dims[size - 2] for size in order)


@_rule("unbind")
def _unbound(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any = None) -> Dims | None:
    dims = axes.of(args[0])
    dim = _option(args, kwargs, 1, "dim", 0)
    return None if dims is None else tuple(d for i, d in enumerate(dims) if i != dim % len(dims))


@_rule("select")
def _select(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    return _unbound(axes, args, kwargs)


@_rule("__getitem__")
def _getitem(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    x, index = args
    dims = axes.of(x)
    index = list(index) if isinstance(index, tuple) else [index]
    if dims is None or sum(not isinstance(i, int | slice | type(None) | type(Ellipsis)) for i in index) > 1:
        return None
    used = sum(i is not None and i is not Ellipsis for i in index)
    if not any(i is Ellipsis for i in index):
        index.append(Ellipsis)
    out, position = [], 0
    for i in index:
        if i is None:
            out.append(())
        elif i is Ellipsis:
            out.extend(dims[position : position + x.ndim - used])
            position += x.ndim - used
        elif isinstance(i, int):
            position += 1
        else:
            if not isinstance(i, slice) and (not isinstance(i, Tensor | list) or getattr(i, "ndim", 1) != 1):
                return None
            if len(out) >= output.ndim:
                return None
            out.append(axes.resized(dims[position], output.shape[len(out)]))
            position += 1
    return tuple(out) if len(out) == output.ndim else None


@_rule("cat", "concat", "concatenate")
def _cat(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    parts, dim = args[0] if args else kwargs["tensors"], _option(args, kwargs, 1, "dim", 0)
    known = [dims for part in parts if (dims := axes.of(part)) is not None and part.ndim == output.ndim]
    if not known:
        return None
    out = list(max(known, key=lambda dims: sum(map(bool, dims))))
    at = dim % output.ndim
    whole = [dims[at] for dims in known if dims[at]]
    kinds = {axes.kind(dim) for dim in whole}
    new = axes.new(kinds.pop() if len(kinds) == 1 else "unknown", output.shape[at])
    keys = bool(whole) and all(factor.key for dim in whole for factor in dim)
    out[at] = tuple(factor._replace(key=True) for factor in new) if keys else new
    return tuple(out)


@_rule("stack")
def _stack(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    parts, dim = args[0] if args else kwargs["tensors"], _option(args, kwargs, 1, "dim", 0)
    dims = next((dims for part in parts if (dims := axes.of(part)) is not None), None)
    if dims is None:
        return None
    at = dim % output.ndim
    inner = at > 0 and axes.kind(dims[at - 1]) == "channel"  # as rotary positions lay pairs of channels
    return (*dims[:at], axes.new("channel" if inner else "unknown", output.shape[at]), *dims[at:])


@_rule("expand", "expand_as", "broadcast_to", "repeat", "tile")
def _expand(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    dims = axes.of(args[0])
    if dims is None:
        return None
    more = output.ndim - len(dims)
    grown = [axes.resized(dim, size) for dim, size in zip(dims, output.shape[more:], strict=True)]
    return (*(axes.new("unknown", size) for size in output.shape[:more]), *grown)


@_rule("sum", "mean", "amax", "amin", "logsumexp", "norm", "prod", "var", "std")
def _reduce(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    dims, over = axes.of(args[0]), _option(args, kwargs, 1, "dim", None)
    if dims is None or output.ndim == len(dims):
        return _alike(axes, args, kwargs, output)
    gone = {i % len(dims) for i in (over if isinstance(over, tuple | list) else [over]) if isinstance(i, int)}
    left = tuple(dim for i, dim in enumerate(dims) if i not in gone)
    return left if len(left) == output.ndim else None


@_rule("roll")
def _roll(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    dims, shifts, over = axes.of(args[0]), _option(args, kwargs, 1, "shifts", None), _option(args, kwargs, 2, "dims", ())
    if dims is None:
        return None
    out = list(dims)
    pairs = zip_longest(*((x if isinstance(x, tuple | list) else (x,)) for x in (shifts, over)))
    for shift, at in pairs:
        if at is None or shift is None:
            return None
        dim = out[at]
        if len(dim) == 1 and dim[0].size == axes.axes[dim[0].axis].size:
            axes.axes.append(Axis(axes.axes[dim[0].axis].kind, dim[0].size, dim[0].axis, shift))
            out[at] = (Factor(len(axes.axes) - 1, dim[0].size),)
        else:
            out[at] = axes.new(axes.kind(dim), output.shape[at])
    return tuple(out)


@_rule("linear")
def _linear(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    dims = axes.of(args[0]) or tuple(axes.new("token", size) for size in output.shape)
    axes.tokens(dims[:-1])
    return (*dims[:-1], axes.new("channel", output.shape[-1]))


@_rule("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _convolution(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    weight = args[1] if len(args) > 1 else kwargs["weight"]
    dims, at = axes.of(args[0]), output.ndim - weight.ndim + 1  # where the channels are
    if dims is not None:
        axes.tokens((*dims[:at], *dims[at + 1 :]))
    out: list[Dim] = []
    for i, size in enumerate(output.shape):
        old = () if dims is None else dims[i]
        same = dims is not None and size == math.prod(factor.size for factor in old)
        if i < at:
            out.append(old if same else axes.new("token", size))
        elif i == at:
            out.append(old if same and axes.kind(old) == "channel" and weight.shape[1] == 1 else axes.new("channel", size))
        else:
            out.append(old if same and axes.kind(old) == "token" else axes.new("token", size))
    return tuple(out)


@_rule("embedding")
def _embedding(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    dims = axes.of(args[0]) or tuple(axes.new("token", size) for size in output.shape[:-1])
    return (*dims, axes.new("channel", output.shape[-1]))


@_rule("matmul", "bmm", "__matmul__", "mm")
def _matmul(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    left, right = operands(args, kwargs)
    return None if left is None else product(axes, left, right, output)


@_rule("baddbmm", "addmm")
def _added(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    return product(axes, args[1], args[2], output) if len(args) > 2 else None


def product(axes: Axes, left: Tensor, right: Tensor, output: Tensor) -> Dims | None:
    """The dimensions of a matrix product: rows of the left operand, columns of the right one."""
    one, other = axes.of(left), axes.of(right)
    if (one is None and other is None) or left.ndim < 2 or right.ndim < 2:
        return None
    lead: list[Dim] = []
    for back in range(-output.ndim, -2):
        there = [d[back] for d in (one, other) if d is not None and len(d) >= -back]
        lead.append(next((dim for dim in there if dim), axes.new("unknown", output.shape[back])))
    rows = one[-2] if one is not None else axes.new("unknown", output.shape[-2])
    if other is not None:
        columns = tuple(factor._replace(key=not factor.key) for factor in other[-1])
    else:
        columns = axes.new("channel" if right.ndim == 2 else "unknown", output.shape[-1])
    return (*lead, rows, columns)


def operands(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The two operands of a matrix product, by place or by name; (None, None) where it has other ones."""
    left = args[0] if args else kwargs.get("input")
    right = args[1] if len(args) > 1 else kwargs.get("other", kwargs.get("mat2"))
    return (left, right) if isinstance(left, Tensor) and isinstance(right, Tensor) else (None, None)


@_rule("einsum")
def _einsum(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    spelled = summed(args)
    if spelled is None:
        return None
    (terms, factors), result = spelled[:2], spelled[2]
    found: dict[str, Dim] = {}
    side = False
    for term, factor in zip(terms, factors, strict=True):
        dims = axes.of(factor)
        for letter, dim in zip(term, dims or (), strict=False):
            free = letter in result and sum(letter in other for other in terms) == 1
            if letter not in found or not found[letter]:
                found[letter] = tuple(f._replace(key=not f.key) for f in dim) if side and free else dim
        side = side or dims is not None  # what comes after the first known operand is to its right
    if not found:
        return None
    return tuple(
        found[letter] if letter in found else axes.new("channel", size)
        for letter, size in zip(result, output.shape, strict=True)
    )


def summed(args: tuple[Any, ...]) -> tuple[list[str], Sequence[Tensor], str] | None:
    """The terms, operands and result of an einsum, a letter a dimension; None of what is not spelled so."""
    if not args or not isinstance(args[0], str) or "->" not in args[0]:
        return None
    left, result = args[0].replace(" ", "").split("->")
    given = args[1] if isinstance(args[1], list | tuple) else args[1:]
    terms = left.split(",")
    if len(terms) != len(given):
        return None
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in left]
    counts = {x.ndim - len(term.replace("...", "")) for term, x in zip(terms, given, strict=True) if "..." in term}
    if len(counts) > 1:
        return None
    dots = "".join(spare[: counts.pop()]) if counts else ""
    return [term.replace("...", dots) for term in terms], given, result.replace("...", dots)
