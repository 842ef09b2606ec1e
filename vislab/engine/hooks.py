"""`capture`: the hooks on a torch module, while it runs as it is.

Queries meet keys in one call: `scaled_dot_product_attention`, or an explicit softmax of their product that comes to
weigh values. Such calls are found by watching the module run, and each belongs to the innermost module that runs then,
whatever that is called. What goes into the call is kept: queries and keys after projection, normalisation and rotation,
with scale and mask (of an explicit softmax what weighs the values, unless there is no more to it than the product of
queries and keys). That is O(n) memory, no family needs an adapter, and any row of attention can be computed again when
someone asks for it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import nn

from ..core.checks import check_flags, shown, whole
from .capture import Capture
from .eye import Eye, eye
from .recording import Recording, named

_PROJECTIONS = ({"q_proj", "k_proj"}, {"query", "key"}, {"q", "k"}, {"to_q", "to_k"}, {"qkv"})


@contextmanager
def capture(
    module: nn.Module,
    *,
    attention_scale: float | Mapping[int, float] = 1.0,
    gradients: bool = False,
    steps: bool = False,
) -> Iterator[Capture]:
    """Keep what the attention sites of any torch module do in the forwards inside the block.

    The module runs as it is, in its own dtype and with its fused attention (nn.MultiheadAttention and torch's
    encoders without their inference fast path, which differs by rounding); afterwards nothing of the capture is
    left on it, whatever happened. attention_scale: factor s of q·kᵀ in softmax(s·q·kᵀ/√d + bias), a real
    intervention, above 0; for all sites, or {index in execution order: s}. Each site is verified on some rows of
    its first forward: attention recomputed from its queries and keys must give its own output. A site that fails is
    refused by name when read; one that is to be scaled and adds more to its own softmax, at once. A module that
    attends more than once in a forward has a site for each time, named "path[0]", "path[1]". gradients: keep what
    `Capture.differentiate` needs, the values and the graph; where neither input nor weights require one, it begins
    at the first attention. Gradient checkpointing is refused where gradients are kept, or would go through scaled
    attention.

    The last forward counts; with steps, all forwards of the last generation do, as one over all its tokens: what a
    model's `generate` runs, each step's attention over the keys of all tokens before it. Only the thread that opened
    the capture is recorded, and copies of the module are models of their own. A compiled model is read between its
    graphs; one of a single graph (fullgraph) is refused. Captures may be nested, and closed in any order; each reports
    what the model really used, the others' interventions included.

        with vislab.capture(model) as cap:
            model(pixels)
        cap.attention("vit.layers.11.attention", query=0)
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"capture needs a torch module, not {type(module).__name__}; of a vislab Model take .module")
    _check_scale(attention_scale)
    check_flags(gradients=gradients, steps=steps)
    if gradients and steps:
        raise ValueError("steps are of a generation, which has no gradients: capture one forward of all its tokens")
    recording = Recording(module, attention_scale, gradients, steps)
    if any(isinstance(part, torch.jit.ScriptModule) for part in recording.paths):
        raise TypeError("a TorchScript module runs where nothing can watch it: give the module that it was made from")
    watcher, expected = eye(), _attention_modules(recording.paths)
    try:
        watcher.open(recording)
        _attach(watcher, recording, expected)
        yield Capture(recording)
        recording.check_scale()
    finally:
        try:
            _detach(watcher, recording, expected)
        except BaseException:  # Ctrl-C in the midst of it
            _detach(watcher, recording, expected)
            raise


@dataclass(frozen=True, eq=False)
class _Hook:
    """A hook of one capture on one module; on copies of that module, and in other threads, it does nothing."""

    watcher: Eye
    recording: Recording
    module: nn.Module
    act: Callable[[tuple[Any, ...], Any], None]

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Any = None, output: Any = None) -> None:
        # torch adds a hook before it notes that keywords are wanted: another thread may come in between.
        if torch.compiler.is_dynamo_compiling():  # of a model that may have one graph only, a refusal
            torch._dynamo.graph_break(msg="vislab reads attention between graphs: compile without fullgraph")
        if module is self.module and eye() is self.watcher and self.watcher.sees_for(self.recording):
            self.act((*args, *kwargs.values()), output)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return _leave_copy

    def __reduce__(self) -> Any:  # in a saved module, a hook that does nothing and asks for no vislab
        return getattr, (nullcontext(), "__exit__")


def _leave_copy(module: nn.Module, *_: Any) -> None:
    """What became of the hooks in a deep copy of a module: when that first runs, they are gone."""
    _remove(module, lambda hook: hook is _leave_copy)


def _attach(watcher: Eye, recording: Recording, expected: Sequence[nn.Module]) -> None:
    root = recording.root

    def begin(inputs: tuple[Any, ...], _: Any) -> None:
        watcher.begin(recording, inputs)

    def end(_: tuple[Any, ...], output: Any) -> None:
        watcher.end(recording, failed=output is None)

    root.register_forward_pre_hook(_Hook(watcher, recording, root, begin), with_kwargs=True)
    root.register_forward_hook(_Hook(watcher, recording, root, end), with_kwargs=True, always_call=True)
    for part in expected:
        expect = functools.partial(watcher.expect, recording, part)
        hook = _Hook(watcher, recording, part, lambda *_, expect=expect: expect())
        part.register_forward_pre_hook(hook, with_kwargs=True)


def _detach(watcher: Eye, recording: Recording, expected: Sequence[nn.Module]) -> None:
    """Take away all that a capture attached, which may be part of it or nothing."""
    watcher.close(recording)
    for part in (recording.root, *expected):
        _remove(part, lambda hook: isinstance(hook, _Hook) and hook.recording is recording)


def _remove(module: nn.Module, which: Callable[[Any], bool]) -> None:
    """Take off a module the forward hooks that `which` selects.

    torch's handles would not do: where Ctrl-C interrupts a registration, the hook may be there and its handle lost.
    """
    tables = (module._forward_pre_hooks, module._forward_hooks)
    flags = (
        module._forward_pre_hooks_with_kwargs,
        module._forward_hooks_with_kwargs,
        module._forward_hooks_always_called,
    )
    for key in [key for table in tables for key, hook in [*table.items()] if which(hook)]:
        for table in (*flags, *tables):  # the hook last: while it is there, an interrupted removal can begin again
            table.pop(key, None)


def _check_scale(scale: float | Mapping[int, float]) -> None:
    if isinstance(scale, Mapping):
        for index in scale:
            if not whole(index) or index < 0:
                raise ValueError(
                    f"attention_scale is for no site {shown(index)}: sites are counted from 0, as they run"
                )
    factors: list[Any] = [*scale.values()] if isinstance(scale, Mapping) else [scale]
    for factor in factors:
        if isinstance(factor, bool) or not isinstance(factor, Real) or not 0 < float(factor) < math.inf:
            raise ValueError(
                f"attention_scale must be a number above 0 and finite, not {shown(factor)}; 1 is the trained model"
            )


def _attention_modules(paths: Mapping[nn.Module, str]) -> list[nn.Module]:
    """The innermost modules that bear the name of attention: of those in which nothing attends, a capture tells."""
    named = {name: module for module, name in paths.items() if _named_attention(module)}
    return [module for name, module in named.items() if not any(n != name and _within(n, name) for n in named)]


def _named_attention(module: nn.Module) -> bool:
    parts = module._modules.keys()
    projected = len(parts) > 0 and any(projections <= parts for projections in _PROJECTIONS)
    return projected or named(type(module).__name__)


def _within(name: str, outer: str) -> bool:
    return not outer or name.startswith(outer + ".")
