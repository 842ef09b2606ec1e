"""Lens: what the model's own head would say of the tokens after each layer, read by the norm and the classifier.

The layers were not trained to be read so: an early one may be read wrongly and still hold what later ones take out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.images import load_image
from ..models.cache import model_of
from ..models.model import Model
from ..models.modes import hooked
from .blocks import block_path
from .layers import Layers, encoder
from .probe import Probe, probing
from .question import Answer, Question, check_tokens
from .request import layer_index


@dataclass(frozen=True, eq=False)
class Lens:
    """What the head says after each layer; `lens` makes one.

    labels: of the classes. scores: (layers, classes), of the layer's tokens as the head takes them, as `Model.predict`
    gives them. patches: (layers, rows, cols) int, the class that is highest for each patch alone, -1 where none stands.
    shares: (layers, rows, cols), its score.
    """

    labels: tuple[str, ...]
    scores: np.ndarray
    patches: np.ndarray
    shares: np.ndarray

    def __str__(self) -> str:
        """A line a layer: the three highest classes, and how many patches say the highest of them."""
        lines = []
        for layer, (scores, patches) in enumerate(zip(self.scores, self.patches, strict=True)):
            best = scores.argsort()[::-1][:3]
            said = ", ".join(f"{self.labels[i]} {scores[i]:.2f}" for i in best)
            agree = int((patches == best[0]).sum())
            lines.append(
                f"layer {layer:2}: {said}; of {int((patches >= 0).sum())} patches {agree} say {self.labels[best[0]]}"
            )
        return "\n".join(lines)


def lens(image: Any, *, model: str | Path | Model | nn.Module = "embedded", **forward: Any) -> Lens:
    """What the head would say after each layer, of the tokens together and of each patch alone: where a decision falls.

    image, model: as of `explain`. forward: settings of the forward, as of `explain`: patch_size, keep, heads_off, ….
    Each layer's tokens take the place of the last one's. Raises ValueError for a model without a classifier.

        print(vislab.lens("photo.jpg"))
        vislab.explain("photo.jpg", method="lens", layer=5, target="church")

    Source: nostalgebraist 2020, the logit lens; for images Vilas et al. 2023.
    """
    ready = model_of(model)
    with probing(ready, load_image(image), None, **forward) as probe, torch.no_grad():
        layers, made = _layers(probe)
        cells, shape, found = layers.cells, (probe.grid.rows, probe.grid.cols), []
        for at, tokens in enumerate(made):
            together = _said(probe, layers, tokens)[0]
            alone = _said(probe, layers, _alone(layers, at, tokens))
            share, best = alone.max(1)
            rows = [F.pad(row.float(), (cells.patches(layers[at]).start, probe.grid.suffix)) for row in (best, share)]
            values, shares = (cells.values(layers[at], row).reshape(shape).cpu().numpy() for row in rows)
            gone = cells.dropped(layers[at])
            patches = values.astype(int)
            found.append(
                (
                    together.cpu().numpy(),
                    np.where(gone.reshape(shape), -1, patches) if gone is not None else patches,
                    shares,
                )
            )
    assert ready.labels is not None
    scores, patches, shares = (np.stack(part) for part in zip(*found, strict=True))
    return Lens(ready.labels, scores, patches, shares)


@torch.no_grad()
def of_patches(probe: Probe, question: Question) -> Answer:
    """The score of the target that the head would give to each patch alone after a layer: a probability, mostly.

    A patch's token takes the place of every token that the head reads, as in `token_contribution`. Of a text it is its
    similarity to the image, as the model scales it.
    """
    if probe.of_function:
        raise ValueError("lens reads the classifier: target is a class, not a function of the output")
    layers, made = _layers(probe)
    at = layer_index(question.layer, len(layers))
    site, cells = layers[at], layers.cells
    alone = _alone(layers, at, made[at])
    scores = _in_last(probe, layers, alone, probe.scores) if probe.text else _said(probe, layers, alone)[:, probe.index]
    row = F.pad(scores, (cells.patches(site).start, probe.grid.suffix))
    return Answer(cells.values(site, row), dropped=cells.dropped(site))


def _layers(probe: Probe) -> tuple[Layers, list[Tensor]]:
    """The layers, and the tokens that each makes of the image, (1, tokens, dim)."""
    module, made = probe.model.module, []
    cap, _ = probe.settled()
    layers = encoder(cap, probe.grid)

    def keep(_: nn.Module, args: Any, output: Any) -> None:
        made.append(output if isinstance(output, Tensor) else output[0])

    with hooked(module, {block_path(module, site.path): keep for site in layers}):
        probe.scores(probe.pixels)
    for site, tokens in zip(layers, made, strict=True):
        check_tokens(tokens, layers.cells.count(site))
    return layers, made


def _alone(layers: Layers, at: int, tokens: Tensor) -> Tensor:
    """Each patch's token alone, as often as there are prefix and suffix tokens and one. -> (patches, few, dim)"""
    cells = layers.cells
    return tokens[0, cells.patches(layers[at]), None].expand(-1, cells.grid.prefix + 1 + cells.grid.suffix, -1)


def _said(probe: Probe, layers: Layers, tokens: Tensor) -> Tensor:
    """The scores of all classes, with these tokens in the place of what the last layer makes. -> (batch, classes)"""
    return _in_last(probe, layers, tokens, probe.probabilities)


def _in_last(probe: Probe, layers: Layers, tokens: Tensor, read: Callable[[Tensor], Tensor]) -> Tensor:
    """What `read` makes of a forward with these tokens in the place of what the last layer makes."""
    module = probe.model.module

    def put(_: nn.Module, args: Any, output: Any) -> Any:
        return tokens if isinstance(output, Tensor) else (tokens, *output[1:])

    with hooked(module, {block_path(module, layers[-1].path): put}):
        return read(probe.pixels)
