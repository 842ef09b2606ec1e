"""Laws of `vislab detect`: what it prints and draws is what `vislab.detect` finds."""

from __future__ import annotations

import json
from pathlib import Path

import detecting
import numpy as np
import pytest
import torch
from PIL import Image

import vislab
from vislab.cli.main import main
from vislab.figures import boxes as figures_boxes

SETTINGS = ["--detector", "mine.pt", "--trust", "--image-size", "96x160"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return detecting.folder_of(tmp_path_factory.mktemp("detect"))


@pytest.fixture(autouse=True)
def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def expected(confidence: float, scale: float = 1.0) -> vislab.Detections:
    detector = vislab.load_detector("mine.pt", trust=True)
    how = {"confidence": confidence, "image_size": (96, 160), "attention_scale": scale}
    return vislab.detect(detecting.PHOTO, detector=detector, **how)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_json_holds_the_boxes(capsys: pytest.CaptureFixture[str], scale: float) -> None:
    assert (
        main(["detect", "photo.png", *SETTINGS, "--confidence", "0.4", "--json", "--attention-scale", str(scale)]) == 0
    )
    found, boxes = json.loads(capsys.readouterr().out), expected(0.4, scale)
    assert [one["label"] for one in found] == list(boxes.labels)
    assert [one["score"] for one in found] == pytest.approx(boxes.scores, abs=1e-4)
    assert np.array([one["xyxy"] for one in found]) == pytest.approx(boxes.xyxy, abs=0.051)


@pytest.mark.parametrize(("name", "part"), [("yolo11n-pose", "keypoints"), ("yolo11n-obb", "corners")])
def test_json_holds_keypoints_and_turned_corners(name: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": detecting.yolo(name).model}, f"{name}.pt")
    words = ["--detector", f"{name}.pt", "--trust", "--image-size", "160", "--json"]
    assert main(["detect", "photo.png", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    boxes = vislab.detect(detecting.PHOTO, detector=vislab.load_detector(f"{name}.pt", trust=True), image_size=160)
    assert np.array([one[part] for one in found]) == pytest.approx(getattr(boxes, part), abs=0.006)


def test_the_table_has_a_line_for_each_box(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "photo.png", *SETTINGS, "--confidence", "0.4"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    boxes = expected(0.4)
    assert first == boxes.summary == f"mine.pt found {len(boxes)} boxes above 0.4"
    assert len(lines) == len(boxes) > 1
    for line, score, label in zip(lines, boxes.scores, boxes.labels, strict=True):
        assert line.startswith(f"{score:.2f}  {label}  ")


def test_the_picture_is_the_photo_with_its_boxes() -> None:
    assert main(["detect", "photo.png", *SETTINGS, "--confidence", "0.4", "--out", "boxes.png"]) == 0
    drawn = np.asarray(Image.open("boxes.png"))
    assert np.array_equal(drawn, figures_boxes.with_boxes(detecting.PHOTO, expected(0.4)))


def test_the_options_of_a_page_are_those_of_figures() -> None:
    look = ["--width", "column", "--dpi", "100", "--caption", "", "--theme", "dark"]
    assert main(["detect", "photo.png", *SETTINGS, "--confidence", "0.4", *look, "--out", "page.png"]) == 0
    page = np.asarray(Image.open("page.png").convert("RGB"))
    assert page.shape[1] == int(85 / 25.4 * 100)
    assert (page[0, 0] == 0x12).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "pdf", "svg"])
@pytest.mark.parametrize("look", [[], ["--width", "60", "--caption", "found", "--dpi", "90"]])
def test_every_picture_says_how_its_boxes_were_found(
    suffix: str, look: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SETTINGS, "--confidence", "0.4", "--attention-scale", "0.5", "--out", f"found.{suffix}", *look]
    assert main(["detect", "photo.png", *words]) == 0
    capsys.readouterr()
    assert main(["show", f"found.{suffix}"]) == 0
    told, boxes = capsys.readouterr().out, expected(0.4, 0.5)
    assert "detector mine.pt, confidence 0.4, image size [96, 160], attention scale 0.5" in told
    for label, score in zip(boxes.labels, boxes.scores, strict=True):
        assert f"{label} {score:.2f}" in told
    python = told.split("makes it again:\n")[1].replace("'photo.jpg'", "'photo.png'")
    vislab.cache().clear()
    python = python.replace("confidence=0.4", "confidence=0.4, trust=True").replace("figure.", "again.")
    exec(python, {})
    assert Path(f"again.{suffix}").read_bytes() == Path(f"found.{suffix}").read_bytes()
    assert main(["reproduce", f"found.{suffix}"]) == 1
    assert "shows boxes alone" in capsys.readouterr().err


def test_nothing_found_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "photo.png", *SETTINGS, "--confidence", "0.99999"]) == 0
    assert capsys.readouterr().out == "mine.pt found no boxes above 0.99999\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["photo.png", "--detector", "mine.pt"], 1, "mine.pt is a pickle, which can run anything"),
        (["photo.png", "--out", "boxes.npz"], 2, "--out takes .png, .jpg, .jpeg, .pdf, .svg, not 'boxes.npz'"),
        (["photo.png", "--out", "nowhere/boxes.png"], 1, "there is no folder 'nowhere': make it first"),
        (["photo.png", "--out", "./photo.png"], 2, "--out './photo.png' would overwrite the photo"),
        (["photo.png", "--confidence", "2"], 2, "takes a number from 0 to 1"),
        (["photo.png", "--width", "page"], 2, "--width is of a figure: give --out too, or leave it out"),
        (["photo.png", "--width", "pge", "--out", "boxes.pdf"], 2, "did you mean 'page'?"),
        (["photo.png", "--transparent", "--out", "boxes.jpg"], 2, "JPEG knows no transparency"),
        (["nowhere.png"], 1, "there is no file 'nowhere.png'"),
    ],
)
def test_errors_are_said(arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", *arguments]) == status
    assert message in capsys.readouterr().err
