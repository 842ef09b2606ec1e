"""Laws of the engine: exact on every family or refused by name, rollout the dense product, nothing left behind."""

from __future__ import annotations

import copy
import functools
import gc
import io
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from families import BATCH, FAMILIES, Family, Inputs, image, pixels, sentences
from tiny import TEXT, VIT, fingerprint, roughened
from torch import Tensor, nn

import vislab
from vislab.engine import attention, verification
from vislab.engine.capture import Capture
from vislab.engine.site import AttentionRefused

HALF = ["ViT", "CLIP, text", "BEiT, bias", "DINOv3", "SigLIP2, vision", "torchvision", "timm, EVA-02"]
LAYER = "layers.1.attention"  # of the tiny ViT


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def vit(**settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return roughened(hf.ViTModel(hf.ViTConfig(**VIT | settings))).eval()


def output(model: nn.Module, inputs: Inputs) -> Tensor:
    """What the model says, as one tensor."""
    given = model(**inputs)
    return given if isinstance(given, Tensor) else next(v for v in given.values() if isinstance(v, Tensor))


@torch.no_grad()
def read(model: nn.Module, inputs: Inputs | None = None, **options: Any) -> Capture:
    with vislab.capture(model, **options) as cap:
        model(**(inputs or {"pixel_values": image()}))
    return cap


def maps(cap: Capture) -> list[Tensor]:
    return [cap.attention(site, slice(None)) for site in cap.sites]


def difference(one: list[Tensor], other: list[Tensor]) -> float:
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(one, other, strict=True))


class Attends(nn.Module):
    """Self-attention as `attend` makes it of the heads' queries, keys and values."""

    def __init__(self, attend: Callable[..., Tensor], heads: int = 4, width: int = 32) -> None:
        super().__init__()
        self.heads, self.attend = heads, attend
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mix = nn.Parameter(torch.randn(heads, heads))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(self.attend(q, k, v, self).transpose(1, 2).flatten(2))


def attends(attend: Callable[..., Tensor], spread: float = 6.0) -> nn.Module:
    torch.manual_seed(0)
    module = Attends(attend).eval()
    with torch.no_grad():
        module.qkv.weight[:64] *= spread
    return module


def fused(q: Tensor, k: Tensor, v: Tensor, module: nn.Module) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def weights(q: Tensor, k: Tensor) -> Tensor:
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)


def tokens(count: int = 9) -> Inputs:
    return {"x": torch.randn(BATCH, count, 32, generator=torch.Generator().manual_seed(5))}


# ---- exact ----


def test_recomputed_attention_is_the_models_own(family: Family) -> None:
    cap = read(family.model(), family.inputs())
    own = family.attention(family.model(unfused=True), family.inputs())
    assert difference(maps(cap), own) < 1e-5
    for site, rows in zip(cap.sites.values(), maps(cap), strict=True):
        assert (site.batch, site.keys) == (BATCH, family.tokens)
        assert rows.shape == (site.batch, site.heads, site.queries, site.keys)
        assert torch.allclose(rows.sum(-1), torch.ones(rows.shape[:-1]), atol=1e-5)
        # The law says nothing where attention is uniform anyway.
        assert (rows.amax(-1) * (rows > 0).sum(-1)).median() > 1.5


def test_of_a_pooling_head_and_an_encoder_only_the_encoder_has_layers() -> None:
    cap = read(FAMILIES["SigLIP, vision"].model(), FAMILIES["SigLIP, vision"].inputs())
    assert [site.name for site in cap.layers] == list(cap.sites)[:2]
    assert cap.sites["head.attention"].queries == 1


def test_both_towers_of_clip_are_read() -> None:
    settings = hf.CLIPConfig(vision_config=VIT, text_config=TEXT)
    model = roughened(hf.CLIPModel(settings)).eval()
    cap = read(model, sentences() | pixels()())
    assert sorted({site.keys for site in cap.layers}) == [7, 17]
    with pytest.raises(ValueError, match=r"7 tokens at text_model.*17 tokens at vision_model.*sites=|17 .*7 .*sites="):
        cap.rollout()
    vision = [name for name in cap.sites if name.startswith("vision")]
    alone = read(model.vision_model, pixels()())
    assert torch.allclose(cap.rollout(sites=vision), alone.rollout(), atol=1e-6)


