"""The methods by name, and which questions each of them answers."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from .attention import attention, cls, rollout
from .contribution import both_contribution, cls_contribution, token_contribution
from .perturb import grad_cam, integrated_gradients, occlusion
from .question import Answer, Question, fused_heads, layer_index, rollout_fusion
from .relevance import grad_rollout, relevance

METHODS: Mapping[str, Callable[..., Answer]] = {
    "cls": cls,
    "rollout": rollout,
    "attention": attention,
    "relevance": relevance,
    "grad_rollout": grad_rollout,
    "grad_cam": grad_cam,
    "integrated_gradients": integrated_gradients,
    "occlusion": occlusion,
    "cls_contribution": cls_contribution,
    "token_contribution": token_contribution,
    "both_contribution": both_contribution,
}
# What of a question makes a difference to a method.
ASKED: Mapping[str, frozenset[str]] = {
    "cls": frozenset({"layer", "head"}),
    "rollout": frozenset({"layer", "head", "query"}),
    "attention": frozenset({"layer", "head", "query"}),
    "relevance": frozenset({"query", "target"}),
    "grad_rollout": frozenset({"query", "target"}),
    "grad_cam": frozenset({"layer", "target"}),
    "integrated_gradients": frozenset({"target"}),
    "occlusion": frozenset({"target"}),
    "cls_contribution": frozenset({"target"}),
    "token_contribution": frozenset({"target"}),
    "both_contribution": frozenset({"target"}),
}
# Methods that answer for one class: they are given a Probe, where the others read a Capture.
TARGETED = tuple(name for name in METHODS if "target" in ASKED[name])


def method(name: str, options: Mapping[str, Any]) -> Callable[..., Answer]:
    """The method by name, once its options are known to it. Raises ValueError for unknown names and options."""
    if name not in METHODS:
        near = difflib.get_close_matches(str(name), METHODS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown method {name!r}: there are {', '.join(METHODS)}{hint}")
    found = METHODS[name]
    own = [p.name for p in inspect.signature(found).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in own:
            raise ValueError(f"method {name!r} has no option {option!r}: its own are {', '.join(own) or 'none'}")
    return found


def check(name: str, question: Question, layers: int, heads: int) -> None:
    """Raise ValueError for what a method does not answer, or a model of so many layers and heads does not have."""
    if name == "rollout":
        rollout_fusion(question)
    if name == "cls" and question.token is not None:
        raise ValueError("method 'cls' asks what CLS attends to: leave query out, or take method='attention'")
    given = {"layer": question.layer != -1, "head": question.head != "mean", "query": question.token is not None}
    for part, changed in given.items():
        if changed and part not in ASKED[name]:
            raise ValueError(f"method {name!r} goes through all of the model: it has no {part}, leave it out")
    if question.layer != "mean" or name == "grad_cam":
        layer_index(question.layer, layers)
    fused_heads(torch.zeros(heads), question.head)
