"""Laws of transformers' detectors: boxes are those of their image processor, attention is that of their eager code."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import detecting
import numpy as np
import pytest
import torch
import transformers as hf
from tiny import fingerprint
from torch import nn

import vislab
from vislab.detectors import detr

MAKERS: dict[str, Callable[..., nn.Module]] = {
    "detr": detecting.detr,
    "rt_detr": detecting.hf_rtdetr,
    "rt_detr_v2": partial(detecting.hf_rtdetr, "V2"),
    "yolos": detecting.yolos,
}
ATTENDING = {name: MAKERS[name] for name in ("detr", "yolos")}  # each layer's attention is what the network reports
SIZE = (96, 160)


@pytest.fixture(scope="module", params=MAKERS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    return MAKERS[request.param]()


def test_boxes_are_those_of_the_image_processor(network: nn.Module) -> None:
    glance = vislab.load_detector(network).glance(detecting.PHOTO, image_size=SIZE)
    processor = glance.detector.family.processor
    size = {"height": SIZE[0], "width": SIZE[1]}
    given = processor(images=torch.from_numpy(detecting.PHOTO).permute(2, 0, 1), return_tensors="pt", size=size)
    with torch.no_grad():
        output = network(given["pixel_values"])
    for confidence in (0.0, 0.3):
        [own] = processor.post_process_object_detection(output, threshold=confidence, target_sizes=[(72, 120)])
        order = own["scores"].argsort(descending=True, stable=True)
        boxes = glance.detections(confidence)
        assert len(boxes) == len(order) > (1 if confidence == 0 else -1)
        assert boxes.scores == pytest.approx(own["scores"][order].numpy(), abs=1e-6)
        assert boxes.xyxy == pytest.approx(own["boxes"][order].numpy(), abs=1e-3)
        assert boxes.labels == tuple(network.config.id2label[int(i)] for i in own["labels"][order])


def test_queries_are_those_that_made_the_boxes(network: nn.Module) -> None:
    glance = vislab.load_detector(network).glance(detecting.PHOTO, image_size=SIZE)
    boxes = glance.detections(0.0)
    made = glance._output.pred_boxes[0].numpy() * [120, 72, 120, 72]
    centres = (boxes.xyxy[:, :2] + boxes.xyxy[:, 2:]) / 2
    assert centres == pytest.approx(made[boxes.origin, :2], abs=1e-3)


def test_images_keep_their_aspect_and_their_frame() -> None:
    """By default DETR's shortest edge is 800 px, its longest 1,333; the whole image is seen."""
    family = detr.of_module(detecting.detr())
    assert family is not None
    for (height, width), model in (((30, 60), (666, 1333)), ((50, 40), (1000, 800))):
        given, frame = family.prepare(np.zeros((height, width, 3), np.uint8), None)
        assert given["pixel_values"].shape[2:] == frame.model == pytest.approx(model, abs=1)
        assert frame.to_model(width, height) == pytest.approx(frame.model[::-1])
        assert frame.to_model(0, 0) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("make", ATTENDING.values(), ids=ATTENDING)
def test_attention_is_what_the_eager_network_reports(make: Callable[..., nn.Module]) -> None:
    glance = vislab.load_detector(make()).glance(detecting.PHOTO, image_size=SIZE)
    given, _ = glance.detector.family.prepare(detecting.PHOTO, SIZE)
    with torch.no_grad():
        own = make(attn_implementation="eager")(**given, output_attentions=True)
    if make is detecting.yolos:
        reported = dict(enumerate(own.attentions))
        names = list(glance.capture.sites)
    else:
        reported = dict(enumerate([*own.encoder_attentions, *own.cross_attentions]))
        names = [f"model.encoder.layers.{i}.self_attn" for i in (0, 1)]
        names += [f"model.decoder.layers.{i}.encoder_attn" for i in (0, 1)]
    assert len(reported) == len(names)
    for n, name in enumerate(names):
        attention = glance.capture.attention(name, slice(None))
        assert attention == pytest.approx(reported[n], abs=1e-5)
        assert reported[n].std() > 1e-3


def test_a_given_network_is_left_as_it_is(network: nn.Module) -> None:
    network.train()
    before = fingerprint(network)
    free = vislab.detect(detecting.PHOTO, detector=network, image_size=SIZE, confidence=0.0)
    scaled = vislab.detect(detecting.PHOTO, detector=network, image_size=SIZE, confidence=0.0, attention_scale=0.2)
    assert fingerprint(network) == before
    network.eval()
    assert not np.array_equal(free.scores, scaled.scores)


def test_a_folder_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    network = detecting.yolos()
    network.save_pretrained(tmp_path)
    hf.YolosImageProcessor(size={"height": 32, "width": 48}).save_pretrained(tmp_path)
    found = vislab.detect(detecting.PHOTO, detector=tmp_path, confidence=0.1)
    expected = vislab.detect(detecting.PHOTO, detector=network, confidence=0.1, image_size=(32, 48))
    assert len(found) == len(expected) > 0
    assert found.xyxy == pytest.approx(expected.xyxy, abs=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nobody/nothing", "cannot load the detector 'nobody/nothing'"),
        ("nothing", "unknown detector 'nothing'"),
        (nn.Linear(2, 2), "Linear is no detector"),
        (
            hf.ViTModel(hf.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)),
            "ViTModel is no detector",
        ),
    ],
)
def test_what_is_no_detector_is_said(given: Any, message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        vislab.load_detector(given)


def test_other_families_are_refused_by_name() -> None:
    backbone = hf.ResNetConfig(**detecting.STAGES, out_features=["stage4"])
    config = hf.ConditionalDetrConfig(backbone_config=backbone, **detecting.SMALL, encoder_layers=1, num_queries=3)
    with pytest.raises(ValueError, match="ConditionalDetrForObjectDetection is none of the families read here"):
        vislab.load_detector(hf.ConditionalDetrForObjectDetection(config))
