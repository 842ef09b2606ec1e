"""Runs that are remembered with what was made of them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..core.cache import KEEPERS, Entry
from ..core.costs import attention_flops
from ..models.model import Model
from ..models.run import Run
from ..models.tokens import Tokens
from .spent import counts, in_words, spent_by
from .worker import Unless

MADE = 100  # results kept with a run
MODELS = 2  # whose runs are kept: a run holds on to its model


@dataclass(frozen=True, eq=False)
class Kept:
    """A run that is remembered. number: its name, never given twice. seconds: how long its forward took.

    photo: what was run, which the results hold on to. counts: how many tokens each layer attended over. sizes,
    attention_scale: of the forward, how it spent its tokens among the sizes. made: results that took long, by what was
    asked.
    """

    number: int
    model: Model
    run: Run
    photo: np.ndarray
    seconds: float
    counts: tuple[int, ...]
    sizes: Mapping[str, Any] = field(default_factory=dict)
    attention_scale: float = 1.0
    made: dict[Any, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What its queries and keys take."""
        return sum(self.counts) * bool(self.model.layers) * self.model.dim * 2 * self.model.dtype.itemsize

    def once(self, question: Any, make: Callable[[], Any]) -> Any:
        """The result for a question: the one made before, or else what `make` returns. The newest MADE of them stay."""
        if question in self.made:
            return self.made[question]
        self.made[question] = result = make()
        while len(self.made) > MADE:
            self.made.pop(next(iter(self.made)), None)
        return result


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

    def entries(self) -> list[Entry]:
        """Each run, with the photograph where it is the first of several runs of the same one."""
        with self._lock:
            kept = list(self._kept.values())
        first = {id(one.photo): one for one in reversed(kept)}
        return [
            Entry(
                "run",
                f"{one.model.name}, {one.run.grid}, {len(one.made)} results",
                one.bytes + (one.photo.nbytes if first[id(one.photo)] is one else 0),
            )
            for one in kept
        ]

    def clear(self) -> None:
        """Let go of all runs; a lab keeps those that it shows."""
        with self._lock:
            self._kept.clear()

    def numbered(self, number: int) -> Kept | None:
        with self._lock:
            return next((kept for kept in self._kept.values() if kept.number == number), None)

    def run(
        self,
        model: Model,
        image: np.ndarray,
        digest: str,
        *,
        starting: Callable[[str], None] = lambda tokens: None,
        stop: Callable[[], bool] = lambda: False,
        attention_scale: float = 1.0,
        **sizes: Any,
    ) -> tuple[Kept, bool]:
        """The run of an image under these settings -> (run, whether a forward was made).

        digest: of the image's content. starting: told the tokens before a forward. stop: asked during a forward whether
        to leave it off, by raising Superseded. Others are `Model.run`'s. To make room, runs not used for longest are
        dropped, and all of models not used for longest; the newest always stays.
        """
        source, tokens = (image.shape[0], image.shape[1]), spent_by(sizes)
        grid = model.grid(sizes.get("image_size"), sizes.get("patch_size"))
        left = counts(model, source, sizes)
        key = (model, digest, str(grid), grid.patch, attention_scale, repr(tokens))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key], False
        starting(str(grid) if tokens is None else in_words(left))
        if tokens is not None:
            with Unless(stop):
                prove(model, image, tokens, sizes)
        run, seconds = self._timed(model, image, stop, attention_scale=attention_scale, **sizes)
        with self._lock:
            number = next(self._numbers)
            self._kept[key] = kept = Kept(number, model, run, image, seconds, left, sizes, attention_scale)
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
        """How long the rollout of a run takes, about: q·kᵀ of every layer once more, half of its attention.

        Of a model whose speed is not known yet, as long as the run, which did more than that.
        """
        rates = self._rates.get(kept.model)
        flops = sum(attention_flops(count, kept.model.dim) for count in kept.counts) / 2
        return flops / max(rates) if rates else kept.seconds

    def _timed(self, model: Model, image: np.ndarray, stop: Callable[[], bool], **how: Any) -> tuple[Run, float]:
        start = time.perf_counter()
        with Unless(stop):
            run = model.run(image, **how)
        seconds = time.perf_counter() - start
        with self._lock:
            self.forwards += 1
            if spent_by(how) is None:  # else it is slower than its operations say
                rates = [*self._rates.get(model, ()), forward_flops(model, run.grid.tokens) / seconds]
                self._rates[model] = sorted(rates)[-2:]
        return run, seconds


def forward_flops(model: Model, tokens: int) -> int:
    """Operations of a forward, about: attention, and 24·n·d² a layer for projections and an MLP four times as wide."""
    return attention_flops(tokens, model.dim, model.layers) + 24 * tokens * model.dim**2 * model.layers


def prove(model: Model, image: np.ndarray, tokens: Tokens, sizes: Mapping[str, Any]) -> None:
    """Have it proven, once for an input, that a model's tokens can be spent: no part of the time of a forward."""
    with model.prepared(image, image_size=sizes.get("image_size"), patch_size=sizes.get("patch_size"), tokens=tokens):
        pass


RUNS = Runs(512 * 2**20)  # of all labs of this process
KEEPERS.append(RUNS)
