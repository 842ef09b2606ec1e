"""A module's modes and hooks, set inside a block and put back after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode; then each of its parts in its own again."""
    training = [part for part in module.modules() if part.training]
    try:
        if training:
            module.eval()
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter of the module requires a gradient inside the block; afterwards those that did do so again."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


@contextmanager
def hooked(module: nn.Module, hooks: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Forward hooks on parts of the module, by their paths."""
    handles: list[Any] = []
    try:
        for path, hook in hooks.items():
            handles.append(module.get_submodule(path).register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()
