"""Laws of the list of methods: an entry and its function agree, and all that names a method is read from it."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from vislab.methods import attention, perturb, registry


def test_methods_are_known_by_name() -> None:
    assert registry.method("rollout").load() is attention.rollout
    assert registry.method("integrated_gradients").load() is perturb.integrated_gradients
    with pytest.raises(ValueError, match=r"unknown method 'rolout': there are cls, .*; did you mean 'rollout'"):
        registry.method("rolout")
    with pytest.raises(ValueError, match="unknown method None"):
        registry.method(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", registry.METHODS.values(), ids=lambda method: method.name)
def test_an_entry_says_what_its_function_takes(method: registry.Method) -> None:
    parameters = inspect.signature(method.load()).parameters.values()
    own = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert own == {option.name: option.default for option in method.options}
    assert ("probe" in inspect.signature(method.load()).parameters) == method.targeted
    assert method.asks <= {"layer", "head", "query", "target"}
    assert not method.with_query or "query" in registry.METHODS[method.with_query].asks
    assert method.label
    assert method.source


def test_options_name_their_methods() -> None:
    takers = {option.name: names for option, names in registry.options().items()}
    assert takers["residual"] == ["rollout", "grad_rollout"]
    assert takers["steps"] == ["integrated_gradients"]


def test_a_method_that_is_added_is_there_and_can_be_a_function_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "METHODS", dict(registry.METHODS))
    mine = registry.Method("mine", len, frozenset({"target"}), "mine", "nowhere")
    registry.add(mine)
    assert registry.method("mine").load() is len
    assert "mine" in registry.targeted()


def test_the_list_loads_no_framework() -> None:
    script = "import sys, vislab.methods.request, vislab.detectors.request; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "matplotlib", "cv2"} & set(loaded)
