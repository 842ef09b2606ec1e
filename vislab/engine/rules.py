"""Rules: what the dimensions of a torch function's output run over, given those of its operands."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from .axes import Axes, Axis, Dim, Dims, Factor, tensors
from .products import einsum, operands, product

Rule = Callable[[Axes, tuple[Any, ...], dict[str, Any], Tensor], Dims | None]
RULES: dict[Any, Rule] = {}


def functions(*names: str) -> list[Any]:
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
        RULES.update(dict.fromkeys(functions(*names), rule))
        return rule

    return keep


_UNBIND, _EXTREMES = set(functions("unbind")), set(functions("max", "min", "median", "mode", "kthvalue"))


def follow(axes: Axes, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    """A torch function has run: keep what its output's dimensions run over."""
    if not args and "input" in kwargs:
        args = (kwargs["input"],)
    if isinstance(output, Tensor):
        if output.ndim:
            axes.say(output, _told(RULES.get(func, _alike), axes, args, kwargs, output))
    elif isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        rule = _select if func in _UNBIND else _reduce if func in _EXTREMES else _alike
        for part in output:
            if isinstance(part, Tensor) and part.ndim:
                axes.say(part, _told(rule, axes, args, kwargs, part))


def _told(rule: Rule, axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    """What a rule says; nothing where the function was called in a way that the rule does not know."""
    try:
        dims = rule(axes, args, kwargs, output)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError):
        return None
    sizes = () if dims is None else tuple(math.prod(factor.size for factor in dim) for dim in dims)
    return dims if sizes == output.shape else None


def _option(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _alike(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    """Of a function whose output lies as its operands do, broadcast; where a size has changed, the kind has not."""
    known = [(x, dims) for x in tensors(args) if (dims := axes.of(x)) is not None and x.ndim <= output.ndim]
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
    order: Any = args[1:] or (kwargs["dims"],)
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


@_rule("select")
def _select(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    dims, dim = axes.of(args[0]), _option(args, kwargs, 1, "dim", 0)
    return None if dims is None else tuple(d for i, d in enumerate(dims) if i != dim % len(dims))


@_rule("__getitem__")
def _getitem(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    x, dims = args[0], axes.of(args[0])
    index: list[Any] = list(args[1]) if isinstance(args[1], tuple) else [args[1]]
    if dims is None or sum(not isinstance(i, int | slice | type(None) | type(Ellipsis)) for i in index) > 1:
        return None
    used = sum(i is not None and i is not Ellipsis for i in index)
    if not any(i is Ellipsis for i in index):
        index.append(Ellipsis)
    out: list[Dim] = []
    position = 0
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
    dims, shifts, over = (
        axes.of(args[0]),
        _option(args, kwargs, 1, "shifts", None),
        _option(args, kwargs, 2, "dims", ()),
    )
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
            out.append(
                old if same and axes.kind(old) == "channel" and weight.shape[1] == 1 else axes.new("channel", size)
            )
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
    left, right = operands(args, kwargs, added=True)
    return None if left is None else product(axes, left, right, output)


@_rule("einsum")
def _einsum(axes: Axes, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Dims | None:
    return einsum(axes, args, output)
