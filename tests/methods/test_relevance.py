"""Laws of the methods for one class: autograd through dense attention, formulas written out, captum run directly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
import transformers as hf
from families import BATCH, FAMILIES, Family, Inputs
from laws import attends, tokens
from tiny import DINO, VIT, roughened
from torch import Tensor, nn

import vislab
from vislab.engine.capture import Capture
from vislab.engine.site import AttentionRefused, Recorded, Refused
from vislab.methods import probe as methods_probe
from vislab.methods import registry
from vislab.methods.question import Question
from vislab.models import load
from vislab.models.model import Model

PHOTO = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
ASK = Question(None, True, -1, "mean")
SMALL: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def score(model: nn.Module, inputs: Inputs) -> Tensor:
    """All that a model says, weighted at random, as one number."""
    given, random = model(**inputs), torch.Generator().manual_seed(9)
    said = [given] if isinstance(given, Tensor) else [v for v in given.values() if isinstance(v, Tensor)]
    parts = [(one * torch.randn(one.shape, generator=random).to(one)).sum() for one in said if one.is_floating_point()]
    return torch.stack(parts).sum()


@contextmanager
def softmaxes() -> Iterator[list[Tensor]]:
    """All that leaves a softmax inside the block, in the graph."""
    made: list[Tensor] = []
    own = torch.Tensor.softmax

    def kept(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        made.append(own(self, *args, **kwargs))
        return made[-1]

    torch.Tensor.softmax = kept  # type: ignore[method-assign, assignment]
    try:
        yield made
    finally:
        del torch.Tensor.softmax


def through_dense_attention(model: nn.Module, inputs: Inputs) -> list[tuple[Tensor, Tensor]]:
    """Each site's attention and its gradient by autograd, (batch, heads, queries, keys), in execution order."""

    def ask(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return args, kwargs | {"need_weights": True, "average_attn_weights": False}

    parts = [part for part in model.modules() if isinstance(part, nn.MultiheadAttention)]
    hooks = [part.register_forward_pre_hook(ask, with_kwargs=True) for part in parts]
    with softmaxes() as maps:
        value = score(model, inputs)
    for hook in hooks:
        hook.remove()
    found = torch.autograd.grad(value, maps, allow_unused=True)
    shaped = (a if a.ndim == 4 else a.unflatten(0, (BATCH, -1)) for a in maps)
    return [
        (a.detach(), torch.zeros_like(a) if g is None else g.view_as(a)) for a, g in zip(shaped, found, strict=True)
    ]


def differentiated(model: nn.Module, inputs: Inputs) -> Capture:
    with vislab.capture(model, gradients=True) as cap:
        value = score(model, inputs)
    cap.differentiate(value)
    return cap


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).abs().max() / expected.abs().max())


def positive(attention: Tensor, gradient: Tensor) -> Tensor:
    """Mean over the heads of (A ∘ dA)⁺."""
    return (attention.double() * gradient.double()).clamp_min(0).mean(1)


