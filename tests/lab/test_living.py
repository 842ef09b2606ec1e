"""The Lab as a newcomer meets it, in Chromium without a notebook: what is clicked, and what is then seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from living import Living
from PIL import Image

import vislab
from vislab.evaluation.removal import patch_scores
from vislab.lab import stage

pytestmark = pytest.mark.browser
CHURCH = "church"


def test_what_is_pinned_is_what_was_seen(living: Callable[..., Living]) -> None:
    """A click keeps the map under the pointer, and by another method says so; undo takes it back."""
    lab = living()
    assert lab.text("figcaption").startswith("attention of CLS · layer 11")
    for method, note in (("cls", ""), ("rollout", "Pinned as you saw it: attention of layer 11.")):
        lab.control("method").select_option(method)
        lab.ready()
        lab.page.mouse.move(*lab.over(6, 7))
        lab.until("pane.rows.key")
        lab.page.wait_for_timeout(100)
        values = lab("[...store.memory.rows[0].rows]")
        lab.page.mouse.click(*lab.over(6, 7))
        lab.until("pane.shown.query === 'patch (6, 7)'")
        seen = np.float32(values).reshape(3, -1).mean(0)[1:]
        assert lab.values().ravel() == pytest.approx(seen, abs=float(2e-3 * seen.max()))
        lab.page.mouse.move(2, 2)
        lab.until("!store.state.hover && lab.ui.figures[0].title.textContent.startsWith('attention')")
        assert lab.text("figcaption").startswith("attention of patch (6, 7) · layer 11")
        assert lab("lab.ui.note.textContent").startswith(note)
        if method == "rollout":
            lab.button("rollout: all layers instead").click()
            lab.until("pane.shown.settings.method === 'rollout' && pane.shown.query === 'patch (6, 7)'")
            lab.button("undo").click()
            lab.until("pane.shown.settings.method === 'cls' && pane.shown.query === 'patch (6, 7)'")
        lab.button("undo").click()
        lab.until(f"pane.shown.settings.method === '{method}' && pane.shown.query === 'CLS'")
    lab.button("redo").click()
    lab.until("pane.shown.settings.method === 'cls' && pane.shown.query === 'patch (6, 7)'")
    lab.page.keyboard.press("Control+z")
    lab.until("pane.shown.settings.method === 'rollout' && pane.shown.query === 'CLS'")
    lab.page.keyboard.press("Control+Shift+z")
    lab.until("pane.shown.settings.method === 'cls' && pane.shown.query === 'patch (6, 7)'")


def test_no_control_switches_the_method_in_silence(living: Callable[..., Living]) -> None:
    lab = living(method="relevance")
    assert lab.control("layer").is_disabled()
    assert lab.control("head").is_disabled()
    lab.page.locator(".vislab-lab .fused button").click()
    lab.until("pane.shown.settings.method === 'cls'")
    lab.control("head").select_option("2")
    lab.until("pane.shown.settings.head === 2")
    lab.control("method").select_option("rollout")
    lab.until("pane.shown.settings.method === 'rollout'")
    lab.until("lab.ui.note.textContent.includes('no single head')")
    assert lab.control("layer").is_enabled()
    assert lab.control("head").locator("option[value='2']").is_disabled()
    lab.fold("Head atlas")
    lab.page.locator(".vislab-lab .atlas button[data-at='4:1']").click()
    lab.until("pane.shown.settings.layer === 4 && pane.shown.settings.head === 1")
    assert lab("lab.ui.note.textContent").startswith("Layer 4, head 1: attention of this head alone.")
    lab.button("back to rollout: all layers").click()
    lab.until("pane.shown.settings.method === 'rollout' && pane.shown.settings.head === 'mean'")


def test_a_double_click_resets_a_slider(living: Callable[..., Living]) -> None:
    lab = living(attention_scale=0.5, layer=3)
    for label, name, usual in (("scale", "attention_scale", 1), ("layer", "layer", -1)):
        lab.control(label).dblclick()
        lab.until(f"lab.port.get('{name}') === {usual} && pane.shown.settings.{name} === {usual}")
        lab.ready()
    assert lab.lab.attention_scale == 1


def test_pictures_of_ones_own_stay_and_large_ones_are_shrunk(living: Callable[..., Living], tmp_path: Path) -> None:
    lab = living()
    large = tmp_path / "holiday.bmp"
    Image.fromarray(vislab.load_image(vislab.samples()["coffee"])).resize((2400, 1600)).save(large)
    assert large.stat().st_size > 10e6
    chosen = lab.page.locator(".vislab-lab input[type=file]")
    chosen.set_input_files(large)
    lab.until("String(lab.port.get('_source')) === '1600,2400' && pane.shown")
    assert "holiday.bmp has 12 MB: shrunk to 2400 × 1600 px" in lab.text(".note")
    lab.ready()
    lab.button("undo").click()
    lab.until("String(lab.port.get('_source')) === '683,1024' && pane.shown")
    lab.button("redo").click()
    lab.until("String(lab.port.get('_source')) === '1600,2400' && pane.shown")
    lab.ready()
    lab.control("image").select_option("coffee")
    lab.ready()
    lab.control("image").select_option("holiday.bmp")
    lab.until("String(lab.port.get('_source')) === '1600,2400' && pane.shown")
    assert lab.lab.state["image"] == ""  # a name that means nothing elsewhere
    lab.button("undo").click()
    lab.until("String(lab.port.get('_source')) === '400,600' && pane.shown")


# In the page: how high an x of the caption is, px.
LETTER = """() => {
    const context = document.createElement('canvas').getContext('2d');
    const { fontSize, fontFamily } = getComputedStyle(document.querySelector('.vislab-lab .caption'));
    context.font = `${fontSize} ${fontFamily}`;
    return context.measureText('x').actualBoundingBoxAscent;
}"""


def seen(lab: Living, selector: str) -> bool:
    """Whether all of an element lies within the window."""
    box = lab.page.locator(f".vislab-lab {selector}").first.bounding_box()
    size = lab.page.viewport_size
    inside = box["x"] >= 0 and box["x"] + box["width"] <= size["width"] + 1
    return inside and box["y"] >= 0 and box["y"] + box["height"] <= size["height"] + 1


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1280, 800), (1920, 1080)])
def test_presented_it_has_the_window_and_is_read_across_a_room(
    living: Callable[..., Living], width: int, height: int
) -> None:
    """At 6 m, on a picture 2 m wide, an x has 16 minutes of arc: 28 mm; picture and sliders are seen whole."""
    lab = living(width=width, height=height)
    lab.page.evaluate("() => { document.querySelector('main').style.cssText = 'contain: strict; height: 300px'; }")
    lab.button("present").click()
    lab.page.mouse.move(width - 3, height - 3)
    lab.until("lab.ui.root.clientWidth === innerWidth && lab.ui.root.clientHeight === innerHeight")
    lab.page.wait_for_timeout(200)
    assert lab.page.evaluate(LETTER) * 2000 / width >= 28
    for selector in ("figure > canvas", ".caption", ".side", ".side input[type=range]", ".stage", "ol li:nth-child(3)"):
        assert seen(lab, selector), selector
    assert lab("lab.ui.root.scrollHeight <= lab.ui.root.clientHeight")
    for words in (".caption", "figcaption"):  # no more of them than there is room for
        assert lab(f"lab.ui.root.querySelector('{words}').scrollWidth <= lab.ui.left.clientWidth"), words
    picture = lab.page.locator("figure > canvas").first.bounding_box()
    assert picture["width"] * picture["height"] > 0.4 * width * height
    for hidden in (".top", ".more", ".chart"):
        assert lab.page.locator(f".vislab-lab {hidden}").is_hidden()
    lab.page.mouse.click(*lab.over(6, 7))
    lab.until("pane.shown.query === 'patch (6, 7)'")
    for words in (".caption", "figcaption"):
        assert lab(f"lab.ui.root.querySelector('{words}').scrollWidth <= lab.ui.left.clientWidth"), words
    lab.page.keyboard.press("Escape")
    lab.until("pane.shown.query === 'CLS'")
    lab.page.keyboard.press("Escape")
    lab.until("!store.state.presenting && lab.ui.present === document.activeElement")
    assert lab.page.locator(".vislab-lab .top").is_visible()


def test_presented_escape_does_what_is_seen(living: Callable[..., Living]) -> None:
    """It lets go of a pin that asks for the map, and leaves where none does, by every method; the second leaves."""
    lab = living(query=(500, 300), patch_size=56)
    for method in lab("[...lab.ui.method.options].map((one) => one.value)"):
        lab.lab.state = {"method": method, "query": (500, 300)}
        lab.ready()
        lab.until(f"pane.shown.settings.method === '{method}' && lab.port.get('query') !== 'cls'")
        lab.button("present").click()
        title = lab("lab.ui.figures[0].title.textContent")
        asks = {"cls", "rollout", "relevance", "grad_rollout"}
        assert ("patch (" in title) == (method in asks), title
        lab.page.keyboard.press("Escape")
        lab.page.wait_for_timeout(50)
        assert lab("store.state.presenting") == (method in asks), method
        assert lab("lab.port.get('query') === 'cls'") == (method in asks), method
        lab.page.keyboard.press("Escape")
        lab.until("!store.state.presenting")


def test_presented_what_is_seen_is_said_first_and_titles_are_whole(living: Callable[..., Living]) -> None:
    """And the sum of the tokens stands there whatever is done; a mark for each patch size that can be taken."""
    lab = living(width=1280, height=720, layer=5, head=1)
    assert lab("lab.ui.stops.children.length") == 8  # 4, 7, 8, 14, 16, 28, 32, 56 px
    for size in (8, 56):
        dragged(lab, "patch size", size)
        lab.until(f"pane.shown.settings.patch_size === {size}")
        lab.ready()
        mark = lab(f"lab.ui.stops.children[{2 if size == 8 else 7}].getBoundingClientRect().left + 1")
        box = lab.control("patch size").bounding_box()
        assert mark == pytest.approx(box["x"] + 8 + (box["width"] - 16) * (size - 4) / 60, abs=1)
    dragged(lab, "patch size", 16)
    lab.until("pane.shown.grid.rows === 14")
    lab.ready()
    lab.button("present").click()
    lab.page.mouse.move(1277, 717)
    sentence = "What the model's summary looks at in layer\u00a05, by head\u00a01\u00a0· at most "
    lab.until(f"lab.ui.caption.textContent.startsWith({sentence!r})")
    fits = "one.scrollWidth <= one.clientWidth && one.scrollHeight <= one.clientHeight + 1"
    whole = f"lab.ui.figures.map(({{ title }}) => title.parentNode).every((one) => {fits})"
    for state in ({}, {"method": "rollout", "head": "mean", "layer": 11}, {"attention_scale": 0.5}, {"keep": 0.5}):
        lab.lab.state = state
        lab.ready()
        lab.page.wait_for_timeout(150)
        assert lab(whole), state
        assert lab("lab.ui.caption.scrollWidth <= lab.ui.left.clientWidth")
        assert lab.text(".count").startswith("14 × 14 + 1 = ")


@pytest.mark.parametrize(("width", "height"), [(853, 533), (760, 600), (470, 533)])
def test_picture_and_sliders_are_seen_together(living: Callable[..., Living], width: int, height: int) -> None:
    lab = living(width=width, height=height)
    lab.page.locator(".vislab-lab .main").evaluate("e => e.scrollIntoView({ block: 'start' })")
    for selector in ("figure > canvas", ".count", "input[aria-label='patch size']", "input[aria-label='input size']"):
        assert seen(lab, selector), selector
    assert lab("lab.ui.root.scrollWidth <= lab.ui.root.clientWidth + 1")


def test_the_photograph_fills_its_column_and_two_stand_beside_each_other(living: Callable[..., Living]) -> None:
    lab = living(width=1500, height=1080, attention_scale=0.5)
    boxes = [lab.page.locator(f"figure:nth-of-type({n}) > canvas").bounding_box() for n in (1, 2)]
    assert boxes[0]["y"] == pytest.approx(boxes[1]["y"], abs=1)
    lab.control("trained model beside it").uncheck()
    lab.until("!second.shown")
    lab.page.wait_for_timeout(100)
    assert lab("lab.ui.canvas.clientWidth >= lab.ui.left.clientWidth - 2")


def test_zoomed_a_click_is_where_it_is_seen(living: Callable[..., Living]) -> None:
    """Zooming about a place keeps it there; dragging moves the picture and pins nothing."""
    lab = living()
    x, y = lab.over(4, 9)
    lab.page.mouse.move(x, y)
    lab.page.keyboard.down("Control")
    for _ in range(6):
        lab.page.mouse.wheel(0, -100)
    lab.page.keyboard.up("Control")
    lab.until("store.state.zoom > 3")
    before = lab("[lab.ui.figures[0].sight.x, lab.ui.figures[0].sight.y]")
    lab.page.mouse.move(x + 1, y + 1)
    lab.until("lab.ui.figures[0].title.textContent.startsWith('what patch 4, 9')")
    lab.page.mouse.down()
    lab.page.mouse.move(x - 80, y - 60, steps=4)
    lab.page.mouse.up()
    lab.page.wait_for_timeout(150)
    after = lab("[lab.ui.figures[0].sight.x, lab.ui.figures[0].sight.y]")
    assert after[0] > before[0]
    assert after[1] > before[1]
    assert lab.lab.query == "cls"
    lab.button("whole").click()
    lab.until("store.state.zoom === 1 && lab.ui.figures[0].sight.x === 0")


def test_patches_are_clicked_away(living: Callable[..., Living]) -> None:
    """A click takes a patch away, a drag all on its way; the class is what the model says without them."""
    lab = living()
    whole = lab.pixels()
    lab.button("by mouse").click()
    lab.until("lab.ui.removed.textContent.includes('church 9')")
    lab.page.mouse.click(*lab.over(7, 3))
    lab.page.mouse.move(*lab.over(8, 2))
    lab.page.mouse.down()
    lab.page.mouse.move(*lab.over(8, 11), steps=30)
    lab.page.mouse.up()
    lab.until("store.state.without?.gone.length === 11 && lab.ui.status.dataset.state === 'ready'")
    masks = np.ones((2, 14, 14), bool)
    masks[1, 8, 2:12] = masks[1, 7, 3] = False
    before, now = 100 * vislab.patch_score(vislab.samples()[CHURCH], target="church")(masks)
    assert lab.text(".removed") == f"11 of 196 patches gone: church {before:.0f} % → {now:.0f} %"
    assert lab.text("section:has(ol) h3") == "Prediction of the whole photograph"
    assert lab.lab.query == "cls"
    changed = np.abs(lab.pixels().astype(int) - whole).max(-1) > 40
    high, wide = changed.shape
    assert changed[high * 8 // 14 : high * 9 // 14, wide * 2 // 14 : wide * 12 // 14].mean() > 0.5
    assert changed[: high * 6 // 14].mean() == 0
    lab.page.mouse.click(*lab.over(7, 3))
    lab.until("lab.ui.removed.textContent.startsWith('10 of')")
    lab.ready()
    lab.control("scale").evaluate("e => { e.value = -15; e.dispatchEvent(new Event('change')); }")
    lab.until("pane.shown.settings.attention_scale === 0.5")
    lab.until("store.state.without?.run === pane.shown.run && store.state.without.gone.length === 10")
    lab.control("scale").dblclick()
    lab.until("pane.shown.settings.attention_scale === 1 && store.state.without?.run === pane.shown.run")
    lab.ready()
    lab.page.keyboard.press("Tab")
    lab.page.locator(".vislab-lab figure > canvas").first.focus()
    lab.page.keyboard.press("ArrowRight")
    lab.until("pane.shown.query === 'patch (7, 7)'")
    lab.page.keyboard.press("Delete")
    lab.until("lab.ui.removed.textContent.startsWith('11 of')")
    lab.page.keyboard.press("Escape")
    lab.until("pane.shown.query === 'CLS'")
    assert lab("lab.ui.allBack.parentNode === lab.ui.undo.parentNode")  # seen wherever the picture is
    lab.button("present").click()
    lab.page.wait_for_timeout(150)
    box = lab.button("patches back").bounding_box()
    assert box
    assert box["y"] + box["height"] <= 800
    assert lab("lab.ui.allBack.parentNode === lab.ui.take.parentNode")
    lab.page.keyboard.press("Escape")
    lab.button("patches back").click()
    lab.until("lab.ui.removed.textContent.startsWith('Click a patch') && lab.ui.allBack.disabled")
    assert lab.text("section:has(ol) h3") == "Prediction"
    lab.button("by mouse").click()
    lab.page.mouse.move(2, 2)
    lab.until("lab.ui.removed.textContent === ''")
    lab.page.wait_for_timeout(100)
    assert np.array_equal(lab.pixels(), whole)


def test_what_the_model_says_instead_is_told(living: Callable[..., Living]) -> None:
    """Beside the class that is watched, by mouse and in films; the prediction says what it is of."""
    lab = living()
    photo, model = vislab.samples()[CHURCH], vislab.load("embedded")
    names, every = model.labels, patch_scores(photo, model=model)

    def now(scores: np.ndarray) -> str:
        """How the sentence ends for scores of all classes, (classes,)."""
        best = names[int(scores.argmax())]
        return " %" if best == "church" else f", now “{best}” {100 * scores.max():.0f} %"

    masks = np.ones((2, 14, 14), bool)
    masks[1, 3:, 1:13] = False
    words = now(every(masks)[1])
    assert words.startswith(", now")
    lab.button("by mouse").click()
    for row in range(3, 14):
        lab.page.mouse.move(*lab.over(row, 1))
        lab.page.mouse.down()
        lab.page.mouse.move(*lab.over(row, 12), steps=12)
        lab.page.mouse.up()
    lab.until(f"lab.ui.removed.textContent.startsWith('132 of 196') && lab.ui.removed.textContent.endsWith({words!r})")
    dimmed = "getComputedStyle(lab.ui.classes).opacity === '0.5'"
    lab.until(f"{dimmed} && lab.ui.predicted.textContent === 'Prediction of the whole photograph'")
    lab.button("patches back").click()
    lab.until(f"!({dimmed}) && lab.ui.predicted.textContent === 'Prediction'")
    found: list[np.ndarray] = []

    def church(kept: np.ndarray) -> np.ndarray:
        found.append(every(kept))
        return found[0][:, names.index("church")]

    vislab.removal(vislab.explain(photo, method="cls"), score=church)
    ends = {"deletion": found[0][:29], "insertion": np.concatenate([found[0][28:29], found[0][29:], found[0][:1]])}
    for film, scores in ends.items():
        lab.button(f"▶ {film}").click()
        lab.until("store.state.step === 28 && !store.state.playing")
        for step in range(0, 29, 7):
            lab.control("step").evaluate(f"e => {{ e.value = {step}; e.dispatchEvent(new Event('input')); }}")
            lab.until(f"lab.ui.removed.textContent.startsWith('{7 * step} of 196')")
            words = now(scores[step])
            assert lab.text(".removed").endswith(words)
            assert ("now" in lab.text(".removed")) == words.startswith(", now")
            whole = step == (0 if film == "deletion" else 28)
            lab.until(f"{dimmed} === {str(not whole).lower()}")


def test_a_film_takes_them_away_in_the_order_of_the_map(living: Callable[..., Living]) -> None:
    """One press makes it, and shows it; the other direction is there then."""
    lab = living()
    whole = lab.pixels()
    lab.button("▶ deletion").click()
    lab.until("store.state.playing && store.state.step > 2")
    lab.button("❚❚ deletion").click()
    lab.control("step").evaluate("e => { e.value = 7; e.dispatchEvent(new Event('input')); }")
    heat = vislab.explain(vislab.samples()[CHURCH], method="cls")
    curves = vislab.removal(heat, score=vislab.patch_score(vislab.samples()[CHURCH], target="church"))
    lab.until("lab.ui.removed.textContent.startsWith('49 of 196 patches gone: church')")
    assert f"patches gone: church {100 * curves.deletion[7]:.0f} %" in lab.text(".removed")
    row, col = divmod(int(np.argmax(heat.values)), 14)
    gone = lab.pixels()
    spot = np.s_[gone.shape[0] * (2 * row + 1) // 28, gone.shape[1] * (2 * col + 1) // 28]
    assert np.abs(gone[spot].astype(int) - whole[spot]).max() > 40
    sent = len(lab.sent)
    lab.button("▶ insertion").click()
    lab.until("store.state.step === 28 && !store.state.playing")
    assert lab.text(".removed").startswith("196 of 196 patches put back: church 9")
    assert len(lab.sent) == sent
    lab.page.wait_for_timeout(100)
    assert np.array_equal(lab.pixels(), whole)
    lab.button("patches back").click()
    lab.until("!store.state.film && lab.ui.step.parentNode.hidden")
    lab.ready()
    assert not lab.lab._stage.filming


def dragged(lab: Living, label: str, value: float) -> None:
    """A slider is moved, and let go."""
    slider = lab.control(label)
    for event in ("input", "change"):
        slider.evaluate(f"e => {{ e.value = {value}; e.dispatchEvent(new Event('{event}')); }}")


CHANGES: dict[str, Callable[[Living], object]] = {
    "pin": lambda lab: lab.page.mouse.click(*lab.over(5, 5)),
    "CLS": lambda lab: lab.button("back to CLS").click(),
    "method": lambda lab: lab.control("method").select_option("relevance"),
    "target": lambda lab: lab.control("for").select_option(label="tench"),
    "image": lambda lab: lab.control("image").select_option("coffee"),
    "patch size": lambda lab: dragged(lab, "patch size", 32),
    "model": lambda lab: lab.control("model").select_option("embedded-plain"),
    "keep": lambda lab: dragged(lab, "keep", 50),
    "reader": lambda lab: lab.control("model").select_option("embedded-reader"),
}


def test_a_film_ends_with_the_map_that_it_was_made_of(
    living: Callable[..., Living], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line goes, patches are back, and no forward starts unasked, whether it ran or stood; the next is its own."""
    monkeypatch.setattr("vislab.lab.trial.STEPS", 4)
    lab, trial, made = living(), stage.trial, []
    monkeypatch.setattr(stage, "trial", lambda *given, **how: made.append(given) or trial(*given, **how))
    for number, (what, change) in enumerate(CHANGES.items()):
        lab.button("▶ deletion").click()
        lab.until("store.state.removal?.gone && store.state.film && store.state.step > 0")
        if number % 2:
            lab.until("!store.state.playing")
        made.clear()
        change(lab)
        lab.until("!store.state.film && !store.state.playing && lab.ui.removed.textContent === ''")
        lab.ready(mapped=what != "reader")
        lab.page.wait_for_timeout(100)
        assert made == [], what
        assert lab("lab.ui.removed.textContent + lab.ui.films.deletion.textContent") == "▶ deletion"
        assert lab(
            "!lab.ui.root.classList.contains('game') && lab.ui.allBack.disabled === (lab.port.get('keep') === 1)"
        )
    lab.control("model").select_option("embedded")
    lab.until("pane.shown && !pane.shown.model.reads && lab.ui.status.dataset.state === 'ready'")
    lab.button("▶ deletion").click()
    lab.until("lab.ui.removed.textContent.includes(' patches gone: ')")


