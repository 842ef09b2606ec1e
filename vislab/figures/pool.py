"""Figures drawn by several processes at once, in the order in which they were given."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue

from .task import Task
from .worker import Answer, Ended, Worker, run

ATTEMPTS = 2  # what ends one process after the other is given up
_AGAIN = "the process that drew {!r} was ended by {}: another one draws it again"
_GIVEN_UP = "the process that draws {!r} was ended {} times, at last by {}: if memory is short, take fewer --workers"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """Workers that draw; `with Pool(count) as pool:` starts them, and ends them whatever happens.

    count: processes; 0 draws in this one. Each has a thread here that waits for it.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._workers: list[Worker] = []
        self._abandoned = False
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="vislab-figure") if count else None

    def __enter__(self) -> Pool:
        for _ in range(self.count):
            self._idle.put(self._started())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers: what is being written is finished, what waits for one of them is left out."""
        if self._threads is None:
            return
        try:
            self._threads.shutdown(wait=True, cancel_futures=True)
            for worker in self._workers:
                worker.close()
        except BaseException:  # a second Ctrl-C, of somebody who waits no longer
            self._abandoned = True
            for worker in self._workers:
                worker.kill()
            raise
        self._workers.clear()

    def submit(self, task: Task) -> Future[Answer]:
        """Have a task run by the next worker that is free."""
        if self._threads is not None:
            return self._threads.submit(self._run, task)
        done: Future[Answer] = Future()
        done.set_result(run(task))
        return done

    def _run(self, task: Task) -> Answer:
        worker = self._idle.get()
        ends: list[str] = []
        try:
            while len(ends) < ATTEMPTS and not self._abandoned:
                try:
                    answer = worker.run(task)
                except Ended as error:
                    ends.append(str(error))
                    if not self._abandoned:
                        self._workers.remove(worker)
                        worker = self._started()
                    continue
                said = [(_AGAIN.format(str(task.path), end), UserWarning, __file__, 0) for end in ends]
                return replace(answer, warnings=[*said, *answer.warnings])
        finally:
            self._idle.put(worker)
        return Answer(Ended(_GIVEN_UP.format(str(task.path), len(ends), ends[-1])), [])

    def _started(self) -> Worker:
        worker = Worker()
        self._workers.append(worker)
        return worker
