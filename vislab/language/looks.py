"""Where a word looks: attention, rollout and relevance from the tokens at which it is predicted to the image tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.geometry import Frame, Grid
from ..engine.capture import Capture
from ..engine.hooks import capture
from ..engine.site import AttentionRefused, Site
from ..methods.question import fused_heads
from ..methods.request import Head, Layer, layer_index
from ..models.modes import evaluating, frozen
from . import crossing
from .answer import Answer
from .places import finer_grid
from .prompt import extended
from .ways import Way

_ALIKE = {torch.float64: 1e-6, torch.float32: 1e-3}  # what the rows of two ways to run a model may differ by


@dataclass(frozen=True, eq=False)
class Look:
    """values: (rows, cols) over the grid, which the frame carries to the image. facts: what is told beside the map."""

    values: np.ndarray
    grid: Grid
    frame: Frame
    facts: dict[str, Any]


def attention(answer: Answer, word: int, layer: Layer, head: Head) -> Look:
    """A word's attention at a layer, or in the mean of all; its sum is the word's image share there."""
    sites = answer.sites
    chosen = sites if layer == "mean" else [sites[layer_index(layer, len(sites))]]
    rows = torch.stack([answer.capture.attention(site, answer.rows(word))[0].mean(1) for site in chosen])
    return _over_image(answer, fused_heads(rows.mean(0), head))


def rollout(
    answer: Answer, word: int, layer: Layer, head: Head, *, start: int = 0, residual: float = 0.5, discard: float = 0.0
) -> Look:
    """Attention rollout through the language model's layers, from `start` to `layer`; the first token is never cut.

    Source: Abnar & Zuidema 2020; see `Capture.rollout`.
    """
    sites, way = answer.sites, answer.reader.way
    last = layer_index(layer, len(sites))
    if not 0 <= start <= last:
        raise ValueError(f"rollout from layer {start} to {last} has no layer: start runs from 0 to {last}")
    assert not isinstance(head, int)  # it fuses them
    begin = _start(answer, word, sites[last].queries)
    how: dict[str, Any] = {"head": head, "residual": residual, "discard": discard}
    if way.kind == "keys":
        chain = _between(answer, start, last)
        return _over_image(answer, crossing.rollout(chain, way.crossing, begin, **how)[1])
    row = answer.capture.rollout(begin, sites=sites[start : last + 1], prefix=1, **how)[0]
    if way.kind == "tokens":
        return _over_image(answer, row)
    chain = former(answer.capture, way)
    found = crossing.rollout(chain, way.crossing, _queries(answer, row, chain), prefix=0, **how)[1]
    return Look(_laid(answer, found), answer.places.grid, answer.places.frame, _shares(answer, row))


def relevance(answer: Answer, word: int, layer: Layer, head: Head) -> Look:
    """Relevance to a word's score through the language model, and on through the vision tower where it can be followed.

    The score is the sum of the logits of the word's pieces, where they are predicted. Relevance starts there and is
    carried from the last layer to the first; what arrives at an image token starts at the patches that it is made of,
    in equal parts, and is carried on through the vision tower. Where a token's patches are not all of one view's, or
    the tower attends in windows, it stays at the image tokens, and `facts` says so. Through a Q-Former, and from words
    to an image that they cross to, it is carried by `crossing.relevance`.

    Source: Chefer, Gur & Wolf 2021 (Generic Attention-model Explainability), eqs. 5 and 6.
    """
    cap = _scored(answer, word)
    sites, inside = answer.reader.sites(cap), answer.reader.decoder + "."
    begin = _start(answer, word, sites[-1].queries)
    if answer.reader.way.kind != "tokens":
        return _crossed(answer, cap, begin)
    row = cap.relevance(begin, sites=sites)[0]
    tower = [site for site in cap.layers if not site.path.startswith(inside)]
    reason = _not_followed(answer, tower)
    if reason:
        look = _over_image(answer, row)
        return Look(look.values, look.grid, look.frame, {**look.facts, "tower": reason})
    return _through_tower(answer, cap, tower, row)


def _crossed(answer: Answer, cap: Capture, begin: Tensor) -> Look:
    """Relevance where image tokens are no tokens of the language model: through the Q-Former, or straight across."""
    reader, way = answer.reader, answer.reader.way
    chain = [site for site in cap.sites.values() if site.path.startswith(reader.decoder + ".")]
    if way.kind == "keys":
        row, found = crossing.relevance(chain, way.crossing, begin)
        shares = {"shares": _parted(float(found.sum()), float(row.sum() - row[0]), float(row[0]))}
    else:
        row = cap.relevance(begin, sites=chain)[0]
        through = former(cap, way)
        _, found = crossing.relevance(through, way.crossing, _queries(answer, row, through))
        shares = _shares(answer, row)
    if not way.tower:
        reason = "over image tokens: they are made of several layers of the vision tower"
        return Look(_laid(answer, found), answer.places.grid, answer.places.frame, {**shares, "tower": reason})
    tower = [site for site in cap.layers if site.path.startswith("vision_model.")]
    values = _laid(answer, cap.relevance(found, sites=tower)[0])
    return Look(values, answer.places.grid, answer.places.frame, {**shares, "tower": "through the vision tower"})


def former(cap: Capture, way: Way) -> list[Site]:
    """The sites of a Q-Former, attention among its queries and to the image, in execution order."""
    return [site for site in cap.sites.values() if site.path.startswith(f"{way.former}.")]


def _queries(answer: Answer, row: Tensor, chain: list[Site]) -> Tensor:
    """row: over the language model's tokens -> what its image tokens have, over all of the Q-Former's -> (tokens,)"""
    begin = row.new_zeros(max(site.queries for site in chain))
    begin[: len(answer.image_tokens)] = row[answer.image_tokens.to(row.device)]
    return begin


def _between(answer: Answer, first: int, last: int) -> list[Site]:
    """The language model's sites from where words cross to the image to before they cross again."""
    found = [site for site in answer.capture.sites.values() if site.path.startswith(answer.reader.decoder + ".")]
    places = [*(found.index(site) for site in answer.sites), len(found)]
    return found[places[first] : places[last + 1]]


