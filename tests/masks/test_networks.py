"""Segmentation models: masks are those of each library's own post-processing, on the right pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import transformers as hf
from segmenting import SIDE, mask2former, segformer
from torch import nn
from torchvision.transforms._presets import SemanticSegmentation

import vislab
from vislab.core.geometry import Frame
from vislab.masks import networks
from vislab.masks.networks import segmenter_of
from vislab.masks.seen import seen_frame, whole

PHOTO = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
NORM = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def test_semantic_masks_are_those_of_the_processor() -> None:
    module, processor = segformer(), hf.SegformerImageProcessor(**SIDE)
    masks = vislab.segment(PHOTO, model=module, processor=processor)
    with torch.no_grad():
        output = module(**processor(images=PHOTO, return_tensors="pt"))
    (own,) = processor.post_process_semantic_segmentation(output, target_sizes=[(60, 80)])
    assert len(masks) == len(own.unique()) > 1
    for label, mask, score in zip(masks.labels, masks.masks, masks.scores, strict=True):
        assert np.array_equal(mask, own.numpy() == int(label[1:]))
        assert score == pytest.approx(mask.mean())
    assert (np.diff(masks.scores) <= 0).all()
    assert str(masks).endswith("by semantic segmentation; model SegformerForSemanticSegmentation; "
                               "scores: share of the picture")  # fmt: skip


@pytest.mark.parametrize("kind", ["semantic", "instance", "panoptic"])
def test_masks_of_queries_are_those_of_the_processor(kind: str) -> None:
    module, processor = mask2former(), hf.Mask2FormerImageProcessor(**SIDE)
    masks = vislab.segment(PHOTO, model=module, processor=processor, method=kind)
    with torch.no_grad():
        output = module(**processor(images=PHOTO, return_tensors="pt"))
    (own,) = getattr(processor, f"post_process_{kind}_segmentation")(output, target_sizes=[(60, 80)])
    if kind == "semantic":
        union = sum(mask * int(label.split("_")[1]) for label, mask in zip(masks.labels, masks.masks, strict=True))
        assert np.array_equal(union, own.numpy())
        return
    there = [one for one in own["segments_info"] if (own["segmentation"] == one["id"]).any()]
    assert len(masks) == len(there) > 0
    assert masks.scores.tolist() == pytest.approx(sorted((one["score"] for one in there), reverse=True))
    for one in there:
        mask = own["segmentation"].numpy() == one["id"]
        assert any(np.array_equal(mask, found) for found in masks.masks)


def dpt() -> nn.Module:
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
    small |= {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 8}
    names = {i: f"c{i}" for i in range(6)}
    module = hf.DPTForSemanticSegmentation(hf.DPTConfig(**small, image_size=64, patch_size=16, id2label=names)).eval()
    with torch.no_grad():
        module.head.head[4].weight.normal_(std=2)
    return module


@pytest.mark.parametrize("padded", [False, True])
def test_masks_of_a_dpt_are_those_of_its_processor(padded: bool) -> None:
    module, processor = dpt(), hf.DPTImageProcessor(**SIDE, do_pad=padded, size_divisor=48)
    masks = vislab.segment(PHOTO, model=module, processor=processor)
    inputs = processor(images=PHOTO, return_tensors="pt")
    with torch.no_grad():
        output = module(**inputs)
    height, width = inputs["pixel_values"].shape[2:]
    (own,) = processor.post_process_semantic_segmentation(
        output, target_sizes=[(height, width) if padded else (60, 80)]
    )
    classes = own.numpy()
    if padded:  # 64 px in the middle of 96: what lies there of each source pixel's centre
        assert (height, width) == (96, 96)
        rows, cols = ((16 + (np.arange(side) + 0.5) * 64 / side).astype(int) for side in (60, 80))
        classes = classes[np.ix_(rows, cols)]
    assert len(masks) == len(np.unique(classes)) > 1
    for label, mask in zip(masks.labels, masks.masks, strict=True):
        assert np.array_equal(mask, classes == int(label[1:]))


def oneformer(folder: Path) -> tuple[nn.Module, Any]:
    """A random OneFormer, and its processor, whose class file and words lie in a folder."""
    torch.manual_seed(2)  # of these weights, queries win regions of each kind
    backbone = hf.SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, image_size=64, window_size=4)
    backbone.out_features = ["stage1", "stage2", "stage3", "stage4"]
    small = {"conv_dim": 32, "mask_dim": 32, "hidden_dim": 32, "encoder_feedforward_dim": 16, "dim_feedforward": 16}
    small |= {"num_queries": 8, "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_labels": 5}
    words = ["<|startoftext|>", "<|endoftext|>", *(f"{word}</w>" for word in ("the", "task", "is", *networks.KINDS))]
    text = {"text_encoder_width": 16, "text_encoder_num_layers": 1, "text_encoder_vocab_size": 64, "task_seq_len": 8}
    module = hf.OneFormerForUniversalSegmentation(hf.OneFormerConfig(backbone_config=backbone, **small, **text)).eval()
    with torch.no_grad():
        module.model.transformer_module.decoder.class_embed.weight.normal_(std=3)
        module.model.transformer_module.decoder.mask_embed.layers[-1].layers[0].weight.normal_(std=30)
    classes = {str(i): {"name": f"c{i}", "isthing": i % 2} for i in range(5)}
    (folder / "classes.json").write_text(json.dumps(classes))
    images = hf.OneFormerImageProcessor(**SIDE, repo_path=str(folder), class_info_file="classes.json", num_text=4)
    letters = sorted({letter for word in words for letter in word})
    vocabulary = {word: i for i, word in enumerate([*words[:2], *letters, *(f"{c}</w>" for c in letters), *words[2:]])}
    tokenizer = hf.CLIPTokenizer(vocab=dict(list(vocabulary.items())[:64]), merges=[])
    return module, hf.OneFormerProcessor(images, tokenizer, max_seq_length=8, task_seq_length=8)


@pytest.mark.parametrize("kind", ["semantic", "instance", "panoptic"])
def test_masks_of_a_oneformer_are_those_of_its_processor_for_the_task_asked(kind: str, tmp_path: Path) -> None:
    module, processor = oneformer(tmp_path)
    masks = vislab.segment(PHOTO, model=module, processor=processor, method=kind)
    with torch.no_grad():
        output = module(**processor(images=PHOTO, task_inputs=[kind], return_tensors="pt"))
    (own,) = getattr(processor, f"post_process_{kind}_segmentation")(output, target_sizes=[(60, 80)])
    if kind == "semantic":
        union = sum(mask * int(label.split("_")[1]) for label, mask in zip(masks.labels, masks.masks, strict=True))
        assert len(masks) > 1
        assert np.array_equal(union, own.numpy())
        for part in (module, processor):
            part.save_pretrained(tmp_path)
        assert np.array_equal(vislab.segment(PHOTO, model=tmp_path, method=kind).masks, masks.masks)
        with pytest.raises(ValueError, match="OneFormerForUniversalSegmentation is told its task in words"):
            vislab.segment(PHOTO, model=module, processor=processor.image_processor)
        return
    there = [one for one in own["segments_info"] if (own["segmentation"] == one["id"]).any()]
    assert len(masks) == len(there) > 0
    for one in there:
        mask = own["segmentation"].numpy() == one["id"]
        assert any(np.array_equal(mask, found) for found in masks.masks)


@pytest.mark.parametrize("make", ["fcn_resnet50", "deeplabv3_mobilenet_v3_large"])
def test_masks_of_torchvision_are_the_argmax_of_its_output(make: str) -> None:
    module = torchvision.models.get_model(make, weights=None, weights_backbone=None, num_classes=4)
    transforms = SemanticSegmentation(resize_size=None)
    masks = vislab.segment(PHOTO, model=module, processor=transforms)
    assert module.training
    with torch.no_grad():
        own = module.eval()(transforms(torch.from_numpy(PHOTO).permute(2, 0, 1))[None])["out"][0].argmax(0)
    assert {int(label.split()[1]) for label in masks.labels} == set(own.unique().tolist())
    for label, mask in zip(masks.labels, masks.masks, strict=True):
        assert np.array_equal(mask, own.numpy() == int(label.split()[1]))


class Colours(nn.Module):
    """Red pixels are class 1, all else class 0: what it says of a pixel tells where it saw it."""

    def __init__(self) -> None:
        super().__init__()
        self.config = hf.PretrainedConfig(id2label={0: "grey", 1: "red"})
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, pixel_values: torch.Tensor, pixel_mask: Any = None) -> Any:
        red = pixel_values[:, :1] - pixel_values[:, 1:2]
        return hf.modeling_outputs.SemanticSegmenterOutput(logits=torch.cat([0.5 - red, red - 0.5], 1))


class ColoursForSemanticSegmentation(Colours):
    pass


class Padded(hf.SegformerImageProcessor):
    """Resized to 48 px in height, and padded with black to a square of 96, the picture in its lower right."""

    def __call__(self, images: Any, **options: Any) -> Any:
        made = super().__call__(images, size={"height": 48, "width": 72}, **options)
        made["pixel_values"] = nn.functional.pad(made["pixel_values"], (24, 0, 48, 0))
        return made


CROPPING = hf.MobileViTImageProcessor(
    size={"shortest_edge": 80}, do_center_crop=True, crop_size={"height": 64, "width": 64}, do_flip_channel_order=False
)


@pytest.mark.parametrize("processor", [Padded(**NORM), CROPPING], ids=["padded", "cropped"])
def test_masks_lie_on_the_right_pixels_of_cropped_and_padded_pictures(processor: Any) -> None:
    scene = np.full((120, 180, 3), 128, np.uint8)
    scene[35:75, 60:140] = (255, 0, 0)
    masks = vislab.segment(scene, model=ColoursForSemanticSegmentation(), processor=processor)
    red = masks[masks.labels.index("red")]
    found = red.boxes[0]
    assert np.abs(found - [60, 35, 140, 75]).max() <= 180 / 64
    square = np.zeros((120, 180), bool)
    square[35:75, 60:140] = True
    assert red.iou(square)[0, 0] > 0.93
    seen = masks.masks.any(0)
    assert seen.all() == isinstance(processor, Padded)


@pytest.mark.parametrize("source", [(120, 180), (97, 61), (333, 40)])
def test_frames_are_found_by_running_the_processor(source: tuple[int, int]) -> None:
    def frame(processor: Any) -> Frame:
        return seen_frame(lambda x: processor(images=x, return_tensors="pt")["pixel_values"], source, "it")

    assert frame(hf.SegformerImageProcessor(**SIDE)) == Frame.stretch(source, (64, 64))
    assert whole(frame(hf.SegformerImageProcessor(**SIDE)))
    padded = frame(Padded(**NORM))
    assert padded == Frame(source, (96, 96), (48 / source[0], 72 / source[1]), (48.0, 24.0))
    assert not whole(padded)
    resized = [int(side * 80 / min(source)) for side in source]
    expected = Frame.crop(source, (resized[0], resized[1]), (64, 64))
    found = frame(CROPPING)
    for x, y in ((0, 0), (64, 64)):
        assert found.to_source(x, y) == pytest.approx(expected.to_source(x, y), abs=1.5 * max(source) / 64)


def test_pictures_in_tiles_or_turned_are_refused() -> None:
    def run(change: Any, source: tuple[int, int] = (64, 64)) -> None:
        seen_frame(lambda x: change(torch.from_numpy(x).permute(2, 0, 1)[None].float()), source, "it")

    for change in (lambda x: x.flip(3), lambda x: x.mT, lambda x: torch.cat([x[..., 32:], x[..., :32]], 3)):
        with pytest.raises(ValueError, match="does not follow"):
            run(change)
    with pytest.raises(ValueError, match="for one picture, such as tiles"):
        run(lambda x: x.unflatten(3, (2, 32)).permute(0, 3, 1, 2, 4).flatten(0, 1))
    with pytest.raises(ValueError, match="too little of this image"):
        run(lambda x: x * 0)
    with pytest.raises(ValueError, match="too small to tell"):
        run(lambda x: x, (4, 64))


def test_what_a_segmenter_cannot_do_is_said() -> None:
    module, processor = segformer(), hf.SegformerImageProcessor(**SIDE)
    for says, options in {
        "gives semantic masks, not panoptic": {"method": "panoptic"},
        "leave refine out": {"refine": True},
        "leave image_size out": {"image_size": 64},
        "leave clusters out": {"clusters": 3},
    }.items():
        with pytest.raises(ValueError, match=says):
            vislab.segment(PHOTO, model=module, processor=processor, **options)
    with pytest.raises(ValueError, match="nothing says how Segformer"):
        vislab.segment(PHOTO, model=module)
    with pytest.raises(ValueError, match="has no post-processing for masks"):
        vislab.segment(PHOTO, model=module, processor=hf.ViTImageProcessor())
    with pytest.raises(ValueError, match="torchvision has no segmentation model 'unet': it has deeplabv3"):
        vislab.segment(PHOTO, model="torchvision/unet")
    module.decode_head.classifier = nn.Conv2d(3, 6, 1)
    with pytest.raises(ValueError, match="does not run on this picture"):
        vislab.segment(PHOTO, model=module, processor=processor)


def test_folders_and_pipelines_are_loaded(tmp_path: Path) -> None:
    module, processor = segformer(), hf.SegformerImageProcessor(**SIDE)
    module.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    expected = vislab.segment(PHOTO, model=module, processor=processor)
    pipeline = hf.pipeline("image-segmentation", model=module, image_processor=processor)
    for masks in (vislab.segment(PHOTO, model=tmp_path), vislab.segment(PHOTO, model=pipeline)):
        assert np.array_equal(masks.masks, expected.masks)
        assert masks.labels == expected.labels
    assert segmenter_of(networks.SEGMENTERS.once((str(tmp_path), networks.saved(tmp_path)), lambda: None)) is not None  # type: ignore[arg-type,return-value]
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(OSError, match="cannot load"):
        vislab.segment(PHOTO, model=tmp_path)
