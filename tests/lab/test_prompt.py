"""Laws of what is asked in words: what is refused, which model it is asked of, and which settings give way."""

from __future__ import annotations

from typing import Any

import pytest
import traitlets
import wording
from readers import pair

import vislab
from vislab.lab.prompt import giving_way, ready_of
from vislab.lab.traits import Settings
from vislab.lab.values import named
from vislab.language.reader import Reader
from vislab.models.model import Model

USUAL = {"method": "cls", "prompt": None, "target": None, "query": "cls"}


def reader() -> Reader:
    return Reader("LlavaForConditionalGeneration", *pair("LLaVA-1.5"))


def clip() -> Model:
    return vislab.load(wording.make("CLIP"), processor=wording.processor())


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("prompt", "", "prompt is a question or a text in words, or None, not ''"),
        ("prompt", "  ", "in words"),
        ("prompt", 3, "in words, or None, not 3"),
        ("word", -1, "from 0, or None, not -1"),
        ("word", True, "not True"),
        ("word", "church", "place of a word"),
    ],
)
def test_what_says_nothing_is_refused(name: str, value: Any, words: str) -> None:
    settings = Settings()
    with pytest.raises(traitlets.TraitError, match=words):
        setattr(settings, name, value)
    assert (settings.prompt, settings.word) == (None, None)


def test_a_name_says_what_is_asked_in_words() -> None:
    assert isinstance(ready_of("embedded-reader"), Reader)
    assert isinstance(ready_of("embedded"), Model)
    own = reader()
    assert ready_of(own) is own
    with pytest.raises(OSError, match="no/such-model"):
        ready_of("no/such-model")


def test_a_reader_is_a_model_of_the_lab() -> None:
    settings = Settings()
    settings.model = own = reader()
    settings._ready = own
    assert named(own) == ""
    assert named(ready_of("embedded-reader")) == "embedded-reader"
    settings.patch_size = 15  # which only a model with patches of its own refuses
    with pytest.raises(traitlets.TraitError, match="index below 2, not 2"):
        settings.layer = 2


@pytest.mark.parametrize(
    ("wanted", "changed"),
    [
        ({}, {"method": "attention"}),
        ({"method": "grad_cam"}, {"method": "attention"}),
        ({"method": "relevance"}, {}),
        ({"method": "rollout", "prompt": "what ?"}, {}),
    ],
)
def test_words_have_methods_of_their_own(wanted: dict[str, Any], changed: dict[str, Any]) -> None:
    assert giving_way(USUAL | wanted, reader(), None) == changed


def test_after_words_attention_is_that_of_cls_again() -> None:
    model = vislab.load("embedded")
    wanted = USUAL | {"method": "attention", "prompt": "what ?"}
    assert giving_way(wanted, model, reader()) == {"method": "cls"}
    assert giving_way(wanted | {"query": (3, 4)}, model, reader()) == {}
    assert giving_way(wanted, model, model) == {}
    assert giving_way(USUAL | {"prompt": "what ?"}, model, None) == {}


def test_of_an_image_text_model_the_prompt_is_the_target() -> None:
    model, text = clip(), {"prompt": "the red door"}
    assert giving_way(USUAL | text, model, None) == {"method": "legrad", "target": "the red door"}
    assert giving_way(USUAL | text | {"method": "relevance"}, model, None) == {"target": "the red door"}
    chosen = USUAL | text | {"target": "a fish"}
    assert giving_way(chosen, model, None) == {}  # what was chosen since stays
    assert giving_way(USUAL | text | {"target": "the red door"}, vislab.load("embedded"), model) == {"target": None}
