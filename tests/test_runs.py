"""Laws of remembered runs: what was seen costs no forward, and memory has a bound."""

from __future__ import annotations

import numpy as np
import pytest

import vislab
from vislab.models import Model
from vislab.runs import Runs, forward_flops


@pytest.fixture(scope="module")
def model() -> Model:
    return vislab.load("embedded")


IMAGE = np.zeros((32, 48, 3), np.uint8)


def seen(runs: Runs, model: Model, **how: object):
    return runs.run(model, IMAGE, "grey", **{"patch_size": 16, "image_size": 64, **how})


def test_going_back_costs_no_forward(model: Model) -> None:
    runs = Runs(2**30)
    started: list[str] = []
    first, made = seen(runs, model, starting=lambda grid: started.append(str(grid)))
    assert made
    assert seen(runs, model, attention_scale=0.5)[0] is not first
    again, made = seen(runs, model, starting=lambda grid: started.append("again"))
    assert again is first
    assert not made
    assert runs.forwards == 2
    assert started == ["4 × 4 + 1 = 17 tokens"]
    assert runs.numbered(first.number) is first


def test_what_changes_the_maps_is_another_run(model: Model) -> None:
    runs = Runs(2**30)
    seen(runs, model)
    for how in ({"patch_size": 8}, {"image_size": 96}, {"attention_scale": 2.0}, {"image_size": (64, 96)}):
        assert seen(runs, model, **how)[1]
    assert runs.run(model, IMAGE, "another", patch_size=16, image_size=64)[1]
    assert len(runs) == 6


def test_memory_is_bounded_and_the_last_used_stay(model: Model) -> None:
    one = seen(Runs(1), model)[0].bytes
    assert one == 17 * model.dim * model.layers * 2 * 4
    runs = Runs(3 * one)
    for scale in (1.0, 2.0, 3.0):
        seen(runs, model, attention_scale=scale)
    seen(runs, model, attention_scale=1.0)
    seen(runs, model, attention_scale=4.0)
    assert runs.bytes == 3 * one
    assert not seen(runs, model, attention_scale=1.0)[1]
    assert seen(runs, model, attention_scale=2.0)[1]


def test_the_newest_stays_even_alone(model: Model) -> None:
    runs = Runs(1)
    kept, _ = seen(runs, model)
    assert len(runs) == 1
    assert runs.numbered(kept.number) is kept


def test_the_forecast_counts_what_a_forward_does(model: Model) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counted:
        kept, _ = Runs(1).run(model, IMAGE, "grey", patch_size=None, image_size=None)
    assert counted.get_total_flops() == pytest.approx(forward_flops(model, kept.run.grid.tokens), rel=0.1)
