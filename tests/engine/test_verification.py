"""Laws of verification: a call that does not give the module's own output is refused, rounding is not."""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import pytest
import torch
from families import FAMILIES, Inputs, image
from laws import attends, fused, maps, read, tokens
from torch import Tensor, nn

from vislab.engine import attention, verification
from vislab.engine.site import AttentionRefused


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
