"""Laws of `vislab figure --box`: its maps are those of `vislab.explain_box`, with the box drawn and in the record."""

from __future__ import annotations

import re
from pathlib import Path

import detecting
import numpy as np
import pytest
from PIL import Image

import vislab
from vislab.cli.main import main

OWN = ["--detector", "mine.pt", "--trust", "--image-size", "96x160"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = detecting.folder_of(tmp_path_factory.mktemp("boxes"))
    Image.fromarray(np.roll(detecting.PHOTO, 9, 1)).save(path / "other.png")
    return path


@pytest.fixture(autouse=True)
def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.mark.parametrize(("method", "asked"), [("attention", {"layer": 1, "head": 0}), ("grad_cam", {})])
def test_a_figure_of_a_box_is_the_map_of_that_box(method: str, asked: dict[str, int]) -> None:
    words = [one for name, value in asked.items() for one in (f"--{name}", str(value))]
    assert main(["figure", "photo.png", *OWN, "--box", "1", "--method", method, *words, "--out", "box.npz"]) == 0
    detector = vislab.load_detector("mine.pt", trust=True)
    heat = vislab.explain_box(detecting.PHOTO, box=1, detector=detector, method=method, image_size=(96, 160), **asked)
    with np.load("box.npz") as file:
        assert np.array_equal(file["values"], heat.values)
    box = vislab.detect(detecting.PHOTO, detector=detector, image_size=(96, 160), confidence=0.001)[1]
    drawn = vislab.provenance("box.npz")["maps"][0]["facts"]["box"]
    assert (drawn["label"], drawn["score"]) == (box.labels[0], pytest.approx(float(box.scores[0])))
    assert drawn["xyxy"] == pytest.approx(box.xyxy[0])


def test_each_photo_of_several_has_its_own_box_and_the_python_finds_it_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["figure", "photo.png", "other.png", *OWN, "--box", "0", "--out", "maps/{name}-{method}.png"]
    assert main([*words, "--workers", "0"]) == 0
    assert capsys.readouterr().out.split() == ["maps/photo-box-0.png", "maps/other-box-0.png"]
    one, other = (vislab.provenance(f"maps/{name}-box-0.png")["maps"][0]["facts"]["box"] for name in ("photo", "other"))
    assert one != other
    assert main(["show", "maps/photo-box-0.png"]) == 0
    told = capsys.readouterr().out.replace("[96, 160]", "(96, 160)")
    assert re.search(rf"^boxes +{one['label']} {one['score']:.2f}$", told, re.M)
    assert "vislab.explain_box(image, detector='mine.pt', method='attention', box=0, image_size=(96, 160))" in told


def test_a_page_and_a_plain_picture_show_the_box_and_without_it_where_that_is_asked() -> None:
    heat = vislab.explain_box(detecting.PHOTO, box=1, detector=vislab.load_detector("mine.pt", trust=True))
    assert main(["figure", "photo.png", *OWN[:3], "--box", "1", "--plain", "--out", "plain.png"]) == 0
    plain = vislab.load_image("plain.png")
    assert np.array_equal(plain, vislab.overlay(heat))
    assert not np.array_equal(plain, vislab.overlay(heat, detections=()))


def test_a_figure_without_a_name_is_called_after_photo_and_box(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figure", "photo.png", *OWN, "--method", "grad_cam"]) == 0
    assert capsys.readouterr().out == "photo-box-0-grad_cam.png\n"
    assert Path("photo-box-0-grad_cam.png").exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--box", "0", "--model", "mine"], 2, "--model is of a model, and its name is --detector"),
        (["--box", "0", "--target", "church"], 2, "--target is of a model"),
        (["--box", "0", "--residual", "0.4"], 2, "--residual is of a model"),
        (["--box", "0", "--keep", "0.5"], 2, "--keep is of a model"),
        (["--box", "0", "--method", "rollout"], 2, "--box takes --method attention or grad_cam"),
        (["--labels", "a fish"], 2, "--labels is of a detector: give --detector too"),
        (["--detector", "mine.pt"], 1, "mine.pt is a pickle"),
        ([*OWN, "--box", "100000"], 1, "'photo.png': no box 100000: mine.pt found"),
    ],
)
def test_what_is_of_a_model_is_none_of_a_box(
    words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["figure", "photo.png", *words, "--out", "refused.png"]) == status
    assert said in capsys.readouterr().err
    assert not Path("refused.png").exists()


def test_a_box_that_detect_would_not_show_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    church = ["figure", str(vislab.samples()["church"]), "--out", "church.png"]
    assert main([*church, "--box", "7"]) == 0
    assert re.search(r"church.jpg: box 7 has a score of 0\.0\d+ only", capsys.readouterr().err)
    assert main([*church, "--box", "0"]) == 0
    assert "has a score of" not in capsys.readouterr().err