def test_a_film_that_cannot_be_made_ends(living: Callable[..., Living]) -> None:
    """Where the map itself fails, the line that waits for it goes, and why is said."""
    lab = living(keep=0.1)
    lab.lab.query = (512, 20)  # a patch of sky, which is dropped
    lab.until("lab.ui.status.textContent.includes('was dropped before')")
    lab.button("▶ deletion").click()
    lab.page.wait_for_timeout(100)
    lab.until("!store.state.film && lab.ui.removed.textContent === ''")
    lab.until("!lab.ui.problem.hidden && lab.ui.problem.textContent.includes('was dropped before')")


def test_patches_that_were_clicked_away_are_not_told_of_a_model_that_reads(living: Callable[..., Living]) -> None:
    lab = living()
    lab.button("by mouse").click()
    lab.page.mouse.click(*lab.over(7, 3))
    lab.until("lab.ui.removed.textContent.startsWith('1 of 196 patches gone: church')")
    lab.control("model").select_option("embedded-reader")
    lab.until("store.state.takes === 'question' && lab.ui.removed.textContent === ''")
    lab.ready(mapped=False)
    assert lab("store.state.tool === 'point' && !lab.ui.root.classList.contains('game')")


# In the page: controls and numbers that are seen, and that nothing says a sentence of; and sentences that are two.
UNTOLD = """() => {
    const root = document.querySelector('.vislab-lab');
    for (const details of root.querySelectorAll('details')) details.open = true;
    const parts = 'input, select, button, summary, output, ol li, .count, .side p > span, figcaption span, .caption';
    const told = e => e.closest('[title]')?.title ?? '';
    const seen = [...root.querySelectorAll(parts)];
    const all = seen.filter(e => e.getClientRects().length && !e.closest('.atlas, .gallery'));
    const says = e => e.textContent !== '' || e.matches('input, select');
    return [all.filter(e => says(e) && !told(e)).map(e => e.outerHTML),
        all.map(told).filter(words => /[.!?] [A-Z]/.test(words)), all.length];
}"""


