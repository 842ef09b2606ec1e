"""Laws of the Lab: its settings and its one thread."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import labkit
import numpy as np
import pytest
import traitlets

import vislab
from vislab.core.geometry import Frame
from vislab.detectors.detections import Detections
from vislab.figures import colours
from vislab.lab import export_page
from vislab.lab.runs import Runs
from vislab.lab.traits import FAINTEST, SETTINGS
from vislab.lab.widget import Lab
from vislab.methods import registry
from vislab.models import cache
from vislab.models.model import Model


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Nothing is remembered, but how fast the embedded model is."""
    fresh = Runs(2**28)
    fresh.rate(cache.model_of("embedded"), np.zeros((32, 32, 3), np.uint8))
    fresh.forwards = 0
    monkeypatch.setattr("vislab.lab.runs.RUNS", fresh)
    monkeypatch.setattr("vislab.lab.stage.SOON", 60.0)  # however much else the machine has to do, rollout is not slow
    return fresh


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, float]]:
    """What the detector was asked, (detector, confidence): a stand-in that finds a dog and, less surely, a ball."""
    calls: list[tuple[Any, float]] = []

    def detect(image: np.ndarray, *, detector: Any = "embedded", confidence: float = 0.25) -> Detections:
        calls.append((detector, confidence))
        if detector == "broken":
            raise OSError("no such detector")
        found = ([[10, 20, 300, 200], [5, 5, 50, 60]], [0.9, 0.3], ("dog", "ball"), [16, 32], [0, 1])
        frame = Frame.letterbox(image.shape[:2], (640, 640))
        return Detections(*found, frame, FAINTEST, str(detector)).above(confidence)

    for room in ("lab.stage", "api.focus"):
        monkeypatch.setattr(f"vislab.{room}.detect", detect)
    return calls


@pytest.fixture
def lab(told: list) -> Iterator[Lab]:
    made = Lab("church", method="rollout").wait(60)
    yield made
    with suppress(Exception):  # of what a test left wanted; the next test shall not meet it
        made.wait(60)
    made.close()


def kinds(told: list) -> list[str]:
    return [content["kind"] for content, _ in told]


# ---- settings ----


