"""Laws of the Lab's face: modules that join into one, a store that owns what changes, and the browser's arithmetic."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vislab
from vislab.core.costs import attention_flops, attention_memory
from vislab.core.geometry import Frame, Grid
from vislab.figures import blends, boxes, colours, diagram, overlay
from vislab.lab import face
from vislab.lab.runs import forward_flops
from vislab.methods.registry import METHODS

LONGEST = 80  # lines of a function, with those in it


@pytest.fixture(scope="module")
def modules() -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in face.STATIC.glob("*.js")}


# ---- modules ----


def test_controls_light_parts_that_the_diagram_has(js: Any) -> None:
    acts = js("lab.ACTS")
    assert {part for parts in acts.values() for part in parts} == set(diagram.names())
    for control, parts in {"patch_size": ["patches"], "scale": ["qk"], "layer": ["layer"], "head": ["head"]}.items():
        assert js("lab.partsOf(name)", name=control) == parts
    assert js("lab.partsOf(name)", name="opacity") == js("lab.partsOf(null)") == []
    for name, method in METHODS.items():
        parts = js("lab.partsOf('method', asks)", asks=sorted(method.asks))
        assert set(parts) <= set(diagram.names()), name
        assert ("class" in parts) == ("target" in method.asks), name
        assert ("layer" in parts) == ("layer" in method.asks), name


def test_every_module_has_its_place(modules: Mapping[str, str]) -> None:
    assert sorted(face.ORDER) == sorted(modules)


def test_imports_point_one_way(modules: Mapping[str, str]) -> None:
    before: set[str] = set()
    for name in face.ORDER:
        imported = set(re.findall(r'from "\./(\w+)\.js"', modules[name]))
        assert imported <= before, name
        before.add(name)


def test_names_are_unique(modules: Mapping[str, str]) -> None:
    """Once joined, all modules share one scope."""
    declared = re.compile(r"^(?:export )?(?:async )?(?:function|const|let|class) (?:\{|\[|(\w+))", re.MULTILINE)
    names = [name for text in modules.values() for name in declared.findall(text)]
    assert "" not in names  # every declaration makes one name, which `face.join` sees
    assert sorted(names) == sorted(set(names))


def statements(text: str) -> list[str]:
    """What stands at the top level of a module, piece by piece: the linter has it indent all else."""
    return re.findall(r"^[^\s)}\]].*(?:\n(?:[ )}\]].*)?$)*", text, re.MULTILINE)


def test_functions_fit_a_screen(modules: Mapping[str, str]) -> None:
    pieces = [piece.strip().splitlines() for text in modules.values() for piece in statements(text)]
    assert sum(map(len, pieces)) > 1500
    assert {piece[0]: len(piece) for piece in pieces if len(piece) > LONGEST} == {}
    nested = "function long() {\n  const inner = () => {\n\n    step();\n  };\n}"
    assert statements(f"const a = [\n  1,\n];\n{nested}\nlong();") == ["const a = [\n  1,\n];", nested, "long();"]


def test_files_fit_an_idea(modules: Mapping[str, str]) -> None:
    assert {name: text.count("\n") for name, text in modules.items() if text.count("\n") > 250} == {}


def test_the_state_changes_in_the_store_alone(modules: Mapping[str, str]) -> None:
    """What lasts longer than a call is never a variable of a module."""
    assert [name for name, text in modules.items() if re.search(r"^(?:export )?(?:let|var) ", text, re.MULTILINE)] == []
    written = re.compile(r"\bstate(?:\.\w+)+ (?:[-+*?|&]{0,2}=) |\bstate(?:\.\w+)+(?:\+\+|--)")
    assert [name for name, text in modules.items() if written.search(text)] == ["main"]  # of an exported page: its port


def test_the_face_is_one_module(node: str, tmp_path: Path) -> None:
    """As it is imported from a Blob: without an address that something could be relative to."""
    text = face.module()
    assert not re.search(r"^import\b", text, re.MULTILINE)
    (tmp_path / "lab.mjs").write_text(text, encoding="utf-8")
    subprocess.run([node, "--check", str(tmp_path / "lab.mjs")], check=True)
    address = f"data:text/javascript;base64,{base64.b64encode(text.encode()).decode()}"
    script = f"import('{address}').then((all) => console.log(Object.keys(all), Object.keys(all.default)))"
    done = subprocess.run([node, "--input-type=module"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[", "'default',", "'mount'", "]", "[", "'render'", "]"]


A = 'export const one = 1;\nexport function two() {\n  return one;\n}\nconst own = "export me";\n'


def test_joining_strips_what_joins() -> None:
    b = 'import { one, two } from "./a.js";\n\nexport default {\n  sum: one + two(),\n};\n'
    assert face.join({"a": A, "b": b}) == A.replace("export c", "c").replace("export f", "f") + "\n" + b[36:]
    broken = b.replace("{ one, two }", "{\n  one,\n  two,\n}")
    assert face.join({"a": A, "b": broken}) == face.join({"a": A, "b": b})


@pytest.mark.parametrize(
    ("b", "said"),
    [
        ('import { three } from "./a.js";\n', "b.js imports three from a.js, which exports one, two"),
        ('import { own } from "./a.js";\n', "b.js imports own from a.js"),
        ('import { one as first } from "./a.js";\n', "b.js imports one as first from a.js"),
        ('import { x } from "./c.js";\n', "b.js imports c.js, which is not before it: it may import a"),
        ('import { x } from "./b.js";\n', "b.js imports b.js, which is not before it"),
        ("const one = 2;\n", "a.js and b.js both declare 'one'"),
        ("async function two() {}\n", "a.js and b.js both declare 'two'"),
        ('import * as a from "./a.js";\n', "cannot be joined"),
        ('import "./a.js";\n', "cannot be joined"),
        ('import a from "elsewhere";\n', "cannot be joined"),
        ("export default 1;\n", "b.js says 'export default 1;', which cannot be joined"),
        ("export { x };\n", "cannot be joined"),
    ],
)
def test_what_cannot_be_joined_is_said(b: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        face.join({"a": A, "b": b, "c": "export const x = 1;\n"})
    if not b.startswith("export"):  # which the last may
        with pytest.raises(ValueError, match=re.escape(said)):
            face.join({"a": A, "b": b})


# ---- the store ----

PORT = """
const values = { method: "rollout", opacity: 0.5, compare: {}, before: true, attention_scale: 1, two_stage: false };
const sent = [], frames = [], told = [];
const port = {
  get: (name) => values[name],
  set: (name, value) => { values[name] = value; },
  save_changes: () => sent.push("saved"),
  send: (message) => sent.push(message),
};
globalThis.requestAnimationFrame = (draw) => frames.push(draw);
globalThis.cancelAnimationFrame = (number) => { frames[number - 1] = null; };
const store = lab.createStore(port, false);
store.subscribe((names) => told.push(names));
"""


def test_the_store_owns_the_state(js: Any) -> None:
    refused = "(() => { try { store.state.hover = 1; } catch (error) { return error.name; } })()"
    assert js(refused, PORT) == "TypeError"
    before = "const first = store.state; store.change({ hover: [1, 2], step: 3 }); store.change();"
    found = js("[first.hover, store.state.hover, store.state.step, told, first === store.state]", PORT + before)
    assert found == [None, [1, 2], 3, [["hover", "step"], []], False]


def test_pictures_are_drawn_once_a_frame(js: Any) -> None:
    before = """
    const drawn = [], end = lab.onFrames(store, (all) => drawn.push(all)), next = () => frames.pop()?.();
    store.change({ hover: [1, 2] }); store.change({ hover: null }); next();
    store.change({ hover: [1, 2] }); store.change({ step: 1 }); next(); next();
    store.change(); next();
    store.change({ step: 2 }); end(); next(); store.change({ step: 3 }); next();
    """
    assert js("drawn", PORT + before) == [False, True, True]


def test_a_setting_is_told_once_it_is_let_go(js: Any) -> None:
    before = """
    store.change({ drag: { opacity: 0.9 } });
    const dragged = [lab.now(store, "opacity"), port.get("opacity"), sent.length];
    lab.commit(store, { opacity: 0.7 });
    const states = [store.state.status.state, store.state.drag];
    store.change({ status: { state: "ready" } });
    lab.commit(store, { method: "rollout" });
    states.push(store.state.status.state);
    lab.commit(store, { method: "cls" });
    states.push(store.state.status.state);
    """
    assert js("[dragged, lab.now(store, 'opacity')]", PORT + before) == [[0.9, 0.5, 0], 0.7]
    assert js("[states, sent]", PORT + before) == [["computing", {}, "ready", "computing"], ["saved"] * 3]


def test_the_second_picture(js: Any) -> None:
    assert js("lab.second(store)", PORT) is None
    assert js("lab.second(store)", PORT + "values.attention_scale = 0.5;") == {"attention_scale": 1}
    assert js("lab.second(store)", PORT + "values.compare = { layer: 3 };") == {"layer": 3}
    assert js("lab.isTwo(store)", PORT + "values.compare = { layer: 3 };") is False  # before it has come


def test_a_layer_is_fetched_once(js: Any) -> None:
    before = """
    const shown = { run: 7, model: { layers: 12 } }, message = { run: 7, layer: 11 };
    const asks = () => [lab.operands(store, shown, 11, false), sent.length];
    const seen = [asks(), asks()];
    lab.keepLayer(store, { ...message, refused: "of a test" }, []);
    seen.push(asks().map((one) => one.refused ?? one));
    """
    found = js("[seen, sent]", PORT + before)
    assert found == [
        [[None, 1], [None, 1], ["of a test", 1]],
        [{"kind": "layer", "run": 7, "layer": 11, "sums": False}],
    ]


# ---- the browser's arithmetic ----


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
@pytest.mark.parametrize("ends", [(0, 1), (-1, 1)], ids=str)
def test_js_colours(js: Any, threshold: float, ends: tuple[float, float]) -> None:
    values = np.linspace(-1.2, 1.2, 57, dtype=np.float32)
    table = colours.colour_table("magma")
    expression = f"lab.coloured(values, {list(ends)}, table, {threshold})"
    pixels = np.reshape(js(expression, values=values, table=table), (-1, 4))
    share = colours.fraction(values, ends)
    assert np.array_equal(pixels[:, :3], colours.colours(share[None], table)[0])
    assert np.array_equal(pixels[:, 3] == 255, ~colours.hidden(share, ends, threshold))
    flat = js("lab.coloured(values, [1, 1], table)", values=np.ones(2), table=table)
    assert flat[:3] == table[0].tolist()


def test_js_ends(js: Any) -> None:
    a, b = np.array([0.25, -0.5]), np.array([0.125, 2])
    assert js("lab.endsOf([a, b], false)", a=a, b=b) == [-0.5, 2]
    assert js("lab.endsOf([a], true)", a=a) == [-0.5, 0.5]
    assert js("lab.endsOf([a], true)", a=np.zeros(2)) == [-1, 1]
    assert js("[[-0.5, 0.5], [0, 1], [0, 0]].map(lab.centred)") == [True, False, False]


def test_js_smoothing(js: Any) -> None:
    values = np.random.default_rng(1).random((3, 5)).astype(np.float32)
    rows, cols = (np.arange(n * 4) / 4 + 0.125 for n in values.shape)
    wanted = overlay.sample(values, rows, cols, smooth=True)
    assert np.allclose(np.reshape(js("lab.upsample(values, 3, 5, 4)", values=values), (12, 20)), wanted, atol=1e-6)


@pytest.mark.parametrize("span", [(0.0, 1.0), (-1.0, 1.0)])
@pytest.mark.parametrize("blend", ["even", "value", "contour", "spotlight"])
def test_js_blends_are_those_of_figures(js: Any, blend: str, span: tuple[float, float]) -> None:
    """The same pixels lie over the photograph, as opaque."""
    values = np.linspace(*span, 40 * 30, dtype=np.float32).reshape(30, 40)
    table, opacity = colours.colour_table("viridis" if span[0] == 0 else "coolwarm"), 0.5
    share = (values - span[0]) / (span[1] - span[0])
    wanted = blends.layer(colours.colours(share, table), blends.strength(share, span), opacity, blend)
    before = "const pixels = lab.coloured(values, span, table), strong = lab.strengths(values, span);"
    given = {"values": values, "span": list(span), "table": table.ravel().tolist()}
    found = js(f"Array.from(lab.blendPixels(pixels, strong, 40, '{blend}'))", before, **given)
    [clear, composed] = js(f"lab.layingOf('{blend}', {opacity})")
    over = np.float32(found).reshape(30, 40, 4)
    assert composed == "source-over"
    assert np.abs(over[..., 3] * clear - wanted[..., 3]).max() <= 2
    seen = wanted[..., 3] > 4
    assert seen.any()
    assert np.abs(over[..., :3][seen] - wanted[..., :3][seen]).max() <= 2


def test_js_multiplied_is_composed_by_the_canvas(js: Any) -> None:
    assert js("lab.layingOf('multiply', 0.5)") == [0.5, "multiply"]
    assert js("Object.keys(lab.BLENDS).sort()") == sorted(blends.BLENDS)


def test_js_sight_keeps_what_is_zoomed_at(js: Any) -> None:
    """Whole without zoom; the place stays; never beyond the photograph; a wide one uses the height that is there."""
    source, room, at = [400, 1600], [800, 600], [1200, 100]
    whole = js("lab.sightOf(room, source)", room=room, source=source)
    assert (whole["wide"], whole["high"], whole["scale"], whole["x"], whole["y"]) == (800, 200, 0.5, 0, 0)
    given = {"room": room, "source": source, "at": at}
    centre = "lab.centreKeeping(lab.sightOf(room, source), source, at, 4)"
    near = js(f"lab.sightOf(room, source, 4, {centre})", **given)
    assert (near["wide"], near["high"], near["scale"]) == (800, 600, 2)
    before, after = (((at[0] - one["x"]) * one["scale"], (at[1] - one["y"]) * one["scale"]) for one in (whole, near))
    assert after == pytest.approx(before)
    corner = js("lab.sightOf(room, source, 4, [0, 9999])", **given)
    assert (corner["x"], corner["y"]) == (0, 400 - 600 / 2)
    box = {"left": 10, "top": 20, "width": 800, "height": 600}
    assert js("lab.sourceAt(sight, box, 10, 20)", sight=near, box=box) == pytest.approx([near["x"], near["y"]])


@pytest.mark.parametrize(
    "frame",
    [Frame.stretch((683, 1024), (224, 224)), Frame.crop((400, 600), (256, 384), (224, 224))],
    ids=["stretch", "crop"],
)
def test_js_places(js: Any, frame: Frame) -> None:
    grid = Grid.of((224, 224), (16, 32), 1)
    given = {
        "frame": {"model": frame.model, "scale": frame.scale, "offset": frame.offset},
        "grid": {"rows": grid.rows, "cols": grid.cols, "patch": grid.patch},
    }
    x, y, width, height = js("lab.seenBy(frame)", **given)
    assert np.allclose((x, y, x + width, y + height), frame.box_to_source((0, 0, *frame.model[::-1])))
    assert np.allclose(js("lab.boxOf(frame, grid, 3, 2)", **given), frame.box_to_source(grid.box(3, 2)))
    for point in [(10, 10), (300.5, 222.25), (599, 399), (5, 200)]:
        cell = grid.cell_at(*frame.to_model(*point))
        assert js("lab.cellAt(frame, grid, ...point)", point=point, **given) == (cell and list(cell))


def test_js_labels_are_as_far_apart_as_in_figures(js: Any) -> None:
    rng = np.random.default_rng(0)
    corners = [rng.integers((0, 0), (80, 190), (n, 2)) for n in (0, 1, 2, 5, 9) for _ in range(20)]
    asked = [[[int(x), int(y), int(x) + 30, int(y) + 10] for x, y in some] for some in corners]
    asked.append([[0, 0, 30, 10]] * 25)  # more than there is room for
    found = js("asked.map((labels) => lab.labelsApart(labels, 200))", asked=asked)
    assert found == [[list(one) for one in boxes.apart(labels, 200)] for labels in asked]


def test_js_cost_is_that_of_the_sizes_which_the_model_was_made_for(js: Any) -> None:
    model = {"size": [224, 224], "patch": [16, 16], "prefix": 1, "suffix": 0, "layers": 12}
    frame = {"model": [224, 224], "scale": [0.5, 0.5], "offset": [0, 0]}
    drags = [({}, 1), ({"patch_size": 8}, (785 / 197) ** 2), ({"image_size": 112}, (50 / 197) ** 2)]
    before = """const port = { get: () => null };
    const factors = drags.map(([drag]) => {
        const store = lab.createStore(port, false);
        store.change({ drag: { patch_size: null, image_size: null, keep: 1, merge: 0, fovea: null, ...drag } });
        return lab.costFactor(store, { model, frame });
    });"""
    assert js("factors", before, model=model, frame=frame, drags=drags) == pytest.approx(
        [factor for _, factor in drags]
    )


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


# ---- words of an answer ----

ASKED = """
const values = { method: "attention", layer: -1, head: "mean", word: null, prompt: "what ?", target: null };
values._content = "c";
const port = { get: (name) => values[name], set() {}, save_changes() {}, send() {} };
const store = lab.createStore(port, false);
const kinds = { attention: ["layer", "head"], rollout: ["layer", "head"], relevance: ["target"], cls: ["layer"] };
const methods = Object.fromEntries(Object.entries(kinds).map(([name, asks]) => [name, { asks, label: name }]));
const model = { name: "tiny", reads: true, layers: 2, heads: 2, methods: ["attention", "rollout", "relevance"] };
const shown = { run: "answer 1", model };
const place = { grid: [1, 2, 8, 8, 0, 0], frame: [[8, 16], [8, 16], [1, 1], [0, 0]] };
const answer = { run: "answer 1", content: "c", words: ["a", "church", "."], tokens: { all: 9, image: 4, ends: 0 } };
const views = [lab.placeOf(place), lab.placeOf(place)];
store.change({ about: { methods }, takes: "question", answer: { ...answer, views } });
store.change({ panes: [{ index: 0, shown, values: null }, { index: 1, shown: null }] });
const whole = new Uint16Array([0, 65535, 100, 200, 0, 1, 7, 7, 7, 7].flatMap((v) => [v, v + 1, v + 2]));
const steps = new Float32Array(15).fill(0.5);
const shares = new Float32Array(18).map((_, i) => [0.5, 0.3, 0.2, 0.7, 0.2, 0.1][i % 6]);
const looks = { run: "answer 1", method: "attention", layer: 1, head: null, words: [0, 1, 2], bytes: 2, ...place };
Object.assign(looks, { tower: "", slots: [0, 1, "mean", "max", "min"] });
lab.keepLooks(store, looks, [whole.buffer, steps.buffer, shares.buffer]);
"""


def test_js_a_words_map_is_read_without_a_message(js: Any) -> None:
    found = js("[whole.slice(14, 16), lab.lookOf(store, shown, 1).values].map((all) => [...all])", ASKED)
    assert found[1] == [value / 2 for value in found[0]]  # the second of three words, the third of five slots
    assert js("lab.lookOf(store, shown, 1).shares", ASKED) == pytest.approx([0.6, 0.25, 0.15], abs=1e-6)
    one = ASKED + "values.head = -1;"
    assert js("lab.lookOf(store, shown, 2).shares", one) == pytest.approx([0.7, 0.2, 0.1], abs=1e-6)
    assert js("[...lab.lookOf(store, shown, 2).values].map((v) => 2 * v)", one) == js("[...whole.slice(22, 24)]", ASKED)
    told = (
        "Of the attention of “church”{}, 70\u00a0% lies on the image, 20\u00a0% on words, 10\u00a0% on the first token"
    )
    words = "lab.sharesWords(store, 'church', [0.7, 0.2, 0.1])"
    assert js(words, ASKED) == told.format("")
    assert js(words, ASKED + "values.head = 'max';") == told.format(", in the mean of heads")
    assert js("lab.lookOf(store, shown, 1)", ASKED + "values.layer = 0;") is None
    assert js("lab.lookOf(store, shown, 1)", ASKED + "values.method = 'relevance';") is None


def test_js_the_word_that_is_shown(js: Any) -> None:
    assert js("lab.chosenWord(answer, null)", ASKED) == 1  # the longest
    assert [js(f"lab.chosenWord(answer, {word})", ASKED) for word in (0, 2, 3)] == [0, 2, 1]
    assert js("lab.wordShown(store, answer)", ASKED + "store.change({ pointed: 2 });") == 2
    reading = "lab.wordReading(store, store.state.panes[0])"
    assert js(f"{reading}.title", ASKED) == "attention of “church” · layer 1 · heads: mean"
    pointed = ASKED + "store.change({ pointed: 0 }); values.method = 'rollout'; values.head = 'max';"
    assert js(f"{reading}.title", pointed) == "rollout of “a” · layers 0–1 · heads: max"
    assert js(f"{reading}.words", pointed) == "the map of “a” is on its way"
    assert js(f"{reading}.words", ASKED).startswith("Where the model looks as it says “church”\u00a0· most, ")
    hovered = ASKED + "store.change({ hover: [12, 4] });"
    assert js(f"{reading}.words", hovered).endswith(" of it at row 0, column 1")
    assert js(f"{reading}.views.length", ASKED) == 2
    assert js("lab.answerOf(store)", ASKED + "values._content = 'another';") is None
    assert js("lab.tokensWords(store.state.answer)", ASKED) == "4 of the image: 2 views of 1 × 2; 5 of words"
    fewer = "lab.tokensWords({ ...store.state.answer, tokens: { all: 8, image: 3, ends: 0 } })"
    assert js(fewer, ASKED) == "3 of the image: 2 views of 1 × 2 without their margins; 5 of words"
    assert js("lab.wordLabel('church', 1, 3, [0.6])", ASKED) == "church, word 2 of 3, 60\u00a0% of it on the image"


def test_js_a_map_of_one_value_has_no_highest_patch(js: Any) -> None:
    assert [js(f"lab.isFlat([{values}])", "") for values in ("0, 0", "0.5, 0.5", "0, 1", "3")] == [1, 1, 0, 0]
    equal = ASKED + "lab.keepLooks(store, looks, [whole.fill(9).buffer, steps.buffer, shares.buffer]);"
    assert js("lab.wordReading(store, store.state.panes[0]).words", equal).endswith("all values equal, 450\u00a0%")
    reading = """
    const flat = { values: [0.25, 0.25], cell: [0, 0] };
    store.change({ panes: [{ index: 0, shown: { ...shown, grid: { rows: 1, cols: 2 } } }] });
    """
    assert js("lab.captionOf(store, flat)", ASKED + reading).startswith("all values equal, 0.25")
    assert js("lab.captionOf(store, { ...flat, values: [1, 2] })", ASKED + reading).startswith("highest 2.0 at patch")


def test_js_what_is_seen_is_said_in_a_sentence(js: Any) -> None:
    """Who asks, what of, and through which layers; a pin counts where the method lets it ask."""
    before = """
    const values = { method: "cls", layer: -1, head: "mean", query: [12, 4], incoming: false, compare: {} };
    const store = lab.createStore({ get: (name) => values[name] ?? null }, false);
    const asks = { cls: ["layer", "head"], rollout: ["layer", "query"], relevance: ["query", "target"] };
    Object.assign(asks, { grad_cam: ["target"], lens: ["target"] });
    const entries = Object.entries(asks).map(([name, of]) => [name, { asks: of, alone: name === "lens" }]);
    store.change({ about: { methods: Object.fromEntries(entries) } });
    const told = (settings, reading = {}, target = null) => {
        Object.assign(values, settings);
        const model = { layers: 12 };
        const shown = { settings: { ...values }, model, query: reading.who ?? "CLS", target };
        return lab.seenWords(store, { index: 0, shown }, reading);
    };
    """
    cases = {
        "{}": "What the model's summary looks at in layer\u00a011",
        "{ layer: 5, head: 3 }": "What the model's summary looks at in layer\u00a05, by head\u00a03",
        "{ layer: 'mean' }": "What the model's summary looks at, layers averaged",
        "{}, { who: 'mean of all queries' }": "What all tokens on average look at in layer\u00a011",
        "{}, { cell: [1, 2], row: [0] }": "What the marked patch looks at in layer\u00a011",
        "{}, { cell: [1, 2], row: null }": "What looks at the marked patch in layer\u00a011",
        "{ method: 'rollout' }": "What reaches the model's summary through all layers",
        "{ method: 'rollout', layer: 4 }": "What reaches the model's summary through layers 0 to 4",
        "{ method: 'relevance' }, {}, 'church, church building'": "What speaks for “church”",
        "{ method: 'grad_cam' }, { signed: true }, 'church'": "Red speaks for “church”, blue against it",
        "{ method: 'lens' }, { signed: true }, 'church'": "What each patch alone says of “church”",
    }
    assert {case: js(f"told({case})", before) for case in cases} == cases
    asking = "Object.keys(asks).map((name) => lab.askingPoint(store, { method: name }) !== null)"
    assert js(asking, before) == [True, True, True, False, False]
    assert all(js(asking, before + "values.incoming = true;"))


def test_js_maps_of_another_answer_are_let_go(js: Any) -> None:
    newer = (
        ASKED
        + """
    lab.keepLooks(store, { ...looks, run: "answer 2" }, [whole, steps, shares]);
    """
    )
    assert js("[...store.memory.looks.keys()].every((key) => key.startsWith('answer 2:'))", newer)


def test_js_keys_walk_the_words(js: Any) -> None:
    keys = {"ArrowLeft": 0, "ArrowRight": 2, "ArrowUp": 0, "ArrowDown": 2, "Home": 0, "End": 2, "Escape": None}
    for key, to in keys.items():
        assert js(f"lab.wordAfter(answer, 1, '{key}')", ASKED) == to
    assert js("[lab.wordAfter(answer, 2, 'ArrowRight'), lab.wordAfter(answer, 0, 'ArrowLeft')]", ASKED) == [2, 0]
    assert js("lab.wordAfter(answer, 1, 'x') === undefined", ASKED)


def test_js_what_makes_a_prompt(js: Any) -> None:
    assert js("lab.promptChanges(store, 'where ?')", ASKED) == {"prompt": "where ?", "word": None}
    text = ASKED + "store.change({ takes: 'text' });"
    found = {"prompt": "a door", "target": "a door", "method": "relevance"}
    assert js("lab.promptChanges(store, 'a door')", text) == found  # attention asks for no text
    kept = text + "values.method = 'relevance';"
    assert js("lab.promptChanges(store, 'a door')", kept) == found
    assert js("lab.whyNot(store)", ASKED) == ""
    none = ASKED + "store.change({ takes: null });"
    assert js("lab.whyNot(store)", none) == "tiny answers no questions."
    assert js("lab.whyNot(store)", none + "values.prompt = null;") == ""
    assert js("[lab.wordMethod(store), lab.methodWords(store, 'attention')]", ASKED) == [
        "attention",
        "attention: one layer",
    ]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (0, "0"),
        (1, "100"),
        (0.0004, "<\u00a00.1"),
        (0.99995, ">\u00a099.9"),
        (0.5, "50"),
        (0.042, "4.2"),
        (0.951, "95.1"),
    ],
)
def test_js_shares_are_never_rounded_away(js: Any, part: float, words: str) -> None:
    assert js(f"lab.share({part})") == f"{words}\u00a0%"
