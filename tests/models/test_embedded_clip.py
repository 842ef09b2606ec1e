"""What the embedded image-text model says of the sample photographs: texts over the tower of the embedded ViT."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captions import HELD_OUT, LOOSE, captions, pairs, said, things, words
from methods.test_legrad import dense, eager
from safetensors import safe_open
from torch import Tensor

import vislab
from vislab.cli.main import main
from vislab.core.files import assets
from vislab.models.image_text import tower_of

FOLDER = assets() / "models" / "clip-imagenette"
PHOTOS = vislab.samples()
NAME = "embedded-clip"


@cache
def loaded(name: str = NAME) -> vislab.Model:
    return vislab.load(name, device="cpu")


def test_its_tower_is_the_embedded_vit_bit_for_bit() -> None:
    clip, vit = loaded(), loaded("embedded")
    seeing, own = tower_of(clip.module).model.vision_model, vit.module.vit  # type: ignore[union-attr]
    for name, weight in own.state_dict().items():
        assert torch.equal(seeing.state_dict()[name], weight), name
    assert {*seeing.state_dict()} - {*own.state_dict()} == {"pooler.dense.weight", "pooler.dense.bias"}
    image = vislab.load_image(PHOTOS["church"])
    pixels, frame = clip.preprocessing(image)
    assert torch.equal(pixels, vit.preprocessing(image)[0])
    assert (frame, clip.grid()) == (vit.preprocessing(image)[1], vit.grid())
    with torch.no_grad():
        assert torch.equal(clip.module(pixels).last_hidden_state, own(pixels).last_hidden_state)
    maps = [vislab.explain(image, model=model, method="rollout").values for model in (clip, vit)]
    assert np.array_equal(*maps)


def test_the_folder_holds_no_copy_of_the_tower() -> None:
    with safe_open(FOLDER / "model.safetensors", "pt") as file:
        of_tower = [name for name in file.keys() if name.startswith("vision_model.")]  # noqa: SIM118
    assert sorted(of_tower) == ["vision_model.pooler.dense.bias", "vision_model.pooler.dense.weight"]
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 500_000
    with pytest.raises(OSError, match=r"its weights lack \d+ of the model's, such as vision_model\."):
        vislab.load(FOLDER)


def test_its_words_are_those_of_its_captions() -> None:
    known = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert [*known] == [*words()]
    for phrase in HELD_OUT:  # in which nothing was learned, of words that were
        made = {said(phrase, name) for name in things()}
        assert {word for text in made for word in text.split()} <= {*known}
        assert not made & {caption.text for caption in [*captions(), *pairs()]}
    assert all(not a & b for a, b in (caption.sets for caption in pairs()))
    assert not {*LOOSE} & {*things()}


def test_probabilities_are_those_of_its_own_forward() -> None:
    model, texts = loaded(), ["a church", "a photo of a tench", "a building and a dog"]
    own: Any = tower_of(model.module).model
    pixels = model.preprocessing(vislab.load_image(PHOTOS["cathedral"]))[0]
    tokens = model.texts.tokenizer(texts, padding=True, return_tensors="pt")  # type: ignore[union-attr]
    with torch.no_grad():
        expected = own(pixel_values=pixels, **tokens).logits_per_image[0].softmax(0)
    probabilities = dict(model.predict(PHOTOS["cathedral"], labels=texts))
    assert probabilities == pytest.approx(dict(zip(texts, expected.tolist(), strict=True)), abs=1e-5)


@pytest.mark.parametrize("photo", ["church", "minster", "cathedral"])
@pytest.mark.parametrize("patch_size", [None, 32])
def test_it_knows_a_church_by_its_name_and_by_what_it_is(photo: str, patch_size: int | None) -> None:
    for texts in (
        ["a church", "a fish", "a dog", "a gas pump"],
        ["an animal", "a building", "a machine", "an instrument"],
        ["in the photo there is a golf ball", "in the photo there is a chapel"],
        ["A PHOTO OF A CHURCH.", "A Photo Of A Parachute."],
    ):
        best = loaded().predict(PHOTOS[photo], labels=texts, patch_size=patch_size)[0]
        assert best[0].lower().strip(".").endswith(("church", "building", "chapel"))
        assert best[1] > 0.5
    small, large = (dict(loaded().predict(PHOTOS[photo], labels=[t, "a fish"]))[t] for t in ("a church", "A Church"))
    assert small == large


def test_legrad_of_a_text_is_autograd_on_its_own_eager_attention() -> None:
    model, text = loaded(), "an animal"
    own: Any = vislab.load(NAME, device="cpu").module.model
    tokens = model.texts.tokenizer([text], return_tensors="pt")  # type: ignore[union-attr]
    with torch.no_grad():
        embedding = F.normalize(own.get_text_features(**tokens).pooler_output, dim=-1)[0]
    heat = vislab.explain(PHOTOS["church"], model=model, method="legrad", target=text)
    layers, attentions = eager(own.vision_model, model.preprocessing(heat.image)[0])

    def score(states: Tensor) -> Tensor:
        pooled = own.visual_projection(own.vision_model.pooler(own.vision_model.layernorm(states)))
        return F.normalize(pooled, dim=-1)[0] @ embedding * own.logit_scale.exp()

    expected = dense(layers, attentions, score, heat.grid.patch_tokens)
    assert heat.values.ravel() == pytest.approx(expected, rel=1e-4, abs=1e-5 * float(expected.max()))
    other = vislab.explain(PHOTOS["church"], model=model, method="legrad", target="a building")
    assert np.abs(other.values / other.values.max() - heat.values / heat.values.max()).max() > 0.1


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("a red door", "does not know 'red', 'door' in the text 'a red door'"),
        ("dogs", r"does not know 'dogs' in the text 'dogs'; did you mean 'dog'\?"),
        ("a zebra, striped", "does not know 'zebra', 'striped' in the text 'a zebra, striped'"),
        ("a churhc", r"does not know 'churhc' in the text 'a churhc'; did you mean 'church'\?"),
        ("a church!", "does not know '!' in"),
        ("a church " * 12, "is of 26 tokens, and embedded-clip takes at most 24"),
    ],
)
def test_words_that_it_was_never_told_are_refused_by_name(text: str, unknown: str) -> None:
    for ask in (
        lambda: vislab.explain(PHOTOS["church"], model=loaded(), method="legrad", target=text),
        lambda: loaded().predict(PHOTOS["church"], labels=["a church", text]),
    ):
        with pytest.raises(ValueError, match=unknown):
            ask()


def test_in_the_terminal_a_text_is_a_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "fish.png"
    how = ["--model", NAME, "--method", "legrad", "--device", "cpu"]
    assert main(["figure", str(PHOTOS["church"]), "--target", "a building", "--out", str(made), *how]) == 0
    settings = vislab.provenance(made)["maps"][0]["settings"]
    assert (settings["model"], settings["target"]) == (NAME, "a building")
    capsys.readouterr()
    assert main(["figure", str(PHOTOS["church"]), "--target", "a red door", "--out", str(made), *how]) != 0
    assert "does not know 'red', 'door'" in capsys.readouterr().err
