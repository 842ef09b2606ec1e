"""Laws of generations: all forwards as one over all tokens, and what changes the keys on the way is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vislab
from vislab.engine.eye import Eye
from vislab.engine.site import AttentionRefused

HEADS, KEYS, DIM = 4, 2, 8


class Layer(nn.Module):
    """Grouped attention with a cache, as language models have it. how: it lays out its heads, and treats its cache."""

    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.how, self.num_key_value_groups = how, HEADS // KEYS
        self.q_proj = nn.Linear(32, HEADS * DIM)
        self.k_proj, self.v_proj = nn.Linear(32, KEYS * DIM), nn.Linear(32, KEYS * DIM)
        self.kept: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (-1, DIM)).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj))
        first = self.kept is None
        if self.kept is not None and self.how != "cross":
            k, v = (torch.cat(pair, 2) for pair in zip(self.kept, (k, v), strict=True))
        elif self.kept is not None:
            k, v = self.kept
        if self.how == "cross" and first:
            k, v = k[:, :, :5], v[:, :, :5]
        if self.how == "quantised" and not first:
            k = k.half().float() + 1e-3
        if self.how == "window":
            k, v = k[:, :, -6:], v[:, :, -6:]
        self.kept = k, v
        group = self.num_key_value_groups
        if self.how == "packed" and q.shape[2] == 1:
            return F.scaled_dot_product_attention(q.reshape(1, KEYS, group, DIM), k, v).reshape(1, HEADS, 1, DIM).sum(1)
        mask = None
        if self.how == "masked" and q.shape[2] == 1:  # of each head another
            hidden = torch.arange(k.shape[2]) > torch.arange(1, HEADS + 1)[:, None]
            mask = hidden[None].float().mul(-1e9).reshape(1, KEYS, group, -1)
            return F.scaled_dot_product_attention(q.reshape(1, KEYS, group, DIM), k, v, mask).reshape(1, HEADS, 1, DIM)
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        causal = q.shape[2] == k.shape[2]
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal).sum(1)


def generated(how: str, *, prompt: int = 6, steps: int = 4, **more: Any) -> tuple[Layer, vislab.Capture]:
    torch.manual_seed(0)
    layer = Layer(how)
    x = torch.randn(1, prompt + steps, 32)
    with torch.no_grad(), vislab.capture(layer, steps=True, **more) as cap:
        layer(x[:, :prompt])
        for step in range(steps):
            layer(x[:, prompt + step : prompt + step + 1])
    return layer, cap


@pytest.mark.parametrize("how", ["", "packed"])
def test_all_steps_are_one_forward_over_all_tokens(how: str) -> None:
    _, cap = generated(how)
    torch.manual_seed(0)
    whole = Layer()
    x = torch.randn(1, 10, 32)
    with torch.no_grad(), vislab.capture(whole) as once:
        whole(x)
    [site], [other] = cap.layers, once.layers
    assert site.refused is None
    assert (site.heads, site.queries, site.keys) == (HEADS, 10, 10)
    assert site.k.shape == (1, KEYS, 10, DIM)  # grouped keys are kept once
    torch.testing.assert_close(cap.attention(site, slice(None)), once.attention(other, slice(None)))
    torch.testing.assert_close(cap.attention(site, [8, 2]), once.attention(other, [8, 2]))
    torch.testing.assert_close(cap.rollout(9), once.rollout(9))
    assert site.scale == pytest.approx(DIM**-0.5)


def test_packed_heads_keep_masks_of_their_own() -> None:
    _, cap = generated("masked")
    row = cap.attention(cap.layers[0], 8)[0]
    assert [int((one > 1e-6).sum()) for one in row] == [2, 3, 4, 5]


def test_a_window_that_lets_go_of_keys_leaves_zeros() -> None:
    _, cap = generated("window")
    rows = cap.attention(cap.layers[0], slice(None))[0]
    torch.testing.assert_close(rows.sum(-1), torch.ones(HEADS, 10))
    assert (rows[:, 9, :4] == 0).all()
    assert (rows[:, 9, 4:] > 0).all()


def test_keys_of_something_else_stay_the_same() -> None:
    _, cap = generated("cross")
    [site] = cap.sites.values()
    assert (site.queries, site.keys, site.self_attention) == (10, 5, False)
    torch.testing.assert_close(cap.attention(site, slice(None)).sum(-1), torch.ones(1, HEADS, 10))


def test_keys_that_changed_are_refused() -> None:
    _, cap = generated("quantised")
    with pytest.raises(AttentionRefused, match=r"other keys than the forwards before it left.*dynamic cache"):
        cap.attention(0, 0)


def test_keys_that_are_fewer_than_they_can_be_are_refused() -> None:
    layer = Layer()
    x = torch.randn(1, 6, 32)
    with torch.no_grad(), vislab.capture(layer, steps=True) as cap:
        layer(x)
        layer.kept = tuple(torch.cat([one, one], 2) for one in layer.kept or ())  # type: ignore[assignment]
        layer(x[:, :1])
    with pytest.raises(AttentionRefused, match="other keys"):
        cap.attention(0, 0)


def test_joining_steps_goes_past_the_eye(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many steps there were, one more is as many functions to look at."""
    seen, see = [0], Eye.__torch_function__

    def count(eye: Eye, *args: Any) -> Any:
        seen[-1] += 1
        return see(eye, *args)

    monkeypatch.setattr(Eye, "__torch_function__", count)
    monkeypatch.setattr(Layer, "__call__", lambda layer, x: (seen.append(0), nn.Module.__call__(layer, x))[1])
    generated("", steps=12)
    assert seen[1] >= 5
    assert len({*seen[3:-1]}) == 1


