"""Tokens spent in the Lab as it is used, in Chromium without a notebook: what is dragged and clicked, and what is then
seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny
from living import Living

import vislab
from vislab.models.budget import budget
from vislab.models.tokens import Tokens

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
CHURCH = vislab.samples()["church"]


def dragged(lab: Living, label: str, value: float, event: str = "input") -> None:
    lab.control(label).evaluate(f"e => {{ e.value = {value}; e.dispatchEvent(new Event('{event}')); }}")


def asked(lab: Living) -> list[Any]:
    """What the page wanted of Python."""
    return [one for one in lab.sent if one[0] == "state" or one[1]["kind"] not in ("layer", "hello")]


def counts(**how: Any) -> list[int]:
    return list(budget(vislab.load("embedded"), Tokens(**how), (683, 1024)).counts)


def stroke(lab: Living, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag from one patch to another of a grid of 14 × 14, in patches; not yet let go."""
    box = lab.page.locator(".vislab-lab figure > canvas").first.bounding_box()
    at = lambda p: (box["x"] + box["width"] * p[1] / 14, box["y"] + box["height"] * p[0] / 14)  # noqa: E731
    lab.page.mouse.move(*at(start))
    lab.page.mouse.down()
    lab.page.mouse.move(*at(end), steps=5)


def test_keep_is_forecast_while_it_is_dragged_and_drawn_once_it_is_let_go(living: Callable[..., Living]) -> None:
    lab = living()
    whole, sent = lab.pixels(), len(asked(lab))
    lab.control("keep").focus()
    dragged(lab, "keep", 50)
    lab.until("lab.ui.count.textContent.startsWith('197 → 157 → 124 → ')")
    lab.until("lab.ui.cost.textContent.includes('▼ 43 %')")
    assert len(asked(lab)) == sent
    dragged(lab, "keep", 50, "change")
    lab.until("pane.shown.settings.keep === 0.5")
    lab.ready()
    heat = vislab.explain(CHURCH, method="cls", keep=0.5)
    assert lab.values() == pytest.approx(heat.values, rel=1e-3)
    assert lab("pane.shown.counts") == counts(keep=0.5)
    assert "it took" in lab("lab.ui.cost.textContent")
    dark = lab.pixels().astype(int).sum(-1)
    high, wide = dark.shape
    rows, cols = (np.arange(14) + 0.5) * high / 14, (np.arange(14) + 0.5) * wide / 14
    middle = np.ix_(rows.astype(int), cols.astype(int))
    fell = dark[middle] < 0.6 * whole.astype(int).sum(-1)[middle]
    assert fell[heat.dropped].mean() > 0.9
    assert fell[~heat.dropped].mean() < 0.3

    row, col = np.argwhere(~heat.dropped)[20]
    lab.page.mouse.move(*lab.over(int(row), int(col)))
    lab.until("pane.rows.key && lab.ui.figures[0].title.textContent.startsWith('what patch')")
    run = vislab.load("embedded").run(vislab.load_image(CHURCH), keep=0.5)
    at = (1024 / 14 * (col + 0.5), 683 / 14 * (row + 0.5))
    exact = vislab.explain(CHURCH, method="attention", query=at, keep=0.5).values
    drawn = lab("store.memory.rows[0].rows.length")
    assert drawn == 3 * counts(keep=0.5)[-1] == 3 * run.capture.site(-1).keys
    assert f"highest {exact.max():.2g}".rstrip("0") in lab.text(".caption")
    gone_row, gone_col = (int(v) for v in np.argwhere(heat.dropped)[0])
    lab.page.mouse.move(*lab.over(gone_row, gone_col))
    lab.until(f"lab.ui.caption.textContent === 'patch {gone_row}, {gone_col} was dropped before layer 11'")
    lab.page.mouse.move(2, 2)

    lab.button("undo").click()
    lab.until("pane.shown.settings.keep === 1 && lab.ui.keep.value === '100'")
    lab.ready()
    lab.page.wait_for_timeout(100)
    assert np.array_equal(lab.pixels(), whole)
    lab.button("redo").click()
    lab.until("pane.shown.settings.keep === 0.5")


