"""The blocks of a model's layers: found once, and what a forward makes of other tokens in their place."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.site import AttentionRefused
from .layers import encoder, in_sequence
from .probe import Probe
from .question import check_tokens

_BLOCKS: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, int], dict[str, str]]] = weakref.WeakKeyDictionary()


def block_path(module: nn.Module, path: str) -> str:
    """The path of the layer that an attention module is part of: the last one along its path that stands in a list."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        if isinstance(module.get_submodule(".".join(parts[: count - 1])), nn.ModuleList | nn.Sequential):
            return ".".join(parts[:count])
    raise ValueError(f"{path} stands in no list of layers, whose last one the classifier reads")


def blocks(probe: Probe) -> dict[str, str]:
    """The names of the sites that a model's layers are, in order -> the paths of their blocks.

    Found by a plain forward, once for a module and an input size, and then it is tried whether what reads the last of
    them reads several images alike. Raises AttentionRefused where it does not, or one does not follow the other.
    """
    module = probe.model.module
    known = _BLOCKS.setdefault(module, {})
    parts, size = hash(tuple(map(id, module.modules()))), hash(probe.pixels.shape)
    if (parts, size) not in known:
        known[parts, size] = _found(probe)
    return known[parts, size]


@torch.no_grad()
def _found(probe: Probe) -> dict[str, str]:
    in_sequence(probe.model)
    cap, score = probe.settled()
    layers = encoder(cap, probe.grid)
    found = {site.name: block_path(probe.model.module, site.path) for site in layers.walk(0, len(layers) - 1)}
    paths = [*found.values()]
    if len({*paths}) < len(paths):
        raise AttentionRefused(
            f"a block of {probe.model.name} runs more than once, and is no layer of its own each time"
        )

    def with_others(tokens: Tensor) -> Tensor:
        return torch.cat([tokens, tokens.flip(1)])

    try:
        with replaced_output(probe, paths[-1], with_others):
            alike = probe.scores(probe.pixels)
    except ValueError as error:
        raise AttentionRefused(f"what follows {paths[-1]} does not run on several images: {error}") from error
    size = max(1.0, float(score.abs().max()))
    if alike.shape != (2,) or abs(float(alike[0] - score)) > 200 * torch.finfo(probe.pixels.dtype).eps * size:
        raise AttentionRefused(f"what follows {paths[-1]} in {probe.model.name} does not make one score an image")
    return found


@contextmanager
def replaced_output(probe: Probe, path: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The tokens that a block hands on, (1, tokens, width), changed inside the block."""

    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        tokens = output if isinstance(output, Tensor) else output[0]
        check_tokens(tokens, probe.grid.tokens)
        return change(tokens) if isinstance(output, Tensor) else (change(tokens), *output[1:])

    with probe.model.module.get_submodule(path).register_forward_hook(hook):
        yield


@contextmanager
def each_read(probe: Probe, paths: Sequence[str]) -> Iterator[None]:
    """What follows the last block reads what each block makes, the last one's first, as images of a batch.

    No block reads another one's output in the graph: each score depends on its own block alone.
    """
    made: list[Tensor] = []

    def keep(tokens: Tensor) -> Tensor:
        made.append(tokens)
        return tokens.detach()

    def all_of_them(tokens: Tensor) -> Tensor:
        several = torch.cat([tokens, *made[::-1]])
        made.clear()
        return several

    with ExitStack() as stack:
        for path in paths[:-1]:
            stack.enter_context(replaced_output(probe, path, keep))
        stack.enter_context(replaced_output(probe, paths[-1], all_of_them))
        yield