def _start(answer: Answer, word: int, tokens: int) -> Tensor:
    """What a walk starts with: a word's rows in equal parts -> (tokens,)"""
    weights = torch.zeros(tokens)
    rows = answer.rows(word)
    weights[rows] = 1 / len(rows)
    return weights


def _over_image(answer: Answer, row: Tensor) -> Look:
    """row: (tokens,), of which the image tokens are laid on the image."""
    return Look(laid_rows(answer, row), answer.places.grid, answer.places.frame, _shares(answer, row))


def laid_rows(answer: Answer, rows: Tensor) -> np.ndarray:
    """What rows have of the image tokens, on the image; where those are queries, through what they saw.

    rows: (…, keys) -> (…, rows, cols) over the grid of the answer's places.
    """
    shares, way = rows[..., answer.image_tokens.to(rows.device)], answer.reader.way
    if way.kind == "queries":
        seen = [site for site in former(answer.capture, way) if way.crossing(site.path)]
        shares = shares @ crossing.over_image(answer.capture, seen, shares.shape[-1]).to(shares.device, shares.dtype)
    return _laid(answer, shares)


def _laid(answer: Answer, shares: Tensor) -> np.ndarray:
    """shares: (…, tokens that have places) -> (…, rows, cols)."""
    return answer.places.values(shares.cpu().double().numpy())


def _shares(answer: Answer, row: Tensor) -> dict[str, Any]:
    """What of a row over all tokens lies on the image, the rest of the text, and the first token."""
    return {"shares": _parted(*(float(part) for part in answer.parts(row)))}