def dense_relevance(maps: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Chefer, Gur & Wolf 2021: R <- R + Ā·R from the first layer to the last. -> (batch, n, n)"""
    n = maps[0][0].shape[-1]
    r = torch.eye(n).double().expand(len(maps[0][0]), n, n)
    for attention, gradient in maps:
        r = r + positive(attention, gradient) @ r
    return r


def dense_grad_rollout(maps: list[tuple[Tensor, Tensor]], residual: float) -> Tensor:
    """The product of all layers, the last on the left; a row without any positive gradient is the identity's."""
    n = maps[0][0].shape[-1]
    product = identity = torch.eye(n).double().expand(len(maps[0][0]), n, n)
    for attention, gradient in maps:
        weights = positive(attention, gradient)
        sums = weights.sum(-1, keepdim=True)
        weights = torch.where(sums > 0, weights / sums, identity)
        product = (residual * identity + (1 - residual) * weights) @ product
    return product


# ---- the engine ----


def test_gradients_at_attention_are_those_of_autograd(family: Family) -> None:
    own = through_dense_attention(family.model(unfused=True), family.inputs())
    cap = differentiated(family.model(), family.inputs())
    for site, (_, gradient) in zip(cap.sites, own, strict=True):
        assert gradient.abs().max() > 1e-3
        assert error(cap.gradient(site, slice(None)), gradient) < 1e-5
        assert torch.equal(cap.gradient(site, 0), cap.gradient(site, [0])[:, :, 0])


def test_relevance_and_grad_rollout_are_the_dense_products(family: Family) -> None:
    cap = differentiated(family.model(), family.inputs())
    own = through_dense_attention(family.model(unfused=True), family.inputs())[: len(cap.layers)]
    relevance = dense_relevance(own)
    for query in (0, 3):
        assert error(cap.relevance(query), relevance[:, query]) < 1e-5
    even = torch.full((family.tokens,), 1 / family.tokens)
    assert error(cap.relevance(even), relevance.mean(1)) < 1e-5
    for residual in (0.5, 0.0):
        rows = cap.grad_rollout(0, residual=residual)
        assert error(rows, dense_grad_rollout(own, residual)[:, 0]) < 1e-4
        assert torch.allclose(rows.sum(1), torch.ones(BATCH), atol=1e-5)
    last = list(cap.layers)[-1:]
    assert error(cap.relevance(3, sites=last), dense_relevance(own[-1:])[:, 3]) < 1e-5


def test_blocks_of_rows_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    family = FAMILIES["DINOv3"]
    whole = differentiated(family.model(), family.inputs())
    rows = whole.relevance(2), whole.grad_rollout(2)
    monkeypatch.setattr("vislab.engine.walks._BLOCK", 1)
    assert error(whole.relevance(2), rows[0].double()) < 1e-6
    assert error(whole.grad_rollout(2), rows[1].double()) < 1e-6


@pytest.mark.parametrize("name", ["ViT", "torchvision", "timm"])
def test_a_model_with_explicit_softmax_says_the_same(name: str) -> None:
    family = FAMILIES[name]
    fused, unfused = (differentiated(family.model(unfused=u), family.inputs()) for u in (False, True))
    assert error(unfused.relevance(0), fused.relevance(0).double()) < 1e-5


def test_without_gradients_relevance_is_the_identity() -> None:
    family = FAMILIES["ViT"]
    model = family.model()
    with vislab.capture(model, gradients=True) as cap:
        value = score(model, family.inputs())
    cap.differentiate(value * 0)
    one = F.one_hot(torch.tensor(5), family.tokens).float().expand(BATCH, -1)
    assert torch.equal(cap.relevance(5), one)
    assert torch.equal(cap.grad_rollout(5), one)


def test_relevance_does_not_depend_on_what_a_score_ignores() -> None:
    """Of the last layer, whose output the score does not see, nothing enters; the gradient there is 0."""
    family = FAMILIES["ViT"]
    model = family.model()
    with vislab.capture(model, gradients=True) as cap:
        hidden = model(**family.inputs(), output_hidden_states=True).hidden_states
    cap.differentiate(hidden[1][:, 4].square().sum())
    assert torch.equal(cap.gradient(1, slice(None)), torch.zeros(BATCH, 4, 17, 17))
    assert torch.equal(cap.relevance(4), cap.relevance(4, sites=[0]))
    assert cap.queries_read(0).tolist() == [[token == 4 for token in range(17)]] * BATCH
    assert not cap.queries_read(1).any()


@pytest.mark.parametrize("frozen", [True, False])
def test_the_graph_is_freed_and_no_parameter_has_a_gradient(frozen: bool) -> None:
    model = FAMILIES["ViT"].model().requires_grad_(not frozen)
    inputs = FAMILIES["ViT"].inputs()
    before = tiny.fingerprint(model)
    with vislab.capture(model, gradients=True) as cap:
        value = score(model, inputs)
    cap.differentiate(value)
    assert all(isinstance(site.state, Recorded) and site.state.result is None for site in cap.sites.values())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert inputs["pixel_values"].grad is None
    assert tiny.fingerprint(model) == before
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        value.backward()


@pytest.mark.parametrize("method", ["integrated_gradients", "grad_cam"])
def test_a_score_that_only_counts_is_refused_where_its_gradient_is_needed(method: str) -> None:
    image, model = (
        np.zeros((32, 32, 3), np.uint8),
        load.load(roughened(hf.ViTForImageClassification(hf.ViTConfig(**VIT)))),
    )

    def count(output: Any) -> Tensor:
        return (output.logits > 0).sum(-1).float()

    with pytest.raises(ValueError, match=r"has no gradient: take method='occlusion'"):
        vislab.explain(image, model=model, method=method, target=count)
    assert vislab.explain(image, model=model, method="occlusion", target=count).values.shape == (4, 4)


def test_what_cannot_be_differentiated_says_why() -> None:
    model, inputs = FAMILIES["ViT"].model(), FAMILIES["ViT"].inputs()
    with vislab.capture(model) as plain:
        value = score(model, inputs)
    with pytest.raises(ValueError, match=r"keeps no gradients: open it as capture\(module, gradients=True\)"):
        plain.differentiate(value)
    with torch.no_grad(), vislab.capture(model, gradients=True) as cap:
        value = score(model, inputs)
    with pytest.raises(ValueError, match=r"the score has no gradient: the model ran under torch\.no_grad"):
        cap.differentiate(value)
    with vislab.capture(model, gradients=True) as cap:
        said = model(**inputs).last_hidden_state
    with pytest.raises(ValueError, match=r"one number, not a tensor of shape \(2, 17, 32\)"):
        cap.differentiate(said)
    with pytest.raises(ValueError, match="no score was given"):
        cap.relevance()
    with pytest.raises(ValueError, match=r"depends on none of the sites: layers.0.attention, layers.1.attention"):
        cap.differentiate(torch.ones((), requires_grad=True) * 2)
    with pytest.raises(ValueError, match="residual runs from 0 to 1, not 2"):
        cap.grad_rollout(residual=2)


def test_a_new_forward_forgets_the_score() -> None:
    model, inputs = FAMILIES["ViT"].model(), FAMILIES["ViT"].inputs()
    with vislab.capture(model, gradients=True) as cap:
        cap.differentiate(score(model, inputs))
        score(model, inputs)
    with pytest.raises(ValueError, match="no score was given"):
        cap.relevance()


def test_a_refused_site_is_named() -> None:
    model = FAMILIES["ViT"].model()
    model.layers[1].attention.register_forward_hook(lambda module, args, output: output)
    with vislab.capture(model, gradients=True) as cap:
        value = score(model, FAMILIES["ViT"].inputs())
    cap.sites["layers.1.attention"].state = Refused("of a test")
    cap.differentiate(value)
    with pytest.raises(AttentionRefused, match=r"'layers.1.attention' .* cannot be read: of a test"):
        cap.relevance()


@pytest.mark.parametrize("name", ["ViT", "timm"])
def test_gradient_checkpointing_is_refused_by_name(name: str) -> None:
    """Its second forward, in the backward pass, is unwatched: neither gradients nor a scale may rest on it."""
    model, inputs = FAMILIES[name].model(), FAMILIES[name].inputs()
    with vislab.capture(model) as plain:
        score(model, inputs)
    if name == "ViT":
        model.activation_checkpointing_enable()
    else:
        model.set_grad_checkpointing(True)
    model.train(name == "ViT")
    for options in ({"gradients": True}, {"attention_scale": 2.0}):
        with (
            pytest.raises(AttentionRefused, match=r"0\.att.* gradient checkpointing runs layers again.* Turn it off"),
            vislab.capture(model, **options),
        ):
            score(model, inputs)
    with torch.no_grad(), vislab.capture(model, attention_scale=2.0) as scaled:
        score(model, inputs)
    with vislab.capture(model) as cap:
        score(model, inputs).backward()
    assert torch.equal(cap.attention(1), plain.attention(1))
    assert not torch.allclose(scaled.attention(1), plain.attention(1))


def test_the_gradient_at_weights_changed_in_place_is_that_of_autograd() -> None:
    made: list[Tensor] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, module: nn.Module) -> Tensor:
        made[:] = [(q @ k.mT).softmax(-1).to(torch.float64)]
        made[0][..., 1] *= 3
        return (made[0] @ v.double()).float()

    model, x = attends(attend), tokens()["x"]
    own = torch.autograd.grad(model(x).square().sum(), made)[0]
    with vislab.capture(model, gradients=True) as cap:
        said = model(x).square().sum()
    cap.differentiate(said)
    assert error(cap.gradient(0, slice(None)), own) < 1e-6
    assert torch.equal(cap.attention(0, slice(None)), made[0].detach())


