"""Laws of explaining: the answer is that of the method, lies on the photograph, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import transformers
from PIL import Image
from torch import nn

import vislab
from vislab.engine.hooks import capture
from vislab.engine.site import AttentionRefused
from vislab.figures.captions import describe
from vislab.models import cache as models_cache
from vislab.models import load
from vislab.models.model import Model
from vislab.models.preprocessing import Preprocessing

PHOTO = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def vit() -> Model:
    return load.load(tiny.make("ViT"))


def test_a_heatmap_says_how_it_was_made(vit: Model) -> None:
    heat = vislab.explain(
        PHOTO, model=vit, layer=1, head="max", attention_scale=2, image_size=(32, 64), patch_size=4, discard=0.5
    )
    assert heat.method == "rollout"
    assert heat.query == "CLS"
    assert (heat.grid.rows, heat.grid.cols, heat.grid.patch) == (8, 16, (4, 4))
    assert heat.frame.source == (50, 90)
    assert heat.image is not None
    assert np.array_equal(heat.image, PHOTO)
    assert heat.settings["model"] == "ViTModel"
    asked = {key: heat.settings[key] for key in ("layer", "head", "attention_scale", "image_size", "patch_size")}
    assert asked == {"layer": 1, "head": "max", "attention_scale": 2, "image_size": (32, 64), "patch_size": 4}
    assert heat.settings["discard"] == 0.5


def test_anything_that_holds_a_picture_gives_the_same_map(vit: Model, tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    sources = [PHOTO, tmp_path / "photo.png", (tmp_path / "photo.png").read_bytes(), Image.fromarray(PHOTO)]
    maps = [vislab.explain(source, model=vit).values for source in sources]
    assert all(np.array_equal(values, maps[0]) for values in maps)


def test_a_bare_module_is_taken_too(vit: Model) -> None:
    assert np.array_equal(vislab.explain(PHOTO, model=vit.module).values, vislab.explain(PHOTO, model=vit).values)


def test_the_embedded_model_is_loaded_once() -> None:
    assert models_cache.model_of("embedded") is models_cache.model_of("embedded")
    heat = vislab.explain(PHOTO)
    assert (heat.method, heat.settings["model"]) == ("rollout", "embedded")


@pytest.mark.parametrize("point", [(1, 1), (89.5, 49.5), (44, 12), (0, 49)])
def test_attention_at_a_point_is_the_row_of_its_patch(vit: Model, point: tuple[float, float]) -> None:
    heat = vislab.explain(PHOTO, model=vit, method="attention", query=point, image_size=(32, 64), layer=0)
    row, col = int(point[1] / 50 * 4), int(point[0] / 90 * 8)
    assert heat.query == f"patch ({row}, {col})"
    assert heat.cell_at(*point) == (row, col)
    run = vit.run(PHOTO, image_size=(32, 64))
    expected = run.capture.attention(0, 1 + row * 8 + col)[0].mean(0)[1:].reshape(4, 8)
    assert heat.values == pytest.approx(expected.numpy(), abs=1e-6)


@pytest.mark.parametrize("family", ["ViT", "DINOv3", "torchvision", "timm", "SigLIP vision"])
def test_attention_scale_of_a_layer_is_scaled_queries(family: str) -> None:
    """Held against the same model with the weights of that layer's query projection scaled."""
    model = load.load(tiny.make(family))
    layers = list(model.run(PHOTO).capture.sites)
    plain = vislab.explain(PHOTO, model=model, method="cls", layer=0)
    scaled = [vislab.explain(PHOTO, model=model, method="cls", layer=0, attention_scale={k: 3.0}) for k in (0, 1, -1)]
    assert np.array_equal(scaled[1].values, plain.values)  # what comes later does not reach back
    assert np.array_equal(scaled[2].values, plain.values)
    assert float(np.abs(scaled[0].values - plain.values).max()) > 1e-3
    site = model.module.get_submodule(layers[0])
    width = model.dim
    with torch.no_grad():
        for name, parameter in site.named_parameters():
            if "q_proj" in name or "query" in name:
                parameter.mul_(3)
            elif name.startswith(("in_proj", "qkv")):
                parameter[:width].mul_(3)
    assert vislab.explain(PHOTO, model=model, method="cls", layer=0).values == pytest.approx(scaled[0].values, abs=1e-5)


def test_queries_outside_the_visible_crop_are_refused(vit: Model) -> None:
    cropping = replace(vit, preprocessing=Preprocessing((32, 32), "crop"))
    x0, y0, x1, y1 = cropping.preprocessing.frame(PHOTO.shape[:2]).visible
    assert (round(x0), round(y0), round(x1), round(y1)) == (19, 0, 69, 50)
    for x in (x0 + 0.01, x1 - 0.01):
        assert vislab.explain(PHOTO, model=cropping, method="attention", query=(x, 25)).cell_at(x, 25) is not None
    for point in [(x0 - 0.5, 25), (x1 + 0.5, 25), (45, -1), (45, 51), (1e9, 0)]:
        with pytest.raises(ValueError, match=r"no patch lies over the point .* sees x from 19 to 69 and y from 0 to"):
            vislab.explain(PHOTO, model=cropping, method="attention", query=point)


