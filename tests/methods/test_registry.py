"""Laws of the registry: methods, their options and their questions are known by name, and what is wrong is refused."""

from __future__ import annotations

import pytest

from vislab.methods import attention, perturb, registry
from vislab.methods.question import Question


def test_methods_and_options_are_known_by_name() -> None:
    assert registry.method("rollout", {"start": 1, "residual": 0.1, "discard": 0}) is attention.rollout
    with pytest.raises(ValueError, match=r"unknown method 'rolout': there are cls, .*; did you mean 'rollout'"):
        registry.method("rolout", {})
    with pytest.raises(ValueError, match="unknown method None"):
        registry.method(None, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'rollout' has no option 'discrad': its own are start, residual, discard"):
        registry.method("rollout", {"discrad": 0.1})
    with pytest.raises(ValueError, match="'cls' has no option 'start': its own are none"):
        registry.method("cls", {"start": 1})
    assert registry.method("integrated_gradients", {"steps": 3}) is perturb.integrated_gradients


def test_every_method_says_what_it_answers() -> None:
    assert set(registry.ASKED) == set(registry.METHODS)
    read = {name for name, how in registry.METHODS.items() if how.__module__ == attention.__name__}
    assert set(registry.TARGETED) == set(registry.METHODS) - read


@pytest.mark.parametrize(
    ("name", "question", "words"),
    [
        ("cls", Question(None, True, 2, "mean"), "no layer 2: layers run from 0 to 1, or from -1 to -2"),
        ("cls", Question(None, True, -3, "mean"), "no layer -3"),
        ("cls", Question(None, True, "last", "mean"), "no layer 'last': layers run from 0 to"),  # type: ignore[arg-type]
        ("cls", Question(None, True, 1, 4), "no head 4: heads run from 0 to 3"),
        ("cls", Question(None, True, 1, -5), "no head -5"),
        ("cls", Question(None, True, 1, "sum"), "head is an index, 'mean', 'max' or 'min', not 'sum'"),  # type: ignore[arg-type]
        ("cls", Question(7, True, 1, "mean"), "'cls' asks what CLS attends to: leave query out, or take method="),
        ("rollout", Question(None, True, "mean", "mean"), "layer is the last one's index"),
        ("rollout", Question(None, True, -1, 2), "head is 'mean', 'max' or 'min', not layer=-1 and head=2"),
        ("rollout", Question(None, True, 2, "mean"), "no layer 2"),
        ("relevance", Question(None, True, 1, "mean"), "'relevance' goes through all of the model: it has no layer"),
        ("grad_rollout", Question(None, True, -1, 2), "it has no head, leave it out"),
        ("occlusion", Question(5, True, -1, "mean"), "it has no query, leave it out"),
        ("grad_cam", Question(None, True, 2, "mean"), "no layer 2: layers run from 0 to 1"),
        ("grad_cam", Question(None, True, "mean", "mean"), "no layer 'mean': layers run from 0 to"),
    ],
)
def test_questions_without_an_answer_are_refused(name: str, question: Question, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        registry.check(name, question, layers=2, heads=4)
