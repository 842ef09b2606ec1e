"""Laws of the Lab: its settings, its one thread, and the browser's arithmetic against NumPy's."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traitlets

import vislab
from vislab import render, widgets
from vislab.geometry import Frame, Grid, attention_flops, attention_memory
from vislab.models import Model
from vislab.runs import Runs, forward_flops
from vislab.widgets import SETTINGS, Lab

SCRIPT = Path(widgets.__file__).parent / "static" / "lab.js"


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(widgets, "RUNS", Runs(2**28))
    return widgets.RUNS


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], list[bytes]]]:
    """What labs send to their browser."""
    sent: list[tuple[dict[str, Any], list[bytes]]] = []
    monkeypatch.setattr(Lab, "send", lambda self, content, buffers=None: sent.append((content, buffers or [])))
    return sent


@pytest.fixture
def lab(told: list) -> Iterator[Lab]:
    made = Lab("church").wait(60)
    yield made
    with suppress(Exception):  # of what a test left wanted; the next test shall not meet it
        made.wait(60)
    made.close()


def kinds(told: list) -> list[str]:
    return [content["kind"] for content, _ in told]


# ---- settings ----


def test_the_first_view_is_the_rollout_of_the_photograph(lab: Lab, told: list) -> None:
    image = vislab.load_image(vislab.samples()["church"])
    assert lab._source == [683, 1024]
    assert np.abs(vislab.load_image(bytes(lab._photo)).astype(int) - image).mean() < 3
    assert np.array_equal(lab.heatmap.values, vislab.explain(image).values)
    assert kinds(told) == ["status", "view", "view", "plain", "status"]
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
        "detections": [{"box": [1, 2, 30, 40], "label": "rocket", "score": 0.9}],
    }
    lab.query = (100, 50)
    lab.wait(60)
    state = json.loads(json.dumps(lab.state))
    assert set(state) == set(SETTINGS)
    again = Lab(state=state).wait(60)
    assert again.state == lab.state
    assert np.array_equal(again.heatmap.values, lab.heatmap.values)
    other = Lab("coffee", state=state).wait(60)
    assert other.image == "coffee"
    assert other.state | {"image": "rocket"} == lab.state


def test_one_head_alone_is_not_rolled_out(lab: Lab) -> None:
    lab.head = 2
    assert lab.method == "cls"
    lab.method = "rollout"
    assert lab.head == "mean"
    lab.layer = "mean"
    assert lab.method == "cls"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("attention_scale", 9.0, r"from 0\.1 to 4.*not 9"),
        ("patch_size", 15, r"15 px do not fill .*224×224.* 14, 16"),
        ("patch_size", 2.5, r"whole number of pixels"),
        ("image_size", (64, 64, 64), r"whole number of pixels"),
        ("layer", 12, r"below 12, not 12"),
        ("head", "middle", r"'mean', 'max', 'min' or an index below 3, not 'middle'"),
        ("head", True, r"not True"),
        ("query", (5000, 3), r"1024×683"),
        ("query", "middle", r"not 'middle'"),
        ("compare", {"opacity": 1}, r"'opacity' cannot be compared"),
        ("detections", [{"label": "dog"}], r"'box' \(x0, y0, x1, y1\)"),
        ("image", "no-such.jpg", r"no file 'no-such\.jpg'"),
        ("colormap", "rainbowish", r"viridis"),
        ("method", "magic", r"rollout"),
        ("opacity", 1.5, r"1"),
        ("normalise", "often", r"shared"),
    ],
)
def test_impossible_values_are_refused_in_words(lab: Lab, name: str, value: Any, words: str) -> None:
    before = lab.state
    with pytest.raises(traitlets.TraitError, match=words):
        setattr(lab, name, value)
    assert lab.state == before


def test_sizes_that_fit_only_together_are_set_together(lab: Lab) -> None:
    lab.state = {"patch_size": 20, "image_size": 320}
    with pytest.raises(traitlets.TraitError, match="do not fill"):
        lab.state = {"patch_size": 16, "image_size": 100}
    assert (lab.patch_size, lab.image_size) == (20, 320)
    with pytest.raises(ValueError, match="no setting 'patchsize': it has image, model"):
        lab.state = {"patchsize": 16}


def test_what_the_browser_sets_wrongly_is_said_and_put_back(lab: Lab, told: list) -> None:
    lab.set_state({"attention_scale": 99.0})
    assert lab.attention_scale == 1
    assert told[-1][0]["state"] == "error"
    assert "from 0.1 to 4" in told[-1][0]["words"]


# ---- one forward at a time ----


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[float]]]:
    """Forwards that wait to be let go; called, it lets them all go and tells which scales were run."""
    scales: list[float] = []
    go, began = threading.Event(), threading.Event()
    run = Model.run

    def waiting(self: Model, *args: Any, **how: Any) -> Any:
        scales.append(how["attention_scale"])
        began.set()
        assert go.wait(30)
        return run(self, *args, **how)

    def released() -> list[float]:
        go.set()
        return scales

    released.began = began.wait  # type: ignore[attr-defined]
    monkeypatch.setattr(Model, "run", waiting)
    yield released
    go.set()


def test_the_newest_wanted_wins_and_those_between_are_dropped(told: list, slow: Any) -> None:
    lab = Lab("church")
    assert slow.began(30)
    for scale in (0.2, 0.4, 0.6, 0.8):
        lab.attention_scale = scale
    scales = slow()
    lab.wait(60)
    assert scales == [1.0, 0.8]
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
    assert "vislab.load('embedded')" in told[-1][0]["words"]
    assert lab.heatmap is good
    lab.model = "embedded"
    assert lab.wait(60).heatmap is not None
    assert told[-1][0]["state"] == "ready"


def test_waiting_has_an_end(told: list, slow: Any) -> None:
    lab = Lab("church")
    with pytest.raises(TimeoutError, match="still at work"):
        lab.wait(0.1)
    slow()
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


def test_a_model_of_ones_own_is_taken(told: list) -> None:
    module = vislab.load("embedded").module
    lab = Lab("church", model=module).wait(60)
    assert isinstance(lab.model, Model)
    assert lab.state["model"] == "ViTForImageClassification"


def test_many_interactions_leave_nothing_behind(lab: Lab, runs: Runs) -> None:
    runs.limit = 3 * lab._shown.kept.bytes
    threads = threading.active_count()
    for step in range(200):
        lab.state = {"attention_scale": 0.1 + step % 7, "layer": step % 12} if step % 7 < 4 else {"opacity": 0.5}
    lab.wait(60)
    assert runs.bytes <= runs.limit
    assert threading.active_count() <= threads + 1


# ---- what the browser asks ----


def ask(lab: Lab, kind: str, buffers: list[bytes] | None = None, **content: Any) -> None:
    lab._asked(lab, {"kind": kind, **content}, buffers or [])
    lab.wait(60)


def test_hello_is_answered_with_all_there_is(lab: Lab, told: list) -> None:
    told.clear()
    ask(lab, "hello")
    assert kinds(told) == ["about", "view", "view", "plain", "status"]
    [tables] = told[0][1]
    assert tables[:768] == render.colour_table("viridis").tobytes()
    assert told[0][0]["samples"] == list(vislab.samples())


def test_upload_is_the_new_photograph(lab: Lab, told: list) -> None:
    ask(lab, "upload", [vislab.samples()["moose"].read_bytes()])
    assert lab.heatmap.frame.source == (683, 1024)
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
    assert content == {"kind": "file", "name": f"vislab{suffix}"}
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".npz": b"PK", ".html": b"<!doctype html>"}
    assert data.startswith(begins[suffix])


def test_nonsense_is_said(lab: Lab, told: list) -> None:
    ask(lab, "export", suffix=".exe")
    assert told[-1][0]["state"] == "error"
    assert ".exe" in told[-1][0]["words"]


def test_the_still_picture_is_what_is_shown(lab: Lab) -> None:
    import base64

    lab.state = {"opacity": 0.9, "colormap": "magma"}
    picture = vislab.load_image(base64.b64decode(lab._still()["image/jpeg"]))
    shown = vislab.overlay(lab.heatmap.image, lab.heatmap, opacity=0.9, colormap="magma")
    assert np.abs(picture.astype(int) - shown).mean() < 4


# ---- the browser's arithmetic ----


def node() -> str:
    """A JavaScript engine: one on the PATH, or the one that the browser's driver brings."""
    from playwright._impl._driver import compute_driver_executable

    return shutil.which("node") or str(compute_driver_executable()[0])


