"""Work on many items: one after the other here, or side by side in the actors of a Ray cluster."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from ..core.imports import library
from ..figures.worker import sendable

LOCAL = "local"  # an address: a cluster of this machine alone, which ends with the process
STORE = 200_000_000  # bytes that a local cluster holds for its processes to share: names and rows, no pictures


class Work(Protocol):
    """What is done to each item; it is sent to the processes that do it."""

    @property
    def device(self) -> str | None:
        """Where its model runs."""
        ...

    def begin(self) -> Callable[[Any], Any]:
        """Load what is needed, once a process -> what is then called with each item."""
        ...


def spread(work: Work, items: Sequence[Any], *, ray: str | None, actors: int | None) -> Iterator[Any]:
    """What work makes of each item: here in their order, in a cluster in the order in which they are finished.

    ray: None for this process; "local" for a cluster of this machine; "auto", or an address, for one that runs. actors:
    processes that each hold a model, by default one a core, or one a graphics card where the cluster has some. An item
    whose actor is killed is done again by another one. What is raised there is raised here.
    """
    if not items:
        return
    if ray is None:
        one = work.begin()
        yield from map(one, items)
        return
    yield from _mapped(_joined(ray, actors), work, items, actors)


def _joined(address: str, actors: int | None) -> Any:
    """Ray, connected to a cluster, and left so for the next call: Ray Data does not outlive a second connection.

    A cluster that was begun here ends with this process.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    ray = library("ray")
    if ray.is_initialized():
        return ray
    quiet: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if address == LOCAL:
        from ..figures.pool import cores

        quiet |= {"num_cpus": actors or cores(), "object_store_memory": STORE, "include_dashboard": False}
    try:
        ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises whatever its parts raise, and bare exceptions of its own
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        if address == LOCAL:
            raise RuntimeError(f"Ray did not start on this machine ({said}): leave ray out, or try again") from error
        raise ConnectionError(
            f"no Ray cluster answers at {address!r} ({said}): start one with ray start --head, or take {LOCAL!r}"
        ) from error
    return ray


def _mapped(ray: Any, work: Work, items: Sequence[Any], actors: int | None) -> Iterator[Any]:
    """By Ray Data: a block an item, so that whatever is lost with an actor is done again, and nothing else."""
    data = library("ray.data")
    data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # its plans and timings are for who tunes a cluster
    graphics = int(ray.cluster_resources().get("GPU", 0)) if (work.device or "cuda").startswith("cuda") else 0
    count = min(actors or graphics or int(ray.cluster_resources().get("CPU", 1)), len(items))
    sent = pickle.dumps(work)
    given = data.from_items(
        [{"work": sent, "item": pickle.dumps(one)} for one in items], override_num_blocks=len(items)
    )
    each = {"num_gpus": 1} if graphics else {"num_cpus": 1}
    made = given.map(_Actor, compute=data.ActorPoolStrategy(size=count), **each)
    rows = iter(made.iter_rows())
    while True:
        try:
            row = next(rows, None)
        except ray.exceptions.RayError as error:
            lost = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RuntimeError(
                f"the cluster gave up ({lost}): if memory is short, take fewer actors; what is done is not done again"
            ) from error
        if row is None:
            return
        answer = pickle.loads(row["answer"])
        if isinstance(answer, _Raised):
            raise answer.error
        yield answer


class _Raised:
    """An error on its way from an actor: Ray would end the run at it too, in a hundred lines."""

    def __init__(self, error: Exception) -> None:
        self.error = sendable(error)


class _Actor:
    """A process of the cluster, which begins once and then does one item after the other."""

    def __init__(self) -> None:
        self._begun: Callable[[Any], Any] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            if self._begun is None:
                threads = os.environ.setdefault("OMP_NUM_THREADS", "1")  # which Ray sets: the actor's cores
                if "torch" in sys.modules:  # else it asks there itself, once the work imports it
                    sys.modules["torch"].set_num_threads(int(threads))
                self._begun = pickle.loads(row["work"]).begin()
            answer = self._begun(pickle.loads(row["item"]))
        except Exception as error:
            answer = _Raised(error)
        return {"answer": pickle.dumps(answer)}
