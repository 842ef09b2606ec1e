"""Laws of `vislab ask`: the answer on standard output, its words as a figure, one line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from readers import PICTURE, QUESTION, SAID, pair

import vislab
from vislab.cli.main import main
from vislab.language.request import LOOKS
from vislab.methods import registry


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its processor and a photo."""
    place = tmp_path_factory.mktemp("reader")
    for part in pair("LLaVA-1.5"):
        part.save_pretrained(place)
    Image.fromarray(PICTURE).save(place / "photo.png")
    return place


def call(folder: Path, *more: str) -> int:
    asked = [str(folder / "photo.png"), QUESTION, "--model", str(folder), "--device", "cpu"]
    return main(["ask", *asked, *more])


def test_the_answer_and_its_words(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "words.pdf"
    assert call(folder, "--answer", SAID, "--out", str(out)) == 0
    assert capsys.readouterr().out == f"{SAID}\n"
    record = vislab.provenance(out)
    words = ["a", "church", "lies", "left", "of", "churches", "."]
    assert [one["target"] for one in record["maps"]] == [repr(word) for word in words]
    assert {one["method"] for one in record["maps"]} == {"relevance"}
    assert call(folder, "--answer", SAID, "--shares") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines][:2] == ["a", "church"]
    assert call(folder, "--answer", SAID, "--json", "--method", "attention", "--layer", "0", "--head", "1") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["answer"] == SAID
    assert 0 < said["words"][0]["image_share"] < 1


def test_a_figure_says_which_words_of_a_long_answer_it_shows(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "words.png"
    assert call(folder, "--answer", "a church " * 13, "--out", str(out)) == 0
    assert capsys.readouterr().err == f"vislab: {out} shows the first 24 of 26 words\n"
    record = vislab.provenance(out)
    assert len(record["maps"]) == 24
    assert record["caption"].endswith("the first 24 of 26 words")
    assert call(folder, "--answer", "a church", "--out", str(out), "--beside", "tex") == 0
    assert capsys.readouterr().err == ""
    record = vislab.provenance(out)
    assert "words" not in record["caption"]
    assert record["options"]["caption"] == ""


@pytest.mark.parametrize("method", LOOKS)
def test_every_method_of_words_is_drawn_and_named(folder: Path, tmp_path: Path, method: str) -> None:
    out, layer = tmp_path / "words.png", 0 if "layer" in registry.METHODS[method].asks else -1
    more = [] if layer == -1 else ["--layer", str(layer)]
    assert call(folder, "--answer", SAID, "--out", str(out), "--method", method, *more) == 0
    record, words = vislab.provenance(out), SAID.split()
    assert [one["target"] for one in record["maps"]] == [repr(word) for word in words]
    assert {one["method"] for one in record["maps"]} == {method}
    entry = registry.METHODS[method]
    assert (entry.words or entry.label) in record["caption"]
    assert ("layer 0" in record["caption"]) == (layer == 0)
    assert ("a word's attention lies on the image" in record["caption"]) == (method != "lens")
    assert ("probability of the word" in record["caption"]) == (method == "lens")
    module, processor = pair("LLaVA-1.5")
    answer = vislab.ask(folder / "photo.png", QUESTION, model=module, processor=processor, answer=SAID)
    own = vislab.explain(answer, target="church", method=method, layer=layer)
    assert call(folder, "--answer", SAID, "--out", str(tmp_path / "words.npz"), "--method", method, *more) == 0
    with np.load(tmp_path / "words.npz") as file:
        np.testing.assert_allclose(file["values_1"], own.values, rtol=1e-4, atol=1e-7)


def test_a_figure_of_words_takes_the_options_of_figures(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "words.png"
    look = [
        "--width",
        "page",
        "--dpi",
        "100",
        "--colormap",
        "magma",
        "--opacity",
        "0.3",
        "--label",
        "",
        "--theme",
        "dark",
    ]
    assert call(folder, "--answer", SAID, "--out", str(out), *look, "--beside", "json,npz") == 0
    record = vislab.provenance(out)
    assert vislab.load_image(out).shape[1] == int(178 / 25.4 * 100)
    assert {name: record["display"][name] for name in ("colormap", "opacity", "label", "theme")} == {
        "colormap": "magma", "opacity": 0.3, "label": "", "theme": "dark",
    }  # fmt: skip
    assert "a word's attention lies on the image" in record["caption"]
    assert json.loads(out.with_suffix(".json").read_text()) == record
    assert out.with_suffix(".npz").exists()
    assert call(folder, "--answer", SAID, "--out", str(out), "--caption", "words") == 0
    assert vislab.provenance(out)["caption"] == "words"


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        (["--width", "page"], 2, "--width is of a figure: give --out too"),
        (["--out", "answers.parquet", "--grid"], 2, "--grid is of a figure, and 'answers.parquet' is a table"),
        (["--method", "grad_cam"], 2, ", ".join(map(repr, LOOKS))),
        (["--method", "lense"], 2, "did you mean 'lens'"),
        (["--method", "lens", "--head", "1"], 2, "leave --head out"),
        (["--method", "lens", "--layer", "mean"], 2, "layer is the index of a layer, not 'mean'"),
        (["--method", "rollout", "--head", "1"], 2, "'mean', 'max' or 'min'"),
        (["--layer", "1"], 2, "leave --layer out"),
        (["--out", "words.txt"], 2, "--out takes .png"),
        (["--answer", " "], 1, "answer is a text to explain"),
        (["--tokens", "0"], 2, "above 0"),
    ],
)
def test_what_cannot_be_is_one_line(
    folder: Path, more: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(folder, *more) == status
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
