"""Runs that are remembered with what was made of them, and the thread that makes the newest wanted, one at a time."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from torch.overrides import TorchFunctionMode

from . import evaluation, metrics
from .geometry import Grid, Heatmap, attention_flops
from .models import Model, Run

STEPS = 28  # of a removal, as in `evaluate`
PARTS = 8  # in which its forwards are made, telling how far they are
MADE = 100  # results kept with a run
MODELS = 2  # whose runs are kept: a run holds on to its model


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
        if not self.left and self.stop():
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
                if what is None:
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


@dataclass(frozen=True, eq=False)
class Kept:
    """A run that is remembered. number: its name, never given twice. seconds: how long its forward took.

    photo: what was run, which the results hold on to. sizes, attention_scale: of the forward. made: results that took
    long, by what was asked.
    """

    number: int
    model: Model
    run: Run
    photo: np.ndarray
    seconds: float
    sizes: Mapping[str, Any] = field(default_factory=dict)
    attention_scale: float = 1.0
    made: dict[Any, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What its queries and keys take."""
        return self.run.grid.tokens * self.model.dim * self.model.layers * 2 * self.model.dtype.itemsize

    def once(self, asked: Any, make: Callable[[], Any]) -> Any:
        """What was made when this was asked before, or is made now; of many, the last are kept."""
        if asked in self.made:
            return self.made[asked]
        self.made[asked] = found = make()
        while len(self.made) > MADE:
            self.made.pop(next(iter(self.made)), None)
        return found


class Runs:
    """The runs last used, bounded in bytes and models, and how fast forwards are; `forwards` counts those made."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.forwards = 0
        self._kept: OrderedDict[Any, Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._rates: WeakKeyDictionary[Model, list[float]] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        photos = {id(kept.photo): kept.photo.nbytes for kept in self._kept.values()}  # one of many runs is held once
        return sum(kept.bytes for kept in self._kept.values()) + sum(photos.values())

    def numbered(self, number: int) -> Kept | None:
        with self._lock:
            return next((kept for kept in self._kept.values() if kept.number == number), None)

    def run(
        self,
        model: Model,
        image: np.ndarray,
        digest: str,
        *,
        starting: Callable[[Grid], None] = lambda grid: None,
        stop: Callable[[], bool] = lambda: False,
        attention_scale: float = 1.0,
        **sizes: Any,
    ) -> tuple[Kept, bool]:
        """The run of an image under these settings -> (run, whether a forward was made).

        digest: of the image's content. starting: told the grid before a forward. stop: asked during a forward whether
        to leave it off, by raising Superseded. Others are `Model.run`'s. To make room, runs not used for longest are
        dropped, and all of models not used for longest; the newest always stays.
        """
        grid = model.grid(**sizes)
        key = (model, digest, str(grid), grid.patch, attention_scale)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key], False
        starting(grid)
        run, seconds = self._timed(model, image, stop, attention_scale=attention_scale, **sizes)
        with self._lock:
            self._kept[key] = kept = Kept(next(self._numbers), model, run, image, seconds, sizes, attention_scale)
            while self.bytes > self.limit and len(self._kept) > 1:
                self._kept.popitem(last=False)
            models = list(dict.fromkeys(of for of, *_ in reversed(self._kept)))[:MODELS]
            for old in [key for key in self._kept if key[0] not in models]:
                del self._kept[old]
        return kept, True

    def rate(self, model: Model, image: np.ndarray, *, stop: Callable[[], bool] = lambda: False) -> float:
        """Operations a second of the model's fastest forward, for forecasts of others on this machine.

        The first forward in a process pays for much beside itself: where there was no other, one more is made.
        """
        while len(self._rates.get(model, ())) < 2:
            self._timed(model, image, stop)
        return max(self._rates[model])

    def rollout_seconds(self, kept: Kept) -> float:
        """How long the rollout of a run takes, about: q·kᵀ of every layer once more, half of its attention."""
        flops = attention_flops(kept.run.grid.tokens, kept.model.dim, kept.model.layers) / 2
        return flops / max(self._rates[kept.model])

    def _timed(self, model: Model, image: np.ndarray, stop: Callable[[], bool], **how: Any) -> tuple[Run, float]:
        start = time.perf_counter()
        with Unless(stop):
            run = model.run(image, **how)
        seconds = time.perf_counter() - start
        with self._lock:
            self.forwards += 1
            rates = [*self._rates.get(model, ()), forward_flops(model, run.grid.tokens) / seconds]
            self._rates[model] = sorted(rates)[-2:]
        return run, seconds


def forward_flops(model: Model, tokens: int) -> int:
    """Operations of a forward, about: attention, and 24·n·d² a layer for projections and an MLP four times as wide."""
    return attention_flops(tokens, model.dim, model.layers) + 24 * tokens * model.dim**2 * model.layers


@dataclass(frozen=True, eq=False)
class Trial:
    """What becomes of a class's probability while patches are taken away in a heatmap's order, and put back in it.

    target: the class, in words. gone: (rows, cols) int, the step from which a patch is gone. filled: (h, w, 3) uint8,
    the model's input as it is where patches are gone: blurred until its shapes are.
    """

    target: str
    curves: metrics.Removal
    gone: np.ndarray
    filled: np.ndarray


def trial(
    kept: Kept,
    image: np.ndarray,
    heat: Heatmap,
    target: str | int | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trial:
    """Remove a heatmap's patches from the image of a run, under its settings; `evaluate` has the same numbers.

    target: class, by default the one that the run predicts. progress: told (done, total) in forwards. What was made of
    this run before is given again. Raises ValueError for a model without a classifier.
    """
    model, run = kept.model, kept.run
    if run.logits is None or model.labels is None:
        raise ValueError(f"{model.name} names nothing: there is no probability to watch")
    index = int(run.logits.argmax()) if target is None else model.class_index(target)
    name = model.labels[index]

    pixels, _ = model.preprocessing(image, model.input_size(kept.sizes.get("image_size")))
    steps = min(STEPS, run.grid.patches)
    gone = np.zeros((run.grid.rows, run.grid.cols), int)
    score = evaluation.kept_score(model, pixels, index, **kept.sizes)

    def scores(masks: np.ndarray) -> np.ndarray:
        gone[:] = masks[: steps + 1].sum(0)  # those in which a patch is still there
        found: list[np.ndarray] = []
        for part in np.array_split(masks, min(PARTS, len(masks))):
            progress(sum(map(len, found)), len(masks))
            with _scaled(kept):
                found.append(score(part))
        return np.concatenate(found)

    def filled() -> np.ndarray:
        mean, std = (np.array(v)[:, None, None] for v in (model.preprocessing.mean, model.preprocessing.std))
        shown = evaluation.filled(pixels[0], "blur").numpy() * std + mean
        return (shown.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)

    def make() -> Trial:
        curves = metrics.removal(scores, heat.values, steps=steps, rng=evaluation.rng(0, "ties", 0))
        return Trial(name, curves, gone, kept.once("filled", filled))

    return kept.once(("trial", index, heat.values.tobytes()), make)


@contextmanager
def _scaled(kept: Kept) -> Iterator[None]:
    """This thread's forwards of the model inside it run under the run's attention scale, and nobody else's."""
    if kept.attention_scale == 1:
        yield
    else:
        with kept.model.lock, kept.model.captured(kept.attention_scale):
            yield
