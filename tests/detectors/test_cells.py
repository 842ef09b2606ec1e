"""Laws of ultralytics' other tasks: boxes, masks, keypoints and turned boxes are those of its own predictor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import detecting
import numpy as np
import pytest
import torch
import transformers as hf
from ultralytics import YOLO

import vislab
from vislab.figures.notebook import boxes_array

SHAPES = [(72, 120), (150, 90), (61, 300)]
NETWORKS = ["yolo11n-seg", "yolo12n-seg", "yolo26n-seg", "yolo11n-pose", "yolo26n-pose", "yolo12n-obb", "yolo26n-obb"]


def photo(height: int, width: int) -> np.ndarray:
    return cv2.resize(detecting.PHOTO, (width, height))


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> YOLO:
    network = detecting.yolo(request.param)
    network.predict(photo(*SHAPES[0]), imgsz=160, verbose=False)  # sets torch's number of threads: rounding changes
    return network


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_found_is_what_predict_finds(network: YOLO, shape: tuple[int, int]) -> None:
    glance = vislab.load_detector(network).glance(photo(*shape), image_size=160)
    [own] = network.predict(photo(*shape)[..., ::-1], imgsz=160, conf=0.25, iou=0.7, verbose=False)
    boxes, theirs = glance.detections(), own.boxes if own.obb is None else own.obb
    assert len(boxes) == len(theirs) > 1
    assert np.array_equal(boxes.scores, theirs.conf.numpy())
    assert boxes.class_ids.tolist() == theirs.cls.int().tolist()
    corners = theirs.xyxy.numpy().reshape(-1, 2, 2)
    assert boxes.xyxy == pytest.approx(np.concatenate([corners.min(1), corners.max(1)], 1), abs=1e-4)
    assert (boxes.keypoints is None, boxes.corners is None) == (own.keypoints is None, own.obb is None)
    if boxes.keypoints is not None:
        assert np.array_equal(boxes.keypoints, own.keypoints.data.numpy())
    if boxes.corners is not None:
        assert boxes.corners == pytest.approx(own.obb.xyxyxyxy.numpy(), abs=1e-4)
    if own.masks is not None:
        assert np.array_equal(glance.masks(), own.masks.data.bool().numpy())
    else:
        with pytest.raises(ValueError, match="makes boxes without masks"):
            glance.masks()
    assert not np.array_equal(boxes.overlay(), photo(*shape))


def test_cells_are_those_that_made_the_boxes(network: YOLO) -> None:
    detector = vislab.load_detector(network)
    glance = detector.glance(detecting.PHOTO, image_size=160)
    boxes = glance.detections()
    scores = glance._output[1].get("one2many", glance._output[1])["scores"][0].sigmoid()
    for score, label, cell in zip(boxes.scores, boxes.class_ids, boxes.origin, strict=True):
        assert scores[label, cell].item() == pytest.approx(score, abs=1e-6)


def test_their_attention_and_gradients_are_read(network: YOLO) -> None:
    detector = vislab.load_detector(network)
    method = "grad_cam" if "11" not in detector.name and "12" not in detector.name else None
    heat = vislab.explain_box(detecting.PHOTO, box=0, detector=detector, method=method, image_size=160)
    assert np.isfinite(heat.values).all()
    assert heat.values.std() > 0
    if heat.method == "attention":
        assert heat.values.sum() == pytest.approx(1, abs=1e-4)


def test_parts_keep_their_keypoints_and_corners() -> None:
    for name, part in (("yolo11n-pose", "keypoints"), ("yolo12n-obb", "corners")):
        detector = vislab.load_detector(detecting.yolo(name))
        boxes = vislab.detect(detecting.PHOTO, detector=detector, image_size=160)
        assert np.array_equal(getattr(boxes[1:3], part), getattr(boxes, part)[1:3])
        assert not getattr(boxes, part).flags.writeable
        with pytest.raises(ValueError, match="are not put together"):
            vislab.detect(detecting.PHOTO, detector=detector, scales=(128, 160))


@pytest.mark.parametrize("name", ["yolo11n-pose", "yolo12n-obb"])
def test_keypoints_and_turned_boxes_lie_on_the_photograph_in_every_picture(name: str, tmp_path: Path) -> None:
    """A photograph of twice the size has the same picture in a notebook, but for the rounding of lines."""
    heat = vislab.explain(detecting.PHOTO, method="cls")
    boxes = vislab.detect(detecting.PHOTO, detector=vislab.load_detector(detecting.yolo(name)), image_size=160)[:2]
    plain = replace(boxes, keypoints=None, corners=None)

    def enlarged(found: vislab.Detections, by: int) -> vislab.Detections:
        height, width = (by * side for side in detecting.PHOTO.shape[:2])
        points = None if found.keypoints is None else found.keypoints * np.array([by, by, 1], np.float32)
        return replace(
            found,
            xyxy=by * found.xyxy,
            keypoints=points,
            corners=None if found.corners is None else by * found.corners,
            image=cv2.resize(detecting.PHOTO, (width, height), interpolation=cv2.INTER_NEAREST),
            frame=vislab.Frame.stretch((height, width), found.frame.model),
        )

    drawn, again, bare = (boxes_array(enlarged(*one)).astype(int) for one in ((boxes, 10), (boxes, 20), (plain, 10)))
    assert np.abs(drawn - again).mean() < 0.2 * np.abs(drawn - bare).mean()
    path = vislab.save(tmp_path / "figure.png", vislab.panel(heat, detections=boxes))
    assert path.read_bytes() != vislab.save(tmp_path / "plain.png", vislab.panel(heat, detections=plain)).read_bytes()
    assert vislab.reproduce(path, image=detecting.PHOTO).differences == ()


def test_a_classifier_of_ultralytics_is_a_model_with_its_own_probabilities() -> None:
    torch.manual_seed(0)
    network = YOLO("yolo11n-cls.yaml").model
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.rand(4, 3, 224, 224))
        network.eval().model[-1].linear.weight.normal_()
    side = {"height": 224, "width": 224}
    processor = hf.ViTImageProcessor(size=side, image_mean=[0] * 3, image_std=[1] * 3)
    model = vislab.load(network, processor=processor)
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    with torch.no_grad():
        own, _ = network(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    [(label, score)] = model.predict(image, top=1)
    assert label == f"class {int(own.argmax())}"
    assert score == pytest.approx(float(own.max()), abs=1e-5)
    heat = vislab.explain(image, model=model, method="grad_cam")
    kept: list[torch.Tensor] = []
    with network.model[9].m[0].attn.register_forward_pre_hook(lambda _, given: kept.append(given[0])):
        probabilities, _ = network(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    [gradient] = torch.autograd.grad(probabilities.max(), kept)
    expected = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1)[0]
    assert heat.values == pytest.approx(
        expected.detach().numpy(), rel=1e-3, abs=1e-6 + 1e-3 * expected.abs().max().item()
    )
