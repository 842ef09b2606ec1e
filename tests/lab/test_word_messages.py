"""Laws of what the browser is told of words: maps that are Python's to a step, and answers in their own words."""

from __future__ import annotations

import json

import numpy as np
import pytest
from readers import ask

import vislab
from vislab.lab import word_messages
from vislab.language.atlas import FUSED, atlas

LONG = "a church lies left of churches ."


def told(buffers: list[bytes], shape: tuple[int, ...], size: int) -> np.ndarray:
    whole = np.frombuffer(buffers[0], {1: "u1", 2: "<u2"}[size]).reshape(shape)
    steps = np.frombuffer(buffers[1], "<f4").reshape(shape[:2])
    return whole * steps[..., None, None]


@pytest.mark.parametrize(("kind", "close"), [(word_messages.LIVE, 1e-5), (word_messages.SMALL, 2.5e-3)])
@pytest.mark.parametrize("layer", [0, "mean"])
def test_maps_are_told_to_a_step(layer: int | str, kind: np.dtype, close: float) -> None:
    answer = ask("LLaVA-NeXT", LONG)
    every = atlas(answer, layer)
    content, buffers = word_messages.of_layer("answer 1", answer, layer, every, kind)
    assert json.loads(json.dumps(content))["slots"] == [0, 1, 2, 3, *FUSED]
    again = told(buffers, every.maps.shape, content["bytes"])
    highest = every.maps.max((-2, -1), keepdims=True)
    assert (np.abs(again - every.maps) <= close * highest).all()
    shares = np.frombuffer(buffers[2], "<f4").reshape(every.shares.shape)
    assert np.array_equal(shares, every.shares)
    assert len(buffers[0]) == kind.itemsize * every.maps.size


def test_a_word_through_all_layers_is_told_with_its_shares() -> None:
    answer = ask("LLaVA-1.5", LONG)
    heat = vislab.explain(answer, target=1, method="rollout", head="max")
    content, buffers = word_messages.of_word("answer 1", 1, heat, 1, "max")
    assert (content["words"], content["slots"], content["layer"], content["head"]) == ([1], ["max"], 1, "max")
    again = told(buffers, (1, 1, *heat.values.shape), 2)[0, 0]
    np.testing.assert_allclose(again, heat.values, atol=1e-5 * float(heat.values.max()))
    assert np.frombuffer(buffers[2], "<f4").sum() == pytest.approx(1, abs=1e-5)


def test_a_map_of_nothing_is_told_as_nothing() -> None:
    answer = ask("LLaVA-1.5", LONG)
    every = atlas(answer, 0)
    every.maps[:] = 0
    _, buffers = word_messages.of_layer("answer 1", answer, 0, every)
    assert not np.frombuffer(buffers[0], "<u2").any()
    assert not np.frombuffer(buffers[1], "<f4").any()


def test_an_answer_says_where_its_image_tokens_are() -> None:
    answer = ask("LLaVA-NeXT", LONG)
    content, _ = word_messages.spoken("answer 7", answer, "digest")
    assert json.loads(json.dumps(content))["words"] == [word.text for word in answer.words]
    assert len(content["views"]) == len(answer.places.views)
    cells = sum(view["grid"][0] * view["grid"][1] for view in content["views"])
    unseen = sum(int((view.tokens < 0).sum()) for view in answer.places.views)
    assert cells - unseen + content["tokens"]["ends"] == content["tokens"]["image"] == answer.places.count
    assert content["tokens"]["all"] == len(answer.ids)
