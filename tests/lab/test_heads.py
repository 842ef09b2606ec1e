"""Laws of what heads do: operands make the attention again, entropy and distance are what they are called."""

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
    q, k = heads.operands(cap, cap.site(0))
    logits = q @ k.transpose(0, 2, 1)
    made = np.exp(logits - heads.log_sums(q, k)[..., None])
    assert np.allclose(made, cap.attention(0, slice(None))[0], atol=1e-6)
    assert np.abs(k.mean(1)).max() < 1e-5  # centred: half precision keeps more of it


def test_bias_is_refused_in_words() -> None:
    cap = run(Attention(*qk(), torch.randn(GRID.tokens, GRID.tokens)))
    with pytest.raises(AttentionRefused, match=r"layers\.0 adds a bias or a mask"):
        heads.operands(cap, cap.site(0))


def test_uniform_attention_has_the_entropy_of_all_tokens_and_reaches_as_far_as_patches_lie() -> None:
    zero = torch.zeros(1, 4, GRID.tokens, 6)
    seen = heads.survey(run(Attention(zero, zero)), GRID)
    assert np.allclose(seen.entropy, np.log2(GRID.tokens), atol=1e-5)
    y, x = np.mgrid[0:3, 0:5].reshape(2, -1) * np.array([[8], [16]])
    apart = np.hypot(y[:, None] - y, x[:, None] - x)
    assert np.allclose(seen.distance, apart.mean(), atol=1e-3)
    assert np.allclose(seen.maps, 1 / GRID.tokens, atol=1e-6)
    assert seen.maps.shape == (1, 4, GRID.patches)


def test_attention_to_oneself_has_no_entropy_and_no_distance() -> None:
    own = torch.eye(GRID.tokens).expand(1, 4, -1, -1) * 30
    seen = heads.survey(run(Attention(own, own)), GRID, token=2)
    assert np.allclose(seen.entropy, 0, atol=1e-3)
    assert np.allclose(seen.distance, 0, atol=1e-3)
    assert seen.maps[0, 0].argmax() == 1


def test_layers_are_chosen_and_counted() -> None:
    cap = run(Attention(*qk()), Attention(*qk()))
    both, last = heads.survey(cap, GRID), heads.survey(cap, GRID, layers=[-1])
    assert both.entropy.shape == (2, 4)
    assert np.array_equal(both.entropy[1:], last.entropy)
    assert both.queries == GRID.patches


def test_without_a_token_maps_are_means_over_the_patches() -> None:
    cap = run(Attention(*qk()))
    rows = cap.attention(0, range(1, GRID.tokens))[0, :, :, GRID.patch_tokens]
    assert np.allclose(heads.survey(cap, GRID, token=None).maps[0], rows.mean(1), atol=1e-6)


def test_channels_by_strength_make_the_same_products() -> None:
    q, k = (x[0].numpy() for x in qk())
    own_q, own_k = heads.by_strength(q, k)
    assert np.allclose(own_q @ own_k.transpose(0, 2, 1), q @ k.transpose(0, 2, 1), atol=1e-3)
    strength = np.linalg.norm(own_q, axis=1) * np.linalg.norm(own_k, axis=1)
    assert (np.diff(strength) <= 1e-3).all()
