"""Laws of what a box rests on: the attention of the cells or the query behind it, and the gradient of its score."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from functools import partial
from typing import Any

import detecting
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vislab
from vislab.detectors.glance import Glance

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
    heat = yolo12.heatmap(query=point, layer=layer, head=1)
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
        heat = yolo12.heatmap(box=i, layer=layer, head="max")
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
        assert heat.query == f"box {i}: {boxes.labels[i]} {boxes.scores[i]:.2f}, cell ({row}, {col}) of stride {own}"
    assert seen == {0, 1, 2}


def _overlap(start: int, length: int, other: int, span: int) -> bool:
    return start < other + span and other < start + length


def test_the_index_of_a_box_does_not_depend_on_the_confidence(yolo12: Glance) -> None:
    faint, sure = yolo12.detections(0.001), yolo12.detections(0.6)
    assert 1 < len(sure) < len(faint)
    assert np.array_equal(faint.origin[: len(sure)], sure.origin)
    for i in (0, len(sure) - 1, len(sure), len(faint) - 1):
        assert faint.labels[i] in str(yolo12.heatmap(box=i).query)
    with pytest.raises(IndexError, match=f"no box {len(faint)}: yolo12n.yaml found {len(faint)} boxes"):
        yolo12.heatmap(box=len(faint))


@pytest.mark.parametrize("method", ["attention", "grad_cam"])
def test_numbers_of_numpy_are_numbers(yolo12: Glance, method: str) -> None:
    plain, heat = (
        yolo12.heatmap(box=box, method=method) for box in (1, np.argsort(-yolo12.detections(0.001).scores)[1])
    )
    assert np.array_equal(heat.values, plain.values)
    plain, heat = (yolo12.heatmap(query=(5, 5), layer=n, head=n) for n in (1, np.int64(1)))
    assert np.array_equal(heat.values, plain.values)


def test_explicit_attention_in_half_precision_is_a_heatmap() -> None:
    network = detecting.detr(attn_implementation="eager")
    exact = glance_of(network).heatmap(query=(60, 36)).values
    assert glance_of(network.bfloat16()).heatmap(query=(60, 36)).values == pytest.approx(exact, abs=0.1)


def test_layers_are_named_numbered_or_meant(yolo12: Glance) -> None:
    names = [place.site.name for place in yolo12.places()]
    by_name, by_index = (yolo12.heatmap(query=(5, 5), layer=layer) for layer in (names[2], 2))
    assert np.array_equal(by_name.values, by_index.values)
    with pytest.raises(ValueError, match=r"attends on several grids \(6×10, 3×5\), whose mean is no map"):
        yolo12.heatmap(query=(5, 5), layer="mean")
    with pytest.raises(ValueError, match="layers run from 0 to 7"):
        yolo12.heatmap(query=(5, 5), layer=8)
    with pytest.raises(KeyError, match=r"no site 'model\.1' was captured"):
        yolo12.heatmap(query=(5, 5), layer="model.1")


@pytest.mark.parametrize("shape", [(96, 120), (90, 90)])
def test_areas_are_what_attention_keeps_to(shape: tuple[int, int]) -> None:
    """Those that a square photo is cut into end in the middle of a row."""
    detector = vislab.load_detector(detecting.yolo("yolo12n"))
    glance = detector.glance(np.ascontiguousarray(np.resize(detecting.PHOTO, (*shape, 3))), image_size=160)
    for place in glance.places():
        assert place.areas.shape == (place.grid.rows, place.grid.cols)
        rows = glance.capture.attention(place.site, slice(None))[0].amin(0)
        area = torch.from_numpy(place.areas.ravel())
        assert torch.equal(rows > 0, area[:, None] == area)
    first = glance.places()[0].areas
    assert len(np.unique(first)) == 4
    assert (first != first[:, :1]).any() == (shape == (90, 90))


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_other_attention_is_read_likewise(name: str) -> None:
    glance = glance_of(detecting.yolo(name))
    heat = glance.heatmap(query=(60, 36))
    attention = glance.capture.attention(-1, 1 * 5 + 2)[0].mean(0)
    assert heat.values == pytest.approx(attention.reshape(3, 5).numpy(), abs=1e-7)
    mean = glance.heatmap(query=(60, 36), layer="mean")
    every = [glance.capture.attention(site, 7)[0].mean(0) for site in glance.capture.layers]
    assert mean.values.ravel() == pytest.approx(torch.stack(every).mean(0).numpy(), abs=1e-7)


# ---- queries ----


@pytest.mark.parametrize("layer", [0, 1])
def test_a_box_of_detr_is_its_querys_cross_attention(detr: Glance, layer: int) -> None:
    boxes = detr.detections(0.001)
    for i in range(len(boxes)):
        heat = detr.heatmap(box=i, layer=layer, head=2)
        expected = detr.capture.attention(f"model.decoder.layers.{layer}.encoder_attn", int(boxes.origin[i]))[0, 2]
        assert heat.values.shape == (3, 5)
        assert heat.values.ravel() == pytest.approx(expected.numpy(), abs=1e-7)
        assert str(heat.query).endswith(f"query {boxes.origin[i]}")
    assert len(set(boxes.origin.tolist())) == len(boxes) > 1


@pytest.mark.parametrize("size", [(96, 160), (70, 100), (33, 65)])
def test_a_point_of_detr_is_its_encoders_attention(size: tuple[int, int]) -> None:
    """Also where the map reaches beyond the input: its sides are halved five times, rounded up."""
    glance = vislab.load_detector(detecting.detr()).glance(detecting.PHOTO, image_size=size)
    heat = glance.heatmap(query=(119, 71), layer=0)
    rows, cols = (math.ceil(side / 32) for side in size)
    assert heat.values.shape == (rows, cols)
    assert heat.cell_at(119, 71) == (rows - 1, cols - 1)
    expected = glance.capture.attention("model.encoder.layers.0.self_attn", rows * cols - 1)[0].mean(0)
    assert heat.values.ravel() == pytest.approx(expected.numpy(), abs=1e-7)


def test_as_many_queries_as_cells_are_not_mixed_up() -> None:
    network = detecting.detr()
    size = (32, 7 * 32)  # 7 cells, and 7 queries
    glance = vislab.load_detector(network).glance(detecting.PHOTO, image_size=size)
    names = [place.site.name for place in glance.places()]
    assert names == [f"model.{part}" for part in _ATTENTION]


_ATTENTION = [f"encoder.layers.{i}.self_attn" for i in (0, 1)] + [f"decoder.layers.{i}.encoder_attn" for i in (0, 1)]


@pytest.mark.parametrize("layer", [0, 1])
def test_detection_tokens_are_not_mixed_with_patches(yolos: Glance, layer: int) -> None:
    """12 × 20 patches after CLS, five detection tokens after them."""
    boxes = yolos.detections(0.001)
    for i in range(len(boxes)):
        heat = yolos.heatmap(box=i, layer=layer)
        expected = yolos.capture.attention(layer, 1 + 240 + int(boxes.origin[i]))[0].mean(0)[1:241]
        assert heat.values.ravel() == pytest.approx(expected.numpy(), abs=1e-7)
    point = yolos.heatmap(query=(119, 71), layer=layer)
    expected = yolos.capture.attention(layer, 240)[0].mean(0)[1:241]
    assert point.values.ravel() == pytest.approx(expected.numpy(), abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("make", [detecting.rtdetr, detecting.hf_rtdetr])
def test_deformable_attention_is_refused_with_the_reason(make: Any) -> None:
    glance = glance_of(make())
    with pytest.raises(ValueError, match=r"deformable attention, which samples a few points .* no map of it"):
        glance.heatmap(box=0)
    assert glance.frame.model == SIZE
    heat = glance.heatmap(query=(60, 36))
    [encoder] = [place.site for place in glance.places()]
    expected = glance.capture.attention(encoder, 1 * 5 + 2)[0].mean(0)
    assert heat.values.ravel() == pytest.approx(expected.numpy(), abs=1e-7)
    with pytest.raises(ValueError, match="made by queries, not by cells"):
        glance.heatmap(box=0, method="grad_cam")


SAMPLING = {"rtdetr": detecting.rtdetr, "rt_detr": detecting.hf_rtdetr}
SAMPLING |= {"rt_detr_v2": partial(detecting.hf_rtdetr, "V2")}


@pytest.mark.slow
@pytest.mark.parametrize("make", SAMPLING.values(), ids=SAMPLING)
@pytest.mark.parametrize("layer", [0, -1])
def test_points_are_those_that_a_boxs_query_samples(make: Any, layer: int) -> None:
    """Maps read at these points by hand, and weighed with their weights, give what the module itself makes of them."""
    detector = vislab.load_detector(make())
    sampling = [m for name, m in detector.module.named_modules() if hasattr(m, "sampling_offsets")][layer]
    for part in (sampling.sampling_offsets, sampling.attention_weights):  # ultralytics' begin without any
        nn.init.normal_(part.weight, std=0.1)
    given: dict[str, torch.Tensor] = {}
    sampling.value_proj.register_forward_hook(lambda _, args, made: given.__setitem__("values", made[0]))
    sampling.output_proj.register_forward_pre_hook(lambda _, args: given.__setitem__("mixed", args[0][0]))
    glance = detector.glance(detecting.PHOTO, image_size=SIZE)
    boxes = glance.detections(0.001)
    for box in (0, len(boxes) - 1):
        points = glance.points(box, layer=layer)
        assert points.strides == (8, 16, 32)
        assert points.weights.sum((1, 2)) == pytest.approx(1)
        maps = given["values"].unflatten(1, (sampling.n_heads, -1)).split([12 * 20, 6 * 10, 3 * 5])
        mixed = 0
        for level, stride in enumerate(points.strides):
            one = maps[level].unflatten(0, (SIZE[0] // stride, -1)).double().numpy()
            for head in range(sampling.n_heads):
                for (x, y), weight in zip(points.xy[head, level], points.weights[head, level], strict=True):
                    column, row = x * 160 / 120 / stride - 0.5, y * 96 / 72 / stride - 0.5  # 72 × 120 px, stretched
                    read = np.zeros((sampling.n_heads, one.shape[3]))
                    read[head] = weight * bilinear(one[:, :, head], row, column)
                    mixed = mixed + read
        expected = given["mixed"][int(boxes.origin[box])].numpy()
        assert np.ravel(mixed) == pytest.approx(expected, abs=1e-5 * float(np.abs(expected).max()))
        assert np.array_equal(points.box.xyxy, boxes[box].xyxy)
        assert points.query.startswith(f"box {box}: {boxes.labels[box]}")


def bilinear(values: np.ndarray, row: float, column: float) -> np.ndarray:
    """values: (rows, cols, n), 0 beyond its border, between the four cells around a position counted in cells."""
    found = np.zeros(values.shape[2])
    for r in (math.floor(row), math.floor(row) + 1):
        for c in (math.floor(column), math.floor(column) + 1):
            if 0 <= r < values.shape[0] and 0 <= c < values.shape[1]:
                found += (1 - abs(row - r)) * (1 - abs(column - c)) * values[r, c]
    return found


def test_points_lie_on_the_photo_in_the_size_of_their_weights() -> None:
    glance = glance_of(detecting.hf_rtdetr())
    points = glance.points(0)
    weight = np.zeros_like(points.weights)
    weight[1, 2, 0] = 1
    xy = np.full_like(points.xy, -1000.0)
    xy[1, 2, 0] = (60, 40)
    alone = replace(points, xy=xy, weights=weight, box=replace(points.box, xyxy=np.array([[0, 0, 9, 9]])))
    picture = alone.overlay()
    changed = np.argwhere((picture != detecting.PHOTO).any(2)[12:, 12:]) + 12
    assert changed.mean(0) == pytest.approx([40, 60], abs=0.6)
    assert tuple(picture[40, 60]) == (255, 0, 255)  # magenta: the third map
    assert Image.open(io.BytesIO(alone._repr_png_())).size[0] > 120
    assert "orange 0% at stride 8, deepskyblue 0% at stride 16, magenta 25% at stride 32" in str(alone)


def test_points_are_of_deformable_attention_alone(yolo12: Glance) -> None:
    with pytest.raises(ValueError, match=r"yolo12n\.yaml samples no points"):
        yolo12.points(0)
    glance = glance_of(detecting.hf_rtdetr())
    with pytest.raises(ValueError, match="layers run from 0 to 1"):
        glance.points(0, layer=2)
    with pytest.raises(IndexError, match="no box 99"):
        glance.points(99)


# ---- gradients ----


@pytest.mark.parametrize("name", ["yolov8n", "yolo12n", "yoloe-11n"])
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
        score = raw[glance.detector.labels.index(boxes.labels[i]), int(boxes.origin[i])]
        assert score.sigmoid().item() == pytest.approx(float(boxes.scores[i]), abs=1e-5)
        [gradient] = torch.autograd.grad(score, [seen[level]], retain_graph=True)
        expected = torch.einsum("c,chw->hw", gradient[0].mean((1, 2)), seen[level][0]).detach()
        heat = glance.heatmap(box=i, method="grad_cam")
        scale = float(expected.abs().max())
        assert heat.values / scale == pytest.approx(expected.numpy() / scale, abs=1e-3)
        assert heat.grid == boxes.levels[level]
        assert (heat.method, heat.signed) == ("grad_cam", True)
        label = f"{boxes.labels[i]} {boxes.scores[i]:.2f}"
        assert heat.target == f"box {i}: {label}, cell ({row}, {col}) of stride {heat.grid.patch[0]}"
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_without_attention_a_box_is_explained_by_its_gradient() -> None:
    glance = glance_of(detecting.yolo("yolov8n"))
    assert glance.heatmap(box=0).method == "grad_cam"
    with pytest.raises(ValueError, match=r"no attention over its feature maps; method='grad_cam' explains"):
        glance.heatmap(box=0, method="attention")
    with pytest.raises(ValueError, match=r"'grad_cam' explains the score of a box: say which"):
        glance.heatmap(query=(3, 3))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"box": 0, "query": (1, 1)}, "ask about one thing"),
        ({"box": 0, "method": "rollout"}, "no method 'rollout' for detectors"),
        ({"query": (121, 5)}, r"the point \(121, 5\) lies outside this image of 120×72 px"),
        ({"query": (math.nan, 5)}, "query is a point"),
        ({"query": "cls"}, "query is a point"),
        ({"query": (1, 2, 3)}, "query is a point"),
        ({"query": (1, 2), "head": 9}, "no head 9"),
        ({"box": 0, "method": "grad_cam", "layer": 2}, "leave layer and head out"),
    ],
)
def test_what_has_no_answer_is_refused(yolo12: Glance, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        yolo12.heatmap(**asked)
