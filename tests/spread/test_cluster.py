"""Laws of a cluster, on a real one of two processes: the same as in one process, and each photograph once."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
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
ROOT = Path(__file__).parents[2]
COUNT = 8
PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of this machine, small, without a dashboard, which tells nobody anything -> where it answers.

    Its agents are given their ports: Ray waits a few seconds for them to choose some, which a busy machine has not.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    there = os.environ.get("PYTHONPATH", "")  # what the cluster's processes import from
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, (ROOT, ROOT / "tests")), *filter(None, [there])])
    utils = pytest.importorskip("ray.cluster_utils")
    agents = dict(zip(PORTS, free(len(PORTS)), strict=True))
    small = {"num_cpus": 2, "object_store_memory": 100_000_000, "include_dashboard": False}
    running = utils.Cluster(initialize_head=True, head_node_args=small | agents)
    os.environ["PYTHONPATH"] = there
    yield running.address
    importlib.import_module("ray").shutdown()
    running.shutdown()


def free(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in opened:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in opened]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight photographs, done two at a time."""
    monkeypatch.setattr(shards, "SHARD", 2)
    for k in range(COUNT):
        pixels = np.random.default_rng(k).integers(0, 256, (32, 48, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    return tmp_path


def asked(work: Brightness, folder: Path, how: str) -> vislab.Tally:
    pictures = dict.fromkeys(photos_of([str(folder)]))
    return run_many(work, pictures, folder / "t.parquet", ray=how, actors=2, progress=False)


def means(tally: vislab.Tally) -> dict[str, float]:
    rows = [(row["name"], row["mean"]) for row in tally.rows()]
    assert len(rows) == len(dict(rows))  # nothing twice
    return dict(rows)


def test_nothing_is_lost_and_nothing_twice_whatever_happens_to_disks_and_processes(address: str, folder: Path) -> None:
    """The disk is full, then a process is killed and a file cannot be read, then the same call is made once more."""
    true = {str(k): float(np.asarray(Image.open(folder / f"{k}.png")).mean()) for k in range(COUNT)}
    full = folder / "full"
    full.write_text("5")
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:100])
    del true["7"]
    work = Brightness(str(folder / "log"), once=["3"], full=str(full))
    with pytest.raises(OSError, match="No space left on device"):
        asked(work, folder, address)
    full.unlink()
    before = work.asked()
    tally = asked(work, folder, address)
    assert [*tally.failed] == [str(folder / "7.png")]
    assert "7.png" in tally.failed[str(folder / "7.png")]
    assert means(tally) == true
    assert tally.made + tally.kept == len(true)
    # What was done before the disk was full is not asked again; who is killed has written nothing of its two.
    assert len(work.asked()) <= len(true) + 4
    assert {"5"} <= {*work.asked()[len(before) :]}
    log = work.asked()
    again = asked(work, folder, address)
    assert (again.made, again.kept, [*again.failed]) == (0, len(true), [*tally.failed])
    assert work.asked() == log
    assert means(again) == true
    assert [path.name for path in (folder / "t.parquet").iterdir() if path.name.startswith(".")] == []


def test_a_photograph_at_which_every_process_ends_is_told_and_the_others_go_on(address: str, folder: Path) -> None:
    tally = asked(Brightness(str(folder / "log"), deadly=["2"]), folder, address)
    assert [*tally.failed] == [str(folder / "2.png")]
    assert f"{shards.TRIES} processes were ended at it" in tally.failed[str(folder / "2.png")]
    assert sorted(means(tally)) == sorted(str(k) for k in range(COUNT) if k != 2)


def test_maps_and_pictures_are_those_of_one_process_to_the_bit(address: str, folder: Path) -> None:
    made = {}
    for how in (address, None):
        here = folder / ("there" if how else "here")
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
    assert made[address] == made[None]
    assert len(made[None][0]) == len(made[None][1]) == 3


def test_an_evaluation_is_that_of_one_process_and_goes_on_where_it_was_ended(address: str, tmp_path: Path) -> None:
    samples = list(vislab.samples().values())[:4]
    how: dict[str, Any] = {"methods": ["cls", "relevance"], "steps": 4, "randomised": 0, "progress": False}
    how |= {"model": vislab.load("embedded", device="cpu")}
    here = vislab.evaluate(samples, **how)
    there = vislab.evaluate(samples, ray=address, actors=2, kept=tmp_path / "kept", **how)
    assert there.csv() == here.csv()
    assert np.array_equal(there.deletion, here.deletion)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    assert len(kept) == len(samples)
    again = vislab.evaluate(samples, kept=tmp_path / "kept", **how)
    assert again.csv() == here.csv()
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()} == kept


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
