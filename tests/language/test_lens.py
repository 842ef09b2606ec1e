"""Laws of the lens: the last layer says what the model says, and each layer what norm and head make of its states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from readers import PICTURE, ask, pair, token

import vislab
from vislab.figures.captions import WORD_LENS, measure_of
from vislab.language.prompt import extended


def hidden(answer: vislab.Answer) -> tuple[torch.Tensor, ...]:
    """After the embedding and each layer, the last one's normed, as transformers reports them."""
    prompt = answer.inputs["input_ids"].shape[1]
    inputs = extended(answer.inputs, answer.ids[prompt:-1])
    with torch.no_grad():
        states: tuple[torch.Tensor, ...] = answer.reader.module(
            **inputs, use_cache=False, output_hidden_states=True
        ).hidden_states
    return states


@pytest.mark.parametrize("family", ["LLaVA-1.5", "PaliGemma", "Gemma 3", "Idefics3", "Qwen3-VL", "LLaVA-NeXT"])
def test_each_layer_is_read_by_the_models_own_norm_and_head(family: str) -> None:
    answer = ask(family)
    found, (_, first, last) = answer.lens(), hidden(answer)
    module = answer.reader.module
    norm, head = module.get_submodule(answer.reader.decoder).norm, module.get_output_embeddings()
    for layer, states in enumerate((norm(first), last)):
        probabilities = head(states)[0].softmax(-1)
        at = probabilities[answer.image_tokens]
        np.testing.assert_allclose(found.shares[layer], at.max(-1).values.detach(), atol=1e-5)
        decoded = [answer.reader.processor.tokenizer.decode([int(i)]).strip() for i in at.argmax(-1)]
        assert found.tokens[layer].tolist() == decoded
        for place, word in enumerate(answer.words):
            own = probabilities[word.start - 1]
            assert found.chosen[layer, place] == pytest.approx(float(own[answer.ids[word.start]].detach()), abs=1e-5)
    church = (head(norm(first))[0].softmax(-1)[answer.image_tokens, token("church")]).detach().double().numpy()
    heat = vislab.explain(answer, target="church", method="lens", layer=0)
    [place] = [n for n, word in enumerate(answer.words) if word.text == "church"]
    np.testing.assert_array_equal(heat.values, vislab.explain(answer, target=place, method="lens", layer=0).values)
    if len(answer.places.views) == 1:
        np.testing.assert_allclose(heat.values, church[answer.places.views[0].tokens], atol=1e-6)
    assert 0 < heat.values.min() < church.max() + 1e-6
    assert heat.values.max() <= church.max() + 1e-6
    assert (heat.query, heat.method) == ("each image token", "lens")


def test_what_the_model_chose_is_what_its_last_layer_says() -> None:
    module, processor = pair("LLaVA-1.5")
    answer = vislab.ask(PICTURE, "what is on the left ?", model=module, processor=processor, tokens=5)
    last = answer.lens()
    own = [processor.tokenizer.decode([int(answer.ids[word.start])]).strip() for word in answer.words]
    assert last.said[-1].tolist() == own


def test_words_lie_on_the_image_and_are_told_in_lines(tmp_path: Path) -> None:
    answer = ask("LLaVA-1.5")
    found = answer.lens()
    words = found.words(-1)
    assert [len(row) for row in words] == [4] * 4
    assert [word for row in words for word in row] == found.tokens[-1].tolist()
    assert len(str(found).splitlines()) == 2
    assert "layer  1: answer '" in str(found)
    assert "<pre>layer" in found._repr_html_()
    module, processor = pair("LLaVA-1.5")
    path = vislab.save(tmp_path / "lens.png", vislab.explain(answer, target="door", method="lens", layer=0))
    assert "target='door', layer=0, method='lens'" in vislab.provenance(path)["call"]
    assert str(vislab.reproduce(path, image=PICTURE, model=(module, processor))) == "nothing differs"
    assert measure_of([vislab.explain(answer, target="door", method="lens", layer=0)]) == WORD_LENS
    assert np.asarray(vislab.explain(ask("LLaVA-NeXT"), target="red", method="lens")).max() <= 1


@pytest.mark.parametrize("family", ["BLIP-2", "Mllama", "BLIP"])
def test_without_image_tokens_in_place_the_answers_own_place_is_read(family: str) -> None:
    answer = ask(family)
    if family == "BLIP":  # its head has a transform before the words
        with pytest.raises(vislab.AttentionRefused, match="by more than its norm and its head"):
            answer.lens()
    else:
        found = answer.lens()
        assert found.tokens.shape[1] == (5 if family == "BLIP-2" else 0)
        assert found.said.shape == (2 if family == "BLIP-2" else 5, len(answer.words))
        with pytest.raises(ValueError, match="has none with a place of its own"):
            found.words(0)
    with pytest.raises(ValueError, match="has none with a place of its own"):
        vislab.explain(answer, target="church", method="lens")


def test_what_cannot_be_read() -> None:
    answer = ask()
    with pytest.raises(ValueError, match="no layer 9: layers run from 0 to 1"):
        vislab.explain(answer, target="church", method="lens", layer=9)
    with pytest.raises(ValueError, match="the model has no word for 'zebra'"):
        vislab.explain(answer, target="zebra", method="lens")
    with pytest.raises(IndexError, match="no word 99"):
        vislab.explain(answer, target=99, method="lens")