def test_how_patches_go_is_chosen_where_some_do(living: Callable[..., Living]) -> None:
    lab = living()
    assert lab("lab.ui.dropping.hidden")
    dragged(lab, "keep", 40)
    lab.until("!lab.ui.dropping.hidden")
    dragged(lab, "keep", 40, "change")
    lab.until("pane.shown.settings.keep === 0.4")
    lab.ready()
    assert lab.control("dropped").locator("option[value='[0]']").is_disabled()
    map_shown = lab.values()
    lab.control("kept by").select_option(label="the map shown")
    lab.until("lab.ui.keep_by.selectedOptions[0].textContent === 'a map\\'s values'")
    lab.until("typeof pane.shown.settings.keep_by !== 'string'")
    lab.ready()
    assert np.array(lab.lab.keep_by) == pytest.approx(map_shown, rel=1e-3)
    lab.control("dropped").select_option(label="before layer 4")
    lab.control("the rest in one token").check()
    how = {"keep": 0.4, "keep_by": lab.lab.keep_by, "keep_at": 4, "gather": True}
    lab.until("lab.ui.count.innerText.startsWith('197 → 80 tokens')")
    lab.until("pane.shown.settings.gather && pane.shown.settings.keep_at")
    lab.ready()
    assert lab("pane.shown.counts") == counts(**how)
    assert lab.values() == pytest.approx(vislab.explain(CHURCH, method="cls", **how).values, rel=1e-3)
    assert "keep_at=(4,), gather=True" in lab("lab.ui.call.textContent")
    for setting in ("gather", "keep_at"):
        lab.button("undo").click()
        lab.until(f"!pane.shown.settings.{setting}")
    lab.button("redo").click()
    lab.until("String(pane.shown.settings.keep_at) === '4' && lab.ui.keep_at.value === '[4]'")
    lab.ready()
    lab.control("keep").dblclick()
    lab.until("pane.shown.settings.keep === 1 && lab.ui.dropping.hidden")
    lab.ready()
    assert "keep" not in lab("lab.ui.call.textContent")


def test_a_fovea_is_drawn_moved_and_taken_away(living: Callable[..., Living]) -> None:
    lab = living()
    sent = len(asked(lab))
    lab.button("draw").click()
    lab.until("lab.ui.spentWhy.textContent.startsWith('Drag on the photograph')")
    stroke(lab, (4, 5), (9, 10))
    lab.until("store.state.drag.fovea && lab.ui.patch_size.disabled")
    drawn = [round(1024 * 5 / 14), round(683 * 4 / 14), round(1024 * 10 / 14), round(683 * 9 / 14)]
    assert lab("store.state.drag.fovea")[0] == pytest.approx(drawn, abs=4)
    box = lab("store.state.drag.fovea")
    told = f"{counts(fovea=box)[0] - 1} + 1 = {counts(fovea=box)[0]} tokens"
    assert lab.text(".count") == told
    assert "new patches" in lab.text("figcaption")
    assert len(asked(lab)) == sent
    lab.page.mouse.up()
    lab.until("pane.shown.settings.fovea")
    lab.ready()
    assert lab.lab.fovea == box
    assert lab("pane.shown.counts") == counts(fovea=box)
    assert lab.values() == pytest.approx(vislab.explain(CHURCH, method="cls", fovea=box).values, rel=1e-3)
    assert f"fovea=(({box[0][0]:.1f}, " in lab("lab.ui.call.textContent")
    assert lab.lab.query == "cls"  # a drag pins nothing

    stroke(lab, (6, 7), (8, 8))
    lab.page.mouse.up()
    lab.until(f"pane.shown.settings.fovea[0][0] > {box[0][0]} + 50")
    moved = lab.lab.fovea[0]
    assert (moved[2] - moved[0], moved[3] - moved[1]) == pytest.approx((box[0][2] - box[0][0], box[0][3] - box[0][1]))
    stroke(lab, (2, 2), (2.1, 2.1))
    lab.page.mouse.up()
    lab.until("lab.ui.note.textContent.startsWith('A fovea is at least one of its patches of 8 px, 37 × 25 px')")
    assert lab.lab.fovea == [moved]
    lab.ready()

    lab.control("patches of the fovea").select_option(label="16 in 32 px")
    lab.until("String(pane.shown.settings.fovea_patches) === '16,32'")
    assert lab("pane.shown.counts[0]") == counts(fovea=[moved], fovea_patches=(16, 32))[0]
    lab.ready()
    lab.page.locator(".vislab-lab figure > canvas").first.focus()
    lab.page.keyboard.press("ArrowLeft")
    lab.until(f"pane.shown.settings.fovea[0][0] < {moved[0]} - 100")
    lab.page.keyboard.press("Shift+ArrowRight")
    lab.until(f"pane.shown.settings.fovea[0][2] - pane.shown.settings.fovea[0][0] > {moved[2] - moved[0]} + 100")
    lab.page.keyboard.press("Delete")
    lab.until("pane.shown.settings.fovea === null && store.state.tool === 'point'")
    lab.button("undo").click()
    lab.until("pane.shown.settings.fovea")
    lab.button("none").click()
    lab.until("pane.shown.settings.fovea === null && !lab.ui.patch_size.disabled")
    assert lab("pane.shown.grid.rows") == 14


