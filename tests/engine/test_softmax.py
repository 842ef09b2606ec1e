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


def mixed(q: Tensor, k: Tensor, m: Any) -> Tensor:
    return torch.einsum("bhij,hg->bgij", weights(q, k), m.mix)


OTHERS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "heads mixed by einsum": (lambda q, k, v, m: mixed(q, k, m) @ v, mixed),
    "heads mixed by a product": (
        lambda q, k, v, m: (weights(q, k).permute(0, 2, 3, 1) @ m.mix).permute(0, 3, 1, 2) @ v,
        mixed,
    ),
    "heads mixed by a convolution": (
        lambda q, k, v, m: F.conv2d(weights(q, k), m.mix.T[:, :, None, None]) @ v,
        mixed,
    ),
    "product by keywords": (
        lambda q, k, v, m: torch.matmul(input=weights(q, k), other=v),
        lambda q, k, m: weights(q, k),
    ),
    "product by one keyword": (
        lambda q, k, v, m: torch.matmul(torch.matmul(q, other=k.mT).softmax(-1), other=v),
        lambda q, k, m: (q @ k.mT).softmax(-1),
    ),
    "a sink": (
        lambda q, k, v, m: torch.cat([q @ k.mT, q[..., :1]], -1).softmax(-1)[..., :-1] @ v,
        lambda q, k, m: torch.cat([q @ k.mT, q[..., :1]], -1).softmax(-1)[..., :-1],
    ),
    "heads in the batch": (
        lambda q, k, v, m: ((q.flatten(0, 1) @ k.flatten(0, 1).mT).softmax(-1) @ v.flatten(0, 1)).unflatten(0, (-1, 4)),
        lambda q, k, m: (q @ k.mT).softmax(-1),
    ),
    "images in the heads": (
        lambda q, k, v, m: (
            (
                ((q.transpose(0, 1).flatten(0, 1) @ k.transpose(0, 1).flatten(0, 1).mT) * 0.5).softmax(-1)
                @ v.transpose(0, 1).flatten(0, 1)
            )
            .unflatten(0, (4, -1))
            .transpose(0, 1)
        ),
        lambda q, k, m: (q @ k.mT * 0.5).softmax(-1),
    ),
    "clamped softly": (
        lambda q, k, v, m: ((q @ k.mT / 5).tanh() * 5).softmax(-1) @ v,
        lambda q, k, m: ((q @ k.mT / 5).tanh() * 5).softmax(-1),
    ),
    "pooled queries": (
        lambda q, k, v, m: ((q[:, :, :8].unflatten(2, (2, 4)).amax(2) @ k.mT).softmax(-1) @ v).repeat(1, 1, 3, 1)[
            :, :, :9
        ],
        lambda q, k, m: (q[:, :, :8].unflatten(2, (2, 4)).amax(2) @ k.mT).softmax(-1),
    ),
    "five dimensions": (
        lambda q, k, v, m: ((q[:, None] @ k[:, None].mT).softmax(-1) @ v[:, None])[:, 0],
        lambda q, k, m: (q @ k.mT).softmax(-1),
    ),
    "heads last": (
        lambda q, k, v, m: torch.einsum("bijh,bhjd->bhid", torch.einsum("bhid,bhjd->bijh", q, k).softmax(2), v),
        lambda q, k, m: (q @ k.mT).softmax(-1),
    ),
    "normalised heads first, keys as rows": (
        lambda q, k, v, m: (k @ q.mT).softmax(-2).mT @ v,
        lambda q, k, m: (q @ k.mT).softmax(-1),
    ),
}


@pytest.mark.parametrize("how", OTHERS)
def test_what_weighs_the_values_is_read_however_it_is_laid_out(how: str) -> None:
    attend, own = OTHERS[how]
    made: list[Tensor] = []

    def noted(q: Tensor, k: Tensor, v: Tensor, module: Any) -> Tensor:
        made.extend([] if made else [own(q, k, module).detach()])
        return attend(q, k, v, module)

    model = attends(noted, spread=3.0)
    model(**tokens())  # outside of the capture, which sees all of it
    for more in (attend, attend):
        model.attend = more
        assert difference(maps(read(model, tokens())), made) < 1e-5


NO_ATTENTION: dict[str, tuple[Callable[..., Tensor], str]] = {
    "transposed": (lambda q, k, v, m: weights(q, k).mT @ v, "not weighed along the keys"),
    "transposed by einsum": (
        lambda q, k, v, m: torch.einsum("bhji,bhjd->bhid", weights(q, k), v),
        "not weighed along the keys",
    ),
    "keys only summed": (lambda q, k, v, m: torch.einsum("bhij,bhid->bhid", weights(q, k), v), "not seen to weigh"),
    "dropout": (lambda q, k, v, m: F.dropout(weights(q, k), 0.5, training=True) @ v, "dropout is active"),
    "linear attention": (
        lambda q, k, v, m: q.softmax(-1) @ (k.softmax(-2).mT @ v),
        "no product of queries and keys was seen that its softmax is taken of, as in linear attention",
    ),
    "channel attention": (lambda q, k, v, m: (weights(q.mT, k.mT) @ v.mT).mT, "runs over channels, not over tokens"),
    "one softmax in two parts": (
        lambda q, k, v, m: (lambda w: w[..., :3] @ v[:, :, :3] + w[..., 3:] @ v[:, :, 3:])(weights(q, k)),
        "in several parts",
    ),
    "fused channel attention": (
        lambda q, k, v, m: fused(q.mT, k.mT, v.mT, m).mT,
        "runs over channels, not over tokens",
    ),
}


