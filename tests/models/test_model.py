"""Laws of models: the right pixels at the right places, and the right tokens."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import tiny
import torch
import torchvision
import transformers as hf
from PIL import Image
from torch import Tensor, nn

import vislab
from vislab.api import explain
from vislab.core.geometry import Grid
from vislab.figures.colours import colour_table
from vislab.figures.overlay import overlay
from vislab.models import load
from vislab.models.preprocessing import Preprocessing
from vislab.models.processor import of_processor

ODD_SIZES = [(301, 211), (97, 450), (37, 53), (640, 481)]
TRANSFORMERS = [n for n in tiny.FAMILIES if not n.startswith(("timm", "torchvision"))]
NO_MAPS = ("CLIP", "SigLIP vision", "SigLIP", "SigLIP without head", "data2vec")  # without CLS, or giving no maps out
VITS = torchvision.models.ViT_B_16_Weights


def photo(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


# ---- preprocessing: what vislab makes of a family's own, and that own ----

Pixels = Callable[[np.ndarray], Tensor]


def of_transformers(processor: Any) -> tuple[Preprocessing, Pixels]:
    how = of_processor(processor, lambda: (32, 32))
    return how, lambda image: processor(image, return_tensors="pt")["pixel_values"]


def of_torchvision(weights: Any) -> tuple[Preprocessing, Pixels]:
    preset = weights.transforms()
    with pytest.MonkeyPatch.context() as patch:
        offline_torchvision(patch)
        how = load.load(f"torchvision/{weights.__class__.__name__.removesuffix('_Weights').lower()}").preprocessing
    return how, lambda image: preset(Image.fromarray(image))[None]


def offline_torchvision(patch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A tiny model in the place of torchvision's, and the keywords its weights were asked for with."""
    asked: list[dict[str, Any]] = []

    def get_model(name: str, image_size: int) -> nn.Module:
        return torchvision.models.VisionTransformer(image_size, image_size // 2, 1, 2, 16, 16)

    def get_state_dict(weights: Any, **keywords: Any) -> dict[str, Any]:
        asked.append(keywords)
        return get_model("", weights.meta["min_size"][0]).state_dict()

    patch.setattr(torchvision.models, "get_model", get_model)
    patch.setattr(torchvision.models.WeightsEnum, "get_state_dict", get_state_dict)
    return asked


def of_timm(**config: Any) -> tuple[Preprocessing, Pixels]:
    small: dict[str, Any] = {"depth": 1, "embed_dim": 12, "num_heads": 2, "pretrained_cfg_overlay": config}
    module = timm.create_model("vit_tiny_patch16_224", **small)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(module))
    return load.load(module).preprocessing, lambda image: transform(Image.fromarray(image))[None]


BIT = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}
MOBILE = {"size": {"shortest_edge": 288}, "crop_size": {"height": 256, "width": 256}}
SAM = {"height": 256, "width": 256}
OWN_SIZE = {"size": {"shortest_edge": 224}, "resample": 3}
LARGER = {"height": 232, "width": 248}
PREPROCESSINGS: dict[str, Callable[[], tuple[Preprocessing, Pixels]]] = {
    "ViT": lambda: of_transformers(hf.ViTImageProcessor()),
    "ViT, not square": lambda: of_transformers(hf.ViTImageProcessor(size=LARGER)),
    "ViT by Pillow": lambda: of_transformers(hf.ViTImageProcessorPil()),
    "ViT, not normalised": lambda: of_transformers(hf.ViTImageProcessor(do_normalize=False)),
    "CLIP": lambda: of_transformers(hf.CLIPImageProcessor()),
    "CLIP by Pillow": lambda: of_transformers(hf.CLIPImageProcessorPil()),
    "DINOv2 (BiT)": lambda: of_transformers(hf.BitImageProcessor(**BIT)),
    "DeiT": lambda: of_transformers(hf.DeiTImageProcessor()),
    "SigLIP": lambda: of_transformers(hf.SiglipImageProcessor()),
    "BEiT": lambda: of_transformers(hf.BeitImageProcessor()),
    "BEiT, cropped": lambda: of_transformers(
        hf.BeitImageProcessor(do_center_crop=True, size={"height": 256, "width": 256})
    ),
    "DINOv3": lambda: of_transformers(hf.DINOv3ViTImageProcessor()),
    "DPT": lambda: of_transformers(hf.DPTImageProcessor()),
    "ConvNeXt, cropped by a share": lambda: of_transformers(hf.ConvNextImageProcessor(**OWN_SIZE)),
    "PoolFormer, cropped by a share": lambda: of_transformers(hf.PoolFormerImageProcessor()),
    "LeViT, resized more than it says": lambda: of_transformers(hf.LevitImageProcessor()),
    "EfficientNet, from -1 to 1": lambda: of_transformers(hf.EfficientNetImageProcessor()),
    "MobileViT, blue first": lambda: of_transformers(hf.MobileViTImageProcessor(**MOBILE)),
    "SAM, padded at the end": lambda: of_transformers(hf.SamImageProcessor(pad_size=SAM, size={"longest_edge": 256})),
    "DeepSeek-VL, padded around": lambda: of_transformers(hf.DeepseekVLImageProcessor()),
    "torchvision ViT-B/16": lambda: of_torchvision(VITS.DEFAULT),
    "torchvision ViT-L/16": lambda: of_torchvision(torchvision.models.ViT_L_16_Weights.DEFAULT),
    "torchvision ViT-H/14": lambda: of_torchvision(torchvision.models.ViT_H_14_Weights.DEFAULT),
    "timm": lambda: of_timm(),
    "timm, whole image": lambda: of_timm(crop_pct=1.0, interpolation="bilinear"),
    "timm, squashed": lambda: of_timm(crop_pct=0.95, crop_mode="squash"),
}


