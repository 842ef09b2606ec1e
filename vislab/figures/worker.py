"""A process that draws and writes figures for another one, which has a model to run meanwhile."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .task import Task

_SAID: dict[Any, Any] = {}  # warnings of this process's workers: each is said once, as if it had arisen here
# glibc then keeps the memory of a figure for the next one: to be given it anew costs a twentieth of a figure's time.
_KEEPING = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}
# What the process runs: the modules of this one, wherever they are found here.
_PROGRAM = "import sys; sys.path[:] = {path!r}; from {room} import serve; serve()"


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of a task. warnings: (message, category, file, line) of each."""

    error: Exception | None
    warnings: Sequence[tuple[str, type[Warning], str, int]]

    def tell(self) -> None:
        """Warn and raise here as it was warned and raised there."""
        for message, category, name, line in self.warnings:
            warnings.warn_explicit(message, category, name, line, registry=_SAID)
        if self.error is not None:
            raise self.error


class Ended(RuntimeError):
    """The process of a worker is no more; the message says how it ended."""


class Worker:
    """A process of one's own that runs tasks one after the other, in its own time: it never sees a model.

    It begins to import what draws as soon as it is made, and ends by itself when this process does.
    """

    def __init__(self) -> None:
        # A group of its own: Ctrl-C is for the process that made it, which lets it finish what it writes.
        alone: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            alone = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        program = _PROGRAM.format(path=sys.path, room=__name__)
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_KEEPING | os.environ,
            **alone,
        )
        self.pid = self._process.pid

    def run(self, task: Task) -> Answer:
        """Have a task run, and wait for it. Raises Ended where the process does not live to answer."""
        tasks, answers = self._process.stdin, self._process.stdout
        assert tasks is not None
        assert answers is not None
        data = pickle.dumps(task, protocol=pickle.HIGHEST_PROTOCOL)
        try:
            tasks.write(data)
            tasks.flush()
            answer: Answer = pickle.load(answers)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:  # a ValueError: its pipe was closed
            self.kill()
            code = self._process.returncode
            how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit status {code}"
            raise Ended(how) from error
        return answer

    def close(self) -> None:
        """Let it finish what it writes, and end."""
        self._end()
        self._process.wait()

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()
        self._end()
        self._process.wait()

    def _end(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):  # what was still to be sent to a process that is gone
                stream.close()


def serve() -> None:
    """Run the tasks that come in on standard input until there are no more; what the process of a Worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tasks = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get among the answers
    with suppress(Exception):  # whatever is wrong is told by the first task
        _warm()
    try:
        while True:
            answer = run(pickle.load(tasks))
            pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, OSError, pickle.UnpicklingError):  # the other process has no more, or is no more
        os._exit(0)


def run(task: Task) -> Answer:
    """Run a task, its warnings and its error kept for the process that asked."""
    error: Exception | None = None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            task.run()
        except Exception as raised:
            error = sendable(raised)
    return Answer(error, [(str(one.message), one.category, one.filename, one.lineno) for one in told])


def sendable(error: Exception) -> Exception:
    """The same error, with its traceback as a note, or its words where it cannot be sent to another process."""
    where = "".join(traceback.format_exception(error))
    error.__traceback__ = error.__cause__ = error.__context__ = None
    error.add_note(where)
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:
        again = None
    return error if type(again) is type(error) and str(again) == str(error) else RuntimeError(str(error))


def _warm() -> None:
    """Draw a first small figure: what is imported and found on the way (fonts, say) is there for the next one."""
    import cv2
    import numpy as np

    from ..core.geometry import Frame, Grid
    from ..core.heatmap import Heatmap
    from .panel import panel
    from .provenance import record_of
    from .save import file_of

    cv2.setNumThreads(1)  # the other cores have workers of their own
    frame = Frame.stretch((16, 16), (16, 16))
    heat = Heatmap(np.eye(2), Grid(2, 2, (8, 8)), frame, "cls", image=np.zeros((16, 16, 3), np.uint8))
    figure = panel(heat, dpi=30)
    file_of(figure, ".png", record_of(figure, ".png"))
