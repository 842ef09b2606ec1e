"""Laws of a cluster, on a real one of two processes: the same as in one process, and each photograph once."""

from __future__ import annotations

import importlib
import os
import pickle
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from spreading import Brightness, Counting

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
    running = started(utils.Cluster)
    os.environ["PYTHONPATH"] = there
    yield running.address
    importlib.import_module("ray").shutdown()
    running.shutdown()


def started(make: Any) -> Any:
    """A cluster of two processes; where a machine with much else to do lets Ray's own half minute pass, once more."""
    small = {"num_cpus": 2, "object_store_memory": 100_000_000, "include_dashboard": False}
    for again in (True, True, False):
        try:
            return make(initialize_head=True, head_node_args=small | dict(zip(PORTS, free(len(PORTS)), strict=True)))
        except Exception as error:  # Ray raises bare ones
            if not (again and "timed out" in str(error)):
                raise
    raise AssertionError


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


def asked(work: Brightness, folder: Path, how: str | None) -> vislab.Tally:
    pictures = dict.fromkeys(photos_of([str(folder)]))
    return run_many(work, pictures, folder / "t.parquet", ray=how, actors=2, progress=False)


def means(tally: vislab.Tally) -> dict[str, float]:
    rows = [(row["name"], row["mean"]) for row in tally.rows()]
    assert len(rows) == len(dict(rows))  # nothing twice
    return dict(rows)


def test_nothing_is_lost_and_nothing_twice_whatever_happens_to_disks_and_processes(address: str, folder: Path) -> None:
    """The disk is full; then a process is killed, others are at each try of one photograph, and a file cannot be read.

    Then the same call is made once more, by this process alone.
    """
    true = {str(k): float(np.asarray(Image.open(folder / f"{k}.png")).mean()) for k in range(COUNT)}
    full = folder / "full"
    full.write_text("5")
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:100])
    del true["7"], true["5"]
    work = Brightness(str(folder / "log"), once=["3"], full=str(full))
    with pytest.raises(OSError, match="No space left on device"):
        asked(work, folder, address)
    full.unlink()
    before = work.asked()
    tally = asked(replace(work, deadly=["5"]), folder, address)
    unread, deadly = (str(folder / f"{name}.png") for name in "75")
    assert {*tally.failed} == {unread, deadly}
    assert "7.png" in tally.failed[unread]
    assert f"{shards.TRIES} processes were ended at it" in tally.failed[deadly]
    assert means(tally) == true
    assert tally.made + tally.kept == len(true)
    # What was done before the disk was full is not asked again; who is killed has written nothing of its two.
    assert work.asked()[len(before) :].count("5") == shards.TRIES
    assert len(work.asked()) <= len(true) + 4 + shards.TRIES
    log = work.asked()
    again = asked(replace(work, deadly=[]), folder, None)
    assert (again.made, again.kept, [*again.failed]) == (1, len(true), [unread])
    assert work.asked() == [*log, "5"]
    assert means(again).items() > true.items()
    assert [path.name for path in (folder / "t.parquet").iterdir() if path.name.startswith(".")] == []


def test_a_cluster_that_gives_up_says_so_in_one_line(address: str) -> None:
    with pytest.raises(RuntimeError, match=r"^the cluster gave up \([^\n]+\): if memory is short, take fewer actors"):
        [*cluster.spread(Counting(sendable=False), [1], ray=address, actors=1)]


def test_an_actor_begins_once_and_sends_errors_as_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch runs in as many threads as Ray gives the actor; where nobody says so, in one."""
    monkeypatch.setenv("OMP_NUM_THREADS", "")  # so that it is afterwards what it was
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    try:
        actor, work = cluster._Actor(), pickle.dumps(Counting())
        answers = [pickle.loads(actor({"work": work, "item": pickle.dumps(n)})["answer"]) for n in (1, 2, 0, 4)]
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert answers[:2] == [(1, 1.0), (1, 0.5)]  # (how often it has begun, what it made)
    assert answers[3] == (1, 0.25)
    with pytest.raises(ZeroDivisionError, match="by zero"):
        raise answers[2].error
    assert any("spreading.py" in note for note in answers[2].error.__notes__)  # where it was raised


@pytest.mark.parametrize("ray", [None, "local"])
def test_of_no_items_nothing_is_begun(ray: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "begin", lambda _: pytest.fail("it has begun"))
    monkeypatch.setattr(cluster, "library", lambda name: pytest.fail(f"{name} was imported"))
    assert [*cluster.spread(Counting(), [], ray=ray, actors=None)] == []


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
    samples = list(vislab.samples().values())[:3]
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