def test_a_query_is_a_row_and_several_are_rows() -> None:
    cap = read(vit())
    full = cap.attention(LAYER, slice(None))
    assert torch.allclose(cap.attention(LAYER, 3), full[:, :, 3], atol=1e-6)
    assert torch.allclose(cap.attention(1, -1), full[:, :, -1], atol=1e-6)
    assert torch.allclose(cap.attention(cap.sites[LAYER], [4, -2, 4]), full[:, :, [4, -2, 4]], atol=1e-6)
    assert torch.allclose(cap.attention(-1, range(2, 5)), full[:, :, 2:5], atol=1e-6)
    assert torch.allclose(cap.attention(-1, slice(1, 9, 3)), full[:, :, 1:9:3], atol=1e-6)
    assert cap.attention(-1, []).shape == (BATCH, 4, 0, 17)


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


def test_autocast_around_the_reading_changes_nothing() -> None:
    model = FAMILIES["torchvision"].model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cap = read(model, {"x": image()})
        inside, row = cap.attention(-1, slice(None)), cap.rollout()
    assert inside.dtype == torch.float32
    assert torch.equal(inside, cap.attention(-1, slice(None)))
    assert torch.equal(row, cap.rollout())


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


def test_queries_keys_and_scale_make_the_attention() -> None:
    for name in ("ViT", "torchvision", "DINOv3"):
        cap = read(FAMILIES[name].model(), FAMILIES[name].inputs())
        for site in cap.layers:
            again = (site.scale * site.q @ site.k.mT).softmax(-1)
            assert torch.allclose(again, cap.attention(site, slice(None)), atol=1e-5)


def test_grouped_keys_serve_several_heads() -> None:
    def grouped(q: Tensor, k: Tensor, v: Tensor, module: nn.Module) -> Tensor:
        return F.scaled_dot_product_attention(q, k[:, :2], v[:, :2], enable_gqa=True)

    def repeated(q: Tensor, k: Tensor, v: Tensor, module: nn.Module) -> Tensor:
        return F.scaled_dot_product_attention(q, k[:, [0, 0, 1, 1]], v[:, [0, 0, 1, 1]])

    for scale in (1.0, 2.5):
        got, expected = (read(attends(a), tokens(), attention_scale=scale) for a in (grouped, repeated))
        assert difference(maps(got), maps(expected)) < 1e-6
        assert torch.allclose(got.rollout(), expected.rollout(), atol=1e-6)


@pytest.mark.parametrize("compiled", ["before", "inside"])
def test_a_compiled_model_is_read_too(compiled: str) -> None:
    model, x = nn.Sequential(attends(fused)), tokens()["x"]
    expected = maps(read(attends(fused), {"x": x}))
    with torch.no_grad():
        plain = model(x)
        fast = torch.compile(model, backend="eager")
        if compiled == "before":
            fast(x)
        with vislab.capture(model) as cap:
            captured = fast(x)
        assert difference(maps(cap), expected) < 1e-6
        assert torch.equal(captured, plain)
        assert torch.equal(fast(x), plain)
        with vislab.capture(fast, attention_scale=2.0) as cap:
            changed = fast(x)
        assert list(cap.sites) == ["_orig_mod.0"]
        assert difference(maps(cap), maps(read(attends(fused), {"x": x}, attention_scale=2.0))) < 1e-6
        assert not torch.allclose(changed, plain, atol=1e-2)
        assert torch.equal(fast(x), plain)
    torch.compiler.reset()


# ---- eager attention ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_that_makes_its_own_softmax_is_read_too(dtype: torch.dtype) -> None:
    model = FAMILIES["ViT"].model(unfused=True).to(dtype)
    inputs = {"pixel_values": image().to(dtype)}
    got = maps(read(model, inputs))
    assert {rows.dtype for rows in got} == {torch.float32}
    assert difference([rows.to(dtype) for rows in got], FAMILIES["ViT"].attention(model, inputs)) < 1e-6
    assert all(torch.allclose(rows.sum(-1), torch.ones(rows.shape[:-1]), atol=1e-5) for rows in got)


