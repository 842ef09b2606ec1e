"""The thread that does the newest of what is wanted, one thing at a time."""

from __future__ import annotations

import atexit
import math
import threading
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from torch.overrides import TorchFunctionMode

EXIT_SECONDS = 10
_ending = threading.Event()
_at_work: set[threading.Thread] = set()


@atexit.register
def _leave_off() -> None:
    """At exit, work is left off: Python kills a thread that is left inside torch, and with it the process aborts."""
    _ending.set()
    for thread in [*_at_work]:
        thread.join(EXIT_SECONDS)


class Superseded(Exception):
    """Work was left off, because something newer is wanted."""


class Unless(TorchFunctionMode):
    """Inside the block, this thread leaves off between two torch functions once stop() is true: Superseded is raised.

    Nothing is put on the model, so nothing can stay there. It is raised once: what tidies up after it may use torch.
    """

    def __init__(self, stop: Callable[[], bool]) -> None:
        super().__init__()
        self.stop = stop
        self.left = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not self.left and (self.stop() or _ending.is_set()):
            self.left = True
            raise Superseded
        return func(*args, **(kwargs or {}))


class Newest:
    """A thread that does what is wanted, one thing at a time; of what is wanted meanwhile only the newest remains.

    work: does one thing, and may leave off with Superseded when there is `newer`; fail: told what else went wrong. Both
    run in the context of who wanted it: a Jupyter kernel sends what a page says next to where the context of the last
    message to it points, and a thread without one is given the latest of all, which may point to what has ended since.
    """

    def __init__(self, work: Callable[[Any], None], fail: Callable[[Exception], None]) -> None:
        self.newer: Any = None  # what is wanted beyond what is being done
        self._work, self._fail = work, fail
        self._context = Context()
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def want(self, what: Any) -> None:
        """Do this, whatever was wanted before."""
        with self._lock:
            self.newer, self._context = what, copy_context()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                _at_work.add(self._thread)
                self._thread.start()

    def wait(self, timeout: float | None = None) -> None:
        """Until all that was wanted is done. Raises what went wrong last, or TimeoutError (seconds)."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while (thread := self._thread) is not None:
            thread.join(None if end == math.inf else max(0.0, end - time.monotonic()))
            if time.monotonic() >= end and self._thread is not None:
                raise TimeoutError(f"the lab was still at work after {timeout:g} s")
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            with self._lock:
                what, context, self.newer = self.newer, self._context, None
                if what is None or _ending.is_set():
                    _at_work.discard(threading.current_thread())
                    self._thread = None
                    return
                self._error = None
            try:
                context.run(self._work, what)
            except Superseded:
                continue
            except Exception as error:
                self._error = error
                context.run(self._fail, error)