# ---- one image, one target ----


@pytest.fixture(scope="module")
def vit() -> Model:
    return load.load(tiny.make("ViT classifier"), dtype="float64")


def pixels_of(model: Model) -> Tensor:
    return model.preprocessing(PHOTO, model.preprocessing.size)[0].to(model.dtype)


def logits_of(model: Model, pixels: Tensor) -> Tensor:
    output = model.module(pixels)
    return getattr(output, "logits", output)


def explained(model: Model, method: str, **options: Any) -> vislab.Heatmap:
    return vislab.explain(PHOTO, model=model, method=method, **options)


def test_the_target_is_the_predicted_class_by_default(vit: Model) -> None:
    best = int(logits_of(vit, pixels_of(vit)).argmax())
    for method in registry.targeted():
        heat = explained(vit, method)
        assert heat.target == vit.labels[best]
        function = [] if method in OF_TOKENS else [lambda output: output.logits[0, best]]
        for target in (best, vit.labels[best], *function):
            assert explained(vit, method, target=target).values == pytest.approx(heat.values, rel=1e-5, abs=1e-9)
        other = explained(vit, method, target=(best + 1) % 5)
        assert other.target == vit.labels[(best + 1) % 5]
        assert np.abs(other.values - heat.values).max() > 1e-3 * np.abs(heat.values).max()


