"""Laws of all words' maps at once: each is the one that `explain` makes of that word alone."""

from __future__ import annotations

import numpy as np
import pytest
from readers import ask

import vislab
from vislab.language.atlas import FUSED, atlas

LONG = "a church lies left of churches ."  # the last noun is of several pieces


@pytest.mark.parametrize("family", ["LLaVA-1.5", "LLaVA-NeXT", "Idefics3"])
@pytest.mark.parametrize("layer", [0, -1, "mean"])
def test_each_map_is_that_of_explain(family: str, layer: int | str) -> None:
    answer = ask(family, LONG)
    every = atlas(answer, layer)
    heads = answer.sites[0].heads
    assert every.maps.shape == (len(answer.words), heads + 3, answer.places.grid.rows, answer.places.grid.cols)
    for word in range(len(answer.words)):
        for slot, head in enumerate([*range(heads), *FUSED]):
            heat = vislab.explain(answer, target=word, method="attention", layer=layer, head=head)
            np.testing.assert_allclose(every.maps[word, slot], heat.values, atol=1e-6)
    assert np.array_equal(every.fused(1, "max"), every.maps[1, heads + 1])


@pytest.mark.parametrize("layer", [0, 1, "mean"])
def test_shares_are_those_of_the_answer(layer: int | str) -> None:
    answer = ask("LLaVA-1.5", LONG)
    shares = atlas(answer, layer).shares
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)
    own = answer.shares.mean(1) if layer == "mean" else answer.shares[:, layer]
    np.testing.assert_allclose(shares, own, atol=1e-6)
    assert atlas(answer, layer).heads == answer.sites[0].heads


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises((IndexError, ValueError), match="2"):
        atlas(ask(), 2)