def test_a_fovea_lies_on_the_box_of_the_detector(living: Callable[..., Living]) -> None:
    lab = living(detector="embedded")
    lab.until("lab.visible().length > 0 && !lab.ui.onBox.disabled")
    lab.button("on the box").click()
    lab.until("pane.shown.settings.fovea")
    wanted = vislab.explain(CHURCH, method="cls", fovea="box")
    assert lab.lab.fovea[0] == pytest.approx(wanted.settings["fovea"][0], abs=0.01)
    assert lab.values() == pytest.approx(wanted.values, rel=1e-2)
    lab.control("detector").select_option("none")
    lab.until("lab.ui.onBox.disabled")


def test_heads_are_switched_off_in_the_atlas_and_all_back(living: Callable[..., Living]) -> None:
    lab = living()
    lab.fold("Head atlas")
    switch = lab.page.locator(".vislab-lab .atlas .cell .switch[data-layer='8'][data-head='1']")
    switch.click()
    lab.until("pane.shown.settings.heads_off?.[8]?.[0] === 1 && second.shown")
    lab.until("lab.ui.knocked.textContent.startsWith('1 head off: church 93 % → ')")
    assert lab.lab.heads_off == {8: [1]}
    assert lab.values() == pytest.approx(vislab.explain(CHURCH, method="cls", heads_off={8: [1]}).values, rel=1e-3)
    assert lab("second.shown.settings.heads_off") is None
    assert "heads_off={8: (1,)}" in lab("lab.ui.call.textContent")
    assert switch.get_attribute("aria-pressed") == "true"
    assert lab("document.activeElement.dataset.layer") == "8"  # the focus stays where it was
    lab.page.locator(".vislab-lab .atlas > .switch[data-layer='8']").click()
    lab.until("String(pane.shown.settings.heads_off[8]) === '0,1,2'")
    lab.until("lab.ui.knocked.textContent.startsWith('3 heads off: church')")
    with_off = dict(vislab.load("embedded").predict(CHURCH, heads_off={8: [0, 1, 2]}))["church"]
    assert lab("Object.fromEntries(pane.shown.classes).church") == pytest.approx(with_off, abs=1e-4)
    lab.button("undo").click()
    lab.until("String(pane.shown.settings.heads_off[8]) === '1'")
    lab.button("all heads on").click()
    lab.until("pane.shown.settings.heads_off === null && !second.shown")
    assert lab("lab.ui.allOn.disabled")


def test_the_lens_shows_where_the_decision_falls(living: Callable[..., Living]) -> None:
    lab = living()
    lab.fold("Lens")
    lab.until("lab.ui.lensTable.querySelectorAll('tbody tr').length === 12")
    wanted = vislab.lens(CHURCH)
    last = lab("lab.ui.lensTable.querySelector('tbody tr:last-child').textContent")
    assert last.startswith(f"11church {100 * wanted.scores[-1].max():.0f} % · ")
    agree = int((wanted.patches[-1] == wanted.scores[-1].argmax()).sum())
    assert last.endswith(f"{agree} of 196")
    lab.page.locator(".vislab-lab .gallery.small button[data-layer='5']").click()
    lab.until("pane.shown.settings.method === 'lens' && pane.shown.settings.layer === 5")
    assert lab.values() == pytest.approx(vislab.explain(CHURCH, method="lens", layer=5).values, abs=1e-4)
    lab.ready()
    lab.fold("Lens")
    lab.ready()
    assert not lab.lab._stage.lensing