def test_presented_image_and_method_are_chosen_without_leaving(living: Callable[..., Living]) -> None:
    """The menus roll up once something is chosen; Escape closes them first, and leaves only then."""
    lab = living(width=1280, height=720)
    lab.button("present").click()
    top = lab.page.locator(".vislab-lab .top")
    assert top.is_hidden()
    lab.button("choose").click()
    assert seen(lab, ".top")
    lab.control("image").select_option("raccoon")
    lab.until("lab.ui.classes.textContent.startsWith('tench')")
    assert top.is_hidden()
    lab.button("choose").click()
    lab.page.keyboard.press("Escape")
    assert top.is_hidden()
    assert lab("store.state.presenting")
    lab.button("choose").click()
    lab.control("method").select_option("rollout")
    lab.until("lab.ui.figures[0].title.textContent.startsWith('rollout of CLS')")
    lab.page.keyboard.press("Escape")
    lab.until("!store.state.presenting")
    assert top.is_visible()


def test_presented_a_drag_is_seen_and_its_cost_and_run_are_said(living: Callable[..., Living]) -> None:
    """What is told of a slider goes when it is taken; what the last run said fades until the next has come."""
    lab = living(width=1280, height=720)
    lab.button("present").click()
    lab.control("patch size").hover()
    lab.until("lab.ui.told.textContent.startsWith('The side of the squares')")
    box = lab.control("patch size").bounding_box()
    lab.page.mouse.down()
    lab.page.mouse.move(box["x"] + box["width"] * 0.08, box["y"] + box["height"] / 2, steps=4)
    lab.until(
        "lab.ui.patch_size.value === '8' && lab.ui.caption.textContent.startsWith('attention costs × 16 · let go')"
    )
    assert lab.text(".count").startswith("28 × 28 + 1 = ")
    assert lab("lab.ui.told.textContent") == ""
    assert lab.page.locator(".vislab-lab .telling").is_hidden()
    assert lab("getComputedStyle(lab.ui.classes).opacity") == "0.5"
    lab.page.mouse.up()
    lab.until("lab.ui.caption.textContent.startsWith('◌ computing')")
    lab.until("lab.ui.caption.textContent.endsWith(' looks at in layer\u00a011\u00a0· attention costs × 16')")
    assert lab("getComputedStyle(lab.ui.classes).opacity") == "1"


