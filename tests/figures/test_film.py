"""Laws of a film: pages of one size, whole or not at all, and each tells what is its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import vislab
from vislab.figures.film import pages, write_film

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
GRID, FRAME = vislab.Grid(3, 4, (16, 16)), vislab.Frame.stretch((48, 64), (48, 64))


def heats(*targets: str) -> list[vislab.Heatmap]:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    return [
        vislab.Heatmap(values + n, GRID, FRAME, "relevance", target, facts={"clip": {"frame": n, "second": n / 2}})
        for n, target in enumerate(targets)
    ]


def test_a_page_says_in_its_title_what_is_its_own() -> None:
    made = list(pages(heats("a", "b"), [IMAGE, IMAGE], normalise="shared", dpi=40))
    assert [page.title for page in made] == ["frame 0 at 0.00 s · a", "frame 1 at 0.50 s · b"]
    assert len({page.caption for page in made}) == 1
    assert "colours shared" in made[0].caption
    assert [cell.span for page in made for *_, cell in page.filled()] == [(0, 12)] * 2
    given = list(pages(heats("a", "b"), [IMAGE, IMAGE], normalise="shared", dpi=40, caption="mine"))
    assert [(page.title, page.caption) for page in given] == [(page.title, "mine") for page in made]
    own = list(pages(heats("a", "b"), [IMAGE, IMAGE], normalise="map", dpi=40))
    assert [cell.span for page in own for *_, cell in page.filled()] == [(0, 11), (1, 12)]


def test_maps_that_are_all_alike_have_a_page_too() -> None:
    flat = [replace(heat, values=np.ones((3, 4))) for heat in heats("a", "a")]
    assert [cell.span for page in pages(flat, [IMAGE] * 2, normalise="shared") for *_, cell in page.filled()] == [
        (1, 1)
    ] * 2


def test_pages_of_other_sizes_are_set_on_the_first(tmp_path: Path) -> None:
    wordy = "a target of so many words that no line of a narrow page could ever hold them all beside each other"
    record = write_film(
        tmp_path / "film.mp4",
        pages(heats("a", wordy, "b"), [IMAGE] * 3, normalise="map", dpi=100, width="column"),
        4.0,
    )
    film = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    sizes = {film.read()[1].shape for _ in range(3)}
    assert len(sizes) == 1
    assert film.read()[0] is False
    assert film.get(cv2.CAP_PROP_FPS) == 4
    assert [one["target"] for one in record["maps"]] == ["a", wordy, "b"]


def test_a_film_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"an older film")
    with pytest.raises(ValueError, match="zip"):
        write_film(path, pages(heats("a", "b"), [IMAGE], normalise="map", dpi=40), 1.0)
    monkeypatch.setattr(cv2.VideoWriter, "fourcc", lambda *code: 0x31313131)
    with pytest.raises(RuntimeError, match=r"this OpenCV \(.*\) writes no mp4"):
        write_film(path, pages(heats("a"), [IMAGE], normalise="map", dpi=40), 1.0)
    assert [one.name for one in tmp_path.iterdir()] == ["film.mp4"]
    assert path.read_bytes() == b"an older film"