@pytest.mark.parametrize("name", PREPROCESSINGS)
@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_pixels_are_those_of_the_model_s_own_preprocessing(name: str, size: tuple[int, int]) -> None:
    how, own = PREPROCESSINGS[name]()
    image = 60 + photo(size) // 2  # no value that an intermediate step would cut off
    expected, (pixels, frame) = own(image), how(image)
    assert pixels.shape == expected.shape
    assert frame.model == expected.shape[2:]
    levels = ((pixels - expected) * torch.tensor(how.std)[:, None, None] * 255).abs()
    rounds_otherwise = "Pillow" in name or name.startswith(("DINOv3", "torchvision", "timm"))  # by Pillow, or in floats
    assert float(levels.max()) <= (2.01 if rounds_otherwise else 1e-3)
    assert float(levels.mean()) < 0.35


class Seer(nn.Module):
    """A Vision Transformer whose CLS attends to bright patches: brighter, the more."""

    def __new__(cls, size: tuple[int, int], patch: int) -> hf.ViTModel:  # type: ignore[misc]
        config = hf.ViTConfig(
            hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4, qkv_bias=True,
            image_size=size, patch_size=patch, layer_norm_eps=1e-12,
        )  # fmt: skip
        module = hf.ViTModel(config)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
            module.layernorm.weight.fill_(1)
            for name, part in module.named_modules():
                if name.endswith("layernorm_before"):
                    part.weight.fill_(1)
                elif name.endswith("q_proj"):
                    part.bias.copy_(torch.tensor([8.0, 0, 0, 0]))
                elif name.endswith("k_proj"):
                    part.weight.copy_(torch.eye(4))
            projection = module.embeddings.patch_embeddings.projection
            projection.weight[0], projection.weight[1] = 1 / (3 * patch**2), -1 / (3 * patch**2)
            projection.bias[2] = 3.0  # against which the normalisation measures brightness
            projection.bias[3] = -3.0
        return module


