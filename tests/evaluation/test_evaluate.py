"""Laws of the evaluation: curves are probabilities of the model, mosaics know their quarters, all stays as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import wording
from PIL import Image

import vislab
from vislab.core.heatmap import Heatmap
from vislab.evaluation import plan, randomise, removal
from vislab.evaluation import pointing as evaluation_pointing
from vislab.evaluation.pointing import pointing
from vislab.evaluation.randomise import draw_anew, model_parts
from vislab.evaluation.removal import patch_score
from vislab.methods import registry
from vislab.models import load
from vislab.models.model import Model
from vislab.models.preprocessing import Preprocessing

PHOTOS = list(np.random.default_rng(0).integers(0, 256, (6, 40, 48, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def vit() -> Model:
    return load.load(tiny.make("ViT classifier"))


def quick(model: Model, images: Any = PHOTOS, methods: Any = ("cls", "rollout"), **options: Any) -> vislab.Evaluation:
    options = {"steps": 4, "randomised": 0, "progress": False} | options
    return vislab.evaluate(images, model=model, methods=methods, **options)


def numbers(found: vislab.Evaluation) -> list[np.ndarray]:
    return [found.deletion, found.insertion, found.agreement, found.pointing, found.randomised]


def probabilities(model: Model, pixels: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model.module(pixels).logits.softmax(-1).numpy()


# ---- removal ----


@pytest.mark.parametrize("fill", ["blur", "mean"])
def test_removed_patches_show_the_fill_and_the_others_the_image(vit: Model, fill: removal.Fill) -> None:
    pixels, _ = vit.preprocessing(PHOTOS[0])
    kept = np.random.default_rng(1).random((3, 4, 4)) < 0.5
    nothing = removal.filled(pixels[0], fill)
    expected = pixels.repeat(3, 1, 1, 1)
    for n, row, col in zip(*np.nonzero(~kept), strict=True):
        patch = (slice(None), slice(8 * row, 8 * row + 8), slice(8 * col, 8 * col + 8))
        expected[n][patch] = nothing[patch]
    scores = patch_score(PHOTOS[0], model=vit, target=2, fill=fill)(kept)
    assert scores == pytest.approx(probabilities(vit, expected)[:, 2], abs=1e-6)
    assert np.ptp(scores) > 1e-3


def test_the_fills_are_a_blur_and_the_mean() -> None:
    pixels = torch.randn(3, 20, 30) + torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    mean, blur = (removal.filled(pixels, fill) for fill in ("mean", "blur"))
    assert torch.allclose(mean, pixels.mean((1, 2))[:, None, None].expand(3, 20, 30))
    assert blur.shape == pixels.shape
    assert (blur.std((1, 2)) < 0.3 * pixels.std((1, 2))).all()
    flat = torch.full((3, 20, 30), 0.7)
    assert torch.allclose(removal.filled(flat, "blur"), flat)
    point = torch.zeros(3, 41, 41)
    point[:, 20, 20] = 1
    spread = removal.filled(point, "blur")[0]
    assert torch.allclose(spread, spread.T)
    assert float(spread[20, 24] / spread[20, 20]) == pytest.approx(np.exp(-((4 / 4.1) ** 2) / 2), rel=1e-4)
    with pytest.raises(ValueError, match="'blur' or 'mean', not 'black'"):
        removal.filled(pixels, "black")  # type: ignore[arg-type]


def test_batches_give_what_single_forwards_give(vit: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = np.random.default_rng(1).random((7, 4, 4)) < 0.5
    together = patch_score(PHOTOS[0], model=vit, target=1)(kept)
    monkeypatch.setitem(removal.BATCH_TOKENS, "cpu", 1)
    assert patch_score(PHOTOS[0], model=vit, target=1)(kept) == pytest.approx(together, abs=1e-6)
    monkeypatch.setitem(removal.BATCH_TOKENS, "cpu", 3 * 17)
    assert patch_score(PHOTOS[0], model=vit, target=1)(kept) == pytest.approx(together, abs=1e-6)


def test_a_mistyped_setting_of_a_method_is_refused_before_anything_runs(vit: Model) -> None:
    with pytest.raises(ValueError, match=r"no option 'layr'.*did you mean 'layer'"):
        quick(vit, methods={"first": {"method": "cls", "layr": 0}})
    with pytest.raises(ValueError, match=r"no option 'residul'.*did you mean 'residual'"):
        quick(vit, methods={"rollout": {"residul": 0.3}})


def test_without_a_target_it_is_the_class_predicted_on_the_whole_image(vit: Model) -> None:
    whole = np.ones((1, 4, 4), bool)
    [[label, share]] = vit.predict(PHOTOS[0], top=1)
    assert patch_score(PHOTOS[0], model=vit)(whole) == pytest.approx([share], abs=1e-6)
    assert patch_score(PHOTOS[0], model=vit, target=label)(whole) == pytest.approx([share], abs=1e-6)


def test_curves_begin_and_end_at_the_image_and_its_fill(vit: Model) -> None:
    found = quick(vit, fill="mean")
    assert found.share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    for k, photo in enumerate(PHOTOS):
        pixels, _ = vit.preprocessing(photo)
        whole = probabilities(vit, pixels)[0]
        assert found.targets[k] == vit.predict(photo)[0][0]
        target = int(whole.argmax())
        blank = probabilities(vit, pixels.mean((2, 3), keepdim=True).expand_as(pixels))[0, target]
        for curves, first, last in ((found.deletion, whole[target], blank), (found.insertion, blank, whole[target])):
            assert curves[:, k, 0] == pytest.approx(np.full(4, first), abs=1e-6)
            assert curves[:, k, -1] == pytest.approx(np.full(4, last), abs=1e-6)


def test_the_target_given_is_held_fixed(vit: Model) -> None:
    assert vit.labels is not None
    found = quick(vit, targets=[vit.labels[3], 3, 3, 0, 1, "LABEL_4"])
    assert found.targets == tuple(vit.labels[k] for k in (3, 3, 3, 0, 1, 4))
    pixels, _ = vit.preprocessing(PHOTOS[0])
    assert found.deletion[:, 0, 0] == pytest.approx(np.full(4, probabilities(vit, pixels)[0, 3]), abs=1e-6)
    with pytest.raises(ValueError, match="6 images take 6 targets, not 2"):
        quick(vit, targets=[0, 1])
    with pytest.raises(ValueError, match=r"no class 'LABEL_44'.*did you mean 'LABEL_4'"):
        quick(vit, targets=["LABEL_44"] * 6)


def test_classes_need_no_names() -> None:
    model = load.load(tiny.make("timm"))
    assert model.labels == tuple(f"class {index}" for index in range(1000))
    found = quick(model, PHOTOS[:2], targets=[7, 8])
    assert found.targets == ("class 7", "class 8")
    pixels, _ = model.preprocessing(PHOTOS[1])
    with torch.no_grad():
        expected = float(model.module(pixels).softmax(-1)[0, 8])
    assert found.deletion[:, 1, 0] == pytest.approx(np.full(4, expected), rel=1e-4)
    with pytest.raises(ValueError, match="knows no class 'church': give a label or an index from 0 to 999"):
        quick(model, PHOTOS[:1], targets=["church"])


def test_a_smaller_patch_is_removed_as_such(vit: Model) -> None:
    found = quick(vit, PHOTOS[:1], patch_size=4, steps=100)
    assert len(found.share) == 8 * 8 + 1
    assert found.deletion[0, 0, 0] == pytest.approx(vit.predict(PHOTOS[0], patch_size=4)[0][1], abs=1e-6)


# ---- the whole ----


def test_the_seed_decides(vit: Model) -> None:
    first, again, other = (quick(vit, randomised=2, seed=seed) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(numbers(first), numbers(again), strict=True))
    random = first.methods.index("random")
    assert not np.array_equal(first.deletion[random], other.deletion[random])
    assert not np.array_equal(first.randomised[0], other.randomised[0])
    assert np.array_equal(first.deletion[0], other.deletion[0])  # a map without ties falls one way only


def test_the_order_of_the_images_changes_no_number_of_any(vit: Model) -> None:
    there, back = quick(vit, PHOTOS[:3]), quick(vit, PHOTOS[2::-1])
    for one in ("deletion", "insertion"):
        assert np.array_equal(getattr(there, one), getattr(back, one)[:, ::-1])


def test_a_methods_numbers_do_not_depend_on_the_others(vit: Model) -> None:
    both, one = quick(vit), quick(vit, methods=["rollout"])
    assert both.methods == ("cls", "rollout", "random", "centre")
    assert one.methods == ("rollout", "random", "centre")
    assert np.array_equal(both.deletion[1:], one.deletion)
    assert np.array_equal(both.insertion[1:], one.insertion)


@pytest.mark.slow
def test_every_method_there_is_is_evaluated(vit: Model) -> None:
    found = quick(vit, methods=None, targets=[0, 1, 2, 3, 4, 0], randomised=1)
    assert found.methods == (*registry.METHODS, "random", "centre")
    for name, share in zip(found.methods, found.pointing[:, 0], strict=True):
        blind = name not in (*registry.targeted(), "random")
        assert (abs(share - 1 / 4) < 1e-6) == blind, name


def test_settings_are_compared_under_names(vit: Model) -> None:
    methods = {"first": {"method": "cls", "layer": 0}, "last": {"method": "cls"}, "rollout": {"discard": 0.5}}
    found = quick(vit, PHOTOS[:2], methods=methods)
    assert found.methods == ("first", "last", "rollout", "random", "centre")
    plain = quick(vit, PHOTOS[:2], methods=["cls"])
    assert np.array_equal(found.deletion[1], plain.deletion[0])
    assert not np.array_equal(found.deletion[0], plain.deletion[0])


def test_agreement_is_symmetric_and_one_with_itself(vit: Model) -> None:
    found = quick(vit).agreement
    assert found.shape == (4, 4, 6)
    assert np.allclose(found, found.transpose(1, 0, 2))
    assert np.allclose(found[range(4), range(4)], 1)
    assert np.abs(found[0, 1]).max() < 1


def test_images_that_cannot_be_read_are_named_and_left_out(vit: Model, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no picture")
    given = [PHOTOS[0], tmp_path / "missing.jpg", PHOTOS[1], tmp_path / "broken.jpg"]
    with pytest.warns(UserWarning, match=r"left out image (1: there is no file|3: .*not a picture)") as warned:
        found = quick(vit, given)
    assert len(warned) == 2
    assert len(found.targets) == 2
    assert [reason.partition(":")[0] for reason in found.skipped] == ["image 1", "image 3"]
    assert np.array_equal(found.deletion[:2], quick(vit, [PHOTOS[0], PHOTOS[1]]).deletion[:2])
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match=r"none of the 1 images .*missing\.jpg"),
    ):
        quick(vit, [tmp_path / "missing.jpg"])
    with pytest.raises(ValueError, match="none of the 0 images could be read: give some"):
        quick(vit, [])


def test_what_cannot_be_evaluated_is_refused(vit: Model) -> None:
    for single in (PHOTOS[0], "photo.jpg", Image.new("RGB", (8, 8)), b"\x89PNG"):
        with pytest.raises(ValueError, match=r"several images: give a list, if only of one, \[image\]"):
            quick(vit, single)
    with pytest.raises(ValueError, match=r"unknown method 'rolout'.*'rollout'"):
        quick(vit, methods=["cls", "rolout"])
    with pytest.raises(ValueError, match=r"methods is a list of names, \['cls'\]"):
        quick(vit, methods="cls")
    with pytest.raises(ValueError, match="'random' is always there"):
        quick(vit, methods=["random"])
    with pytest.raises(ValueError, match="16 patches are removed in 1 to 16 steps, not in 0"):
        quick(vit, steps=0)
    with pytest.raises(ValueError, match=r"no classifier"):
        quick(load.load(tiny.make("ViT")))


def test_a_mapping_of_images_is_taken_by_its_values(vit: Model) -> None:
    assert np.array_equal(quick(vit, {"a": PHOTOS[0]}).deletion, quick(vit, [PHOTOS[0]]).deletion)


def test_progress_is_shown_where_it_is_wanted(vit: Model, capsys: pytest.CaptureFixture[str]) -> None:
    quick(vit, PHOTOS[:1])
    assert capsys.readouterr().err == ""
    quick(vit, PHOTOS[:1], randomised=1, progress=True)
    said = capsys.readouterr().err
    assert "0/1" in said
    assert "image/s" in said
    assert "part/s" in said


# ---- mosaics ----


def test_the_quarters_of_a_mosaic_are_where_the_mask_says(vit: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    shades = [0, 80, 160, 240]
    greys = [np.full((30, 50, 3), shade, np.uint8) for shade in shades]

    def knowing(image: np.ndarray, *, model: Model, target: int, **_: Any) -> Heatmap:
        """1 on the patches that show the target's shade, else 0."""
        pixels, frame = model.preprocessing(image)
        red = pixels[0, 0].unfold(0, 8, 8).unfold(1, 8, 8).mean((2, 3))
        shade = (red * model.preprocessing.std[0] + model.preprocessing.mean[0]) * 255
        return Heatmap((shade - shades[target]).abs().numpy() < 20, model.grid(), frame, "knowing")

    monkeypatch.setattr("vislab.evaluation.plan.explain", knowing)
    targeted = replace(registry.METHODS["cls"], asks=frozenset({"target"}))
    monkeypatch.setitem(registry.METHODS, "cls", targeted)
    found = quick(vit, greys, ["cls"], targets=[0, 1, 2, 3])
    assert found.pointing.shape == (3, 1)
    assert found.pointing[0].tolist() == [1]
    assert found.pointing[2] == pytest.approx(1 / 4)


