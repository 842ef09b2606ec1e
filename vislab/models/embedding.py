"""The embedding part of a model, run by itself: from pixels to the tokens that its first attention reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..core.checks import first_line

_PLAIN = (nn.Linear, nn.LayerNorm, nn.Conv2d, nn.Dropout, nn.Identity, nn.GELU, nn.ReLU)  # in which nothing attends
_SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)


class Lost(ValueError):
    """The places of a model's tokens cannot be found; the message says what was found instead."""


class DoesNotRun(Lost):
    """The module cannot run on such an input."""


class NoAttention(Lost):
    """The module runs, and no tokens of the image meet each other in it."""


class _Reached(BaseException):
    """Attention begins, and the forward has gone far enough; no model catches this."""


@dataclass(frozen=True, eq=False)
class Source:
    """Which tensor holds the tokens: its index among those that a module is given, and among its `_views`."""

    module: str
    tensor: int
    view: int


@dataclass(frozen=True, eq=False)
class Entrance:
    """What the first attention of a forward reads.

    tokens: (n, width), in the graph of the pixels where there is one. path: of the innermost module that ran.
    attending: how many tokens attend there, fewer than n where it attends in windows. heads: 0 where that cannot be
    told. source: None where the tokens are the queries themselves.
    """

    tokens: Tensor
    path: str
    attending: int
    heads: int
    source: Source | None


def entrance(
    module: nn.Module, pixels: Tensor, arguments: Mapping[str, Any], *, again: Entrance | None = None
) -> Entrance:
    """Run a module, in evaluation mode, on pixels, (1, channels, height, width), up to its first attention over tokens.

    again: what was found for other pixels of that size, which tells where to stop. Raises Lost where it cannot run on
    them, or nothing attends.
    """
    source = again.source if again is not None else None
    with _followed(module, source) as running, _Watch(running, pixels) as watch:
        try:
            module(pixels, **arguments)
        except _Reached:
            if again is not None and source is not None:
                tokens = _views(running[-1][1][source.tensor])[source.view]
                return replace(again, tokens=tokens)
            assert watch.found is not None
            return watch.found
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise DoesNotRun(f"it does not run on an input of {shape_of(pixels)}: {reason(error)}") from error
    raise NoAttention("no attention was seen in which tokens of the image meet each other")


def shape_of(pixels: Tensor) -> str:
    *_, channels, height, width = pixels.shape
    return f"{channels} channels and {height}×{width} px"


def reason(error: BaseException) -> str:
    """An error of somebody else's code as part of a sentence."""
    said = first_line(error) or "no reason given"
    return (said if len(said) < 160 else said[:157] + "…").rstrip(".") + f" ({type(error).__name__})"


Running = list[tuple[str, list[Tensor]]]


@contextmanager
def _followed(module: nn.Module, source: Source | None) -> Iterator[Running]:
    """The modules that run at the moment in this thread, outermost first, with the tensors that they were given.

    source: where to stop, None to follow all of them.
    """
    running: Running = []
    here = threading.get_ident()

    def enter(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if threading.get_ident() == here:
                running.append((path, [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]))
                if source is not None:
                    raise _Reached

        return hook

    def leave(*_: Any) -> None:
        if threading.get_ident() == here and running:
            running.pop()

    handles = []
    try:
        if source is not None:
            parts = [(source.module, module.get_submodule(source.module))]
        else:
            parts = [(path, part) for path, part in module.named_modules() if type(part) not in _PLAIN]
        for path, part in parts:
            handles.append(part.register_forward_pre_hook(enter(path), with_kwargs=True))
            handles.append(part.register_forward_hook(leave, prepend=True))
        yield running
    finally:
        for handle in handles:
            handle.remove()


class _Watch(TorchFunctionMode):
    """Stops a forward at the first call in which tokens of the image meet each other."""

    def __init__(self, running: Running, pixels: Tensor) -> None:
        super().__init__()
        self.running, self.pixels = running, pixels
        self.found: Entrance | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query = args[0] if args else kwargs["query"]
            self._reach(query.shape[-2], query.shape[-3] if query.ndim > 3 else 0, query, whole=query.shape[0] == 1)
        elif func is F.multi_head_attention_forward:
            query = args[0]
            self._reach(query.shape[0], args[4], query, whole=query.ndim == 2 or query.shape[1] == 1)
        elif func in _SOFTMAX:
            logits = args[0] if args else kwargs["input"]
            if logits.ndim > 2:
                heads = logits.shape[-3] if logits.ndim > 3 else 0  # else images and windows may be there, too
                self._reach(logits.shape[-2], heads, None, whole=logits.ndim > 3 and logits.shape[0] == 1)
        return func(*args, **kwargs)

    def _reach(self, attending: int, heads: int, query: Tensor | None, *, whole: bool) -> None:
        """Stop here, if what attends are tokens. whole: whether it is known that they attend over all of the image."""
        if attending < 2:  # a query that sums up the others
            return
        found = self._tokens(lambda n: n == attending)
        if found is None and not whole:
            found = self._tokens(lambda n: n > attending)
        if found is None and query is not None:  # tokens that are first put together inside the module that attends
            found = None, query.transpose(-2, -3).flatten(0, -3).flatten(1) if query.ndim > 3 else query.flatten(0, -2)
        if found is None:
            return
        path = self.running[-1][0] if self.running else ""
        self.found = Entrance(found[1], path, attending, heads, found[0])
        raise _Reached

    def _tokens(self, fits: Callable[[int], bool]) -> tuple[Source | None, Tensor] | None:
        """The input of the innermost running module that is so many tokens; of several, what depends on the pixels."""
        for path, tensors in reversed(self.running):
            floating = [(i, x) for i, x in enumerate(tensors) if x.is_floating_point() and x is not self.pixels]
            for index, x in sorted(floating, key=lambda one: not one[1].requires_grad):
                for view, tokens in enumerate(_views(x)):
                    if fits(len(tokens)):
                        return Source(path, index, view), tokens
        return None


def _views(x: Tensor) -> list[Tensor]:
    """The ways in which a tensor of one image may be tokens, each (n, width)."""
    if x.ndim == 2:
        return [x]
    if x.ndim == 3:
        return [x[0]] * (x.shape[0] == 1) + [x[:, 0]] * (x.shape[1] == 1)
    if x.ndim == 4 and x.shape[0] == 1:
        last, first = x[0].flatten(0, 1), x[0].flatten(1).T
        return [last, first] if x.shape[3] >= x.shape[1] else [first, last]
    return []
