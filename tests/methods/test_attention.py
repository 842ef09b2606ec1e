"""Laws of what is read of a capture: it is what its definition says, on the dense attention of the model itself."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from vislab.core.geometry import Grid
from vislab.engine.capture import Capture
from vislab.engine.hooks import capture
from vislab.engine.site import AttentionRefused
from vislab.methods import attention
from vislab.methods.question import Question
from vislab.models import load
from vislab.models.model import Model

LAYERS = [0, 1, -1, "mean"]
HEADS = [0, 3, -1, "mean", "max", "min"]


def captured(family: str, size: tuple[int, int] = (32, 48)) -> tuple[Model, Capture, Grid]:
    model = load.load(tiny.make(family), dtype="float64")
    size = size if model.resizable else model.preprocessing.size
    grid = model.grid(size)
    with torch.no_grad(), capture(model.module.eval()) as cap:
        model.module(torch.randn(1, 3, *size, dtype=torch.float64), **model._arguments(size, grid))
    return model, cap, grid


@pytest.fixture(scope="module")
def vit() -> tuple[Capture, Grid, Tensor]:
    """A capture with its grid and the dense maps of the model's own eager attention, (layers, heads, n, n)."""
    torch.manual_seed(1)
    model = load.load(tiny.make("DINOv2 with registers"), dtype="float64")
    module, pixels = model.module.eval(), torch.randn(1, 3, 32, 48, dtype=torch.float64)
    with torch.no_grad(), capture(module) as cap:
        module(pixels)
    module.set_attn_implementation("eager")
    with torch.no_grad():
        maps = module(pixels, output_attentions=True).attentions
    return cap, model.grid((32, 48)), torch.stack(maps)[:, 0]


def fused(maps: Tensor, head: Any) -> Tensor:
    """maps: (heads, …) -> (…)"""
    if isinstance(head, int):
        return maps[head]
    return {"mean": maps.mean(0), "max": maps.amax(0), "min": maps.amin(0)}[head]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("token", [None, 0, 3, 4, 17])
def test_attention_is_a_row_of_the_dense_maps(vit: Any, layer: Any, head: Any, token: int | None) -> None:
    cap, grid, maps = vit
    answer = attention.attention(cap, grid, Question(token, True, layer, head))
    chosen = maps if layer == "mean" else maps[[layer]]
    expected = torch.stack([fused(m[:, token or 0], head) for m in chosen]).mean(0)
    assert torch.allclose(answer.values.double(), expected[4:28], atol=1e-6)
    names = {None: "CLS", 0: "token 0", 3: "token 3", 4: "patch (0, 0)", 17: "patch (2, 1)"}
    assert answer.query == names[token]
    if token is None:
        assert attention.cls(cap, grid, Question(None, True, layer, head)).values.equal(answer.values)


def dense_rollout(maps: Tensor, head: Any, residual: float, discard: float, prefix: int) -> Tensor:
    """(layers, heads, n, n) -> (n, n), by the definition: the product of all layers, the last on the left."""
    n = maps.shape[-1]
    product = torch.eye(n, dtype=maps.dtype)
    for layer in maps:
        weights = fused(layer, head).clone()
        for row in weights:
            row[prefix:][row[prefix:].argsort()[: int(discard * (n - prefix))]] = 0
        weights /= weights.sum(1, keepdim=True)
        product = (residual * torch.eye(n, dtype=maps.dtype) + (1 - residual) * weights) @ product
    return product


@pytest.mark.parametrize("head", ["mean", "max", "min"])
@pytest.mark.parametrize(
    "options", [{}, {"residual": 0.2}, {"discard": 0.6}, {"start": 1}, {"residual": 0.0, "discard": 0.9}]
)
@pytest.mark.parametrize("token", [None, 17])
def test_rollout_is_the_product_of_the_dense_maps(vit: Any, head: Any, options: Any, token: int | None) -> None:
    cap, grid, maps = vit
    answer = attention.rollout(cap, grid, Question(token, True, -1, head), **options)
    full = {"start": 0, "residual": 0.5, "discard": 0.0} | options
    expected = dense_rollout(maps[full.pop("start") :], head, **full, prefix=4)[token or 0]
    assert torch.allclose(answer.values, expected[4:28], atol=1e-6)
    assert answer.query == ("CLS" if token is None else "patch (2, 1)")


