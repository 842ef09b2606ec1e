"""Laws of what heads do: entropy and distance are what they are called."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lab.test_heads import GRID, Attention, qk
from lab.test_heads import run as captured

import vislab
from vislab.core.geometry import Frame
from vislab.methods.heads import survey
from vislab.models.run import Run


def run(*layers: Attention) -> Run:
    return Run(captured(*layers), GRID, Frame.stretch((24, 80), (24, 80)), None)


def test_uniform_attention_has_the_entropy_of_all_tokens_and_reaches_as_far_as_patches_lie() -> None:
    zero = torch.zeros(1, 4, GRID.tokens, 6)
    seen = survey(run(Attention(zero, zero)))
    assert np.allclose(seen.entropy, np.log2(GRID.tokens), atol=1e-5)
    y, x = np.mgrid[0:3, 0:5].reshape(2, -1) * np.array([[8], [16]])
    apart = np.hypot(y[:, None] - y, x[:, None] - x)
    assert np.allclose(seen.distance, apart.mean(), atol=1e-3)
    assert np.allclose(seen.even, apart.mean(), atol=1e-3)
    assert np.allclose(seen.maps, 1 / GRID.tokens, atol=1e-6)
    assert seen.maps.shape == (1, 4, GRID.patches)


def test_attention_to_oneself_has_no_entropy_and_no_distance() -> None:
    own = torch.eye(GRID.tokens).expand(1, 4, -1, -1) * 30
    seen = survey(run(Attention(own, own)), token=2)
    assert np.allclose(seen.entropy, 0, atol=1e-3)
    assert np.allclose(seen.distance, 0, atol=1e-3)
    assert (seen.even > 8).all()
    assert seen.maps[0, 0].argmax() == 1


def test_layers_are_chosen_and_counted() -> None:
    one = run(Attention(*qk()), Attention(*qk()))
    both, last = survey(one), survey(one, layers=[-1])
    assert both.entropy.shape == (2, 4)
    assert np.array_equal(both.entropy[1:], last.entropy)
    assert both.queries == GRID.patches


def test_without_a_token_maps_are_means_over_the_patches() -> None:
    one = run(Attention(*qk()))
    rows = one.capture.attention(0, range(1, GRID.tokens))[0, :, :, GRID.patch_tokens]
    assert np.allclose(survey(one, token=None).maps[0], rows.mean(1), atol=1e-6)


def test_what_is_no_run_and_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(TypeError, match=r"surveyed in a run, not in ndarray: model\.run\(image\) makes one"):
        survey(np.zeros((2, 2)))  # type: ignore[arg-type]
    model = vislab.load("embedded")
    with pytest.raises(ValueError, match="no layer 12: layers run from 0 to 11"):
        survey(model.run(vislab.load_image(vislab.samples()["church"])), layers=[12])
