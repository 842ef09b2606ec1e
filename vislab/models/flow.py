"""How the parts of a module that attend follow each other: one after the other, or side by side on the same input."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .modes import evaluating

# In the path of a part that reads what the layers made, or does not see.
ASIDE = re.compile(r"decoder|text|head|neck|pool", re.IGNORECASE)


@dataclass(frozen=True)
class Flow:
    """layers: how many modules attend as the first does. beside: the part whose children do so side by side, or ""."""

    layers: int
    beside: str


def flow(module: nn.Module, path: str, pixels: Tensor, arguments: Mapping[str, Any]) -> Flow:
    """How the modules that attend follow each other.

    path: of the first that attends; all of its class are taken to. Only where these do not stand in one plain list does
    the module run, once. Where it does not run through, one is taken to follow the other.
    """
    path, alike = _alike(module, path)
    branching = _branching(alike)
    if len(branching) < 2 and all(_is_list(module.get_submodule(parent)) for parent in branching):
        return Flow(len(alike), "")
    last: dict[str, tuple[Tensor, int]] = {}
    beside: list[str] = []
    ran: set[str] = set()

    def enter(parent: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
            before = last.get(parent)
            if given is None:
                return
            if before is not None and before[0] is given and before[1] == given._version:
                beside.append(parent or type(module).__name__)
            last[parent] = given, given._version

        return hook

    def note(name: str) -> Callable[..., None]:
        return lambda *_: ran.add(name)

    with ExitStack() as stack, torch.inference_mode(False), torch.no_grad(), evaluating(module):
        for parent, children in branching.items():
            for child in children:
                part = module.get_submodule(child)
                stack.callback(part.register_forward_pre_hook(enter(parent), with_kwargs=True).remove)
        for name in alike:
            stack.callback(module.get_submodule(name).register_forward_pre_hook(note(name)).remove)
        try:
            module(pixels.clone(), **arguments)
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError):
            return Flow(len(alike), "")  # a run will say why
    hints = len(ASIDE.findall(path))
    counted = [name for name in ran if len(ASIDE.findall(name.rpartition(".")[0])) <= hints]
    return Flow(len(counted) or 1, beside[0] if beside else "")


def _alike(module: nn.Module, path: str) -> tuple[str, list[str]]:
    """The path of what attends, and those of all modules of its class."""
    while path and type(module.get_submodule(path)) in (nn.Softmax, nn.Dropout, nn.Identity):
        path = path.rpartition(".")[0]
    kind = type(module.get_submodule(path))
    return path, [name for name, part in module.named_modules() if type(part) is kind]


def _branching(alike: list[str]) -> dict[str, set[str]]:
    """Parts with several children in which something attends -> the paths of these children."""
    children: dict[str, set[str]] = {}
    for name in alike:
        while name:
            parent = name.rpartition(".")[0]
            children.setdefault(parent, set()).add(name)
            name = parent
    return {parent: below for parent, below in children.items() if len(below) > 1}


def _is_list(part: nn.Module) -> bool:
    return isinstance(part, nn.ModuleList | nn.Sequential)