PROVEN: dict[str, Callable[..., Tensor]] = {
    "matmul": lambda q, k, v, m: weights(q, k) @ v,
    "bmm": lambda q, k, v, m: torch.bmm(weights(q, k).flatten(0, 1), v.flatten(0, 1)).unflatten(0, (-1, 4)),
    "values first": lambda q, k, v, m: (v.mT @ weights(q, k).transpose(-2, -1)).mT,
    "einsum": lambda q, k, v, m: torch.einsum("bhij,bhjd->bhid", weights(q, k), v),
    "einsum with dots": lambda q, k, v, m: torch.einsum("... i j, ... j d -> ... i d", weights(q, k), v),
    "masked in place": lambda q, k, v, m: weights(q, k).mul_(1.0) @ v,
}
UNPROVEN: dict[str, Callable[..., Tensor]] = {
    "heads mixed by einsum": lambda q, k, v, m: torch.einsum("bhij,hg->bgij", weights(q, k), m.mix) @ v,
    "heads mixed by a product": lambda q, k, v, m: (weights(q, k).permute(0, 2, 3, 1) @ m.mix).permute(0, 3, 1, 2) @ v,
    "transposed": lambda q, k, v, m: weights(q, k).mT @ v,
    "transposed by einsum": lambda q, k, v, m: torch.einsum("bhji,bhjd->bhid", weights(q, k), v),
    "keys only summed": lambda q, k, v, m: torch.einsum("bhij,bhid->bhid", weights(q, k), v),
    "normalised once more": lambda q, k, v, m: (weights(q, k) / weights(q, k).sum(-2, keepdim=True)) @ v,
    "dropout": lambda q, k, v, m: F.dropout(weights(q, k), 0.5, training=True) @ v,
    "product by keywords": lambda q, k, v, m: torch.matmul(input=weights(q, k), other=v),
    "product by one keyword": lambda q, k, v, m: torch.matmul(torch.matmul(q, other=k.mT).softmax(-1), other=v),
}


@pytest.mark.parametrize("how", PROVEN)
def test_a_softmax_that_weighs_the_values_is_attention(how: str) -> None:
    assert difference(maps(read(attends(PROVEN[how]), tokens())), maps(read(attends(fused), tokens()))) < 1e-5


@pytest.mark.parametrize("how", UNPROVEN)
def test_a_softmax_that_does_not_is_refused(how: str) -> None:
    model = nn.Sequential(attends(UNPROVEN[how]))
    with vislab.capture(model) as cap:
        model(tokens()["x"])
    with pytest.raises(AttentionRefused, match=r"'0' \(Attends\)"):
        cap.attention("0")


def hidden(weights: Tensor) -> Tensor:
    weights[..., 1] = 0
    return weights


CHANGED: dict[str, Callable[..., Tensor]] = {
    "of a bare product": lambda q, k: hidden((q @ k.mT).softmax(-1)),
    "of scaled logits": lambda q, k: hidden(weights(q, k)),
    "before a cast": lambda q, k: hidden((q @ k.mT).softmax(-1)).to(torch.float64),
    "after a cast": lambda q, k: hidden((q @ k.mT).softmax(-1).to(torch.float64)),
    "between casts": lambda q, k: hidden((q @ k.mT).softmax(-1).to(torch.float64)).float(),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("how", CHANGED)
def test_weights_changed_in_place_are_read_as_they_weigh_the_values(how: str, mode: Callable[[], Any]) -> None:
    made: list[Tensor] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, module: nn.Module) -> Tensor:
        made[:] = [CHANGED[how](q, k)]
        return (made[0] @ v.to(made[0].dtype)).float()

    model = attends(attend)
    with mode(), vislab.capture(model) as cap:
        model(**tokens())
    assert torch.equal(cap.attention(0, slice(None)), made[0].detach())


@pytest.mark.parametrize("name", ["ViT", "eager"])
def test_rows_belong_to_whoever_reads_them(name: str) -> None:
    cap = read(FAMILIES["ViT"].model(unfused=name == "eager"), FAMILIES["ViT"].inputs())
    before = maps(cap)
    for rows in maps(cap):
        rows.zero_()
    assert difference(maps(cap), before) == 0


def test_talking_heads_are_refused_by_name() -> None:
    cait = pytest.importorskip("timm.models.cait")
    model = cait.Cait(32, 8, embed_dim=32, depth=1, num_heads=4, depth_token_only=1).eval()
    cap = read(model, {"x": image()})
    with pytest.raises(AttentionRefused, match=r"'blocks\.0\.attn' \(TalkingHeadAttn\).*talking heads"):
        cap.attention("blocks.0.attn")


# ---- verified or refused ----


def projecting(spread: float) -> nn.Module:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    with torch.no_grad():
        module.in_proj_weight[:64] *= spread
    return module


