"""Laws of advice in a terminal: it names options where there is one, and calls Python what no option does."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from vislab.cli import look, main
from vislab.cli.wording import in_options
from vislab.figures import panel

NAMES = "method image-size target fovea bands stretch trust box labels model keep merge layer patch attention-scale"
FIGURE = tuple(f"--{name}" for name in (*NAMES.split(), "detector"))


@pytest.mark.parametrize(
    ("python", "terminal"),
    [
        ("take method='otsu' or 'share'", "take --method otsu or 'share'"),
        ("give a JPEG or BMP, or its pixels as an array (H, W, 3)", "give a JPEG or BMP"),
        ("such as bands=(1, 2, 3)", "such as --bands 1,2,3"),
        ("give one, stretch=(low, high)", "give one, --stretch low,high"),
        ("say it, labels=['a church', 'a fish']", 'say it, --labels "a church, a fish"'),
        ("say trust=True (--trust in a terminal)", "say --trust (--trust in a terminal)"),
        ("leave keep, merge and fovea out, or", "leave --keep, --merge and --fovea out, or"),
        ("fovea='box' asks a detector", "--fovea box asks a detector"),
        ("leave image_size and scales out", "leave --image-size and scales out"),
        ("no attention to scale: leave attention_scale out", "no attention to scale: leave --attention-scale out"),
        ("which say which with box=", "which say which with --box"),
        ("or take a plain ViT, such as vislab.load('embedded')", "or take a plain ViT, such as --model embedded"),
        ("needs neither: vislab.load_detector('embedded')", "needs neither: --detector embedded"),
        ("among the boxes of vislab.detect, from 0", "among the boxes of vislab detect, from 0"),
        (
            "give it labels, vislab.load(…, labels=['a', 'b'])",
            "give it labels, in Python vislab.load(…, labels=['a', 'b'])",
        ),
        ("in Python vislab.load(module, grid=…)", "in Python vislab.load(module, grid=…)"),
        ("with a target=0.5 of it", "with a --target 0.5 of it"),
        ("it has no layer, leave it out", "it has no layer, leave --layer out"),
        ("asks what CLS attends to: leave query out", "asks what CLS attends to: leave --patch out"),
        ("leave out the target", "leave out the target"),
        ("--image-size and pre-method=1", "--image-size and pre-method=1"),
        ("'my target.jpg': no image", "'my target.jpg': no image"),
    ],
)
def test_keywords_are_said_as_options(python: str, terminal: str) -> None:
    assert in_options(python, FIGURE) == terminal
    assert in_options(terminal, FIGURE) == terminal


def test_a_command_that_has_no_such_option_leaves_the_keyword() -> None:
    assert in_options("take method='otsu'", ["--out"]) == in_options("take method='otsu'", []) == "take method='otsu'"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["figure", "missing.tif", "--target", "church", "--out", "f.png"], "leave --target out, or take one of"),
        (
            ["figure", "missing.jpg", "--scales", "224", "--image-size", "224"],
            "leave --image-size out",
        ),
    ],
)
def test_a_command_says_its_own_options(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assets = "assets/images/church.jpg"
    assert main.main([assets if one.startswith("missing") else one for one in words]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert not re.search(r"\b\w+=\S", told)


@pytest.mark.parametrize("command", ["detect", "figure"])
@pytest.mark.parametrize("name", ["yolo12s.pt", "nobody/detr", "elsewhere/yolo12s.pt", "nothing"])
def test_a_detector_that_does_not_come_is_told_without_python(
    command: str, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    words = [command, "assets/images/church.jpg", "--detector", name, "--out", str(tmp_path / "f.png")]
    assert main.main(words) == 1
    told = capsys.readouterr().err
    assert "embedded" in told or "official name" in told
    assert not re.search(r"vislab\.|Python|\w=", told)


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["--width", "colum"], "column"),
        (["--head", "maen"], "mean"),
        (["--device", "cdua"], "cuda"),
        (["--model", "embeded"], "embedded"),
        (["--detector", "embeded"], "embedded"),
        (["--colormap", "virids"], "viridis"),
        (["--keep-by", "centr"], "centre"),
        (["--beside", "jsn"], "json"),
    ],
)
def test_a_misspelt_choice_is_answered_by_the_right_one(
    words: list[str], near: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main.main(["figure", "assets/images/church.jpg", *words, "--out", str(tmp_path / "f.png")]) in (1, 2)
    assert f"did you mean {near!r}" in capsys.readouterr().err


def test_every_command_tells_its_options() -> None:
    parser = main._parser()
    [commands] = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    for name in commands.choices:
        assert {"--help", "--debug"} <= set(main._options(parser, name))


def test_commands_that_write_figures_share_their_options() -> None:
    parser = main._parser()
    for command, names in {
        "figure": look.ALL, "ask": look.ALL, "detect": look.OF_PHOTOS, "segment": look.OF_PHOTOS, "evaluate": ("dpi",)
    }.items():  # fmt: skip
        assert {f"--{name}" for name in names} <= {*main._options(parser, command)}
    assert {*look.ALL} == {*panel.OPTIONS} - {"rows", "columns", "title", "detections", "normalise", "threshold"}