def test_tokens_go_through_the_layers(living: Callable[..., Living]) -> None:
    """In the photograph's own colours; dropped ones in the end dark, and the map again at Escape."""
    lab = living(keep=0.5, merge=4)
    shown, sent = lab.pixels(), len(asked(lab))
    lab.button("▶ through the layers").click()
    lab.until("store.state.passing > 3")
    lab.button("❚❚ through the layers").click()
    lab.until("store.state.passClock === 0")
    dragged(lab, "tokens of layer", 11)
    tokens = vislab.token_map(CHURCH, keep=0.5, merge=4)
    lab.until(f"lab.ui.figures[0].title.textContent === 'tokens of layer 11 · {tokens.counts[-1]} of 197'")
    dropped = int((tokens.owners[-1] < 0).sum())
    assert lab.text(".caption").startswith(
        f"{dropped} of 196 patches dropped · {tokens.counts[-1] - 1} tokens of patches"
    )
    lab.page.wait_for_timeout(100)
    picture = tokens.overlay()
    made = lab.pixels().astype(int)
    centres = (np.arange(14) + 0.5) / 14
    mine = made[np.ix_(*((centres * side).astype(int) for side in made.shape[:2]))]
    theirs = picture[np.ix_(*((centres * side).astype(int) for side in picture.shape[:2]))].astype(int)
    assert np.abs(mine - theirs).mean() < 12
    lab.page.locator(".vislab-lab figure > canvas").first.focus()
    lab.page.keyboard.press("Escape")
    lab.until("store.state.passing === null && lab.ui.mapAgain.hidden")
    lab.page.wait_for_timeout(100)
    assert np.array_equal(lab.pixels(), shown)
    assert len(asked(lab)) == sent
    lab.control("keep").dblclick()
    lab.until("pane.shown.settings.keep === 1")
    lab.control("merge").dblclick()
    lab.until("pane.shown.settings.merge === 0 && lab.ui.passing.hidden")


def test_what_cannot_be_spent_is_greyed_with_the_reason(living: Callable[..., Living]) -> None:
    import transformers as hf

    lab = living()
    lab.control("method").select_option("legrad")
    lab.until("pane.shown.settings.method === 'legrad'")
    lab.until("lab.ui.keep.disabled && lab.ui.drawFovea.disabled")
    assert lab.text(".why:not(:empty)").startswith("LeGrad reads every patch in every layer")
    lab.control("method").select_option("rollout")
    lab.until("pane.shown.settings.method === 'rollout' && !lab.ui.keep.disabled")
    dragged(lab, "keep", 60, "change")
    lab.until("pane.shown.settings.keep === 0.6")
    assert lab.control("method").locator("option[value='legrad']").is_disabled()
    assert "keep all" in lab.control("method").locator("option[value='legrad']").get_attribute("title")

    beit = tiny.roughened(hf.BeitModel(hf.BeitConfig(**tiny.VIT, use_relative_position_bias=True)))
    other = living(model=beit)
    other.until("store.state.plain?.bound?.keep && lab.ui.keep.disabled && lab.ui.merge.disabled")
    assert "it matters where a token stands" in other.text(".why:not(:empty)")
    assert "vislab" not in other.text(".why:not(:empty)")


def test_what_went_wrong_with_a_fovea_stands_beside_it(living: Callable[..., Living]) -> None:
    lab = living(image_size=240)
    lab.button("draw").click()
    stroke(lab, (4, 5), (9, 10))
    lab.page.mouse.up()
    lab.until("lab.ui.problem.textContent.startsWith('patches of 32 px do not fill the input of 240×240 px')")
    assert lab.text(".problem").endswith(
        "take other patches of the fovea, or an input size that is a multiple of the largest."
    )
    assert lab("lab.ui.problem.previousElementSibling === lab.ui.drawn")
    assert lab.lab.fovea is None
    lab.until("lab.port.get('fovea') === null")
    dragged(lab, "input size", 256, "change")
    lab.until("pane.shown.frame.model[0] === 256 && lab.ui.problem.hidden")


def test_a_page_without_python_shows_tokens_and_says_what_it_cannot(browser: Browser, tmp_path: Path) -> None:
    lab = vislab.Lab("church", detector=None, keep=0.5)
    path = lab.wait(60).save(tmp_path / "page.html")
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    page.locator("html[data-ready=yes]").wait_for()
    words = page.locator(".vislab-lab .why", has_text="No model runs in this page")
    words.wait_for()
    for name in ("keep", "merge"):
        assert page.get_by_label(name, exact=True).is_disabled()
    for name in ("kept by", "dropped", "the rest in one token"):
        assert page.get_by_label(name, exact=True).is_disabled()
    for name in ("draw", "on the box"):
        assert page.get_by_role("button", name=name, exact=True).is_disabled()
    assert page.locator(".vislab-lab .count").inner_text().startswith("197 → 157 → 124 → 99 tokens")
    page.get_by_role("button", name="▶ through the layers").click()
    page.locator(".vislab-lab figcaption", has_text="tokens of layer 4 · 157 of 197").first.wait_for()
    page.get_by_role("button", name="map again").click()
    page.locator(".vislab-lab figcaption", has_text="attention of CLS").first.wait_for()
    page.locator(".vislab-lab summary", has_text="Head atlas").click()
    assert page.locator(".vislab-lab .atlas .switch").first.is_disabled()
    assert errors == []
    page.context.close()
    lab.close()
