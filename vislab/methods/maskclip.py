"""MaskCLIP: the score of each patch alone, which in the last layer attends to itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.site import AttentionRefused
from .blocks import blocks
from .probe import Probe
from .question import Answer, Question, tokens_given


@torch.no_grad()
def maskclip(probe: Probe, question: Question) -> Answer:
    """The score of every patch for itself: its values of the last layer in place of attention (Zhou et al. 2022).

    In the last layer each patch attends to itself alone; what comes out is put in the place of all tokens that the
    model pools, and scored. The values are scores of the model, so that a constant that it adds is in all of them.
    Raises AttentionRefused for a model whose last layer does not run on single tokens, as with rotary positions.
    """
    if probe.of_function:
        raise ValueError("maskclip scores every patch: target is a class or a text, not a function of the output")
    *_, last = blocks(probe).values()
    try:
        with _each_alone(probe, last):
            return Answer(probe.scores(probe.pixels))
    except ValueError as error:
        raise AttentionRefused(
            f"maskclip lets each patch attend to itself alone, and {last} of {probe.model.name} does not run on single "
            "tokens, as with relative or rotary positions: take method='legrad'"
        ) from error


@contextmanager
def _each_alone(probe: Probe, path: str) -> Iterator[None]:
    """A block that runs on each patch as an image of one token, which stands for all tokens afterwards."""
    grid = probe.grid

    def apart(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tokens = tokens_given(args, kwargs, grid.tokens)
        alone = tokens[0, grid.patch_tokens, None]
        return tuple(alone if x is tokens else x for x in args), {
            name: alone if x is tokens else x for name, x in kwargs.items()
        }

    def filled(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        tokens = output if isinstance(output, Tensor) else output[0]
        if tokens.shape[:2] != (grid.patches, 1):
            raise ValueError(f"it makes {tuple(tokens.shape[:2])} tokens of {grid.patches} × 1")
        full = tokens.expand(-1, grid.prefix + 1 + grid.suffix, -1)
        return full if isinstance(output, Tensor) else (full, *output[1:])

    block = probe.model.module.get_submodule(path)
    with block.register_forward_pre_hook(apart, with_kwargs=True), block.register_forward_hook(filled):
        yield
