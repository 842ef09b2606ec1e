"""Laws of remembered runs and of the thread that makes them: no forward twice, a bound, the newest wanted first."""

from __future__ import annotations

import threading
from contextvars import ContextVar, copy_context

import numpy as np
import pytest
import torch

import vislab
from vislab.lab.runs import Runs, forward_flops
from vislab.lab.worker import Newest, Superseded, Unless
from vislab.models.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    return vislab.load("embedded")


IMAGE = np.zeros((32, 48, 3), np.uint8)


def seen(runs: Runs, model: Model, **how: object):
    return runs.run(model, IMAGE, "grey", **{"patch_size": 16, "image_size": 64, **how})


@pytest.mark.slow
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
    runs = Runs(3 * one + IMAGE.nbytes)
    for scale in (1.0, 2.0, 3.0):
        seen(runs, model, attention_scale=scale)
    seen(runs, model, attention_scale=1.0)
    seen(runs, model, attention_scale=4.0)
    assert runs.bytes == 3 * one + IMAGE.nbytes  # the photograph that all are of counts once
    assert not seen(runs, model, attention_scale=1.0)[1]
    assert seen(runs, model, attention_scale=2.0)[1]


def test_the_newest_stays_even_alone(model: Model) -> None:
    runs = Runs(1)
    kept, _ = seen(runs, model)
    assert len(runs) == 1
    assert runs.numbered(kept.number) is kept


def test_runs_of_two_models_are_kept() -> None:
    runs, module = Runs(2**30), vislab.load("embedded").module
    models = [vislab.load(module) for _ in range(3)]
    for one in (*models[:2], models[0], models[2]):
        seen(runs, one)
        seen(runs, one, attention_scale=2.0)
    assert len(runs) == 4
    assert not seen(runs, models[0])[1]
    assert seen(runs, models[1])[1]
    assert len(runs) == 3


def test_what_was_asked_is_made_once_and_only_the_last_is_kept(model: Model) -> None:
    kept, made = seen(Runs(1), model)[0], []
    for asked in (1, 2, 1, *range(3, 103), 102, 1):
        assert kept.once(asked, lambda asked=asked: made.append(asked) or -asked) == -asked
    assert made == [*range(1, 103), 1]
    assert len(kept.made) == 100


def test_the_forecast_counts_what_a_forward_does(model: Model) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counted:
        kept, _ = Runs(1).run(model, IMAGE, "grey", patch_size=None, image_size=None)
    assert counted.get_total_flops() == pytest.approx(forward_flops(model, kept.run.grid.tokens), rel=0.1)


def test_forecasts_are_not_made_from_a_first_forward_alone(model: Model) -> None:
    runs = Runs(2**30)
    kept, _ = seen(runs, model)
    alone = runs.rollout_seconds(kept)
    rate = runs.rate(model, IMAGE)
    assert runs.forwards == 2
    assert runs.rate(model, IMAGE) == rate >= forward_flops(model, 17) / kept.seconds
    assert runs.forwards == 2
    assert runs.rollout_seconds(kept) <= alone


def test_a_forecast_is_made_before_a_speed_is_known(model: Model) -> None:
    """A run over fewer tokens tells no speed; a lab may begin with one, by rollout."""
    runs = Runs(2**30)
    kept, _ = seen(runs, model, keep=0.5)
    assert runs.rollout_seconds(kept) == kept.seconds > 0


# ---- the newest wanted ----


def counted(model: Model, stop_at: int) -> list[int]:
    """Layers that ran in a forward that is to be left off in layer `stop_at`."""
    ran: list[int] = []
    layers = [part for name, part in model.module.named_modules() if name.rpartition(".")[0].endswith("layers")]
    hooks = [part.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, part in enumerate(layers)]
    try:
        seen(Runs(1), model, patch_size=8, stop=lambda: len(ran) == stop_at)
    finally:
        for hook in hooks:
            hook.remove()
    return ran


def test_a_forward_is_left_off_and_nothing_of_it_stays(model: Model) -> None:
    before = seen(Runs(1), model)[0].run.logits
    assert counted(model, 99) == list(range(12))
    with pytest.raises(Superseded):
        counted(model, 5)
    parts = list(model.module.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part) for part in parts)
    assert model.module.config.patch_size == 16
    assert torch.equal(seen(Runs(1), model)[0].run.logits, before)


def test_only_this_threads_work_is_left_off() -> None:
    other: list[torch.Tensor] = []
    with Unless(lambda: True):
        thread = threading.Thread(target=lambda: other.append(torch.ones(2) + 1))
        thread.start()
        thread.join()
        with pytest.raises(Superseded):
            torch.ones(2)
    assert other[0].tolist() == [2, 2]
    assert torch.ones(2).tolist() == [1, 1]


def test_of_what_is_wanted_meanwhile_the_newest_is_done() -> None:
    done: list[int] = []
    go, began = threading.Event(), threading.Event()

    def work(what: int) -> None:
        began.set()
        assert go.wait(30)
        if what == 1:
            assert worker.newer == 4
            raise Superseded
        done.append(what)

    worker = Newest(work, lambda error: None)
    worker.want(1)
    assert began.wait(30)
    for what in (2, 3, 4):
        worker.want(what)
    go.set()
    worker.wait(30)
    assert done == [4]


def test_work_runs_in_the_context_of_who_wanted_it() -> None:
    """Whoever the thread that does it was begun for."""
    asked_by: ContextVar[str] = ContextVar("asked_by")
    done: list[str] = []
    go, began = threading.Event(), threading.Event()

    def work(succeeds: bool) -> None:
        began.set()
        assert go.wait(30)
        done.append(asked_by.get())
        assert succeeds

    def want(who: str, succeeds: bool) -> None:
        asked_by.set(who)
        worker.want(succeeds)

    worker = Newest(work, lambda error: done.append(f"{asked_by.get()} is told"))
    copy_context().run(want, "a cell", True)
    assert began.wait(30)
    copy_context().run(want, "the page", False)
    go.set()
    with pytest.raises(AssertionError):
        worker.wait(30)
    assert done == ["a cell", "the page", "the page is told"]


def test_what_fails_is_told_and_what_comes_after_is_done() -> None:
    told: list[Exception] = []
    worker = Newest(lambda what: 1 / what, told.append)
    worker.want(0)
    with pytest.raises(ZeroDivisionError):
        worker.wait(30)
    assert len(told) == 1
    worker.want(1)
    worker.wait(30)
