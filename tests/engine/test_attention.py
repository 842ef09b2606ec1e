"""Laws of one call of attention: rows are what a dense computation in float64 gives, and so are products with a row."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vislab.engine import attention as engine_attention
from vislab.engine import walks
from vislab.engine.attention import FusedCall, ProjectedCall, WeightsCall
from vislab.engine.walks import carried

BATCH, HEADS, TOKENS, DIM = 2, 4, 23, 8
SCALE = DIM**-0.5
PADDING = torch.arange(TOKENS) < torch.tensor([[TOKENS], [TOKENS - 6]])  # True takes part


def made(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return 3 * torch.randn(*shape, dtype=dtype)


def operands(*, queries: int = TOKENS, key_heads: int = HEADS, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    return {
        "q": made(BATCH, HEADS, queries, DIM, dtype=dtype),
        "k": made(BATCH, key_heads, TOKENS, DIM, dtype=dtype),
        "scale": SCALE,
    }


def dense(call: FusedCall) -> Tensor:
    """softmax(scale·q·kᵀ + mask) in float64, entry by entry in no block."""
    q, k = call.q.double(), call.k.double()
    k = torch.cat([k[:, h : h + 1] for h in range(k.shape[1]) for _ in range(q.shape[1] // k.shape[1])], 1)
    logits = torch.einsum("bhid,bhjd->bhij", q, k) * call.scale
    if call.mask is not None:
        bias = call.mask.double() if call.mask.dtype != torch.bool else torch.where(call.mask, 0.0, -math.inf).double()
        logits = logits + bias
    if call.causal:
        later = torch.arange(k.shape[2]) > torch.arange(q.shape[2])[:, None]
        logits = torch.where(later, -math.inf, logits)
    return logits.softmax(-1)


def dense_row(row: Tensor, attention: Tensor, head: str, discard: float, prefix: int) -> Tensor:
    """row · A by the definition: heads fused, each row cut, then divided by its sum."""
    fused = {"mean": attention.mean(1), "max": attention.max(1).values, "min": attention.min(1).values}[head].clone()
    if discard:
        for line in fused.flatten(0, 1):
            lowest = sorted(range(prefix, len(line)), key=lambda j: float(line[j]))[
                : int(discard * (len(line) - prefix))
            ]
            line[lowest] = 0
    return torch.einsum("bi,bij->bj", row.double(), fused / fused.sum(-1, keepdim=True))


MASKS = {
    "none": None,
    "padding": PADDING[:, None, None],
    "additive by head": made(1, HEADS, TOKENS, TOKENS),
    "additive of all": made(BATCH, HEADS, TOKENS, TOKENS),
    "two dimensions": torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril(),
    "broadcast": torch.where(PADDING, 0.0, -1e4)[:, None, None].expand(BATCH, 1, TOKENS, TOKENS),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("key_heads", [HEADS, 2, 1])
def test_rows_are_those_of_a_dense_softmax(mask: str, key_heads: int) -> None:
    call = FusedCall(**operands(key_heads=key_heads), mask=engine_attention.kept_mask(MASKS[mask]))
    expected = dense(call)
    assert torch.allclose(call.attention(slice(None)).double(), expected, atol=1e-5, rtol=0)
    rows = torch.tensor([5, 0, TOKENS - 1])
    assert torch.allclose(call.attention(rows).double(), expected[:, :, rows], atol=1e-5, rtol=0)
    part = call.attention(rows, slice(1, 2))
    assert torch.allclose(part.double(), expected[1:2, :, rows], atol=1e-5, rtol=0)


@pytest.mark.parametrize("queries", [1, 7, TOKENS])
def test_a_causal_query_sees_no_later_key(queries: int) -> None:
    call = FusedCall(**operands(queries=queries), causal=True)
    rows = call.attention(slice(None))
    assert torch.equal(rows, rows.tril())
    assert torch.allclose(rows.double(), dense(call), atol=1e-5, rtol=0)
    values = made(BATCH, HEADS, TOKENS, DIM)
    fused = F.scaled_dot_product_attention(call.q, call.k, values, is_causal=True)
    assert torch.allclose(rows @ values, fused, atol=1e-4)


def test_a_query_that_may_attend_to_nothing_attends_to_nothing() -> None:
    mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril(-1)
    call = FusedCall(**operands(), mask=engine_attention.kept_mask(mask))
    rows, values = call.attention(slice(None)), made(BATCH, HEADS, TOKENS, DIM)
    assert torch.equal(rows[:, :, 0], torch.zeros(BATCH, HEADS, TOKENS))
    fused = F.scaled_dot_product_attention(call.q, call.k, values, attn_mask=mask)
    assert torch.allclose(rows @ values, fused, atol=1e-4)
    row = carried(call, torch.full((BATCH, TOKENS), 1 / TOKENS), "mean", 0.0, 0)
    assert torch.allclose(row.sum(1), torch.full((BATCH,), (TOKENS - 1) / TOKENS))


def test_a_mask_is_kept_as_it_was_and_without_what_is_only_broadcast() -> None:
    mask = made(BATCH, 1, 1, TOKENS)
    kept = engine_attention.kept_mask(mask.expand(BATCH, HEADS, TOKENS, TOKENS))
    assert kept is not None
    assert kept.shape == mask.shape
    before = mask.clone()
    mask.zero_()
    assert torch.equal(kept, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rows_of_half_precision_are_computed_in_float32(dtype: torch.dtype) -> None:
    call = FusedCall(**operands(dtype=dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad(), engine_attention.uncast(call.device):
        rows = call.attention(slice(None))
    assert rows.dtype == torch.float32
    assert torch.allclose(rows.double(), dense(call), atol=1e-5, rtol=0)


ATTEND: dict[str, dict[str, Any]] = {
    "plain": {},
    "hidden pairs": {"attn_mask": torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)},
    "additive pairs": {"attn_mask": made(TOKENS, TOKENS)},
    "additive by head": {"attn_mask": made(BATCH * HEADS, TOKENS, TOKENS)},
    "padding": {"key_padding_mask": ~PADDING},
    "additive padding": {"key_padding_mask": torch.where(PADDING, 0.0, -2.0)},
    "pairs and padding": {
        "attn_mask": torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1),
        "key_padding_mask": ~PADDING,
    },
}


@pytest.mark.parametrize("attend", ATTEND)
@pytest.mark.parametrize("bias", [True, False])
def test_a_projected_call_is_nn_multi_head_attention(attend: str, bias: bool) -> None:
    width = HEADS * DIM
    module = nn.MultiheadAttention(width, HEADS, bias=bias, batch_first=True)
    if bias:
        nn.init.normal_(module.in_proj_bias)
    x, y, more = made(BATCH, TOKENS, width), made(BATCH, TOKENS, width), ATTEND[attend]
    with torch.no_grad():
        expected = module(x, y, y, need_weights=True, average_attn_weights=False, **more)[1]
        weights = module.in_proj_weight.split(width)
        biases = module.in_proj_bias.split(width) if bias else (None, None, None)
        mask = engine_attention.multi_head_mask(more.get("attn_mask"), more.get("key_padding_mask"), HEADS, x.dtype)
        call = ProjectedCall(x, y, weights, biases, HEADS, mask, 1.0)
        assert call.shape == (BATCH, HEADS, TOKENS, TOKENS)
        assert torch.allclose(call.attention(slice(None)), expected, atol=1e-5)


@pytest.mark.parametrize("head", ["mean", "max", "min"])
@pytest.mark.parametrize("discard", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("kind", ["plain", "causal", "padding", "grouped", "weights"])
@pytest.mark.parametrize("block", [1, 5 * HEADS * TOKENS, 1 << 20], ids=["a row", "five rows", "all"])
def test_a_row_carried_in_blocks_is_the_dense_product(
    head: Any, discard: float, kind: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vislab.engine.walks._BLOCK", block)
    given = operands(key_heads=2 if kind == "grouped" else HEADS, dtype=torch.float64)
    mask = engine_attention.kept_mask(MASKS["padding"]) if kind == "padding" else None
    call: Any = FusedCall(**given, mask=mask, causal=kind == "causal")
    attention = dense(call)
    call = WeightsCall(attention) if kind == "weights" else call
    row = torch.rand(BATCH, TOKENS, dtype=torch.float64).softmax(1)
    row[0, 3:9] = 0
    expected = dense_row(row, attention, head, discard, prefix=2)
    assert torch.allclose(carried(call, row, head, discard, 2), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("norm", [0.0, 1e-3, 1.0, 60.0, 1e4])
@pytest.mark.parametrize("kind", ["random", "opposed", "aligned", "one outlying key", "shifted keys"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_size_of_the_logits_spoils_a_product(norm: float, kind: str, dtype: torch.dtype) -> None:
    direction = F.normalize(torch.randn(DIM, dtype=dtype), dim=0)
    q = F.normalize(torch.randn(BATCH, HEADS, TOKENS, DIM, dtype=dtype), dim=-1)
    k = F.normalize(torch.randn(BATCH, HEADS, TOKENS, DIM, dtype=dtype), dim=-1)
    if kind in ("opposed", "aligned"):
        q, k = direction + 0.01 * q, (direction + 0.01 * k) * (1 if kind == "aligned" else -1)
    elif kind == "one outlying key":
        k[:, :, 7] *= 20
    elif kind == "shifted keys":
        k = k + 5 * direction
    call = FusedCall(q * norm, k * norm, SCALE)
    row = torch.zeros(BATCH, TOKENS, dtype=dtype)
    row[:, 1:] = 1 / (TOKENS - 1)
    # Rounding of the logits themselves is no fault of the product: it grows with their size.
    logits = float((call.q.norm(dim=-1).max() * call.k.norm(dim=-1).max()) * SCALE)
    bound = max(1e-6 if dtype == torch.float32 else 1e-13, 4 * torch.finfo(dtype).eps * logits)
    result = carried(call, row, "mean", 0.0, 0)
    assert torch.isfinite(result).all()
    assert (result - dense_row(row, dense(call), "mean", 0.0, 0)).abs().max() <= bound


def test_a_change_in_place_is_counted() -> None:
    call = FusedCall(**operands(), mask=engine_attention.kept_mask(MASKS["padding"]))
    before = engine_attention.versions(call)
    assert engine_attention.versions(call) == before
    call.k[0] += 1
    assert engine_attention.versions(call) != before
    weights = torch.randn(4, 4), torch.randn(4, 4), torch.randn(4, 4)
    projected = ProjectedCall(made(1, 3, 4), made(1, 3, 4), weights, (None, None, None), 2, None, 1.0)
    before = engine_attention.versions(projected)
    weights[1].zero_()
    assert engine_attention.versions(projected) != before
    with torch.inference_mode():
        assert engine_attention.versions(FusedCall(**operands())) == ()


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("block", [1, 5 * HEADS * TOKENS, 1 << 20], ids=["a row", "five rows", "all"])
def test_a_row_carried_through_positive_gradients_is_the_dense_product(
    normalised: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vislab.engine.walks._BLOCK", block)
    call = FusedCall(**operands(key_heads=2), v=made(BATCH, 2, TOKENS, DIM))
    given = made(BATCH, HEADS, TOKENS, DIM)
    given[:, :, 4] = 0  # a query that the score does not read
    values = torch.stack([call.v[:, h // 2] for h in range(HEADS)], 1)
    gradient = torch.einsum("bhid,bhjd->bhij", given, values)
    assert torch.allclose(call.gradient(given, slice(None)), gradient, atol=1e-4)
    assert walks.queries_read(given).tolist() == [[token != 4 for token in range(TOKENS)]] * BATCH
    weights = (dense(call) * gradient.double()).clamp_min(0).mean(1)
    if normalised:
        weights = weights / weights.sum(-1, keepdim=True)
        weights[:, 4] = torch.eye(TOKENS)[4]  # keeps what it carries
    row = made(BATCH, TOKENS).double()
    found = walks.carried_positive(call, given, row, normalised=normalised)
    assert torch.allclose(found, torch.einsum("bi,bij->bj", row, weights), atol=1e-4)