@pytest.mark.parametrize("spread", [6.0, 0.02], ids=["far from uniform", "nearly uniform"])
@pytest.mark.parametrize("kind", ["FusedCall", "ProjectedCall"])
def test_a_call_that_is_not_what_it_seems_is_refused(spread: float, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = tokens(40)["x"]
    inputs: Inputs = {"x": x} if kind == "FusedCall" else {"query": x, "key": x, "value": x}
    make = functools.partial(attends, fused) if kind == "FusedCall" else projecting
    cap = read(make(spread), inputs)
    site, right = cap.site(0), cap.attention(0, slice(None))

    def wrong(*_: Any) -> Tensor:
        return (1.05 * site.scale * site.q @ site.k.mT).softmax(-1)[:, :, [0, 13, 26, 39]]

    absolute = (wrong() - right[:, :, [0, 13, 26, 39]]).abs().max()
    assert absolute > 1e-2 if spread > 1 else absolute < 1e-4  # where it is small, an absolute bound would pass it
    with monkeypatch.context() as patched:
        patched.setattr(getattr(attention, kind), "attention", wrong)
        cap = read(make(spread), inputs)
        with pytest.raises(AttentionRefused, match="does not give the module's output"):
            cap.attention(0)
    assert torch.equal(read(make(spread), inputs).attention(0, slice(None)), right)


def test_a_mask_that_is_forgotten_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention.FusedCall, "bias", lambda *_: None)
    for name in ("CLIP, text", "BEiT, bias"):
        cap = read(FAMILIES[name].model(), FAMILIES[name].inputs())
        assert all("does not give the module's output" in str(site.refused) for site in cap.sites.values())


def test_rounding_is_no_reason_to_refuse() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        for spread in (0.0, 1e-3, 1.0, 30.0):
            for count in (1, 2, 50, 700):
                model = attends(fused, spread).to(dtype)
                with torch.no_grad():
                    model.qkv.bias[64:] += 3  # values that agree in most of what they are
                cap = read(model, {"x": tokens(count)["x"].to(dtype)})
                assert cap.site(0).refused is None, (dtype, spread, count)


def test_every_form_of_call_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    compared = verification.compared

    def counting(*operands: Any) -> verification.Check:
        verified.append(operands)
        return compared(*operands)

    monkeypatch.setattr(verification, "compared", counting)
    model = attends(fused)
    for _ in range(2):
        maps(read(model, tokens()))
    assert len(verified) == 1
    maps(read(model.double(), {"x": tokens()["x"].double()}))
    assert len(verified) == 2


def test_a_module_without_attention_says_what_was_looked_for() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    with vislab.capture(model) as cap:
        model(torch.zeros(1, 3))
    for ask in (cap.rollout, lambda: cap.attention(0), lambda: cap.attention("0")):
        with pytest.raises(
            AttentionRefused, match=r"Sequential has no attention module: looked for .*q_proj and k_proj"
        ):
            ask()


def test_a_model_that_did_not_run_says_so() -> None:
    with vislab.capture(vit()) as cap:
        pass
    with pytest.raises(AttentionRefused, match=r"nothing was captured: none of the 2 attention modules of ViTModel"):
        cap.attention(0)


def test_a_fast_path_around_the_attention_modules_says_so() -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 48, batch_first=True), 2).eval()
    x = tokens()["x"]
    with torch.inference_mode(), vislab.capture(model) as cap:
        model(x)
    with pytest.raises(AttentionRefused, match=r"fast path of nn\.TransformerEncoderLayer"):
        cap.attention(0)
    with vislab.capture(model) as cap:  # with gradients there is no fast path
        model(x)
    assert len(cap.layers) == 2
    assert cap.rollout().shape == (BATCH, 9)


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


def test_a_module_that_runs_twice_in_a_forward_is_refused() -> None:
    shared = attends(fused)
    model = nn.Sequential(shared, shared)
    with vislab.capture(model) as cap:
        model(tokens()["x"])
    with pytest.raises(AttentionRefused, match=r"'0' \(Attends\).*more than once in one forward"):
        cap.attention("0")


def test_a_module_that_attends_twice_is_refused() -> None:
    cap = read(attends(lambda q, k, v, m: fused(q, k, v, m) - 0.5 * fused(k, q, v, m)), tokens())
    with pytest.raises(AttentionRefused, match="more than once in one forward"):
        cap.attention(0)


