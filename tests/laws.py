"""The engine's first law, and what its tests are made of: tiny models, and readings of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import transformers as hf
from families import BATCH, Family, Inputs, image
from tiny import VIT, roughened
from torch import Tensor, nn

import vislab
from vislab.engine.capture import Capture


def recomputed_attention_is_the_models_own(family: Family) -> None:
    """The law of a family: rows sum to 1, and are within 1e-5 of the model's own eager attention, batch above 1."""
    cap = read(family.model(), family.inputs())
    own = family.attention(family.model(unfused=True), family.inputs())
    assert difference(maps(cap), own) < 1e-5
    for site, rows in zip(cap.sites.values(), maps(cap), strict=True):
        assert (site.batch, site.keys) == (BATCH, family.tokens)
        assert rows.shape == (site.batch, site.heads, site.queries, site.keys)
        assert torch.allclose(rows.sum(-1), torch.ones(rows.shape[:-1]), atol=1e-5)
        # The law says nothing where attention is uniform anyway.
        assert (rows.amax(-1) * (rows > 0).sum(-1)).median() > 1.5


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
