"""Laws of many photographs in one process: each is in the table once, whatever was there before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from spreading import Brightness

import vislab
from vislab.cli.main import main
from vislab.models import load
from vislab.spread import parts, shards
from vislab.spread.many import placed, run_many
from vislab.spread.photos import Photo, photos_of

LOADED: dict[str, vislab.Model] = {}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three photographs in a folder, done two at a time; the embedded model is loaded once for all tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shards, "SHARD", 2)
    monkeypatch.setattr("vislab.models.load.fastest", lambda: "cpu")
    named = load._named
    monkeypatch.setattr(
        "vislab.models.load._named", lambda name, *how: LOADED.get(name) or LOADED.setdefault(name, named(name, *how))
    )
    Path("photos").mkdir()
    for k, name in enumerate("abc"):
        pixels = np.random.default_rng(k).integers(0, 256, (32, 48, 3), np.uint8)
        Image.fromarray(pixels).save(f"photos/{name}.png")


def many(**how: Any) -> vislab.Tally:
    return vislab.many("photos", **{"out": "maps.parquet", "progress": False, **how})


def bright(work: Brightness, photos: str = "photos") -> vislab.Tally:
    return run_many(work, dict.fromkeys(photos_of([photos])), Path("t.parquet"), ray=None, actors=None, progress=False)


@pytest.mark.slow
def test_a_row_is_what_explain_says_of_the_photograph() -> None:
    tally = many(method="relevance", target="church", pictures="figures/{name}.npz", keep=0.5)
    assert str(tally) == "3 made, 0 were there already, 0 failed: maps.parquet"
    rows = {row["photo"]: row for row in tally.rows()}
    assert sorted(rows) == [f"photos/{name}.png" for name in "abc"]
    for photo, row in rows.items():
        heat = vislab.explain(photo, method="relevance", target="church", keep=0.5)
        assert np.array_equal(np.float32(row["values"]).reshape(row["rows"], row["cols"]), heat.values)
        assert np.array_equal(np.reshape(row["dropped"], heat.values.shape), heat.dropped)
        frame = vislab.Frame(*(tuple(pair) for pair in np.reshape(row["frame"], (4, 2)).tolist()))
        assert frame.to_source(1, 2) == heat.frame.to_source(1, 2)
        assert (row["target"], row["method"], row["query"]) == ("church", "relevance", heat.query)
        with np.load(row["figure"]) as held:
            assert np.array_equal(held["values"], heat.values)
    [note] = {pq.read_metadata(path).metadata[b"vislab"] for path in Path("maps.parquet").iterdir()}
    assert json.loads(note)["asked"] == {"method": "relevance", "target": "church", "keep": 0.5}
    assert pq.read_table("maps.parquet").num_rows == 3  # to others it is one table


@pytest.mark.slow
def test_a_table_and_figures_of_one_process_are_those_of_the_command_without_a_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A figure that is there is not drawn again, whichever of the two drew it."""
    assert main(["figure", "photos", "--out", "one", "--dpi", "50", "--workers", "0", "--csv", "one.csv"]) == 0
    Path("two").mkdir()
    for name in "ab":
        Path("two", f"{name}.png").write_bytes(Path("one", f"{name}.png").read_bytes())
    times = {name: Path("two", f"{name}.png").stat().st_mtime_ns for name in "ab"}
    work = replace(vislab_figures(), look={**vislab_figures().look})
    tally = run_many(
        work, placed(photos_of(["photos"]), "two/{name}.png"), Path("m.parquet"), ray=None, actors=None, progress=False
    )
    assert tally.made == 3
    assert {name: Path("two", f"{name}.png").stat().st_mtime_ns for name in "ab"} == times
    assert {path.name: path.read_bytes() for path in Path("two").iterdir()} == {
        path.name: path.read_bytes() for path in Path("one").iterdir()
    }


def vislab_figures() -> Any:
    """What the command asks, and how it draws."""
    from vislab.cli.asking import Asker
    from vislab.cli.main import _parser

    return Asker(_parser().parse_args(["figure", "photos", "--out", "one", "--dpi", "50"])).figures