def test_what_two_threads_set_is_wanted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker sets what gives way while the notebook sets more: neither wants what the other has replaced."""
    lab = Lab("church", detector=None).wait(120)
    wanted: list[dict[str, Any]] = []
    monkeypatch.setattr(lab._worker, "want", wanted.append)
    read, begun = lab._settings, threading.Event()

    def slowly() -> Iterator[tuple[str, Any]]:
        settings = [*read()]
        if threading.current_thread() is slow:
            begun.set()
            time.sleep(0.2)
        return iter(settings)

    monkeypatch.setattr(lab, "_settings", slowly)
    slow = threading.Thread(target=setattr, args=(lab, "layer", 3))
    slow.start()
    begun.wait(60)
    lab.head = 1
    slow.join()
    assert (wanted[-1]["layer"], wanted[-1]["head"]) == (3, 1)
    lab.close()


def test_the_first_view_is_the_rollout_of_the_photograph(lab: Lab, told: list) -> None:
    image = vislab.load_image(vislab.samples()["church"])
    assert lab._source == [683, 1024]
    assert np.abs(vislab.load_image(bytes(lab._photo)).astype(int) - image).mean() < 3
    assert np.array_equal(lab.heatmap.values, vislab.explain(image).values)
    assert kinds(told) == ["status", "view", "view", "plain", "status", "boxes", "closer", "status"]
    assert told[-1][0]["state"] == "ready"


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "cls", "layer": 3, "head": 1},
        {"method": "cls", "layer": "mean", "head": "max"},
        {"attention_scale": 0.5, "layer": 5},
        {"patch_size": 28, "image_size": 112},
        {"image_size": (64, 96)},
        {"query": (300.0, 200.0)},
        {"method": "attention", "query": (300.0, 200.0), "head": 2},
        {"method": "relevance", "target": "tench"},
        {"method": "grad_cam", "layer": 5, "attention_scale": 0.5},
    ],
    ids=str,
)
def test_the_lab_shows_what_explain_gives(lab: Lab, settings: dict[str, Any]) -> None:
    lab.state = settings
    assert np.array_equal(lab.wait(60).heatmap.values, vislab.explain(vislab.samples()["church"], **settings).values)


def test_state_makes_the_lab_again(lab: Lab) -> None:
    lab.state = {
        "image": "rocket",
        "attention_scale": 2.0,
        "method": "cls",
        "layer": 4,
        "head": 2,
        "query": (100, 50),
        "compare": {"layer": 7},
        "colormap": "magma",
        "detector": None,
        "confidence": 0.4,
    }
    lab.wait(60)
    state = json.loads(json.dumps(lab.state))
    assert set(state) == set(SETTINGS)
    again = Lab(state=state).wait(60)
    assert again.state == lab.state
    assert np.array_equal(again.heatmap.values, lab.heatmap.values)
    other = Lab("coffee", state=state).wait(60)
    assert other.image == "coffee"
    assert other.state | {"image": "rocket"} == lab.state
    assert Lab("coffee", state={**state, "query": (700, 50)}).wait(60).query == "cls"
    with pytest.raises(traitlets.TraitError, match="600×400"):
        Lab("coffee", query=(700, 50))


def test_what_is_refused_leaves_the_lab_as_it_was(lab: Lab) -> None:
    before = lab.state
    with pytest.raises(traitlets.TraitError, match=r"15 px do not fill .*224×224.* 14, 16"):
        lab.patch_size = 15
    with pytest.raises(ValueError, match="no setting 'patchsize'"):
        Lab("church", patchsize=16)
    assert lab.state == before


def test_what_the_browser_sets_wrongly_is_said_and_put_back(lab: Lab, told: list) -> None:
    lab.set_state({"attention_scale": 99.0})
    assert lab.attention_scale == 1
    assert told[-1][0]["state"] == "error"
    assert "from 0.1 to 4" in told[-1][0]["words"]


# ---- one forward at a time ----


@dataclass
class Held:
    """Forwards that wait until they may `go`. scales: of those that were run; began: once one waits."""

    scales: list[float] = field(default_factory=list)
    began: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def again(self) -> None:
        self.began.clear()
        self.go.clear()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    forwards, run = Held(), Model.run

    def waiting(self: Model, *args: Any, **how: Any) -> Any:
        forwards.scales.append(how["attention_scale"])
        forwards.began.set()
        assert forwards.go.wait(30)
        return run(self, *args, **how)

    monkeypatch.setattr(Model, "run", waiting)
    yield forwards
    forwards.go.set()


def test_the_newest_wanted_wins_and_those_between_are_dropped(told: list, held: Held, runs: Runs) -> None:
    lab = Lab("church")
    assert held.began.wait(30)
    for scale in (0.2, 0.4, 0.6, 0.8):
        lab.attention_scale = scale
    held.go.set()
    lab.wait(60)
    assert held.scales == [1.0, 0.8, 1.0]  # the first was left off, and is made for the picture beside it
    assert runs.forwards == 2
    views = [content["settings"]["attention_scale"] for content, _ in told if content.get("pane") == 0]
    assert views == [0.8]
    assert lab.heatmap.settings["attention_scale"] == 0.8


def test_what_was_seen_costs_no_forward(lab: Lab, runs: Runs) -> None:
    lab.attention_scale = 0.5
    lab.wait(60)
    forwards = runs.forwards
    lab.state = {"attention_scale": 1.0, "layer": 3}
    lab.wait(60)
    lab.state = {"attention_scale": 0.5, "method": "cls"}
    lab.wait(60)
    Lab("church").wait(60)
    assert runs.forwards == forwards == 2


def test_errors_stand_in_the_status_line_and_the_last_view_stays(lab: Lab, told: list) -> None:
    good = lab.heatmap
    lab.model = "no/such-model"
    with pytest.raises(OSError, match="cannot load 'no/such-model'"):
        lab.wait(60)
    assert told[-1][0]["state"] == "error"
    assert told[-1][0]["words"].endswith("or take the embedded one, which needs neither.")  # and no Python
    assert lab.heatmap is good
    lab.model = "embedded"
    assert lab.wait(60).heatmap is not None
    assert told[-1][0]["state"] == "ready"


def test_a_forward_is_left_off_for_another_but_not_for_a_reading_of_its_own(told: list, held: Held, runs: Runs) -> None:
    lab = Lab("church", before=False)
    assert held.began.wait(30)
    lab.layer = 3
    held.go.set()
    lab.wait(60)
    assert runs.forwards == 1
    held.again()
    lab.attention_scale = 0.5
    assert held.began.wait(30)
    lab.attention_scale = 0.7
    held.go.set()
    lab.wait(60)
    assert runs.forwards == 2
    assert [c["settings"]["attention_scale"] for c, _ in told if c.get("pane") == 0] == [1.0, 0.7]


def test_what_takes_long_is_preceded_by_what_is_ready(lab: Lab, told: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vislab.lab.stage.SOON", 0.0)
    told.clear()
    lab.layer = 7
    lab.wait(60)
    views = [(content["settings"], buffers) for content, buffers in told if content.get("pane") == 0]
    assert [settings["method"] for settings, _ in views] == ["cls", "rollout"]
    for settings, [values] in views:
        wanted = vislab.explain(vislab.samples()["church"], method=settings["method"], layer=7).values
        assert np.array_equal(np.frombuffer(values, "<f4").reshape(14, 14), wanted)
    told.clear()
    lab.detector = None  # which changes nothing in the picture
    lab.wait(60)
    assert [content["settings"]["method"] for content, _ in told if content.get("pane") == 0] == ["rollout"]


def test_waiting_has_an_end(told: list, held: Held) -> None:
    lab = Lab("church")
    with pytest.raises(TimeoutError, match="still at work"):
        lab.wait(0.1)
    held.go.set()
    lab.wait(60)


def test_scale_shows_what_was_before_beside_it(lab: Lab, told: list) -> None:
    told.clear()
    lab.attention_scale = 0.5
    lab.wait(60)
    assert [c["settings"]["attention_scale"] for c, _ in told if c["kind"] == "view"] == [0.5, 1.0]
    told.clear()
    lab.before = False
    lab.wait(60)
    assert [c["run"] is None for c, _ in told if c["kind"] == "view"] == [False, True]


def test_compare_shows_the_other_settings(lab: Lab, told: list) -> None:
    told.clear()
    lab.compare = {"method": "cls", "layer": 2}
    lab.wait(60)
    other, [values] = next((c, b) for c, b in told if c.get("pane") == 1)
    wanted = vislab.explain(vislab.samples()["church"], method="cls", layer=2).values
    assert np.array_equal(np.frombuffer(values, "<f4").reshape(14, 14), wanted)
    assert other["settings"]["layer"] == 2


# ---- the detector ----


def found(told: list) -> list[dict[str, Any]]:
    return [content for content, _ in told if content["kind"] == "boxes"]


def test_boxes_are_found_once_and_sifted_without_a_forward(lab: Lab, told: list, asked: list) -> None:
    assert asked == [("embedded", 0.05)]
    [message] = found(told)
    assert message["content"] == lab._content
    assert [(box["label"], box["box"]) for box in message["boxes"]] == [
        ("dog", [10, 20, 300, 200]),
        ("ball", [5, 5, 50, 60]),
    ]
    assert lab.detections.labels == ("dog", "ball")
    lab.state = {"confidence": 0.5, "attention_scale": 0.5, "layer": 3}
    lab.wait(60)
    assert lab.detections.labels == ("dog",)
    assert len(asked) == 1
    lab.image = "rocket"
    lab.wait(60)
    assert len(asked) == 2
    assert found(told)[-1]["content"] == lab._content


def test_without_a_detector_there_are_no_boxes(lab: Lab, told: list, asked: list) -> None:
    lab.detector = None
    assert lab.wait(60).detections is None
    assert found(told)[-1]["boxes"] is None
    assert len(asked) == 1


def test_a_detector_that_fails_harms_nothing_else(lab: Lab, told: list, asked: list) -> None:
    heat = lab.heatmap
    lab.detector = "broken"
    lab.wait(60)
    assert told[-1][0]["state"] == "error"
    assert "no boxes: no such detector" in told[-1][0]["words"]
    assert lab.detections is None
    assert np.array_equal(lab.heatmap.values, heat.values)
    lab.layer = 3
    lab.wait(60)
    assert len(asked) == 2  # not again for the same image
    lab.detector = "embedded"
    lab.wait(60)
    assert told[-1][0]["state"] == "ready"


def test_each_box_is_looked_at_by_itself(lab: Lab, told: list, asked: list) -> None:
    lab.state = {"two_stage": True, "method": "cls", "layer": 3, "query": (300.0, 200.0)}
    told.clear()
    ask(lab, "hello")
    content, buffers = next((c, b) for c, b in told if c["kind"] == "closer")
    seen = vislab.focus(vislab.samples()["church"], method="cls", layer=3)
    assert len(seen) == len(buffers) == 2
    for crop, values, heat in zip(content["crops"], buffers, seen.heats, strict=True):
        assert np.array_equal(np.frombuffer(values, "<f4").reshape(14, 14), heat.values)
        assert crop["frame"] == [heat.frame.source, heat.frame.model, heat.frame.scale, heat.frame.offset]
    assert [cost["tokens"] for cost in content["costs"]] == [seen.staged.tokens, seen.whole.tokens]
    assert all(cost["seconds"] > 0 for cost in content["costs"])
    names = {"image": vislab.load_image(vislab.samples()["church"]), "vislab": vislab}
    assert np.array_equal(eval(content["call"], names).heats[0].values, seen.heats[0].values)

    times = len(asked)
    lab.confidence = 0.5
    lab.wait(60)
    assert len(told[-2][1]) == 1
    lab.confidence = 0.25
    lab.wait(60)
    assert len(told[-2][1]) == 2
    assert len(asked) == times + 1  # what was seen costs nothing
    with pytest.raises(ValueError, match=r"as \.html, not \.pdf"):
        lab.save("figure.pdf")
    lab.detector = None
    lab.wait(60)
    assert told[-2][0]["crops"] is None


def test_what_is_compared_need_not_take_the_same(lab: Lab) -> None:
    lab.state = {"method": "cls", "layer": 3, "head": 1, "compare": {"method": "grad_rollout"}}
    lab.wait(60)
    assert [(shown.heat.method, shown.heat.target) for shown in lab._stage.panes] == [
        ("cls", None),
        ("grad_rollout", "church"),
    ]


def test_what_the_method_does_not_take_is_not_compared(lab: Lab) -> None:
    lab.state = {"method": "relevance", "compare": {"target": "tench"}}
    assert lab.wait(60)._stage.panes[1].heat.target == "tench"
    lab.method = "rollout"
    assert lab.wait(60)._stage.panes[1] is None


def test_a_model_of_ones_own_is_taken(told: list) -> None:
    module = vislab.load("embedded").module
    lab = Lab("church", model=module).wait(60)
    assert isinstance(lab.model, Model)
    lab.state = lab.state
    assert lab.model.module is module


def test_many_interactions_leave_nothing_behind(lab: Lab, runs: Runs) -> None:
    runs.limit = 3 * lab._stage.panes[0].kept.bytes
    threads = threading.active_count()
    for step in range(200):
        lab.state = {"attention_scale": 0.1 + step % 7, "layer": step % 12} if step % 7 < 4 else {"opacity": 0.5}
    lab.wait(60)
    assert runs.bytes <= runs.limit
    assert threading.active_count() <= threads + 1


# ---- what the browser asks ----


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Only four methods, and few steps of taking patches away; the pictures in each forward without patches."""
    monkeypatch.setattr("vislab.lab.trial.STEPS", 4)
    forwards, logits = [], Model.logits

    def counted(self: Model, pixels: Any, **how: Any) -> Any:
        forwards.append(len(pixels))
        return logits(self, pixels, **how)

    monkeypatch.setattr(Model, "logits", counted)
    with labkit.only("cls", "rollout", "relevance", "grad_cam"):
        yield forwards


