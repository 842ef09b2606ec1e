"""Laws of operands: multiplied anywhere, they make the attention again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vislab.core.geometry import Grid
from vislab.engine.hooks import capture
from vislab.engine.site import AttentionRefused
from vislab.lab import heads

GRID = Grid(3, 5, (8, 16), prefix=1)


class Attention(nn.Module):
    """Fused attention over given queries and keys."""

    def __init__(self, q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None = None) -> None:
        super().__init__()
        self.q, self.k, self.mask = q, k, mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(self.q, self.k, x, self.mask)


class Encoder(nn.Module):
    def __init__(self, *layers: Attention) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def run(*layers: Attention, scale: float = 1.0):
    encoder = Encoder(*layers)
    with capture(encoder, attention_scale=scale) as cap, torch.no_grad():
        encoder(torch.randn(1, layers[0].q.shape[1], GRID.tokens, 6))
    return cap


def qk() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, 4, GRID.tokens, 6) * 3, torch.randn(1, 4, GRID.tokens, 6) * 3 + 5


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_operands_make_the_attention_again(scale: float) -> None:
    cap = run(Attention(*qk()), scale=scale)
    q, k, added = heads.operands(cap, cap.site(0))
    assert added is None
    logits = q @ k.transpose(0, 2, 1)
    made = np.exp(logits - heads.log_sums(q, k)[..., None])
    assert np.allclose(made, cap.attention(0, slice(None))[0], atol=1e-6)
    assert np.abs(k.mean(1)).max() < 1e-5  # centred: half precision keeps more of it


def test_what_is_added_to_keys_for_all_queries_alike_goes_with_them() -> None:
    """As the sizes of merged tokens are."""
    cap = run(Attention(*qk(), torch.rand(GRID.tokens).expand(1, 1, 1, -1) * 4))
    q, k, added = heads.operands(cap, cap.site(0))
    made = np.exp(q @ k.transpose(0, 2, 1) + added - heads.log_sums(q, k, added)[..., None])
    assert np.allclose(made, cap.attention(0, slice(None))[0], atol=1e-6)


def test_bias_is_refused_in_words() -> None:
    cap = run(Attention(*qk(), torch.randn(GRID.tokens, GRID.tokens)))
    with pytest.raises(AttentionRefused, match=r"layers\.0 adds a bias or a mask"):
        heads.operands(cap, cap.site(0))


def test_channels_by_strength_make_the_same_products() -> None:
    q, k = (x[0].numpy() for x in qk())
    own_q, own_k = heads.by_strength(q, k)
    assert np.allclose(own_q @ own_k.transpose(0, 2, 1), q @ k.transpose(0, 2, 1), atol=1e-3)
    strength = np.linalg.norm(own_q, axis=1) * np.linalg.norm(own_k, axis=1)
    assert (np.diff(strength) <= 1e-3).all()
