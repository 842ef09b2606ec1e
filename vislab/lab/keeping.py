"""What is on a lab's screen, as values, and what stays of it: files, pages, and a still picture in the notebook."""

from __future__ import annotations

import base64
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.files import figure_stem
from ..core.heatmap import Heatmap
from ..figures import save
from ..figures.boxes import with_asking
from ..figures.overlay import overlay
from ..language.answer import Answer
from . import protocol
from .export_page import frame, held_page, nobody_looks, spoken_page
from .masking import Masking
from .spoken import Spoken
from .stage import Stage
from .traits import FAINTEST, LOOK, Settings
from .values import named

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from ..detectors.detections import Detections
    from ..masks.masks import Masks

QUIET = 1.0  # seconds without a change after which the still picture is made anew


class Keeping(Settings):
    """Settings, and what was made by them."""

    _stage: Stage
    _spoken: Spoken
    _masking: Masking
    _handle: Any = None
    _timer = threading.Timer(0, int)
    if TYPE_CHECKING:  # the lab's own
        wait: Callable[[], Self]

    @property
    def heatmap(self) -> Heatmap | None:
        """The heatmap on the screen, or None before the first."""
        if self._spoken.said is not None:
            return self._spoken.heat(self._spoken.word)
        return None if self._stage.panes[0] is None else self._stage.panes[0].heat

    @property
    def answer(self) -> Answer | None:
        """What a vision-language model said of the image; None where no such model was asked."""
        return None if self._spoken.said is None else self._spoken.said.answer

    @property
    def detections(self) -> Detections | None:
        """What the detector found, down to the confidence shown; None without a detector, or where it failed."""
        if self._stage.finding is None or self._stage.finding.detections is None:
            return None
        return self._stage.finding.detections.above(max(self.confidence, FAINTEST))

    @property
    def masks(self) -> Masks | None:
        """The masks of the segmenter; None without one, before it was shown anything, or where it failed."""
        return self._masking.masks

    def _look(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in LOOK}

    def _stem(self, of: str = "") -> str:
        """What a file of the shown pictures is called, or one of what else is shown."""
        shown = [one for one in self.wait()._stage.panes if one is not None]
        asked = ["boxes"] if self._stage.closer is not None else [one.heat.method for one in shown]
        return figure_stem(named(self.image) or "photo", *([of] if of else asked))

    def _save_masks(self, path: Path) -> Path:
        masks = self.wait().masks
        if masks is None:
            raise ValueError("there are no masks yet that could be saved: show the segmenter a point or a box")
        return save.save(path, masks)

    def save(self, path: str | Path) -> Path:
        """Write what is shown, both pictures where there are two, in the format of the path's suffix -> its path.

        .html is one page, without need of a network or Python, where pointing at patches, layers, heads, scale and
        display still work; the others are `vislab.save`'s, of the maps: masks are saved by
        themselves, `vislab.save(path, lab.masks)`.
        """
        heats, path = [shown.heat for shown in self.wait()._stage.panes if shown is not None], Path(path)
        heats = heats or [heat for heat in (self.heatmap,) if heat is not None]
        if not heats:
            raise ValueError(f"nothing is shown yet that could be saved: ask {named(self.model)} something, prompt=…")
        if path.suffix.lower() != ".html":
            if self._stage.closer is not None:
                raise ValueError(
                    f"boxes that are looked at one by one are written as .html, not {path.suffix}: for a figure let go "
                    "of two_stage, or take vislab.focus(…).overlay()"
                )
            what = heats[0] if len(heats) == 1 else heats
            return save.save(path, what, detections=self.detections, **self._look())
        path.write_text(self._page(), encoding="utf-8")
        return path

    def _page(self, brief: bool = False) -> str:
        state = {name: getattr(self, name) for name in ("_photo", "_source", "_content")}
        state |= {name: value for name, value in self.state.items() if value is not None}
        state |= {"compare": self._stage.beside(self.state) if self._stage.panes[1] else {}, "before": False}
        masks = [self._masking.found.told] if self._masking.found is not None else []
        if self._spoken.said is not None:
            return spoken_page(self._spoken, state, self.image, masks, brief=brief)
        return held_page(self._stage, state, self.detector, self.image, masks, brief=brief)

    def _ipython_display_(self) -> None:
        """The lab, and after it its last view, which is seen, and answers, where the lab is not: without a kernel."""
        from IPython.display import display, publish_display_data

        data = self._repr_mimebundle_()
        if nobody_looks():
            with suppress(Exception):  # which stands in the lab
                self.wait()
        if data:
            publish_display_data(*data if isinstance(data, tuple) else (data,))
            self._handle = display(self._still(), raw=True, display_id=True)

    def _still(self) -> dict[str, Any]:
        photo, heat = self._pixels, self.heatmap
        if self._stage.closer is not None:
            photo = self._stage.closer.overlay(opacity=self.opacity, blend=self.blend, colormap=self.colormap)
        elif heat is not None and heat.image is not None:
            photo = with_asking(overlay(heat, detections=self.detections, **self._look()), heat)
        if self.masked and self.masks is not None:
            photo = overlay(self.masks, image=photo, opacity=0.5)
        still = base64.b64encode(protocol.jpeg(photo)).decode()
        whole = heat and (self._stage.plain or self._spoken.said)
        held = {"text/html": frame(self._page(brief=True), still)} if whole else {}
        return {"image/jpeg": still, "text/plain": "the lab's last view"} | held

    def _settle(self) -> None:
        self._timer.cancel()
        self._timer = threading.Timer(QUIET, lambda: self._handle and self._handle.update(self._still(), raw=True))
        self._timer.daemon = True
        self._timer.start()
