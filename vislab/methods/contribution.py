"""What each patch adds to a class's score, through CLS and through average pooling: shares that add up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.attention import wide
from ..engine.site import AttentionRefused
from .blocks import block_path
from .layers import encoder
from .probe import Probe
from .question import Answer, Question, check_tokens

_NODES = 16  # of Gauss and Legendre, at which a path through the model is looked at


def cls_contribution(probe: Probe, question: Question) -> Answer:
    """What each patch adds to the score through the attention of CLS in the last layer.

    Signed. CLS takes from each token its attention × value. While all that it takes grows from nothing to what it is,
    each token has its share in the score's growth: the integral of gradient × attention × value, summed over the heads
    (Sundararajan, Taly & Yan 2017, along this path). The shares of all tokens, CLS' own and the output projection's
    bias included, sum to the score minus that of a model whose CLS takes nothing in this layer.
    """
    cap, _ = probe.settled()
    layers = encoder(cap, probe.grid)
    site, cells = layers[-1], layers.cells
    attention = probe.model.module.get_submodule(site.name)
    if not question.cls:
        raise ValueError(f"{probe.model.name} has no CLS token that could contribute: take method='token_contribution'")
    norms = [name for name, part in attention.named_modules() if re.search("Norm", type(part).__name__)]
    if any(not re.search(r"(q|k|query|key)_?(layer)?norm", name) for name in norms):
        raise AttentionRefused(
            f"the contributions through {site.name!r} ({site.kind}) do not add up: it normalises what its heads take"
        )
    nodes, weights = (torch.from_numpy(x).to(probe.pixels) for x in np.polynomial.legendre.leggauss(_NODES))
    total = torch.zeros(cells.count(site), dtype=wide(probe.pixels.dtype), device=probe.pixels.device)
    # of the nodes on -1..1 and their weights, as they are on 0..1
    for share, weight in zip(((nodes + 1) / 2).split(probe.batch), (weights / 2).split(probe.batch), strict=True):
        with _first_token_scaled(attention, share):
            cap = probe.captured(len(share), weight / share)
        if not cap.queries_read(site.name)[:, 0].any():
            raise ValueError(
                f"the score reads nothing of CLS, {probe.model.name} averages patches: take method='token_contribution'"
            )
        shares = cap.attention(site.name, 0) * cap.gradient(site.name, 0)
        total += shares.sum((0, 1))
    return Answer(cells.values(site, total), signed=True, dropped=cells.dropped(site))


@torch.no_grad()
def token_contribution(probe: Probe, question: Question) -> Answer:
    """What each patch adds to the score through average pooling: the classifier read on every patch token alone.

    Signed. The last layer's output of a patch is put in the place of every token that the classifier reads, CLS and
    patches; the scores are divided by the number of patches, so that their sum is the score averaged over the patches.
    Of a model that normalises its tokens and averages the patches, that is the score itself.
    """
    if probe.of_function:
        raise ValueError("token_contribution reads the classifier: target is a class, not a function of the output")
    cap, _ = probe.settled()
    grid, layers = probe.grid, encoder(cap, probe.grid)
    site, cells = layers[-1], layers.cells
    last, own = probe.model.module.get_submodule(block_path(probe.model.module, site.name)), cells.patches(site)

    def one_by_one(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        tokens = output if isinstance(output, Tensor) else output[0]
        check_tokens(tokens, cells.count(site))
        alone = tokens[0, own, None].expand(-1, grid.prefix + 1 + grid.suffix, -1)
        return alone if isinstance(output, Tensor) else (alone, *output[1:])

    with last.register_forward_hook(one_by_one):
        scores = probe.scores(probe.pixels) / (own.stop - own.start)
    row = F.pad(scores, (own.start, cells.count(site) - own.stop))
    return Answer(cells.values(site, row), signed=True, dropped=cells.dropped(site))


def both_contribution(probe: Probe, question: Question) -> Answer:
    """What each patch adds to the score through CLS and through average pooling: the mean of the two. Signed."""
    through = [method(probe, question) for method in (token_contribution, cls_contribution)]
    return Answer(torch.stack([one.values for one in through]).mean(0), signed=True, dropped=through[0].dropped)


@contextmanager
def _first_token_scaled(attention: nn.Module, shares: Tensor) -> Iterator[None]:
    """Attention that hands on only a share of what it has for the first token, one share an image of the batch."""

    def scaled(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        tokens = output if isinstance(output, Tensor) else output[0]
        tokens = torch.cat([tokens[:, :1] * shares[:, None, None], tokens[:, 1:]], 1)
        return tokens if isinstance(output, Tensor) else (tokens, *output[1:])

    with attention.register_forward_hook(scaled):
        yield