def test_rollout_ends_at_the_layer_asked_for(vit: Any) -> None:
    cap, grid, maps = vit
    answer = attention.rollout(cap, grid, Question(None, True, 0, "mean"))
    assert torch.allclose(answer.values, dense_rollout(maps[:1], "mean", 0.5, 0, 4)[0, 4:28], atol=1e-6)
    for layer, start in [(0, 1), (-1, 2), (-1, -1)]:
        with pytest.raises(ValueError, match=rf"rollout from layer {start} .*: start runs from 0 to {layer % 2}"):
            attention.rollout(cap, grid, Question(None, True, layer, "mean"), start=start)


@pytest.mark.parametrize(
    ("family", "query"),
    [
        ("SigLIP vision", "pooling head head.attention"),
        ("timm, pooling head", "pooling head attn_pool"),
        ("SigLIP without head", "mean of all queries"),
        ("timm, average of patches", "mean of all queries"),
    ],
)
@pytest.mark.parametrize("head", [1, "mean", "max"])
def test_without_cls_the_pooling_head_asks_or_all_tokens_do(family: str, query: str, head: Any) -> None:
    model, cap, grid = captured(family, (32, 160))  # more tokens than one block of queries holds
    maps = torch.stack([cap.attention(site, slice(None))[0] for site in cap.layers])
    asking, name = maps[1].mean(1), query.removeprefix("pooling head ")
    if name in cap.sites:
        asking = cap.attention(name, slice(None))[0].mean(1)
    answer = attention.cls(cap, grid, Question(None, model.cls, -1, head))
    assert answer.query == query
    assert torch.allclose(answer.values.double(), fused(asking, head)[grid.patch_tokens], atol=1e-6)
    for layer in (0, "mean"):  # the pooling head comes after the last layer
        answer = attention.cls(cap, grid, Question(None, model.cls, layer, head))
        chosen = maps[:1] if layer == 0 else maps
        expected = torch.stack([fused(m.mean(1), head) for m in chosen]).mean(0)
        assert answer.query == "mean of all queries"
        assert torch.allclose(answer.values.double(), expected[grid.patch_tokens], atol=1e-6)
    if head == "mean":
        answer = attention.rollout(cap, grid, Question(None, model.cls, -1, head))
        start = asking.mean(0) if name in cap.sites else torch.full((grid.tokens,), 1 / grid.tokens).double()
        expected = start @ dense_rollout(maps, head, 0.5, 0, 0)
        assert torch.allclose(answer.values, expected[grid.patch_tokens], atol=1e-6)
        assert answer.query == query


def test_detection_tokens_are_never_patches() -> None:
    model, cap, grid = captured("YOLOS")
    row = cap.attention(1, 0)[0].mean(0)
    answer = attention.cls(cap, grid, Question(None, model.cls, 1, "mean"))
    assert torch.allclose(answer.values.double(), row[1:-5], atol=1e-6)


@pytest.mark.parametrize("wrong", [Grid(4, 5, (8, 8), 4), Grid(4, 6, (8, 8), 3), Grid(4, 6, (8, 8), 4, 1)], ids=str)
@pytest.mark.parametrize("name", ["cls", "rollout", "attention"])
def test_a_grid_that_is_not_the_model_s_is_refused(vit: Any, name: str, wrong: Grid) -> None:
    cap, _, _ = vit
    with pytest.raises(ValueError, match=rf"attends over 28 tokens, and the input makes .* = {wrong.tokens} tokens"):
        getattr(attention, name)(cap, wrong, Question(None, True, -1, "mean"))


def test_a_capture_of_nothing_says_so() -> None:
    module = tiny.make("ViT")
    with capture(module) as cap:
        pass
    with pytest.raises(AttentionRefused, match="nothing was captured"):
        attention.cls(cap, Grid(4, 4, (8, 8), 1), Question(None, True, -1, "mean"))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"residual": 1.5}, "residual runs from 0 to 1"), ({"discard": 1.0}, "discard from 0 to below 1, not 0.5 and 1")],
)
def test_impossible_options_of_rollout_are_refused(vit: Any, options: Any, words: str) -> None:
    cap, grid, _ = vit
    with pytest.raises(ValueError, match=words):
        attention.rollout(cap, grid, Question(None, True, -1, "mean"), **options)
