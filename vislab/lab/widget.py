"""The Lab: a notebook widget that runs one forward at a time and shows what comes of it; the page does the rest."""

from __future__ import annotations

import base64
import functools
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from ..api import explain
from ..api.detect import detect
from ..api.focus import focus
from ..core.heatmap import Heatmap
from ..core.images import load_image, samples
from ..evaluation.report import RANDOM
from ..evaluation.trials import rng
from ..figures import save
from ..figures.overlay import overlay
from ..methods import registry
from ..models.cache import model_of
from . import protocol
from .cache import Kept, Runs
from .export_page import STATIC, page, small_layers
from .protocol import Message, about, atlas, boxes, closer, jpeg, layer, of_method, plain, removal, view
from .traits import DISPLAY, FAINTEST, FORWARD, READING, Settings, named
from .trial import Trial, trial
from .worker import Newest, Superseded, Unless

if TYPE_CHECKING:
    from ..api.focus import Focus
    from ..detectors.detections import Detections


CACHE_BYTES = 512 * 2**20
QUIET = 1.0  # seconds without a change after which the still picture is made anew
SOON = 0.05  # seconds: a rollout that takes longer is preceded by what is ready at once
LAST = {"layer": -1, "head": "mean"}  # where methods are beside each other
USUAL = {**LAST, "query": "cls", "target": None}  # in place of what a method does not take
ANSWERED = ["image", *FORWARD, *READING, "compare", "before", "detector", "two_stage", "confidence"]
GONE = {"refused": "this picture is no longer held: another is on its way"}
UNMODIFIED = {"patch_size": None, "image_size": None, "attention_scale": 1.0}
RUNS = Runs(CACHE_BYTES)


@dataclass(frozen=True, eq=False)
class Shown:
    """What a pane shows. digest, source: of the image, its content and the Python that names it."""

    settings: Mapping[str, Any]
    kept: Kept
    heat: Heatmap
    digest: str
    source: str


@dataclass(frozen=True, eq=False)
class Found:
    """What a detector found in an image, or the words in which it failed."""

    digest: str
    detector: Any
    detections: Detections | None = None
    failed: str | None = None