def test_maps_that_are_the_same_for_every_class_score_a_quarter(vit: Model) -> None:
    found = quick(vit, targets=[0, 1, 2, 3, 4, 0])
    assert found.pointing.shape == (4, 1)
    assert found.pointing[:2] == pytest.approx(np.full((2, 1), 1 / 4))


def test_mosaics_are_of_four_classes_and_use_no_image_twice() -> None:
    seen = [plan.Outcome(k, target, {}, [], PHOTOS[0]) for k, target in enumerate([0, 0, 0, 0, 1, 1, 2, 2, 3, 4])]
    mosaics = evaluation_pointing.mosaics(seen, np.random.default_rng(0))
    assert len(mosaics) == 2
    assert all(len({one.target for one in four}) == 4 for four in mosaics)
    used = [one.number for four in mosaics for one in four]
    assert len(set(used)) == len(used) == 8
    assert evaluation_pointing.mosaics(seen[:8], np.random.default_rng(0)) == []


@pytest.mark.parametrize("mode", ["stretch", "crop"])
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_the_quarters_fill_the_grid(mode: Any, size: tuple[int, int]) -> None:
    frame = Preprocessing(size, mode, edge=1.25).frame((60, 60))
    grid = vislab.Grid.of(size, (8, 8), 1)
    quarters = [evaluation_pointing._inside(grid, frame, k) for k in range(4)]
    assert np.allclose(sum(quarters), 1)
    assert [float(q.sum()) for q in quarters] == pytest.approx([grid.patches / 4] * 4)
    assert quarters[1][0].tolist() == sorted(quarters[1][0])
    assert quarters[1][0, -1] == quarters[2][-1, 0] == 1
    assert pointing((quarters[0] == 1).astype(float), quarters[0]) == 1


