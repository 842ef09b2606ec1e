"""Laws of `vislab segment`: what it prints and writes is what `vislab.segment` finds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import detecting
import numpy as np
import prompted
import pytest
import torch
from PIL import Image

import vislab
from vislab.cli.main import main

CHURCH = str(vislab.samples()["church"])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["segment", *arguments])
    return status, *capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", {}),
        ("--method kmeans --clusters 3 --seed 5", {"method": "kmeans", "clusters": 3, "seed": 5}),
        ("--method threshold --level 0.7 --patch-size 32", {"method": "threshold", "level": 0.7, "patch_size": 32}),
    ],
)
def test_json_and_files_hold_the_masks(words: str, options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    masks = vislab.segment(CHURCH, **options)
    status, out, err = call(capsys, CHURCH, *words.split(), "--json", "--out", "masks.npz")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert (found["method"], found["model"]) == (masks.method, "embedded")
    assert [one["label"] for one in found["masks"]] == list(masks.labels)
    assert [one["xyxy"] for one in found["masks"]] == masks.boxes.tolist()
    assert np.array_equal(vislab.load_masks("masks.npz").masks, masks.masks)


def test_the_mask_of_a_map_for_a_class_is_drawn_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--map relevance --target church --method share --level 0.8 --opacity 0.4 --out masks.png"
    status, out, _ = call(capsys, CHURCH, *words.split())
    heat = vislab.explain(CHURCH, method="relevance", target="church")
    masks = vislab.segment(heat, method="share", level=0.8)
    assert status == 0
    first, line = out.splitlines()
    assert first == str(masks)
    assert line.startswith(f"{masks.scores[0]:.2f}  church  {masks.masks.mean():.1%}  ")
    assert np.array_equal(np.asarray(Image.open("masks.png")), masks.overlay(opacity=0.4))
    assert main(["show", "masks.png"]) == 0
    assert re.search(r"masks +1 by share \(level 0.8\) on relevance", capsys.readouterr().out)


def test_masks_stand_on_a_page_where_one_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    words = [CHURCH, "--method", "kmeans", "--clusters", "2"]
    assert call(capsys, *words, "--out", "own.jpg")[0] == 0
    assert vislab.load_image("own.jpg").shape == vislab.load_image(CHURCH).shape
    look = ["--width", "column", "--theme", "dark", "--dpi", "100", "--caption", "two regions"]
    for suffix in ("png", "pdf"):
        assert call(capsys, *words, *look, "--out", f"page.{suffix}")[0] == 0
        assert vislab.provenance(f"page.{suffix}")["caption"] == "two regions"
    page = vislab.load_image("page.png")
    assert page.shape[1] == int(85 / 25.4 * 100)
    assert (page[0, 0] == 0x12).all()


def test_masks_are_measured_against_regions_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    masks = vislab.segment(CHURCH, method="kmeans", clusters=2)
    Image.fromarray(masks.masks[1].astype(np.uint8)).save("drawn.png")
    words = ["--method", "kmeans", "--clusters", "2", "--against", "drawn.png"]
    assert call(capsys, CHURCH, *words)[1].splitlines()[-1] == (
        "region 1, cluster 1: IoU 1.000, Dice 1.000, pixel accuracy 1.000, boundary F 1.000"
    )
    found = json.loads(call(capsys, CHURCH, *words, "--json")[1])["against"]
    exact = {"iou": 1, "dice": 1, "pixel_accuracy": 1, "boundary_f": 1}
    assert found == [{"region": "1", "mask": 1, "label": "cluster 1", **exact}]
    Image.fromarray((masks.masks[1] * 2 + masks.masks[0]).astype(np.uint8)).save("drawn.png")
    assert call(capsys, CHURCH, *words)[1].splitlines()[-1].startswith("mean of 2 regions: IoU 1.000")
    Image.fromarray(np.zeros(masks.masks.shape[1:], np.uint8)).save("drawn.png")
    assert call(capsys, CHURCH, *words)[1].splitlines()[-1] == "the mask file has no region to measure against"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("--out masks.gif", 2, r"--out takes \.png, \.jpg, \.jpeg, \.pdf, \.svg, \.npz, not 'masks\.gif'"),
        ("--out masks.npz --width page", 2, "--width is of a page, and an .npz holds the masks themselves"),
        ("--out nowhere/masks.png", 1, "there is no folder 'nowhere'"),
        ("--method kmean", 2, "did you mean 'kmeans'"),
        ("--method kmeans --level 0.5", 2, "--level is an option of --method threshold and share"),
        ("--method tokencut --map cls", 2, "makes masks of no heatmap: leave --map out"),
        ("--method instance", 1, "take --method otsu"),
        ("--method tokencut --tau 2", 1, "tau is a cosine"),
        ("--map relevance --target chruch", 1, "did you mean 'church'"),
        ("--against nowhere.png", 1, "there is no file 'nowhere.png'"),
        ("--against small.png", 1, "1024×683 px, and the others 4×3"),
        ("--model embeded", 1, "embeded"),
        ("--point 10,20", 1, "embedded takes no points or boxes: leave them out, or take a model that does"),
        ("--model nobody/nothing --point 10,20", 1, "cannot load 'nobody/nothing'"),
        ("--point 10 20", 2, "--point: takes X,Y, such as 10,20, not '10'"),
        ("--box 10,20", 2, "--box: takes X0,Y0,X1,Y1, such as 10,20,110,90, not '10,20'"),
        ("--candidates", 2, "--candidates are those of a --point or --box: give one"),
        ("--box 1,1,9,9 --detector embedded", 2, "give one of them"),
        ("--point 10,20 --map cls", 2, "leave --map out"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_of_the_terminal(
    words: str, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.ones((3, 4), np.uint8)).save("small.png")
    said = call(capsys, CHURCH, *words.split())
    assert (said[0], said[1]) == (status, "")
    assert re.search(message, said[2])
    assert said[2].count("\n") == 1
    assert not re.search(r"method=|_size|vislab\.", said[2].replace("vislab.load(", ""))


def test_a_network_of_ultralytics_makes_masks_once_it_is_trusted(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": detecting.yolo("yolo11n-seg").model}, "mine.pt")
    Image.fromarray(detecting.PHOTO).save("photo.png")
    words = ["photo.png", "--model", "mine.pt", "--image-size", "160"]
    assert call(capsys, *words)[2].startswith("vislab: mine.pt is a pickle, which can run anything")
    status, out, _ = call(capsys, *words, "--trust", "--json", "--out", "masks.npz")
    masks = vislab.segment(detecting.PHOTO, model="mine.pt", trust=True, image_size=160)
    assert status == 0
    assert len(json.loads(out)["masks"]) == len(masks) > 1
    assert np.array_equal(vislab.load_masks("masks.npz").masks, masks.masks)
    status, _, err = call(capsys, *words, "--trust", "--method", "kmeans")
    assert (status, err) == (1, "vislab: mine.pt gives instance masks, not kmeans ones\n")


def test_a_photo_is_not_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 40)).save("photo.png")
    assert call(capsys, "photo.png", "--out", "./photo.png")[0] == 2


def test_the_mask_of_a_point_or_a_detectors_box(capsys: pytest.CaptureFixture[str]) -> None:
    module, processor = prompted.sam2()
    module.save_pretrained("sam2")
    processor.save_pretrained("sam2")
    capsys.readouterr()
    words = [CHURCH, "--model", "sam2"]
    status, out, err = call(capsys, *words, "--point", "500,300", "--outside", "20,20.5", "--out", "masks.npz")
    masks = vislab.segment(CHURCH, model="sam2", points=[(500, 300)], outside=[(20, 20.5)])
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == str(masks)
    assert np.array_equal(vislab.load_masks("masks.npz").masks, masks.masks)
    boxes = vislab.detect(CHURCH)
    call(capsys, *words, "--detector", "embedded", "--out", "masks.npz")
    found = vislab.load_masks("masks.npz")
    assert np.array_equal(found.masks, vislab.segment(CHURCH, model="sam2", boxes=boxes).masks)
    assert found.labels == boxes.labels
    told = call(capsys, *words, "--box", "100,100,500,400", "--candidates", "--json")[1]
    assert [one["label"] for one in json.loads(told)["masks"]] == [f"box 1, candidate {i}" for i in (1, 2, 3)]
    for more, says in {
        "": "makes the mask of what it is shown: give --point X,Y or --box X0,Y0,X1,Y1\n",
        "--point 5000,20": "--point: (5000, 20) lies beside the image, which is 1024×683 px",
        "--point nan,20": "--point is a list of (x, y)",
        "--point 50,20 --method tokencut": "leave --method out",
        "--point 50,20 --refine": "leave --refine out",
    }.items():
        status, out, err = call(capsys, *words, *more.split())
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert says in err
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save("black.png")
    err = call(capsys, "black.png", "--model", "sam2", "--detector", "embedded")[2]
    assert err == "vislab: embedded finds no box in this photo: give --box X0,Y0,X1,Y1\n"