def test_what_is_done_is_not_asked_again_and_what_changed_replaces_its_row() -> None:
    work = Brightness("log")
    first = bright(work)
    assert (first.made, first.kept) == (3, 0)
    assert (bright(work).made, bright(work).kept) == (0, 3)
    assert work.asked() == ["a", "b", "c"]
    Path("photos/b.png").write_bytes(Path("photos/c.png").read_bytes())
    again = bright(work)
    assert (again.made, again.kept) == (1, 2)
    means = {row["name"]: row["mean"] for row in again.rows()}
    assert len([*again.rows()]) == 3
    assert means["b"] == means["c"] != means["a"]
    Path("photos/a.png").unlink()
    assert {row["name"] for row in bright(work).rows()} == {"a", "b", "c"}  # what is not asked for keeps its row


def test_what_could_not_be_read_is_told_and_tried_again() -> None:
    whole = Path("photos/b.png").read_bytes()
    Path("photos/b.png").write_bytes(whole[:100])
    work = Brightness("log")
    tally = bright(work)
    assert [*tally.failed] == ["photos/b.png"]
    assert str(tally).splitlines()[1].startswith("photos/b.png  ")
    Path("photos/b.png").write_bytes(whole)
    tally = bright(work)
    assert (tally.made, tally.kept, dict(tally.failed)) == (1, 2, {})
    assert sorted(row["name"] for row in tally.rows()) == ["a", "b", "c"]


def test_a_full_disk_ends_the_run_which_then_goes_on() -> None:
    Path("full").write_text("b")
    work = Brightness("log", full="full")
    with pytest.raises(OSError, match="No space left"):
        bright(work)
    Path("full").unlink()
    assert (bright(work).made, work.asked()) == (2, ["a", "b", "c"])


def test_a_photograph_at_which_processes_were_ended_is_given_up_once(tmp_path: Path) -> None:
    table = Path("t.parquet")
    table.mkdir()
    mark = table / f"{parts.TRYING}{shards.of_bytes(b'photos/b.png')}"
    mark.write_bytes(b"." * shards.TRIES)
    work = Brightness("log")
    assert f"{shards.TRIES} processes were ended at it" in bright(work).failed["photos/b.png"]
    assert (bright(work).made, work.asked()) == (1, ["a", "c", "b"])
    assert not mark.exists()


def test_rows_that_two_runs_left_are_settled() -> None:
    table = parts.Parts(Path("t.parquet"), {"x": "int32", "y": "list<float32>"})
    Path("t.parquet").mkdir()
    table.add("1", [{"photo": "a", "job": "old", "x": 1, "y": [0.5]}, {"photo": "b", "job": "new", "x": 2}], {})
    table.add("2", [{"photo": "a", "job": "new", "x": 3}, {"photo": "b", "job": "new", "x": 4}], {"note": "kept"})
    table.add("3", [{"photo": "c", "job": "old", "x": 5}], {})
    Path("t.parquet/.part-4.parquet.17.part").write_bytes(b"half")
    table.settle({"a": "new", "b": "new"})
    assert [(row["photo"], row["x"]) for row in table.rows()] == [("b", 2), ("a", 3), ("c", 5)]
    assert pq.read_metadata("t.parquet/part-2.parquet").metadata[b"note"] == b"kept"
    table.settle({"c": "new"})
    assert sorted(path.name for path in Path("t.parquet").iterdir()) == ["part-1.parquet", "part-2.parquet"]


@pytest.mark.parametrize("shape", ["bytes", "structure", "paths"])
def test_photographs_come_out_of_parquet_files(shape: str) -> None:
    names = ["a", "b", "c"]
    data = [Path(f"photos/{name}.png").read_bytes() for name in names]
    paths = [f"photos/{name}.png" for name in names]
    columns: dict[str, Any] = {
        "bytes": {"bytes": data, "name": ["x/a.png", "../b.png", None]},
        "structure": {"image": [{"bytes": one, "path": f"{name}.png"} for one, name in zip(data, names, strict=True)]},
        "paths": {"path": paths},
    }[shape]
    pq.write_table(pa.table(columns), "set.parquet", row_group_size=2)
    found = photos_of(["set.parquet"])
    expected = {"bytes": ["x/a", "b", "set-0000002"]}.get(shape, names)
    assert [photo.name for photo in found] == expected
    tally = bright(Brightness("log"), "set.parquet")
    means = {row["name"]: row["mean"] for row in tally.rows()}
    for called, name in zip(expected, names, strict=True):
        assert means[called] == pytest.approx(np.asarray(Image.open(f"photos/{name}.png")).mean())