# ---- randomisation ----


@pytest.mark.parametrize("family", ["ViT classifier", "DeiT", "DINOv2", "CLIP vision", "BEiT", "torchvision", "timm"])
def test_parts_are_all_parameters_from_the_top_down(family: str) -> None:
    model = load.load(tiny.make(family))
    parts = model_parts(model, PHOTOS[0])
    assert list(parts) == ["head", "1", "0", "input"]
    named = [name for names in parts.values() for name in names]
    assert sorted(named) == sorted(name for name, _ in model.module.named_parameters())
    projection = next(name for name, p in model.module.named_parameters() if p.ndim == 4 and p.shape[1] == 3)
    assert projection in parts["input"]
    assert len(parts["1"]) == len(parts["0"]) >= 8
    assert {name.replace("1", "0") for name in parts["1"]} == {name.replace("1", "0") for name in parts["0"]}


def test_weights_drawn_anew_keep_their_size() -> None:
    module = tiny.make("ViT classifier")
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    wide = [name for name, p in before.items() if p.numel() > 1000]
    draw_anew(module, wide, torch.Generator().manual_seed(0))
    for name, p in module.named_parameters():
        assert torch.equal(p, before[name]) == (name not in wide)
        if name in wide:
            fresh, old = p.detach().flatten(), before[name].flatten()
            assert float(fresh.std() / old.std()) == pytest.approx(1, abs=0.1)
            assert abs(np.corrcoef(fresh, old)[0, 1]) < 0.12


