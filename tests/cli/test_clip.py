"""Laws of `vislab figure clip.mp4`: a map of the right frame at its second, one scale or each its own, and a film."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import vislab
from vislab.cli import main

ROOT = Path(__file__).parents[2]
RATE, FRAMES = 10.0, 12
MODEL: list[vislab.Model] = []


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip that moves over a photograph; the embedded model is loaded once for all tests."""
    monkeypatch.chdir(tmp_path)
    MODEL[:] = MODEL or [vislab.load("embedded", device="cpu")]
    monkeypatch.setattr("vislab.cli.asking.load_model", lambda args: MODEL[0])
    photo = vislab.load_image(vislab.samples()["church"])
    writer = cv2.VideoWriter("clip.mp4", cv2.VideoWriter.fourcc(*"mp4v"), RATE, (128, 96))
    for number in range(FRAMES):
        writer.write(np.ascontiguousarray(photo[200 + 9 * number : 296 + 9 * number, 300:428, ::-1]))
    writer.release()


def draw(*more: str, out: str = "sheet.png", source: str = "clip.mp4") -> int:
    return main.main(["figure", source, "--out", out, "--dpi", "50", *more])


def length(path: str) -> tuple[int, float]:
    film = cv2.VideoCapture(path)
    return int(film.get(cv2.CAP_PROP_FRAME_COUNT)), film.get(cv2.CAP_PROP_FPS)


def test_a_sheet_holds_the_map_of_each_nth_frame(capsys: pytest.CaptureFixture[str]) -> None:
    assert draw("--every", "5", "--beside", "npz") == 0
    assert capsys.readouterr().out == "sheet.png\n"
    record = vislab.provenance("sheet.png")
    assert [one["facts"]["clip"] for one in record["maps"]] == [
        {"frame": number, "second": number / RATE} for number in (0, 5, 10)
    ]
    frames = list(vislab.frames("clip.mp4", every=5))
    with np.load("sheet.npz") as held:
        for n, frame in enumerate(frames):
            np.testing.assert_array_equal(held[f"values_{n}"], vislab.explain(frame.image, model=MODEL[0]).values)
    assert vislab.reproduce("sheet.png", image=frames, model=MODEL[0]).differences == ()


def test_titles_and_captions_tell_the_frame_and_its_second() -> None:
    heats = [vislab.explain(frame, model=MODEL[0]) for frame in vislab.frames("clip.mp4", every=5)]
    sheet = vislab.panel(heats)
    assert [cell.title for *_, cell in sheet.filled()] == [
        "frame 0 at 0.00 s",
        "frame 5 at 0.50 s",
        "frame 10 at 1.00 s",
    ]
    assert "frame 5 at 0.50 s" in vislab.panel(heats[1]).caption
    cut = vislab.explain(next(vislab.frames("clip.mp4")), model=MODEL[0], region=(0, 0, 64, 64))
    assert cut.facts["clip"] == {"frame": 0, "second": 0.0}
    assert "clip" not in vislab.explain(np.asarray(heats[0].image), model=MODEL[0]).facts


@pytest.mark.parametrize("out", ["sheet.png", "film.mp4"])
def test_colours_are_of_all_frames_or_of_each(out: str) -> None:
    spans = {}
    for way in ("shared", "map"):
        assert draw("--every", "4", "--normalise", way, "--beside", "json", out=out) == 0
        record = json.loads(Path(out).with_suffix(".json").read_text())
        spans[way] = [tuple(one["colours"]) for one in record["maps"]]
        assert ("colours shared by the maps" in record["caption"]) == (way == "shared")
    assert len(set(spans["map"])) == 3
    assert set(spans["shared"]) == {(min(low for low, _ in spans["map"]), max(high for _, high in spans["map"]))}