@pytest.mark.parametrize("method", ["relevance", "grad_rollout"])
@pytest.mark.parametrize(("query", "token"), [("cls", 0), ((89, 49), 16)])
def test_maps_are_the_dense_rows_of_the_class(vit: Model, method: str, query: Any, token: int) -> None:
    with softmaxes() as maps:
        vit.module.set_attn_implementation("eager")
        value = logits_of(vit, pixels_of(vit))[0, 3]
    vit.module.set_attn_implementation("sdpa")
    own = list(zip([a.detach() for a in maps], torch.autograd.grad(value, maps), strict=True))
    dense = dense_relevance(own) if method == "relevance" else dense_grad_rollout(own, 0.5)
    heat = explained(vit, method, target=3, query=query)
    assert heat.values.ravel() == pytest.approx(dense[0, token, 1:].numpy(), rel=1e-5)
    assert (heat.query, heat.signed) == ("CLS" if token == 0 else "patch (3, 3)", False)


def direct(model: Model, target: int) -> Callable[[Tensor], Tensor]:
    return lambda pixels: logits_of(model, pixels)[:, target]


def test_integrated_gradients_are_captums_and_complete(vit: Model) -> None:
    from captum.attr import IntegratedGradients

    heat = explained(vit, "integrated_gradients", target=2, steps=300)
    pixels = pixels_of(vit)
    own = IntegratedGradients(direct(vit, 2)).attribute(pixels.clone().requires_grad_(), n_steps=300)
    by_patch = own[0].sum(0).reshape(4, 8, 4, 8).sum((1, 3))
    assert heat.signed
    assert heat.values == pytest.approx(by_patch.detach().numpy(), rel=1e-5, abs=1e-7)
    with torch.no_grad():
        change = direct(vit, 2)(pixels) - direct(vit, 2)(torch.zeros_like(pixels))
    assert float(heat.values.sum()) == pytest.approx(float(change), rel=1e-3)


def test_occlusion_is_what_the_score_loses(vit: Model) -> None:
    heat = explained(vit, "occlusion", target=1)
    pixels = pixels_of(vit)
    with torch.no_grad():
        whole = direct(vit, 1)(pixels)
        for row in range(4):
            for col in range(4):
                less = pixels.clone()
                less[:, :, 8 * row : 8 * row + 8, 8 * col : 8 * col + 8] = 0
                assert heat.values[row, col] == pytest.approx(float(whole - direct(vit, 1)(less)), rel=1e-5)
    assert heat.signed
    assert heat.values.min() < 0 < heat.values.max()


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_grad_cam_is_its_formula(vit: Model, layer: int) -> None:
    """Channels weighted by the mean of their gradient over the patches (Selvaraju et al. 2017, eqs. 1 and 2)."""
    kept: list[Tensor] = []
    part = list(vit.module.vit.layers)[layer].attention
    hook = part.register_forward_pre_hook(
        lambda module, args, kwargs: kept.extend([*args, *kwargs.values()]), with_kwargs=True
    )
    value = logits_of(vit, pixels_of(vit).requires_grad_())[0, 4]
    hook.remove()
    tokens = next(x for x in kept if isinstance(x, Tensor))
    [gradient] = torch.autograd.grad(value, tokens)
    expected = (gradient[0, 1:].mean(0) * tokens[0, 1:]).sum(1).reshape(4, 4)
    heat = explained(vit, "grad_cam", target=4, layer=layer)
    assert heat.values == pytest.approx(expected.detach().numpy(), rel=1e-5, abs=1e-9)
    assert heat.signed