def test_the_cascade_goes_down_and_leaves_the_model_alone(vit: Model) -> None:
    before = tiny.fingerprint(vit.module)
    found = quick(vit, PHOTOS[:3], ["cls", "rollout"], randomised=2)
    assert tiny.fingerprint(vit.module) == before
    assert found.parts == ("head", "1", "0", "input")
    assert found.randomised.shape == (4, 2, 4)
    cls, rollout, random, centre = found.randomised
    assert np.allclose(cls[:, 0], 1)  # attention does not see the classifier
    assert np.allclose(rollout[:, 0], 1)
    assert (cls[:, -1] < 0.9).all()
    assert np.abs(random).max() < 0.9
    assert np.allclose(centre, 1)


def test_a_cascade_goes_on_from_where_it_was(vit: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[str]] = []
    weights: list[torch.Tensor] = []
    plain = randomise.draw_anew

    def noting(module: torch.nn.Module, names: Any, generator: torch.Generator) -> None:
        plain(module, names, generator)
        drawn.append(list(names))
        weights.append(dict(module.named_parameters())["classifier.weight"].detach().clone())

    monkeypatch.setattr("vislab.evaluation.randomise.draw_anew", noting)
    quick(vit, PHOTOS[:1], ["cls"], randomised=1)
    assert drawn == list(model_parts(vit, PHOTOS[0]).values())
    assert all(torch.equal(one, weights[0]) for one in weights)  # once drawn, a part stays
    assert not torch.equal(weights[0], dict(vit.module.named_parameters())["classifier.weight"])


