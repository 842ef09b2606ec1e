"""The eye of a thread: the one mode that sees its torch functions, and who runs there."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

from .recorder import Recorder
from .recording import Recording
from .site import AttentionRefused


class Eye(TorchFunctionMode):
    """Hands the torch functions of one thread to the recorder of the innermost watched module that runs there.

    It lies on the thread's stack of modes while any capture is open in the thread. recordings: of the open captures.
    running: a recorder for each watched module that runs, the innermost last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recordings: list[Recording] = []
        self.running: list[Recorder] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not self.running:  # most functions: all that lie outside attention
            return func(*args, **kwargs) if kwargs else func(*args)
        try:
            return self.running[-1].see(func, args, kwargs or {})
        except BaseException as error:
            if not isinstance(error, Exception):  # of modules that Ctrl-C leaves, torch calls no hook
                self.running.clear()
                for recording in self.recordings:
                    recording.end()
            raise

    def open(self, recording: Recording) -> None:
        """A capture begins, in this thread."""
        self.recordings.append(recording)
        if self not in _get_current_function_mode_stack():
            _push_mode(self)

    def close(self, recording: Recording) -> None:
        """A capture ends. May be called again, after an interrupt.

        Where the mode cannot be taken away, it lets all functions through until the next capture of its thread ends:
        in another thread, where a capture that was dropped may end, and where torch, interrupted, puts it back.
        """
        self.recordings[:] = [other for other in self.recordings if other is not recording]
        if not self.recordings:
            self.running.clear()
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

    def begin(self, recording: Recording, inputs: tuple[Any, ...]) -> None:
        """The module that a capture was opened on begins to run.

        What still runs for that capture was interrupted: torch calls no hook of a module that Ctrl-C left.
        """
        still = takewhile(lambda recorder: not recorder.records_for(recording), self.running)
        self.running[:] = list(still)
        recording.begin(inputs)

    def enter(self, recording: Recording, name: str, module: nn.Module) -> None:
        """A watched module begins to run; of several captures that watch it, each one says so."""
        if not self.running or self.running[-1].module is not module or self.running[-1].records_for(recording):
            self.running.append(Recorder(module))
        recorder = self.running[-1]
        recorder.join(recording, name)
        if (recorder.gradients or (recorder.scale != 1 and torch.is_grad_enabled())) and _checkpointed():
            raise AttentionRefused(
                f"gradients through {name!r} ({type(module).__name__}) would be wrong: gradient checkpointing "
                "runs layers again in the backward pass, unwatched. Turn it off "
                "(transformers: activation_checkpointing_disable(), timm: set_grad_checkpointing(False))"
            )

    def leave(self, module: nn.Module) -> None:
        """A watched module has run, or failed."""
        if self.running and self.running[-1].module is module:
            self.running.pop()


class _Thread(threading.local):
    def __init__(self) -> None:
        self.eye = Eye()


_thread = _Thread()


def eye() -> Eye:
    """That of the thread that asks."""
    return _thread.eye


def _checkpointed() -> bool:
    """Whether gradient checkpointing runs what runs now, to throw it away and run it again."""
    return any(frame.f_globals.get("__name__") == "torch.utils.checkpoint" for frame, _ in traceback.walk_stack(None))
