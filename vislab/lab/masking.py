"""The masks of a lab: an image is encoded once, and what the segmenter is shown after that is answered alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..api.segment import prompted, segment
from ..masks.promptable import Promptable
from . import mask_messages
from .marks import Ready, segmenter_ready
from .mask_messages import marks_of
from .protocol import Message
from .stage import Stage
from .values import named
from .wording import plainly
from .worker import Superseded, Unless

if TYPE_CHECKING:
    from ..masks.masks import Masks


@dataclass(frozen=True, eq=False)
class Found:
    """What was made of an image and of what the segmenter was shown. of: these. masks: None where there are none yet.

    failed: the words in which it failed. seconds: how long it took. told: as the page is told it.
    """

    of: tuple[Any, ...]
    masks: Masks | None
    failed: str | None
    seconds: float
    told: Message


class Masking:
    """What a lab shows of its segmenter, beside its stage, by which the page is told.

    found: what is shown, None without a segmenter. encoded: of which image and segmenter the next masks are soon there.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.found: Found | None = None
        self.encoded: tuple[Any, ...] | None = None
        self._ready: tuple[Any, Ready] | None = None

    @property
    def masks(self) -> Masks | None:
        return None if self.found is None else self.found.masks

    def is_soon(self, wanted: Mapping[str, Any]) -> bool:
        """Whether only a decoder has to run."""
        return wanted["segmenter"] is not None and self.encoded == (wanted["digest"], wanted["segmenter"])

    def show(self, wanted: Mapping[str, Any]) -> None:
        """Make the masks that are wanted, where they are not yet made, and tell the page.

        A segmenter that fails harms nothing else: `found` has its words. Raises Superseded once another image or
        segmenter is wanted.
        """
        if wanted["segmenter"] is None:
            if self.found is not None:
                self.stage.send(*mask_messages.NOTHING)
            self.found = self.encoded = self._ready = None
            return
        of = (wanted["digest"], wanted["segmenter"], marks_of(wanted))
        if self.found is None or self.found.of != of:
            self.found = self._made(wanted, of)
        self.stage.send(*self.found.told)

    def _made(self, wanted: Mapping[str, Any], of: tuple[Any, ...]) -> Found:
        digest, given, marks = of
        name, start = named(given), time.perf_counter()
        ready: Ready | None = None
        try:
            if not self.is_soon(wanted):
                self.stage.say("computing", f"segmenter {name}".rstrip())
            ready = self._segmenter(given)
            masks = self._masks(wanted, ready, marks)
        except Superseded:
            raise
        except Exception as error:
            words = plainly(str(error) or type(error).__name__)
            told = mask_messages.refused(digest, ready, marks, name, words)
            return Found(of, None, words, 0.0, told)
        seconds = time.perf_counter() - start
        return Found(of, masks, None, seconds, mask_messages.masks_of(digest, ready, marks, masks, name))

    def _masks(self, wanted: Mapping[str, Any], ready: Ready, marks: Mapping[str, Any]) -> Masks | None:
        """The masks of what the segmenter is shown, or all that one makes by itself; the image encoded before that."""
        pixels, shows = wanted["pixels"], {name: value for name, value in marks.items() if value}
        if isinstance(ready, Promptable):
            if not self.is_soon(wanted):
                with Unless(lambda: self._is_left(wanted)):
                    ready.encoded(pixels)
                self.encoded = wanted["digest"], wanted["segmenter"]
            alone = shows.keys() <= {"outside"}  # which says nothing of an object yet
            return None if alone else prompted(ready, pixels, **shows)
        if shows:
            raise ValueError(f"{ready.name} takes no points or boxes: clear them, and its masks are shown")
        with Unless(lambda: self._is_left(wanted)):
            return segment(pixels, model=ready)

    def _is_left(self, wanted: Mapping[str, Any]) -> bool:
        newer = self.stage.newer()
        return newer is not None and any(newer[name] != wanted[name] for name in ("digest", "segmenter"))

    def _segmenter(self, given: Any) -> Ready:
        if self._ready is None or self._ready[0] != given:
            self._ready = given, segmenter_ready(given)
        return self._ready[1]
