"""Laws of `capture`: nothing is left whatever happens, copies and other threads are their own, nesting adds up."""

from __future__ import annotations

import contextlib
import copy
import dis
import gc
import io
import math
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from families import BATCH, FAMILIES, Inputs, image
from laws import attends, difference, fused, maps, output, read, tokens, vit
from tiny import fingerprint
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import vislab
from vislab.engine import hooks
from vislab.engine.capture import Capture
from vislab.engine.eye import eye

LAYER = "layers.1.attention"  # of the tiny ViT


@pytest.mark.unmeasured
@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["before", "inside"])
def test_a_compiled_model_is_read_too(compiled: str) -> None:
    model, x = nn.Sequential(attends(fused)), tokens()["x"]
    expected = maps(read(attends(fused), {"x": x}))
    with torch.no_grad():
        plain = model(x)
        fast = torch.compile(model, backend="eager")
        if compiled == "before":
            fast(x)
        with vislab.capture(model) as cap:
            captured = fast(x)
        assert difference(maps(cap), expected) < 1e-6
        assert torch.equal(captured, plain)
        assert torch.equal(fast(x), plain)
        with vislab.capture(fast, attention_scale=2.0) as cap:
            changed = fast(x)
        assert list(cap.sites) == ["_orig_mod.0"]
        assert difference(maps(cap), maps(read(attends(fused), {"x": x}, attention_scale=2.0))) < 1e-6
        assert not torch.allclose(changed, plain, atol=1e-2)
        assert torch.equal(fast(x), plain)
    torch.compiler.reset()


@pytest.mark.unmeasured
@pytest.mark.slow
@pytest.mark.parametrize("way", ["torch.compile", "compile()"])
def test_each_of_many_captures_of_a_compiled_model_reads_its_own(way: str) -> None:
    model, x = nn.Sequential(attends(fused)), tokens()["x"]
    expected = {scale: maps(read(attends(fused), {"x": x}, attention_scale=scale)) for scale in (1.0, 2.0)}
    fast = torch.compile(model, backend="eager") if way == "torch.compile" else model
    if fast is model:
        model.compile(backend="eager")
    with torch.no_grad():
        for scale in (1.0, 2.0, 1.0, 2.0, 1.0):
            with vislab.capture(model, attention_scale=scale) as cap:
                fast(x)
            assert difference(maps(cap), expected[scale]) < 1e-6
    torch.compiler.reset()


@pytest.mark.unmeasured
@pytest.mark.slow
def test_a_model_that_may_be_one_graph_only_is_refused_in_words() -> None:
    model, x = nn.Sequential(attends(fused)), tokens()["x"]
    fast = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        plain = fast(x)
        with (
            pytest.raises(Exception, match="vislab reads attention between graphs: compile without fullgraph"),
            vislab.capture(model),
        ):
            fast(x)
        assert torch.equal(fast(x), plain)
    torch.compiler.reset()


def test_script_modules_are_refused() -> None:
    with torch.no_grad():
        traced = torch.jit.trace(attends(fused), tokens()["x"])
    before = set(vars(traced))
    for module in (traced, nn.Sequential(traced)):
        with pytest.raises(TypeError, match="TorchScript"), vislab.capture(module):
            pass
    assert set(vars(traced)) == before


def test_only_torch_modules_are_captured() -> None:
    with pytest.raises(TypeError, match=r"needs a torch module, not dict; of a vislab Model take \.module"):
        vislab.capture({}).__enter__()  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf, "2", None, True, np.True_, {0: 0}, {0: "a"}])
def test_a_scale_that_is_none_is_refused(scale: Any) -> None:
    with pytest.raises(
        ValueError, match=r"attention_scale must be a number above 0 and finite, not .*1 is the trained"
    ):
        read(vit(), attention_scale=scale)


def test_a_scale_may_be_a_number_of_numpy() -> None:
    plain = read(vit(), attention_scale={1: 0.5})
    assert difference(maps(read(vit(), attention_scale={np.int64(1): np.float32(0.5)})), maps(plain)) == 0


@pytest.mark.parametrize("index", [2, -1, "layers.0.attention", 0.0, True])
def test_a_scale_for_no_site_is_refused(index: Any) -> None:
    with pytest.raises(
        ValueError, match=r"attention_scale is for no site .*: (their indices run from 0 to 1|sites are counted from 0)"
    ):
        read(vit(), attention_scale={index: 2.0})


