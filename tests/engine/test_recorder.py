"""Laws of the recorder: every family is read exactly, runs as it is, and is scaled by the product alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from families import FAMILIES, Family, Inputs, image
from laws import attends, difference, maps, output, read, recomputed_attention_is_the_models_own, tokens
from torch import Tensor, nn

import vislab
from vislab.engine.site import AttentionRefused

HALF = ["ViT", "CLIP, text", "BEiT, bias", "DINOv3", "SigLIP2, vision", "torchvision", "timm, EVA-02"]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def test_recomputed_attention_is_the_models_own(family: Family) -> None:
    recomputed_attention_is_the_models_own(family)


def test_the_model_runs_as_it_is(family: Family) -> None:
    model, inputs = family.model(), family.inputs()
    plain = output(model, inputs)
    with vislab.capture(model):
        captured = output(model, inputs)
    assert torch.equal(captured, plain)
    assert captured.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", HALF)
def test_half_precision_is_read_within_its_rounding(name: str, dtype: torch.dtype) -> None:
    def cast(unfused: bool, to: torch.dtype) -> tuple[nn.Module, Inputs]:
        inputs = {k: v.to(dtype).to(to) if v.is_floating_point() else v for k, v in FAMILIES[name].inputs().items()}
        return FAMILIES[name].model(unfused=unfused).to(dtype).to(to), inputs

    truth = FAMILIES[name].attention(*cast(True, torch.float64))
    eager = FAMILIES[name].attention(*cast(True, dtype))
    cap = read(*cast(False, dtype))
    assert {rows.dtype for rows in maps(cap)} == {torch.float32}
    for site, rows, exact, rounded in zip(cap.sites.values(), maps(cap), truth, eager, strict=True):
        assert (rows - exact).norm() <= 1.5 * (rounded - exact).norm(), site


@pytest.mark.parametrize("name", ["torchvision", "timm"])  # transformers' eager attention is float32 in any model
def test_float64_is_read_in_float64(name: str) -> None:
    inputs = {"x": image().double()}
    got = maps(read(FAMILIES[name].model().double(), inputs))
    assert {rows.dtype for rows in got} == {torch.float64}
    assert difference(got, FAMILIES[name].attention(FAMILIES[name].model(unfused=True).double(), inputs)) < 1e-12


def test_projections_of_inputs_that_autocast_made_are_read() -> None:
    model = nn.Sequential(nn.Linear(32, 32), nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)).eval()
    x = tokens()["x"]
    with vislab.capture(model) as cap:
        model(x)
    exact = maps(cap)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = model(x)
        with vislab.capture(model, gradients=True) as cap:
            captured = model(x)
    assert torch.equal(captured, plain)
    assert difference(maps(cap), exact) < 1e-2
    cap.differentiate(captured.float().square().sum())
    assert cap.gradient(0).dtype == torch.float32
    assert cap.gradient(0).abs().max() > 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_gradient_modes_make_no_difference(mode: Callable[[], Any]) -> None:
    model, expected = FAMILIES["torchvision"].model(), maps(read(FAMILIES["torchvision"].model(), {"x": image()}))
    with mode(), vislab.capture(model) as cap:
        model(image())
    assert difference(maps(cap), expected) < 1e-6
    site = next(iter(cap.sites.values()))
    assert not any(t.requires_grad for t in (site.q, site.k, cap.attention(0), cap.rollout()))


def test_grouped_keys_serve_several_heads() -> None:
    def grouped(q: Tensor, k: Tensor, v: Tensor, module: nn.Module) -> Tensor:
        return F.scaled_dot_product_attention(q, k[:, :2], v[:, :2], enable_gqa=True)

    def repeated(q: Tensor, k: Tensor, v: Tensor, module: nn.Module) -> Tensor:
        return F.scaled_dot_product_attention(q, k[:, [0, 0, 1, 1]], v[:, [0, 0, 1, 1]])

    for scale in (1.0, 2.5):
        got, expected = (read(attends(a), tokens(), attention_scale=scale) for a in (grouped, repeated))
        assert difference(maps(got), maps(expected)) < 1e-6
        assert torch.allclose(got.rollout(), expected.rollout(), atol=1e-6)


@pytest.mark.parametrize("name", ["ViT", "torchvision", "timm"])
def test_active_dropout_is_refused(name: str) -> None:
    model = FAMILIES[name].model().train()
    for part in model.modules():
        for rate in ("dropout", "attention_dropout", "dropout_prob"):
            if isinstance(getattr(part, rate, None), float):
                setattr(part, rate, 0.5)
        if isinstance(drop := getattr(part, "attn_drop", None), nn.Dropout):
            drop.p = 0.5
    cap = read(model, FAMILIES[name].inputs())
    with pytest.raises(AttentionRefused, match=r"dropout is active: call eval\(\)"):
        cap.attention(0)
    assert model.training


def scaled(model: nn.Module, factors: list[float]) -> nn.Module:
    """The model with its query projections multiplied, site by site: what attention_scale does, by other means."""
    remaining = iter(factors)
    with torch.no_grad():
        for part in model.modules():
            children = dict(part.named_children())
            target = next((children[n] for n in ("q_proj", "query", "qkv") if n in children), None)
            if isinstance(children.get("q_norm"), nn.LayerNorm):
                target = children["q_norm"]
            if target is None and not isinstance(part, nn.MultiheadAttention):
                continue
            factor = next(remaining)
            for name, values in (target or part).named_parameters(recurse=False):
                rows = values.shape[0] // 3 if target is None or target is children.get("qkv") else values.shape[0]
                assert "weight" in name or "bias" in name
                values[:rows] *= factor
            if (bias := getattr(part, "q_bias", None)) is not None:
                bias *= factor
    assert next(remaining, None) is None
    return model


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_attention_scale_multiplies_the_product_alone(family: Family, factor: float) -> None:
    inputs = family.inputs()
    cap = read(family.model(), inputs, attention_scale=factor)
    reference = scaled(family.model(unfused=True), [factor] * len(cap.sites))
    assert difference(maps(cap), family.attention(reference, inputs)) < 2e-5
    model = family.model()
    with torch.no_grad():
        plain = output(model, inputs)
        with vislab.capture(model, attention_scale=factor):
            changed = output(model, inputs)
        expected = output(scaled(family.model(), [factor] * len(cap.sites)), inputs)
    assert torch.allclose(changed, expected, atol=1e-3, rtol=1e-3)
    assert (changed - plain).abs().max() > 100 * (changed - expected).abs().max()


@pytest.mark.parametrize("name", ["ViT", "BEiT, bias", "torchvision", "timm", "DINOv3"])
def test_attention_scale_of_one_layer_leaves_the_others(name: str) -> None:
    family = FAMILIES[name]
    cap = read(family.model(), family.inputs(), attention_scale={1: 3})
    expected = family.attention(scaled(family.model(unfused=True), [1, 3]), family.inputs())
    assert difference(maps(cap), expected) < 2e-5
    first, second = cap.layers
    assert second.scale == pytest.approx(3 * first.scale)


def test_attention_scale_reaches_the_gradient() -> None:
    model, x = FAMILIES["torchvision"].model(), image().requires_grad_()
    with vislab.capture(model, attention_scale=2.0):
        model(x).sum().backward()
    expected = image().requires_grad_()
    reference = scaled(FAMILIES["torchvision"].model(), [2.0, 2.0])
    reference(expected).sum().backward()
    assert torch.allclose(x.grad, expected.grad, atol=1e-3, rtol=1e-3)
    own, theirs = (
        next(p.grad for n, p in m.named_parameters() if n.endswith("in_proj_weight")) for m in (model, reference)
    )
    assert torch.allclose(own[32:], theirs[32:], atol=1e-2, rtol=1e-3)


def test_a_softmax_of_nothing_but_a_product_is_scaled_too() -> None:
    model, fused = FAMILIES["ViT"].model(unfused=True), FAMILIES["ViT"].model()
    for scale in (2.0, {1: 0.5}):
        cap, expected = (read(m, attention_scale=scale) for m in (model, fused))
        assert difference(maps(cap), maps(expected)) < 1e-5
        assert [site.scale for site in cap.layers] == pytest.approx([site.scale for site in expected.layers])


def test_an_attention_that_cannot_be_scaled_stops_the_forward() -> None:
    model, inputs = FAMILIES["BEiT, bias"].model(unfused=True), FAMILIES["BEiT, bias"].inputs()
    with pytest.raises(AttentionRefused, match=r"'layers\.0\.attention' \(BeitAttention\) cannot be scaled.*sdpa"):
        read(model, inputs, attention_scale=2.0)
    with pytest.raises(AttentionRefused, match=r"'layers\.1\.attention'"):
        read(model, inputs, attention_scale={1: 2.0})
    assert read(model, inputs, attention_scale=1.0).attention(0).isfinite().all()
