"""Laws of a Capture: rows, rollout as the dense product, and questions that cannot be answered."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from families import BATCH, FAMILIES, Family, image, pixels, sentences
from laws import attends, difference, fused, maps, read, vit
from tiny import TEXT, VIT, roughened
from torch import Tensor, nn

import vislab
from vislab.engine.capture import Capture
from vislab.engine.site import AttentionRefused

LAYER = "layers.1.attention"  # of the tiny ViT


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def test_a_query_is_a_row_and_several_are_rows() -> None:
    cap = read(vit())
    full = cap.attention(LAYER, slice(None))
    assert torch.allclose(cap.attention(LAYER, 3), full[:, :, 3], atol=1e-6)
    assert torch.allclose(cap.attention(1, -1), full[:, :, -1], atol=1e-6)
    assert torch.allclose(cap.attention(cap.sites[LAYER], [4, -2, 4]), full[:, :, [4, -2, 4]], atol=1e-6)
    assert torch.allclose(cap.attention(-1, range(2, 5)), full[:, :, 2:5], atol=1e-6)
    assert torch.allclose(cap.attention(-1, slice(1, 9, 3)), full[:, :, 1:9:3], atol=1e-6)
    assert cap.attention(-1, []).shape == (BATCH, 4, 0, 17)


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


def test_autocast_around_the_reading_changes_nothing() -> None:
    model = FAMILIES["torchvision"].model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cap = read(model, {"x": image()})
        inside, row = cap.attention(-1, slice(None)), cap.rollout()
    assert inside.dtype == torch.float32
    assert torch.equal(inside, cap.attention(-1, slice(None)))
    assert torch.equal(row, cap.rollout())


@pytest.mark.parametrize("name", ["ViT", "eager"])
def test_rows_belong_to_whoever_reads_them(name: str) -> None:
    cap = read(FAMILIES["ViT"].model(unfused=name == "eager"), FAMILIES["ViT"].inputs())
    before = maps(cap)
    for rows in maps(cap):
        rows.zero_()
    assert difference(maps(cap), before) == 0


def test_a_module_without_attention_says_so() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    with vislab.capture(model) as cap:
        model(torch.zeros(1, 3))
    for ask in (cap.rollout, lambda: cap.attention(0), lambda: cap.attention("0")):
        with pytest.raises(
            AttentionRefused, match="Sequential ran and has no attention: no fused call, and no softmax"
        ):
            ask()


def test_a_model_that_did_not_run_says_so() -> None:
    with vislab.capture(vit()) as cap:
        pass
    with pytest.raises(AttentionRefused, match="nothing was captured: ViTModel did not run in this thread"):
        cap.attention(0)


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
