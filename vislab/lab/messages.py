"""What the browser asks of a lab: a message each, and what is done about it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from ..core.images import load_image, samples
from . import protocol, runs
from .keeping import Keeping
from .runs import Kept

UPLOADS = 8  # of the user's own pictures, the newest are held
GONE = {"refused": "this picture is no longer held: another is on its way"}


class Messages(Keeping):
    """Settings that a browser sees and asks about, in messages: of each kind, `_on_` that kind answers."""

    _uploads = traitlets.List().tag(sync=True)  # names of the user's own pictures

    _greet: bool
    if TYPE_CHECKING:  # the lab's own
        send: Callable[..., None]
        _want: Callable[[], None]
        _failed: Callable[[Exception], None]

    def _asked(self, _: Any, content: Mapping[str, Any], buffers: list[Any]) -> None:
        """Messages from the browser."""
        try:
            getattr(self, f"_on_{content['kind']}")(content, buffers)
        except Exception as error:
            self._failed(error)

    def _on_hello(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        self.send(*protocol.about())
        self._greet = True
        self._stage.unfolded = self._stage.filming = self._stage.lensing = False  # as a new page is
        self._spoken.told.clear()
        self._want()

    def _on_layer(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        kept, sums = self._numbered(content["run"]), bool(content.get("sums"))
        self.send(*protocol.layer(kept, content["layer"], sums=sums) if kept else ({**content, **GONE}, []))

    def _on_atlas(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        kept = self._numbered(content["run"])
        self.send(*protocol.atlas(kept) if kept else ({**content, **GONE}, []))

    def _numbered(self, number: int) -> Kept | None:
        """The run of that number, of one of this lab's pictures or remembered."""
        own = [shown.kept for shown in self._stage.panes if shown is not None and shown.kept.number == number]
        return own[0] if own else runs.RUNS.numbered(number)

    def _on_methods(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        self._stage.unfolded = bool(content["open"])
        self._want()  # folded, too: what is still to be made is left off

    def _on_ask(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        self._want()  # the same again, after it was stopped

    def _on_stop(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        self._spoken.stopping.set()

    def _on_film(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        self._stage.filming = bool(content["open"])
        self._want()

    def _on_lens(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        self._stage.lensing = bool(content["open"])
        self._want()

    def _on_take(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        self._stage.taken = content["run"], [int(patch) for patch in content["gone"]]
        self._want()

    def _on_upload(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        pixels, name = load_image(bytes(buffers[0])), str(content.get("name") or "your photograph")
        same = [old for old, own in self._uploaded.items() if np.array_equal(own, pixels)]
        taken = {*self._uploaded, *samples()}
        names = chain([name], (f"{Path(name).stem} ({again}){Path(name).suffix}" for again in count(2)))
        own = next(iter(same), None) or next(one for one in names if one not in taken)
        self._uploaded = dict([*self._uploaded.items()][-UPLOADS + 1 :]) | {own: pixels}
        self._uploads = list(self._uploaded)
        self.image = own

    def _on_export(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        unfolded, self._stage.unfolded = self._stage.unfolded, False
        try:
            if unfolded:
                self._want()  # what is made below the picture is left off meanwhile
            with tempfile.TemporaryDirectory() as folder:
                save, stem = (self._save_masks, "masks") if content.get("masks") else (self.save, "")
                path = save(Path(folder) / f"{self._stem(stem)}{content['suffix']}")
                self.send({"kind": "file", "name": path.name}, [path.read_bytes()])
        finally:
            self._stage.unfolded = unfolded
            if unfolded:
                self._want()
