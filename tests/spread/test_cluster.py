"""Laws of a cluster, on a real one of two processes: the same as in one process, and each photograph once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from spreading import Brightness

import vislab
from vislab.spread import cluster, shards
from vislab.spread.many import run_many
from vislab.spread.photos import photos_of

pytestmark = pytest.mark.ray
COUNT = 8


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of this machine, small, without a dashboard, which tells nobody anything."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    module = pytest.importorskip("ray")
    quiet = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
    for attempt in range(3):  # Ray gives its processes 30 seconds to begin, which a busy machine may not have
        try:
            module.init(address="local", num_cpus=2, object_store_memory=100_000_000, **quiet)
        except Exception:
            module.shutdown()
            if attempt == 2:
                raise
        else:
            break
    yield module
    module.shutdown()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight photographs, done two at a time."""
    monkeypatch.setattr(shards, "SHARD", 2)
    for k in range(COUNT):
        pixels = np.random.default_rng(k).integers(0, 256, (32, 48, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    return tmp_path


def asked(work: Brightness, folder: Path, how: str | None = "local") -> vislab.Tally:
    pictures = dict.fromkeys(photos_of([str(folder)]))
    return run_many(work, pictures, folder / "t.parquet", ray=how, actors=2, progress=False)


def means(tally: vislab.Tally) -> dict[str, float]:
    rows = [(row["name"], row["mean"]) for row in tally.rows()]
    assert len(rows) == len(dict(rows))  # nothing twice
    return dict(rows)


def test_nothing_is_lost_and_nothing_twice_whatever_happens_to_disks_and_processes(ray: Any, folder: Path) -> None:
    """The disk is full, then a process is killed and a file cannot be read, then the same call is made once more."""
    true = {str(k): float(np.asarray(Image.open(folder / f"{k}.png")).mean()) for k in range(COUNT)}
    full = folder / "full"
    full.write_text("5")
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:100])
    del true["7"]
    work = Brightness(str(folder / "log"), once=["3"], full=str(full))
    with pytest.raises(OSError, match="No space left on device"):
        asked(work, folder)
    full.unlink()
    before = work.asked()
    tally = asked(work, folder)
    assert [*tally.failed] == [str(folder / "7.png")]
    assert "7.png" in tally.failed[str(folder / "7.png")]
    assert means(tally) == true
    assert tally.made + tally.kept == len(true)
    # What was done before the disk was full is not asked again; who is killed has written nothing of its two.
    assert len(work.asked()) <= len(true) + 4
    assert {"5"} <= {*work.asked()[len(before) :]}
    log = work.asked()
    again = asked(work, folder)
    assert (again.made, again.kept, [*again.failed]) == (0, len(true), [*tally.failed])
    assert work.asked() == log
    assert means(again) == true
    assert [path.name for path in (folder / "t.parquet").iterdir() if path.name.startswith(".")] == []


def test_a_photograph_at_which_every_process_ends_is_told_and_the_others_go_on(ray: Any, folder: Path) -> None:
    tally = asked(Brightness(str(folder / "log"), deadly=["2"]), folder)
    assert [*tally.failed] == [str(folder / "2.png")]
    assert f"{shards.TRIES} processes were ended at it" in tally.failed[str(folder / "2.png")]
    assert sorted(means(tally)) == sorted(str(k) for k in range(COUNT) if k != 2)


def test_maps_and_pictures_are_those_of_one_process_to_the_bit(ray: Any, folder: Path) -> None:
    made = {}
    for how in ("local", None):
        here = folder / (how or "here")
        here.mkdir()
        vislab.many(
            [str(folder / f"{k}.png") for k in range(3)],
            out=here / "maps.parquet",
            pictures=here / "{name}.png",
            method="relevance",
            plain=True,
            device="cpu",
            ray=how,
            actors=2,
            progress=False,
        )
        maps = {row["name"]: row for row in vislab.Tally(0, 0, {}, here / "maps.parquet").rows()}
        for row in maps.values():
            assert Path(row.pop("figure")).parent == here
        made[how] = maps, {path.name: path.read_bytes() for path in here.glob("*.png")}
    assert made["local"] == made[None]
    assert len(made[None][0]) == len(made[None][1]) == 3


def test_no_cluster_at_an_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        @staticmethod
        def is_initialized() -> bool:
            return False

        @staticmethod
        def init(**_: Any) -> None:
            raise ConnectionError("Could not find any running Ray instance.\nStart one.")

    monkeypatch.setattr(cluster, "library", lambda name: Away)
    with pytest.raises(ConnectionError, match=r"no Ray cluster answers at 'auto' \(Could not find any .*ray start"):
        [*cluster.spread(Brightness(""), [1], ray="auto", actors=None)]
    with pytest.raises(RuntimeError, match=r"Ray did not start on this machine \(Could not find"):
        [*cluster.spread(Brightness(""), [1], ray="local", actors=1)]