def scene(how: Preprocessing, size: tuple[int, int], grid: Grid, cell: tuple[int, int]) -> np.ndarray:
    """A black photograph, white where the patch is: in the source pixels whose centres lie in its box."""
    frame = how.frame(size)
    x0, y0, x1, y1 = frame.box_to_source(grid.box(*cell))
    ys, xs = np.mgrid[: size[0], : size[1]] + 0.5
    lit = (xs >= x0) & (xs < x1) & (ys >= y0) & (ys < y1)
    return np.where(lit, 255, 0).astype(np.uint8)[..., None].repeat(3, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", PREPROCESSINGS)
@pytest.mark.parametrize("size", [(301, 211), (180, 450), (640, 481)], ids=str)
def test_one_lit_patch_is_seen_and_drawn_where_it_is(name: str, size: tuple[int, int]) -> None:
    """The central law: photograph -> the model's own pixels -> attention -> overlay comes back to the same pixels."""
    how, own = PREPROCESSINGS[name]()
    patch = 40
    module = Seer(how.size, patch)
    model = replace(load.load(module), preprocessing=how)
    grid = model.grid()
    for cell in [(0, 0), (1, 3), (grid.rows - 1, grid.cols - 1), (grid.rows // 2, 0)]:
        image = scene(how, size, grid, cell)
        if not image.any():  # in the padding
            continue
        heat = explain.explain(image, model=model, method="cls")
        assert np.unravel_index(heat.values.argmax(), heat.values.shape) == cell
        drawn = overlay(heat, image=image, opacity=1)
        brightest = colour_table("viridis")[-1]
        assert np.array_equal((drawn == brightest).all(2), image[..., 0] == 255)

        theirs = own(image).mean(1)[0, : grid.rows * patch, : grid.cols * patch]  # and the model's own code agrees
        means = theirs.unflatten(0, (grid.rows, patch)).unflatten(2, (grid.cols, patch)).mean((1, 3))
        assert np.unravel_index(int(means.argmax()), means.shape) == cell


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (20_000, 30)], ids=str)
@pytest.mark.parametrize("mode", ["stretch", "crop"])
def test_extreme_photographs_are_seen(size: tuple[int, int], mode: Any) -> None:
    pixels, frame = Preprocessing((32, 32), mode, 1.1)(np.full((*size, 3), 255, np.uint8))
    assert pixels.shape == (1, 3, 32, 32)
    assert torch.allclose(pixels, torch.ones(()))
    assert frame.source == size


def test_a_photograph_too_long_to_cover_the_input_is_refused() -> None:
    with pytest.raises(ValueError, match="an image of 20000×1 px is too long for a model that sees the centre of it"):
        Preprocessing((224, 224), "crop")(np.zeros((1, 20_000, 3), np.uint8))
    with pytest.raises(ValueError, match="20000×30000 px are more than any image may have: take a smaller image_size"):
        Preprocessing((224, 224)).frame((50, 70), (30_000, 20_000))


def test_preprocessing_that_cannot_be_followed_is_refused() -> None:
    processor = hf.BitImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 192})
    with pytest.raises(ValueError, match=r"cuts \(224, 192\) out of \(256, 256\)"):
        of_transformers(processor)
    with pytest.raises(ValueError, match="wants its images padded"):
        of_timm(crop_mode="border")
    for change, words in {
        "mirrored": (lambda x: x.flip(-1), "prepares pictures in a way that vislab does not follow"),
        "grey": (lambda x: x.mean(1, keepdim=True).expand(-1, 3, -1, -1), "mixes colours"),
        "pairs": (lambda x: x["no such key"], r"does not prepare one picture alone \("),
    }.values():
        with pytest.raises(ValueError, match=words + ".*vislab.load\\(module, processor=…\\)"):
            of_transformers(Changed(change))
    tiles = Changed(lambda x: torch.cat([x, x]))
    assert of_processor(tiles, lambda: (32, 32)) == of_processor(hf.ViTImageProcessor(), lambda: (32, 32))


class Changed(hf.ViTImageProcessor):
    """A processor that does one thing more than it says."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._change = change

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return {"pixel_values": self._change(super().__call__(*args, **kwargs)["pixel_values"])}


# ---- families ----


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_tokens_are_told_apart(family: str) -> None:
    module, facts = tiny.make(family), tiny.FAMILIES[family]
    model = load.load(module)
    assert (model.prefix, model.suffix, model.cls) == (facts.prefix, facts.suffix, facts.cls)
    assert (model.layers, model.heads) == (2, 2 if family == "timm DINOv3" else 4)
    image, before = photo((50, 70)), tiny.fingerprint(module)
    for method, options in [("cls", {}), ("rollout", {}), ("attention", {"query": (20, 30)})]:
        heat = explain.explain(image, model=model, method=method, **options)
        assert heat.values.shape == (model.grid().rows, model.grid().cols)
        assert 0 < heat.values.sum() < 1.001
        assert heat.values.std() > 1e-3
    assert heat.query == f"patch {heat.cell_at(20, 30)}"
    assert tiny.fingerprint(module) == before


@pytest.mark.parametrize("family", [n for n in TRANSFORMERS if n not in NO_MAPS])
@pytest.mark.parametrize("image_size", [None, (48, 80)])
def test_cls_is_the_row_of_the_model_s_own_eager_attention(family: str, image_size: tuple[int, int] | None) -> None:
    model, image = load.load(tiny.make(family)), photo((50, 70))
    heat = explain.explain(image, model=model, method="cls", image_size=image_size)
    module, size = model.module.eval(), image_size or model.preprocessing.size
    module.set_attn_implementation("eager")
    pixels, _ = model.preprocessing(image, size)
    with torch.no_grad():
        maps = module(pixels, output_attentions=True, **model._arguments(size, heat.grid)).attentions
    row = maps[-1][0, :, 0].mean(0)
    assert row.shape == (heat.grid.tokens,)
    patches = row[model.prefix : model.prefix + heat.grid.patches].reshape(heat.values.shape)
    assert torch.allclose(torch.tensor(heat.values), patches, atol=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_non_square_input_is_taken_or_refused_by_name(family: str) -> None:
    model = load.load(tiny.make(family))
    if model.resizable or family.startswith(tiny.ANY_SIZE):
        side = model.patch[0]
        grid = explain.explain(photo((50, 70)), model=model, method="cls", image_size=(8 * side, 3 * side)).grid
        assert (grid.rows, grid.cols) == (8, 3)
        with pytest.raises(
            ValueError, match=f"patches of {side} px do not fill an input of {8 * side}×{3 * side + 1} px"
        ):
            model.grid((8 * side, 3 * side + 1))
    else:
        with pytest.raises(ValueError, match=rf"{model.name} takes \d+×\d+ px only, not 64×24: leave image_size out"):
            model.grid((64, 24))


def test_a_model_made_for_non_square_input_sees_it() -> None:
    """transformers would take the root of its patch count for the grid's side, where it interpolates positions."""
    model = load.load(tiny.roughened(hf.ViTModel(hf.ViTConfig(**tiny.VIT | {"image_size": (16, 64)}))))
    assert explain.explain(photo((50, 70)), model=model, method="cls").values.shape == (2, 8)
    with pytest.raises(ValueError, match="takes 16×64 px only"):
        model.grid(32)
    with pytest.raises(ValueError, match="keeps its patches of 8 px"):
        model.grid(patch_size=4)


