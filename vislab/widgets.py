"""The Lab: a notebook widget that keeps the settings, runs one forward at a time and hands the rest to the browser."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from . import attribution, compose, export, messages, render
from .geometry import Heatmap
from .images import load_image, samples
from .models import Model
from .runs import Kept, Runs

NORMALISE = ("map", "shared", "absolute")
SCALES = (0.1, 4.0)
CACHE_BYTES = 512 * 2**20
QUIET = 1.0  # seconds without a change after which the still picture is made anew

FORWARD = ("model", "patch_size", "image_size", "attention_scale")  # what a forward depends on, beside the image
READING = ("method", "layer", "head", "query")  # what is read from the same forward
UNMODIFIED = {"patch_size": None, "image_size": None, "attention_scale": 1.0}
COMPARABLE = (*FORWARD, *READING[:3])
DISPLAY = ("opacity", "colormap", "smooth", "normalise", "threshold", "grid", "incoming", "confidence")
SETTINGS = ("image", *FORWARD, *READING, "compare", "before", "detections", *DISPLAY)

RUNS = Runs(CACHE_BYTES)


@dataclass(frozen=True, eq=False)
class Shown:
    """What a pane shows. made: whether a forward was needed."""

    settings: Mapping[str, Any]
    kept: Kept
    heat: Heatmap
    made: bool


def _named(value: Any, _: Any = None) -> Any:
    """An image or a model by its name; what has none stays in Python."""
    if isinstance(value, str | Path):
        return str(value)
    return value.name if isinstance(value, Model) else ""


def _trait(kind: Any, **tags: Any) -> Any:
    return kind.tag(sync=True, **tags)


class Lab(anywidget.AnyWidget):
    """Explore where a Vision Transformer looks, live, in JupyterLab or Notebook 7.

    image: what `load_image` takes, or the name of a sample; by default the first of them. model: what `load` takes.
    state: another lab's `state`. Every control is an attribute, validated when set: image, model, patch_size,
    image_size, attention_scale (0.1 to 4), method, layer, head, query ("cls" or (x, y) in source pixels), compare
    (settings of the second picture), before, detections ([{"box": (x0, y0, x1, y1), "label": …, "score": …}], source
    pixels), opacity, colormap, smooth, normalise, threshold, grid, incoming, confidence.

    Raises TraitError, in words, for a value that is impossible; what goes wrong later stands in the lab's status line.

        lab = vislab.Lab("photo.jpg")
        lab.attention_scale = 0.5
        lab.wait().heatmap
    """

    _esm = messages.STATIC / "lab.js"
    _css = messages.STATIC / "lab.css"

    _photo = _trait(traitlets.Bytes(b""))
    _source = _trait(traitlets.List())
    _content = _trait(traitlets.Unicode())

    image = _trait(traitlets.Any(), to_json=_named)
    model = _trait(traitlets.Any("embedded"), to_json=_named)
    patch_size = _trait(traitlets.Any(None, allow_none=True))
    image_size = _trait(traitlets.Any(None, allow_none=True))
    attention_scale = _trait(traitlets.Float(1.0))
    method = _trait(traitlets.Enum(list(attribution.METHODS), "rollout"))
    layer = _trait(traitlets.Any(-1))
    head = _trait(traitlets.Any("mean"))
    query = _trait(traitlets.Any("cls"))
    compare = _trait(traitlets.Dict())
    before = _trait(traitlets.Bool(True))
    detections = _trait(traitlets.List(traitlets.Dict()))
    opacity = _trait(traitlets.Float(0.6, min=0, max=1))
    colormap = _trait(traitlets.Enum(messages.COLORMAPS, "viridis"))
    smooth = _trait(traitlets.Bool(False))
    normalise = _trait(traitlets.Enum(NORMALISE, "map"))
    threshold = _trait(traitlets.Float(0.0, min=0, max=1))
    grid = _trait(traitlets.Bool(False))
    incoming = _trait(traitlets.Bool(False))
    confidence = _trait(traitlets.Float(0.25, min=0, max=1))

    def __init__(self, image: Any = None, *, model: Any = None, state: Mapping[str, Any] | None = None) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[str, Any] | None = None
        self._thread: threading.Thread | None = None
        self._failed: Exception | None = None
        self._ready: Model | None = None
        self._shown: Shown | None = None
        self._plain: Kept | None = None
        self._handle: Any = None
        self._greet = False
        self._timer = threading.Timer(0, int)
        self._pixels = np.zeros((1, 1, 3), np.uint8)
        self._digest = ""
        super().__init__()
        given = dict(state or {})
        if image is not None or given.get("image") in (None, ""):
            given["image"] = next(iter(samples())) if image is None else image
        if model is not None:
            given["model"] = model
        self.state = given
        self.observe(self._changed, names=["image", *FORWARD, *READING, "compare", "before"])
        self.on_msg(self._asked)
        self._want()

    # ---- settings ----

    @property
    def state(self) -> dict[str, Any]:
        """All settings as a plain dict: `Lab(state=…)` makes the lab again, `lab.state = {…}` changes several at once.

        A photograph or a model that has no name is not in it: pass it again.
        """
        return {name: _named(value) if name in ("image", "model") else value for name, value in self._settings()}

    @state.setter
    def state(self, values: Mapping[str, Any]) -> None:
        for name in values:
            if name not in SETTINGS:
                raise ValueError(f"the lab has no setting {name!r}: it has {', '.join(SETTINGS)}")
        with self.hold_trait_notifications():
            for name, value in values.items():
                setattr(self, name, value)

    def _settings(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in SETTINGS)

    @traitlets.validate("image")
    def _image_is_there(self, proposal: Any) -> Any:
        value = proposal["value"]
        with _in_words():
            pixels = load_image(samples().get(value, value) if isinstance(value, str) else value)
        self._pixels = pixels
        self._digest = hashlib.blake2b(pixels.tobytes() + repr(pixels.shape).encode(), digest_size=16).hexdigest()
        return value

    @traitlets.observe("image")
    def _paint(self, _: Any) -> None:
        with self.hold_sync():
            self._content, self._source = self._digest, list(self._pixels.shape[:2])
            self._photo = messages.jpeg(self._pixels)

    @traitlets.validate("model")
    def _model_is_one(self, proposal: Any) -> Any:
        value = proposal["value"]
        if isinstance(value, str | Path | Model):
            return value
        with _in_words():
            return compose._model(value)  # a bare module becomes one Model, once

    @traitlets.validate("patch_size", "image_size")
    def _sizes_fit(self, proposal: Any) -> Any:
        value = tuple(proposal["value"]) if isinstance(proposal["value"], list) else proposal["value"]
        name = proposal["trait"].name
        numbers = value if isinstance(value, tuple) else (value,)
        pair = name == "image_size" and isinstance(value, tuple) and len(value) == 2
        if value is not None and not ((pair or len(numbers) == 1) and all(_whole(n) and n > 0 for n in numbers)):
            raise traitlets.TraitError(f"{name} is a whole number of pixels above 0, or None, not {value!r}")
        sizes = {"patch_size": self.patch_size, "image_size": self.image_size, name: value}
        if self._ready is not None and _named(self._ready) == _named(self.model):
            with _in_words():
                self._ready.grid(sizes["image_size"], sizes["patch_size"])
        return value

    @traitlets.validate("attention_scale")
    def _scale_is_possible(self, proposal: Any) -> float:
        low, high = SCALES
        if not low <= proposal["value"] <= high:
            raise traitlets.TraitError(
                f"attention_scale runs from {low} to {high:g} , where 1 is the trained model; not {proposal['value']}"
            )
        return proposal["value"]

    @traitlets.validate("layer")
    def _layer_exists(self, proposal: Any) -> Any:
        return self._index("layer", proposal["value"], ("mean",), "layers")

    @traitlets.validate("head")
    def _head_exists(self, proposal: Any) -> Any:
        return self._index("head", proposal["value"], ("mean", "max", "min"), "heads")

    def _index(self, name: str, value: Any, words: tuple[str, ...], of: str) -> Any:
        known = self._ready is not None and _named(self._ready) == _named(self.model)
        number = getattr(self._ready, of) if known else math.inf
        if value in words or (_whole(value) and -number <= value < number):
            return value
        raise traitlets.TraitError(
            f"{name} is {', '.join(map(repr, words))} or an index{f' below {number}' if known else ''}, not {value!r}"
        )

    @traitlets.validate("query")
    def _query_is_a_place(self, proposal: Any) -> Any:
        value = proposal["value"]
        if value == "cls":
            return value
        try:
            x, y = (float(v) for v in value)
        except (TypeError, ValueError):
            x = y = math.nan
        if not (0 <= x <= self._pixels.shape[1] and 0 <= y <= self._pixels.shape[0]):
            height, width = self._pixels.shape[:2]
            raise traitlets.TraitError(f"query is 'cls' or a point (x, y) in the {width}×{height} px, not {value!r}")
        return (x, y)

    @traitlets.validate("compare")
    def _compare_is_known(self, proposal: Any) -> Any:
        for name in proposal["value"]:
            if name not in COMPARABLE:
                raise traitlets.TraitError(f"{name!r} cannot be compared: there are {', '.join(COMPARABLE)}")
        return proposal["value"]

    @traitlets.validate("detections")
    def _boxes_are_boxes(self, proposal: Any) -> Any:
        for one in proposal["value"]:
            if len(one.get("box", ())) != 4:
                raise traitlets.TraitError(f"a detection has a 'box' (x0, y0, x1, y1) in source pixels, not {one!r}")
        return proposal["value"]

    def _changed(self, change: Any) -> None:
        # Rollout fuses the heads: one head alone is read from one layer.
        if change["name"] == "head" and _whole(self.head) and self.method == "rollout":
            self.method = "cls"
        elif change["name"] == "method" and self.method == "rollout" and (_whole(self.head) or self.layer == "mean"):
            self.state = {"head": "mean", "layer": -1 if self.layer == "mean" else self.layer}
        elif change["name"] == "layer" and self.layer == "mean" and self.method == "rollout":
            self.method = "cls"
        if change["name"] == "image":
            self.query = "cls"
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
        return None if self._shown is None else self._shown.heat

    def wait(self, timeout: float | None = None) -> Lab:
        """Until what was asked for is on the screen -> the lab. Raises what went wrong, or TimeoutError (seconds)."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while (thread := self._thread) is not None:
            thread.join(None if end == math.inf else max(0.0, end - time.monotonic()))
            if time.monotonic() >= end and self._thread is not None:
                raise TimeoutError(f"the lab was still at work after {timeout:g} s")
        if self._failed is not None:
            raise self._failed
        return self

    def _want(self) -> None:
        """The settings of now are wanted, whatever was wanted before."""
        with self._lock:
            self._wanted = dict(self._settings()) | {"pixels": self._pixels, "digest": self._digest}
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()

    def _work(self) -> None:
        """Until nothing is wanted any more: make the newest wanted view. What fails leaves the last good one."""
        while True:
            with self._lock:
                wanted, self._wanted = self._wanted, None
                if wanted is None:
                    self._thread = None
                    return
                self._failed = None
            try:
                if self._greet:  # here, so that two threads do not import frameworks at the same time
                    self._greet = False
                    self.send(*messages.about(SCALES))
                self._show(wanted)
            except Exception as error:
                with self._lock:
                    self._failed = error
                self._say("error", str(error) or type(error).__name__)

    def _show(self, wanted: dict[str, Any]) -> None:
        """The view, what stands beside it, what it is held against; each dropped once something newer is wanted."""
        self._ready = compose._model(wanted["model"])
        shown = self._made(wanted)
        if self._wanted is not None:
            return
        self._shown = shown
        self._send_view(0, shown)
        second = wanted["compare"] or ({"attention_scale": 1.0} if wanted["before"] else {})
        beside = {name: value for name, value in second.items() if wanted[name] != value}
        self._send_view(1, self._made(wanted | beside) if beside else None)
        if self._wanted is None:
            self._plain = self._run(wanted | UNMODIFIED)[0]
            self.send(*messages.plain(shown.kept, self._plain, wanted))
            self._say("ready", f"{shown.kept.seconds * 1000:.0f} ms" + ("" if shown.made else ", remembered"))
            self._settle()

    def _run(self, wanted: Mapping[str, Any]) -> tuple[Kept, bool]:
        model = compose._model(wanted["model"])
        how = {name: wanted[name] for name in FORWARD[1:]}
        saying = functools.partial(self._say, "computing")
        return RUNS.run(model, wanted["pixels"], wanted["digest"], starting=saying, **how)

    def _made(self, wanted: dict[str, Any]) -> Shown:
        kept, made = self._run(wanted)
        model, run, token, method = kept.model, kept.run, None, wanted["method"]
        if wanted["query"] != "cls":
            cell = run.grid.cell_at(*run.frame.to_model(*wanted["query"]))
            if cell is None:
                raise ValueError(f"{model.name} sees nothing at the pinned point {wanted['query']}: pin another patch")
            token = run.grid.token(*cell)
            method = "attention" if method == "cls" else method
        asked = {name: wanted[name] for name in (*READING[1:], *FORWARD[1:])}
        heat = compose.heatmap(model, run, wanted["pixels"], method=method, token=token, asked=asked, options={})
        settings = {name: wanted[name] for name in (*FORWARD, *READING)} | {"model": _named(wanted["model"])}
        return Shown(settings, kept, heat, made)

    # ---- to the browser ----

    def _say(self, state: str, words: object) -> None:
        self.send({"kind": "status", "state": state, "words": str(words)})

    def _send_view(self, pane: int, shown: Shown | None) -> None:
        self.send(*self._view(pane, shown) if shown else ({"kind": "view", "pane": pane, "run": None}, []))

    def _view(self, pane: int, shown: Shown) -> messages.Message:
        content, buffers = messages.view(pane, shown.kept, shown.heat, shown.settings)
        call = messages.call(_named(self.image), shown.heat)
        return content | {"content": self._digest, "call": call}, buffers

    def _look(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("opacity", "colormap", "smooth", "threshold")}

    def _asked(self, _: Any, content: Mapping[str, Any], buffers: list[Any]) -> None:
        """Messages from the browser."""
        try:
            getattr(self, f"_on_{content['kind']}")(content, buffers)
        except Exception as error:
            self._say("error", str(error) or type(error).__name__)

    def _on_hello(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        self._greet = True
        self._want()

    def _on_layer(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        if (kept := RUNS.numbered(content["run"])) is not None:
            self.send(*messages.layer(kept, content["layer"], sums=bool(content.get("sums"))))

    def _on_atlas(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        if (kept := RUNS.numbered(content["run"])) is not None:
            self.send(*messages.atlas(kept))

    def _on_upload(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        self.image = load_image(bytes(buffers[0]))

    def _on_export(self, content: Mapping[str, Any], buffers: list[Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = self.save(Path(folder) / f"vislab{content['suffix']}")
            self.send({"kind": "file", "name": path.name}, [path.read_bytes()])

    # ---- what stays ----

    def save(self, path: str | Path) -> Path:
        """Write what is shown, in the format of the path's suffix -> its path.

        .html is one page, without need of a network or Python, where pointing at patches, layers, heads, scale and
        display still work; the others are `vislab.save`'s.
        """
        shown, path = self.wait()._shown, Path(path)
        assert shown is not None
        assert shown.heat.image is not None
        assert self._plain is not None
        if path.suffix.lower() != ".html":
            return export.save(path, shown.heat.image, shown.heat, **self._look())
        own = {name: getattr(self, name) for name in ("_photo", "_source", "_content")}
        state = own | {name: value for name, value in self.state.items() if value is not None}
        told = [
            messages.about(SCALES),
            self._view(0, shown),
            messages.plain(shown.kept, self._plain, shown.settings),
            messages.atlas(shown.kept),
        ]
        path.write_text(messages.page(f"vislab: {shown.heat.method}", state, told, shown.kept), encoding="utf-8")
        return path

    def _ipython_display_(self) -> None:
        """The lab, and after it a picture of its last view, which is seen where the lab is not: without a kernel."""
        from IPython.display import display, publish_display_data

        data = self._repr_mimebundle_()
        if data:
            publish_display_data(*data if isinstance(data, tuple) else (data,))
            self._handle = display(self._still(), raw=True, display_id=True)

    def _still(self) -> dict[str, Any]:
        shown = self._shown
        photo = self._pixels
        if shown is not None and shown.heat.image is not None:
            photo = render.overlay(shown.heat.image, shown.heat, **self._look())
        return {"image/jpeg": base64.b64encode(messages.jpeg(photo)).decode(), "text/plain": "the lab's last view"}

    def _settle(self) -> None:
        self._timer.cancel()
        self._timer = threading.Timer(QUIET, lambda: self._handle and self._handle.update(self._still(), raw=True))
        self._timer.daemon = True
        self._timer.start()


@contextmanager
def _in_words() -> Iterator[None]:
    """Errors of the engine as the trait errors that widgets expect, in the same words."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise traitlets.TraitError(str(error)) from error


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