@pytest.mark.parametrize("name", ["ViT", "torchvision", "eager"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_in_words(name: str, value: float) -> None:
    model = FAMILIES["ViT"].model(unfused=True) if name == "eager" else FAMILIES[name].model()
    key = "x" if name == "torchvision" else "pixel_values"
    maps(read(model, {key: image()}))  # verified already
    with torch.no_grad():
        [p for n, p in model.named_parameters() if n.endswith(("k_proj.weight", "in_proj_weight"))][-1][20] = value
    for given in (model, copy.deepcopy(model)):
        cap = read(given, {key: image()})
        with pytest.raises(
            AttentionRefused, match="NaN or infinite values: look for them in the weights and the pixels"
        ):
            cap.attention(-1)
        with pytest.raises(AttentionRefused, match="NaN or infinite values"):
            cap.rollout()


def test_windows_are_refused_by_name() -> None:
    model = hf.SwinModel(
        hf.SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[2], num_heads=[2], window_size=4)
    )
    cap = read(model.eval())
    with pytest.raises(
        AttentionRefused, match=r"blocks\.0\.attention.*within 8 windows, frames or crops of a batch of 2"
    ):
        cap.rollout()


def test_what_changed_after_the_forward_is_not_read() -> None:
    model = FAMILIES["torchvision"].model()
    cap = read(model, {"x": image()})
    assert cap.attention(0).isfinite().all()
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if n.endswith("in_proj_weight")).mul_(2)
    with pytest.raises(AttentionRefused, match="changed in place since the forward; run it again"):
        cap.attention(0)


def test_the_last_forward_counts() -> None:
    model, other = vit(), torch.zeros(1, 3, 32, 32)
    with torch.no_grad(), vislab.capture(model) as cap:
        model(image())
        model(other)
    assert difference(maps(cap), maps(read(model, {"pixel_values": other}))) == 0


def test_script_modules_are_refused() -> None:
    with torch.no_grad():
        traced = torch.jit.trace(attends(fused), tokens()["x"])
    before = set(vars(traced))
    for module in (traced, nn.Sequential(traced)):
        with pytest.raises(TypeError, match="TorchScript"), vislab.capture(module):
            pass
    assert set(vars(traced)) == before


# ---- attention scale ----


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


@pytest.mark.parametrize("where", ["the same module", "its part"])
@pytest.mark.parametrize("name", ["ViT", "torchvision"])
def test_nested_captures_multiply_and_report_what_was_used(where: str, name: str) -> None:
    model, inputs = FAMILIES[name].model(), FAMILIES[name].inputs()
    part = model if where == "the same module" else model.get_submodule(next(iter(read(model, inputs).sites)))
    one = read(model, inputs).layers[0].scale
    for scales in ((2.0, 1.5), (1.5, 2.0), (1.0, 3.0), (3.0, 1.0)):
        first, second = (vislab.capture(m, attention_scale=s) for m, s in zip((model, part), scales, strict=True))
        with torch.no_grad(), first as outer, second as inner:
            model(**inputs)
        assert outer.layers[0].scale == inner.layers[0].scale == pytest.approx(3 * one)
        assert torch.equal(outer.attention(0, slice(None)), inner.attention(0, slice(None)))
    with torch.no_grad(), vislab.capture(part, attention_scale=1.5) as inner, vislab.capture(model) as outer:
        model(**inputs)
    assert outer.layers[0].scale == inner.layers[0].scale == pytest.approx(1.5 * one)


def test_an_attention_that_cannot_be_scaled_stops_the_forward() -> None:
    model = FAMILIES["ViT"].model(unfused=True)
    with pytest.raises(AttentionRefused, match=r"'layers\.0\.attention' \(ViTAttention\) cannot be scaled.*sdpa"):
        read(model, attention_scale=2.0)
    with pytest.raises(AttentionRefused, match=r"'layers\.1\.attention'"):
        read(model, attention_scale={1: 2.0})
    assert read(model, attention_scale=1.0).attention(0).isfinite().all()


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf, "2", None, True, np.True_, {0: 0}, {0: "a"}])
def test_a_scale_that_is_none_is_refused(scale: Any) -> None:
    with pytest.raises(
        ValueError, match=r"attention_scale must be a number above 0 and finite, not .*1 is the trained"
    ):
        read(vit(), attention_scale=scale)


def test_a_scale_may_be_a_number_of_numpy() -> None:
    plain = read(vit(), attention_scale={1: 0.5})
    assert difference(maps(read(vit(), attention_scale={np.int64(1): np.float32(0.5)})), maps(plain)) == 0


@pytest.mark.parametrize("index", [2, -1, "layers.0.attention", 0.0, True])
def test_a_scale_for_no_site_is_refused(index: Any) -> None:
    with pytest.raises(ValueError, match=r"attention_scale is for no site .*: their indices run from 0 to 1"):
        read(vit(), attention_scale={index: 2.0})


# ---- rollout ----