def test_masked_patches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"drops 75% of its patches: set config.mask_ratio = 0"):
        load.load(hf.ViTMAEModel(hf.ViTMAEConfig(**tiny.VIT)))
    module = tiny.make("MAE")
    model = load.load(module)
    module.config.mask_ratio = module.embeddings.config.mask_ratio = 0.75
    with pytest.raises(ValueError, match=r"attends over 5 tokens, and the input makes 4 × 4 \+ 1 = 17 tokens"):
        explain.explain(photo((50, 70)), model=model)


def test_mae_sees_all_patches_in_order() -> None:
    """Its encoder shuffles patches by a random noise; the one given keeps them."""
    model, image = load.load(tiny.make("MAE")), photo((50, 70))
    maps = [explain.explain(image, model=model, method="cls").values for _ in range(2)]
    assert np.array_equal(*maps)
    with torch.no_grad():
        out = model.module(torch.zeros(1, 3, 32, 32), **model._arguments((32, 32), model.grid()))
    assert out.ids_restore[0].tolist() == list(range(16))


def test_a_given_module_keeps_its_mode() -> None:
    module = tiny.make("ViT classifier").train()
    module.vit.layers[1].eval()
    before = tiny.fingerprint(module)
    model = load.load(module)
    first, second = (model.run(photo((9, 9))).logits for _ in range(2))
    assert first.equal(second)
    assert tiny.fingerprint(module) == before


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64", torch.bfloat16])
def test_a_model_runs_in_the_dtype_asked_for(dtype: Any) -> None:
    exact = explain.explain(photo((50, 70)), model=load.load(tiny.make("DINOv3")))
    model = load.load(tiny.make("DINOv3"), dtype=dtype)
    assert str(model.dtype).removeprefix("torch.") == str(dtype).removeprefix("torch.")
    heat = explain.explain(photo((50, 70)), model=model)
    assert heat.values == pytest.approx(exact.values, rel=1e-4 if "32" in str(dtype) or "64" in str(dtype) else 0.1)


# ---- sizes ----


@pytest.mark.parametrize("size", [True, 32.0, -32, 0, "32", (32,), (32, 32, 32), (32, -8), (32, 16.0), None])
def test_impossible_image_sizes_are_refused(size: Any) -> None:
    model = load.load(tiny.make("ViT"))
    if size is None:
        assert model.grid(size) == Grid(4, 4, (8, 8), 1)
    else:
        with pytest.raises(ValueError, match=r"image_size is a number of pixels or \(height, width\), not"):
            model.grid(size)