@pytest.mark.parametrize("where", ["the same module", "its part"])
@pytest.mark.parametrize("name", ["ViT", "torchvision"])
def test_nested_captures_multiply_and_report_what_was_used(where: str, name: str) -> None:
    model, inputs = FAMILIES[name].model(), FAMILIES[name].inputs()
    part = model if where == "the same module" else model.get_submodule(next(iter(read(model, inputs).sites)))
    one = read(model, inputs).layers[0].scale
    for scales in ((2.0, 1.5), (1.5, 2.0), (1.0, 3.0), (3.0, 1.0)):
        first, second = (vislab.capture(m, attention_scale=s) for m, s in zip((model, part), scales, strict=True))
        with torch.no_grad(), first as outer, second as inner:
            model(**inputs)
        assert outer.layers[0].scale == inner.layers[0].scale == pytest.approx(3 * one)
        assert torch.equal(outer.attention(0, slice(None)), inner.attention(0, slice(None)))
    with torch.no_grad(), vislab.capture(part, attention_scale=1.5) as inner, vislab.capture(model) as outer:
        model(**inputs)
    assert outer.layers[0].scale == inner.layers[0].scale == pytest.approx(1.5 * one)


def state(model: nn.Module) -> tuple[Any, ...]:
    """All that a capture touches: what `fingerprint` holds, every table of hooks, and this thread's stack of modes."""
    parts = [vars(part) for part in model.modules()]
    tables = [(key, len(table)) for part in parts for key, table in part.items() if "_hooks" in key and table]
    wrapped = [name for name, part in model.named_modules() if "forward" in vars(part)]
    return fingerprint(model), tables, wrapped, torch.overrides._get_current_function_mode_stack()


@pytest.fixture(params=["ViT", "torchvision", "timm"])
def untouched(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, Inputs]]:
    """A model, half of it in training mode, whose state after the test is its state before."""
    model, inputs = FAMILIES[request.param].model(), FAMILIES[request.param].inputs()
    next(iter(model.children())).train()
    before = state(model)
    assert before[1:] == ([], [], [])
    yield model, inputs
    assert state(model) == before


Model = tuple[nn.Module, Inputs]


@pytest.mark.parametrize("options", [{}, {"attention_scale": 2.0}, {"attention_scale": {0: 2.0}}])
def test_nothing_is_left_after_success(untouched: Model, options: Any) -> None:
    model, inputs = untouched
    read(model, inputs, **options).rollout()