def growth_through_cls(module: nn.Module, pixels: Tensor, target: int) -> tuple[Callable[[Tensor], Tensor], int]:
    """The logit as a function of how much CLS takes in the last layer of each token and, last, of the bias."""
    with torch.no_grad():
        hidden = module(pixels, output_hidden_states=True).hidden_states[-2]
    block = module.vit.layers[-1]
    part, x = block.attention, block.layernorm_before(hidden)
    q, k, v = (f(x)[0].unflatten(-1, (4, -1)).transpose(0, 1) for f in (part.q_proj, part.k_proj, part.v_proj))
    rows = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)[:, 0, :, None] * v  # (heads, tokens, dim)
    taken = torch.cat([rows.transpose(0, 1).flatten(1) @ part.o_proj.weight.T, part.o_proj.bias[None]]).detach()

    def logit(share: Tensor) -> Tensor:
        after = hidden[0, 0] + share @ taken
        return module.classifier(module.vit.layernorm(after + block.mlp(block.layernorm_after(after))))[target]

    return logit, len(taken)


def test_contributions_through_cls_share_the_growth_of_the_score(vit: Model) -> None:
    logit, count = growth_through_cls(vit.module, pixels_of(vit), 3)
    whole, nothing = (logit(share).detach() for share in (torch.ones(count).double(), torch.zeros(count).double()))
    assert float(whole) == pytest.approx(float(logits_of(vit, pixels_of(vit))[0, 3].detach()))
    shares = torch.zeros(count).double()
    for step in range(500):  # the integral by the rule of midpoints
        at = torch.full((count,), (step + 0.5) / 500).double().requires_grad_()
        shares += torch.autograd.grad(logit(at), at)[0] / 500
    assert float(shares.sum()) == pytest.approx(float(whole - nothing), rel=1e-5)
    heat = explained(vit, "cls_contribution", target=3)
    assert heat.signed
    assert heat.values.ravel() == pytest.approx(shares[1:-1].numpy(), rel=1e-4, abs=1e-6 * float(shares.abs().max()))


def test_contributions_of_tokens_are_the_classifier_read_on_each(vit: Model) -> None:
    with torch.no_grad():
        hidden = vit.module.vit(pixels_of(vit)).last_hidden_state[0, 1:]
        expected = vit.module.classifier(hidden)[:, 2] / 16
    heat = explained(vit, "token_contribution", target=2)
    assert heat.signed
    assert heat.values.ravel() == pytest.approx(expected.numpy(), rel=1e-5)


def test_contributions_through_both_are_their_mean(vit: Model) -> None:
    both, cls, tokens = (explained(vit, f"{through}_contribution") for through in ("both", "cls", "token"))
    assert both.signed
    assert both.values == pytest.approx((cls.values + tokens.values) / 2, rel=1e-6)


def test_contributions_of_tokens_sum_to_the_score_of_a_model_that_averages_them() -> None:
    timm = pytest.importorskip("timm")
    model = timm.models.VisionTransformer(
        **SMALL, class_token=False, reg_tokens=2, global_pool="avg", fc_norm=False, num_classes=5
    )
    model = load.load(roughened(model), dtype="float64")
    heat = explained(model, "token_contribution", target=4)
    with torch.no_grad():
        assert float(heat.values.sum()) == pytest.approx(float(logits_of(model, pixels_of(model))[0, 4]), rel=1e-5)


# They read the classifier on each token, or on each layer: no other target.
OF_TOKENS = {"token_contribution", "both_contribution", "legrad", "lens", "maskclip"}

REFUSED: list[tuple[Callable[[Any], nn.Module], str, Any, type[Exception], str]] = [
    (
        lambda timm: timm.models.VisionTransformer(**SMALL, class_token=False, global_pool="avg"),
        *("cls_contribution", 1, ValueError, r"has no CLS token .*: take method='token_contribution'"),
    ),
    (
        lambda timm: hf.BeitForImageClassification(hf.BeitConfig(**VIT, num_labels=5)),
        *("cls_contribution", 1, ValueError, r"the score reads nothing of CLS, .* take method='token_contribution'"),
    ),
    (
        lambda timm: timm.models.eva.Eva(**SMALL, use_rot_pos_emb=True, scale_attn_inner=True),
        *(
            "cls_contribution",
            1,
            AttentionRefused,
            r"'blocks.1.attn' .* do not add up: it normalises what its heads take",
        ),
    ),
    (
        lambda timm: timm.models.VisionTransformer(**SMALL),
        *("token_contribution", lambda output: output[0, 1], ValueError, r"target is a class, not a function of the"),
    ),
]


