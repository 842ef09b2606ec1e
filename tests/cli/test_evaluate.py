"""Laws of `vislab evaluate`: the table that it prints is that of vislab.evaluate, and one bad photo spoils nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image

import vislab
from vislab.cli import main
from vislab.models import load


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in a folder of two photos, with a tiny model."""
    monkeypatch.chdir(tmp_path)
    model = load.load(tiny.make("ViT classifier"))
    monkeypatch.setattr("vislab.cli.evaluate.load_model", lambda args: model)
    for name, pixels in zip("ab", np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8), strict=True):
        Image.fromarray(pixels).save(f"{name}.png")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main.main(["evaluate", *arguments])
    return status, *capsys.readouterr()


def test_the_table_is_printed_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"fill": "mean", "steps": 4, "randomised": 1, "seed": 3}
    words = [f"--{name}={value}" for name, value in options.items()]
    files = ["--csv", "table.csv", "--figure", "curves.svg"]
    status, out, err = call(capsys, "*.png", "--methods", "cls, rollout", *words, *files)
    expected = vislab.evaluate(
        ["a.png", "b.png"], model=tiny.make("ViT classifier"), methods=["cls", "rollout"], progress=False, **options
    )
    assert status == 0
    said = r"vislab: pointing is left out: .* four photos of different classes .* sees \d class(es)? in 2 photos\n"
    assert re.fullmatch(said, err)
    assert out == f"{expected}\n"
    assert Path("table.csv").read_text() == expected.csv()
    assert vislab.provenance("curves.svg")["evaluation"]["settings"]["seed"] == 3


def test_a_photo_that_cannot_be_read_is_named_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, "a.png", "missing.png", "--methods", "cls", "--steps", "2", "--randomised", "0")
    assert status == 1
    assert err.startswith("vislab: left out image 1: there is no file 'missing.png'")
    assert err.count("\n") == 2
    assert "sees 1 class in 1 photo" in err
    assert "1 image, 1 left out" in out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("a.png --methods cls,rolout", 2, "takes some of cls, rollout, .*not 'rolout'; did you mean 'rollout'"),
        ("a.png --csv table.pdf", 2, r"ends with \.csv, not 'table\.pdf'"),
        ("a.png --figure curves.npz", 1, r"written as '\.npz'"),
        ("a.png --figure nowhere/curves.pdf", 1, "no folder 'nowhere'"),
        ("b.png a.png --figure a.png", 2, "--figure 'a.png' would overwrite the photo 'a.png'"),
        ("a.png --randomised -1", 2, "randomised.*(expected|whole number)"),
        ("missing.png", 1, "none of the 1 images could be read"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: str, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = call(capsys, *words.split())
    assert (said[0], said[1]) == (status, "")
    assert re.search(message, said[2])
    assert said[2].count("\n") == 1


def test_masks_of_maps_are_measured_against_a_folder_of_drawn_ones(capsys: pytest.CaptureFixture[str]) -> None:
    Path("drawn").mkdir()
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 5:25] = 7
    Image.fromarray(mask).save("drawn/a.png")
    words = ["--masks", "drawn", "--methods", "cls", "--patch-size", "4", "--csv", "table.csv"]
    status, out, err = call(capsys, "a.png", "b.png", *words)
    model = load.load(tiny.make("ViT classifier"))
    found = vislab.evaluate_masks(
        {"a": "a.png"}, masks={"a": "drawn/a.png"}, model=model, methods=["cls"], patch_size=4
    )
    assert status == 1
    assert err == "vislab: left out b: nobody drew a mask of it\n"
    assert out.splitlines()[1:] == repr(found).splitlines()[1:]
    assert Path("table.csv").read_text() == found.csv()
    for words, says in (
        (("--masks", "nowhere"), "there is no folder 'nowhere'"),
        (("--masks", "drawn", "--figure", "curves.pdf"), "leave one of them out"),
        (("--masks", "drawn", "--ray"), "--ray is of what --masks does not measure: leave one of them out"),
    ):
        status, _, err = call(capsys, "a.png", *words)
        assert status
        assert says in err