class Lab(Settings, anywidget.AnyWidget):
    """Explore where a Vision Transformer looks, live, in JupyterLab or Notebook 7.

    image: what `load_image` takes, or the name of a sample; by default the first of them. state: another lab's `state`.
    settings: any of the controls, each also an attribute, validated when set: model (what `load` takes), patch_size,
    image_size, attention_scale (0.1 to 4), method, layer, head, query ("cls" or (x, y) in source pixels), target (of
    the methods for one class), compare (settings of the second picture), before, detector (what `detect` takes, or
    None), two_stage (each box is looked at by itself), confidence, opacity, colormap, smooth, normalise, threshold,
    grid, incoming.

    Raises TraitError, in words, for a value that is impossible; what goes wrong later stands in the lab's status line.

        lab = vislab.Lab("photo.jpg")
        lab.attention_scale = 0.5
        lab.wait().heatmap
    """

    _esm = STATIC / "lab.js"
    _css = STATIC / "lab.css"

    _photo = traitlets.Bytes(b"").tag(sync=True)
    _source = traitlets.List().tag(sync=True)
    _content = traitlets.Unicode().tag(sync=True)

    def __init__(self, image: Any = None, *, state: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self._worker = Newest(self._show, self._failed)
        self._panes: list[Shown | None] = [None, None]
        self._plain: Kept | None = None
        self._rate = 0.0
        self._found: Found | None = None
        self._closer: Focus | None = None  # each box by itself, where that is shown
        self._unfolded = False  # whether the page shows every method's map
        self._worth: dict[Any, Any] = {}  # what it was last told of them: of which run and question, and by method
        self._handle: Any = None
        self._greet = False
        self._timer = threading.Timer(0, int)
        super().__init__()
        given = dict(state or {})
        own = given.pop("image", None) or next(iter(samples()))
        self.image = own if image is None else image
        with suppress(traitlets.TraitError):  # a pin of another photograph may lie outside this one
            self.query = given.pop("query", "cls")
        self.state = given | settings
        self.observe(self._changed, names=ANSWERED)
        self.observe(lambda _: self._settle(), names=list(DISPLAY))
        self.on_msg(self._asked)
        self._want()

    @traitlets.observe("image")
    def _paint(self, _: Any) -> None:
        with self.hold_sync():
            self._content, self._source = self._digest, list(self._pixels.shape[:2])
            self._photo = jpeg(self._pixels)

    def _changed(self, change: Any) -> None:
        if change["name"] != "confidence" or self.two_stage:  # else the boxes that are there are sifted
            self._want()

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """What the browser set; a value that is refused is said in the status line, and the browser gets ours back."""
        try:
            super().set_state(sync_data)
        except (traitlets.TraitError, ValueError) as error:
            self._say("error", str(error))
            self.send_state(list(sync_data))

    # ---- one forward at a time ----

    @property
    def heatmap(self) -> Heatmap | None:
        """The heatmap on the screen, or None before the first."""
        return None if self._panes[0] is None else self._panes[0].heat

    @property
    def detections(self) -> Detections | None:
        """What the detector found, down to the confidence shown; None without a detector, or where it failed."""
        if self._found is None or self._found.detections is None:
            return None
        return self._found.detections.above(max(self.confidence, FAINTEST))

    def wait(self, timeout: float | None = None) -> Lab:
        """Until what was asked for is on the screen -> the lab. Raises what went wrong, or TimeoutError (seconds).

        A detector's failure does not count: it stands in the status line.
        """
        self._worker.wait(timeout)
        return self

    def _want(self) -> None:
        """The settings of now are wanted, whatever was wanted before."""
        self._worker.want(dict(self._settings()) | {"pixels": self._pixels, "digest": self._digest})

    def _failed(self, error: Exception) -> None:
        """What fails leaves the last good view."""
        self._say("error", str(error) or type(error).__name__)

    def _show(self, wanted: dict[str, Any]) -> None:
        """The view, what stands beside it, what it is held against, boxes; left off once something newer is wanted."""
        greeted = self._greet
        if greeted:  # here, so that two threads do not import frameworks at the same time
            self._greet = False
            self.send(*about())
        self._ready = model_of(wanted["model"])
        kept, made = self._run(wanted)
        slow = wanted["method"] == "rollout" and RUNS.rollout_seconds(kept) > SOON
        if slow and _question(wanted) not in kept.made:
            self._put(0, self._read(wanted | {"method": "cls"}, kept))
            self._say("computing", f"rollout through {kept.model.layers} layers")
        shown = self._read(wanted, kept)
        self._put(0, shown)
        beside = self._beside(wanted)
        self._put(1, self._read(wanted | beside, self._run(wanted | beside)[0]) if beside else None)
        self._plain = self._run(wanted | UNMODIFIED)[0]
        self._rate = RUNS.rate(kept.model, wanted["pixels"], stop=self._is_overtaken)
        self.send(*plain(kept, self._plain, wanted, self._rate))
        self._detect(wanted)
        self._look_closer(wanted, shown)
        if self._unfolded:
            self._every_method(wanted, shown)
        if self._found is not None and self._found.failed is not None:
            self._say("error", f"The map is ready, but no boxes: {self._found.failed}")
        else:
            self._say("ready", f"{kept.seconds * 1000:.0f} ms" if made else "" if greeted else "remembered")
        self._settle()

    def _put(self, pane: int, shown: Shown | None) -> None:
        if self._is_overtaken():
            raise Superseded
        self._panes[pane] = shown
        self.send(*self._view(pane, shown) if shown else ({"kind": "view", "pane": pane, "run": None}, []))

    def _is_overtaken(self) -> bool:
        return self._worker.newer is not None

    @staticmethod
    def _beside(wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The settings in which the second picture differs; none where there is no second picture."""
        second = wanted["compare"] or ({"attention_scale": 1.0} if wanted["before"] else {})
        alien = set(USUAL) - registry.ASKED[second.get("method", wanted["method"])]
        return {name: value for name, value in second.items() if wanted[name] != value and name not in alien}

    def _run(self, wanted: Mapping[str, Any]) -> tuple[Kept, bool]:
        """The run of these settings, remembered or made; left off where a newer one needs another."""

        def stop() -> bool:
            newer = self._worker.newer
            return newer is not None and any(newer[name] != wanted[name] for name in ("digest", *FORWARD))

        model = model_of(wanted["model"])
        how = {name: wanted[name] for name in FORWARD[1:]}
        saying = functools.partial(self._say, "computing")
        return RUNS.run(model, wanted["pixels"], wanted["digest"], starting=saying, stop=stop, **how)

    def _read(self, wanted: Mapping[str, Any], kept: Kept) -> Shown:
        """The heatmap of a run, remembered or made; left off once anything newer is wanted."""

        def make() -> Heatmap:
            model, run, token, method = kept.model, kept.run, None, wanted["method"]
            takes = registry.ASKED["attention" if method == "cls" else method]
            if wanted["query"] != "cls" and "query" in takes:
                cell = run.grid.cell_at(*run.frame.to_model(*wanted["query"]))
                if cell is None:
                    at = wanted["query"]
                    raise ValueError(f"{model.name} sees nothing at the pinned point {at}: pin another patch")
                token = run.grid.token(*cell)
                method = "attention" if method == "cls" else method
            asked = {name: wanted[name] if name in takes else usual for name, usual in USUAL.items()}
            asked |= {name: wanted[name] for name in FORWARD[1:]}
            how: dict[str, Any] = {"method": method, "token": token, "asked": asked, "options": {}}
            with Unless(self._is_overtaken):
                progress = self._progress(wanted["method"].replace("_", " "))
                return explain.heatmap(model, run, wanted["pixels"], **how, progress=progress)

        heat = kept.once(_question(wanted), make)
        return Shown(_told(wanted), kept, heat, wanted["digest"], protocol.source(named(wanted["image"])))

    def _progress(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._say("computing", f"{what}: {done} of {total}")

    def _detect(self, wanted: Mapping[str, Any]) -> None:
        """Find boxes, where they are not yet found, and tell the page. A detector that fails harms nothing else."""
        digest, detector = wanted["digest"], wanted["detector"]
        found = self._found
        if detector is None:
            found = None
        elif found is None or (found.digest, found.detector) != (digest, detector):
            if self._is_overtaken():
                raise Superseded
            self._say("computing", f"detector {named(detector)}")
            try:
                found = Found(digest, detector, detect(wanted["pixels"], detector=detector, confidence=FAINTEST))
            except Exception as error:
                found = Found(digest, detector, failed=str(error) or type(error).__name__)
        self._found = found
        self.send(*boxes(digest, found.detections if found else None))

    def _look_closer(self, wanted: Mapping[str, Any], shown: Shown) -> None:
        """Each box that the detector found by itself, where that is asked for, by the method of the shown map."""
        kept, detector, confidence = shown.kept, wanted["detector"], wanted["confidence"]

        def make() -> Focus:
            self._say("computing", "each box by itself")
            takes = registry.ASKED[wanted["method"]] - {"query"}
            asked = {name: wanted[name] for name in (*FORWARD[1:], *takes)} | {"method": wanted["method"]}
            pixels = wanted["pixels"]
            with Unless(self._is_overtaken):
                seen = focus(pixels, detector=detector, model=kept.model, confidence=confidence, **asked)
            heats = tuple(
                replace(heat, image=pixels) for heat in seen.heats
            )  # one photograph for all, not copies of it
            return replace(seen, image=pixels, detections=replace(seen.detections, image=pixels), heats=heats)

        self._closer = None
        if wanted["two_stage"] and self._found is not None and self._found.failed is None:
            self._closer = kept.once(("closer", detector, confidence, *_question({**wanted, "query": "cls"})), make)
        self.send(*self._closely(shown))

    def _closely(self, shown: Shown) -> Message:
        return closer(shown.kept, shown.settings, self._closer, named(self.detector), self._rate)

    def _every_method(self, wanted: Mapping[str, Any], shown: Shown) -> None:
        """What becomes of the class under the shown map; each method's map; and what becomes of it under those."""
        kept = shown.kept
        if self._worth.get("of") != (of := _asked_of(shown)):
            self._worth = {"of": of}

        def tell(message: Message) -> None:
            self._worth[message[0].get("method")] = message
            self.send(*message)

        def tried(what: str, heat: Heatmap) -> Trial:
            progress = self._progress(f"{what}, forwards without patches")
            with Unless(self._is_overtaken):
                return trial(kept, wanted["pixels"], heat, wanted["target"], progress=progress)

        refused = None
        try:
            tell(removal(kept, shown.settings, tried("the shown map", shown.heat)))
        except (ValueError, RuntimeError, MemoryError) as error:
            refused = str(error)
            tell(removal(kept, shown.settings, refused))
        heats: dict[str, Heatmap] = {}
        for method in registry.METHODS:
            if method == "attention":  # as "cls", or of the pinned patch
                continue
            try:
                heats[method] = self._read({**wanted, **LAST, "method": method}, kept).heat
                tell(of_method(method, shown.settings, kept, heats[method]))
            except (ValueError, RuntimeError, MemoryError) as error:
                tell(of_method(method, shown.settings, kept, str(error)))
        if refused is None:
            for method, heat in (heats | {RANDOM: _at_random(shown)}).items():
                tell(of_method(method, shown.settings, kept, heat, tried(method.replace("_", " "), heat)))

    # ---- to the browser ----

    def _say(self, state: str, words: object) -> None:
        self.send({"kind": "status", "state": state, "words": str(words)})

    def _view(self, pane: int, shown: Shown) -> Message:
        content, buffers = view(pane, shown.kept, shown.heat, shown.settings)
        return content | {"content": shown.digest, "source": shown.source}, buffers

    def _look(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("opacity", "colormap", "smooth", "normalise", "threshold")}

    def _asked(self, _: Any, content: Mapping[str, Any], buffers: list[Any]) -> None:
        """Messages from the browser."""
        try:
            getattr(self, f"_on_{content['kind']}")(content, buffers)
        except Exception as error:
            self._failed(error)

    def _on_hello(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        self._greet, self._unfolded = True, False  # as a new page is
        self._want()

    def _on_layer(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        kept, sums = self._numbered(content["run"]), bool(content.get("sums"))
        self.send(*layer(kept, content["layer"], sums=sums) if kept else ({**content, **GONE}, []))

    def _on_atlas(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        kept = self._numbered(content["run"])
        self.send(*atlas(kept) if kept else ({**content, **GONE}, []))

    def _numbered(self, number: int) -> Kept | None:
        """The run of that number, of one of this lab's pictures or remembered."""
        own = [shown.kept for shown in self._panes if shown is not None and shown.kept.number == number]
        return own[0] if own else RUNS.numbered(number)

    def _on_methods(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        self._unfolded = bool(content["open"])
        self._want()  # folded, too: what is still to be made is left off

    def _on_upload(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        self.image = load_image(bytes(buffers[0]))

    def _on_export(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        unfolded, self._unfolded = self._unfolded, False
        try:
            if unfolded:
                self._want()  # what is made below the picture is left off meanwhile
            with tempfile.TemporaryDirectory() as folder:
                path = self.save(Path(folder) / f"vislab{content['suffix']}")
                self.send({"kind": "file", "name": path.name}, [path.read_bytes()])
        finally:
            self._unfolded = unfolded
            if unfolded:
                self._want()

    # ---- what stays ----

    def save(self, path: str | Path) -> Path:
        """Write what is shown, both pictures where there are two, in the format of the path's suffix -> its path.

        .html is one page, without need of a network or Python, where pointing at patches, layers, heads, scale and
        display still work; the others are `vislab.save`'s.
        """
        panes, path = [shown for shown in self.wait()._panes if shown is not None], Path(path)
        if path.suffix.lower() != ".html":
            if self._closer is not None:
                raise ValueError(
                    f"boxes that are looked at one by one are written as .html, not {path.suffix}: for a figure let go "
                    "of two_stage, or take vislab.focus(…).overlay()"
                )
            heats = [shown.heat for shown in panes]
            what = heats[0] if len(heats) == 1 else heats
            return save.save(path, what, detections=self.detections, **self._look())
        assert self._plain is not None
        first = panes[0]
        own = {name: getattr(self, name) for name in ("_photo", "_source", "_content")}
        state = own | {name: value for name, value in self.state.items() if value is not None}
        state |= {"compare": self._beside(self.state) if len(panes) > 1 else {}, "before": False}
        told = [
            about(),
            *(self._view(pane, shown) for pane, shown in enumerate(panes)),
            plain(first.kept, self._plain, first.settings, self._rate),
            boxes(self._digest, self._found.detections if self._found else None),
            atlas(first.kept),
            self._closely(first),
        ]
        if self._worth.get("of") == _asked_of(first):
            told += [message for method, message in self._worth.items() if method != "of"]
        layers = small_layers([(shown.kept, shown.settings["layer"]) for shown in panes])
        path.write_text(page(f"vislab: {first.heat.method}", state, told, layers), encoding="utf-8")
        return path

    def _ipython_display_(self) -> None:
        """The lab, and after it a picture of its last view, which is seen where the lab is not: without a kernel."""
        from IPython.display import display, publish_display_data

        data = self._repr_mimebundle_()
        if data:
            publish_display_data(*data if isinstance(data, tuple) else (data,))
            self._handle = display(self._still(), raw=True, display_id=True)

    def _still(self) -> dict[str, Any]:
        photo, heat = self._pixels, self.heatmap
        if self._closer is not None:
            photo = self._closer.overlay(opacity=self.opacity, colormap=self.colormap)
        elif heat is not None and heat.image is not None:
            photo = overlay(heat, detections=self.detections, **self._look())
        return {"image/jpeg": base64.b64encode(jpeg(photo)).decode(), "text/plain": "the lab's last view"}

    def _settle(self) -> None:
        self._timer.cancel()
        self._timer = threading.Timer(QUIET, lambda: self._handle and self._handle.update(self._still(), raw=True))
        self._timer.daemon = True
        self._timer.start()


def _told(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The settings behind a picture, as the page is told them."""
    return {name: wanted[name] for name in (*FORWARD, *READING)} | {"model": named(wanted["model"])}


def _question(wanted: Mapping[str, Any]) -> tuple[Any, ...]:
    """What is read from a run, by which its heatmap is remembered: the method, and what it makes use of."""
    method = wanted["method"]
    takes = registry.ASKED["attention" if method == "cls" else method]
    return method, *(wanted[name] if name in takes else None for name in READING if name != "method")


def _asked_of(shown: Shown) -> tuple[Any, ...]:
    """What all methods have in common that are shown beside each other."""
    return shown.kept.number, shown.settings["query"], shown.settings["target"]


def _at_random(shown: Shown) -> Heatmap:
    """A map that knows nothing, to hold the others against; the one that `evaluate` has of a single image."""
    values = rng(0, "maps", 0).random(shown.heat.values.shape)
    return Heatmap(values, shown.heat.grid, shown.heat.frame, RANDOM)