def test_parquet_files_that_hold_no_pictures_are_told() -> None:
    pq.write_table(pa.table({"x": [1]}), "set.parquet")
    with pytest.raises(ValueError, match=r"'set.parquet' has no column of pictures \(image, bytes, .*it has x"):
        photos_of(["set.parquet"])
    Path("set.parquet").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"'set.parquet' is no Parquet file that can be read"):
        photos_of(["set.parquet"])
    Path("sets.parquet").mkdir()
    pq.write_table(pa.table({"bytes": [b"no picture", None]}), "sets.parquet/0.parquet")
    tally = bright(Brightness("log"), "sets.parquet")
    assert [*tally.failed] == ["sets.parquet/0.parquet#0", "sets.parquet/0.parquet#1"]
    assert "holds no bytes of a picture" in tally.failed["sets.parquet/0.parquet#1"]
    assert "sets.parquet/0.parquet#0" in tally.failed["sets.parquet/0.parquet#0"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"out": "maps.csv"}, "out is a table, such as 'maps.parquet', not 'maps.csv'"),
        ({"model": torch.nn.Linear(1, 1)}, "model is a name or a folder, which each process loads, not Linear"),
        ({"actors": 0}, "actors is a whole number above 0"),
        ({"ray": True}, "ray is None, 'local', 'auto' or a cluster's address"),
        ({"target": print}, "cannot be written down"),
        ({"pictures": "figures/one.png"}, "two photographs one file"),
        ({"look": {"opacty": 1}}, "opacity"),
        ({"question": "what ?", "target": "church"}, "no option 'target'"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(how: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        many(**how)
    assert not Path("maps.parquet").exists()


def test_a_file_in_the_tables_place_is_left_alone() -> None:
    Path("maps.parquet").write_bytes(b"mine")
    with pytest.raises(ValueError, match="is a file, and vislab writes a folder"):
        many()
    with pytest.raises(FileNotFoundError, match="there is no folder 'nowhere'"):
        many(out="nowhere/maps.parquet")
    assert Path("maps.parquet").read_bytes() == b"mine"


@pytest.mark.slow
def test_the_command_makes_a_table_of_maps_and_tells_bad_photos(capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos/b.png").write_bytes(b"no picture")
    assert main(["figure", "photos", "--out", "maps.parquet", "--csv", "t.csv"]) == 1
    said = capsys.readouterr()
    assert said.out.split() == ["photos/a.png", "photos/c.png"]
    assert "b.png" in said.err
    assert "vislab: 2 made, 0 were there already, 1 failed: maps.parquet" in said.err
    lines = Path("t.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["photo", "photos/a.png", "photos/b.png", "photos/c.png"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--out", "maps.parquet", "--workers", "2"], "--workers draw beside one model"),
        (["--out", "out/", "--actors", "2"], "--actors are processes of a cluster: give --ray too"),
    ],
)
def test_options_that_do_not_go_together(more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figure", "photos", *more]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_all_are_asked_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    samples = vislab.samples()
    for name in "abc":
        Path(f"photos/{name}.png").unlink()
    for name in ("church", "moose"):
        Image.open(samples[name]).resize((96, 64)).save(f"photos/{name}.png")
    asked = ["ask", "photos", "what is there ?"]
    assert main(asked) == 2
    assert "the answers of several photos go into a table" in capsys.readouterr().err
    assert main([*asked, "--out", "answers/"]) == 0
    said = capsys.readouterr()
    rows = {row["name"]: row for row in vislab.Tally(0, 0, {}, Path("answers/answers.parquet")).rows()}
    for name, row in rows.items():
        assert f"photos/{name}.png: {row['answer']}\n" in said.out
        assert vislab.provenance(f"answers/{name}.png")["notes"]["row"] == {"answer": row["answer"]}
    answer = vislab.ask("photos/church.png", "what is there ?")
    assert rows["church"]["answer"] == answer.text
    assert rows["church"]["words"] == [word.text for word in answer.words]
    assert np.allclose(rows["church"]["image_share"], answer.image_share)
    assert main([*asked, "--out", "answers/", "--json"]) == 0
    again = capsys.readouterr()
    assert "0 made, 2 were there already" in again.err
    assert json.loads(again.out.splitlines()[-1])["photo"] == "photos/moose.png"
    tally = vislab.many("photos/moose.png", out="words.parquet", question="what is there ?", progress=False)
    assert [row["answer"] for row in tally.rows()] == [rows["moose"]["answer"]]


def test_a_photo_is_read_as_it_lies() -> None:
    assert Photo("photos/a.png", "a").contents() == Path("photos/a.png").read_bytes()
    assert Photo("https://a.org/x.png", "x").away
