"""Laws of where words look: attention, rollout and relevance as dense formulas of the model's own eager attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from readers import PICTURE, QUESTION, SAID, Family, ask, onevision, pair
from torch import Tensor

import vislab
from vislab.language.prompt import extended

WORDS = {"church": 1, "churches": 5}


def dense(answer: vislab.Answer, eager: Any, place: int) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Attention and its gradient by autograd, at all sites of the vision "tower" and of the "language" model."""
    rows, prompt = answer.rows(place), answer.inputs["input_ids"].shape[1]
    kept: list[Tensor] = []
    softmax = F.softmax

    def keep(*args: Any, **kwargs: Any) -> Tensor:
        kept.append(softmax(*args, **kwargs))
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "softmax", keep)
        logits = eager(**extended(answer.inputs, answer.ids[prompt : rows[-1] + 1]), use_cache=False).logits[0]
    score = sum(logits[row, answer.ids[row + 1]] for row in rows)
    gradients = torch.autograd.grad(score, kept, allow_unused=True)
    known = [(a.detach(), torch.zeros_like(a) if g is None else g) for a, g in zip(kept, gradients, strict=True)]
    layers = len(answer.sites)
    return {"tower": known[:-layers], "language": known[-layers:]}


def product(layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Chefer, Gur & Wolf 2021, eqs. 5 and 6, densely -> (batch, n, n)"""
    weighted = [(attention * gradient.relu()).mean(1) for attention, gradient in layers]
    total = torch.eye(weighted[0].shape[-1]).expand_as(weighted[0])
    for layer in weighted:
        total = total + layer @ total
    return total


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("family", ["LLaVA-1.5", "PaliGemma", "Gemma 3", "Idefics3", "InternVL", "Qwen2-VL"])
def test_relevance_is_the_dense_formula_through_both_towers(family: str, word: str) -> None:
    answer, place = ask(family), WORDS[word]
    found = dense(answer, pair(family, "eager")[0], place)
    shares = product(found["language"])[0, answer.rows(place)].mean(0)[answer.image_tokens]
    through, pool = product(found["tower"]), answer.places.pool
    maps = []
    for number, view in enumerate(answer.places.views):
        rows, cols = view.grid.rows * pool, view.grid.cols * pool
        order = torch.arange(rows * cols).reshape(rows, cols) if view.order is None else torch.from_numpy(view.order)
        order = order + through.shape[-1] - rows * cols
        start = torch.zeros(through.shape[-1])
        for row in range(rows):
            for col in range(cols):
                start[order[row, col]] = shares[view.tokens[row // pool, col // pool]] / pool**2
        maps.append((start @ through[number])[order].double().numpy())
    heat = vislab.explain(answer, target=word if word != "church" else place)
    np.testing.assert_allclose(heat.values, answer.places.laid(maps), rtol=0, atol=1e-5 * heat.values.max())
    assert heat.facts["tower"] == "through the vision tower"
    assert (heat.method, heat.target, heat.image is answer.image) == ("relevance", repr(word), True)


@pytest.mark.parametrize("family", ["Qwen2.5-VL", "Qwen3-VL", "interpolated", "layers"])
def test_relevance_stays_at_the_image_tokens_where_it_cannot_go_on(family: str) -> None:
    if family == "interpolated":
        module, processor = Family(lambda attention: onevision(attention, most=1)).pair()
        answer = vislab.ask(np.zeros((260, 250, 3), np.uint8), QUESTION, model=module, processor=processor, answer=SAID)
    else:
        answer = ask("LLaVA-1.5" if family == "layers" else family)
    if family == "layers":
        answer.reader.config.vision_feature_layer = [-2]
    try:
        heat = vislab.explain(answer, target=1)
    finally:
        if family == "layers":
            answer.reader.config.vision_feature_layer = -2
    assert heat.facts["tower"].startswith("over image tokens: ")
    assert heat.values.shape == (answer.places.grid.rows, answer.places.grid.cols)
    assert sum(heat.facts["shares"].values()) == pytest.approx(1, abs=1e-5)


def test_a_forward_that_attends_otherwise_is_refused() -> None:
    answer = ask()
    answer.inputs["pixel_values"].add_(3)
    try:
        with pytest.raises(vislab.AttentionRefused, match="does not attend as its generation did"):
            vislab.explain(answer, target=1)
    finally:
        answer.inputs["pixel_values"].sub_(3)


@pytest.mark.parametrize("family", ["LLaVA-1.5", "LLaVA-NeXT", "Idefics3"])
def test_attention_and_rollout_are_the_models_own(family: str) -> None:
    answer = ask(family)
    language = [layer[0] for layer, _ in dense(answer, pair(family, "eager")[0], 1)["language"]]
    row = answer.rows(1)[0]
    heat = vislab.explain(answer, target=1, method="attention", layer=0, head=2)
    own = answer.places.values(language[0][2, row, answer.image_tokens].numpy())
    np.testing.assert_allclose(heat.values, own, atol=1e-5)
    assert heat.facts["shares"]["image"] == pytest.approx(answer.shares[1, 0, 2, 0], abs=1e-5)
    mean = vislab.explain(answer, target=1, method="attention", layer="mean").values
    own = answer.places.values(torch.stack(language)[:, :, row, answer.image_tokens].mean((0, 1)).numpy())
    np.testing.assert_allclose(mean, own, atol=1e-5)
    total = torch.eye(language[0].shape[-1])
    for layer in language:
        total = (0.3 * torch.eye(len(total)) + 0.7 * layer.mean(0)) @ total
    rolled = vislab.explain(answer, target=1, method="rollout", residual=0.3)
    own = answer.places.values(total[row, answer.image_tokens].numpy())
    np.testing.assert_allclose(rolled.values, own, atol=1e-5)
    assert rolled.settings["residual"] == 0.3
    assert f"token {row}" in str(heat.query)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "which word.*0 a, 1 church"),
        ({"target": "fish"}, "no word 'fish'; its words are a, church, lies, …"),
        ({"target": "Churchs"}, "did you mean 'churches'"),
        ({"target": 3.5}, "by its text or its place, such as target=0, not 3.5"),
        ({"target": 0, "method": "grad_cam"}, "explained by attention, rollout, relevance, lens, not by 'grad_cam'"),
        ({"target": 0, "layer": 1}, "has no layer"),
        ({"target": 0, "method": "attention", "layer": 2}, "no layer 2: layers run from 0 to 1"),
        ({"target": 0, "method": "attention", "layer": "last"}, "layer is the index of a layer"),
        ({"target": 0, "method": "attention", "head": 4}, "no head 4: heads run from 0 to 3"),
        ({"target": 0, "method": "rollout", "start": 2}, "start runs from 0 to 1"),
        ({"target": 0, "method": "rollout", "steps": 2}, "has no option 'steps'"),
        ({"target": 0, "region": (0, 0, 9, 9)}, "leave region out"),
        ({"target": 0, "model": "other", "patch_size": 8}, "leave model, patch_size out"),
    ],
)
def test_what_cannot_be_asked_of_a_word(how: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        vislab.explain(ask(), **how)


def test_a_place_out_of_range_and_a_word_said_twice() -> None:
    with pytest.raises(IndexError, match="the answer has 7, from 0"):
        vislab.explain(ask(), target=7)
    twice = ask(answer="a church and a fish")
    with pytest.raises(ValueError, match="says 'a' 2 times: choose by its place, target=0 or 3"):
        vislab.explain(twice, target="a")
    assert vislab.explain(twice, target="FISH", method="attention").settings["target"] == 4


def test_a_figure_of_words_is_made_again(tmp_path: Path) -> None:
    module, processor = pair("LLaVA-1.5")
    answer = ask()
    heats = [vislab.explain(answer, target=0), vislab.explain(answer, target=1, method="attention", layer=0, head=1)]
    path = vislab.save(tmp_path / "words.png", vislab.panel(heats))
    call = vislab.provenance(path)["call"]
    first = f"vislab.ask(image, {QUESTION!r}, model='LlavaForConditionalGeneration', answer={SAID!r})"
    assert f"vislab.explain({first}, target=0)" in call
    assert f"vislab.explain({first}, target=1, layer=0, head=1, method='attention')" in call
    again = vislab.reproduce(path, image=PICTURE, model=(module, processor))
    assert str(again) == "nothing differs"
    assert vislab.save(tmp_path / "words.pdf", vislab.panel([vislab.explain(answer, target=i) for i in range(6)]))