def test_no_check_is_done_that_was_not_asked_for(vit: Model) -> None:
    found = quick(vit, PHOTOS[:2])
    assert found.parts == ()
    assert "randomised" not in found.samples


def test_a_layer_is_the_largest_module_of_its_own() -> None:
    sites = [["vit", "layers", "0", "attention"], ["vit", "layers", "1", "attention"]]
    assert [randomise._own_prefix(site, sites) for site in sites] == ["vit.layers.0", "vit.layers.1"]
    assert randomise._own_prefix(["attention"], [["attention"]]) == "attention"
    assert randomise._own_prefix(["a", "first"], [["a", "first"], ["a", "second"]]) == "a.first"


# ---- texts ----


def test_texts_are_the_classes_of_an_image_text_model() -> None:
    texts = ["a church", "a fish", "the red door", "a blue dog", "a church", "a fish"]
    bare = vislab.load(wording.make("CLIP"), processor=wording.processor())
    found = quick(bare, methods=["legrad", "occlusion"], targets=texts, randomised=1)
    assert found.targets == tuple(texts)
    assert found.parts == ("head", "1", "0", "input")
    labelled = bare.labelled(texts[:4])
    for one, other in zip(
        numbers(found),
        numbers(quick(labelled, methods=["legrad", "occlusion"], targets=texts, randomised=1)),
        strict=True,
    ):
        assert np.array_equal(one, other)
    first = dict(labelled.predict(PHOTOS[0]))["a church"]
    assert found.deletion[0, 0, 0] == pytest.approx(first, rel=1e-5)
    with pytest.raises(ValueError, match=r"compares an image with texts, .* give it labels, vislab.load\(…, labels="):
        quick(bare)
    with pytest.raises(ValueError, match="has 'a fish' alone to choose from, whose probability is always 1"):
        quick(bare, targets=["a fish"] * 6)
    alone = vislab.load(wording.make("SigLIP"), processor=wording.processor()).labelled(["a fish"])
    assert 0 < float(patch_score(PHOTOS[0], model=alone)(np.ones((1, 4, 4), bool))[0]) < 1


