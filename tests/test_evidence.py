"""Laws of what a box rests on: the attention of the cells or the query behind it, and the gradient of its score."""

from __future__ import annotations

import math
from typing import Any

import detecting
import numpy as np
import pytest
import torch

import vislab
from vislab import evidence
from vislab.detectors import Glance

SIZE = (96, 160)


def glance_of(network: Any) -> Glance:
    return vislab.load_detector(network).glance(detecting.PHOTO, image_size=SIZE)


@pytest.fixture(scope="module")
def yolo12() -> Glance:
    return glance_of(detecting.yolo("yolo12n"))


@pytest.fixture(scope="module")
def detr() -> Glance:
    return glance_of(detecting.detr())


@pytest.fixture(scope="module")
def yolos() -> Glance:
    return glance_of(detecting.yolos())


@pytest.mark.parametrize("layer", range(8))
@pytest.mark.parametrize("point", [(0, 0), (119.5, 71.5), (60, 20)])
def test_a_point_attends_as_the_cell_over_it(yolo12: Glance, layer: int, point: tuple[float, float]) -> None:
    heat = evidence.heatmap(yolo12, point=point, layer=layer, head=1)
    stride = 16 if layer < 4 else 32
    x, y = point[0] * 160 / 120, point[1] * 96 / 72  # 72 × 120 px fill 96 × 160
    row, col = int(y // stride), int(x // stride)
    assert heat.grid.patch == (stride, stride)
    assert heat.cell_at(*point) == (row, col)
    assert heat.query == f"cell ({row}, {col}) of stride {stride}"
    attention = yolo12.capture.attention(layer, row * (160 // stride) + col)[0, 1]
    assert heat.values == pytest.approx(attention.reshape(96 // stride, 160 // stride).numpy(), abs=1e-7)


@pytest.mark.parametrize("layer", [0, -1])
def test_a_box_attends_as_the_cells_behind_it(yolo12: Glance, layer: int) -> None:
    """A smaller cell lies in one of the site's; a larger one over several, whose mean it is."""
    boxes = yolo12.detections(0.001)
    seen = set()
    for i in range(len(boxes)):
        level, row, col = boxes.cell(i)
        if level in seen:
            continue
        seen.add(level)
        heat = evidence.heatmap(yolo12, box=i, layer=layer, head="max")
        stride, own = heat.grid.patch[0], 8 * 2**level
        cells = [
            (r, c)
            for r in range(heat.grid.rows)
            for c in range(heat.grid.cols)
            if _overlap(r * stride, stride, row * own, own) and _overlap(c * stride, stride, col * own, own)
        ]
        assert len(cells) == max(1, own // stride) ** 2
        rows = yolo12.capture.attention(layer, [r * heat.grid.cols + c for r, c in cells])[0]
        assert heat.values.ravel() == pytest.approx(rows.mean(1).amax(0).numpy(), abs=1e-7)
        assert heat.query == f"box {i}: {boxes.label[i]} {boxes.score[i]:.2f}, cell ({row}, {col}) of stride {own}"
    assert seen == {0, 1, 2}


def _overlap(start: int, length: int, other: int, span: int) -> bool:
    return start < other + span and other < start + length


def test_the_index_of_a_box_does_not_depend_on_the_confidence(yolo12: Glance) -> None:
    faint, sure = yolo12.detections(0.001), yolo12.detections(0.6)
    assert 1 < len(sure) < len(faint)
    assert np.array_equal(faint.origin[: len(sure)], sure.origin)
    for i in (0, len(sure) - 1, len(sure), len(faint) - 1):
        assert faint.label[i] in str(evidence.heatmap(yolo12, box=i).query)
    with pytest.raises(IndexError, match=f"no box {len(faint)}: yolo12n.yaml found {len(faint)} boxes"):
        evidence.heatmap(yolo12, box=len(faint))


def test_layers_are_named_numbered_or_meant(yolo12: Glance) -> None:
    names = [place.site.name for place in evidence.places(yolo12)]
    by_name, by_index = (evidence.heatmap(yolo12, point=(5, 5), layer=layer) for layer in (names[2], 2))
    assert np.array_equal(by_name.values, by_index.values)
    with pytest.raises(ValueError, match=r"attends on several grids \(6×10, 3×5\), whose mean is no map"):
        evidence.heatmap(yolo12, point=(5, 5), layer="mean")
    with pytest.raises(ValueError, match="layers run from 0 to 7"):
        evidence.heatmap(yolo12, point=(5, 5), layer=8)
    with pytest.raises(KeyError, match=r"no site 'model\.1' was captured"):
        evidence.heatmap(yolo12, point=(5, 5), layer="model.1")


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_other_attention_is_read_likewise(name: str) -> None:
    glance = glance_of(detecting.yolo(name))
    heat = evidence.heatmap(glance, point=(60, 36))
    attention = glance.capture.attention(-1, 1 * 5 + 2)[0].mean(0)
    assert heat.values == pytest.approx(attention.reshape(3, 5).numpy(), abs=1e-7)
    mean = evidence.heatmap(glance, point=(60, 36), layer="mean")
    every = [glance.capture.attention(site, 7)[0].mean(0) for site in glance.capture.layers]
    assert mean.values.ravel() == pytest.approx(torch.stack(every).mean(0).numpy(), abs=1e-7)


# ---- queries ----


@pytest.mark.parametrize("layer", [0, 1])
def test_a_box_of_detr_is_its_querys_cross_attention(detr: Glance, layer: int) -> None:
    boxes = detr.detections(0.001)
    for i in range(len(boxes)):
        heat = evidence.heatmap(detr, box=i, layer=layer, head=2)
        expected = detr.capture.attention(f"model.decoder.layers.{layer}.encoder_attn", int(boxes.origin[i]))[0, 2]
        assert heat.values.shape == (3, 5)
        assert heat.values.ravel() == pytest.approx(expected.numpy(), abs=1e-7)
        assert str(heat.query).endswith(f"query {boxes.origin[i]}")
    assert len(set(boxes.origin.tolist())) == len(boxes) > 1


@pytest.mark.parametrize("size", [(96, 160), (70, 100), (33, 65)])
def test_a_point_of_detr_is_its_encoders_attention(size: tuple[int, int]) -> None:
    """Also where the map reaches beyond the input: its sides are halved five times, rounded up."""
    glance = vislab.load_detector(detecting.detr()).glance(detecting.PHOTO, image_size=size)
    heat = evidence.heatmap(glance, point=(119, 71), layer=0)
    rows, cols = (math.ceil(side / 32) for side in size)
    assert heat.values.shape == (rows, cols)
    assert heat.cell_at(119, 71) == (rows - 1, cols - 1)
    expected = glance.capture.attention("model.encoder.layers.0.self_attn", rows * cols - 1)[0].mean(0)
    assert heat.values.ravel() == pytest.approx(expected.numpy(), abs=1e-7)


def test_as_many_queries_as_cells_are_not_mixed_up() -> None:
    network = detecting.detr()
    size = (32, 7 * 32)  # 7 cells, and 7 queries
    glance = vislab.load_detector(network).glance(detecting.PHOTO, image_size=size)
    names = [place.site.name for place in evidence.places(glance)]
    assert names == [f"model.{part}" for part in _ATTENTION]


_ATTENTION = [f"encoder.layers.{i}.self_attn" for i in (0, 1)] + [f"decoder.layers.{i}.encoder_attn" for i in (0, 1)]


@pytest.mark.parametrize("layer", [0, 1])
def test_detection_tokens_are_not_mixed_with_patches(yolos: Glance, layer: int) -> None:
    """12 × 20 patches after CLS, five detection tokens after them."""
    boxes = yolos.detections(0.001)
    for i in range(len(boxes)):
        heat = evidence.heatmap(yolos, box=i, layer=layer)
        expected = yolos.capture.attention(layer, 1 + 240 + int(boxes.origin[i]))[0].mean(0)[1:241]
        assert heat.values.ravel() == pytest.approx(expected.numpy(), abs=1e-7)
    point = evidence.heatmap(yolos, point=(119, 71), layer=layer)
    expected = yolos.capture.attention(layer, 240)[0].mean(0)[1:241]
    assert point.values.ravel() == pytest.approx(expected.numpy(), abs=1e-7)


@pytest.mark.parametrize("make", [detecting.rtdetr, detecting.hf_rtdetr])
def test_deformable_attention_is_refused_with_the_reason(make: Any) -> None:
    glance = glance_of(make())
    with pytest.raises(ValueError, match=r"deformable attention, which samples a few points .* no map of it"):
        evidence.heatmap(glance, box=0)
    assert glance.frame.model == SIZE
    heat = evidence.heatmap(glance, point=(60, 36))
    [encoder] = [place.site for place in evidence.places(glance)]
    expected = glance.capture.attention(encoder, 1 * 5 + 2)[0].mean(0)
    assert heat.values.ravel() == pytest.approx(expected.numpy(), abs=1e-7)
    with pytest.raises(ValueError, match="made by queries, not by cells"):
        evidence.heatmap(glance, box=0, method="grad_cam")


# ---- gradients ----


@pytest.mark.parametrize("name", ["yolov8n", "yolo12n"])
def test_grad_cam_is_that_of_the_whole_network(name: str) -> None:
    """Held against gradients through the network itself, from the box's score to the maps that its head is given."""
    glance = glance_of(detecting.yolo(name))
    boxes = glance.detections(0.001)
    module = glance.detector.module
    given, _ = glance.detector.family.prepare(detecting.PHOTO, SIZE)
    seen: list[torch.Tensor] = []
    handle = module.model[-1].register_forward_pre_hook(
        lambda _, args: seen.extend(x.requires_grad_() for x in args[0])
    )
    with torch.enable_grad():
        raw = module(given["x"].clone().requires_grad_())[1]["scores"][0]
    handle.remove()
    for i in (0, len(boxes) // 2, len(boxes) - 1):
        level, row, col = boxes.cell(i)
        score = raw[glance.detector.labels.index(boxes.label[i]), int(boxes.origin[i])]
        assert score.sigmoid().item() == pytest.approx(float(boxes.score[i]), abs=1e-5)
        [gradient] = torch.autograd.grad(score, [seen[level]], retain_graph=True)
        expected = torch.einsum("c,chw->hw", gradient[0].mean((1, 2)), seen[level][0]).detach()
        heat = evidence.heatmap(glance, box=i, method="grad_cam")
        scale = float(expected.abs().max())
        assert heat.values / scale == pytest.approx(expected.numpy() / scale, abs=1e-3)
        assert heat.grid == boxes.levels[level]
        assert (heat.method, heat.signed) == ("grad_cam", True)
        label = f"{boxes.label[i]} {boxes.score[i]:.2f}"
        assert heat.target == f"box {i}: {label}, cell ({row}, {col}) of stride {heat.grid.patch[0]}"
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_without_attention_a_box_is_explained_by_its_gradient() -> None:
    glance = glance_of(detecting.yolo("yolov8n"))
    assert evidence.heatmap(glance, box=0).method == "grad_cam"
    with pytest.raises(ValueError, match=r"no attention over its feature maps; method='grad_cam' explains"):
        evidence.heatmap(glance, box=0, method="attention")
    with pytest.raises(ValueError, match=r"'grad_cam' explains the score of a box: say which"):
        evidence.heatmap(glance, point=(3, 3))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "ask about one thing"),
        ({"box": 0, "point": (1, 1)}, "ask about one thing"),
        ({"box": 0, "method": "rollout"}, "no method 'rollout' for detectors"),
        ({"point": (121, 5)}, r"the point \(121, 5\) lies outside this image of 120×72 px"),
        ({"point": (math.nan, 5)}, "query is a point"),
        ({"point": "cls"}, "query is a point"),
        ({"point": (1, 2, 3)}, "query is a point"),
        ({"point": (1, 2), "head": 9}, "no head 9"),
        ({"box": 0, "method": "grad_cam", "layer": 2}, "leave layer and head out"),
    ],
)
def test_what_has_no_answer_is_refused(yolo12: Glance, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evidence.heatmap(yolo12, **asked)