def dense_rollout(cap: Capture, query: Any, head: str, residual: float, discard: float, prefix: int) -> Tensor:
    """Rows of the product of whole maps in float64, by its definition."""
    product: Tensor | None = None
    for site in cap.layers:
        full = cap.attention(site, slice(None)).double()
        fused = {"mean": full.mean(1), "max": full.amax(1), "min": full.amin(1)}[head].clone()
        for line in fused.flatten(0, 1):
            cut = int(discard * (len(line) - prefix))
            line[[j for j in line.argsort().tolist() if j >= prefix][:cut]] = 0
        step = residual * torch.eye(fused.shape[-1]).double() + (1 - residual) * fused / fused.sum(-1, keepdim=True)
        product = step if product is None else step @ product
    assert product is not None
    return product[:, query] if isinstance(query, int) else query.double() @ product


@pytest.mark.parametrize("head", ["mean", "max", "min"])
@pytest.mark.parametrize("residual", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("discard", "prefix"), [(0.0, 1), (0.3, 0), (0.9, 1), (0.9, 5)])
@pytest.mark.parametrize("name", ["ViT", "BEiT, bias", "CLIP, text"])
def test_rollout_is_the_dense_product(name: str, head: Any, residual: float, discard: float, prefix: int) -> None:
    family = FAMILIES[name]
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in family.inputs().items()}
    cap = read(family.model().double(), inputs)
    options: dict[str, Any] = {"head": head, "residual": residual, "discard": discard, "prefix": prefix}
    spread = torch.rand(family.tokens, dtype=torch.float64).softmax(0)
    for query in (0, -2, spread):
        row = cap.rollout(query, **options)
        assert row.shape == (BATCH, family.tokens)
        assert torch.allclose(row, dense_rollout(cap, query, **options), atol=1e-12, rtol=0)
        assert torch.allclose(row.sum(1), torch.ones(BATCH, dtype=torch.float64))


def test_rollout_in_float32_is_the_dense_product(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vislab.engine.walks._BLOCK", 150)
    cap = read(family.model(), family.inputs())
    for head in ("mean", "max", "min"):
        expected = dense_rollout(cap, 1, head, 0.5, 0.0, 1)
        assert (cap.rollout(1, head=head) - expected).abs().max() < 1e-6


def test_rollout_of_identity_is_identity() -> None:
    model = nn.Sequential(*(attends(fused) for _ in range(3)))
    x = torch.eye(16, 32)[None] * 1e3
    with torch.no_grad():
        for part in model:
            part.qkv.weight.zero_()
            part.qkv.bias.zero_()
            for h in range(4):  # each head sees all tokens: queries and keys are the tokens' own random codes
                part.qkv.weight[h * 8 : (h + 1) * 8, :16] = code = F.normalize(torch.randn(8, 16), dim=0)
                part.qkv.weight[32 + h * 8 : 32 + (h + 1) * 8, :16] = code
    with torch.no_grad(), vislab.capture(model) as cap:
        for part in model:
            part(x)
    assert [site.name for site in cap.layers] == ["0", "1", "2"]
    for query in range(16):
        assert torch.equal(cap.rollout(query), torch.eye(16)[query][None])


def test_rollout_goes_through_the_sites_it_is_given() -> None:
    cap = read(vit(num_hidden_layers=3))
    first, last = (cap.attention(i, slice(None)).mean(1) for i in (0, 2))
    step = [0.5 * (torch.eye(17) + a) for a in (first, last)]
    assert torch.allclose(cap.rollout(4, sites=[0, "layers.2.attention"]), (step[1] @ step[0])[:, 4], atol=1e-6)
    assert torch.allclose(cap.rollout(4, sites=[cap.sites[LAYER]], residual=0), cap.attention(1, 4).mean(1), atol=1e-6)


def test_rollout_names_what_it_cannot_go_through() -> None:
    cap = read(FAMILIES["SigLIP, vision"].model(), FAMILIES["SigLIP, vision"].inputs())
    with pytest.raises(ValueError, match=r"self-attention, and head\.attention is 1 × 15"):
        cap.rollout(sites=[*cap.sites])
    with pytest.raises(ValueError, match="at least one site"):
        cap.rollout(sites=[])
    parts = nn.ModuleDict({"a": attends(fused), "b": attends(fused)})
    with vislab.capture(parts) as cap:
        parts["a"](torch.randn(2, 5, 32))
        parts["b"](torch.randn(1, 5, 32))
    with pytest.raises(ValueError, match=r"one batch size, and there are 2 at a, 1 at b"):
        cap.rollout()
    with vislab.capture(parts) as cap:
        parts["a"](torch.randn(2, 5, 32))
        parts["b"](torch.randn(2, 6, 32))
    with pytest.raises(ValueError, match=r"5 tokens at a; 6 tokens at b. Choose with sites="):
        cap.rollout()


# ---- bad questions ----


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda cap: cap.attention("layers.9"), KeyError, r"no site 'layers\.9'.*layers\.0\.attention, layers\.1"),
        (lambda cap: cap.attention(2), IndexError, "no layer 2: ViTModel has layers 0 to 1"),
        (lambda cap: cap.attention(-3), IndexError, "no layer -3: ViTModel has layers 0 to 1"),
        (lambda cap: cap.attention(0, 17), IndexError, "no query token 17: they run from 0 to 16"),
        (lambda cap: cap.attention(0, [1, -18]), IndexError, "no query token -18: they run from 0 to 16"),
        (lambda cap: cap.attention(0, "cls"), TypeError, "a query is a token index from 0 to 16.*not 'cls'"),
        (lambda cap: cap.attention(0, 1.5), TypeError, "a query is a token index from 0 to 16.*not 1.5"),
        (lambda cap: cap.rollout(17), IndexError, "no query token 17: they run from 0 to 16"),
        (lambda cap: cap.rollout("cls"), TypeError, "a query is a token index from 0 to 16.*not 'cls'"),
        (lambda cap: cap.rollout(torch.ones(3)), ValueError, r"shape \(17,\), not \(3,\)"),
        (lambda cap: cap.rollout(head="median"), ValueError, "'mean', 'max' or 'min', not 'median'"),
        (lambda cap: cap.rollout(residual=1.1), ValueError, "residual runs from 0 to 1.*1.1"),
        (lambda cap: cap.rollout(discard=1.0), ValueError, "discard from 0 to below 1.*1.0"),
        (lambda cap: cap.rollout(discard=-0.1), ValueError, "discard from 0 to below 1.*-0.1"),
        (lambda cap: cap.rollout(sites=["layers.9"]), KeyError, r"no site 'layers\.9'"),
    ],
)
def test_a_question_that_cannot_be_answered_names_what_can(ask: Any, error: type[Exception], says: str) -> None:
    cap = read(vit())
    with pytest.raises(error, match=says):
        ask(cap)


