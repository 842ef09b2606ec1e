"""Laws of `vislab ask`: the answer on standard output, its words as a figure, one line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from readers import PICTURE, QUESTION, SAID, pair

import vislab
from vislab.cli.main import main


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


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
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
