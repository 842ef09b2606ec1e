"""Laws of a request: what is wrong is refused, and what it is written as makes the same request again."""

from __future__ import annotations

import ast
import inspect
import json
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vislab
from vislab.detectors import request as box_request
from vislab.lab.face import STATIC
from vislab.lab.spent import SPENT
from vislab.methods.registry import METHODS
from vislab.methods.request import DEFAULTS, Request
from vislab.models.tokens import DEFAULTS as AS_THE_MODEL
from vislab.models.tokens import Tokens

OUTLINE: Any = SimpleNamespace(name="a model", attends=True, layers=2, heads=4)
MODELS = st.sampled_from(["embedded", "facebook/dinov2-small"])
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from([*METHODS]),
        "layer": st.integers(-3, 11),
        "head": st.sampled_from(["mean", "max", "min"]),
        "query": st.one_of(st.just("cls"), st.tuples(st.floats(0, 100), st.floats(0, 100))),
        "target": st.sampled_from([None, "church", 3]),
        "attention_scale": st.one_of(st.floats(0.1, 4), st.dictionaries(st.integers(0, 11), st.floats(0.1, 4))),
        "patch_size": st.sampled_from([None, 8, 32]),
        "image_size": st.sampled_from([None, 448, (224, 336)]),
        "region": st.sampled_from([None, (0, 0, 9, 9)]),
        "residual": st.floats(0, 1),
    },
)


def asked(code: str) -> tuple[str, dict[str, Any]]:
    """The function that a call names, and its keywords."""
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    return ast.unparse(call.func), {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}


@given(SETTINGS, MODELS)
def test_the_python_of_a_request_makes_it_again(settings: dict[str, Any], model: str) -> None:
    if METHODS[settings.get("method", DEFAULTS["method"])].with_query:
        settings.pop("query", None)
    request = Request.of(settings)
    function, keywords = asked(request.call(model=model))
    assert function == "vislab.explain"
    assert keywords.pop("model", "embedded") == model
    assert Request.of(keywords) == request
    assert Request.of({**request.settings, "method": request.method}) == request


def test_defaults_are_those_of_the_functions() -> None:
    for function, defaults, data in (
        # the method is another by default where an answer is explained
        (vislab.explain, {**DEFAULTS, "model": "embedded", "method": None}, {"image", "options"}),
        (vislab.explain_box, {**box_request.DEFAULTS, "detector": "embedded"}, {"image"}),
    ):
        own = {p.name: p.default for p in inspect.signature(function).parameters.values() if p.name not in data}
        assert own == defaults


def test_how_tokens_are_spent_is_said_in_one_place() -> None:
    """A setting of `Tokens` is a field of nothing else, and goes through a request as it is."""
    assert not {part.name for part in fields(Request)} & AS_THE_MODEL.keys()
    asked = {"keep": 0.5, "keep_by": "norm", "keep_at": (3, 5), "gather": True, "merge": 2, "heads_off": {1: (0,)}}
    asked |= {"fovea": ((0.0, 0.0, 9.0, 9.0),), "fovea_patches": (16, 32)}
    assert asked.keys() == AS_THE_MODEL.keys()
    request = Request.named({"method": "cls", **asked})
    assert request.tokens == Tokens(**asked)
    assert request.changed == asked == {name: request.forward[name] for name in asked}
    assert request.spending(keep=0.7).tokens == Tokens(**{**asked, "keep": 0.7})
    assert tuple(AS_THE_MODEL) == SPENT
    assert f"export const SPENT = {json.dumps(SPENT)};" in (STATIC / "settings.js").read_text()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "cls", "layer": 2}, "no layer 2: layers run from 0 to 1, or from -1 to -2"),
        ({"method": "cls", "layer": -3}, "no layer -3"),
        ({"method": "cls", "layer": "last"}, "no layer 'last': layers run from 0 to"),
        ({"method": "cls", "head": 4}, "no head 4: heads run from 0 to 3"),
        ({"method": "cls", "head": -5}, "no head -5"),
        ({"method": "cls", "head": "sum"}, "head is an index, 'mean', 'max' or 'min', not 'sum'"),
        ({"method": "cls", "query": (1, 2)}, "'cls' asks what CLS attends to: leave query out, or take method='att"),
        ({"query": "patch"}, "query is 'cls' or a point .* not 'patch'"),
        ({"query": (1, float("inf"))}, "query is 'cls' or a point"),
        ({"layer": "mean"}, "layer is the last one's index"),
        ({"head": 2}, "head is 'mean', 'max' or 'min', not layer=-1 and head=2"),
        ({"layer": 2}, "no layer 2"),
        ({"target": "church"}, "the same for every class: leave target out, or take one of relevance"),
        ({"method": "relevance", "layer": 1}, "'relevance' goes through all of the model: it has no layer"),
        ({"method": "grad_rollout", "head": 2}, "it has no head, leave it out"),
        ({"method": "occlusion", "query": (5, 5)}, "it has no query, leave it out"),
        ({"method": "grad_cam", "layer": 2}, "no layer 2: layers run from 0 to 1"),
        ({"method": "grad_cam", "layer": "mean"}, "no layer 'mean': layers run from 0 to"),
        ({"options": {"discrad": 0.1}}, "no option 'discrad': its own are start, residual, discard.*mean 'discard'"),
        ({"method": ["cls"]}, r"unknown method \['cls'\]: there are cls"),
        ({"head": [1, 2]}, r"head is an index, 'mean', 'max' or 'min', not \[1, 2\]"),
        ({"head": np.array([1, 2])}, "head is an index, 'mean', 'max' or 'min', not array"),
        ({"layer": np.array([1, 2])}, "layer is the index of a layer, or of some methods 'mean', not array"),
        ({"options": {"residual": "half"}}, "residual, the share of the residual path, is a number, not 'half'"),
        ({"options": {"start": 1.5}}, "start, the first layer, is a whole number, not 1.5"),
        ({"options": {"discard": True}}, "is a number, not True"),
        (
            {"method": "integrated_gradients", "options": {"steps": 2.5}},
            "steps of the integral, is a whole number",
        ),
        ({"method": "cls", "options": {"start": 1}}, "'cls' has no option 'start': its own are none"),
    ],
)
def test_what_has_no_answer_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Request(**settings).fits(OUTLINE)
