"""The Lab: a notebook widget that runs one forward at a time and shows what comes of it; the page does the rest."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ..core.checks import shown
from ..core.images import samples
from ..detectors import load
from ..engine.site import AttentionRefused
from ..language.reader import Reader
from ..masks.networks import makes_masks
from ..methods.registry import METHODS
from ..models import hub
from . import face, protocol
from .marks import MARKS, no_map
from .masking import Masking
from .messages import Messages
from .prompt import WORDS, giving_way, ready_of
from .spoken import Spoken, Stopped
from .stage import NoBoxes, Stage
from .traits import BESIDE, DISPLAY, FORWARD, READING, lies_in_image
from .values import named
from .wording import plainly
from .worker import Newest, Superseded

ANSWERED = ["image", *FORWARD, *READING, *WORDS, *BESIDE, "confidence"]
OF_FILM = ("image", *FORWARD, *READING)  # settings that a film of the map's patches is made of
OF_MASKS = ("segmenter", *MARKS)  # settings that change nothing but the masks


class Lab(Messages, anywidget.AnyWidget):
    """Explore where a Vision Transformer looks, live, in JupyterLab or Notebook 7.

    image: what `load_image` takes, or the name of a sample; by default the first of them. state: another lab's `state`.
    settings: any of the controls, each also an attribute, validated when set: model (what `load` takes), patch_size,
    image_size, attention_scale (0.1 to 4), keep, keep_by, keep_at, gather, merge, fovea, fovea_patches and heads_off
    (as of `explain`), method, layer, head, query ("cls" or (x, y) in source pixels), target (of the methods for one
    class), compare (settings of the second picture), before, detector (what `detect` takes, or None), two_stage (each
    box is looked at by itself), segmenter (what `segment` takes as model, or (module, processor), or None), points,
    outside and boxes (what one that takes them is shown, as of `segment`), masked (whether masks are drawn),
    confidence, opacity, blend, colormap, smooth, normalise, threshold, grid, incoming. prompt: a question, where the
    model is a vision-language model, such as "embedded-reader": the answer's words can be pointed at, `answer` has
    them, and word is the place of the one shown; of an image-text model (CLIP and its kin) the text that is looked for.

    Raises TraitError, in words, for a value that is impossible; what goes wrong later stands in the lab's status line.

        lab = vislab.Lab("photo.jpg")
        lab.attention_scale = 0.5
        lab.wait().heatmap
        asked = vislab.Lab("photo.jpg", model="embedded-reader", prompt="where is the church ?")
        asked.wait().answer.words
        vislab.Lab("photo.jpg", segmenter="facebook/sam2.1-hiera-tiny")  # needs the network
    """

    _esm = face.module()
    _css = face.style()

    _photo = traitlets.Bytes(b"").tag(sync=True)
    _source = traitlets.List().tag(sync=True)
    _content = traitlets.Unicode().tag(sync=True)

    def __init__(self, image: Any = None, *, state: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self._worker = Newest(self._show, self._failed)
        self._turn = threading.Lock()
        self._stage = Stage(self.send, lambda: self._worker.newer)
        self._spoken = Spoken(self._stage)
        self._masking = Masking(self._stage)
        self._views = self._viewed = 0  # how often another view than that of the masks was wanted, and the last shown
        self._greet = False
        self._worked: Any = None  # the model that was last shown
        self._chosen: Any = None  # the model that the page chose
        self._uploaded = {}
        super().__init__()
        if not isinstance(state, Mapping | None):
            raise traitlets.TraitError(f"state is another lab's state, a dict of settings, not {shown(state)}")
        first = dict(state or {})
        own = first.pop("image", None) or next(iter(samples()))
        self.image = own if image is None else image
        if image is not None and not (isinstance(image, str) and image == own):
            of_both = {name: value for name, value in first.items() if not lies_in_image(name, value)}
            first = of_both | ({"query": first["query"]} if "query" in first else {})
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
        if change["name"] in OF_FILM:
            self._stage.filming = False
        if change["name"] != "confidence" or self.two_stage:  # else the boxes that are there are sifted
            self._want(anew=change["name"] not in OF_MASKS)

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

    def wait(self, timeout: float | None = None) -> Lab:
        """Until what was asked for is on the screen -> the lab. Raises what went wrong, or TimeoutError (seconds).

        The failure of a detector or a segmenter does not count: it stands in the status line.
        """
        self._worker.wait(timeout)
        return self

    def _want(self, anew: bool = True) -> None:
        """The settings of now are wanted, whatever was wanted before. anew: all of the view, not its masks alone.

        Libraries are imported here, on the thread of who wants them: a notebook's next cell may import them too, by
        statements that our locks do not reach, and would meet the worker's half way.
        """
        of_masks = load.bring if str(self.segmenter).endswith(".pt") else hub.bring
        for bring, name in ((hub.bring, self.model), (load.bring, self.detector), (of_masks, self.segmenter)):
            if isinstance(name, str | Path):
                bring(str(name))
        with self._turn:  # or what another thread set meanwhile would be wanted first, and what was read before it last
            self._views += anew
            image = {"pixels": self._pixels, "digest": self._digest}
            self._worker.want(dict(self._settings()) | image | {"view": self._views})

    def _failed(self, error: Exception) -> None:
        """What fails leaves the last good view."""
        self._say("error", str(error) or type(error).__name__)

    def _show(self, wanted: dict[str, Any]) -> None:
        """The view, where it is another, and the masks; these first where only a decoder has to run."""
        soon = self._masking.is_soon(wanted)
        words: str | None = ""
        if soon:
            self._masking.show(wanted)
        if wanted["view"] != self._viewed:
            words = self._show_view(wanted)
            self._viewed = wanted["view"]
        if not soon:
            self._masking.show(wanted)
        found = self._masking.found
        if found is not None and found.failed is not None:
            self._say("error", f"The map is ready, but no masks: {found.failed}")
        elif words is not None:
            mask = "" if found is None or found.masks is None else f"masked in {found.seconds * 1000:.0f} ms"
            self._say("ready", words or mask)
        self._settle()

    def _show_view(self, wanted: dict[str, Any]) -> str | None:
        """All but the masks -> what the status line says of it; None where that was said already."""
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
            return None
        except Stopped:
            return "stopped: the answer before stays" if self._spoken.said else "stopped"
        except (ValueError, AttentionRefused) as error:
            shown = self._stage.panes[0]
            if isinstance(ready, Reader) or (shown is not None and shown.kept.model is ready):
                raise
            if not makes_masks(ready.module):
                raise
            raise ValueError(no_map(ready, wanted["method"])) from error
        if isinstance(ready, Reader):
            return self._spoken.in_words
        return f"{seconds * 1000:.0f} ms" if seconds else "" if greeted else "remembered"

    # ---- to the browser ----

    def _say(self, state: str, words: object) -> None:
        self._stage.say(state, words)
