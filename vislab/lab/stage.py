"""The stage of a lab: makes the runs, maps, boxes and trials that are wanted, and tells the page of each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..api.detect import detect
from ..api.explain import heatmap
from ..api.focus import focus
from ..core.heatmap import Heatmap
from ..evaluation.plan import content, rng
from ..evaluation.report import RANDOM
from ..methods.registry import METHODS
from ..methods.request import Request
from ..models.cache import model_of
from ..models.tokens import DEFAULTS
from . import lens, protocol, runs
from .protocol import Message
from .runs import Kept
from .spent import asked
from .traits import FAINTEST, FORWARD, PLACES, READING, lies_in_image
from .trial import Trial, Without, trial, without
from .values import named
from .wording import plainly
from .worker import Superseded, Unless

if TYPE_CHECKING:
    import numpy as np

    from ..api.focus import Focus
    from ..detectors.detections import Detections

TRAINED = {"attention_scale": 1.0, "heads_off": None}  # the model as it was trained
SOON = 0.05  # seconds: a rollout that takes longer is preceded by what is ready at once
LAST = {"layer": -1, "head": "mean"}  # where methods are beside each other
UNMODIFIED = {"patch_size": None, "image_size": None, "attention_scale": 1.0, **DEFAULTS}


@dataclass(frozen=True, eq=False)
class Shown:
    """What a pane shows. digest, source: of the image, its content and the Python that names it."""

    settings: Mapping[str, Any]
    kept: Kept
    heat: Heatmap
    digest: str
    source: str


@dataclass(frozen=True, eq=False)
class Finding:
    """What a detector found in an image, or the words in which it failed."""

    digest: str
    detector: Any
    detections: Detections | None = None
    failed: str | None = None


class NoBoxes(Exception):
    """All is shown but the boxes; the message says why."""


class Stage:
    """What a lab shows, and how it comes to be: one set of settings at a time, left off once a newer one is wanted.

    send: tells the page. newer: the settings that are wanted beyond those at work, or None. panes: what is shown, the
    second where two pictures are compared. plain: the run of the unmodified model. rate: operations a second. finding:
    what the detector found. closer: each box by itself, where that is shown. unfolded: whether the page shows every
    method's map. worth: what it was told of those, by method, and "of" which run and question. filming: whether the
    page shows how patches of the map go. lensing: whether it shows what the head says early. taken: the run whose
    patches were taken away by hand, and which, or None.
    """

    def __init__(self, send: Callable[..., None], newer: Callable[[], Mapping[str, Any] | None]) -> None:
        self.send, self.newer = send, newer
        self.panes: list[Shown | None] = [None, None]
        self.plain: Kept | None = None
        self.rate = 0.0
        self.finding: Finding | None = None
        self.closer: Focus | None = None
        self.unfolded = False
        self.worth: dict[Any, Any] = {}
        self.filming = self.lensing = False
        self.taken: tuple[int, list[int]] | None = None

    def show(self, wanted: dict[str, Any]) -> float | None:
        """Show these settings -> how long the forward took, seconds; None where the run was remembered.

        In this order: the map, the second picture, the unmodified model's run to compare with, and the boxes.
        Raises Superseded once newer settings are wanted; NoBoxes, after all else is shown, if the detector failed.
        """
        kept, is_new = self._run(wanted)
        slow = METHODS[wanted["method"]].walks and runs.RUNS.rollout_seconds(kept) > SOON
        if slow and _request(wanted).call() not in kept.made:
            self.put(0, self._read(wanted | {"method": "cls"}, kept))
            self.say("computing", f"rollout through {kept.model.layers} layers")
        shown = self._read(wanted, kept)
        self.put(0, shown)
        beside = self.beside(wanted)
        self.put(1, self._read(wanted | beside, self._run(wanted | beside)[0]) if beside else None)
        self.plain = self._run(wanted | UNMODIFIED)[0]
        self.rate = runs.RUNS.rate(kept.model, wanted["pixels"], stop=self.is_overtaken)
        with Unless(self.is_overtaken):
            self.send(*protocol.plain(kept, self.plain, wanted, self.rate))
        self.find_boxes(wanted)
        self._look_closer(wanted, shown)
        self._take_away(wanted, shown)
        if self.lensing:
            self.say("computing", f"what the head says after each of {kept.model.layers} layers")
            self.send(*lens.early(kept, self.is_overtaken))
        if self.unfolded or self.filming:
            refused = self._removal(wanted, shown)
            if self.unfolded:
                self._every_method(wanted, shown, refused)
        if self.finding is not None and self.finding.failed is not None:
            raise NoBoxes(f"The map is ready, but no boxes: {self.finding.failed}")
        return kept.seconds if is_new else None

    def put(self, pane: int, shown: Shown | None) -> None:
        if self.is_overtaken():
            raise Superseded
        self.panes[pane] = shown
        self.send(*self.view(pane, shown) if shown else ({"kind": "view", "pane": pane, "run": None}, []))

    def is_overtaken(self) -> bool:
        return self.newer() is not None

    @staticmethod
    def beside(wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The settings in which the second picture differs; none where there is no second picture."""
        second = wanted["compare"] or (TRAINED if wanted["before"] else {})
        alien = {"layer", "head", "query", "target"} - METHODS[second.get("method", wanted["method"])].asks
        return {name: value for name, value in second.items() if wanted[name] != value and name not in alien}

    def _run(self, wanted: Mapping[str, Any]) -> tuple[Kept, bool]:
        """The run of these settings, remembered or made; left off where a newer one needs another."""

        def stop() -> bool:
            newer = self.newer()
            return newer is not None and any(newer[name] != wanted[name] for name in ("digest", *FORWARD))

        model = model_of(wanted["model"])
        how = {name: value for name, value in asked(wanted).items() if name in FORWARD[1:]}
        saying = functools.partial(self.say, "computing")
        return runs.RUNS.run(model, wanted["pixels"], wanted["digest"], starting=saying, stop=stop, **how)

    def _read(self, wanted: Mapping[str, Any], kept: Kept) -> Shown:
        """What a pane shows of a run: its heatmap, remembered or made; Superseded once newer settings are wanted."""
        request = _request(wanted)

        def make() -> Heatmap:
            model, run, token = kept.model, kept.run, None
            if request.query != "cls":
                cell = run.grid.cell_at(*run.frame.to_model(*request.query))
                if cell is None:
                    raise ValueError(
                        f"{model.name} sees nothing at the pinned point {request.query}: pin another patch"
                    )
                token = run.grid.token(*cell)
            with Unless(self.is_overtaken):
                progress = self.progress(request.entry.label)
                return heatmap(model, run, wanted["pixels"], request, token=token, progress=progress)

        heat = kept.once(request.call(), make)
        return Shown(page_settings(wanted), kept, heat, wanted["digest"], protocol.source(named(wanted["image"])))

    def progress(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.say("computing", f"{what}: {done} of {total}")

    def find_boxes(self, wanted: Mapping[str, Any]) -> None:
        """Find boxes, where they are not yet found, and tell the page. A detector that fails harms nothing else."""
        digest, detector = wanted["digest"], wanted["detector"]
        finding = self.finding
        if detector is None:
            finding = None
        elif finding is None or (finding.digest, finding.detector) != (digest, detector):
            if self.is_overtaken():
                raise Superseded
            self.say("computing", f"detector {named(detector)}")
            try:
                finding = Finding(digest, detector, detect(wanted["pixels"], detector=detector, confidence=FAINTEST))
            except Exception as error:
                finding = Finding(digest, detector, failed=str(error) or type(error).__name__)
        self.finding = finding
        self.send(*protocol.boxes(digest, finding.detections if finding else None))

    def _look_closer(self, wanted: Mapping[str, Any], shown: Shown) -> None:
        """Each box that the detector found by itself, where that is asked for, by the method of the shown map."""
        kept, detector, confidence = shown.kept, wanted["detector"], wanted["confidence"]

        def make() -> Focus:
            self.say("computing", "each box by itself")
            pixels = wanted["pixels"]
            keywords: dict[str, Any] = {"method": request.method, **request.settings}
            with Unless(self.is_overtaken):
                seen = focus(pixels, detector=detector, model=kept.model, confidence=confidence, **keywords)
            heats = tuple(
                replace(heat, image=pixels) for heat in seen.heats
            )  # one photograph for all, not copies of it
            return replace(seen, image=pixels, detections=replace(seen.detections, image=pixels), heats=heats)

        own = {name: usual for name, usual in PLACES.items() if lies_in_image(name, wanted[name])}
        request = _request({**wanted, **own})  # what lies in the whole photograph is not the box's
        self.closer = None
        if wanted["two_stage"] and self.finding is not None and self.finding.failed is None:
            self.closer = kept.once(("closer", detector, confidence, request.call()), make)
        self.send(*self.closely(shown, detector))

    def closely(self, shown: Shown, detector: Any) -> Message:
        """Each box by itself, as the page is told it."""
        return protocol.closer(shown.kept, shown.settings, self.closer, named(detector), self.rate)

    def _take_away(self, wanted: Mapping[str, Any], shown: Shown) -> None:
        """What becomes of the class without the patches that were taken away by hand."""
        if self.taken is None or self.taken[0] != shown.kept.number:
            return
        gone = self.taken[1]
        try:
            with Unless(self.is_overtaken):
                found: Without | str = without(shown.kept, wanted["pixels"], gone, wanted["target"])
        except (ValueError, RuntimeError, MemoryError) as error:
            found = plainly(str(error))
        self.send(*protocol.without(shown.kept, gone, found))

    def _removal(self, wanted: Mapping[str, Any], shown: Shown) -> str | None:
        """What becomes of the class while patches go in the order of the shown map -> why that is not known, if so."""
        if self.worth.get("of") != (of := asked_of(shown)):
            self.worth = {"of": of}
        refused = None
        try:
            made: Trial | str = self._tried(wanted, shown.kept, "the shown map", shown.heat)
        except (ValueError, RuntimeError, MemoryError) as error:
            made = refused = plainly(str(error))
        self._tell(protocol.removal(shown.kept, shown.settings, made))
        return refused

    def _tell(self, message: Message) -> None:
        self.worth[message[0].get("method")] = message
        self.send(*message)

    def _tried(self, wanted: Mapping[str, Any], kept: Kept, what: str, heat: Heatmap) -> Trial:
        progress = self.progress(f"{what}, forwards without patches")
        with Unless(self.is_overtaken):
            return trial(kept, wanted["pixels"], heat, wanted["target"], progress=progress)

    def _every_method(self, wanted: Mapping[str, Any], shown: Shown, refused: str | None) -> None:
        """Each method's map, and what becomes of the class under those, unless that cannot be known."""
        kept = shown.kept
        heats: dict[str, Heatmap] = {}
        of_tokens = {entry.with_query for entry in METHODS.values()}  # each shown as what it stands in for
        possible = [name for name, entry in METHODS.items() if kept.model.attends or not entry.attends]
        for method in (name for name in possible if name not in of_tokens):
            try:
                heats[method] = self._read({**wanted, **LAST, "method": method}, kept).heat
                self._tell(protocol.of_method(method, shown.settings, kept, heats[method]))
            except (ValueError, RuntimeError, MemoryError) as error:
                self._tell(protocol.of_method(method, shown.settings, kept, plainly(str(error))))
        if refused is None:
            for method, heat in (heats | {RANDOM: _at_random(shown, wanted["pixels"])}).items():
                tried = self._tried(wanted, kept, _label(method), heat)
                self._tell(protocol.of_method(method, shown.settings, kept, heat, tried))

    def say(self, state: str, words: object) -> None:
        """Tell the page's status line, errors in its own words."""
        words = plainly(str(words)) if state == "error" else words
        self.send({"kind": "status", "state": state, "words": str(words)})

    def view(self, pane: int, shown: Shown) -> Message:
        """What a pane shows, as the page is told it."""
        content, buffers = protocol.view(pane, shown.kept, shown.heat, shown.settings)
        return content | {"content": shown.digest, "source": shown.source}, buffers


def page_settings(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The settings behind a picture, as the page is told them."""
    return {name: wanted[name] for name in (*FORWARD, *READING)} | {"model": named(wanted["model"])}


def _request(wanted: Mapping[str, Any]) -> Request:
    """What is asked of a run: what makes no difference to the method left out; a pinned patch asks in place of CLS."""
    method = wanted["method"]
    if wanted["query"] != "cls":
        method = METHODS[method].with_query or method
    return Request.of({**asked(wanted), "method": method})


def _label(method: str) -> str:
    return METHODS[method].label if method in METHODS else method


def asked_of(shown: Shown) -> tuple[Any, ...]:
    """What all methods have in common that are shown beside each other."""
    return shown.kept.number, shown.settings["query"], shown.settings["target"]


def _at_random(shown: Shown, image: np.ndarray) -> Heatmap:
    """A map that knows nothing, to hold the others against; the one that `evaluate` has of the image."""
    values = rng(0, "maps", content(image)).random(shown.heat.values.shape)
    return Heatmap(values, shown.heat.grid, shown.heat.frame, RANDOM)