@pytest.mark.slow
def test_every_method_is_shown_while_it_is_unfolded(lab: Lab, told: list, few: list[int]) -> None:
    lab.state = {"method": "cls", "layer": 3}
    ask(lab, "methods", open=True)
    sent = {content["method"]: (content, buffers) for content, buffers in told if content["kind"] == "method"}
    assert set(sent) == {*registry.METHODS, "random"}
    photo = vislab.load_image(vislab.samples()["church"])
    wanted = vislab.evaluate([photo], methods=list(registry.METHODS), steps=4, randomised=0, progress=False)
    for number, name in enumerate(wanted.methods):
        if name == "centre":
            continue
        content, [values] = sent[name]
        areas = [wanted.samples[measure][number, 0] for measure in ("deletion", "insertion")]
        assert content["worth"] == pytest.approx(areas, rel=1e-4)
        assert content["asked"] == ["cls", None]
        if name == "random":
            continue
        heat = vislab.explain(photo, method=name)
        assert np.allclose(np.frombuffer(values, "<f4").reshape(14, 14), heat.values, atol=1e-6)
        assert (content["signed"], content["target"]) == (heat.signed, heat.target)
    ask(lab, "methods", open=False)
    told.clear()
    lab.layer = 4
    lab.wait(60)
    assert {"method", "removal"}.isdisjoint(kinds(told))


