"""Laws of what is kept: nothing is made twice, the last used stay, and all is listed and let go of at once."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import pytest

import vislab
from vislab.core.cache import Cache, Entry, Latest
from vislab.lab.runs import RUNS


@dataclass(frozen=True)
class Thing:
    name: str


def latest(limit: int = 2) -> Latest[Thing]:
    return Latest("thing", limit, lambda thing: len(thing.name))


def test_what_was_made_is_given_again_until_others_take_its_place() -> None:
    things = latest()
    first = things.once("a", lambda: Thing("a"))
    assert things.once("a", lambda: Thing("again")) is first
    things.once("b", lambda: Thing("bb"))
    things.once("a", lambda: Thing("again"))  # now the last used
    things.once("c", lambda: Thing("ccc"))
    assert things.entries() == [Entry("thing", "a", 1), Entry("thing", "ccc", 3)]
    assert things.once("b", lambda: Thing("b2")).name == "b2"


def test_two_threads_make_one_thing() -> None:
    things, made, begun = latest(), [], threading.Event()

    def make() -> Thing:
        begun.set()
        made.append(threading.get_ident())
        threading.Event().wait(0.05)
        return Thing("slow")

    threads = [threading.Thread(target=things.once, args=("slow", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(5)
    assert things.entries() == []  # is not held up by what is being made
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_what_fails_is_not_kept() -> None:
    things = latest()
    with pytest.raises(ZeroDivisionError):
        things.once("a", lambda: Thing(str(1 / 0)))
    assert things.once("a", lambda: Thing("a")).name == "a"


@pytest.mark.slow
def test_a_model_is_kept_by_name_and_let_go_of() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    vislab.cache().clear()
    assert str(vislab.cache()) == "nothing is kept"
    vislab.explain(image)
    vislab.detect(image)
    kept = vislab.cache()
    model = vislab.load("embedded")
    assert [(entry.kind, entry.name) for entry in kept.entries] == [("model", "embedded"), ("detector", "embedded")]
    assert kept.entries[0].bytes == sum(tensor.nbytes for tensor in model.module.state_dict().values())
    assert kept.bytes == sum(entry.bytes for entry in kept.entries)
    kept.clear()
    assert vislab.cache().entries == ()


def test_runs_of_labs_are_among_it() -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    vislab.cache().clear()
    model = vislab.load("embedded")
    for scale in (1.0, 2.0):
        RUNS.run(model, image, "grey", attention_scale=scale, image_size=64, patch_size=16)
    kept = vislab.cache()
    assert [entry.kind for entry in kept.entries] == ["run", "run"]
    assert kept.bytes == RUNS.bytes  # the photograph of both is counted once
    assert "embedded, 4 × 4 + 1 = 17 tokens, 0 results" in str(kept)
    kept.clear()
    assert len(RUNS) == 0


def test_it_shows_itself_as_a_table() -> None:
    table = str(Cache((Entry("model", "embedded", 22_100_000), Entry("run", "x", 900_000)))).splitlines()
    assert [line.split() for line in table] == [
        ["model", "embedded", "22.1", "MB"],
        ["run", "x", "0.9", "MB"],
        ["together", "23.0", "MB"],
    ]
    assert len({len(line) for line in table}) == 1