def test_every_control_and_number_is_told_in_a_sentence(living: Callable[..., Living]) -> None:
    """As a tooltip; and where the picture has the window, as its caption."""
    lab = living(attention_scale=0.5, detector="embedded", method="grad_cam")
    lab.until("lab.ui.measures.querySelector('.by')?.textContent")
    untold, long, count = lab.page.evaluate(UNTOLD)
    assert untold == []
    assert long == []
    assert count > 60
    bar = lab.page.locator(".vislab-lab .colours").first
    assert "red speaks for the class, blue against it" in bar.get_attribute("title")
    lab.button("present").click()
    lab.control("scale").hover()
    lab.until("lab.ui.told.textContent.startsWith('Factor of the attention')")
    assert lab.page.locator(".vislab-lab .told").is_visible()
    lab.control("layer").focus()
    lab.until("lab.ui.told.textContent.startsWith('Which layer')")
    lab.page.mouse.move(*lab.over(5, 5))
    lab.until("lab.ui.told.textContent === ''")


def test_what_went_wrong_stands_beside_what_was_used(living: Callable[..., Living]) -> None:
    """In the words of the page; a model that cannot be had gives way to the one before it."""
    lab = living()
    marked = lab("[...lab.ui.model.options].map(option => option.textContent)")
    assert marked[:2] == ["embedded", "embedded-plain"]
    assert "facebook/dinov2-small ↓" in marked
    lab.control("head").select_option("1")
    lab.ready()
    lab.control("model").select_option("facebook/dinov2-small")
    lab.until("lab.ui.note.textContent.endsWith('It is embedded again.')")
    lab.until("lab.ui.model.value === 'embedded' && lab.ui.status.dataset.state === 'ready'")
    assert "cannot load 'facebook/dinov2-small'" in lab.text(".note")
    assert "vislab." not in lab.text(".note")
    assert lab("pane.shown.model.name") == "embedded"

    lab.lab.two_stage = True  # which is written as a page alone
    lab.lab.detector = "embedded"
    lab.until("lab.ui.two_stage.checked && lab.ui.status.dataset.state === 'ready'")
    lab.fold("Export")
    lab.button("PDF").click()
    lab.until("!lab.ui.problem.hidden")
    problem, button = (lab.page.locator(f".vislab-lab {at}").first.bounding_box() for at in (".problem", "pre"))
    assert abs(problem["y"] - button["y"]) < 200
    assert "each box by itself" in lab.text(".problem")
    assert "two_stage" not in lab.text(".problem")


