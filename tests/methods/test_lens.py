"""Laws of the lens: it is the norm and the classifier on the model's own hidden states, and leaves nothing behind."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

import vislab

PHOTO = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_a_lens_is_the_head_on_hidden_states() -> None:
    model = vislab.load(tiny.make("ViT classifier"))
    pixels, _ = model.preprocessing(PHOTO)
    with torch.no_grad():
        hidden = model.module(pixels, output_hidden_states=True).hidden_states
        [first, second] = [model.module.classifier(model.module.vit.layernorm(x)[0]).softmax(1) for x in hidden[1:3]]
    before = tiny.fingerprint(model.module)  # after transformers hooked in what reports hidden states
    seen = vislab.lens(PHOTO, model=model)
    assert seen.scores == pytest.approx(torch.stack([first[0], second[0]]).numpy(), abs=1e-5)
    for layer, said in enumerate((first, second)):
        assert np.array_equal(seen.patches[layer], said[1:].argmax(1).reshape(4, 4).numpy())
        assert seen.shares[layer] == pytest.approx(said[1:].amax(1).reshape(4, 4).numpy(), abs=1e-5)
        heat = vislab.explain(PHOTO, model=model, method="lens", layer=layer, target=3)
        assert heat.values == pytest.approx(said[1:, 3].reshape(4, 4).numpy(), abs=1e-5)
    assert dict(model.predict(PHOTO)) == pytest.approx(dict(zip(seen.labels, seen.scores[-1], strict=True)), abs=1e-5)
    lines = str(seen).splitlines()
    assert lines[1].startswith(f"layer  1: {seen.labels[int(second[0].argmax())]} ")
    assert "of 16 patches " in lines[1]
    assert tiny.fingerprint(model.module) == before


def test_a_lens_is_held_before_the_tokens_that_are_left() -> None:
    model = vislab.load(tiny.make("ViT classifier"))
    seen = vislab.lens(PHOTO, model=model, keep=0.25)
    assert [(patches >= 0).sum() for patches in seen.patches] == [16, 4]
    assert "of 4 patches" in str(seen)
    heat = vislab.explain(PHOTO, model=model, method="lens", keep=0.25, target=0)
    assert heat.dropped.sum() == 12


def test_what_has_no_head_has_no_lens() -> None:
    with pytest.raises(ValueError, match="has no classifier"):
        vislab.lens(PHOTO, model=tiny.make("ViT"))
    with pytest.raises(ValueError, match="lens reads the classifier: target is a class"):
        vislab.explain(
            PHOTO, model=tiny.make("ViT classifier"), method="lens", target=lambda output: output.logits.sum()
        )
