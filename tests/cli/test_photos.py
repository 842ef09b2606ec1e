"""Laws of photos on the command line: each is found once, and no figure goes over a photo or another figure."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictures import heatmap

from vislab.cli import photos as cli_photos
from vislab.cli.arguments import UsageError
from vislab.figures import save
from vislab.spread.photos import photos_of


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.jpg", "in/a.PNG", "in/deep/er/c.webp", "in/.hidden.png", "in/notes.txt", "[x] y.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"photo")


def found(*given: str) -> list[tuple[str, str]]:
    return [(Path(one.source).as_posix(), one.name) for one in photos_of(given)]


def paths(out: str, *given: str) -> dict[str, str]:
    where = cli_photos.destinations(out, photos_of(given))
    return {Path(one.source).as_posix(): path.as_posix() for one, path in where.items()}


def test_a_folder_gives_its_pictures_named_by_their_place_in_it() -> None:
    assert found("in") == [("in/a.PNG", "a"), ("in/b.jpg", "b"), ("in/deep/er/c.webp", "deep/er/c")]
    assert found("in/") == found("in")
    Path("in/.cache").mkdir()
    Path("in/b.jpg").rename("in/.cache/b.jpg")
    assert ("in/.cache/b.jpg", ".cache/b") not in found("in")


def test_each_photo_comes_once_in_the_order_given() -> None:
    assert found("in/b.jpg", "in", "in/*.jpg")[0] == ("in/b.jpg", "b")
    assert len(found("in/b.jpg", "in", "in/*.jpg")) == 3


def test_names_and_addresses_stay_as_they_are() -> None:
    assert found("[x] y.png") == [("[x] y.png", "[x] y")]
    assert found("none*.png") == [("none*.png", "none*")]
    assert photos_of(["https://a.org/x/my%20cat.jpg?w=3"])[0].name == "my cat"


def test_an_empty_folder_is_told() -> None:
    Path("empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"'empty' holds no pictures .*\.png"):
        photos_of(["empty"])


def test_a_folder_of_photos_goes_into_a_folder() -> None:
    expected = {"in/a.PNG": "out/a.png", "in/b.jpg": "out/b.png", "in/deep/er/c.webp": "out/deep/er/c.png"}
    assert paths("out", "in") == paths("out/", "in") == expected
    assert paths("out/{name}-map.pdf", "in")["in/deep/er/c.webp"] == "out/deep/er/c-map.pdf"


def test_figures_of_an_earlier_call_are_no_photos() -> None:
    photos = found("in")
    for name in ("in/b-map.png", "in/maps/b.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        save.save(name, heatmap())
    assert found("in") == photos
    assert found("in/*.[PpJj]*") == photos[:2]
    assert found("in/b-map.png") == [("in/b-map.png", "b-map")]
    assert len(paths("in/{name}-map.png", "in")) == len(paths("in/maps/", "in")) == 3
    Path("in/a-map.png").write_bytes(b"a photo of the user's")
    with pytest.raises(UsageError, match=r"would overwrite the photo 'in/a-map\.png'"):
        paths("in/{name}-map.png", "in")


def test_no_photo_is_overwritten_and_no_figure_twice() -> None:
    with pytest.raises(UsageError, match="overwrite the photo"):
        paths("in/{name}.jpg", "in/b.jpg")
    Path("in/b.png").write_bytes(b"photo")
    with pytest.raises(UsageError, match=r"'in/b\.jpg' and 'in/b\.png' would both become"):
        paths("out", "in")


def test_only_what_the_dead_left_half_written_is_removed() -> None:
    import os

    dead = 2**22 + 1  # above the largest process number there is
    for name in (f".b.png.{dead}.part", f".b.png.{os.getpid()}.part", f".other.png.{dead}.part", ".b.png.part"):
        Path("in", name).write_bytes(b"")
    cli_photos.sweep([Path("in/b.png")])
    left = sorted(path.name for path in Path("in").glob(".*.part"))
    assert left == sorted([f".b.png.{os.getpid()}.part", f".other.png.{dead}.part", ".b.png.part"])