def test_methods_without_an_answer_are_left_out_where_none_were_asked_for() -> None:
    model = vislab.load(wording.make("SigLIP"), processor=wording.processor(), labels=wording.LABELS)
    with pytest.warns(UserWarning, match="left out .*: SiglipModel has no CLS token") as told:
        found = quick(model, PHOTOS[:1], None)
    assert len(told) == 3
    assert {"legrad", "maskclip", "occlusion"} < set(found.methods)
    assert not {"grad_eclip", "cls_contribution"} & set(found.methods)
    with pytest.raises(ValueError, match="has no CLS token"):
        quick(model, PHOTOS[:1], ["grad_eclip"])


def test_a_model_that_keeps_half_of_its_patches_is_evaluated_as_such() -> None:
    model, images = (
        vislab.load(tiny.make("ViT classifier")),
        list(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)),
    )
    asked = {"model": model, "methods": ["cls"], "targets": [0, 1, 2, 3], "steps": 2, "progress": False}
    found = vislab.evaluate(images, keep=0.5, randomised=1, **asked)
    assert found.settings["keep"] == 0.5
    whole = [dict(model.predict(image, keep=0.5, top=5))[found.targets[n]] for n, image in enumerate(images)]
    assert found.deletion[0, :, 0] == pytest.approx(np.array(whole), abs=1e-5)
    assert found.pointing.shape == (3, 1)
    with pytest.raises(ValueError, match="a fovea of such boxes lies in one image, and several are evaluated: take"):
        vislab.evaluate(images, fovea=(0, 0, 9, 9), **asked)


def test_a_fovea_lies_on_a_box_of_each_image() -> None:
    church, black = vislab.load_image(vislab.samples()["church"]), np.zeros((64, 64, 3), np.uint8)
    asked: dict[str, Any] = {"methods": ["cls"], "steps": 2, "progress": False, "fovea_patches": (16, 32)}
    with pytest.warns(UserWarning, match="left out image 1: fovea lies on the boxes of a detector, and it found none"):
        found = vislab.evaluate([church, black], fovea="box", randomised=1, **asked)
    assert found.settings["fovea"] == "box"
    boxes = vislab.detect(church)[:1]
    model = vislab.load("embedded")
    assert found.targets == (model.predict(church, fovea=boxes, fovea_patches=(16, 32))[0][0],)
    heat = vislab.explain(church, method="cls", fovea=boxes, fovea_patches=(16, 32))
    score = patch_score(church, target=found.targets[0], fovea=boxes, fovea_patches=(16, 32))
    whole = dict(model.predict(church, fovea=boxes, fovea_patches=(16, 32)))[found.targets[0]]
    assert score(np.ones((1, 14, 14), bool)) == pytest.approx([whole], abs=1e-5)
    curves = vislab.removal(heat.values, score=score, steps=2)
    assert found.deletion[0, 0] == pytest.approx(curves.deletion, abs=1e-5)
