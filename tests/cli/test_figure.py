"""Laws of `vislab figure` over many photos: nothing is lost, nothing done twice, and every photo is accounted for."""

from __future__ import annotations

import argparse
import csv
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import wording
from PIL import Image

import vislab
from vislab.cli import asking, batch, figure, main
from vislab.figures import task, worker
from vislab.models import load, model
from vislab.spread import table as spread_table

ROOT = Path(__file__).parents[2]
NAMES = ["a", "b", "c", "sub/d"]
LOADED: dict[str, vislab.Model] = {}
WORKERS_OF = figure.workers_of


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four photos in a folder, one of them in a subfolder; the embedded model is loaded once for all tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vislab.models.load.fastest", lambda: "cpu")
    monkeypatch.setattr("vislab.cli.figure.workers_of", lambda args, _: args.workers or 0)  # none unless asked for
    named = load._named
    monkeypatch.setattr(
        "vislab.models.load._named", lambda name, *how: LOADED.get(name) or LOADED.setdefault(name, named(name, *how))
    )
    for k, name in enumerate(NAMES):
        path = Path("photos", f"{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (32, 48, 3), np.uint8)).save(path)
    Path("photos", "notes.txt").write_text("no photo")


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each forward that is made."""
    made: list[object] = []
    run = model.Model.run
    monkeypatch.setattr(model.Model, "run", lambda *a, **k: made.append(a) or run(*a, **k))
    return made


def draw(*more: str, out: str = "out", photos: str = "photos") -> int:
    return main.main(["figure", photos, "--out", out, "--csv", "table.csv", "--dpi", "50", *more])


def files(folder: str = "out") -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(Path("table.csv").read_text().splitlines()))


@pytest.mark.slow
def test_a_folder_is_drawn_with_its_subfolders(forwards: list[object]) -> None:
    assert draw("--beside", "npz,json") == 0
    assert sorted(files()) == sorted(f"{name}{suffix}" for name in NAMES for suffix in (".png", ".npz", ".json"))
    assert len(forwards) == len(NAMES)
    table = rows()
    assert [Path(row["photo"]).as_posix() for row in table] == [f"photos/{name}.png" for name in NAMES]
    with np.load("out/sub/d.npz") as held:
        values = held["values"]
    assert float(table[3]["highest"]) == pytest.approx(values.max(), rel=1e-5)
    [(label, probability)] = LOADED["embedded"].predict("photos/sub/d.png", top=1)
    assert table[3]["label_1"] == label
    assert float(table[3]["probability_1"]) == pytest.approx(probability, rel=1e-4)


@pytest.mark.slow
def test_what_is_done_is_not_done_again(forwards: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    draw()
    first, table, out = files(), Path("table.csv").read_bytes(), capsys.readouterr().out
    forwards.clear()
    Path("table.csv").unlink()
    assert draw() == 0
    assert forwards == []
    assert files() == first
    assert Path("table.csv").read_bytes() == table
    assert capsys.readouterr().out == out
    Path("out", "b.png").unlink()
    assert draw() == 0
    assert len(forwards) == 1
    assert files() == first


@pytest.mark.slow
@pytest.mark.parametrize("change", ["settings", "photo", "file", "beside", "weights"])
def test_what_is_no_longer_right_is_done_again(change: str, forwards: list[object]) -> None:
    draw()
    before = files()
    forwards.clear()
    match change:
        case "settings":
            draw("--method", "cls")
        case "photo":
            Path("photos/a.png").write_bytes(Path("photos/b.png").read_bytes())
            draw()
        case "file":
            Path("out/a.png").write_bytes(before["a.png"][:1000])
            draw()
        case "beside":
            draw("--beside", "npz")
        case "weights":
            with torch.no_grad():
                LOADED["embedded"].module.classifier.bias.add_(1)
            draw()
            del LOADED["embedded"]
    assert len(forwards) == {"photo": 1, "file": 1}.get(change, len(NAMES))
    assert (files() == before) == (change == "file")


def test_a_bad_photo_is_told_in_the_table_and_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos/b.png").write_bytes(Path("photos/b.png").read_bytes()[:200])
    assert draw() == 1
    said = capsys.readouterr()
    assert "b.png" in said.err
    assert "b.png" not in said.out
    table = {row["photo"]: row for row in rows()}
    assert len(table) == len(NAMES)
    assert [bool(row["error"]) for row in table.values()] == [False, True, False, False]
    assert sorted(files()) == ["a.png", "c.png", "sub/d.png"]


@pytest.mark.slow
def test_an_interrupted_batch_goes_on_where_it_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    """Killed between two photos and in the middle of a write, it ends with the files of a run without a break."""
    command = [sys.executable, "-c", "import sys; from vislab.cli.main import main; sys.exit(main())"]
    command += ["figure", "photos", "--out", "out", "--csv", "table.csv", "--dpi", "50", "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert [running.stdout.readline() for _ in range(2)] == ["out/a.png\n", "out/b.png\n"]
        running.send_signal(signal.SIGKILL)
    half = Path("out", f".c.png.{running.pid}.part")  # what a write leaves that is cut short
    half.write_bytes(b"\x89PNG")
    made = {name: Path("out", name).stat().st_mtime_ns for name in ("a.png", "b.png")}
    assert draw() == 0
    assert {name: Path("out", name).stat().st_mtime_ns for name in made} == made
    resumed, table = files(), Path("table.csv").read_text()
    assert not half.exists()
    assert draw(out="whole") == 0
    assert resumed == files("whole")
    assert Path("table.csv").read_text().replace("whole", "out") == table


def test_ctrl_c_keeps_the_table_of_what_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    explained = asking.Asker.explained

    def third(self: asking.Asker, name: str, image: np.ndarray) -> vislab.Heatmap:
        if name.endswith("c.png"):
            raise KeyboardInterrupt
        return explained(self, name, image)

    monkeypatch.setattr(asking.Asker, "explained", third)
    assert draw() == main.INTERRUPTED
    assert sorted(files()) == ["a.png", "b.png"]
    assert len(rows()) == 2


@pytest.mark.slow
def test_processes_draw_what_one_draws_in_the_same_order(capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos/b.png").write_bytes(b"")
    assert draw("--workers", "2", "--beside", "npz,json") == 1
    told, table = capsys.readouterr(), Path("table.csv").read_text()
    assert draw("--workers", "0", "--beside", "npz,json", out="one") == 1
    alone = capsys.readouterr()
    assert files() == files("one")
    assert told.out == alone.out.replace("one/", "out/") != ""
    assert told.err == alone.err
    assert table == Path("table.csv").read_text().replace("one/", "out/")


@pytest.mark.slow
def test_a_process_killed_among_many_photos_loses_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, fatal = worker.Worker.run, ["b.png", "c.png", "c.png"]

    def fragile(self: worker.Worker, task: task.Task) -> worker.Answer:
        if task.path.name in fatal:
            fatal.remove(task.path.name)
            os.kill(self.pid, signal.SIGKILL)
        return ask(self, task)

    monkeypatch.setattr(worker.Worker, "run", fragile)
    assert draw("--workers", "2") == 1
    said = capsys.readouterr()
    assert "b.png' was ended by signal 9 (SIGKILL): another one draws it again" in said.err
    assert "c.png' was ended 2 times, at last by signal 9 (SIGKILL)" in said.err
    assert sorted(files()) == ["a.png", "b.png", "sub/d.png"]
    assert [bool(row["error"]) for row in rows()] == [False, False, True, False]


def test_a_failed_disk_ends_it_all_and_what_is_there_is_in_the_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = task.Task.run

    def full(self: task.Task) -> None:
        if self.path.name == "b.png":
            raise OSError(28, "No space left on device", str(self.path))
        keep(self)

    monkeypatch.setattr(task.Task, "run", full)
    assert draw() == 1
    assert "out/b.png': No space left on device" in capsys.readouterr().err
    assert [row["figure"] for row in rows()] == ["out/a.png"]


def test_what_was_drawn_when_ctrl_c_came_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: batch.Batch) -> batch.Figure:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch.Batch, "_next", interrupted)
    assert draw() == main.INTERRUPTED
    assert sorted(files()) == ["a.png"]
    assert [row["figure"] for row in rows()] == ["out/a.png"]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_plain_overlay_is_the_photo_at_its_own_size(suffix: str) -> None:
    more = ("--plain", "--smooth", "--colormap", "magma", "--opacity", "0.4")
    assert draw(*more, photos="photos/a.png", out=f"f{suffix}") == 2  # --dpi is of a page
    plain = ["figure", "photos/a.png", "--out", f"f{suffix}", *more]
    assert main.main(plain) == 0
    heat = vislab.explain("photos/a.png", model=LOADED["embedded"])
    drawn = Image.fromarray(vislab.overlay(heat, smooth=True, colormap="magma", opacity=0.4))
    drawn.save(f"drawn{suffix}", quality=95)
    assert drawn.size == (48, 32)
    assert (np.asarray(Image.open(f"f{suffix}")) == np.asarray(Image.open(f"drawn{suffix}"))).all()
    assert "plain=True" in vislab.provenance(f"f{suffix}")["call"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--plain --width column", "--width is of a page, and --plain draws none"),
        ("--plain --transparent", "--transparent is of a page"),
        ("--plain --beside tex", "--beside tex is of a page"),
        ("--plain --out {name}.pdf", r"--plain makes pictures, \.png, \.jpg, \.jpeg, not \.pdf"),
        ("--workers two", "--workers: takes a whole number, 0 for none, not 'two'"),
        ("--workers=-1", "--workers: takes a whole number, 0 for none, not '-1'"),
    ],
)
def test_what_a_plain_overlay_has_not_is_refused(
    words: str, said: str, forwards: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["figure", "photos", "--out", "out", *words.split()]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert forwards == []


def test_as_many_processes_draw_as_there_are_cores_and_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("there.png").write_bytes(b"")
    missing = [Path(f"{k}.png") for k in range(20)]
    for count, paths, expected in ((4, missing, 4), (64, missing, 8), (64, [*missing[:3], Path("there.png")], 3)):
        monkeypatch.setattr("vislab.cli.figure.cores", lambda count=count: count)
        assert WORKERS_OF(argparse.Namespace(workers=None), paths) == expected
    assert WORKERS_OF(argparse.Namespace(workers=None), [Path("there.png")]) == 1
    assert WORKERS_OF(argparse.Namespace(workers=0), missing) == 0
    values = [path.with_suffix(".npz") for path in missing]
    assert WORKERS_OF(argparse.Namespace(workers=None), values) == 0  # which are written in no time
    assert WORKERS_OF(argparse.Namespace(workers=None), [*values, *missing[:1]]) == 8
    assert WORKERS_OF(argparse.Namespace(workers=2), values) == 2


def test_many_photos_are_counted_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vislab.cli.figure.MANY", 2)
    Path("photos/a.png").write_bytes(b"")
    draw()
    assert "vislab: 3 drawn, 0 were there already, 1 failed" in capsys.readouterr().err
    draw()
    assert "vislab: 0 drawn, 3 were there already, 1 failed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["json", "tex", "npz"])
def test_what_another_program_left_beside_a_photo_is_not_overwritten(
    suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(f"photos/b.{suffix}")
    other.write_text('{"shapes": []}')
    draw = ["figure", "photos", "--out", "photos/{name}.svg", "--dpi", "50", "--beside", suffix]
    assert main.main(draw) == 2
    assert f"--beside would overwrite {str(other)!r}, which vislab did not write" in capsys.readouterr().err
    assert other.read_text() == '{"shapes": []}'
    other.unlink()
    assert main.main(draw) == main.main([*draw, "--theme", "dark"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--csv photos/a.png", r"ends with \.csv, not 'photos/a\.png'"),
        ("--out {name}.jpg --transparent", "JPEG knows no transparency"),
        ("--method cls --residual 0.3", "--residual is an option of --method rollout and grad_rollout, not of cls"),
        ("--method grad_rollout --discard 0.3", "--discard is an option of --method rollout, not of grad_rollout"),
    ],
)
def test_what_cannot_be_right_is_said_before_any_photo_is_looked_at(
    words: str, said: str, forwards: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw(*words.split()) == 2
    assert re.search(said, capsys.readouterr().err)
    assert forwards == []


def test_options_reach_each_method_that_takes_them() -> None:
    for residual in ("0.2", "0.8"):
        asked = ["--method", "grad_rollout", "--residual", residual]
        assert draw(*asked, photos="photos/a.png", out=f"{residual}.npz") == 0
    low, high = (vislab.provenance(f"{residual}.npz")["maps"][0]["settings"] for residual in ("0.2", "0.8"))
    assert (low["residual"], high["residual"]) == (0.2, 0.8)


def test_the_page_is_as_asked() -> None:
    assert draw("--width", "column", "--theme", "dark", "--transparent", photos="photos/a.png", out="f.png") == 0
    display = vislab.provenance("f.png")["display"]
    assert (display["width"], display["theme"], display["transparent"], display["dpi"]) == ("column", "dark", True, 50)
    with Image.open("f.png") as image:
        assert image.width == pytest.approx(85 / 25.4 * 50, abs=1)
        assert image.getpixel((0, 0))[3] == 0


def scan(bands: int = 5) -> np.ndarray:
    """(32, 48, bands) uint16 of 12 bits, as satellites send them, in scan.tif."""
    values = np.random.default_rng(7).integers(0, 4096, (32, 48, bands)).astype(np.uint16)
    tifffile.imwrite("scan.tif", values, photometric="minisblack", planarconfig="contig")
    return values


@pytest.mark.parametrize(
    ("more", "reading"),
    [
        (["--bands", "3,2,1", "--stretch", "percentile"], {"bands": (3, 2, 1), "stretch": "percentile"}),
        (["--bands", "4", "--stretch=-5,4000"], {"bands": (4,), "stretch": (-5.0, 4000.0)}),
    ],
)
def test_bands_and_stretch_are_those_of_load_image(more: list[str], reading: dict[str, Any]) -> None:
    scan()
    assert main.main(["figure", "scan.tif", "--out", "scan.png", "--dpi", "50", "--beside", "npz", *more]) == 0
    expected = vislab.explain(vislab.load_image("scan.tif", **reading), model=LOADED["embedded"])
    with np.load("scan.npz") as held:
        np.testing.assert_array_equal(held["values"], expected.values)
    [image] = vislab.provenance("scan.png")["images"].values()
    told = {name: tuple(image[name]) if isinstance(image[name], list) else image[name] for name in reading}
    assert told == reading
    assert len(image["ranges"]) == len(reading["bands"])


def test_a_figure_of_other_bands_is_drawn_anew() -> None:
    scan()
    made = []
    for bands in ("3,2,1", "1,2,3", "1,2,3"):
        stretch = ["--bands", bands, "--stretch", "percentile"]
        assert main.main(["figure", "scan.tif", "--out", "scan.png", "--dpi", "50", *stretch]) == 0
        made.append(Path("scan.png").read_bytes())
    assert made[0] != made[1] == made[2]


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        ([], 1, "a TIFF of 5 bands: choose the 3 .*vislab.figure --bands 3,2,1`"),
        (["--bands", "9"], 1, "no band 9: the picture has 5"),
        (["--bands", "3,2"], 2, "--bands: takes 3 bands .* or 1 .* such as 3,2,1, not '3,2'"),
        (["--bands", "0"], 2, "counted from 1, .* not '0'"),
        (["--stretch", "precentile"], 2, "not 'precentile'; did you mean 'percentile'"),
        (["--stretch", "5,1"], 2, "takes percentile, or LOW,HIGH"),
        (["--stretch", "nan,1"], 2, "takes percentile, or LOW,HIGH"),
        (["--bands", "1"], 0, "comes out nearly black, .*`vislab figure --stretch percentile`"),
    ],
)
def test_bands_that_cannot_be_shown_are_one_sentence(
    more: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warnings.filters", [("default", None, UserWarning, None, 0)])  # as in a terminal
    scan()
    assert main.main(["figure", "scan.tif", "--out", "scan.png", "--dpi", "50", *more]) == status
    err = capsys.readouterr().err
    assert err.startswith("vislab: ")
    assert len(err.splitlines()) == 1
    assert re.search(said, err)


@pytest.mark.filterwarnings("ignore:.*model shards")
def test_a_text_is_a_target_and_its_record_makes_the_figure_again(capsys: pytest.CaptureFixture[str]) -> None:
    wording.make("CLIP").save_pretrained("clip")
    wording.processor().save_pretrained("clip")
    asked = ["--model", "clip", "--method", "legrad", "--target"]
    assert draw(*asked, "a red door", photos="photos/a.png", out="door.png") == 0
    record = vislab.provenance("door.png")
    assert (record["maps"][0]["settings"]["target"], record["maps"][0]["method"]) == ("a red door", "legrad")
    assert "vislab.explain(image, method='legrad', model='clip', target='a red door')" in record["call"]
    again = vislab.reproduce("door.png", image="photos/a.png")
    assert again.differences == ()
    capsys.readouterr()
    assert draw(*asked, "3", photos="photos/a.png", out="three.png") == 1
    assert "clip has no classes of its own: it compares an image with texts" in capsys.readouterr().err


def test_a_caption_of_ones_own_stands_in_the_figure_and_none_where_it_is_empty() -> None:
    for number, words in enumerate(([], ["--caption", "Fig. 1: a"], ["--caption", ""])):
        assert main.main(["figure", "photos/a.png", "--out", f"{number}.png", "--dpi", "50", *words]) == 0
    usual, own, none = (vislab.provenance(f"{number}.png") for number in range(3))
    assert (own["caption"], none["caption"]) == ("Fig. 1: a", "")
    assert usual["caption"].startswith("rollout of CLS")
    with Image.open("1.png") as captioned, Image.open("2.png") as bare:
        assert bare.height < captioned.height
    assert main.main(["figure", "photos/a.png", "--out", "p.png", "--plain", "--caption", "a"]) == 2


def test_the_columns_of_a_table_are_explained_under_it_and_in_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert draw() == 0
    told = capsys.readouterr().err
    assert "table.csv: entropy: how spread the map is" in told
    assert main.main(["figure", "--help"]) == 0
    said = capsys.readouterr().out
    explained = {name for names in spread_table.COLUMN_WORDS for name in names.split(", ")}
    for name, words in spread_table.COLUMN_WORDS.items():
        assert f"{name}: {words}" in said
    assert explained <= set(spread_table.COLUMNS)
    plain = {
        "photo",
        "figure",
        "width",
        "height",
        *(f"{part}_{k}" for part in ("label", "probability") for k in (2, 3)),
    }
    assert {*spread_table.COLUMNS} - explained == plain