LIT = "[...document.querySelectorAll('.vislab-lab .lit')].map((node) => node.dataset.part)"


def test_the_diagram_lights_where_the_control_in_hand_acts(living: Callable[..., Living]) -> None:
    """It stays lit until another is taken; none but the model's own does anything."""
    lab = living()
    assert lab(LIT) == []
    for control, parts in {"patch size": ["patches"], "scale": ["qk"], "layer": ["layer"], "head": ["head"]}.items():
        lab.control(control).hover()
        lab.until(f"String({LIT}) === '{','.join(parts)}'")
    lab.page.mouse.move(*lab.over(3, 3))
    lab.until(f"String({LIT}) === 'tokens'")
    lab.control("patch size").focus()
    lab.until(f"String({LIT}) === 'patches'")
    label = "lab.ui.diagram.firstChild.getAttribute('aria-label')"
    assert lab(label) == "The model, from pixels to class: patches"
    lab.button("present").hover()
    lab.page.wait_for_timeout(150)
    assert lab(LIT) == ["patches"]


def test_a_slider_that_is_dragged_keeps_its_light(living: Callable[..., Living]) -> None:
    lab = living()
    box = lab.control("patch size").bounding_box()
    lab.page.mouse.move(box["x"] + 40, box["y"] + box["height"] / 2)
    lab.page.mouse.down()
    lab.page.mouse.move(*lab.over(3, 3), steps=4)
    lab.page.wait_for_timeout(150)
    assert lab(LIT) == ["patches"]
    lab.page.mouse.up()