def test_numbers_of_numpy_are_numbers() -> None:
    """What comes of them is what comes of plain ones, and what is kept of them is plain."""
    model = load.load(tiny.make("ViT classifier"))
    plain = explain.explain(photo((50, 70)), model=model, method="cls", layer=1, head=2, image_size=48, patch_size=4)
    layer, head, patch, side = np.array([1, 2, 4, 48])
    heat = explain.explain(
        photo((50, 70)), model=model, method="cls", layer=layer, head=head, image_size=side, patch_size=patch
    )
    assert np.array_equal(heat.values, plain.values)
    assert repr(heat.grid) == repr(plain.grid)
    assert repr(heat.frame) == repr(plain.frame)
    assert repr(model.input_size((side, side))) == "(48, 48)"
    assert repr(model.class_index(np.argmax([0, 0, 1]))) == "2"
    scaled = [model.run(photo((9, 9)), attention_scale=s).logits for s in ({-1: 0.5}, {np.int64(-1): np.float32(0.5)})]
    assert scaled[0].equal(scaled[1])


@pytest.mark.parametrize("patch", [True, np.True_, 8.0, 0, -8, "8"])
def test_impossible_patch_sizes_are_refused(patch: Any) -> None:
    with pytest.raises(ValueError, match="patch_size is a whole number of pixels above 0, not"):
        load.load(tiny.make("ViT")).grid(patch_size=patch)


def test_patches_that_do_not_fill_the_input_are_refused_with_those_that_do() -> None:
    model = load.load(tiny.make("ViT"))
    with pytest.raises(ValueError, match="a patch of 64×64 px is larger than the input of 32×32 px"):
        model.grid(patch_size=64)
    with pytest.raises(ValueError, match="do not fill an input") as refused:
        model.grid((48, 60), 16)
    sides, patches = (re.findall(r"\d+", part) for part in str(refused.value).split(": take ")[1].split("patch_size"))
    assert sides == ["48", "64"]
    for side in map(int, sides):
        model.grid(side, 16)
    for patch in map(int, patches):
        model.grid((48, 60), patch)


@pytest.mark.parametrize("family", ["ViT", "BEiT", "YOLOS"])
@pytest.mark.parametrize("patch", [None, 16])
def test_a_forecast_that_does_not_fit_names_a_size_that_does(
    family: str, patch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if family == "YOLOS":
        patch = None
    model, image = load.load(tiny.make(family)), photo((50, 70))
    monkeypatch.setattr("vislab.models.placed.free_memory", lambda device: 3_000_000)
    with pytest.raises(MemoryError, match=r"would need about .* GB, and 0.003 GB are free on cpu") as refused:
        explain.explain(image, model=model, image_size=(960, 1600), patch_size=patch)
    side = int(re.search(r"image_size of at most (\d+) px", str(refused.value))[1])
    assert side >= 32
    assert explain.explain(image, model=model, image_size=side, patch_size=patch).grid.rows == side // (patch or 8)
    with pytest.raises(MemoryError):
        explain.explain(image, model=model, image_size=side + (patch or 8), patch_size=patch)
    monkeypatch.setattr("vislab.models.placed.free_memory", lambda device: 10)
    with pytest.raises(MemoryError, match="none would fit"):
        explain.explain(image, model=model)


# ---- classes ----


def test_a_model_without_classifier_names_nothing() -> None:
    with pytest.raises(ValueError, match=r"ViTModel has no classifier: what it returns are features"):
        load.load(tiny.make("ViT")).predict(photo((9, 9)))


def test_both_heads_of_deit_are_named() -> None:
    assert len(load.load(tiny.make("DeiT with teacher")).predict(photo((9, 9)), top=9)) == 5


@pytest.mark.parametrize("size", [10**31, (10_001, 10_000), (1, 10**9)])
def test_a_size_larger_than_any_picture_is_refused_at_once(size: Any) -> None:
    model = vislab.load("embedded")
    begun = time.process_time()
    for asked in (model.grid, model.input_size):
        with pytest.raises(ValueError, match="larger than any picture: the limit is 100 million pixels") as refused:
            asked(image_size=size)
        assert len(str(refused.value)) < 300
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("target", [np.arange(3.0), [0], {"a": 1}, float("nan"), "x" * 5000, True])
def test_a_target_of_another_kind_is_no_class(target: Any) -> None:
    with pytest.raises(ValueError, match="embedded knows no class") as refused:
        vislab.load("embedded").class_index(target)
    assert len(str(refused.value)) < 1000


def test_a_class_of_python_is_no_target() -> None:
    with pytest.raises(ValueError, match="target is the class int of Python"):
        vislab.explain(photo((40, 48)), model="embedded", method="relevance", target=int)


@pytest.mark.parametrize("top", [-1, "x", True, 1.5])
def test_a_number_of_classes_is_whole(top: Any) -> None:
    with pytest.raises(ValueError, match="top is a whole number from 0, not"):
        vislab.load("embedded").predict(photo((40, 48)), top=top)
