"""Runs that are remembered: going back to settings seen before costs no forward."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from .geometry import Grid, attention_flops
from .models import Model, Run


@dataclass(frozen=True, eq=False)
class Kept:
    """A run that is remembered. number: its name, never given twice. seconds: how long its forward took."""

    number: int
    model: Model
    run: Run
    seconds: float

    @property
    def bytes(self) -> int:
        """What its queries and keys take."""
        return self.run.grid.tokens * self.model.dim * self.model.layers * 2 * self.model.dtype.itemsize

    @property
    def rate(self) -> float:
        """Operations a second, for a forecast of other token counts on this machine."""
        return forward_flops(self.model, self.run.grid.tokens) / self.seconds


class Runs:
    """The runs last used, bounded in bytes; `forwards` counts those that were made."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.forwards = 0
        self._kept: OrderedDict[Any, Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        return sum(kept.bytes for kept in self._kept.values())

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
        attention_scale: float = 1.0,
        **sizes: Any,
    ) -> tuple[Kept, bool]:
        """The run of an image under these settings -> (run, whether a forward was made).

        digest: of the image's content. starting: told the grid before a forward. Others are `Model.run`'s. To make
        room, runs not used for longest are dropped; the newest always stays.
        """
        grid = model.grid(**sizes)
        key = (model, digest, str(grid), grid.patch, attention_scale)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key], False
        starting(grid)
        start = time.perf_counter()
        run = model.run(image, attention_scale=attention_scale, **sizes)
        seconds = time.perf_counter() - start
        with self._lock:
            self.forwards += 1
            self._kept[key] = kept = Kept(next(self._numbers), model, run, seconds)
            while self.bytes > self.limit and len(self._kept) > 1:
                self._kept.popitem(last=False)
        return kept, True


def forward_flops(model: Model, tokens: int) -> int:
    """Operations of a forward, about: attention, and 24·n·d² a layer for projections and an MLP four times as wide."""
    return attention_flops(tokens, model.dim, model.layers) + 24 * tokens * model.dim**2 * model.layers
