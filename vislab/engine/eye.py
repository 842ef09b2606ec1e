"""The eye of a thread: the one mode that sees its torch functions, and knows which modules run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

from .axes import Axes
from .layouts import Layouts, shapes
from .recorder import Recorder
from .recording import Caller, Recording, Visit
from .rules import follow
from .site import AttentionRefused
from .softmax import SoftmaxRecorder
from .trail import PRODUCT, SOFTMAX, Trail

_FUSED, _MULTI_HEAD = F.scaled_dot_product_attention, F.multi_head_attention_forward
_ATTENDS = {_FUSED, _MULTI_HEAD, *SOFTMAX}
_WATCHED = _ATTENDS | PRODUCT
_MANY = 200_000  # axes that are kept of the forwards that were followed, before all begins anew


class Eye(TorchFunctionMode):
    """Sees the torch functions of one thread, and hands those by which a module attends to the recorders.

    It lies on the thread's stack of modes while any capture is open in the thread. recordings: of the open captures.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recordings: list[Recording] = []
        self._axes, self._trail, self._layouts = Axes(), Trail(), Layouts()
        self._recorder = Recorder(self._axes, self._layouts)
        self._softmaxes = SoftmaxRecorder(self._axes, self._trail, self._layouts)
        self._follows = False  # all functions, not only those that attend
        self._seen = self._see

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _WATCHED and not self._follows and not len(self._trail):  # most functions
            return func(*args, **kwargs)
        try:
            return self._seen(func, args, kwargs)
        except BaseException as error:
            if not isinstance(error, Exception):  # of modules that Ctrl-C leaves, torch calls no hook
                self._rest()
            raise

    def _see(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        weighed = False
        if func in _ATTENDS:
            visits = self._visits()
            if visits and func is _FUSED:
                output = self._recorder.fused(visits, func, args, kwargs)
            elif visits and func is _MULTI_HEAD:
                output = self._recorder.multi_head(visits, func, args, kwargs)
            elif visits and _several(args, kwargs):
                return self._softmaxes.softmax(visits, func, args, kwargs)
            else:
                output = func(*args, **kwargs)
        else:
            weighed = func in PRODUCT and len(self._trail) > 0 and self._weigh(func, args, kwargs)
            output = func(*args, **kwargs)
        if self._follows or (not weighed and self._axes.knows(args)):
            follow(self._axes, func, args, kwargs, output)
        if not weighed and (func in PRODUCT or len(self._trail)):
            self._trail.follow(self._axes, func, args, kwargs, output)
        return output

    def _weigh(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a product that is about to be made weighs values by a softmax."""
        seen = self._trail.weighing(func, args, kwargs)
        return seen is not None and self._softmaxes.weigh(seen, {caller.module for caller in self._callers()})

    def _callers(self) -> list[Caller]:
        """The modules that run, as far out as any capture asks: while all captured modules run, up to the last."""
        inside = all(recording.in_forward for recording in self.recordings)
        return callers({recording.root for recording in self.recordings} if inside else set())

    def _visits(self) -> list[Visit]:
        """The captures that take part in the call of attention that is being made."""
        running = self._callers()
        visits = [visit for recording in self.recordings if (visit := recording.visit(running)) is not None]
        through = torch.is_grad_enabled() and any(v.recording.gradients or v.scale != 1 for v in visits)
        if through and _checkpointed(running[0].frame):
            raise AttentionRefused(
                f"gradients through {visits[0].site.name!r} ({visits[0].site.kind}) would be wrong: gradient "
                "checkpointing runs layers again in the backward pass, unwatched. Turn it off "
                "(transformers: activation_checkpointing_disable(), timm: set_grad_checkpointing(False))"
            )
        return visits

    # ---- captures and their forwards ----

    def open(self, recording: Recording) -> None:
        """A capture begins, in this thread."""
        self.recordings.append(recording)
        if self._seen == self._see and "torch._dynamo" in sys.modules:  # torch.compile then leaves it as it is
            self._seen = torch.compiler.disable(self._see)
        if self not in _get_current_function_mode_stack():
            _push_mode(self)

    def close(self, recording: Recording) -> None:
        """A capture ends. May be called again, after an interrupt.

        Where the mode cannot be taken away, it lets all functions through until the next capture of its thread ends:
        in another thread, where a capture that was dropped may end, and where torch, interrupted, puts it back.
        """
        self.recordings[:] = [other for other in self.recordings if other is not recording]
        recording.close()
        if not self.recordings:
            self._rest()
            if self is eye():
                self._take_away()

    def _take_away(self) -> None:
        """From wherever it lies on the stack: a mode may have been entered since, and left open."""
        if self not in _get_current_function_mode_stack():
            return
        above = []
        try:
            while (mode := _pop_mode()) is not self:
                above.append(mode)
        finally:
            for mode in reversed(above):
                _push_mode(mode)

    def sees_for(self, recording: Recording) -> bool:
        """Whether a capture is open, and functions come here: within one of them, such as backward(), none do."""
        return recording in self.recordings and self in _get_current_function_mode_stack()

    def begin(self, recording: Recording, arguments: Sequence[Any]) -> None:
        """The module that a capture was opened on begins to run."""
        inputs = [x for x in _flat(arguments) if isinstance(x, Tensor) and x.ndim]
        recording.begin(inputs, followed=self._layouts.followed(recording.root, shapes(inputs)))
        if not recording.followed:
            self._follows = True
            for x in inputs:
                if self._axes.of(x) is None:
                    self._axes.input(x)

    def expect(self, recording: Recording, module: nn.Module) -> None:
        """A module that bears the name of attention begins to run; outside a forward, it is followed from here on."""
        recording.expect(module)
        self._follows |= not recording.in_forward

    def end(self, recording: Recording, *, failed: bool) -> None:
        """The module has run, or failed."""
        if recording.in_forward and not recording.followed and not failed:
            self._layouts.finish(recording.root, recording.inputs)
        if recording.in_forward and not failed:
            with torch._C.DisableTorchFunction():  # or each look at a tensor here would come back to this mode
                recording.finish()
        recording.end()
        self._follows = any(other.in_forward and not other.followed for other in self.recordings)
        if not any(other.in_forward for other in self.recordings):
            self._rest()
        if not failed:
            recording.check_scale()

    def _rest(self) -> None:
        """Nothing runs any more."""
        self._follows = False
        self._axes.forget()
        self._trail.forget()
        for recording in self.recordings:
            recording.end()
        if len(self._axes.axes) > _MANY:
            self._axes.clear()
            self._layouts.clear()


class _Thread(threading.local):
    def __init__(self) -> None:
        self.eye = Eye()


_thread = _Thread()


def eye() -> Eye:
    """That of the thread that asks."""
    return _thread.eye


def callers(roots: set[nn.Module]) -> list[Caller]:
    """The modules that run in this thread, the innermost first: a frame's first argument says whose it is.

    roots: where all of them have been met, nobody asks for what lies farther out; empty, all is looked at.
    """
    found, missing = [], {*roots}
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount]
        if names:
            locals_ = frame.f_locals
            first = locals_.get(names[0])
            if not isinstance(first, nn.Module) and "self" in names:  # what torch.compile makes of a method
                first = locals_.get("self")
            if sys.version_info < (3, 13) and frame.f_trace is None:
                locals_.clear()  # a copy, which would keep alive what the function deletes, for as long as it runs
            if isinstance(first, nn.Module):
                found.append(Caller(first, frame))
                missing.discard(first)
                if roots and not missing:
                    break
        frame = frame.f_back
    return found


def _checkpointed(frame: FrameType | None) -> bool:
    """Whether gradient checkpointing runs what runs now, to throw it away and run it again."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return True
        frame = frame.f_back
    return False


def _several(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a softmax is taken of a tensor that may hold attention."""
    x = args[0] if args else kwargs.get("input")
    return isinstance(x, Tensor) and x.ndim > 1


def _flat(arguments: Any) -> list[Any]:
    """Arguments, and what lies in those that are lists or dictionaries."""
    out: list[Any] = []
    for one in arguments:
        out.extend(one.values() if isinstance(one, dict) else one if isinstance(one, list | tuple) else (one,))
    return out