@pytest.mark.parametrize(
    ("make", "method", "target", "error", "words"), REFUSED, ids=[case[4][:30] for case in REFUSED]
)
def test_contributions_that_would_not_add_up_are_refused(
    make: Any, method: str, target: Any, error: type[Exception], words: str
) -> None:
    module = roughened(make(pytest.importorskip("timm")))
    before = tiny.fingerprint(module)
    with pytest.raises(error, match=words):
        vislab.explain(PHOTO, model=module, method=method, target=target)
    assert tiny.fingerprint(module) == before


CLASSIFIERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "ViT": (lambda: hf.ViTForImageClassification(hf.ViTConfig(**VIT, num_labels=5)), "CLS"),
    "DeiT with teacher": (tiny.FAMILIES["DeiT with teacher"].make, "CLS"),
    "DINOv2": (lambda: hf.Dinov2ForImageClassification(hf.Dinov2Config(**DINO, num_labels=5)), "CLS"),
    "BEiT": (
        lambda: hf.BeitForImageClassification(hf.BeitConfig(**VIT, num_labels=5, use_relative_position_bias=True)),
        "mean of the 16 tokens that the score reads",
    ),
    "torchvision": (tiny.FAMILIES["torchvision"].make, "CLS"),
    "timm": (tiny.FAMILIES["timm"].make, "CLS"),
    "timm, average of patches": (
        tiny.FAMILIES["timm, average of patches"].make,
        "mean of the 16 tokens that the score reads",
    ),
    "timm, pooling head": (tiny.FAMILIES["timm, pooling head"].make, "pooling head attn_pool"),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_method_answers_on_every_classifier(name: str) -> None:
    torch.manual_seed(0)
    make, query = CLASSIFIERS[name]
    module = roughened(make()).train()
    before = tiny.fingerprint(module)
    model = load.load(module)
    for method in registry.targeted():
        if method in ("cls_contribution", "both_contribution", "grad_eclip") and query != "CLS":
            continue
        if method == "maskclip" and name == "BEiT":  # relative positions
            continue
        options = {"steps": 4} if method == "integrated_gradients" else {}
        heat = explained(model, method, target=1, **options)
        assert np.ptp(heat.values) > 0
        assert heat.target == (model.labels[1] if model.labels else "class 1")
        assert heat.query == (query if "query" in registry.METHODS[method].asks else None)
    assert tiny.fingerprint(module) == before
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_walk_begins_at_the_pooling_heads_own_relevance() -> None:
    model = load.load(tiny.make("timm, pooling head"), dtype="float64")
    heat = explained(model, "relevance", target=1)
    with model.captured(gradients=True) as cap:
        cap.differentiate(model.module(pixels_of(model))[0, 1])
    pooling = next(site for site in cap.sites.values() if not site.self_attention)
    weighted = cap.attention(pooling, slice(None)) * cap.gradient(pooling, slice(None))
    start = weighted[0].clamp_min(0).mean((0, 1))
    layers = [(cap.attention(site, slice(None)), cap.gradient(site, slice(None))) for site in cap.layers]
    assert heat.values.ravel() == pytest.approx((start @ dense_relevance(layers)[0]).numpy(), rel=1e-5)


@pytest.mark.parametrize("method", registry.targeted())
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_modes_around_it_make_no_difference(vit: Model, method: str, mode: Callable[[], Any]) -> None:
    expected = explained(vit, method, target=1).values
    with mode():
        assert np.array_equal(explained(vit, method, target=1).values, expected)


@pytest.mark.parametrize("method", registry.targeted())
def test_sizes_and_attention_scale_reach_the_map(vit: Model, method: str) -> None:
    plain = explained(vit, method, target=1, image_size=(32, 64), patch_size=4)
    scaled = explained(vit, method, target=1, image_size=(32, 64), patch_size=4, attention_scale=3.0)
    assert plain.values.shape == scaled.values.shape == (8, 16)
    assert np.abs(plain.values - scaled.values).max() > 1e-3 * np.abs(plain.values).max()