@pytest.fixture(scope="module")
def js(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Evaluate an expression in the names of lab.js, with given arrays as Float32Array (others as JSON)."""
    folder = tmp_path_factory.mktemp("js")
    shutil.copy(SCRIPT, folder / "lab.mjs")
    engine = node()

    def evaluate(expression: str, **given: Any) -> Any:
        lines = ['import * as lab from "./lab.mjs";']
        for name, value in given.items():
            array = isinstance(value, np.ndarray)
            text = json.dumps(value.ravel().tolist() if array else value)
            lines.append(f"const {name} = {f'Float32Array.from({text})' if array else text};")
        lines += [f"const found = {expression};"]
        lines += ["console.log(JSON.stringify(ArrayBuffer.isView(found) ? Array.from(found) : found));"]
        script = folder / "run.mjs"
        script.write_text("\n".join(lines), encoding="utf-8")
        done = subprocess.run([engine, str(script)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return evaluate


@pytest.fixture(scope="module")
def qk() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.normal(size=(3, 21, 6)).astype(np.float32) * 2 for name in ("q", "k")}


SHAPE = "{ q, k, heads: 3, tokens: 21, dim: 6 }"


def attention(q: np.ndarray, k: np.ndarray, factor: float = 1) -> np.ndarray:
    logits = factor * q.astype(float) @ k.astype(float).transpose(0, 2, 1)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("factor", [1, 0.25, 3])
def test_js_rows(js: Any, qk: dict[str, np.ndarray], factor: float) -> None:
    row = js(f"lab.attentionRow({SHAPE}, 7, {factor})", **qk)
    assert np.allclose(np.reshape(row, (3, 21)), attention(**qk, factor=factor)[:, 7], atol=1e-6)


def test_js_columns(js: Any, qk: dict[str, np.ndarray]) -> None:
    column = js(f"lab.attentionColumn({{ ...{SHAPE}, sums: lab.logSums({SHAPE}) }}, 7)", **qk)
    assert np.allclose(np.reshape(column, (3, 21)), attention(**qk)[:, :, 7], atol=1e-6)


@pytest.mark.parametrize("head", ["mean", "max", "min", 1, -1])
def test_js_fusion(js: Any, qk: dict[str, np.ndarray], head: str | int) -> None:
    rows = attention(**qk)[:, 3]
    wanted = rows[head] if isinstance(head, int) else getattr(rows, head)(0)
    assert np.allclose(js(f"lab.fuse(rows, 3, 21, {json.dumps(head)})", rows=rows), wanted, atol=1e-6)


def test_js_half_precision(js: Any) -> None:
    values = np.array([0, 1, -2.5, 65504, 6e-8, 1e-5, 0.1, np.inf], "<f2")
    bits = values.view(np.uint8).tolist()
    for way in (
        "lab.halves(new Uint8Array(bits))",
        "new Uint16Array(new Uint8Array(bits).buffer).reduce((all, b) => [...all, lab.halfTable()[b]], [])",
    ):
        found = [np.inf if v is None else v for v in js(way, bits=bits)]
        assert np.array_equal(np.array(found, "<f2"), values)


def test_js_whole_numbers(js: Any) -> None:
    generator = np.random.default_rng(2)
    parts = [(2, 3), (1, 2)]
    whole = [generator.integers(-99, 99, (2, 4, width)).astype(f"<i{size}") for size, width in parts for _ in "qk"]
    steps = generator.random((2, 5)).astype("<f4")
    buffers = [list(array.tobytes()) for array in (*whole, steps)]
    found = js(
        "(({ q, k, dim }) => [[...q], [...k], dim])(lab.unpacked(parts, buffers.map((b) => new Uint8Array(b)), 2, 4))",
        parts=parts,
        buffers=buffers,
    )
    assert np.allclose(found[0], (np.concatenate(whole[::2], -1) * steps[:, None]).ravel())
    assert np.array_equal(found[1], np.concatenate(whole[1::2], -1).ravel())
    assert found[2] == 5


def test_js_entropy(js: Any, qk: dict[str, np.ndarray]) -> None:
    row = attention(**qk)[0, 0]
    assert js("lab.entropyBits(row)", row=row) == pytest.approx(-(row * np.log2(row)).sum(), abs=1e-5)
    assert js("lab.entropyBits(row)", row=np.array([1.0, 0, 0])) == 0


@pytest.mark.parametrize("threshold", [0, 0.4])
def test_js_colours(js: Any, threshold: float) -> None:
    values = np.linspace(-0.2, 1.2, 57, dtype=np.float32)
    table = render.colour_table("magma")
    pixels = np.reshape(js(f"lab.coloured(values, [0, 1], table, {threshold})", values=values, table=table), (-1, 4))
    share = render.fraction(values, (0, 1))
    assert np.array_equal(pixels[:, :3], render.colours(share[None], table)[0])
    assert np.array_equal(pixels[:, 3] == 255, share >= threshold)
    flat = js("lab.coloured(values, [1, 1], table)", values=np.ones(2), table=table)
    assert flat[:3] == table[0].tolist()


def test_js_smoothing(js: Any) -> None:
    values = np.random.default_rng(1).random((3, 5)).astype(np.float32)
    rows, cols = (np.arange(n * 4) / 4 + 0.125 for n in values.shape)
    wanted = render.sample(values, rows, cols, smooth=True)
    assert np.allclose(np.reshape(js("lab.upsample(values, 3, 5, 4)", values=values), (12, 20)), wanted, atol=1e-6)


@pytest.mark.parametrize(
    "frame",
    [Frame.stretch((683, 1024), (224, 224)), Frame.crop((400, 600), (256, 384), (224, 224))],
    ids=["stretch", "crop"],
)
def test_js_places(js: Any, frame: Frame) -> None:
    grid = Grid.of((224, 224), (16, 32), 1)
    given = {
        "frame": {"scale": frame.scale, "offset": frame.offset},
        "grid": {"rows": grid.rows, "cols": grid.cols, "patch": grid.patch},
    }
    assert np.allclose(js("lab.boxOf(frame, grid, 3, 2)", **given), frame.box_to_source(grid.box(3, 2)))
    for point in [(10, 10), (300.5, 222.25), (599, 399), (5, 200)]:
        cell = grid.cell_at(*frame.to_model(*point))
        assert js("lab.cellAt(frame, grid, ...point)", point=point, **given) == (cell and list(cell))


@pytest.mark.parametrize(("size", "patch"), [(224, 16), (640, 16), (2048, 16), (112, 28)])
def test_js_costs(js: Any, size: int, patch: int) -> None:
    grid = Grid.of((size, size), (patch, patch), 1)
    model = vislab.load("embedded")
    n = js(f"lab.gridOf([{size}, {size}], [{patch}, {patch}], 1).tokens")
    assert n == grid.tokens
    assert js(f"lab.attentionFlops({n}, 192, 12)") == attention_flops(n, 192, 12)
    assert js(f"lab.mapBytes({n}, 3, 12)") == attention_memory(n, 3, 12)
    assert js(f"lab.forwardFlops({n}, 192, 12)") == forward_flops(model, n)


def test_js_sizes_that_fit(js: Any) -> None:
    assert js("lab.dividing([224, 224], 4, 64)") == [4, 7, 8, 14, 16, 28, 32, 56]
    assert js("lab.dividing([64, 96], 4, 64)") == [4, 8, 16, 32]
    assert js("lab.multiples(20, 64, 130)") == [80, 100, 120]
    for raw, current, wanted in [(15, 16, 14), (17, 16, 28), (16, 16, 16), (30, 8, 28), (64, 32, 56), (4, 4, 4)]:
        assert js(f"lab.snap({raw}, {current}, lab.dividing([224, 224], 4, 64))") == wanted


def test_js_scale_steps(js: Any) -> None:
    scales = js("Array.from({ length: 81 }, (_, i) => lab.scaleAt(i - 50))")
    assert (scales[0], scales[50], scales[80]) == (0.1, 1, 4)
    assert np.all(np.diff(scales) > 0)
    assert js("Array.from({ length: 81 }, (_, i) => lab.scaleStep(lab.scaleAt(i - 50)))") == list(range(-50, 31))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.0013, 0.0204), (2e-6, 9e-6), (0.3, 0.31), (-1, 4)])
def test_js_ticks(js: Any, low: float, high: float) -> None:
    ticks = js("lab.ticks(low, high)", low=low, high=high)
    labels = js("lab.tickLabels(lab.ticks(low, high))", low=low, high=high)
    assert 2 <= len(ticks) <= 6
    assert low <= ticks[0] + 1e-9
    assert ticks[-1] <= high + 1e-9
    assert len(set(labels)) == len(labels)
    step = ticks[1] - ticks[0]
    assert all(
        abs(float(label.replace("−", "-")) - tick) < step * 0.1 for tick, label in zip(ticks, labels, strict=True)
    )


def test_js_words(js: Any) -> None:
    assert js('lab.amount(357663744, "FLOP")') == "358 MFLOP"
    assert js('lab.amount(999, "B")') == "999 B"
    assert js("lab.duration(0.0841)") == "84 ms"
    assert js("lab.change(91.2, 89.1, 0)") == "▲ 2"
    assert js("lab.change(4.1, 5.3, 1, ' bits')") == "▼ 1.2 bits"
    assert js("lab.change(4.11, 4.1, 1)") == ""
