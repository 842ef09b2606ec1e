"""What the embedded reader says of scenes that it was never shown, and where its words look: nothing of Imagenette."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from transformers import AutoModelForImageTextToText

import vislab
from vislab.cli.main import main
from vislab.core.files import assets
from vislab.language.forecast import forecast, is_reader

PLACES = ("top left", "top right", "bottom left", "bottom right")
SIDE, PICTURE = 448, 176  # pixels


@cache
def scene(place: int | None, ground: str = "moose", side: int = SIDE) -> np.ndarray:
    """A church in the middle of a quarter of blurred ground, or the ground alone."""
    photos = vislab.samples()
    blurred = Image.open(photos[ground]).convert("RGB").resize((112, 112)).filter(ImageFilter.GaussianBlur(4))
    made = blurred.resize((SIDE, SIDE))
    if place is not None:
        corner = tuple(half * SIDE // 2 + (SIDE // 2 - PICTURE) // 2 for half in (place % 2, place // 2))
        made.paste(Image.open(photos["church"]).convert("RGB").resize((PICTURE, PICTURE)), corner)
    return np.asarray(made.resize((side, side)))


@cache
def said(question: str, place: int | None, ground: str = "moose") -> vislab.Answer:
    return vislab.ask(scene(place, ground), question, model="embedded-reader", device="cpu")


def in_quarters(heat: vislab.Heatmap) -> np.ndarray:
    """The share of a map in each quarter of the image, in the order of PLACES -> (4,)"""
    rows, cols = heat.values.shape
    parts = heat.values.reshape(2, rows // 2, 2, cols // 2).sum((1, 3)).ravel()
    return np.asarray(parts / parts.sum())


@pytest.mark.parametrize("ground", ["moose", "coffee"])
@pytest.mark.parametrize("place", range(4), ids=PLACES)
def test_it_names_what_is_at_a_place_and_finds_what_is_named(place: int, ground: str) -> None:
    assert said(f"what is at the {PLACES[place]} ?", place, ground).text == "a church ."
    answer = said("where is the church ?", place, ground)
    assert answer.text == f"{PLACES[place]} ."
    assert answer.finished


@pytest.mark.parametrize("name", ["tench", "parachute"])
@pytest.mark.parametrize("place", range(4), ids=PLACES)
def test_what_is_not_there_is_nowhere(place: int, name: str) -> None:
    assert said(f"where is the {name} ?", place).text == "nowhere ."


@pytest.mark.parametrize("place", range(4), ids=PLACES)
def test_nothing_is_at_an_empty_place(place: int) -> None:
    assert said(f"what is at the {PLACES[place]} ?", 3 - place).text == "nothing ."


def test_letters_are_read_in_any_case_and_marks_with_or_without_a_space() -> None:
    own = said("where is the church ?", 1)
    for question in ("Where is the Church?", "WHERE IS THE CHURCH ?"):
        answer = said(question, 1)
        assert answer.ids.equal(own.ids)
        assert answer.text == own.text


@pytest.mark.parametrize("question", ["what is at the {place} ?", "where is the church ?"])
@pytest.mark.parametrize("place", range(4), ids=PLACES)
def test_its_words_look_at_the_quarter_they_speak_of(place: int, question: str) -> None:
    answer = said(question.format(place=PLACES[place]), place)
    for number, word in enumerate(answer.words):
        if word.text in f"church {PLACES[place]}":
            shares = in_quarters(vislab.explain(answer, target=number, method="attention", layer=-1))
            assert shares[place] > 0.7
            assert shares.argmax() == place


def test_relevance_through_the_tower_finds_the_church() -> None:
    for place in range(4):
        heat = vislab.explain(said(f"what is at the {PLACES[place]} ?", place), target="church")
        assert heat.facts["tower"] == "through the vision tower"
        assert in_quarters(heat).argmax() == place


def test_the_place_that_a_word_looks_at_is_what_it_rests_on() -> None:
    there, gone = said("where is the church ?", 0), said("where is the church ?", None)
    assert (there.text, gone.text) == ("top left .", "nowhere .")


def test_rows_are_the_models_own_eager_attention() -> None:
    answer = said("where is the church ?", 2)
    folder = assets() / "models" / "reader-imagenette"
    eager = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    inputs = dict(answer.inputs) | {
        "input_ids": answer.ids[None, :-1],
        "attention_mask": torch.ones_like(answer.ids[None, :-1]),
    }
    with torch.inference_mode():
        own = eager.eval()(**inputs, output_attentions=True).attentions
    for site, layer in zip(answer.sites, own, strict=True):
        rows = answer.capture.attention(site, slice(None))
        torch.testing.assert_close(rows, layer, rtol=0, atol=1e-5)
        torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]))
    np.testing.assert_allclose(answer.shares.sum(-1), 1, atol=1e-5)
    assert answer.places.count == len(answer.image_tokens) == 1008


@pytest.mark.parametrize("side", [224, 900])
def test_a_picture_of_another_size_is_fitted(side: int) -> None:
    answer = vislab.ask(scene(1, side=side), "where is the church ?", device="cpu")
    assert answer.text == "top right ."
    heat = vislab.explain(answer, target="right", method="attention")
    assert heat.image.shape == (side, side, 3)
    assert in_quarters(heat).argmax() == 1


def test_it_is_what_ask_takes_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "scene.png"
    Image.fromarray(scene(0)).save(photo)
    assert main(["ask", str(photo), "where is the church ?"]) == 0
    assert capsys.readouterr().out == "top left .\n"


def test_its_tokens_are_told_without_weights() -> None:
    told = forecast("embedded-reader", scene(0))
    assert is_reader("embedded-reader")
    assert (told["image_tokens"], told["views"], told["ends"], told["layers"], told["heads"]) == (1008, 5, 28, 4, 4)


def test_it_has_no_classes_to_load() -> None:
    with pytest.raises(ValueError, match=r"embedded-reader has no classes, .*vislab\.ask\(image"):
        vislab.load("embedded-reader")
