"""The public call: what fits what, and what is said where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import detecting
import numpy as np
import pytest
import transformers

import vislab

PHOTO = vislab.load_image(vislab.samples()["church"])
ROLLOUT = vislab.explain(PHOTO)


def test_a_heatmap_and_its_image_have_the_same_masks() -> None:
    for method in ("otsu", "threshold", "share"):
        of_heat, of_image = vislab.segment(ROLLOUT, method=method), vislab.segment(PHOTO, method=method)
        assert np.array_equal(of_heat.masks, of_image.masks)
        assert of_heat.labels == ("rollout",)
        assert of_heat.model == "embedded"
    assert np.array_equal(vislab.segment(ROLLOUT).masks, vislab.segment(ROLLOUT, method="otsu").masks)
    assert vislab.segment(ROLLOUT, method="share", level=0.9).masks.sum() > of_heat.masks.sum()


def test_refined_masks_say_so_and_are_the_same_each_time() -> None:
    masks = [vislab.segment(ROLLOUT, refine=True) for _ in range(2)]
    assert np.array_equal(masks[0].masks, masks[1].masks)
    assert masks[0].labels == ("rollout, refined",)
    assert "refined by GrabCut" in str(masks[0])
    everything = vislab.segment(ROLLOUT, method="threshold", level=0, refine=True)
    assert everything.masks.all()
    assert everything.labels == ("rollout",)
    assert everything.facts["unchanged"] == [0]


@pytest.mark.parametrize(
    ("image", "options", "says"),
    [
        (PHOTO, {"method": "otsuu"}, "no method 'otsuu' of masks; did you mean 'otsu'"),
        (PHOTO, {"method": 3}, "no method 3 of masks: take otsu, threshold"),
        (PHOTO, {"method": "semantic"}, "made by a segmentation model"),
        (PHOTO, {"method": "otsu", "level": 0.4}, "takes no level"),
        (PHOTO, {"method": "share", "level": 1.5}, "level lies between 0 and 1"),
        (PHOTO, {"method": "kmeans", "cluster": 3}, "did you mean 'clusters'"),
        (PHOTO, {"method": "kmeans", "clusters": 1}, "clusters is a whole number from 2"),
        (PHOTO, {"method": "kmeans", "clusters": 500}, "500 clusters of 196 patches are too many"),
        (PHOTO, {"method": "kmeans", "seed": 0.5}, "seed is a whole number from 0"),
        (PHOTO, {"method": "tokencut", "tau": 1}, "tau is a cosine"),
        (PHOTO, {"refine": "yes"}, "refine is True or False"),
        (ROLLOUT, {"method": "kmeans"}, "of a heatmap a mask is made by otsu, threshold, share, not by kmeans"),
        (ROLLOUT, {"image_size": 224}, "a heatmap knows how it was made: leave image_size out"),
        (ROLLOUT, {"model": "embedded-plain"}, "leave model out"),
    ],
)
def test_what_does_not_fit_is_said(image: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        vislab.segment(image, **options)


def test_a_mask_is_refined_by_a_photograph() -> None:
    bare = vislab.Heatmap(ROLLOUT.values, ROLLOUT.grid, ROLLOUT.frame, "cls")
    assert vislab.segment(bare).model == "a heatmap"
    with pytest.raises(ValueError, match="no photograph to refine its mask by"):
        vislab.segment(bare, refine=True)


@pytest.mark.parametrize("shape", [(72, 120), (150, 90)])
def test_masks_of_a_network_of_ultralytics_are_those_of_its_boxes_on_the_pixels_of_the_photograph(
    shape: tuple[int, int],
) -> None:
    photo = cv2.resize(detecting.PHOTO, shape[::-1])
    detector = vislab.load_detector(detecting.yolo("yolo11n-seg"))
    masks = vislab.segment(photo, model=detector, image_size=160, confidence=0.4)
    glance = detector.glance(photo, image_size=160)
    boxes, inner = glance.detections(0.4), glance.masks(0.4)
    assert len(masks) == len(boxes) > 1
    assert masks.labels == boxes.labels
    assert np.array_equal(masks.scores, boxes.scores)
    for y, x in ((0, 0), (shape[0] // 2, 31), (shape[0] - 1, shape[1] - 1)):
        at_x, at_y = glance.frame.to_model(x + 0.5, y + 0.5)
        assert np.array_equal(masks.masks[:, y, x], inner[:, int(at_y), int(at_x)])
    for mask, box in zip(masks.boxes, boxes.xyxy, strict=True):
        assert (mask[:2] >= box[:2] - 1.5).all()
        assert (mask[2:] <= box[2:] + 1.5).all()
    again = vislab.segment(photo, model=detecting.yolo("yolo11n-seg"), image_size=160, confidence=0.4)
    assert np.array_equal(again.masks, masks.masks)


def test_what_a_network_of_ultralytics_does_not_do_is_said(tmp_path: Path) -> None:
    boxes_alone = vislab.load_detector("embedded")
    with pytest.raises(ValueError, match="makes boxes without masks"):
        vislab.segment(detecting.PHOTO, model=boxes_alone)
    seg = vislab.load_detector(detecting.yolo("yolo11n-seg"))
    for options, says in (
        ({"method": "kmeans"}, "gives instance masks, not kmeans"),
        ({"refine": True}, "leave refine out"),
        ({"patch_size": 8}, "leave patch_size out"),
        ({"confidense": 0.5}, "did you mean 'confidence'"),
    ):
        with pytest.raises(ValueError, match=says):
            vislab.segment(detecting.PHOTO, model=seg, **options)
    (tmp_path / "mine-seg.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match="is a pickle, which can run anything"):
        vislab.segment(detecting.PHOTO, model=str(tmp_path / "mine-seg.pt"))


def test_masks_of_a_given_module_bear_the_name_that_it_was_given(tmp_path: Path) -> None:
    module = vislab.load("embedded").module
    processor = transformers.ViTImageProcessor(size={"height": 224, "width": 224})
    for method in ("otsu", "kmeans"):
        masks = vislab.segment(PHOTO, model=module, processor=processor, method=method, name="my ViT, epoch 30")
        again = vislab.segment(
            PHOTO, model=vislab.load(module, processor=processor, name="my ViT, epoch 30"), method=method
        )
        assert masks.model == again.model == "my ViT, epoch 30"
        assert np.array_equal(masks.masks, again.masks)
        assert "model my ViT, epoch 30" in str(masks)
        record = vislab.provenance(vislab.save(tmp_path / "masks.png", again))["masks"]
        assert record["model"] == "my ViT, epoch 30"
        assert record["facts"]["module"] == "transformers.models.vit.modeling_vit.ViTForImageClassification"
    for named in ("embedded", vislab.load("embedded")):
        with pytest.raises(ValueError, match="embedded has a name already: name= is of a module that you give"):
            vislab.segment(PHOTO, model=named, name="mine")
