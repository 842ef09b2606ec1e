"""Laws of a thread's eye: functions go to the module that runs, all others through; the mode is there while needed."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from laws import Attends, attends, difference, fused, maps, read, tokens, weights
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

import vislab
from vislab.engine.capture import Capture
from vislab.engine.eye import eye
from vislab.engine.site import AttentionRefused


class Above(TorchFunctionMode):
    """A mode of somebody else."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **kwargs or {})


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert not _get_current_function_mode_stack()
    assert not eye().recordings


class Around(nn.Module):
    """Attention amid functions that look like it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = attends(fused)

    def forward(self, x: Tensor) -> Tensor:
        x = self.alike(x)
        return self.alike(self.inner(x))

    @staticmethod
    def alike(x: Tensor) -> Tensor:
        q = x.unflatten(-1, (4, 8)).transpose(1, 2)
        return (F.scaled_dot_product_attention(q, q, q) + weights(q, q) @ q).transpose(1, 2).flatten(2)


def test_what_attends_belongs_to_the_innermost_module_that_runs() -> None:
    model = nn.Sequential(Around())
    with torch.no_grad(), vislab.capture(model) as cap:
        model(tokens()["x"])
        Around.alike(tokens()["x"])  # no module runs
    assert list(cap.sites) == ["0[0]", "0[1]", "0.inner", "0[2]", "0[3]"]
    assert difference([cap.attention("0[0]", slice(None))], [cap.attention("0[1]", slice(None))]) < 1e-6
    with pytest.raises(AttentionRefused, match=r"'0' \(Around\) attends more than once.*0\[0\], 0\[1\]"):
        cap.attention("0")
    with pytest.raises(AttentionRefused, match="one after the other or side by side cannot be told"):
        cap.rollout()


def test_functions_that_no_module_of_the_capture_calls_are_not_scaled() -> None:
    model, x = Around(), tokens()["x"]
    with torch.no_grad(), vislab.capture(model.inner, attention_scale=2.0) as cap:
        changed = model(x)
        alike = model.alike(x)
    with torch.no_grad():
        assert torch.equal(alike, model.alike(x))
        alone = read(model.inner, {"x": alike}, attention_scale=2.0)
        assert not torch.allclose(changed, model(x), atol=1e-3)
    assert list(cap.sites) == [""]
    assert difference(maps(cap), maps(alone)) == 0


class Doors(nn.Module):
    """Two attentions that may be entered by another door than forward."""

    def __init__(self, attend: Callable[..., Tensor]) -> None:
        super().__init__()
        self.first, self.second = attends(attend), attends(attend)

    def features(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


def test_another_door_is_a_forward_too() -> None:
    model, x, other = Doors(fused), tokens()["x"], tokens(5)["x"]
    with torch.no_grad(), vislab.capture(model) as cap:
        model.features(other)
        model.features(x)
    assert list(cap.sites) == ["first", "second"]
    assert difference(maps(cap), maps(read(model, {"x": x}))) == 0
    with torch.no_grad(), vislab.capture(model) as cap:
        model.second(model.first(x))
        model.first(other)
    assert [site.keys for site in cap.sites.values()] == [9, 5]


@pytest.mark.parametrize("order", [("features", "forward"), ("forward", "features")])
def test_what_one_door_shows_is_no_less_refused_behind_another(order: tuple[str, str]) -> None:
    model, x = Doors(lambda q, k, v, m: fused(q.mT, k.mT, v.mT, m).mT), tokens(8)["x"]  # over channels
    for _ in range(2):
        for door in order:
            with torch.no_grad(), vislab.capture(model) as cap:
                getattr(model, door)(x)
            with pytest.raises(AttentionRefused, match="runs over channels"):
                cap.attention(0)


def test_the_mode_is_there_once_while_any_capture_is_open() -> None:
    model = attends(fused)
    with vislab.capture(model), vislab.capture(model):
        assert _get_current_function_mode_stack() == [eye()]


def test_modes_of_others_stay_where_they_are() -> None:
    model, below, above = attends(fused), Above(), Above()
    with below:
        manager = vislab.capture(model)
        cap = manager.__enter__()
        above.__enter__()
        with torch.device("cpu"):
            model(**tokens())
        manager.__exit__(None, None, None)
        assert _get_current_function_mode_stack() == [below, above]
        above.__exit__(None, None, None)
    assert difference(maps(cap), maps(read(model, tokens()))) == 0


def test_generators_that_capture_may_take_turns() -> None:
    model = attends(fused)

    def steps(scale: float) -> Iterator[Capture]:
        with vislab.capture(model, attention_scale=scale) as cap:
            yield cap
            model(**tokens())
            yield cap

    one, two = steps(2.0), steps(3.0)
    next(one), next(two)
    with torch.no_grad():
        first, second = next(one), next(two)
        one.close()
        model(**tokens())
    two.close()
    expected = {scale: maps(read(model, tokens(), attention_scale=scale)) for scale in (3.0, 6.0)}
    assert difference(maps(first), expected[6.0]) < 1e-6
    assert difference(maps(second), expected[3.0]) < 1e-6


def test_two_threads_capture_one_module_each_for_itself() -> None:
    model, found, together = attends(fused), {}, threading.Barrier(2, timeout=30)

    def run(scale: float) -> None:
        x = tokens()["x"] * scale
        with torch.no_grad(), vislab.capture(model, attention_scale=scale) as cap:
            for _ in range(20):
                together.wait()
                model(x)
        found[scale] = maps(cap)

    threads = [threading.Thread(target=run, args=(scale,)) for scale in (1.0, 2.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for scale, got in found.items():
        expected = read(model, {"x": tokens()["x"] * scale}, attention_scale=scale)
        assert difference(got, maps(expected)) < 1e-6
    assert sorted(found) == [1.0, 2.0]


def test_a_capture_that_another_thread_ends_is_over_and_the_next_one_takes_its_mode_away() -> None:
    model = attends(fused)
    manager = vislab.capture(model, attention_scale=2.0)
    with torch.no_grad():
        plain = model(**tokens())
        cap = manager.__enter__()
        model(**tokens())
        read_inside = maps(cap)
        thread = threading.Thread(target=manager.__exit__, args=(None, None, None))
        thread.start()
        thread.join()
        assert not model._forward_hooks
        assert not model._forward_pre_hooks
        assert torch.equal(model(**tokens()), plain)
        assert difference(maps(cap), read_inside) == 0
        assert difference(maps(read(model, tokens(), attention_scale=2.0)), read_inside) == 0


def test_a_module_whose_failure_is_caught_attends_no_more() -> None:
    def failing(*_: Any) -> Tensor:
        raise ValueError("no attention today")

    class Caught(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.broken, self.inner = attends(failing), attends(fused)

        def forward(self, x: Tensor) -> Tensor:
            with pytest.raises(ValueError, match="no attention today"):
                self.broken(x)
            return self.inner(x)

    model = Caught()
    with torch.no_grad(), vislab.capture(model, attention_scale={0: 2.0}) as cap:
        model(**tokens())
    assert "neither a fused call nor a softmax" in str(cap.sites["broken"].refused)
    alone = read(model.inner, tokens(), attention_scale=2.0)
    assert difference([cap.attention("inner", slice(None))], maps(alone)) == 0


def test_a_module_that_runs_within_itself_attends_twice() -> None:
    class Twice(Attends):
        def forward(self, x: Tensor, again: bool = True) -> Tensor:
            return super().forward(self(x, again=False) if again else x)

    torch.manual_seed(0)
    model, x = Twice(fused), tokens()["x"]
    cap = read(nn.Sequential(model), {"input": x})
    with torch.no_grad():
        once = model(x, again=False)
    for name, given in (("0[0]", x), ("0[1]", once)):
        alone = read(model, {"x": given, "again": False})
        assert difference([cap.attention(name, slice(None))], maps(alone)) < 1e-6


def test_torch_leaves_its_fast_path_while_it_is_watched() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 48, batch_first=True), 2).eval()
    x = tokens()["x"]
    expected = maps(read_with_gradients(model, x))
    with torch.inference_mode():
        plain = model(x)
        with vislab.capture(model) as cap:
            captured = model(x)
        assert torch.equal(model(x), plain)
    assert len(cap.layers) == 2
    assert difference(maps(cap), expected) < 1e-6
    assert torch.allclose(captured, plain, atol=1e-5)


def read_with_gradients(model: nn.Module, x: Tensor) -> Capture:
    """With gradients there is no fast path."""
    with vislab.capture(model) as cap:
        model(x)
    return cap


@contextmanager
def hooked(module: nn.Module, seen: list[str]) -> Iterator[None]:
    before = module.register_forward_pre_hook(lambda *_: seen.append("before"))
    after = module.register_forward_hook(lambda m, args, output: seen.append("after") or 2 * output)
    yield
    before.remove()
    after.remove()


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_hooks_of_others_run_as_ever(first: str) -> None:
    model, seen = attends(fused), []
    plain, expected = model(**tokens()), maps(read(model, tokens()))
    if first == "theirs":
        with hooked(model, seen), vislab.capture(model) as cap:
            changed = model(**tokens())
    else:
        with vislab.capture(model) as cap, hooked(model, seen):
            changed = model(**tokens())
    assert seen == ["before", "after"]
    assert torch.equal(changed, 2 * plain)
    assert difference(maps(cap), expected) == 0


def test_what_comes_after_attention_is_looked_at_once_and_not_in_later_forwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor, module: nn.Module) -> Tensor:
        result = weights(q, k) @ v
        for _ in range(module.functions):
            result = result + 1
        return result

    looked: list[Any] = []
    follow = vislab.engine.eye.follow
    monkeypatch.setattr(
        vislab.engine.eye, "follow", lambda axes, func, *call: (looked.append(func), follow(axes, func, *call))
    )
    counts = []
    for functions in (2, 60):
        model = attends(attend)
        model.functions = functions
        read(model, tokens())
        looked.clear()
        read(model, tokens())
        counts.append(len(looked))
    assert counts[0] == counts[1] < 20


def test_what_a_function_deletes_is_not_kept_alive() -> None:
    """A part of the model runs alone, so that all who call are looked at, down to the function that deletes."""
    model = nn.Sequential(attends(fused))

    def kept(part: nn.Module) -> bool:
        deleted = torch.zeros(1)
        alive = weakref.ref(deleted)
        part(tokens()["x"])
        del deleted
        return alive() is not None

    with torch.no_grad(), vislab.capture(model):
        assert not kept(model[0])
