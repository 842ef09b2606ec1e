"""The Lab: a notebook widget that runs one forward at a time and shows what comes of it; the page does the rest."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from ..core.checks import shown
from ..core.files import figure_stem
from ..core.heatmap import Heatmap
from ..core.images import samples
from ..detectors import load
from ..figures import save
from ..figures.boxes import with_asking
from ..figures.overlay import overlay
from ..language.answer import Answer
from ..language.reader import Reader
from ..methods.registry import METHODS
from ..models import hub
from . import face, protocol
from .export_page import frame, held_page, nobody_looks, spoken_page
from .messages import Messages
from .prompt import WORDS, giving_way, ready_of
from .spoken import Spoken, Stopped
from .stage import NoBoxes, Stage
from .traits import DISPLAY, FAINTEST, FORWARD, LOOK, READING, named
from .wording import plainly
from .worker import Newest, Superseded

if TYPE_CHECKING:
    from ..detectors.detections import Detections


QUIET = 1.0  # seconds without a change after which the still picture is made anew
ANSWERED = ["image", *FORWARD, *READING, *WORDS, "compare", "before", "detector", "two_stage", "confidence"]


class Lab(Messages, anywidget.AnyWidget):
    """Explore where a Vision Transformer looks, live, in JupyterLab or Notebook 7.

    image: what `load_image` takes, or the name of a sample; by default the first of them. state: another lab's `state`.
    settings: any of the controls, each also an attribute, validated when set: model (what `load` takes), patch_size,
    image_size, attention_scale (0.1 to 4), keep, merge, fovea, fovea_patches and heads_off (as of `explain`), method,
    layer, head, query ("cls" or (x, y) in source pixels), target (of the methods for one class), compare (settings of
    the second picture), before, detector (what `detect` takes, or None), two_stage (each box is looked at by itself),
    confidence, opacity, blend, colormap, smooth, normalise, threshold, grid, incoming. prompt: a question, where the
    model is a vision-language model, such as "embedded-reader": the answer's words can be pointed at, `answer` has
    them, and word is the place of the one shown; of an image-text model (CLIP and its kin) the text that is looked for.

    Raises TraitError, in words, for a value that is impossible; what goes wrong later stands in the lab's status line.

        lab = vislab.Lab("photo.jpg")
        lab.attention_scale = 0.5
        lab.wait().heatmap
        asked = vislab.Lab("photo.jpg", model="embedded-reader", prompt="where is the church ?")
        asked.wait().answer.words
    """

    _esm = face.module()
    _css = face.style()

    _photo = traitlets.Bytes(b"").tag(sync=True)
    _source = traitlets.List().tag(sync=True)
    _content = traitlets.Unicode().tag(sync=True)

    def __init__(self, image: Any = None, *, state: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self._worker = Newest(self._show, self._failed)
        self._stage = Stage(self.send, lambda: self._worker.newer)
        self._spoken = Spoken(self._stage)
        self._handle: Any = None
        self._greet = False
        self._worked: Any = None  # the model that was last shown
        self._chosen: Any = None  # the model that the page chose
        self._uploaded = {}
        self._timer = threading.Timer(0, int)
        super().__init__()
        if not isinstance(state, Mapping | None):
            raise traitlets.TraitError(f"state is another lab's state, a dict of settings, not {shown(state)}")
        first = dict(state or {})
        own = first.pop("image", None) or next(iter(samples()))
        self.image = own if image is None else image
        if image is not None and not (isinstance(image, str) and image == own):
            first.pop("fovea", None)  # of another photograph
        with suppress(traitlets.TraitError):  # a pin of another photograph may lie outside this one
            self.query = first.pop("query", "cls")
        self.state = first | settings
        self.observe(self._changed, names=ANSWERED)
        self.observe(lambda _: self._settle(), names=list(DISPLAY))
        self.on_msg(self._asked)
        self._want()

    @traitlets.observe("image")
    def _paint(self, _: Any) -> None:
        with self.hold_sync():
            self._content, self._source = self._digest, list(self._pixels.shape[:2])
            self._photo = protocol.jpeg(self._pixels)

    def _changed(self, change: Any) -> None:
        if change["name"] != "confidence" or self.two_stage:  # else the boxes that are there are sifted
            self._want()

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """What the browser set; a value that is refused is said in the status line, and the browser gets ours back."""
        self._chosen = sync_data.get("model", self._chosen)
        try:
            super().set_state(sync_data)
        except (traitlets.TraitError, ValueError) as error:
            self._say("error", str(error))
            self.send_state(list(sync_data))

    def _goes_back(self, model: Any, error: Exception) -> bool:
        """Whether a model that the page chose, and that could not be had, gives way to the one before it; told so."""
        if self._worked is None or model != self._chosen or model == self._worked:
            return False
        self._gave_way(f"{plainly(str(error))} It is {named(self._worked) or 'the one before'} again.")
        self.model = self._worked
        return True

    def _gave_way(self, words: str) -> None:
        self.send({"kind": "note", "words": words})

    # ---- one forward at a time ----

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

    def wait(self, timeout: float | None = None) -> Lab:
        """Until what was asked for is on the screen -> the lab. Raises what went wrong, or TimeoutError (seconds).

        A detector's failure does not count: it stands in the status line.
        """
        self._worker.wait(timeout)
        return self

    def _want(self) -> None:
        """The settings of now are wanted, whatever was wanted before.

        Libraries are imported here, on the thread of who wants them: a notebook's next cell may import them too, by
        statements that our locks do not reach, and would meet the worker's half way.
        """
        for bring, name in ((hub.bring, self.model), (load.bring, self.detector)):
            if isinstance(name, str | Path):
                bring(str(name))
        self._worker.want(dict(self._settings()) | {"pixels": self._pixels, "digest": self._digest})

    def _failed(self, error: Exception) -> None:
        """What fails leaves the last good view."""
        self._say("error", str(error) or type(error).__name__)

    def _show(self, wanted: dict[str, Any]) -> None:
        greeted, self._greet = self._greet, False
        before = self._ready
        try:
            ready = self._ready = ready_of(wanted["model"])
        except Exception as error:
            if not self._goes_back(wanted["model"], error):
                raise
            raise Superseded from error
        self._worked = wanted["model"]
        if changes := giving_way(wanted, ready, before):
            if isinstance(ready, Reader) and wanted["method"] != "cls":
                label = METHODS[wanted["method"]].label
                self._gave_way(f"{label} explains no words: the method is now attention of one layer.")
            self.state = changes  # which is then wanted in place of this
            raise Superseded
        try:
            if isinstance(ready, Reader):
                seconds = self._spoken.show(wanted, ready)
            else:
                self._spoken.leave()
                seconds = self._stage.show(wanted)
        except NoBoxes as error:
            self._say("error", str(error))
        except Stopped:
            self._say("ready", "stopped")
        else:
            self._say("ready", f"{seconds * 1000:.0f} ms" if seconds else "" if greeted else "remembered")
        self._settle()

    # ---- to the browser ----

    def _say(self, state: str, words: object) -> None:
        self._stage.say(state, words)

    def _look(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in LOOK}

    def _stem(self) -> str:
        """What a file of the shown pictures is called."""
        shown = [one for one in self.wait()._stage.panes if one is not None]
        asked = ["boxes"] if self._stage.closer is not None else [one.heat.method for one in shown]
        return figure_stem(named(self.image) or "photo", *asked)

    # ---- what stays ----

    def save(self, path: str | Path) -> Path:
        """Write what is shown, both pictures where there are two, in the format of the path's suffix -> its path.

        .html is one page, without need of a network or Python, where pointing at patches, layers, heads, scale and
        display still work; the others are `vislab.save`'s.
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
        if self._spoken.said is not None:
            return spoken_page(self._spoken, state, self.image, brief=brief)
        return held_page(self._stage, state, self.detector, self.image, brief=brief)

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
        still = base64.b64encode(protocol.jpeg(photo)).decode()
        whole = heat and (self._stage.plain or self._spoken.said)
        held = {"text/html": frame(self._page(brief=True), still)} if whole else {}
        return {"image/jpeg": still, "text/plain": "the lab's last view"} | held

    def _settle(self) -> None:
        self._timer.cancel()
        self._timer = threading.Timer(QUIET, lambda: self._handle and self._handle.update(self._still(), raw=True))
        self._timer.daemon = True
        self._timer.start()