def _parted(image: float, text: float, first: float) -> dict[str, float]:
    total = image + text + first or 1.0
    parts = {"image": image, "text": text, "first token": first}
    return {name: round(part / total, 6) for name, part in parts.items()}


def _scored(answer: Answer, word: int) -> Capture:
    """One forward over the prompt and the answer up to a word, and the backward pass of its score.

    Raises AttentionRefused where that forward does not attend as the generation did.
    """
    reader, rows = answer.reader, answer.rows(word)
    prompt = answer.inputs["input_ids"].shape[1]
    inputs = extended(answer.inputs, answer.ids[prompt : rows[-1] + 1])
    module = reader.module
    with (
        reader.lock,
        evaluating(module),
        frozen(module),
        torch.enable_grad(),
        capture(module, gradients=True) as cap,
    ):
        logits = module(**inputs, use_cache=False).logits[0]
        cap.differentiate(logits[rows, answer.ids[[row + 1 for row in rows]]].sum())
    last = reader.sites(cap)[-1]
    now, then = cap.attention(last, rows)[0], answer.capture.attention(answer.sites[-1], rows)[0]
    if float((now - then[..., : now.shape[-1]]).abs().max()) > _ALIKE.get(reader.dtype, 5e-2):
        raise AttentionRefused(
            f"one forward of {reader.name} over prompt and answer does not attend as its generation did, so gradients "
            "of it would explain something else: take method='attention' or 'rollout'"
        )
    return cap


def _not_followed(answer: Answer, tower: list[Site]) -> str:
    """Why relevance stays at the image tokens; "" where it goes on through the vision tower."""
    places, family = answer.places, answer.reader.config.model_type
    if family == "qwen3_vl":
        return "over image tokens: features of several layers of the vision tower enter the language model"
    if isinstance(getattr(answer.reader.config, "vision_feature_layer", None), list | tuple):
        return "over image tokens: they are made of several layers of the vision tower"
    if places.pool is None:
        return "over image tokens: they are interpolated from the vision tower's"
    patches = places.views[0].grid.patches * places.pool**2
    for site in tower:
        if site.refused is not None or site.turn is not None or site.windows > 1:
            return f"over image tokens: {site.name} of the vision tower attends in windows, or cannot be read"
        if site.keys - patches not in (0, 1) or site.batch != len(places.views):
            return f"over image tokens: {site.name} of the vision tower has other tokens than the image's patches"
    return "" if tower else "over image tokens: no attention was seen in the vision tower"


def _through_tower(answer: Answer, cap: Capture, tower: list[Site], row: Tensor) -> Look:
    """row: (tokens,), of which the image tokens are carried on to the patches of all views."""
    shares = row[answer.image_tokens.to(row.device)]
    places, pool = answer.places, answer.places.pool or 1
    patches = places.views[0].grid.patches * pool**2
    prefix = tower[-1].keys - patches
    start = torch.zeros(len(places.views), tower[-1].keys, dtype=shares.dtype, device=shares.device)
    orders = []
    for number, view in enumerate(places.views):
        rows, cols = view.grid.rows * pool, view.grid.cols * pool
        tokens = torch.from_numpy(view.tokens.repeat(pool, 0).repeat(pool, 1)).to(shares.device)
        each = torch.where(tokens >= 0, shares[tokens.clamp(min=0)] / pool**2, 0.0)
        order = np.arange(rows * cols).reshape(rows, cols) if view.order is None else view.order
        orders.append(torch.from_numpy(order).to(shares.device) + prefix)
        start[number, orders[-1]] = each
    found = cap.relevance(start, sites=tower)
    maps = [found[number, order].cpu().double().numpy() for number, order in enumerate(orders)]
    values = places.laid(maps)
    facts = {**_shares(answer, row), "tower": "through the vision tower"}
    return Look(values, finer_grid(places.grid, pool), places.frame, facts)