def test_a_film_lasts_as_long_as_its_clip_and_shows_its_maps() -> None:
    assert draw("--every", "2", "--beside", "json,npz", out="film.mp4") == 0
    assert length("film.mp4") == (FRAMES // 2, RATE / 2)
    record = json.loads(Path("film.json").read_text())
    assert [one["facts"]["clip"]["frame"] for one in record["maps"]] == list(range(0, FRAMES, 2))
    last = [frame.image for frame in vislab.frames("film.mp4")][-1]
    heat = vislab.explain(list(vislab.frames("clip.mp4", every=2))[-1], model=MODEL[0])
    with np.load("film.npz") as held:
        np.testing.assert_array_equal(held["values_5"], heat.values)
    # The page of the last frame is the figure of that frame, up to what the codec loses.
    page = vislab.panel(
        [heat],
        title="frame 10 at 1.00 s",
        caption=record["caption"],
        normalise=tuple(record["maps"][0]["colours"]),
        dpi=50,
    )
    vislab.save("page.png", page)
    drawn = np.asarray(Image.open("page.png").convert("RGB"))[: last.shape[0], : last.shape[1]]
    assert np.abs(drawn.astype(int) - last).mean() < 6
    assert np.abs(drawn.astype(int) - 255).mean() > 20  # a page that is not all white


def test_a_film_keeps_one_frame_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from vislab.figures import film

    made = film.pages

    def seen(heats: list[vislab.Heatmap], *rest: object, **more: object) -> object:
        assert [heat.image for heat in heats] == [None] * FRAMES
        return made(heats, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(film, "pages", seen)
    assert draw(out="film.mp4") == 0
    assert length("film.mp4")[0] == FRAMES


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        (["--every", "0"], 2, "--every: takes a whole number above 0"),
        (["--csv", "table.csv"], 2, "--csv is of photos"),
        (["--bands", "3,2,1"], 2, "--bands is of photos"),
        (["--stretch", "percentile"], 2, "--stretch is of photos"),
        (["--out", "clip.mp4"], 2, "would overwrite"),
        (["--out", "film.gif"], 2, "none of the suffixes"),
        (["--out", "film.mp4", "--transparent"], 2, "--transparent is of figures on paper"),
        (["--out", "film.mp4", "--beside", "tex"], 2, "--beside tex is of figures on paper"),
        (["--out", "film.mp4", "--dpi", "9000"], 1, "a film of .* px is beyond"),
        (["--every", "2", "--layer", "99"], 1, "no layer 99"),
    ],
)
def test_what_does_not_go_with_a_clip_is_one_sentence(
    more: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(os.listdir())
    Image.new("RGB", (8, 8)).save("other.png")
    assert draw(*more) == status
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert re.search(said, err)
    os.remove("other.png")
    assert sorted(os.listdir()) == before


def test_a_clip_goes_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save("other.png")
    assert main.main(["figure", "other.png", "clip.mp4", "--out", "figures/"]) == 2
    assert "'clip.mp4' is a clip, and 2 files are named: give one clip, alone" in capsys.readouterr().err


def test_what_goes_with_a_clip_alone_is_told_of_a_photo(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save("other.png")
    for more, out in ((["--every", "2"], "a.png"), (["--normalise", "map"], "a.png"), ([], "a.mp4")):
        assert draw(*more, out=out, source="other.png") == 2
        assert "of a clip" in capsys.readouterr().err
    assert not Path("a.png").exists()


def test_a_sheet_that_would_be_too_full_names_a_step_that_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vislab.cli.clip.SHEET", 5)
    assert draw() == 2
    assert (
        "12 frames of 'clip.mp4' are too many for one sheet, which holds 5: take --every 3" in capsys.readouterr().err
    )
    assert draw("--every", "3") == 0
    # A file that does not say how many it holds.
    monkeypatch.setattr("vislab.core.clip._announced", lambda clip: None)
    assert draw(out="other.png") == 2
    assert "more than 5 frames" in capsys.readouterr().err
    assert not Path("other.png").exists()


def test_a_damaged_clip_is_one_line_of_the_whole_process() -> None:
    """ffmpeg logs from inside OpenCV, which no Python sees."""
    Path("cut.mp4").write_bytes(Path("clip.mp4").read_bytes()[:2000])
    command = [sys.executable, "-m", "vislab", "figure", "cut.mp4", "--out", "sheet.png"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("vislab: 'cut.mp4': OpenCV finds no clip in it")
