"""Laws of exported detectors: a file that says what the network says, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import detecting
import numpy as np
import pytest
import torch

import vislab
from vislab.detectors import export

SIZE = (96, 160)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["embedded", "yolo26n", "yolo11n-seg", "yolo11n-pose", "yolo11n-obb"])
def test_the_boxes_of_the_file_are_those_of_the_network(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    ready = vislab.load_detector(name if name == "embedded" else detecting.yolo(name))
    made = vislab.export_detector(tmp_path / "detector.onnx", detector=ready, image_size=SIZE)
    assert made.size == SIZE
    assert 0 < made.boxes < export.BOXES
    assert str(made).startswith(f"{tmp_path / 'detector.onnx'}: input 96×160 px; on ")
    if name != "embedded":
        return  # of random weights, the best boxes are ties of many classes, of which any may be listed
    photo = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    glance = ready.glance(photo, image_size=SIZE)
    boxes = glance.detections(0.05)
    pixels = (photo.transpose(2, 0, 1)[None] / 255).astype(np.float32)
    [output] = onnxruntime.InferenceSession(str(made.path)).run(None, {"images": pixels})
    family: Any = ready.family
    raw = glance._output[1]
    decoded = family.decode((torch.from_numpy(output), raw), glance.frame, 0.05, 0.7)
    assert decoded.class_ids.tolist() == boxes.class_ids.tolist()
    np.testing.assert_allclose(decoded.xyxy.numpy(), boxes.xyxy, atol=0.5)
    np.testing.assert_allclose(decoded.scores.numpy(), boxes.scores, atol=0.01)


@pytest.mark.slow
def test_a_file_that_says_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    made, other = export._exported, vislab.load_detector(detecting.yolo("yolo11n"))
    monkeypatch.setattr(export, "_exported", lambda ready, family, *rest: made(other, other.family, *rest))
    ready = vislab.load_detector(detecting.yolo("yolov8n"))
    with pytest.raises(ValueError, match="says something else as ONNX"):
        vislab.export_detector(tmp_path / "detector.onnx", detector=ready, image_size=SIZE)
    assert not list(tmp_path.iterdir())


def test_differences_are_those_of_boxes_whatever_their_order() -> None:
    family: Any = vislab.load_detector("embedded").family
    draw = np.random.default_rng(0)
    cells = draw.uniform(0, 100, (4 + len(family.labels), 50))
    near = cells.copy()
    near[2, 7] += 0.25
    near[5, 3] -= 0.125
    assert export._between(cells, near, family, SIZE) == pytest.approx((0.25, 0.125))
    queries = vislab.load_detector(detecting.rtdetr()).family
    boxes = draw.uniform(0, 1, (30, 6))
    moved = boxes[draw.permutation(30)] + np.array([0, 0.001, 0, 0, 0, 0])
    assert export._between(boxes, moved, queries, SIZE) == pytest.approx((0.096, 0))  # type: ignore[arg-type]


def test_what_is_missing_is_said_with_its_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs onnx and onnxruntime: pip install onnx onnxruntime"):
        vislab.export_detector(tmp_path / "detector.onnx")


def test_what_cannot_be_exported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: name)
    with pytest.raises(ValueError, match=r"ends with \.onnx"):
        vislab.export_detector(tmp_path / "detector.pt")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        vislab.export_detector(tmp_path / "no" / "detector.onnx")
    with pytest.raises(ValueError, match="is a detector of transformers"):
        vislab.export_detector(tmp_path / "detector.onnx", detector=vislab.load_detector(detecting.yolos()))
