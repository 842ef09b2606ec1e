"""Laws of the page's JavaScript: modules that join, words in every language, an address that tells the state, and the
forward as the page runs it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab.test_face import LONGEST, statements
from PIL import Image

import vislab
from vislab.figures import diagram
from vislab.lab import face
from vislab.page import class_page, script
from vislab.page.weights import form_of

OWN = sorted({*script.PAGE, *script.WORKER})
TEXTS = script.modules(tuple(OWN))
SHARED = script.modules((), script.SHARED)


@pytest.fixture(scope="module")
def model() -> vislab.Model:
    return vislab.load("embedded", device="cpu")


@pytest.fixture(scope="module")
def about(model: vislab.Model) -> dict[str, Any]:
    return class_page._about(model, form_of(model), class_page.brought(None), "int8")


@pytest.fixture(scope="module")
def js(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Evaluate an expression after statements that may import from "./NAME.js", modules of the page."""
    from playwright._impl._driver import compute_driver_executable

    engine = shutil.which("node") or shutil.which(str(compute_driver_executable()[0]))
    if engine is None:
        reason = "no JavaScript engine: apt install nodejs"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    folder = tmp_path_factory.mktemp("js")
    for wing in (face.STATIC, script.STATIC):
        shutil.copytree(wing, folder / wing.parent.name / "static")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")

    def evaluate(expression: str, before: str = "", **given: Any) -> Any:
        lines = [before, *(f"const {name} = {json.dumps(value)};" for name, value in given.items())]
        lines += [f"console.log(JSON.stringify({expression}));"]
        path = folder / "page" / "static" / "run.js"
        path.write_text("\n".join(lines), encoding="utf-8")
        done = subprocess.run([engine, str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return evaluate


# ---- modules ----


def test_every_module_has_its_place() -> None:
    assert sorted(path.stem for path in script.STATIC.glob("*.js")) == OWN


@pytest.mark.parametrize("names", [(*script.SHARED, *script.PAGE), script.WORKER], ids=["page", "worker"])
def test_imports_point_one_way_and_names_are_unique(names: tuple[str, ...]) -> None:
    before: set[str] = set()
    declared: list[str] = []
    for name in names:
        text = SHARED.get(name) or TEXTS[name]
        assert set(re.findall(r'/(\w+)\.js";', text)) <= before, name
        before.add(name)
        declared += re.findall(r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", text, re.MULTILINE)
    assert sorted(declared) == sorted(set(declared))


def test_functions_fit_a_screen_and_files_an_idea() -> None:
    pieces = [piece.strip().splitlines() for name, text in TEXTS.items() for piece in statements(text)]
    tables = re.compile(r"export const [A-Z]+ = \{")
    assert [piece[0] for piece in pieces if len(piece) > LONGEST and not tables.match(piece[0])] == []
    assert {name: text.count("\n") for name, text in TEXTS.items() if text.count("\n") > 250} == {}


@pytest.mark.parametrize("made", [script.page_script, script.worker_script])
def test_what_is_joined_can_stand_in_a_page(made: Callable[[], str]) -> None:
    text = made()
    assert not re.search(r"^(?:import|export)\b", text, re.MULTILINE)
    assert not re.search(r"</script|<!--", text, re.IGNORECASE)


# ---- words ----


def test_languages_have_the_same_words(js: Callable[..., Any]) -> None:
    english, chinese = js(
        "[ENGLISH, CHINESE]", 'import { ENGLISH } from "./english.js"; import { CHINESE } from "./chinese.js";'
    )
    labels = chinese.pop("labels")
    assert list(english) == list(chinese)
    for name in english:
        assert set(re.findall(r"\{\w+\}", english[name])) == set(re.findall(r"\{\w+\}", chinese[name])), name
    assert set(labels) == set(vislab.load("embedded").labels)


def test_words_that_are_asked_for_are_there(js: Callable[..., Any]) -> None:
    english = js("ENGLISH", 'import { ENGLISH } from "./english.js";')
    steps, questions = js(
        "[STEPS.map((one) => one.name), QUESTIONS]",
        'import { STEPS } from "./guided.js"; import { QUESTIONS } from "./quiz.js";',
    )
    code = "\n".join(text for name, text in TEXTS.items() if name not in ("english", "chinese"))
    wanted = set(re.findall(r'told\(\s*app,\s*"(\w+)"', code))
    wanted |= {
        f"{kind}_{name}_{part}"
        for part in ("say", "ask", "shown")
        for kind, names in (("step", steps), ("quiz", questions))
        for name in names
    }
    assert len(steps) == 9
    assert 8 <= len(questions) <= 10
    assert wanted <= set(english)
    in_quotes = set(re.findall(r'"(\w+)"', code))
    made = re.compile(r"(?:step|quiz|title|view|mode|word|part)_\w+")
    assert {name for name in english if name not in in_quotes | wanted and not made.fullmatch(name)} <= {"language"}


# ---- the diagram ----


def test_controls_views_and_steps_light_parts_that_the_diagram_has(js: Callable[..., Any]) -> None:
    acts, viewed, steps, views, english = js(
        "[ACTS, VIEWED, STEPS.map((_, step) => partsOfStep(step)), VIEWS, ENGLISH]",
        'import { ACTS, partsOfStep, VIEWED } from "./lit.js"; import { STEPS } from "./guided.js";'
        'import { VIEWS } from "./address.js"; import { ENGLISH } from "./english.js";',
    )
    named = [part for parts in (*acts.values(), *viewed.values(), *steps) for part in parts]
    assert set(named) == set(diagram.names())
    assert all(steps)
    assert sorted(viewed) == sorted(views)
    assert all(f"part_{part}" in english for part in diagram.names())
    controls = set(re.findall(r'data-control="(\w+)"', " ".join(acts)))
    assert controls < set(re.findall(r'"(\w+)"', TEXTS["controls"]))


# ---- the address ----

ADDRESS = """
import { fromAddress, initial, toAddress } from "./address.js";
const read = (text) => fromAddress(text, about, ["en", "zh"], 9);
"""


def test_the_address_tells_the_state(js: Callable[..., Any], about: dict[str, Any]) -> None:
    state = {"mode": "guided", "language": "zh", "photo": "moose", "view": "lens", "patch": 32, "layer": 3, "head": 1}
    state |= {
        "query": 7,
        "scale": [0.5] * 12,
        "off": [3, 35],
        "keep": 0.5,
        "removed": [1, 2],
        "step": 4,
        "present": True,
        "other": {"photo": "church", "patch": 16, "scale": [1] * 12, "off": [], "keep": 1, "removed": [5]},
    }
    first, again, empty = js(
        "[initial(about), read(toAddress(state, about)), toAddress(initial(about), about)]",
        f"const about = {json.dumps(about)};\n{ADDRESS}",
        state=state,
    )
    assert again == state
    assert first.keys() == state.keys()
    assert empty == ""
    by_layer = first | {"scale": [1.5, *[1] * 11]}
    assert (
        js("read(toAddress(state, about))", f"const about = {json.dumps(about)};\n{ADDRESS}", state=by_layer)
        == by_layer
    )


WRONG = ["#patch=17", "#patch=toString", "#photo=nobody", "#layer=12", "#layer=-1", "#head=3", "#view=<b>", "#keep=2"]
WRONG += [
    "#keep=0",
    "#off=36",
    "#off=a",
    "#removed=1.x",
    "#scale=9",
    "#scale=1_2",
    "#step=9",
    "#query=785",
    "#language=xx",
]
WRONG += ["#mode=", "#%", "#a=b&&=", "#patch=56&query=100", "#patch=56&removed=100"]
WRONG += ["#patch=56&removed=" + ".".join(map(str, range(16)))]


def test_what_an_address_says_wrongly_is_left_out(js: Callable[..., Any], about: dict[str, Any]) -> None:
    before = f"const about = {json.dumps(about)};\n{ADDRESS}"
    found, first = js("[texts.map(read), initial(about)]", before, texts=WRONG)
    for text, state in zip(WRONG, found, strict=True):
        assert state == first | ({"patch": 56} if "patch=56" in text else {}), text


# ---- numbers ----


def test_measures_of_a_run(js: Callable[..., Any]) -> None:
    before = 'import * as m from "./measures.js";'
    lens = [[3, 1], [1, 3], [3, 1], [5, 1], [9, 1]]
    assert js("m.decidedAt(lens)", before, lens=lens) == 2
    assert js("m.decidedAt(lens)", before, lens=[[3, 1]] * 4) == 0
    assert js("m.halfOf([1, 5, 2, 2])", before) == 1
    assert js("m.halfOf([1, 1, 1, 1])", before) == 2
    assert js("[m.spread([0.25, 0.25, 0.25, 0.25]), m.spread([1, 0, 0, 0])]", before) == [1, 0]
    assert js("m.quarterOf([0, 0, 0, 1,  0, 0, 0, 1,  1, 0, 0, 0,  0, 0, 0, 0], 4)", before) == 1
    assert js("m.ranked([1, 3, 2])", before) == [1, 2, 0]
    assert sorted(js("m.shuffled(50, 7)", before)) == list(range(50)) != js("m.shuffled(50, 7)", before)
    assert js("[m.keptOf(4, new Set()), Array.from(m.keptOf(4, new Set([1])))]", before) == [None, [0, 2, 3]]
    assert js("Array.from(m.onGrid([5, 6], [0, 2], 3))", before) == [5, None, 6]  # NaN, in JSON
    assert js("[0.5, 0.0951, 0.0012, 0, 0.00001, 1].map(m.percent)", before) == [
        "50 %",
        "9.5 %",
        "0.12 %",
        "0 %",
        "<0.01 %",
        "100 %",
    ]


def test_the_size_of_a_picture_is_read_from_its_first_bytes(js: Callable[..., Any]) -> None:
    written = []
    for kind, how in (
        ("PNG", {}),
        ("JPEG", {"icc_profile": bytes(200_000)}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0" + bytes(8)}),
        ("GIF", {}),
        ("BMP", {}),
    ):
        held = io.BytesIO()
        Image.new("RGB", (321, 123), "red").save(held, kind, **how)
        written.append(base64.b64encode(held.getvalue()).decode())
    before = 'import { sizeIn } from "./headers.js"; '
    before += 'const read = (s) => sizeIn(new Uint8Array(Buffer.from(s, "base64")).buffer);'
    assert js("texts.map(read)", before, texts=written) == [[321, 123]] * 8
    none = [base64.b64encode(data).decode() for data in (b"", bytes(99), b"\xff\xd8\xff" + bytes(99))]
    assert js("texts.map(read)", before, texts=none) == [None] * 3


def test_a_patch_of_one_pane_is_that_in_the_same_place_of_another(js: Callable[..., Any]) -> None:
    before = 'import { cellThere } from "./beside.js";'
    assert js("[cellThere(-1, 4, 8), cellThere(5, 4, 4), cellThere(5, 4, 8), cellThere(63, 8, 4)]", before) == [
        -1,
        5,
        27,
        15,
    ]
    # to a finer grid and back is where it was
    there = "Array.from({ length: 49 }, (_, i) => cellThere(cellThere(i, 7, 28), 28, 7))"
    assert js(there, before) == list(range(49))


def test_the_newest_wish_wins(js: Callable[..., Any]) -> None:
    before = """
    import { newest } from "./client.js";
    const done = [];
    const enter = newest(async (wish) => { await new Promise((go) => setTimeout(go, 5)); done.push(wish); });
    await Promise.all([1, 2, 3, 4].map(enter));
    """
    assert js("done", before) == [1, 4]


# A page without a screen, whose worker counts what it is asked: a model of one layer and one head, patches of 2 × 2.
PAGE = """
import { change, createApp } from "./app.js";
import { newest } from "./client.js";
import { compute } from "./runs.js";
globalThis.requestAnimationFrame = () => {};
globalThis.document = { documentElement: { dataset: {} }, createElement: () => ({}) };
Object.assign(globalThis, { history: { replaceState() {} }, location: { pathname: "" } });
const asked = [], kept = [];
const at = ({ layer, every, rollout }) => {
    const floats = () => new Float32Array(4);
    return { layer, q: floats(), k: floats(), every: every ? floats() : null, rollout: rollout ? floats() : null };
};
const ask = async ({ kind, photo, run, wish, picture }) => {
    asked.push(kind);
    if (kind === "photo") return { kind, name: photo, picture: { close() {} } };
    if (kind === "look") return { kind: "looked", at: at(wish) };
    const tokens = 1 + (wish.kept?.length ?? 4);
    const cls = Float32Array.from({ length: 2 * tokens }, (_, i) => i / 9);
    const made = { tokens, heads: 1, layers: 2, dim: 1, cls, lens: [], logits: [1, 2], kept: wish.kept };
    const seen = picture && { name: photo, picture: { close() {} } };
    return { kind: "ran", run: { ...made, id: asked.length }, at: at(wish.look), seen };
};
const about = { form: { side: 4, patch: 2, layers: 2, heads: 1, sizes: { 2: {} } }, samples: [{ name: "one" }] };
const state = { photo: "one", view: "attention", patch: 2, layer: 1, head: "mean", query: -1, scale: [1, 1], off: [],
    keep: 1, removed: [], language: "en", other: null };
const app = createApp(about, state, { ask, keep: (runs) => kept.push(runs) }, null);
app.photos.set("one", { version: 1, picture: {} });
app.enter = newest(() => compute(app));
const after = async (fields) => {
    asked.length = 0;
    change(app, fields);
    await app.enter(true);
    return [...asked];
};
"""


def test_the_worker_is_asked_for_nothing_twice(js: Callable[..., Any]) -> None:
    """One forward for other settings, none for another view of the same; what is not shown is let go."""
    changes = [
        {"scale": [2, 2]},
        {"layer": 0},
        {"layer": 0},
        {"view": "lens"},
        {"view": "rollout"},
        {"layer": 1, "view": "attention"},
        {"removed": [0]},
        {"layer": 0},
        {"removed": []},
    ]
    found, last, shown = js(
        "[found, kept.at(-1), app.run.id]",
        f"{PAGE} const found = []; for (const one of {json.dumps(changes)}) found.push(await after(one));",
    )
    assert found == [["run"], ["look"], [], ["look"], ["look"], ["look"], ["run"], ["look"], ["run"]]
    assert last == [shown]


def test_what_another_patch_size_brings_back_is_counted(js: Callable[..., Any]) -> None:
    """By a drag over several sizes too; what the pupil did to the patches, or another photograph, is no surprise."""
    changes = [
        {"removed": [0, 1]},
        {"patch": 1},
        {"patch": 4},
        {"layer": 0},
        {"removed": [0]},
        {"patch": 1, "removed": []},
        {"removed": [0]},
        {"photo": "other", "patch": 2},
    ]
    back = f"{json.dumps(changes)}.map((one) => {{ change(app, one); return app.back; }})"
    assert js(back, f"{PAGE} app.enter = () => {{}};") == [0, 2, 2, 0, 0, 0, 0, 0]


def test_a_picture_of_the_camera_goes_with_the_question(js: Callable[..., Any]) -> None:
    before = """
    import { frame } from "./app.js";
    const seen = async () => { asked.length = 0; await frame(app, { close() {} }); return [...asked]; };
    const found = [await seen(), await seen()];
    app.state.removed = [0];
    found.push(await seen());
    """
    found, state, version = js("[found, app.state.photo, app.photos.get('own').version]", PAGE + before)
    assert found == [["run"], ["run"], ["run", "run"]]  # with patches taken away, what all of them say is asked first
    assert (state, version) == ("own", 3)


def test_the_forward_of_the_worker_is_that_of_torch(
    js: Callable[..., Any], model: vislab.Model, about: dict[str, Any], tmp_path: Path
) -> None:
    """Pixels, patches, positions, weights in float16 (which the embedded ones are), the kernel: as in the page."""
    form = form_of(model)
    (tmp_path / "weights").write_bytes(class_page.weights_file(model, form, "float16"))
    rgb = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    (tmp_path / "rgb").write_bytes(rgb.tobytes())
    (tmp_path / "kernel").write_bytes((script.STATIC / "vit.wasm").read_bytes())
    before = f"""
    import {{ readFileSync }} from "node:fs";
    import {{ forward, look, opened }} from "./engine.js";
    const [code, weights, rgb] = ["kernel", "weights", "rgb"].map(
        (name) => new Uint8Array(readFileSync({json.dumps(str(tmp_path))} + "/" + name)));
    const model = await opened(code, weights, {json.dumps(about["form"])});
    const each = (value) => new Float32Array(36).fill(value);
    const asked = {{ layer: 11, every: true, rollout: true }};
    const run = (patch) => {{
        const {{ run, held }} = forward(model, rgb, {{ patch, scale: each(0.5), on: each(1), more: true }});
        const at = look(model, held, asked);
        model.spare.push(held.states.buffer, at.q.buffer, at.k.buffer);
        return {{ ...run, ...at }};
    }};
    const runs = [56, 16, 14].map(run);
    const memory = model.kernel.memory.buffer.byteLength;
    for (let i = 0; i < 3; i++) run(14);
    const lists = (r) => [...[r.logits, r.lens[12], r.every, r.rollout].map((one) => Array.from(one)), r.tokens];
    """
    found, grown = js("[runs.map(lists), model.kernel.memory.buffer.byteLength - memory]", before)
    assert grown == 0
    for patch, (logits, lens, every, rollout, tokens) in zip((56, 16, 14), found, strict=True):
        run = model.run(rgb, patch_size=patch, attention_scale=0.5)
        assert tokens == run.grid.tokens
        assert np.abs(logits - run.logits.numpy()).max() <= 2e-5
        assert lens == logits == every[:10]
        assert np.abs(rollout - run.capture.rollout(0)[0].numpy()).max() <= 1e-5