@pytest.mark.parametrize("error", [RuntimeError("in the model"), KeyboardInterrupt(), SystemExit()])
def test_nothing_is_left_after_an_exception_in_the_model(
    untouched: Model, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = untouched
    kernel, seen = F.scaled_dot_product_attention, []

    def failing(*args: Any, **kwargs: Any) -> Tensor:
        seen.append(1)
        if len(seen) == 2:  # in the midst of the second layer
            raise error
        return kernel(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(F, "scaled_dot_product_attention", failing)
        with pytest.raises(type(error)) as raised:
            read(model, inputs, attention_scale=2.0)
    assert raised.value is error
    assert len(seen) == 2
    assert read(model, inputs).layers[0].scale == pytest.approx(8**-0.5)


def test_an_exception_in_the_block_is_the_users_own(untouched: Model) -> None:
    model, _ = untouched
    error = KeyError("mine")
    with pytest.raises(KeyError) as raised, vislab.capture(model):
        raise error
    assert raised.value is error


def test_nothing_is_left_after_bad_arguments(untouched: Model) -> None:
    model, inputs = untouched
    for scale in (-1, {-1: 2.0}, {99: 2.0}):
        with pytest.raises(ValueError, match="attention_scale"), vislab.capture(model, attention_scale=scale):
            model(**inputs)
    with pytest.raises(TypeError), vislab.capture(model):
        model(1, 2, 3, 4, 5, 6, 7, 8, 9)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_captures_may_be_closed_in_any_order(untouched: Model, order: tuple[int, ...]) -> None:
    model, inputs = untouched
    part = model.get_submodule(next(iter(read(model, inputs).sites)))
    managers = [vislab.capture(m, attention_scale=s) for m, s in ((model, 2.0), (part, 3.0), (model, 5.0))]
    factors = {0: 2.0, 1: 3.0, 2: 5.0}
    captured = [manager.__enter__() for manager in managers]
    one = 8**-0.5
    for closed in order:
        with torch.no_grad():
            model(**inputs)
        for still in factors:
            assert captured[still].layers[0].scale == pytest.approx(one * math.prod(factors.values()))
        managers[closed].__exit__(None, None, None)
        del factors[closed]
    assert read(model, inputs).layers[0].scale == pytest.approx(one)


def test_an_exit_stack_leaves_nothing(untouched: Model) -> None:
    model, inputs = untouched
    with ExitStack() as stack:
        captured = [stack.enter_context(vislab.capture(model)) for _ in range(3)]
        model(**inputs)
    assert len({float(cap.rollout().sum()) for cap in captured}) == 1


# What measures coverage may look at the locals of all frames, and so hold what is deleted here.
@pytest.mark.unmeasured
def test_a_generator_deleted_half_way_leaves_nothing(untouched: Model) -> None:
    model, inputs = untouched

    def steps() -> Iterator[Capture]:
        with vislab.capture(model, attention_scale=2.0) as cap:
            model(**inputs)
            yield cap
            raise AssertionError("never reached")

    generator = steps()
    cap = next(generator)
    del generator
    gc.collect()
    assert cap.rollout().shape[0] == BATCH
    assert read(model, inputs).layers[0].scale == pytest.approx(8**-0.5)


@pytest.mark.unmeasured
def test_a_capture_that_nobody_holds_leaves_nothing(untouched: Model) -> None:
    model, inputs = untouched
    manager = vislab.capture(model, attention_scale=2.0)
    manager.__enter__()
    model(**inputs)
    del manager
    gc.collect()


def test_a_forward_of_the_instance_is_put_back() -> None:
    model = vit()
    part = model.get_submodule(LAYER)
    seen = []
    original = part.forward

    def own(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return original(*args, **kwargs)

    part.forward = own
    expected = maps(read(vit()))
    assert difference(maps(read(model)), expected) == 0
    assert part.forward is own
    assert seen == [1]


def test_a_forward_that_somebody_wraps_meanwhile_stays_theirs() -> None:
    model = vit()
    part = model.get_submodule(LAYER)
    plain = output(model, {"pixel_values": image()})
    with vislab.capture(model) as cap:
        ours = part.forward
        theirs = part.forward = lambda *args, **kwargs: ours(*args, **kwargs)
        model(image())
    assert part.forward is theirs
    assert cap.attention(LAYER).isfinite().all()
    assert torch.equal(output(model, {"pixel_values": image()}), plain)
    assert LAYER in read(model).sites


def elsewhere(run: Callable[[], Any]) -> Any:
    """What a function returns in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def shallow(module: nn.Module) -> nn.Module:
    """A copy that shares all but its weights, which are twice the module's."""
    twin = copy.copy(module)
    twin._modules = {name: shallow(child) for name, child in module.named_children()}
    twin._parameters = {n: nn.Parameter(2 * p.detach()) for n, p in module.named_parameters(recurse=False)}
    return twin


def replica(module: nn.Module) -> nn.Module:
    """What nn.DataParallel makes of a module for another device, with twice its weights."""
    twin = module._replicate_for_data_parallel()
    twin._modules = {name: replica(child) for name, child in module.named_children()}
    for name, parameter in module.named_parameters(recurse=False):
        setattr(twin, name, 2 * parameter.detach())
    return twin


def deep(module: nn.Module) -> nn.Module:
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(2)
    return twin


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("make", [shallow, replica, deep])
def test_a_copy_made_under_capture_computes_with_its_own_weights(
    untouched: Model, make: Callable[[nn.Module], nn.Module], scale: float
) -> None:
    model, inputs = untouched
    with torch.no_grad():
        plain, doubled = output(model, inputs), output(make(model), inputs)
        assert not torch.allclose(plain, doubled, atol=0.1)
        with vislab.capture(model, attention_scale=scale) as cap:
            own = output(model, inputs)
            before = maps(cap)
            twin = make(model)
            for run in (lambda: output(twin, inputs), lambda: elsewhere(lambda: output(twin, inputs).detach())):
                assert torch.allclose(run(), doubled, atol=1e-3)  # shared hooks keep torch from its fast path
            assert difference(maps(cap), before) == 0
            assert torch.equal(output(model, inputs), own)
        assert torch.equal(output(twin, inputs), doubled)
        assert torch.equal(output(model, inputs), plain)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in twin.modules())
    assert maps(read(twin, inputs))[0].shape == before[0].shape


def test_a_model_saved_under_capture_needs_no_vislab(untouched: Model) -> None:
    model, inputs = untouched
    buffer = io.BytesIO()
    with vislab.capture(model):
        torch.save(model, buffer)
    assert b"vislab" not in buffer.getvalue()
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=False)
    assert torch.equal(output(saved, inputs), output(model, inputs))
    assert difference(maps(read(saved, inputs)), maps(read(model, inputs))) == 0


def test_only_the_thread_that_opened_the_capture_is_recorded(untouched: Model) -> None:
    model, inputs = untouched
    with torch.no_grad():
        plain = output(model, inputs)
    found: list[Tensor] = []

    def elsewhere() -> None:
        with torch.no_grad():
            found.append(output(model, inputs))

    with vislab.capture(model, attention_scale=3.0) as cap:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert not cap.sites
        with torch.no_grad():
            changed = output(model, inputs)
        first = maps(cap)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert difference(maps(cap), first) == 0
    assert len(found) == 2
    assert all(torch.equal(result, plain) for result in found)
    assert not torch.allclose(changed, plain, atol=1e-2)


# ---- Ctrl-C ----

ENGINE = Path(hooks.__file__).parent
PLACES = {"CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD", "SEND"}  # after which Python looks whether there was a signal
STRIDE = 7  # every seventh of them, for the sake of time


def interrupted(run: Callable[[], None], at: int) -> bool:
    """Run with a KeyboardInterrupt at the nth place in the engine where Python could raise one; whether it was met."""
    count, last = 0, {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        code = frame.f_code
        if code.co_filename == contextlib.__file__:  # what contextlib does for a generator counts as the generator's
            generator = getattr(frame.f_locals.get("self"), "gen", None)
            source = "" if generator is None else generator.gi_code.co_filename
        else:
            source = code.co_filename
        if Path(source).parent != ENGINE:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        before, here = last.get(frame), dis.opname[code.co_code[frame.f_lasti]] if frame.f_lasti >= 0 else ""
        last[frame] = here
        if event == "call" or (event == "opcode" and before in PLACES):
            count += 1
            if count == at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        run()
    except KeyboardInterrupt:
        assert count == at
    finally:
        sys.settrace(None)
        last.clear()  # whoever holds a frame holds the capture in it
    return count == at


def projected() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(attends(fused), nn.TransformerEncoderLayer(32, 4, 48, dropout=0.0)).eval()


@pytest.mark.slow
@pytest.mark.unmeasured
def test_ctrl_c_anywhere_leaves_nothing() -> None:
    model, x = projected(), tokens(4)["x"]
    with torch.no_grad():
        plain = model(x)
    before, met = state(model), 0

    @torch.no_grad()
    def run() -> None:
        with vislab.capture(model, attention_scale=2.0), vislab.capture(model[0]):
            model(x)

    while interrupted(run, met + STRIDE):
        met += STRIDE
        assert state(model) == before, met
        assert not eye().recordings
    assert met > 300
    with torch.no_grad():
        assert torch.equal(model(x), plain)


@pytest.mark.slow
@pytest.mark.unmeasured
def test_after_a_ctrl_c_inside_the_block_the_next_forward_is_read_as_ever() -> None:
    model, x = projected(), tokens(4)["x"]
    expected = maps(read(model, {"input": x}, attention_scale=2.0))
    met = True
    at = 0
    q = torch.randn(1, 1, 3, 8)
    alone = F.scaled_dot_product_attention(q, q, q)
    while met:
        at += STRIDE
        with torch.no_grad(), vislab.capture(model, attention_scale=2.0) as cap:
            met = interrupted(lambda: model(x), at)
            model(x)
            assert torch.equal(F.scaled_dot_product_attention(q, q, q), alone)
        assert difference(maps(cap), expected) == 0, at
    assert at > 100


class Stopped(TorchFunctionMode):
    """A kernel of fused attention that Ctrl-C stops once."""

    stops = 1

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention and self.stops:
            self.stops -= 1
            raise KeyboardInterrupt
        return func(*args, **kwargs or {})


def test_a_module_that_ctrl_c_left_in_a_kernel_scales_nothing_any_more() -> None:
    model, q = attends(fused), torch.randn(1, 1, 3, 8)
    alone, expected = fused(q, q, q, model), maps(read(model, tokens(), attention_scale=2.0))
    with torch.no_grad(), Stopped(), vislab.capture(model, attention_scale=2.0) as cap:
        with pytest.raises(KeyboardInterrupt):
            model(**tokens())
        assert torch.equal(fused(q, q, q, model), alone)
        model(**tokens())
    assert difference(maps(cap), expected) == 0


@pytest.mark.parametrize("gradients", [None, 0, 1, "yes", [], torch.ones(2)])
def test_a_flag_that_is_none_is_refused(gradients: Any) -> None:
    with pytest.raises(ValueError, match="gradients is True or False, not"):
        vislab.capture(attends(fused), gradients=gradients).__enter__()