def failing(output: Any) -> Tensor:
    raise KeyboardInterrupt


@pytest.mark.parametrize("method", registry.targeted())
@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ("LABEL_9", ValueError, "knows no class 'LABEL_9': .* did you mean 'LABEL_"),
        (5, ValueError, "knows no class 5: give a label or an index from 0 to 4: it knows LABEL_0, .*LABEL_4"),
        (-1, ValueError, "knows no class -1"),
        (lambda output: output.logits, ValueError, r"to one number in a tensor, not to shape \(1, 5\)"),
        (lambda output: 3.0, ValueError, "to one number in a tensor, not to float"),
        (failing, KeyboardInterrupt, None),
    ],
)
def test_nothing_is_left_on_the_model_after_a_bad_target(
    method: str, target: Any, error: type[BaseException], words: str | None
) -> None:
    if callable(target) and method in OF_TOKENS:
        error, words = ValueError, "target is a class( or a text)?, not a function"
    module = tiny.make("ViT classifier").train()
    module.vit.layers[0].requires_grad_(False)
    before = tiny.fingerprint(module)
    with pytest.raises(error, match=words):
        vislab.explain(PHOTO, model=module, method=method, target=target)
    assert tiny.fingerprint(module) == before
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_model_without_a_classifier_wants_a_function() -> None:
    model = load.load(tiny.make("ViT"))
    for target in (None, 3, "church"):
        with pytest.raises(ValueError, match=r"ViTModel has no classifier, .* Give target a function of its output"):
            explained(model, "relevance", target=target)

    def length(output: Any) -> Tensor:
        return output.last_hidden_state[:, 0].norm()

    for method in set(registry.targeted()) - OF_TOKENS:
        heat = explained(model, method, target=length)
        assert heat.target == "length"
        assert np.ptp(heat.values) > 0


def test_classes_without_names_are_known_by_index() -> None:
    model = load.load(tiny.make("timm"))
    with pytest.raises(ValueError, match=r"knows no class 'x': give a label or an index from 0 to 999"):
        explained(model, "relevance", target="x")
    with pytest.raises(ValueError, match=r"knows no class True: give a label or an index from 0 to 999"):
        explained(model, "relevance", target=True)
    plain, heat = (explained(model, "relevance", target=index) for index in (7, np.int64(7)))
    assert np.array_equal(heat.values, plain.values)
    headless = load.load(tiny.make("timm").requires_grad_(True))
    headless.module.reset_classifier(0)
    with pytest.raises(ValueError, match="has no classifier"):
        explained(headless, "relevance")


def test_methods_for_all_classes_take_no_target(vit: Model) -> None:
    with pytest.raises(ValueError, match="the same for every class: leave target out, or take one of relevance, "):
        explained(vit, "rollout", target=1)


def test_batches_are_bounded_in_tokens(vit: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {method: explained(vit, method, target=1).values for method in ("occlusion", "integrated_gradients")}
    monkeypatch.setattr("vislab.methods.probe._BATCH_TOKENS", 3 * 17)
    sizes: set[int] = set()
    hook = vit.module.register_forward_hook(lambda module, args, output: sizes.add(len(args[0])))
    for method, values in expected.items():
        assert explained(vit, method, target=1).values == pytest.approx(values, rel=1e-5, abs=1e-9)
    hook.remove()
    assert max(sizes) == 3


@pytest.mark.parametrize(("method", "total"), [("occlusion", 17), ("integrated_gradients", 50)])
def test_long_methods_tell_how_far_they_are(vit: Model, method: str, total: int) -> None:
    told: list[tuple[int, int]] = []
    with methods_probe.probing(vit, PHOTO, 1, progress=lambda *counts: told.append(counts)) as probe:
        registry.METHODS[method].load()(probe, ASK)
    assert told == sorted(told)
    assert told[-1] == (total, total)


def test_steps_are_at_least_one(vit: Model) -> None:
    with pytest.raises(ValueError, match="at least 1 step, not 0"):
        explained(vit, "integrated_gradients", steps=0)


def test_a_heatmap_of_a_class_says_how_it_was_made(vit: Model) -> None:
    heat = explained(vit, "relevance", target="LABEL_2")
    assert heat.target == "LABEL_2"
    assert heat.settings["target"] == "LABEL_2"
    assert not {"layer", "head"} & set(heat.settings)
    assert "target" not in explained(vit, "rollout").settings