@pytest.mark.parametrize("mode", ["stretch", "crop"])
def test_a_region_is_looked_at_as_its_crop_is_and_lies_in_its_place(vit: Model, mode: Any) -> None:
    model = replace(vit, preprocessing=Preprocessing((32, 32), mode))
    x0, y0, x1, y1 = region = (30, 5, 80, 45)
    alone = vislab.explain(PHOTO[y0:y1, x0:x1], model=model, method="attention", query=(20, 20))
    heat = vislab.explain(PHOTO, model=model, method="attention", query=(x0 + 20, y0 + 20), region=np.array(region))
    assert np.array_equal(heat.values, alone.values)
    assert heat.query == alone.query
    assert np.array_equal(heat.image, PHOTO)
    assert heat.box(1, 2) == pytest.approx(np.add(alone.box(1, 2), (x0, y0, x0, y0)))
    assert heat.settings["region"] == region
    assert "region (30, 5, 80, 45)" in describe(heat)
    whole = vislab.explain(PHOTO, model=model, region=(0, 0, 90, 50))
    assert np.array_equal(whole.values, vislab.explain(PHOTO, model=model).values)
    with pytest.raises(ValueError, match=r"no patch lies over the point \(10, 10\).* sees x from \d\d to \d\d"):
        vislab.explain(PHOTO, model=model, method="attention", query=(10, 10), region=region)


def test_what_was_saved_anew_is_loaded_anew(tmp_path: Path) -> None:
    maps = []
    for _ in range(2):
        module = tiny.make("ViT")
        with torch.no_grad():
            module.layers[0].attention.q_proj.weight.mul_(len(maps) * 30)
        module.save_pretrained(tmp_path)
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
        maps.append(vislab.explain(PHOTO, model=tmp_path).values)
        assert models_cache.model_of(tmp_path) is models_cache.model_of(str(tmp_path))
    assert np.abs(maps[0] - maps[1]).max() > 1e-4


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"method": "grad"}, ValueError, "unknown method 'grad'"),
    ({"method": "cls", "start": 1}, ValueError, "has no option 'start'"),
    ({"layer": 2}, ValueError, "no layer 2"),
    ({"layer": "all"}, ValueError, "no layer 'all': layers run from 0 to 1"),
    ({"layer": None}, ValueError, "layer is the index of a layer, or of some methods 'mean', not None"),
    ({"method": "cls", "head": 9}, ValueError, "no head 9"),
    ({"head": "median"}, ValueError, "head is an index"),
    ({"query": "patch"}, ValueError, r"query is 'cls' or a point \(x, y\)"),
    ({"query": (1, 2, 3)}, ValueError, r"query is 'cls' or a point \(x, y\)"),
    ({"query": 5}, ValueError, r"query is 'cls' or a point \(x, y\)"),
    ({"query": (float("nan"), 1)}, ValueError, r"query is 'cls' or a point \(x, y\)"),
    ({"query": (float("inf"), 1)}, ValueError, r"query is 'cls' or a point \(x, y\)"),
    ({"query": (90, 10)}, ValueError, r"no patch lies over the point \(90, 10\) of this image of 90×50 px"),
    ({"method": "cls", "query": (1, 1)}, ValueError, "leave query out"),
    ({"target": 3}, ValueError, "the same for every class: leave target out"),
    ({"attention_scale": 0}, ValueError, "attention_scale must be a number above 0"),
    ({"attention_scale": float("nan")}, ValueError, "attention_scale must be a number above 0"),
    ({"attention_scale": {1: -1.0}}, ValueError, "attention_scale must be a number above 0"),
    ({"attention_scale": {2: 2.0}}, ValueError, "attention_scale is for no layer 2: layers of .* run from 0 to 1"),
    ({"attention_scale": {"last": 2.0}}, ValueError, "attention_scale is for no layer 'last'"),
    ({"patch_size": 64}, ValueError, "a patch of 64×64 px is larger than the input of 32×32 px"),
    ({"patch_size": 7}, ValueError, "patches of 7 px do not fill an input of 32×32 px"),
    ({"image_size": True}, ValueError, "image_size is a number of pixels"),
    ({"image_size": -32}, ValueError, "image_size is a number of pixels"),
    ({"image_size": 32.0}, ValueError, "image_size is a number of pixels"),
    ({"region": (0, 0, 91, 50)}, ValueError, r"region is \(x0, y0, x1, y1\), whole pixels .* of 90×50 px, not"),
    ({"region": (5, 5, 5, 9)}, ValueError, "region is"),
    ({"region": (0.5, 0, 9, 9)}, ValueError, "region is"),
    ({"region": 7}, ValueError, "region is"),
]