@pytest.mark.parametrize("count", [8, 9])  # 8 is the width of a head, too
@pytest.mark.parametrize("how", NO_ATTENTION)
def test_what_is_no_attention_over_tokens_is_refused_with_the_reason(how: str, count: int) -> None:
    attend, reason = NO_ATTENTION[how]
    for _ in range(2):
        cap = read(nn.Sequential(attends(attend)), {"input": tokens(count)["x"]})
        with pytest.raises(AttentionRefused, match=rf"'0(\[0\])?' \(Attends\) cannot be read: .*{reason}"):
            cap.attention(0)
        with pytest.raises(AttentionRefused):
            cap.rollout()


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


def test_talking_heads_are_what_weighs_the_values() -> None:
    cait = pytest.importorskip("timm.models.cait")
    torch.manual_seed(0)
    model = cait.Cait(32, 8, embed_dim=32, depth=1, num_heads=4, depth_token_only=1).eval()
    made: list[Tensor] = []
    model.blocks[0].attn.attn_drop.register_forward_hook(lambda module, args, output: made.append(output))
    cap = read(model, {"x": image()})
    assert torch.equal(cap.attention("blocks.0.attn", slice(None)), made[0])


def forgotten(x: Tensor) -> Tensor:
    """The tensor, come by a way that torch does not see."""
    return torch.from_numpy(x.detach().numpy().copy())


LOST: dict[str, Callable[..., Tensor]] = {
    "fused": lambda q, k, v, m: F.scaled_dot_product_attention(
        *(forgotten(x).flatten(0, 1) for x in (q, k, v))
    ).unflatten(0, (-1, 4)),
    "a softmax": lambda q, k, v, m: (
        (forgotten(q).flatten(0, 1) @ forgotten(k).flatten(0, 1).mT).softmax(-1) @ forgotten(v).flatten(0, 1)
    ).unflatten(0, (-1, 4)),
}


@pytest.mark.parametrize("how", LOST)
def test_where_heads_and_images_share_a_dimension_that_was_not_followed_nothing_is_guessed(how: str) -> None:
    model = attends(LOST[how])
    for _ in range(2):
        with pytest.raises(AttentionRefused, match=r"which dimensions of a tensor of shape .* could not be followed"):
            read(model, tokens()).attention(0)


@pytest.mark.parametrize("attend", [fused, lambda q, k, v, m: weights(q, k) @ v])
def test_of_four_dimensions_that_were_not_followed_the_usual_ones_are_taken(attend: Callable[..., Tensor]) -> None:
    lost = attends(lambda q, k, v, m: attend(forgotten(q), forgotten(k), forgotten(v), m))
    for _ in range(2):
        assert difference(maps(read(lost, tokens())), maps(read(attends(fused), tokens()))) < 1e-5


@pytest.mark.parametrize("attend", [fused, lambda q, k, v, m: weights(q, k) @ v])
def test_what_was_not_followed_is_followed_in_the_next_forward(attend: Callable[..., Tensor]) -> None:
    model = attends(attend)
    read(model, tokens())
    model.heads = 2  # as another forward of inputs of the same shapes
    with pytest.raises(AttentionRefused, match="its shapes are new in a forward that began as an earlier one: run"):
        read(model, tokens()).attention(0)
    assert read(model, tokens()).layers[0].heads == 2
    assert read(model, tokens(5)).layers[0].heads == 2


def test_queries_and_keys_that_do_not_pair_are_refused() -> None:
    def shared(q: Tensor, k: Tensor, v: Tensor, module: nn.Module) -> Tensor:
        return F.scaled_dot_product_attention(q, k[:1], v[:1])  # one image's keys for both

    with pytest.raises(AttentionRefused, match=r"its queries and keys, of shapes .*, do not pair"):
        read(attends(shared), tokens()).attention(0)


WAYS: dict[str, Callable[..., Tensor]] = {
    "one map": lambda q, k, v, m: ((q[0, 0] @ k[0, 0].T).softmax(-1) @ v[0, 0])[None, None].expand_as(v),
    "added": lambda q, k, v, m: (
        torch.baddbmm(torch.zeros(8, 9, 9), batch1=q.flatten(0, 1), batch2=k.flatten(0, 1).mT, beta=0).softmax(-1)
        @ v.flatten(0, 1)
    ).unflatten(0, (-1, 4)),
    "letters as numbers": lambda q, k, v, m: torch.einsum(weights(q, k), [0, 1, 2, 3], v, [0, 1, 3, 4], [0, 1, 2, 4]),
    "three operands": lambda q, k, v, m: torch.einsum("bhij,bhjd,hg->bgid", weights(q, k), v, m.mix),
    "input by name": lambda q, k, v, m: torch.softmax(input=q @ k.mT, dim=-1) @ v,
}


@pytest.mark.parametrize("how", WAYS)
def test_softmaxes_of_all_ways_are_read_or_refused_by_name(how: str) -> None:
    cap = read(attends(WAYS[how]), tokens())
    site = cap.layers[0]
    if site.refused is None:
        rows = cap.attention(0, slice(None))
        assert torch.allclose(rows.sum(-1), torch.ones(rows.shape[:-1]), atol=1e-5)
    else:
        assert how in ("letters as numbers", "three operands")
        with pytest.raises(AttentionRefused, match=r"'' \(Attends\)"):
            cap.attention(0)
