"""The Lab holds still under the pointer, and what is pointed at is told without hiding what is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from living import Living

import vislab

pytestmark = pytest.mark.browser

# In the page: from now on, every place that picture, sliders, menus, buttons and words have, px of the window.
WATCH = """() => {
    const root = document.querySelector('.vislab-lab');
    const nodes = [...root.querySelectorAll('figure:first-child > canvas, .top :is(select, button), '
        + '.side :is(input[type=range], select, button, ol), .chip')];
    const places = nodes.map(() => new Set());
    const step = () => {
        if (!window.places) return;
        nodes.forEach((node, i) => {
            if (!node.getClientRects().length) return;
            const { x, y, width, height } = node.getBoundingClientRect();
            places[i].add([x, y, width, height].map((v) => Math.round(v)).join(' '));
        });
        requestAnimationFrame(step);
    };
    window.places = () => nodes.map((node, i) => [node.ariaLabel || node.textContent || node.tagName, [...places[i]]]);
    step();
}"""
MOVED = """() => {
    const all = window.places();
    window.places = null;
    return all.filter(([, places]) => places.length > 1);
}"""


def drawn(lab: Living, label: str, value: float, *, let_go: bool = True) -> None:
    """A slider is moved, and let go."""
    for event in ("input", "change")[: 1 + let_go]:
        lab.control(label).evaluate(f"e => {{ e.value = {value}; e.dispatchEvent(new Event('{event}')); }}")


def moved(lab: Living, act: Callable[[], object]) -> list[Any]:
    """What has another place on the screen while something is computed, or after it, than before."""
    lab.page.evaluate(WATCH)
    lab.page.wait_for_timeout(50)
    act()
    lab.ready()
    lab.page.wait_for_timeout(150)
    return list(lab.page.evaluate(MOVED))


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (1440, 900), (1920, 1080)])
def test_nothing_moves_while_a_computation_begins_or_ends(
    living: Callable[..., Living], width: int, height: int
) -> None:
    lab = living(width=width, height=height, before=False, detector="embedded")
    for label, value in (("scale", -30), ("scale", 0), ("patch size", 8), ("patch size", 16), ("layer", 3)):
        assert moved(lab, lambda label=label, value=value: drawn(lab, label, value)) == [], label
    lab.lab._say("computing", "rollout through 12 layers")
    long = moved(lab, lambda: lab.lab._say("ready", "stopped: the answer before stays"))
    assert long == []


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (1920, 1080)])
def test_sliders_stay_where_they_are_when_a_second_picture_joins(
    living: Callable[..., Living], width: int, height: int
) -> None:
    lab = living(width=width, height=height)
    changed = moved(lab, lambda: drawn(lab, "scale", -30))
    lab.until("second.shown")
    assert [name.split(" ")[0] for name, _ in changed] == ["Photograph"]


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (1440, 900), (1920, 1080)])
def test_a_readers_words_stay_below_the_pointer(living: Callable[..., Living], width: int, height: int) -> None:
    """Another word, layer or method, and an answer on its way, move none of them."""
    lab = living(width=width, height=height, mapped=False, model="embedded-reader", prompt="where is the church ?")
    lab.ready()
    acts: dict[str, Callable[[], object]] = {
        "word": lambda: lab.page.locator(".chip").nth(1).click(),
        "layer": lambda: drawn(lab, "layer", 1),
        "the same again": lambda: lab.button("ask").click(),
    }
    for what, act in acts.items():
        assert moved(lab, act) == [], what
    lab.page.evaluate(WATCH)
    lab("lab.heard({ kind: 'saying', words: ['bottom', 'right'] })")
    lab.until("!lab.ui.saying.hidden")
    lab.page.wait_for_timeout(100)
    assert lab.page.evaluate(MOVED) == []


@pytest.mark.parametrize("width", [1280, 1000, 850, 720, 560, 430])
def test_the_note_on_a_size_that_does_not_fit_moves_nothing(living: Callable[..., Living], width: int) -> None:
    lab = living(width=width, height=800)
    assert moved(lab, lambda: drawn(lab, "patch size", 9, let_go=False)) == []
    lab.until("lab.ui.why.textContent === '9 px do not fill 224 px; 8 px do.'")
    drawn(lab, "patch size", 8)
    lab.until("lab.ui.why.textContent === ''")


@pytest.mark.parametrize("width", [1280, 850, 720, 560])
def test_a_title_moves_no_photograph(living: Callable[..., Living], width: int) -> None:
    """Whatever it says, of one picture and of two; one that is cut is whole as a tooltip."""
    lab = living(width=width, height=800)
    head = "lab.ui.figures.filter(({ box }) => !box.hidden).map(({ canvas, title }) => canvas.offsetTop)"
    for scale in (1, 0.5):
        lab.lab.attention_scale = scale
        lab.until(f"pane.shown.settings.attention_scale === {scale}")
        lab.ready()
        lab.page.wait_for_timeout(100)
        before = lab(head)
        lab.page.mouse.move(*lab.over(6, 7))
        lab.until("lab.ui.figures[0].title.textContent.includes('what patch')")
        drawn(lab, "scale", -30 if scale == 1 else -24, let_go=False)
        lab.until("lab.ui.figures[0].title.textContent.startsWith('preview')")
        lab.page.wait_for_timeout(100)
        assert lab(head) == before
        lines = "lab.ui.figures[0].title.parentNode"
        if lab(f"{lines}.scrollHeight > {lines}.clientHeight + 1"):
            assert lab("lab.ui.figures[0].title.title.includes(lab.ui.figures[0].title.textContent)")
        lab.page.mouse.move(2, 2)


def test_the_scale_catches_at_its_marks_in_hand_and_keys_reach_between(living: Callable[..., Living]) -> None:
    lab = living()
    assert lab("lab.ui.scaleStops.children.length") == 5
    slider = lab.control("scale")
    box = slider.bounding_box()
    for wanted, mark in zip((0.25, 0.5, 1, 2, 4), (20, 35, 50, 65, 80), strict=True):
        place = lab(f"lab.ui.scaleStops.children[{(20, 35, 50, 65, 80).index(mark)}].getBoundingClientRect().left + 1")
        assert place == pytest.approx(box["x"] + 8 + (box["width"] - 16) * mark / 80, abs=1)
        lab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        lab.page.mouse.down()
        lab.page.mouse.move(place - 4, box["y"] + box["height"] / 2, steps=4)
        lab.page.mouse.up()
        lab.until(f"lab.port.get('attention_scale') === {wanted}")
    lab.page.keyboard.press("ArrowLeft")
    lab.until("lab.port.get('attention_scale') === 3.82")
    lab.page.keyboard.press("ArrowRight")
    lab.until("lab.port.get('attention_scale') === 4")


def test_a_size_that_is_drawn_one_way_goes_one_way_and_keys_reach_each(living: Callable[..., Living]) -> None:
    lab = living()
    slider = lab.control("patch size")
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    lab.page.evaluate("""() => {
        window.seen = [];
        const slider = document.querySelector('input[aria-label="patch size"], .side input[type=range]');
        slider.addEventListener('input', () => window.seen.push(Number(slider.value)));
    }""")
    lab.page.mouse.move(box["x"] + 8 + (box["width"] - 16) * 0.5, middle)
    lab.page.mouse.down()
    for step in range(40):
        lab.page.mouse.move(box["x"] + 8 + (box["width"] - 16) * 0.5 * (1 - step / 39), middle)
    lab.page.mouse.up()
    seen = lab.page.evaluate("window.seen")
    assert seen == sorted(seen, reverse=True)
    assert {8, 7, 4} <= {*seen}
    for wanted in (7, 8, 14):
        lab.page.keyboard.press("ArrowRight")
        lab.until(f"lab.port.get('patch_size') === {wanted}")


def test_two_pictures_say_the_ends_of_their_colours_and_share_them_on_a_tick(living: Callable[..., Living]) -> None:
    lab = living(attention_scale=0.25)
    ends = "lab.ui.figures.map(({ numbers }) => numbers.textContent)"
    lab.until(f"{ends}[1].includes('a range of its own')")
    texts = lab(ends)
    assert texts[0] != texts[1]
    second = lab.lab._stage.panes[1]
    assert second is not None
    for heat, text in zip((lab.lab.heatmap, second.heat), texts, strict=True):
        assert heat is not None
        low, high = (float(one) for one in text.split("a range of its own"))
        assert [low, high] == pytest.approx([heat.values.min(), heat.values.max()], abs=6e-4)
    lab.control("one range for both").check()
    lab.until(f"{ends}[0].includes('one range for both') && {ends}[0] === {ends}[1]")
    assert lab.lab.normalise == "shared"
    lab.control("one range for both").uncheck()
    lab.until(f"{ends}[0].includes('a range of its own')")
    drawn(lab, "scale", 0)
    lab.until("!second.shown")
    assert not lab.control("one range for both").is_visible()


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080)])
def test_presented_the_sliders_stay_during_the_game(living: Callable[..., Living], width: int, height: int) -> None:
    """All of it is in the window, and a picture keeps its size whatever the game says."""
    lab = living(width=width, height=height)
    lab.button("present").click()
    lab.page.wait_for_timeout(100)
    picture = "lab.ui.canvas.getBoundingClientRect().height"
    lab.button("by mouse").click()
    lab.until("lab.ui.removed.textContent.includes('church')")
    size = lab(picture)
    for act in (lambda: lab.page.mouse.click(*lab.over(6, 6)), lambda: lab.button("▶ deletion").click()):
        act()
        lab.ready()
        lab.until("lab.ui.removed.textContent.includes('patches gone: church')")
        for name in ("patch size", "keep", "scale", "layer"):
            assert lab.control(name).is_visible(), name
        lab.page.wait_for_timeout(100)
        assert lab(picture) == pytest.approx(size, abs=1)
        assert lab("lab.ui.root.scrollHeight <= lab.ui.root.clientHeight")
    lab.until("!store.state.playing")
    assert lab("lab.ui.fell.getBoundingClientRect().bottom <= innerHeight")


def test_presented_a_sentence_is_told_of_what_is_pointed_at_beside_the_picture_alone(
    living: Callable[..., Living],
) -> None:
    """Not of what came below a pointer at rest, nor of what stands at the picture, and no longer than it is read."""
    lab = living(width=1280, height=720)
    lab.page.evaluate(
        "() => { window.real = setTimeout; window.setTimeout = (f, ms, ...a) => real(f, ms / 10, ...a); }"
    )
    lab.button("present").click()
    lab.page.wait_for_timeout(200)
    assert lab("store.state.help") is None
    lab.control("scale").hover()
    lab.until("store.state.help?.startsWith('Factor of the attention')")
    lab.until("store.state.help === null")
    lab.control("layer").hover()
    lab.until("store.state.help?.startsWith('Which layer')")
    lab.page.locator(".caption").hover()
    lab.until("store.state.help === null")
    lab.page.wait_for_timeout(100)
    assert lab("store.state.help") is None


def test_a_box_lies_on_the_photograph_not_on_the_tokens(living: Callable[..., Living]) -> None:
    lab = living(detector="embedded", keep=0.5)
    lab.until("lab.visible().length > 0")
    lab.control("confidence").evaluate("e => { e.value = 0.05; e.dispatchEvent(new Event('change')); }")
    lab.button("▶ through the layers").click()
    lab.until("store.state.passing === 11")
    lab.page.wait_for_timeout(100)
    tokens = lab.pixels()
    lab.control("confidence").evaluate("e => { e.value = 0.95; e.dispatchEvent(new Event('change')); }")
    lab.until("lab.visible().length === 0")
    lab.page.wait_for_timeout(100)
    assert np.array_equal(lab.pixels(), tokens)


def test_patches_that_keep_drops_come_back_by_the_same_button(living: Callable[..., Living]) -> None:
    lab = living(keep=0.5)
    lab.button("patches back").click()
    lab.until("lab.port.get('keep') === 1 && pane.shown.settings.keep === 1")
    lab.ready()
    assert lab.button("patches back").is_disabled()
    lab.button("undo").click()
    lab.until("pane.shown.settings.keep === 0.5")


def test_a_pin_stays_outlined_while_another_patch_is_pointed_at(living: Callable[..., Living]) -> None:
    """Fainter than at rest, and nothing else of the picture changes for it."""
    lab = living(width=1280, height=800)
    lab.page.mouse.move(*lab.over(9, 2))
    lab.until("pane.rows.key && store.state.hover")
    lab.page.wait_for_timeout(100)
    without = lab.pixels().astype(int)
    lab.page.mouse.click(*lab.over(6, 7))
    lab.until("pane.shown.query === 'patch (6, 7)'")
    lab.page.mouse.move(*lab.over(9, 2))
    lab.until("store.state.hover && lab.ui.figures[0].title.textContent.startsWith('what patch 9, 2')")
    lab.page.wait_for_timeout(100)
    rows, cols = np.nonzero(np.abs(lab.pixels().astype(int) - without).max(-1) > 30)
    high, wide = without.shape[0] / 14, without.shape[1] / 14
    assert len(rows) > 0.5 * 2 * (high + wide)
    assert rows.min() > 6 * high - 5
    assert rows.max() < 7 * high + 5
    assert cols.min() > 7 * wide - 5
    assert cols.max() < 8 * wide + 5


def test_beside_a_distance_stands_that_of_attention_spread_evenly(living: Callable[..., Living]) -> None:
    lab = living()
    grid = 16 * np.stack(np.meshgrid(np.arange(14), np.arange(14)), -1).reshape(-1, 2)
    even = np.linalg.norm(grid[:, None] - grid[None], axis=-1).mean()
    assert lab.text(".measures").endswith(f" px (spread evenly: {even:.0f} px)")
    lab.fold("Head atlas")
    lab.until("store.state.atlas")
    assert f"of attention spread evenly that distance is {even:.0f} px." in lab("lab.ui.atlasWords.textContent")
    image = vislab.load_image(vislab.samples()["church"])
    assert vislab.survey(vislab.load("embedded").run(image)).even == pytest.approx(12 * [even], rel=1e-4)
