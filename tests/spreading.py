"""A question without a model, asked of photographs by processes that find it here: what it did stands in a log."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vislab.spread.photos import Photo


@dataclass(frozen=True)
class Brightness:
    """log: a line for each photograph that was asked. once, deadly: names at which the process is ended, the first time
    or each time. full: a file; while it is there, the disk is full at the photograph whose name it holds."""

    log: str
    once: Sequence[str] = ()
    deadly: Sequence[str] = ()
    full: str = ""
    device: str | None = None
    reading: ClassVar[Mapping[str, Any]] = {}
    beside: Sequence[str] = ()
    columns: ClassVar[Mapping[str, str]] = {"name": "string", "figure": "string", "mean": "float64"}

    @property
    def settings(self) -> dict[str, Any]:
        return {"asked": "brightness"}

    def loaded(self) -> str:
        return "eye"

    def weights(self, ready: str) -> str:
        return ready

    def row(self, ready: str, photo: Photo, image: np.ndarray, picture: Path | None, job: str) -> dict[str, Any]:
        if photo.name in self.deadly or (photo.name in self.once and photo.name not in self.asked()):
            self._note(photo.name)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.full and Path(self.full).exists() and Path(self.full).read_text() == photo.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), photo.name)
        self._note(photo.name)
        return {"mean": float(image.mean())}

    def asked(self) -> list[str]:
        """The names of the photographs that were asked, as often as they were."""
        return Path(self.log).read_text().split() if Path(self.log).exists() else []

    def _note(self, name: str) -> None:
        with open(self.log, "a") as log:
            log.write(f"{name}\n")


@dataclass
class Counting:
    """Work that tells how often it has begun, and one over each item. sendable: whether its answers can be sent."""

    sendable: bool = True
    begun: int = 0
    device: str | None = None

    def begin(self) -> Callable[[int], Any]:
        self.begun += 1
        return lambda item: (self.begun, 1 / item) if self.sendable else threading.Lock()