@pytest.mark.parametrize(("width", "wide"), [(1280, True), (420, False)])
def test_the_diagram_has_one_row_or_two(living: Callable[..., Living], width: int, wide: bool) -> None:
    """Its letters are not smaller than the Lab's smallest."""
    lab = living(width=width)
    lab.until("lab.ui.diagram.firstChild")
    box = lab.page.locator(".vislab-lab .diagram svg").bounding_box()
    assert (box["width"] > 8 * box["height"]) == wide
    units = lab("lab.ui.diagram.firstChild.viewBox.baseVal.width")
    assert 15 * box["width"] / units >= 13


@pytest.mark.parametrize(
    ("width", "height", "below"), [(1280, 960, True), (1600, 1200, True), (1280, 720, False), (1024, 600, False)]
)
def test_presented_the_diagram_stands_where_there_is_room(
    living: Callable[..., Living], width: int, height: int, below: bool
) -> None:
    """Below the sliders; else below the sentence that tells of what is pointed at, and goes with it."""
    lab = living(width=width, height=height)
    lab.button("present").click()
    lab.control("scale").hover()
    lab.until(f"store.state.presenting && String({LIT}) === 'qk'")
    lab.page.wait_for_timeout(150)
    assert lab("lab.ui.diagram.parentNode === lab.ui.side") == below
    assert lab("!lab.ui.diagram.hidden")
    assert seen(lab, ".diagram svg")
    if below:
        assert lab("lab.ui.root.scrollHeight <= lab.ui.root.clientHeight")
    lab.page.mouse.move(*lab.over(3, 3))
    lab.until(f"(lab.ui.diagram.getClientRects().length > 0) === {str(below).lower()}")
    lab.page.keyboard.press("Escape")
    lab.until("lab.ui.diagram.parentNode === lab.ui.left && !lab.ui.diagram.hidden")


def test_of_a_tool_a_film_and_a_map_that_were_left_nothing_stays(living: Callable[..., Living]) -> None:
    """A film of tokens does not come back with other tokens, nor does a bare photograph keep a map's colours."""
    lab = living(keep=0.5)
    hint = "lab.ui.caption.textContent.includes('point at a patch')"
    lab.until(hint)
    lab.button("by mouse").click()
    lab.until(f"!{hint}")
    lab.button("by mouse").click()
    lab.until(hint)
    lab.button("▶ through the layers").click()
    lab.until("store.state.passing === 11")
    for keep in (1, 0.7):
        lab.lab.keep = keep
        lab.until(f"pane.shown.settings.keep === {keep}")
        lab.ready()
    lab.until("store.state.passing === null && !lab.ui.root.classList.contains('passes')")
    lab.control("model").select_option("embedded-reader")
    lab.until("store.state.takes === 'question' && getComputedStyle(lab.ui.figures[0].bar).visibility === 'hidden'")