@pytest.mark.slow
def test_what_has_no_room_for_gradients_still_has_its_other_maps(
    lab: Lab, told: list, few: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.attention_scale = 0.77  # of which nothing is remembered
    room = lab.wait(60)._stage.panes[0].kept.model.forecast(lab._stage.panes[0].kept.run.grid) + 1
    monkeypatch.setattr("vislab.models.placed.free_memory", lambda device: room)
    ask(lab, "methods", open=True)
    refused = {content["method"] for content, _ in told if content["kind"] == "method" and "refused" in content}
    assert refused == {"relevance", "grad_cam"}
    assert told[-1][0]["state"] == "ready"


def test_a_new_image_never_bears_the_old_ones_map(lab: Lab, told: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that is put on the screen while the new one is being painted."""
    shown, before = lab._stage.panes[0], lab._content
    monkeypatch.setattr("vislab.lab.protocol.jpeg", lambda pixels: lab._stage.put(0, shown) or b"")
    lab.image = "minster"
    late = next(content for content, _ in told if content["kind"] == "view")
    assert (late["run"], late["content"]) == (shown.kept.number, before)
    assert late["source"].endswith('["church"])')


@pytest.mark.slow
def test_what_a_method_makes_no_use_of_makes_no_new_map(lab: Lab) -> None:
    lab.method = "occlusion"
    first = lab.wait(60).heatmap
    lab.query = (300.0, 200.0)
    assert lab.wait(60).heatmap is first
    lab.method = "attention"
    pinned = lab.wait(60).heatmap
    lab.target = "church"
    assert lab.wait(60).heatmap is pinned
    lab.query = "cls"
    assert lab.wait(60).heatmap is not pinned


def removals(told: list) -> list[tuple[dict[str, Any], list[bytes]]]:
    return [(content, buffers) for content, buffers in told if content["kind"] == "removal"]


@pytest.mark.slow
def test_patches_are_taken_away_in_the_order_of_the_shown_map(lab: Lab, told: list, few: list[int]) -> None:
    lab.state = {"method": "grad_cam", "target": "golf ball", "attention_scale": 0.5}
    ask(lab, "methods", open=True)
    [(content, [gone, filled])] = removals(told)
    assert content["settings"] == lab._stage.panes[0].settings
    assert content["target"] == "golf ball"
    chance = dict(lab._stage.panes[0].kept.model.top(lab._stage.panes[0].kept.run, 10))["golf ball"]
    assert content["deletion"][0] == pytest.approx(chance, rel=1e-4)
    step = np.frombuffer(gone, "<u2").reshape(14, 14)
    assert np.bincount(step.ravel()).tolist() == [0, 49, 49, 49, 49]
    values = lab.heatmap.values
    assert all(values[step == early].min() >= values[step == early + 1].max() for early in (1, 2, 3))
    assert vislab.load_image(filled).shape == (224, 224, 3)


@pytest.mark.slow
def test_what_was_played_is_played_again_without_a_forward(lab: Lab, told: list, few: list[int]) -> None:
    ask(lab, "methods", open=True)
    made = len(few)
    assert made > 0
    [first] = removals(told)
    lab.opacity = 0.3
    ask(lab, "methods", open=True)
    assert removals(told)[1] == first
    lab.method = "relevance"  # which was tried beside the others
    lab.wait(60)
    assert removals(told)[2][0]["areas"] != first[0]["areas"]
    assert len(few) == made


@pytest.mark.slow
def test_taking_patches_away_is_left_off_for_what_is_newer(
    lab: Lab, told: list, few: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = Model.logits

    def newer(self: Model, *args: Any, **how: Any) -> Any:
        monkeypatch.setattr(Model, "logits", logits)
        lab.layer = 3
        return logits(self, *args, **how)

    monkeypatch.setattr(Model, "logits", newer)
    ask(lab, "methods", open=True)
    assert [content["settings"]["layer"] for content, _ in removals(told)] == [3]
    assert told[-1][0]["state"] == "ready"


@pytest.mark.slow
def test_an_export_does_not_wait_for_all_of_them(
    lab: Lab, told: list, few: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    began, logits = threading.Event(), Model.logits

    def slow(self: Model, *args: Any, **how: Any) -> Any:
        began.set()
        end = time.monotonic() + 30
        while lab._worker.newer is None and time.monotonic() < end:
            time.sleep(0.01)
        monkeypatch.setattr(Model, "logits", logits)
        return logits(self, *args, **how)

    monkeypatch.setattr(Model, "logits", slow)
    lab._asked(lab, {"kind": "methods", "open": True}, [])
    assert began.wait(30)
    lab._asked(lab, {"kind": "export", "suffix": ".npz"}, [])
    assert "removal" not in kinds(told)[: kinds(told).index("file")]
    lab.wait(60)
    assert len(removals(told)) == 1


def test_a_film_of_the_shown_map_is_made_alone(lab: Lab, told: list, few: list[int]) -> None:
    ask(lab, "film", open=True)
    [(content, _)] = removals(told)
    assert "method" not in kinds(told)
    assert content["deletion"][0] == content["insertion"][-1]
    assert content["deletion"][-1] == content["insertion"][0]
    ask(lab, "film", open=False)
    lab.layer = "mean"
    lab.wait(60)
    assert len(removals(told)) == 1


def test_of_another_map_no_film_is_made_unasked(lab: Lab, told: list, few: list[int]) -> None:
    """Whoever sets it, the page or Python; what is no part of the map ends none."""
    changes = [{"method": "relevance"}, {"image": "coffee"}, {"patch_size": 32}, {"model": "embedded-plain"}]
    for number, change in enumerate([*changes, {"keep": 0.5}], 1):
        ask(lab, "film", open=True)
        lab.opacity = number / 10
        assert (len(removals(told)), lab._stage.filming) == (number, True)
        lab.state = change
        lab.wait(60)
        assert (len(removals(told)), lab._stage.filming) == (number, False), change


def test_without_some_patches_the_class_is_what_the_model_says(lab: Lab, told: list) -> None:
    lab.state = {"method": "grad_cam", "target": "golf ball", "attention_scale": 0.5}
    lab.wait(60)
    kept = lab._stage.panes[0].kept
    ask(lab, "take", run=kept.number, gone=[3, 100])
    [(content, [filled])] = [one for one in told if one[0]["kind"] == "without"]
    assert (content["run"], content["gone"], content["target"]) == (kept.number, [3, 100], "golf ball")
    masks = np.ones((2, 196), bool)
    masks[1, [3, 100]] = False
    with kept.model.lock, kept.model.captured(0.5):
        wanted = vislab.patch_score(vislab.samples()["church"], target="golf ball")(masks.reshape(2, 14, 14))
    assert [content["before"], content["now"]] == pytest.approx(wanted, rel=1e-4)
    assert vislab.load_image(filled).shape == (224, 224, 3)
    told.clear()
    lab.patch_size = 32  # another run, of which other patches were meant
    lab.wait(60)
    assert "without" not in kinds(told)


def test_a_model_that_the_page_chose_in_vain_gives_way(lab: Lab, told: list) -> None:
    """Whoever sets it in Python is told by an error, and keeps what they set."""
    lab.set_state({"model": "./nowhere"})
    lab.wait(60)
    assert lab.model == "embedded"
    [words] = [content["words"] for content, _ in told if content["kind"] == "note"]
    assert words.startswith("unknown model './nowhere'")
    assert words.endswith("It is embedded again.")
    assert told[-1][0]["state"] == "ready"
    lab.model = "./nowhere-else"
    with pytest.raises(ValueError, match="unknown model"):
        lab.wait(60)
    assert lab.model == "./nowhere-else"


def test_the_last_view_is_a_page_that_answers(lab: Lab) -> None:
    """It holds all layers of a small model, and of a large one those that fit, the shown one first."""
    lab.layer = 3
    still = lab.wait(60)._still()["text/html"]
    assert "jp-OutputArea-child:has(+ .jp-OutputArea-child .vislab-held)" in still
    assert len(still) < 3e6
    kept = lab._stage.panes[0].kept
    every = export_page.small_layers([(kept, 3)])
    assert [content["layer"] for content, _ in every] == [3, 11, 10, 9, 8, 7, 6, 5, 4, 2, 1, 0]
    one = sum(map(len, every[0][1]))
    assert [content["layer"] for content, _ in export_page.small_layers([(kept, 3)], 2.5 * one)] == [3, 11]


def test_without_classes_there_is_nothing_to_lose(told: list, few: list[int]) -> None:
    from transformers import ViTConfig, ViTModel

    module = ViTModel(
        ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8)
    )
    lab = Lab("church", model=module, detector=None).wait(60)
    ask(lab, "methods", open=True)
    assert "no classifier" in removals(told)[0][0]["refused"]
    sent = {content["method"]: content for content, _ in told if content["kind"] == "method"}
    assert sent["cls"]["worth"] is None
    assert "random" not in sent
    assert "classifier" in sent["relevance"]["refused"]
    assert told[-1][0]["state"] == "ready"


def ask(lab: Lab, kind: str, buffers: list[bytes] | None = None, **content: Any) -> None:
    lab._asked(lab, {"kind": kind, **content}, buffers or [])
    lab.wait(60)


def test_hello_is_answered_with_all_there_is(lab: Lab, told: list) -> None:
    told.clear()
    ask(lab, "hello")
    assert kinds(told) == ["about", "view", "view", "plain", "boxes", "closer", "status"]
    [tables] = told[0][1]
    assert tables[:768] == colours.colour_table("viridis").tobytes()
    assert told[0][0]["samples"] == list(vislab.samples())


def test_a_shown_run_is_held_by_its_lab(lab: Lab, told: list, runs: Runs) -> None:
    runs._kept.clear()  # as other labs may have it
    told.clear()
    for number in (lab._stage.panes[0].kept.number, 10**6):
        ask(lab, "layer", run=number, layer=3)
        ask(lab, "atlas", run=number)
    assert [(content["kind"], "no longer held" in (content.get("refused") or "")) for content, _ in told] == [
        *[("layer", False), ("atlas", False), ("layer", True), ("atlas", True)]
    ]
    assert told[2][0]["layer"] == 3


def test_upload_is_the_new_photograph(lab: Lab, told: list) -> None:
    ask(lab, "upload", [vislab.samples()["moose"].read_bytes()])
    assert lab.heatmap.frame.source == (683, 1024)
    lab.state = lab.state
    assert lab.image == "your photograph"  # as long as this lab lives
    assert lab.state["image"] == ""
    told.clear()
    ask(lab, "upload", [b"no picture at all"])
    assert told[0][0]["state"] == "error"
    assert "17 bytes" in told[0][0]["words"]
    assert lab._source == [683, 1024]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".npz", ".html"])
def test_exports_are_files_of_their_kind(lab: Lab, told: list, suffix: str) -> None:
    told.clear()
    ask(lab, "export", suffix=suffix)
    content, [data] = told[0]
    assert content == {"kind": "file", "name": f"church-rollout{suffix}"}
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".npz": b"PK", ".html": b"<!doctype html>"}
    assert data.startswith(begins[suffix])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".npz"])
def test_exports_hold_both_pictures_and_the_boxes(lab: Lab, tmp_path: Path, suffix: str) -> None:
    lab.state = {"compare": {"method": "cls", "layer": 3}, "confidence": 0.5, "normalise": "shared"}
    record = vislab.provenance(lab.save(tmp_path / f"both{suffix}"))
    assert [made["method"] for made in record["maps"]] == ["rollout", "cls"]
    assert record["maps"][0]["colours"] == record["maps"][1]["colours"]
    assert [box["label"] for box in record["detections"]] == ["dog"]
    lab.compare = {}
    assert len(vislab.provenance(lab.save(tmp_path / f"one{suffix}"))["maps"]) == 1


@pytest.mark.parametrize("beside", [{"method": "cls", "layer": 3}, {"attention_scale": 0.5}], ids=str)
def test_the_page_holds_both_pictures(lab: Lab, tmp_path: Path, beside: dict[str, Any]) -> None:
    lab.state = {"compare": beside, "confidence": 0.5}  # which the page can lower again
    text = lab.save(tmp_path / "page.html").read_text(encoding="utf-8")
    held = json.loads(re.search(r'id="held">(.*?)</script>', text, re.DOTALL)[1])
    views = [content for content, _ in held["messages"] if content["kind"] == "view"]
    assert [view["pane"] for view in views] == [0, 1]
    assert views[1]["settings"].items() >= beside.items()
    assert held["state"]["compare"] == beside
    layers = [(content["run"], content["layer"]) for content, _ in held["layers"]]
    assert {(view["run"], view["settings"]["layer"] % 12) for view in views} <= set(layers)
    assert [content["boxes"] for content, _ in held["messages"] if content["kind"] == "boxes"] == [found_boxes(lab)]
    assert len(text) <= 2_000_000


@pytest.mark.slow
def test_the_page_holds_what_was_played(lab: Lab, tmp_path: Path, few: list[int]) -> None:
    def held() -> list[str]:
        text = lab.save(tmp_path / "page.html").read_text(encoding="utf-8")
        return [
            content["kind"]
            for content, _ in json.loads(re.search(r'id="held">(.*?)</script>', text, re.S)[1])["messages"]
        ]

    assert {"method", "removal"}.isdisjoint(held())
    ask(lab, "methods", open=True)
    made = len(few)
    ask(lab, "methods", open=False)
    assert (held().count("method"), held().count("removal")) == (5, 1)
    lab.target = "tench"  # for which nothing was tried
    lab.wait(60)
    assert {"method", "removal"}.isdisjoint(held())
    assert len(few) == made


def found_boxes(lab: Lab) -> list[dict[str, Any]]:
    found = lab._stage.finding.detections
    each = zip(found.xyxy.tolist(), found.labels, found.scores.tolist(), strict=True)
    return [{"box": box, "label": label, "score": score} for box, label, score in each]


def test_nonsense_is_said(lab: Lab, told: list) -> None:
    ask(lab, "export", suffix=".exe")
    assert told[-1][0]["state"] == "error"
    assert ".exe" in told[-1][0]["words"]


def test_the_still_picture_is_what_is_shown(lab: Lab) -> None:
    import base64

    look = {"opacity": 0.9, "colormap": "magma", "normalise": "absolute"}
    for name, value in look.items():
        timer = lab._timer
        lab.set_trait(name, value)
        assert lab._timer is not timer  # it is made anew
    picture = vislab.load_image(base64.b64decode(lab._still()["image/jpeg"]))
    shown = vislab.overlay(lab.heatmap, detections=lab.detections, blend="value", **look)
    assert np.abs(picture.astype(int) - shown).mean() < 4
