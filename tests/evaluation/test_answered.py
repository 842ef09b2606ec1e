"""Laws of maps of words that are measured: the word's probability is the model's own, and what is removed is gone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from readers import PICTURE, QUESTION, SAID, ask, pair

import vislab
from vislab.evaluation.answered import METHODS, SQUARES, on_squares, word_score
from vislab.language.prompt import extended
from vislab.language.request import LOOKS


@pytest.mark.parametrize("word", [1, 5])
def test_the_probability_is_the_models_own(word: int) -> None:
    answer = ask()
    module, processor = pair("LLaVA-1.5")
    prompt = answer.inputs["input_ids"].shape[1]
    with torch.no_grad():
        said = module(**extended(answer.inputs, answer.ids[prompt:-1])).logits[0].softmax(-1)
    own = np.prod([float(said[row, answer.ids[row + 1]]) for row in answer.rows(word)])
    kept = np.ones((2, SQUARES, SQUARES), dtype=bool)
    kept[1] = False
    whole, nothing = word_score(answer, target=word, fill="mean")(kept)
    assert whole == pytest.approx(own, rel=1e-4)
    grey = np.broadcast_to(PICTURE.reshape(-1, 3).mean(0).round().astype(np.uint8), PICTURE.shape)
    other = vislab.ask(grey.copy(), QUESTION, model=module, processor=processor, answer=SAID)
    assert nothing == pytest.approx(word_score(other, target=word)(kept[:1])[0], rel=1e-4)
    assert nothing != pytest.approx(whole, rel=1e-3)


def test_a_map_lies_on_the_squares_that_it_covers() -> None:
    heat = vislab.explain(ask("LLaVA-1.5, padded"), target=1, method="attention")
    squares = on_squares(heat, points=8)
    assert squares.shape == (SQUARES, SQUARES)
    assert squares.min() >= heat.values.min() - 1e-9
    assert squares.max() <= heat.values.max() + 1e-9
    left, right = on_squares(vislab.explain(ask(), target=1, method="attention"))[:, [0, -1]].T
    assert (left == 0).all()  # 60 × 90 px, of which CLIP sees the middle 60
    assert (right == 0).all()


def test_methods_of_answers_are_measured_side_by_side() -> None:
    answers = [ask(), ask("PaliGemma")]
    boxes = [(30, 0, 60, 60), None]
    found = vislab.evaluate(answers, targets=["church", 5], boxes=boxes, steps=3, progress=False)
    assert found.methods == (*METHODS, "random", "centre")
    assert found.targets == ("church", "churches")
    assert found.deletion.shape == found.insertion.shape == (7, 2, 4)
    assert found.pointing.shape == (7, 1)
    assert found.pointing[-2, 0] == pytest.approx(1 / 3, abs=0.1)  # a random order, by area
    np.testing.assert_allclose(found.deletion[..., 0], found.insertion[..., -1])
    assert "over random" in repr(found)
    assert "randomised" not in repr(found)
    again = vislab.evaluate(answers, targets=["church", 5], methods=["rollout"], steps=3, progress=False)
    row = found.methods.index("rollout")
    np.testing.assert_allclose(again.deletion[0], found.deletion[row], rtol=1e-5)
    first = {"one": {"method": "attention", "layer": 0}}
    longest = vislab.evaluate(answers[:1], methods=first, steps=1, progress=False)
    assert longest.targets == ("churches",)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"targets": ["church"] * 2}, "1 answers take 1 targets"),
        ({"targets": ["zebra"]}, "no word 'zebra'"),
        ({"boxes": []}, "1 answers take 1 boxes"),
        ({"boxes": [(3, 3, 1, 1)]}, "a box is"),
        ({"methods": "rollout"}, "methods is a list of names"),
        ({"methods": ["random"]}, "always there, as a baseline"),
        ({"methods": ["grad_cam"]}, "explained by attention"),
        ({"fill": "black"}, "fill is 'blur' or 'mean'"),
        ({"image_size": 32}, "leave image_size out"),
        ({"keep": 0.5}, "leave keep out"),
    ],
)
def test_what_cannot_be_measured(how: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        vislab.evaluate([ask()], progress=False, **how)


def test_every_method_of_words_is_measured_where_the_model_has_an_answer_to_it() -> None:
    assert {how["method"] for how in METHODS.values()} == {*LOOKS}
    with pytest.warns(UserWarning, match="left out lens: the lens reads tokens of the language model"):
        found = vislab.evaluate([ask("BLIP-2")], steps=1, progress=False)
    assert found.methods == (*[name for name in METHODS if name != "lens"], "random", "centre")
    with pytest.raises(ValueError, match="the lens reads tokens"):  # which was asked for by name
        vislab.evaluate([ask("BLIP-2")], methods=["lens"], steps=1, progress=False)


def test_boxes_are_of_words() -> None:
    with pytest.raises(ValueError, match="boxes are of words of answers"):
        vislab.evaluate([PICTURE], boxes=[(0, 0, 1, 1)], progress=False)
