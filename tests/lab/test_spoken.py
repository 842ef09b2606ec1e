"""Laws of a lab that is asked in words: what it tells the page, what stays, and what is left off."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wording
from readers import PICTURE, QUESTION, pair

import vislab
from vislab.core.cache import Latest
from vislab.lab import export_page, spoken
from vislab.lab.widget import Lab
from vislab.language.reader import Reader

Told = list[tuple[dict[str, Any], list[bytes]]]
OTHER = "where is a church ?"
MOST = 12  # tokens of an answer here


@pytest.fixture(autouse=True)
def told(told: Told, monkeypatch: pytest.MonkeyPatch) -> Told:
    """The same; no answer is remembered from before, and none is longer than a few words."""
    monkeypatch.setattr(spoken, "REMEMBERED", Latest("answer", 4, lambda said: said.bytes))
    short = spoken.answered
    monkeypatch.setattr(spoken, "answered", lambda *given, **more: short(*given, **more, tokens=MOST))
    return told


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader("LlavaNextForConditionalGeneration", *pair("LLaVA-NeXT"))


@pytest.fixture
def lab(reader: Reader) -> Iterator[Lab]:
    made = Lab(PICTURE, model=reader, prompt=QUESTION, detector=None).wait(60)
    yield made
    with suppress(Exception):
        made.wait(60)
    made.close()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """(began, go): the first word that is heard waits until it may go."""
    began, go, words_of = threading.Event(), threading.Event(), spoken.words_of

    def waiting(*given: Any) -> Any:
        began.set()
        assert go.wait(60)
        return words_of(*given)

    monkeypatch.setattr(spoken, "words_of", waiting)
    return began, go


def kinds(told: Told) -> list[str]:
    return [content["kind"] for content, _ in told if content["kind"] != "status"]


def last(told: Told, kind: str) -> tuple[dict[str, Any], list[bytes]]:
    return [message for message in told if message[0]["kind"] == kind and message[0].get("pane") != 1][-1]


def test_an_answer_comes_word_by_word_and_its_maps_with_it(lab: Lab, told: Told, reader: Reader) -> None:
    own = vislab.ask(PICTURE, QUESTION, model=reader, tokens=MOST)
    assert lab.answer.text == own.text
    said = [content for content, _ in told if content["kind"] == "saying"]
    assert [content.get("done") for content in said] == [*range(MOST), None]
    words = [word.text for word in own.words]
    assert len(words) > 2
    assert all(one["words"][:-1] == words[: max(0, len(one["words"]) - 1)] for one in said[:-1])  # the last grows
    order = [kind for kind in kinds(told) if kind != "saying"]
    assert order == ["asks", "view", "answer", "looks", "view", "boxes", "looks", "looks"]
    layers = [content["layer"] for content, _ in told if content["kind"] == "looks"]
    assert layers == [1, "mean", 0]  # that which is shown first
    assert told[-1][0]["state"] == "ready"


@pytest.mark.parametrize(
    "settings",
    [
        {"layer": 0, "head": 2},
        {"layer": "mean", "head": "max"},
        {"method": "rollout", "head": "min"},
        {"method": "relevance"},
        {"word": 0},
    ],
    ids=str,
)
def test_the_lab_shows_what_explain_gives(lab: Lab, told: Told, reader: Reader, settings: dict[str, Any]) -> None:
    lab.state = settings
    lab.wait(60)
    answer = vislab.ask(PICTURE, QUESTION, model=reader, tokens=MOST)
    word = settings.get("word", spoken.place_of_word(answer, None))
    how = {"method": lab.method, **{name: value for name, value in settings.items() if name in ("layer", "head")}}
    wanted = vislab.explain(answer, target=word, **how)
    np.testing.assert_allclose(lab.heatmap.values, wanted.values, atol=1e-6)
    view, [values] = last(told, "view")
    assert view["word"] == word
    np.testing.assert_allclose(np.frombuffer(values, "<f4").reshape(wanted.values.shape), wanted.values, atol=1e-6)
    assert view["call"].startswith(f"vislab.explain(vislab.ask(image, {QUESTION!r}")
    assert json.loads(json.dumps(view))["model"]["reads"]


def test_methods_that_take_a_forward_tell_word_after_word_the_shown_one_first(lab: Lab, told: Told) -> None:
    lab.word = last_word = len(lab.answer.words) - 1
    lab.wait(60)
    told.clear()
    lab.method = "relevance"
    lab.wait(60)
    words = [content["words"][0] for content, _ in told if content["kind"] == "looks"]
    assert words == [last_word, *range(last_word)]
    told.clear()
    lab.word = 0
    lab.wait(60)
    assert kinds(told) == ["asks", "view", "view", "boxes"]  # of maps that were told, none is told again


def test_a_word_that_the_answer_has_not_is_the_longest(lab: Lab) -> None:
    lab.word = 99
    shown = lab.wait(60).heatmap.target
    assert shown == repr(max((word.text for word in lab.answer.words), key=len))


def test_the_newest_question_wins(lab: Lab, told: Told, held: Any) -> None:
    began, go = held
    lab.prompt = OTHER
    assert began.wait(30)
    lab.prompt = "what is red ?"
    go.set()
    lab.wait(60)
    questions = [content["question"] for content, _ in told if content["kind"] == "answer"]
    assert questions == [QUESTION, "what is red ?"]
    assert lab.answer.question == "what is red ?"


def test_a_reading_of_the_same_answer_does_not_end_it(reader: Reader, told: Told, held: Any) -> None:
    began, go = held
    lab = Lab(PICTURE, model=reader, prompt=QUESTION, detector=None)
    assert began.wait(30)
    lab.layer = 0
    go.set()
    lab.wait(60)
    assert [content.get("done") for content, _ in told if content["kind"] == "saying"] == [*range(MOST), None]
    assert lab.heatmap.settings["layer"] == 0
    lab.close()


def test_what_is_stopped_leaves_the_answer_before_and_can_be_asked_again(lab: Lab, told: Told, held: Any) -> None:
    began, go = held
    before = lab.answer
    told.clear()
    lab.prompt = OTHER
    assert began.wait(30)
    lab._asked(lab, {"kind": "stop"}, [])
    go.set()
    lab.wait(60)
    assert lab.answer is before
    assert told[-1][0] == {"kind": "status", "state": "ready", "words": "stopped: the answer before stays"}
    assert last(told, "saying")[0]["words"] is None
    assert "answer" not in kinds(told)
    lab._asked(lab, {"kind": "ask"}, [])
    assert lab.wait(60).answer.question == OTHER


def test_what_fails_leaves_the_answer_before(lab: Lab, told: Told) -> None:
    before, heat = lab.answer, lab.heatmap
    lab.prompt = "where is the zebra and the churchs ?"
    with pytest.raises(ValueError, match="does not know “zebra” and “churchs”; did you mean 'church'\\? It knows"):
        lab.wait(60)
    assert (lab.answer, lab.heatmap.target) == (before, heat.target)
    assert told[-1][0]["state"] == "error"
    assert "vislab" not in told[-1][0]["words"]


def test_an_answer_is_remembered(lab: Lab, told: Told) -> None:
    lab.prompt = OTHER
    lab.wait(60)
    told.clear()
    lab.prompt = QUESTION
    lab.wait(60)
    assert "saying" not in kinds(told)
    assert re.fullmatch(r"answered in \d+\.\d s", told[-1][0]["words"])
    [kept] = {entry.kind for entry in spoken.REMEMBERED.entries()}
    assert kept == "answer"
    assert all(entry.bytes > PICTURE.nbytes for entry in spoken.REMEMBERED.entries())


def test_without_a_question_the_model_waits(reader: Reader, told: Told, tmp_path: Path) -> None:
    lab = Lab(PICTURE, model=reader, detector=None).wait(60)
    assert (lab.answer, lab.heatmap) == (None, None)
    assert told[-1][0]["state"] == "ready"
    assert last(told, "asks")[0]["model"] == reader.name
    with pytest.raises(ValueError, match="nothing is shown yet that could be saved"):
        lab.save(tmp_path / "nothing.png")
    lab._ipython_display_()
    lab.close()


def test_from_classes_to_words_and_back(lab: Lab, told: Told, reader: Reader) -> None:
    lab.state = {"model": "embedded", "image": "church", "method": "grad_cam"}
    lab.wait(120)
    assert lab.answer is None
    assert lab.heatmap.method == "grad_cam"
    lab.state = {"model": reader, "image": PICTURE}
    lab.wait(60)
    assert lab.method == "attention"
    assert "explains no words: the method is now attention" in last(told, "note")[0]["words"]
    assert lab.answer.question == QUESTION
    lab.state = {"model": "embedded", "image": "church"}
    lab.wait(120)
    assert (lab.method, lab.answer) == ("cls", None)
    assert lab.prompt == QUESTION  # for when it is back


def test_a_new_page_is_told_all_again(lab: Lab, told: Told) -> None:
    told.clear()
    lab._asked(lab, {"kind": "hello"}, [])
    lab.wait(60)
    assert {"about", "asks", "answer", "looks", "view"} <= {*kinds(told)}
    assert kinds(told).count("looks") == 3


def test_state_makes_the_lab_again(lab: Lab, reader: Reader) -> None:
    lab.state = {"word": 0, "layer": 0}
    state = json.loads(json.dumps(lab.wait(60).state))
    again = Lab(PICTURE, state=state, model=reader).wait(60)
    assert np.array_equal(again.heatmap.values, lab.heatmap.values)
    assert (again.prompt, again.word) == (QUESTION, 0)
    again.close()


@pytest.mark.parametrize("method", ["attention", "relevance"])
def test_figures_and_pages_hold_the_word_and_all_words(lab: Lab, tmp_path: Path, method: str) -> None:
    lab.state = {"method": method, "word": 0}
    lab.wait(60)
    figure = lab.save(tmp_path / "word.png")
    assert vislab.provenance(figure)["maps"][0]["settings"]["question"] == QUESTION
    page = lab.save(tmp_path / "words.html").read_text(encoding="utf-8")
    held = json.loads(page.split('id="held">')[1].split("</script>")[0])
    said = [content for content, _ in held["messages"]]
    looks = [content for content in said if content["kind"] == "looks"]
    assert {content["layer"] for content in looks if content["method"] == "attention"} == {0, 1, "mean"}
    assert sum(content["method"] == "relevance" for content in looks) == (
        len(lab.answer.words) * (method != "attention")
    )
    assert all(content["bytes"] == 1 for content in looks)
    assert QUESTION in page.split("</title>")[0]


def test_a_page_of_few_bytes_holds_the_layer_that_is_shown(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_page, "BRIEF", 10)
    said = [content for content, _ in lab._spoken.messages(10)]
    assert [content["layer"] for content in said if content["kind"] == "looks"] == [1]
    assert "point at a word" in lab._still()["text/html"]


def test_many_bytes_come_a_layer_at_a_time(reader: Reader, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken, "PLENTY", 10)
    lab = Lab(PICTURE, model=reader, prompt=QUESTION, detector=None).wait(60)
    assert kinds(told).count("looks") == 1
    lab.layer = 0
    lab.wait(60)
    assert [content["layer"] for content, _ in told if content["kind"] == "looks"] == [1, 0]
    lab.close()


def test_an_image_text_model_looks_for_the_prompt(told: Told) -> None:
    model = vislab.load(wording.make("CLIP"), processor=wording.processor())
    lab = Lab(PICTURE, model=model, prompt="the red door", detector=None).wait(60)
    assert (lab.method, lab.target) == ("legrad", "the red door")
    wanted = vislab.explain(PICTURE, model=model, target="the red door", method="legrad")
    np.testing.assert_allclose(lab.heatmap.values, wanted.values, atol=1e-6)
    assert last(told, "view")[0]["model"]["takes"] == "text"
    lab.prompt = "a fish"
    lab.wait(60)
    assert lab.target == "a fish"
    lab.model = "embedded"
    lab.wait(120)
    assert (lab.target, lab.prompt) == (None, "a fish")
    assert last(told, "view")[0]["model"]["takes"] is None
    lab.close()
