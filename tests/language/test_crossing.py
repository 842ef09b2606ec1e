"""Laws of words that reach the image by a Q-Former's queries or cross to it: places, attention, rollout, relevance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from readers import CROSSED, PICTURE, QUESTION, SAID, ask, pair
from torch import Tensor, nn

import vislab
from vislab.language.forecast import forecast
from vislab.language.prompt import extended, prompted
from vislab.language.reader import Reader

Layers = list[tuple[str, Tensor, Tensor]]


def dense(answer: vislab.Answer, place: int) -> Layers:
    """Where attention ran, as eager attention has it, and its gradient by autograd."""
    eager = pair(str(answer.reader.name), "eager")[0]
    rows, prompt = answer.rows(place), answer.inputs["input_ids"].shape[1]
    kept: list[tuple[str, Tensor]] = []
    path: list[str] = []
    softmax = F.softmax

    def keep(*args: Any, **kwargs: Any) -> Tensor:
        kept.append((path[-1], softmax(*args, **kwargs)))
        return kept[-1][1]

    def within(name: str) -> Any:
        return lambda *_: path.append(name)

    hooks = [part.register_forward_pre_hook(within(name)) for name, part in eager.named_modules()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "softmax", keep)
        logits = eager(**extended(answer.inputs, answer.ids[prompt : rows[-1] + 1]), use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    score = sum(logits[row, answer.ids[row + 1]] for row in rows)
    gradients = torch.autograd.grad(score, [a for _, a in kept], allow_unused=True)
    return [
        (name, a.detach()[0], torch.zeros_like(a[0]) if g is None else g[0])
        for (name, a), g in zip(kept, gradients, strict=True)
    ]


def crosses(name: str) -> bool:
    return "cross" in name


def block(layers: Layers, step: Any) -> Tensor:
    """The dense product over the state of tokens and image: each layer a matrix beside the residual path."""
    tokens = max(a.shape[1] for name, a, _ in layers)
    image = next(a.shape[2] for name, a, _ in layers if crosses(name))
    total = torch.eye(tokens + image)
    for name, attention, gradient in layers:
        total = step(torch.eye(len(total)), _in_state(name, attention, gradient, tokens, image)) @ total
    return total


def _in_state(name: str, attention: Tensor, gradient: Tensor, tokens: int, image: int) -> tuple[Tensor, Tensor, int]:
    matrix, weighted = torch.zeros(tokens + image, tokens + image), torch.zeros(tokens + image, tokens + image)
    rows, columns = attention.shape[1:]
    at = slice(tokens, tokens + columns) if crosses(name) else slice(0, columns)
    matrix[:rows, at], weighted[:rows, at] = attention.mean(0), (attention * gradient.relu()).mean(0)
    return matrix, weighted, rows


def relevant(eye: Tensor, layer: tuple[Tensor, Tensor, int]) -> Tensor:
    return eye + layer[1]


def rolled(eye: Tensor, layer: tuple[Tensor, Tensor, int]) -> Tensor:
    share = torch.ones(len(eye))
    share[: layer[2]] = 0.5  # tokens that do not attend keep what they have
    return torch.diag(share) + 0.5 * layer[0]


def named(name: str) -> vislab.Answer:
    answer = ask(name)
    object.__setattr__(answer.reader, "name", name)
    return answer


def inside(layers: Layers, path: str) -> Layers:
    return [layer for layer in layers if layer[0].startswith(path + ".")]


@pytest.mark.parametrize("word", [1, 5])
@pytest.mark.parametrize("family", CROSSED)
def test_relevance_and_rollout_are_the_dense_formula(family: str, word: int) -> None:
    answer = named(family)
    places, begin = answer.places, torch.zeros(len(answer.ids) - 1)
    begin[answer.rows(word)] = 1 / len(answer.rows(word))
    layers = dense(answer, word)
    language = inside(layers, answer.reader.decoder)
    for method, step in (("relevance", relevant), ("rollout", rolled)):
        some = begin[: language[0][1].shape[1]] if method == "relevance" else begin
        steps = language if method == "relevance" else inside(dense(answer, -1), answer.reader.decoder)
        if answer.reader.way.kind == "queries":
            through = torch.eye(len(some))
            for name, attention, gradient in steps:
                matrix = _in_state(name, attention, gradient, len(some), 0)
                through = step(torch.eye(len(some)), matrix) @ through
            former = inside(layers, "qformer")
            count = former[0][1].shape[1]
            at = torch.zeros(count)
            at[:5] = (some @ through)[answer.image_tokens]
            found = at @ block(former, step)[:count, count:]
        else:
            found = some @ block(steps, step)[: len(some), len(some) :]
        if method == "relevance" and answer.reader.way.tower:
            for _, attention, gradient in reversed(inside(layers, "vision_model")):
                found = found + found @ (attention * gradient.relu()).mean(0)
        heat = vislab.explain(answer, target=word, method=method)
        own = places.values(found.double().numpy())
        np.testing.assert_allclose(heat.values, own, rtol=0, atol=1e-5 * max(own.max(), 1e-9))
        assert own.max() > 0
        assert sum(heat.facts["shares"].values()) == pytest.approx(1, abs=1e-5)
    said = "through the vision tower" if answer.reader.way.tower else "several layers of the vision tower"
    assert said in vislab.explain(answer, target=word).facts["tower"]


@pytest.mark.parametrize("family", CROSSED)
def test_attention_is_the_models_own(family: str) -> None:
    answer, word = named(family), 5
    layers = dense(answer, -1)
    language, rows = inside(layers, answer.reader.decoder), answer.rows(word)
    if answer.reader.way.kind == "keys":
        own = [a[:, rows].mean(1) for name, a, _ in language if crosses(name)]
    else:
        cross = [a.mean(0) for name, a, _ in inside(layers, "qformer") if crosses(name)]
        seen = torch.stack(cross).mean(0)
        own = [a[:, rows].mean(1)[:, answer.image_tokens] @ seen for _, a, _ in language]
    assert len(own) == len(answer.sites) == 2
    for layer, row in enumerate(own):
        heat = vislab.explain(answer, target=word, method="attention", layer=layer, head=2)
        np.testing.assert_allclose(heat.values, answer.places.values(row[2].double().numpy()), atol=1e-5)
    mean = vislab.explain(answer, target=word, method="attention", layer="mean").values
    own_mean = answer.places.values(torch.stack(own).mean((0, 1)).double().numpy())
    np.testing.assert_allclose(mean, own_mean, atol=1e-5)
    np.testing.assert_allclose(answer.shares.sum(-1), 1, atol=1e-5)
    if answer.reader.way.kind == "keys":
        assert (answer.shares[..., 0] > 0.999).all()
    else:
        assert ((answer.image_share > 0) & (answer.image_share < 1)).all()
    assert "vislab-words" in answer._repr_html_()


@pytest.mark.parametrize("family", CROSSED)
def test_the_model_says_what_it_says_without(family: str) -> None:
    module, processor = pair(family)
    text = "<image>" + QUESTION if family == "Mllama" else QUESTION
    text = f"Question: {QUESTION} Answer:" if family == "BLIP-2" else text
    inputs = processor(images=[Image.fromarray(PICTURE)], text=[text], return_tensors="pt")
    own = module.generate(**inputs, max_new_tokens=6, do_sample=False)[0]
    answer = vislab.ask(PICTURE, QUESTION, model=module, processor=processor, tokens=6)
    assert answer.ids.equal(own)
    assert not module._forward_hooks


@pytest.mark.parametrize("size", [(150, 260), (290, 180), (90, 60)], ids=["wide", "tall", "small"])
@pytest.mark.parametrize("family", CROSSED)
def test_a_key_changes_if_and_only_if_its_own_pixels_do(family: str, size: tuple[int, int]) -> None:
    module, processor = CROSSED[family].pair()
    reader = Reader(family, module, processor)
    image = np.random.default_rng(0).integers(60, 190, (*size, 3), dtype=np.uint8)

    def nothing(_: nn.Module, __: Any, output: Any) -> Any:
        return (output[0] * 0, *output[1:])

    for path, part in module.named_modules():
        if path.endswith("self_attn") and "vision_model" in path:
            part.register_forward_hook(nothing)
    tower = next(part for path, part in module.named_modules() if path.endswith("vision_model"))

    def features(shown: np.ndarray) -> tuple[Tensor, Any]:
        inputs, places = prompted(reader, shown, QUESTION)
        names = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")
        with torch.no_grad():
            made = tower(**{name: inputs[name] for name in names if name in inputs}).last_hidden_state
        return made.reshape(-1, made.shape[-1]), places

    before, places = features(image)
    assert len(before) == places.count
    held = {t for view in places.views for t in view.tokens.ravel().tolist()}
    assert held <= set(range(places.count))
    rng = np.random.default_rng(1)
    for _ in range(4):
        chosen, other = set(), image.copy()
        for key in held:
            [(x0, y0, x1, y1)] = places.boxes(key)
            if rng.random() < 0.5 and min(x0, y0) > -1 and x1 < size[1] + 1 and y1 < size[0] + 1:
                row, col = int((y0 + y1) / 2), int((x0 + x1) / 2)
                other[row - 1 : row + 1, col - 1 : col + 1] = rng.choice([0, 255])
                chosen.add(key)
        change = (features(other)[0] - before).abs().amax(1)
        assert {int(t) for t in (change > 1e-5 * before.abs().max()).nonzero()} == chosen
        assert chosen


def test_a_cell_of_padding_has_no_pixels_of_the_image() -> None:
    answer = ask("Mllama")  # 60 × 90 px in two tiles of 32 × 32 or more
    places = answer.places
    assert len(places.views) > 1
    padding = [t for view in places.views for t in view.tokens.ravel() if places.boxes(t)[0][1] >= PICTURE.shape[0]]
    alone = np.zeros(places.count)
    alone[padding] = 1
    assert places.values(alone).sum() == 0


@pytest.mark.parametrize("family", CROSSED)
def test_a_question_and_an_answer_as_of_other_readers(family: str, tmp_path: Path) -> None:
    module, processor = pair(family)
    answer = ask(family)
    assert answer.text == SAID
    assert [word.text for word in answer.words][:2] == ["a", "church"]
    path = vislab.save(tmp_path / "words.png", vislab.panel([vislab.explain(answer, target=1)]))
    assert str(vislab.reproduce(path, image=PICTURE, model=(module, processor))) == "nothing differs"
    module.config.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    told = forecast(str(tmp_path), PICTURE)
    assert told["family"] == family
    assert told["image_tokens"] == (5 if answer.reader.way.kind == "queries" else answer.places.count)


def test_an_encoder_of_questions_is_refused_by_name() -> None:
    module, processor = CROSSED["BLIP-2"].pair()
    module.config.text_config.is_encoder_decoder = True
    with pytest.raises(ValueError, match=r"a decoder that attends to what an encoder made.*decoder alone"):
        vislab.ask(PICTURE, QUESTION, model=module, processor=processor)