def test_only_torch_modules_are_captured() -> None:
    with pytest.raises(TypeError, match=r"needs a torch module, not dict; of a vislab Model take \.module"):
        vislab.capture({}).__enter__()  # type: ignore[arg-type]


# ---- nothing is left ----


def state(model: nn.Module) -> tuple[Any, ...]:
    wrapped = [name for name, part in model.named_modules() if "forward" in vars(part)]
    return fingerprint(model), wrapped, torch._C._len_torch_function_stack()


@pytest.fixture(params=["ViT", "torchvision", "timm"])
def untouched(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, Inputs]]:
    """A model, half of it in training mode, whose state after the test is its state before."""
    model, inputs = FAMILIES[request.param].model(), FAMILIES[request.param].inputs()
    next(iter(model.children())).train()
    before = state(model)
    assert before[1] == []
    yield model, inputs
    assert state(model) == before


Model = tuple[nn.Module, Inputs]


@pytest.mark.parametrize("options", [{}, {"attention_scale": 2.0}, {"attention_scale": {0: 2.0}}])
def test_nothing_is_left_after_success(untouched: Model, options: Any) -> None:
    model, inputs = untouched
    read(model, inputs, **options).rollout()


@pytest.mark.parametrize("error", [RuntimeError("in the model"), KeyboardInterrupt(), SystemExit()])
def test_nothing_is_left_after_an_exception_in_the_model(
    untouched: Model, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = untouched
    kernel, seen = F.scaled_dot_product_attention, []

    def failing(*args: Any, **kwargs: Any) -> Tensor:
        seen.append(1)
        if len(seen) == 2:  # in the midst of the second layer
            raise error
        return kernel(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(F, "scaled_dot_product_attention", failing)
        with pytest.raises(type(error)) as raised:
            read(model, inputs, attention_scale=2.0)
    assert raised.value is error
    assert len(seen) == 2
    assert read(model, inputs).layers[0].scale == pytest.approx(8**-0.5)


def test_an_exception_in_the_block_is_the_users_own(untouched: Model) -> None:
    model, _ = untouched
    error = KeyError("mine")
    with pytest.raises(KeyError) as raised, vislab.capture(model):
        raise error
    assert raised.value is error


def test_nothing_is_left_after_bad_arguments(untouched: Model) -> None:
    model, _ = untouched
    for scale in (-1, {99: 2.0}):
        with pytest.raises(ValueError, match="attention_scale"), vislab.capture(model, attention_scale=scale):
            pass
    with pytest.raises(TypeError), vislab.capture(model):
        model(1, 2, 3, 4, 5, 6, 7, 8, 9)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_captures_may_be_closed_in_any_order(untouched: Model, order: tuple[int, ...]) -> None:
    model, inputs = untouched
    part = model.get_submodule(next(iter(read(model, inputs).sites)))
    managers = [vislab.capture(m, attention_scale=s) for m, s in ((model, 2.0), (part, 3.0), (model, 5.0))]
    factors = {0: 2.0, 1: 3.0, 2: 5.0}
    captured = [manager.__enter__() for manager in managers]
    one = 8**-0.5
    for closed in order:
        with torch.no_grad():
            model(**inputs)
        for still in factors:
            assert captured[still].layers[0].scale == pytest.approx(one * math.prod(factors.values()))
        managers[closed].__exit__(None, None, None)
        del factors[closed]
    assert read(model, inputs).layers[0].scale == pytest.approx(one)


def test_an_exit_stack_leaves_nothing(untouched: Model) -> None:
    model, inputs = untouched
    with ExitStack() as stack:
        captured = [stack.enter_context(vislab.capture(model)) for _ in range(3)]
        model(**inputs)
    assert len({float(cap.rollout().sum()) for cap in captured}) == 1


def test_a_generator_deleted_half_way_leaves_nothing(untouched: Model) -> None:
    model, inputs = untouched

    def steps() -> Iterator[Capture]:
        with vislab.capture(model, attention_scale=2.0) as cap:
            model(**inputs)
            yield cap
            raise AssertionError("never reached")

    generator = steps()
    cap = next(generator)
    del generator
    gc.collect()
    assert cap.rollout().shape[0] == BATCH
    assert read(model, inputs).layers[0].scale == pytest.approx(8**-0.5)


def test_a_capture_that_nobody_holds_leaves_nothing(untouched: Model) -> None:
    model, inputs = untouched
    manager = vislab.capture(model, attention_scale=2.0)
    manager.__enter__()
    model(**inputs)
    del manager
    gc.collect()


def test_a_forward_of_the_instance_is_put_back() -> None:
    model = vit()
    part = model.get_submodule(LAYER)
    seen = []
    original = part.forward

    def own(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return original(*args, **kwargs)

    part.forward = own
    expected = maps(read(vit()))
    assert difference(maps(read(model)), expected) == 0
    assert part.forward is own
    assert seen == [1]


def test_a_forward_that_somebody_wraps_meanwhile_stays_theirs() -> None:
    model = vit()
    part = model.get_submodule(LAYER)
    plain = output(model, {"pixel_values": image()})
    with vislab.capture(model) as cap:
        ours = part.forward
        theirs = part.forward = lambda *args, **kwargs: ours(*args, **kwargs)
        model(image())
    assert part.forward is theirs
    assert cap.attention(LAYER).isfinite().all()
    assert torch.equal(output(model, {"pixel_values": image()}), plain)
    assert LAYER in read(model).sites


def test_a_copy_made_under_capture_is_a_model_of_its_own() -> None:
    model, buffer = vit(), io.BytesIO()
    with vislab.capture(model):
        twin = copy.deepcopy(model)
        torch.save(model, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=False)
    plain = output(model, {"pixel_values": image()})
    for other in (twin, saved):
        assert torch.equal(output(other, {"pixel_values": image()}), plain)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(0.5)
        assert not torch.allclose(output(other, {"pixel_values": image()}), plain, atol=0.1)
    assert torch.equal(output(model, {"pixel_values": image()}), plain)


def test_only_the_thread_that_opened_the_capture_is_recorded(untouched: Model) -> None:
    model, inputs = untouched
    with torch.no_grad():
        plain = output(model, inputs)
    found: list[Tensor] = []

    def elsewhere() -> None:
        with torch.no_grad():
            found.append(output(model, inputs))

    with vislab.capture(model, attention_scale=3.0) as cap:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert not cap.sites
        with torch.no_grad():
            changed = output(model, inputs)
        first = maps(cap)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert difference(maps(cap), first) == 0
    assert len(found) == 2
    assert all(torch.equal(result, plain) for result in found)
    assert not torch.allclose(changed, plain, atol=1e-2)
