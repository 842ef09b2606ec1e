"""Laws of texts as targets: what is said of an image and a text is what the library's own forward says of the two."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import transformers as hf
import wording
from models.test_model import photo
from torch import Tensor, nn

import vislab
from vislab.methods import registry
from vislab.models.image_text import image_text
from vislab.models.model import Model

IMAGE = photo((50, 70))
KINDS = {"SigLIP": torch.sigmoid, "SigLIP2": torch.sigmoid, "BLIP, retrieval": lambda cosine: cosine}


def loaded(family: str = "CLIP", **settings: Any) -> Model:
    return vislab.load(wording.make(family), processor=wording.processor(), **settings)


@pytest.mark.parametrize("family", wording.FAMILIES)
def test_zero_shot_is_what_the_library_says_itself(family: str) -> None:
    model = loaded(family)
    module = wording.make(family)
    logits = wording.own_logits(module, model.preprocessing(IMAGE, (32, 32))[0], wording.LABELS)
    own = KINDS.get(family, lambda x: x.softmax(0))(logits)
    said = model.predict(IMAGE, labels=wording.LABELS)
    assert dict(said) == pytest.approx(dict(zip(wording.LABELS, own.tolist(), strict=True)), rel=1e-5, abs=1e-6)
    assert [p for _, p in said] == sorted((p for _, p in said), reverse=True)
    assert (model.labels, "takes texts" in repr(model)) == (None, True)
    labelled = loaded(family, labels=wording.LABELS)
    assert labelled.predict(IMAGE) == said
    assert labelled.classes.kind == {"SigLIP": "independent", "SigLIP2": "independent"}.get(
        family, "number" if family == "BLIP, retrieval" else "exclusive"
    )


@pytest.mark.parametrize("family", wording.FAMILIES)
def test_a_text_is_a_target_of_every_method_or_the_method_says_why_not(family: str) -> None:
    model = loaded(family)
    answered = set()
    for method in registry.targeted():
        options = {"steps": 2} if method == "integrated_gradients" else {}
        try:
            heat = vislab.explain(IMAGE, model=model, method=method, target="a red door", **options)
        except (ValueError, vislab.AttentionRefused) as refused:
            assert model.name in str(refused) or "attends over" in str(refused) or "read" in str(refused)  # noqa: PT017
            continue
        answered.add(method)
        assert (heat.target, heat.settings["target"]) == ("a red door", "a red door")
        assert np.ptp(heat.values) > 0
    assert answered >= {"grad_cam", "integrated_gradients", "occlusion"}
    assert family == "GroupViT" or answered >= {"relevance", "grad_rollout", "legrad", "maskclip", "token_contribution"}


def test_occlusion_tells_by_how_much_the_similarity_falls() -> None:
    model = loaded()
    pixels = model.preprocessing(IMAGE, (32, 32))[0]
    heat = vislab.explain(IMAGE, model=model, method="occlusion", target="the red door")
    hidden = pixels.clone()
    hidden[..., 8:16, 16:24] = 0
    before, after = (wording.own_logits(wording.make("CLIP"), x, ["the red door"])[0] for x in (pixels, hidden))
    assert heat.values[1, 2] == pytest.approx(float(before - after), rel=1e-4, abs=1e-5)


class Headed(nn.Module):
    """A classifier whose weights are the embeddings of texts."""

    def __init__(self, clip: Any, weights: Tensor) -> None:
        super().__init__()
        self.vision, self.projection = clip.vision_model, clip.visual_projection
        self.head = nn.Linear(weights.shape[1], len(weights), bias=False)
        self.head.weight.data = weights

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(nn.functional.normalize(self.projection(self.vision(pixels).pooler_output), dim=-1))


def test_the_map_of_a_text_is_that_of_a_class_whose_weights_the_text_is() -> None:
    clip, texts = wording.make("CLIP"), wording.tokenizer()
    with torch.no_grad():
        rows = [
            clip.get_text_features(**texts([t], return_tensors="pt", return_token_type_ids=False))
            for t in wording.LABELS
        ]
        weights = torch.cat([row.pooler_output / row.pooler_output.norm() for row in rows]) * clip.logit_scale.exp()
    model = loaded(labels=wording.LABELS)
    headed = vislab.load(Headed(clip, weights), processor=wording.processor().image_processor, labels=wording.LABELS)
    assert dict(model.predict(IMAGE)) == pytest.approx(dict(headed.predict(IMAGE)), abs=1e-6)
    for method in registry.targeted():
        options = {"steps": 2} if method == "integrated_gradients" else {}
        own, heat, bare = (
            vislab.explain(IMAGE, model=one, method=method, target="the red door", **options).values
            for one in (headed, model, loaded())
        )
        if method != "lens":  # which of a class is its probability
            assert heat == pytest.approx(own, rel=1e-4, abs=1e-5 * float(np.abs(own).max()))
        assert np.array_equal(heat, bare)
    best = vislab.explain(IMAGE, model=model, method="legrad")
    assert best.target == best.settings["target"] == model.predict(IMAGE)[0][0]
    assert vislab.explain(IMAGE, model=model, method="legrad", target=2).settings["target"] == "the red door"


def test_other_sizes_are_those_of_the_model_itself() -> None:
    model, clip = loaded(), wording.make("CLIP")
    heat = vislab.explain(IMAGE, model=model, method="legrad", target="a red door", image_size=(24, 40))
    assert (heat.grid.rows, heat.grid.cols) == (3, 5)
    said = dict(model.predict(IMAGE, labels=wording.LABELS, image_size=(24, 40)))
    tokens = wording.tokenizer()(wording.LABELS, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        pixels = model.preprocessing(IMAGE, (24, 40))[0]
        own = clip(pixel_values=pixels, interpolate_pos_encoding=True, **tokens).logits_per_image[0].softmax(0)
    assert said == pytest.approx(dict(zip(wording.LABELS, own.tolist(), strict=True)), abs=1e-6)
    finer = vislab.explain(IMAGE, model=model, method="relevance", target="a red door", patch_size=4)
    assert finer.values.shape == (8, 8)


def test_a_text_is_read_once_and_again_when_its_weights_change() -> None:
    model = loaded()
    runs: list[int] = []
    model.module.model.text_model.register_forward_hook(lambda *_: runs.append(1))  # type: ignore[union-attr]
    before = [vislab.explain(IMAGE, model=model, method=m, target="a fish").values for m in ("legrad", "occlusion")]
    assert len(runs) == 4  # three times to prove it, once for good
    vislab.explain(IMAGE, model=model, method="legrad", target="a fish", patch_size=4)
    assert len(runs) == 4
    other = copy.deepcopy(model.module)
    with torch.no_grad():
        model.module.model.text_projection.weight.mul_(-1)  # type: ignore[union-attr]
    after = vislab.explain(IMAGE, model=model, method="occlusion", target="a fish").values
    assert len(runs) == 5
    assert not np.allclose(before[1], after)
    plain = vislab.explain(
        IMAGE, model=vislab.load(other.model, processor=wording.processor()), method="legrad", target="a fish"
    )
    assert np.allclose(before[0], plain.values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a text is words, such as 'a red door', not ''"),
        (" \n", "a text is words"),
        (
            "a red door on the hill of the church is there a dog",
            r"'a red door on .*' is of 15 tokens, and CLIPModel takes at most 12",
        ),
        ("zebra", "the tokenizer of CLIPModel does not know 'zebra' in the text 'zebra': take other words"),
        ("a red zebra, or a dor!", r"does not know 'zebra', 'or', 'dor' in the text .*; did you mean 'door'\?"),
        ("a red door, a church", "does not know ',' in the text"),
        ("<s> </s>", "the tokenizer of CLIPModel knows nothing of the text '<s> </s>'"),
        (
            3,
            "has no classes of its own: it compares an image with texts. Give target a text, such as",
        ),
        (None, "CLIPModel has no classes of its own"),
        (2.5, "CLIPModel has no classes of its own"),
    ],
)
def test_what_is_no_text_for_the_model_is_refused(text: Any, words: str) -> None:
    module = wording.make("CLIP").train()
    before = tiny.fingerprint(module)
    with pytest.raises(ValueError, match=words):
        vislab.explain(IMAGE, model=vislab.load(module, processor=wording.processor()), method="legrad", target=text)
    assert tiny.fingerprint(module) == before


def test_the_latest_texts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    model, runs = loaded(), []
    monkeypatch.setattr("vislab.models.texts._REMEMBERED", 2)
    model.module.model.text_model.register_forward_hook(lambda *_: runs.append(1))  # type: ignore[union-attr]
    for labels in (["a"], ["red"], ["door"], ["door"], ["a"]):
        model.read(labels)
    assert len(runs) == 3 + 4


def test_labels_are_texts_that_differ() -> None:
    model = loaded()
    with pytest.raises(ValueError, match="labels names 'a fish' twice"):
        model.predict(IMAGE, labels=["a fish", "a dog", "a fish"])
    with pytest.raises(ValueError, match="labels is a list of names, one for each class, not 'a fish'"):
        model.predict(IMAGE, labels="a fish")
    with pytest.raises(ValueError, match="labels names 'a fish' twice"):
        loaded(labels=["a fish", "a fish"])
    with pytest.raises(ValueError, match="no class 7: give a label or an index from 0 to 2: it knows a church"):
        vislab.explain(IMAGE, model=loaded(labels=wording.LABELS), method="legrad", target=7)
    with pytest.raises(ValueError, match=r"has no classes of its own.* model.predict\(image, labels=\[…\]\)"):
        model.predict(IMAGE)


def test_models_without_a_text_tower_say_so() -> None:
    llava = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**tiny.VIT),
        text_config=hf.LlamaConfig(**tiny.SIZE, vocab_size=9, num_key_value_heads=4),
    )
    assert image_text(hf.LlavaModel(llava)) is None
    vit = vislab.load(tiny.make("ViT classifier"))
    with pytest.raises(
        ValueError, match=r"no class 'a LABEL_1': give .* no text tower that vislab reads; did you mean"
    ):
        vislab.explain(IMAGE, model=vit, method="relevance", target="a LABEL_1")
    with pytest.raises(ValueError, match="ViTForImageClassification has no text tower that vislab reads: leave labels"):
        vit.predict(IMAGE, labels=["a fish"])


def test_a_model_without_its_tokenizer_names_the_processor() -> None:
    bare = vislab.load(wording.make("CLIP"))
    assert vislab.explain(IMAGE, model=bare, method="rollout").values.shape == (4, 4)
    for processor in (None, wording.processor().image_processor):
        model = vislab.load(wording.make("CLIP"), processor=processor)
        with pytest.raises(ValueError, match=r"came without a tokenizer, .* vislab.load\(…, processor=…\)"):
            vislab.explain(IMAGE, model=model, method="legrad", target="a red door")


def test_what_the_models_own_forward_does_not_confirm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = hf.CLIPModel.forward

    @functools.wraps(plain)
    def doubled(self: Any, *args: Any, **kwargs: Any) -> Any:
        said = plain(self, *args, **kwargs)
        said.logits_per_image = said.logits_per_image * 2
        return said

    monkeypatch.setattr(hf.CLIPModel, "forward", doubled)
    with pytest.raises(ValueError, match=r"texts are no targets of CLIPModel: .* is not what its own forward says"):
        loaded().predict(IMAGE, labels=wording.LABELS)
    monkeypatch.undo()
    ahead = hf.CLIPModel.get_text_features

    def counting(self: Any, input_ids: Tensor, **kwargs: Any) -> Any:
        said = ahead(self, input_ids, **kwargs)
        said.pooler_output = said.pooler_output + input_ids.shape[1] * torch.arange(24)
        return said

    monkeypatch.setattr(hf.CLIPModel, "get_text_features", counting)
    with pytest.raises(ValueError, match=r"no targets of CLIPModel: .* depends on how far it is filled up"):
        loaded().predict(IMAGE, labels=wording.LABELS)
    flava = hf.FlavaConfig(
        image_config=tiny.VIT, text_config=wording.TEXT, multimodal_config=tiny.SIZE, projection_dim=24
    )
    model = vislab.load(hf.FlavaModel(flava).eval(), processor=wording.processor())
    assert vislab.explain(IMAGE, model=model, method="rollout").values.shape == (4, 4)
    with pytest.raises(ValueError, match=r"no targets of FlavaModel: its own forward .* gives no similarity"):
        vislab.explain(IMAGE, model=model, method="legrad", target="a red door")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    wording.make("CLIP").save_pretrained(path)
    wording.processor().save_pretrained(path)
    return path


def test_a_folder_brings_its_tokenizer(folder: Path, tmp_path: Path) -> None:
    said = vislab.load(folder, device="cpu").predict(IMAGE, labels=wording.LABELS)
    assert dict(said) == pytest.approx(dict(loaded().predict(IMAGE, labels=wording.LABELS)), abs=1e-6)
    for file in folder.iterdir():
        if "token" not in file.name and file.name != "processor_config.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    wording.processor().image_processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="came without a tokenizer"):
        vislab.load(tmp_path).predict(IMAGE, labels=wording.LABELS)
    for processor in (folder, wording.processor()):
        again = vislab.load(tmp_path, device="cpu", processor=processor).predict(IMAGE, labels=wording.LABELS)
        assert dict(again) == pytest.approx(dict(said), abs=1e-6)
    with pytest.raises(ValueError, match="brings its own preprocessing: leave processor out"):
        vislab.load(folder, processor=wording.processor())


@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize("bias", [None, -2.0])
def test_models_of_open_clip_are_compared_as_they_compare_themselves(inner: bool, bias: float | None) -> None:
    module, tokens = wording.OpenClip(bias).eval(), wording.OpenTokenizer(inner=inner)
    model = vislab.load(module, processor=tokens)
    assert (model.preprocessing.mode, model.preprocessing.mean) == ("crop", (0.5, 0.4, 0.3))
    pixels, frame = model.preprocessing(IMAGE, (32, 32))
    assert frame.visible == pytest.approx((10, 0, 60, 50), abs=0.5)
    with torch.no_grad():
        logits = module.get_logits(pixels, tokens(wording.LABELS))[0][0]
    own = logits.softmax(0) if bias is None else logits.sigmoid()
    said = dict(model.predict(IMAGE, labels=wording.LABELS))
    assert said == pytest.approx(dict(zip(wording.LABELS, own.tolist(), strict=True)), rel=1e-5)
    heat = vislab.explain(IMAGE, model=model, method="legrad", target="a red door")
    assert (heat.target, heat.values.shape) == ("a red door", (4, 4))
    with pytest.raises(ValueError, match="is of 14 tokens, and OpenClip takes at most 12: shorten it"):
        model.predict(IMAGE, labels=["a " * 12])


def test_padded_images_of_open_clip_are_refused() -> None:
    with pytest.raises(ValueError, match=r"its images are padded \(resize_mode 'longest'\), which vislab does not"):
        vislab.load(wording.OpenClip(resize_mode="longest").eval(), processor=wording.OpenTokenizer(inner=True))
    assert vislab.load(wording.OpenClip(resize_mode="squash").eval()).preprocessing.mode == "stretch"
