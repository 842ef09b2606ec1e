"""Whether parts of a module that attend run one after the other, or side by side on the same input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from .modes import evaluating


def side_by_side(module: nn.Module, path: str, pixels: Tensor, arguments: Mapping[str, Any]) -> str:
    """The path of a part whose children attend side by side; "" where none does.

    path: of a module that attends; all of its class are taken to. Only where these do not stand in one plain list does
    the module run, once. It is taken to be one after the other where it does not run through.
    """
    branching = _branching(module, path)
    if len(branching) < 2 and all(_is_list(module.get_submodule(parent)) for parent in branching):
        return ""
    last: dict[str, tuple[Tensor, int]] = {}
    found: list[str] = []

    def enter(parent: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
            if given is None:
                return
            before = last.get(parent)
            if before is not None and before[0] is given and before[1] == given._version:
                found.append(parent)
            last[parent] = given, given._version

        return hook

    with ExitStack() as stack, torch.inference_mode(False), torch.no_grad(), evaluating(module):
        for parent, children in branching.items():
            for child in children:
                part = module.get_submodule(child)
                stack.callback(part.register_forward_pre_hook(enter(parent), with_kwargs=True).remove)
        try:
            module(pixels.clone(), **arguments)
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError):
            return ""  # a run will say why
    return found[0] if found else ""


def _branching(module: nn.Module, path: str) -> dict[str, set[str]]:
    """Parts with several children in which something attends -> the paths of these children."""
    kind = module.get_submodule(path)
    while type(kind) in (nn.Softmax, nn.Dropout, nn.Identity) and path:
        path = path.rpartition(".")[0]
        kind = module.get_submodule(path)
    children: dict[str, set[str]] = {}
    for name, part in module.named_modules():
        while name and type(part) is type(kind):
            parent = name.rpartition(".")[0]
            children.setdefault(parent, set()).add(name)
            name, part = parent, kind
    return {parent: below for parent, below in children.items() if len(below) > 1}


def _is_list(part: nn.Module) -> bool:
    return isinstance(part, nn.ModuleList | nn.Sequential)