def test_the_last_generation_counts() -> None:
    layer, _ = generated("")
    with torch.no_grad(), vislab.capture(layer, steps=True) as cap:
        for length in (4, 7):
            layer.kept = None
            layer(torch.randn(1, length, 32))
            layer(torch.randn(1, 1, 32))
    assert cap.layers[0].queries == 8


def test_explicit_attention_is_joined_too() -> None:
    class Explicit(Layer):
        def forward(self, x: Tensor) -> Tensor:
            q, k, v = (part(x) for part in (self.q_proj, self.q_proj, self.q_proj))
            if self.kept is not None:
                k, v = (torch.cat(pair, 1) for pair in zip(self.kept, (k, v), strict=True))
            self.kept = k, v
            out: Tensor = (q @ k.mT).softmax(-1) @ v
            return out

    layer = Explicit()
    with torch.no_grad(), vislab.capture(layer, steps=True) as cap:
        layer(torch.randn(1, 6, 32))
        layer(torch.randn(1, 1, 32))
    rows = cap.attention(0, slice(None))[0, 0]
    assert rows.shape == (7, 7)
    torch.testing.assert_close(rows.sum(-1), torch.ones(7))
    with pytest.raises(AttentionRefused, match="without a fused call"):
        _ = cap.layers[0].q


def test_what_is_not_followed_through_a_generation_is_refused() -> None:
    attention = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    x = torch.randn(1, 5, 32)
    with torch.no_grad(), vislab.capture(attention, steps=True) as cap:
        attention(x, x, x)
        attention(x, x, x)
    assert cap.layers[0].queries == 5  # a new generation
    with torch.no_grad(), vislab.capture(attention, steps=True) as cap:
        attention(x, x, x)
        attention(x[:, :1], x, x)
    with pytest.raises(AttentionRefused, match="generations are not followed through"):
        cap.attention(0, 0)


def test_steps_have_no_gradients() -> None:
    with (
        pytest.raises(ValueError, match="capture one forward of all its tokens"),
        vislab.capture(Layer(), steps=True, gradients=True),
    ):
        pass
    layer = Layer("packed")
    with vislab.capture(layer, gradients=True) as cap:
        layer(torch.randn(1, 1, 32))
    with pytest.raises(AttentionRefused, match="packed as queries of one token"):
        cap.attention(0, 0)


def test_another_batch_is_no_step() -> None:
    layer = Layer()
    x = torch.randn(1, 6, 32)
    with torch.no_grad(), vislab.capture(layer, steps=True) as cap:
        layer(x)
        layer.kept = tuple(one.expand(2, -1, -1, -1) for one in layer.kept or ())  # type: ignore[assignment]
        layer(x[:, :1].expand(2, -1, -1))
    with pytest.raises(AttentionRefused, match="other keys"):
        cap.attention(0, 0)


@pytest.mark.parametrize("late", [False, True])
def test_what_was_refused_in_one_forward_is_refused(late: bool) -> None:
    class Dropping(Layer):
        def forward(self, x: Tensor) -> Tensor:
            q = self.q_proj(x).unflatten(-1, (-1, DIM)).transpose(1, 2)
            k = q if self.kept is None else torch.cat([self.kept[0], q], 2)
            drop = 0.5 * (late == (self.kept is not None))
            self.kept = k, k
            return F.scaled_dot_product_attention(q, k, k, dropout_p=drop, is_causal=q.shape[2] == k.shape[2])

    layer = Dropping()
    with torch.no_grad(), vislab.capture(layer, steps=True) as cap:
        layer(torch.randn(1, 6, 32))
        layer(torch.randn(1, 1, 32))
    with pytest.raises(AttentionRefused, match="dropout is active"):
        cap.attention(0, 0)


def test_a_cache_that_is_written_in_place_is_refused() -> None:
    class Static(Layer):
        def forward(self, x: Tensor) -> Tensor:
            q = self.q_proj(x).unflatten(-1, (-1, DIM)).transpose(1, 2)
            first = 0 if self.kept is None else 6
            self.kept = self.kept or (torch.zeros(1, HEADS, 16, DIM), torch.zeros(()))
            k = self.kept[0]
            k[:, :, first : first + q.shape[2]] = q
            seen = torch.arange(16) <= torch.arange(first, first + q.shape[2])[:, None]
            return F.scaled_dot_product_attention(q, k, k, seen)

    layer = Static()
    with torch.no_grad(), vislab.capture(layer, steps=True) as cap:
        layer(torch.randn(1, 6, 32))
        layer(torch.randn(1, 1, 32))
    with pytest.raises(AttentionRefused, match="static or quantised cache"):
        cap.attention(next(iter(cap.sites)), 0)
