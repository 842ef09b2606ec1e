"""Words of an answer as a newcomer meets them, in Chromium without a notebook: typed, pointed at, walked through."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import wording
from living import Living
from PIL import Image, ImageFilter
from readers import PICTURE, pair

import vislab
from vislab.lab import spoken
from vislab.language.reader import Reader

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
SIDE, PART = 448, 176  # px
QUESTION = "what is on the left ?"


@cache
def scene() -> np.ndarray:
    """A church at the top left of blurred ground, as the embedded reader was taught such."""
    photos = vislab.samples()
    ground = Image.open(photos["moose"]).convert("RGB").resize((112, 112)).filter(ImageFilter.GaussianBlur(4))
    made = ground.resize((SIDE, SIDE))
    made.paste(Image.open(photos["church"]).convert("RGB").resize((PART, PART)), ((SIDE // 2 - PART) // 2,) * 2)
    return np.array(made)


@pytest.fixture
def living(living: Callable[..., Living]) -> Callable[..., Living]:
    """Opens a lab of a scene and the embedded reader."""

    def make(image: Any = None, **settings: Any) -> Living:
        return living(scene() if image is None else image, mapped=False, **{"model": "embedded-reader", **settings})

    return make


# In the page: how wide words of the method's menu are, px.
LETTERS = """(words) => {
    const context = document.createElement('canvas').getContext('2d');
    const { fontSize, fontFamily } = getComputedStyle(document.querySelector('.vislab-lab .top select'));
    context.font = `${fontSize} ${fontFamily}`;
    return context.measureText(words).width;
}"""

# In the page: words lie so much lower, px, for as long as browsers take to tell where the pointer is now.
MOVED = """async (down) => {
    document.querySelector('.chips').style.marginTop = `${down}px`;
    await new Promise((end) => setTimeout(end, 300));
}"""


def chip(lab: Living, text: str) -> Any:
    return lab.page.locator(".chip", has_text=text).first


def shown(lab: Living) -> str:
    return lab("lab.ui.figures[0].title.textContent")


def ask(lab: Living, words: str) -> None:
    lab.control("Question").fill(words)
    lab.control("Question").press("Enter")


def test_a_question_is_typed_and_its_words_are_pointed_at_without_a_message(living: Callable[..., Living]) -> None:
    lab = living()
    assert lab.lab.heatmap is None
    assert lab.text(".status") == "ready · waits for a question"
    assert lab.text(".caption").startswith("Ask something below")
    assert not lab.page.locator(".side section").first.is_visible()
    assert lab.page.locator(".chip").count() == 0
    assert "of a photograph that nobody cut, its answers are guesses" in lab.text(".limits")
    ask(lab, QUESTION)
    lab.ready()
    assert lab.page.locator(".chip").all_inner_texts() == ["a", "church", "."]
    assert shown(lab) == "attention of “church” · layer 3 · heads: mean"
    sent, pictures = len(lab.sent), {}
    for word in ("a", "church", "."):
        chip(lab, word).hover()
        lab.until(f"lab.ui.figures[0].title.textContent.startsWith('attention of “{word}”')", 5)
        lab.page.wait_for_timeout(50)
        pictures[word] = lab.pixels()
        assert re.match(rf"Of the attention of “{re.escape(word)}”, .+ lies on the image, ", lab.text(".lies"))
    lab.page.mouse.move(2, 2)
    lab.until("lab.ui.figures[0].title.textContent.startsWith('attention of “church”')", 5)
    assert len(lab.sent) == sent
    assert not np.array_equal(pictures["a"], pictures["church"])
    changed = np.abs(
        pictures["church"].astype(int) - np.array(Image.fromarray(scene()).resize(lab.pixels().shape[1::-1]))
    )
    high, wide = (side // 2 for side in changed.shape[:2])
    assert changed[:high, :wide].mean() > 2 * changed[high:, wide:].mean()  # it lies on the church


def test_layers_and_heads_change_the_map_at_once(living: Callable[..., Living]) -> None:
    lab = living(prompt=QUESTION)
    lab.page.evaluate("window.toPython = () => {}")  # nobody answers any more
    lab.control("layer").fill("1")
    lab.control("head").select_option("2")
    lab.until("lab.ui.figures[0].title.textContent === 'attention of “church” · layer 1 · head 2'", 5)
    answer = lab.lab.answer
    wanted = vislab.explain(answer, target="church", method="attention", layer=1, head=2)
    highest = float(wanted.values.max())
    row, col = np.unravel_index(wanted.values.argmax(), wanted.values.shape)
    lab.until(f"lab.ui.caption.textContent.endsWith('at row {row}, column {col}')", 5)
    told = re.fullmatch(r"Where the model looks as it says “church”\s· most, ([\d.]+)\s%, .*", lab.text(".caption"))
    assert float(told[1]) == pytest.approx(100 * highest, rel=0.06)
    image = 100 * answer.shares[1, 1, 2, 0]
    assert lab.text(".lies").startswith(f"Of the attention of “church”, {image:.0f}\u00a0% lies on the image")


def test_arrow_keys_walk_the_words_on_the_chips_and_on_the_picture(living: Callable[..., Living]) -> None:
    lab = living(prompt=QUESTION)
    chip(lab, "church").click()
    lab.page.keyboard.press("ArrowLeft")
    lab.until("lab.ui.figures[0].title.textContent.startsWith('attention of “a”')", 5)
    lab.ready()
    assert lab.lab.word == 0
    assert lab.lab.heatmap.target == "'a'"
    assert lab("document.activeElement.textContent") == "a"
    assert chip(lab, "a").get_attribute("aria-pressed") == "true"
    assert chip(lab, "a").get_attribute("aria-label").startswith("a, word 1 of 3, ")
    lab.page.locator("figure > canvas").first.focus()
    lab.page.keyboard.press("End")
    lab.ready()
    assert lab.lab.word == 2
    lab.page.keyboard.press("Escape")
    lab.ready()
    assert lab.lab.word is None
    lab.button("undo").click()
    lab.ready()
    assert lab.lab.word != 1
    assert "target=" in lab("lab.ui.call.textContent")
    assert repr(QUESTION) in lab("lab.ui.call.textContent")


def test_words_that_move_below_a_pointer_at_rest_are_not_pointed_at(living: Callable[..., Living]) -> None:
    lab = living(prompt=QUESTION)
    chip(lab, "church").click()
    lab.ready()
    lab.page.keyboard.press("ArrowLeft")
    lab.ready()
    for down in (40, 0):
        lab.page.evaluate(MOVED, down)
    assert shown(lab).startswith("attention of “a”")
    box = chip(lab, "church").bounding_box()
    lab.page.mouse.move(box["x"] + 3, box["y"] + 3)
    lab.until("lab.ui.figures[0].title.textContent.startsWith('attention of “church”')", 5)


def test_the_python_that_is_shown_makes_the_map_again(living: Callable[..., Living], tmp_path: Path) -> None:
    lab = living(prompt=QUESTION, layer=2, head=1)
    code = lab("lab.ui.call.textContent").replace("…  # your photograph", "given").replace("figure.pdf", "figure.npz")
    namespace: dict[str, Any] = {"given": scene()}
    exec(code.replace("figure.npz", str(tmp_path / "figure.npz")), namespace)
    np.testing.assert_allclose(namespace["heat"].values, lab.lab.heatmap.values, atol=1e-6)


def test_what_is_wrong_with_a_question_stands_below_it(living: Callable[..., Living]) -> None:
    lab = living(prompt=QUESTION)
    for words, said in {"  ": "The field is empty", "where is the zebra ?": "does not know “zebra”. It knows"}.items():
        ask(lab, words)
        lab.until(f"!lab.ui.problem.hidden && lab.ui.problem.textContent.includes('{said}')", 20)
        assert lab("lab.ui.promptRow.nextElementSibling === lab.ui.problem")
        assert lab.page.locator(".chip").all_inner_texts() == ["a", "church", "."]
    assert lab.text(".answered") == f"The answer to “{QUESTION}”"
    lab.button("undo").click()
    lab.ready()
    assert lab.control("Question").input_value() == QUESTION
    assert lab("lab.ui.problem.hidden")


def test_an_answer_can_be_stopped_and_asked_again(
    living: Callable[..., Living], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = living(prompt=QUESTION)
    began, go, words_of = threading.Event(), threading.Event(), spoken.words_of

    def waiting(tokenizer: Any, ids: list[int], first: int) -> Any:
        if len(ids) == 2:
            began.set()
            assert go.wait(60)
        return words_of(tokenizer, ids, first)

    monkeypatch.setattr(spoken, "words_of", waiting)
    ask(lab, "describe the picture .")
    lab.until("!lab.ui.saying.hidden && lab.ui.saying.textContent === 'a …'", 30)
    assert began.wait(30)
    lab.button("stop").click()
    go.set()
    lab.ready()
    assert lab.text(".status") == "ready · stopped: the answer before stays"
    assert lab.page.locator(".chip").all_inner_texts() == ["a", "church", "."]
    assert lab("lab.ui.saying.hidden && lab.ui.stop.disabled")
    lab.button("ask").click()
    lab.until("lab.page || store.state.answer.question === 'describe the picture .'", 30)
    lab.ready()
    assert lab.page.locator(".chip").count() > 3


def test_from_a_classifier_to_the_reader_and_back(living: Callable[..., Living]) -> None:
    lab = living(model="embedded")
    assert not lab.page.locator(".spoken").is_visible()  # nothing to ask, and nothing that waits
    lab.control("model").select_option("embedded-reader")
    lab.until("lab.ui.status.dataset.state === 'ready' && store.state.takes === 'question'")
    assert not lab.page.locator(".side section", has_text="Prediction").is_visible()
    ask(lab, QUESTION)
    lab.ready()
    assert lab("[...lab.ui.method.options].map((one) => one.value)") == ["rollout", "attention", "relevance"]
    lab.control("model").select_option("embedded")
    lab.until("pane.shown && !pane.shown.model.reads && lab.ui.status.dataset.state === 'ready'")
    assert lab.control("Question").is_disabled()
    assert lab.page.locator(".spoken").inner_text().startswith("question")
    assert "embedded answers no questions." in lab.page.locator(".spoken").inner_text()
    assert lab.page.locator(".side section", has_text="Prediction").is_visible()
    assert shown(lab).startswith("attention of CLS")
    lab.button("embedded-reader").click()
    lab.until("pane.shown?.model.reads && lab.ui.status.dataset.state === 'ready'")
    assert shown(lab).startswith("attention of “church”")


def test_a_model_that_looks_for_texts_says_how_and_offers_nothing_else(living: Callable[..., Living]) -> None:
    """It names no class, so there is none to watch while patches are taken away."""
    lab = living("church", model="embedded-clip")
    lab.until("pane.shown && lab.ui.status.dataset.state === 'ready'")
    assert not lab.page.locator(".side section", has_text="Take patches away").is_visible()
    assert "write below the picture what it looks for" in lab("lab.ui.knows.textContent")
    field = lab.control("Text that is looked for")
    assert field.get_attribute("placeholder") == "a text, such as: a church"
    field.fill("a church")
    field.press("Enter")
    lab.until("lab.ui.figures[0].title.textContent === 'relevance for a church'")
    lab.ready()
    assert lab("lab.ui.method.clientWidth") > lab.page.evaluate(LETTERS, "attention: one layer") + 24


def test_why_words_have_no_second_picture_is_said_where_it_would_be_chosen(living: Callable[..., Living]) -> None:
    lab = living(model="embedded", compare={"layer": 3})
    lab.page.get_by_text("Compare", exact=True).click()
    assert lab.control("the same, but another").is_visible()
    assert not lab("lab.ui.wordsAlone.checkVisibility()")
    assert lab("second.shown !== null")
    lab.control("model").select_option("embedded-reader")
    lab.until("lab.ui.status.dataset.state === 'ready' && store.state.takes === 'question'")
    ask(lab, QUESTION)
    lab.ready()
    assert not lab.control("the same, but another").is_visible()
    assert lab.text("details[open] > p.quiet").startswith("An answer stands alone")
    assert not lab.page.locator("figure").nth(1).is_visible()
    lab.control("model").select_option("embedded")
    lab.until("pane.shown && !pane.shown.model.reads && lab.ui.status.dataset.state === 'ready'")
    assert lab("second.shown !== null && !lab.ui.wordsAlone.checkVisibility()")  # as it was chosen


def test_tiles_are_drawn_as_they_are(living: Callable[..., Living]) -> None:
    lab = living(prompt=QUESTION)
    assert lab.text(".tokens").startswith("1,008 of the image: 5 views of 14 × 14, and 28 ends of lines; ")
    before = lab.pixels()
    lab.control("patch grid").check()
    lab.page.wait_for_timeout(100)
    drawn = np.abs(lab.pixels().astype(int) - before).sum(-1) > 60
    middle = drawn.shape[1] // 2
    assert drawn[:, middle - 3 : middle + 3].any(1).mean() > 0.9  # the edge of two tiles
    assert 28 <= (drawn.mean(0) > 0.3).sum() <= 28 * 4  # and lines of their tokens


def test_presented_the_question_and_the_words_are_large(living: Callable[..., Living]) -> None:
    lab = living(prompt=QUESTION)
    lab.button("present").click()
    lab.page.wait_for_timeout(300)
    sizes = lab(
        "[lab.ui.answered, lab.ui.chips.firstChild, lab.ui.lies].map((e) => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 28
    assert lab.text(".answered") == f"“{QUESTION}”"
    assert lab("lab.ui.chips.getBoundingClientRect().bottom <= innerHeight")
    lab.page.keyboard.press("ArrowLeft")  # the picture has the focus
    lab.until("lab.ui.figures[0].title.textContent.startsWith('attention of “a”')", 5)
    at = lab("lab.ui.canvas.getBoundingClientRect().height")
    chip(lab, "church").hover()
    lab.until("lab.ui.figures[0].title.textContent.startsWith('attention of “church”')", 5)
    assert lab("lab.ui.canvas.getBoundingClientRect().height") == at  # nothing moves below the pointer


def test_a_page_without_python_still_points(living: Callable[..., Living], browser: Browser, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    lab = living(prompt=QUESTION)
    path = lab.lab.save(tmp_path / "words.html")
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    page.locator("html[data-ready=yes]").wait_for()
    title = page.locator(".vislab-lab figcaption").first
    page.locator(".chip").first.hover()
    expect(title).to_contain_text("“a”")
    page.locator(".chip").nth(1).click()
    page.keyboard.press("ArrowRight")
    expect(title).to_contain_text("“.”")
    layer = page.get_by_label("layer", exact=True)
    layer.fill("0")
    expect(title).to_contain_text("layer 0")
    assert title.inner_text().strip() == "attention of “.” · layer 0 · heads: mean"
    assert page.locator(".answered").inner_text() == f"“{QUESTION}”"
    assert not page.get_by_role("textbox").count()
    assert errors == []
    page.close()


def test_of_an_image_text_model_the_field_is_its_target(living: Callable[..., Living]) -> None:
    model = vislab.load(wording.make("CLIP"), processor=wording.processor())
    lab = living(PICTURE, model=model)
    field = lab.control("Text that is looked for")
    field.fill("the red door")
    field.press("Enter")
    lab.until("pane.shown?.target === 'the red door' && lab.ui.status.dataset.state === 'ready'")
    assert (lab.lab.target, lab.lab.prompt) == ("the red door", "the red door")
    assert "for the red door" in shown(lab)
    field.fill("zebra")
    lab.button("ask").click()
    lab.until("!lab.ui.problem.hidden && lab.ui.problem.textContent.includes('zebra')", 20)


def test_a_model_of_any_family_is_asked_and_nothing_scrolls_sideways(living: Callable[..., Living]) -> None:
    for family in ("Idefics3", "LLaVA-1.5"):
        own = Reader("LlavaForConditionalGeneration", *pair(family))
        lab = living(PICTURE, width=420, height=800, model=own, prompt="What is on the hill ?")
        assert lab.page.locator(".chip").count() == len(lab.lab.answer.words)
        assert lab("document.documentElement.scrollWidth <= innerWidth")
        chip(lab, lab.lab.answer.words[0].text).hover()
        lab.until(f"lab.ui.figures[0].title.textContent.includes({lab.lab.answer.words[0].text!r})", 5)
