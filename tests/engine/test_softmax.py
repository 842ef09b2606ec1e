"""Laws of the explicit softmax: read where it weighs the values as it is, and else refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from families import FAMILIES, image
from laws import attends, difference, fused, maps, read, tokens, weights
from torch import Tensor, nn

import vislab
from vislab.engine.site import AttentionRefused


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


def test_talking_heads_are_refused_by_name() -> None:
    cait = pytest.importorskip("timm.models.cait")
    model = cait.Cait(32, 8, embed_dim=32, depth=1, num_heads=4, depth_token_only=1).eval()
    cap = read(model, {"x": image()})
    with pytest.raises(AttentionRefused, match=r"'blocks\.0\.attn' \(TalkingHeadAttn\).*talking heads"):
        cap.attention("blocks.0.attn")