@pytest.mark.parametrize(("options", "error", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_impossible_is_refused_before_the_model_runs(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    module = tiny.make("ViT").train()
    module.register_forward_hook(lambda *_: pytest.fail("the model ran"))
    before = tiny.fingerprint(module)
    with pytest.raises(error, match=words):
        vislab.explain(PHOTO, model=module, **options)
    assert tiny.fingerprint(module) == before


def broken(module: nn.Module, error: BaseException) -> nn.Module:
    def fail(*_: Any) -> None:
        raise error

    module.layers[1].register_forward_hook(fail)
    return module


def with_nan(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        module.layers[0].attention.k_proj.weight[0, 0] = torch.nan
    return module


LATE: list[tuple[str, Callable[[nn.Module], nn.Module], dict[str, Any], type[BaseException], str | None]] = [
    (
        "the model fails",
        lambda m: broken(m, RuntimeError("boom")),
        {},
        ValueError,
        r"does not run through on an input of .*: boom \(RuntimeError\)",
    ),
    ("interrupted", lambda m: broken(m, KeyboardInterrupt()), {}, KeyboardInterrupt, None),
    ("NaN in the weights", with_nan, {}, AttentionRefused, "NaN or infinite values: look for them in the weights"),
    ("rollout's start", lambda m: m, {"start": 2}, ValueError, "start runs from 0 to 1"),
    ("rollout's residual", lambda m: m, {"residual": -1}, ValueError, "residual runs from 0 to 1"),
]


@pytest.mark.parametrize("options", [{}, {"patch_size": 4, "image_size": (16, 48), "attention_scale": {0: 2.0}}])
@pytest.mark.parametrize(("breaking", "more", "error", "words"), [c[1:] for c in LATE], ids=[c[0] for c in LATE])
def test_nothing_is_left_on_the_model_after_an_error(
    breaking: Callable[[nn.Module], nn.Module],
    more: dict[str, Any],
    error: type[BaseException],
    words: str | None,
    options: dict[str, Any],
) -> None:
    module = breaking(tiny.make("ViT").train())
    before = tiny.fingerprint(module)
    with pytest.raises(error, match=words):
        vislab.explain(PHOTO, model=module, **options, **more)
    assert tiny.fingerprint(module) == before


def test_weights_that_become_nan_after_a_first_map_are_found() -> None:
    module = tiny.make("ViT")
    vislab.explain(PHOTO, model=module)
    with pytest.raises((ValueError, AttentionRefused), match="NaN or infinite values: look for them in the"):
        vislab.explain(PHOTO, model=with_nan(module))


def test_a_capture_around_explain_sees_what_it_did() -> None:
    module = tiny.make("ViT")
    before = tiny.fingerprint(module)
    with capture(module) as outer:
        heat = vislab.explain(PHOTO, model=module, method="cls", patch_size=4, attention_scale=2.0)
    row = outer.attention(-1, 0)[0].mean(0)[1:].reshape(8, 8)
    assert heat.values == pytest.approx(row.numpy(), abs=1e-6)
    assert tiny.fingerprint(module) == before


@pytest.mark.parametrize("more", [{"detector": "embedded"}, {"box": 0}])
def test_a_box_is_not_asked_of_a_model(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is asked of a detector: vislab\.explain_box\(image"):
        vislab.explain(PHOTO, **more)


def test_a_keyword_mistyped_by_a_letter_is_answered_with_the_right_one() -> None:
    for wrong, right in {"metod": "method", "atention_scale": "attention_scale", "discrad": "discard"}.items():
        with pytest.raises(ValueError, match=f"no option '{wrong}'.*did you mean '{right}'"):
            vislab.explain(PHOTO, **{wrong: 1})


def test_a_fovea_lies_on_the_box_that_is_found(tmp_path: Path) -> None:
    church = vislab.load_image(vislab.samples()["church"])
    heat = vislab.explain(church, method="cls", fovea="box", fovea_patches=(16, 32))
    best = vislab.detect(church)[0]
    assert heat.settings["fovea"] == (tuple(best.xyxy[0].tolist()),)  # numbers, which need no detector any more
    assert heat.facts["fovea"] == f"church {best.scores[0]:.2f}, found by the detector embedded"
    given = vislab.explain(church, method="cls", fovea=best, fovea_patches=(16, 32))
    assert np.array_equal(heat.values, given.values)
    vislab.save(tmp_path / "a.npz", heat)
    assert vislab.reproduce(tmp_path / "a.npz", image=church).differences == ()
    region = (100, 60, 960, 640)
    part = vislab.explain(church, method="cls", fovea="box", fovea_patches=(16, 32), region=region)
    x0, y0, x1, y1 = vislab.detect(church[60:640, 100:960])[0].xyxy[0].tolist()
    assert part.settings["fovea"][0] == pytest.approx((x0 + 100, y0 + 60, x1 + 100, y1 + 60))
    again = vislab.explain(church, method="cls", fovea=part.settings["fovea"], fovea_patches=(16, 32), region=region)
    assert again.values == pytest.approx(part.values, abs=1e-6)
    with pytest.raises(ValueError, match=r"it found none in this image: detect again with a lower confidence, or give"):
        vislab.explain(PHOTO, fovea="box")
