"""The engine's eye: reads the attention of any torch module while it runs as it is, fused attention and all.

Queries meet keys in one call: `scaled_dot_product_attention`, or an explicit softmax where a module has no fused
attention. `capture` watches that call inside each attention module and keeps what went into it: queries and keys after
projection, normalisation and rotation, with scale and mask (of an explicit softmax its result, unless it is taken of
nothing but a product, which then is that of queries and keys). That is O(n) memory, no family needs an adapter, and any
row of attention can be computed again when someone asks for it.
"""

from __future__ import annotations

import functools
import math
import re
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..core.checks import whole
from .capture import Capture
from .recorder import Tap
from .site import AttentionRefused

_PROJECTIONS = ({"q_proj", "k_proj"}, {"query", "key"}, {"q", "k"}, {"to_q", "to_k"}, {"qkv"})


@dataclass(eq=False)
class _Watch:
    """Who watches a module, and the `forward` of its own instance (nearly always None) that is to be put back."""

    own: Callable[..., Any] | None
    forward: _Forward
    roots: list[Capture] = field(default_factory=list)
    sites: list[tuple[Capture, str]] = field(default_factory=list)


_watched: WeakKeyDictionary[nn.Module, _Watch] = WeakKeyDictionary()
_lock = threading.RLock()


@contextmanager
def capture(
    module: nn.Module, *, attention_scale: float | Mapping[int, float] = 1.0, gradients: bool = False
) -> Iterator[Capture]:
    """Keep what the attention sites of any torch module do in the forwards inside the block.

    The module runs as it is, in its own dtype and with its fused attention (nn.MultiheadAttention without its inference
    fast path, which differs by rounding); afterwards nothing of the capture is left on it, whatever happened.
    attention_scale: factor s of q·kᵀ in softmax(s·q·kᵀ/√d + bias), a real intervention, above
    0; for all sites, or {index in execution order: s}. Each site is verified on some rows of its first forward:
    attention recomputed from its queries and keys must give its own output. A site that fails is refused by name when
    read; one that is to be scaled and makes its own softmax, at once. gradients: keep what `Capture.differentiate`
    needs, the values and the graph; where neither input nor weights require one, it begins at the first attention.
    Gradient checkpointing is refused where gradients are kept, or would go through scaled attention.

    The last forward counts. Only the thread that opened the capture is recorded. Captures may be nested, and closed in
    any order; each reports what the model really used, the others' interventions included.

        with vislab.capture(model) as cap:
            model(pixels)
        cap.attention("vit.layers.11.attention", query=0)
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"capture needs a torch module, not {type(module).__name__}; of a vislab Model take .module")
    targets = _attention_modules(module)
    if any(isinstance(m, torch.jit.ScriptModule) for m in (module, *targets.values())):
        raise TypeError("a TorchScript module runs where nothing can watch it: give the module that it was made from")
    _check_scale(attention_scale, len(targets))
    recording = Capture(module, attention_scale, watched=len(targets), differentiable=gradients)
    try:
        with _lock:
            _watch(module).roots.append(recording)
            for name, target in targets.items():
                _watch(target).sites.append((recording, name))
        yield recording
    finally:
        for target in (module, *targets.values()):
            _unwatch(target, recording)


def _check_scale(scale: float | Mapping[int, float], sites: int) -> None:
    if isinstance(scale, Mapping):
        for index in scale:
            if not whole(index) or not 0 <= index < sites:
                raise ValueError(f"attention_scale is for no site {index!r}: their indices run from 0 to {sites - 1}")
    factors: list[Any] = [*scale.values()] if isinstance(scale, Mapping) else [scale]
    for factor in factors:
        if isinstance(factor, bool) or not isinstance(factor, Real) or not 0 < float(factor) < math.inf:
            raise ValueError(
                f"attention_scale must be a number above 0 and finite, not {factor!r}; 1 is the trained model"
            )


def _attention_modules(root: nn.Module) -> dict[str, nn.Module]:
    """The innermost modules that look like attention, by path."""
    found: dict[str, nn.Module] = {}
    inside: tuple[str, ...] = ()
    for name, module in root.named_modules():
        if inside and name.startswith(inside):
            continue  # nn.MultiheadAttention attends itself, with the parts inside it
        parts = set(module._modules.keys())
        if _named_attention(type(module).__name__) or any(projections <= parts for projections in _PROJECTIONS):
            found[name] = module
        if isinstance(module, nn.MultiheadAttention):
            inside += (name + "." if name else "",)
    return {name: m for name, m in found.items() if not any(n != name and _within(n, name) for n in found)}


@functools.cache
def _named_attention(kind: str) -> bool:
    return re.search(r"att(entio)?n", kind, re.IGNORECASE) is not None


def _within(name: str, outer: str) -> bool:
    return not outer or name.startswith(outer + ".")


class _Forward:
    """Stands in the place of a watched module's `forward`."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.original = module.forward
        functools.update_wrapper(self, self.original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _run(self.module, self.original, args, kwargs)

    def __reduce__(self) -> Any:
        return getattr, (self.module, "forward")  # of a copy of the module, its own


def _watch(module: nn.Module) -> _Watch:
    """The watch over a module; the first one puts its wrapper in the place of `forward`."""
    if module not in _watched:
        _watched[module] = _Watch(module.__dict__.get("forward"), _Forward(module))
        module.forward = _watched[module].forward
    return _watched[module]


def _unwatch(module: nn.Module, recording: Capture) -> None:
    with _lock:
        watch = _watched.get(module)
        if watch is None:
            return
        watch.roots[:] = [r for r in watch.roots if r is not recording]
        watch.sites[:] = [(r, name) for r, name in watch.sites if r is not recording]
        if watch.roots or watch.sites:
            return
        del _watched[module]
        if module.__dict__.get("forward") is not watch.forward:
            return  # somebody else has wrapped it meanwhile: theirs goes on to the original
        if watch.own is None:
            del module.forward
        else:
            module.forward = watch.own


def _run(module: nn.Module, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    thread = threading.get_ident()
    watch = _watched.get(module)
    if watch is None:
        return original(*args, **kwargs)
    roots = [r for r in watch.roots if r._thread == thread]
    for recording in roots:
        recording._begin((*args, *kwargs.values()))
    try:
        entered = [r._enter(name, module) for r, name in watch.sites if r._thread == thread]
        if not entered:
            return original(*args, **kwargs)
        tap = Tap(module, entered)
        if (tap.differentiable or (tap.scale != 1 and torch.is_grad_enabled())) and _checkpointed():
            raise AttentionRefused(
                f"gradients through {tap.sites[0].name!r} ({tap.sites[0].kind}) would be wrong: gradient checkpointing "
                "runs layers again in the backward pass, unwatched. Turn it off "
                "(transformers: activation_checkpointing_disable(), timm: set_grad_checkpointing(False))"
            )
        with tap:
            return original(*args, **kwargs)
    finally:
        for recording in roots:
            recording._end()


def _checkpointed() -> bool:
    """Whether gradient checkpointing runs what runs now, to throw it away and run it again."""
    return any(frame.f_globals.get("__name__") == "torch.utils.checkpoint" for frame, _ in traceback.walk_stack(None))
