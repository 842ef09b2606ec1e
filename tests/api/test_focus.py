"""Laws of looking in two stages: each region is looked at as a crop is, and lies where it was cut out."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import cv2
import detecting
import numpy as np
import pytest
import tiny
from PIL import Image

import vislab
from vislab.core.costs import attention_flops
from vislab.models.model import Model

PHOTO = cv2.resize(detecting.PHOTO, (330, 210))
FEW = 3


@pytest.fixture(scope="module")
def vit() -> Model:
    return vislab.load(tiny.make("ViT"))


@pytest.fixture(scope="module")
def detector() -> vislab.Detector:
    whole = vislab.load_detector(detecting.yolo("yolo12n"))
    return replace(whole, family=replace(whole.family, size=(96, 160)))


@pytest.fixture(scope="module")
def confidence(detector: vislab.Detector) -> float:
    """That above which a few boxes are found."""
    return float(vislab.detect(PHOTO, detector=detector).scores[FEW])


@pytest.mark.parametrize("margin", [0, 0.15, 2])
def test_each_region_is_looked_at_as_its_crop_is(
    vit: Model, detector: vislab.Detector, confidence: float, margin: float
) -> None:
    how = {"confidence": confidence, "margin": margin, "method": "cls", "patch_size": 4}
    seen = vislab.focus(PHOTO, detector=detector, model=vit, **how)
    assert len(seen) == len(seen.detections) == len(seen.regions) == FEW
    for box, (x0, y0, x1, y1), heat in zip(seen.detections.xyxy, seen.regions, seen.heats, strict=True):
        grown = margin * (box[2:] - box[:2])
        assert np.array_equal([x0, y0], np.floor(np.maximum(0, box[:2] - grown)))
        assert np.array_equal([x1, y1], np.ceil(np.minimum([330, 210], box[2:] + grown)))
        alone = vislab.explain(PHOTO[y0:y1, x0:x1], model=vit, method="cls", patch_size=4)
        assert np.array_equal(heat.values, alone.values)
        assert heat.frame.source == (210, 330)
        for x, y in ((x0 + 0.5, y0 + 0.5), (x1 - 0.5, y1 - 0.5), ((x0 + x1) / 2 + 0.3, (y0 + y1) / 2 + 0.3)):
            assert heat.cell_at(x, y) == alone.cell_at(x - x0, y - y0) is not None
        assert heat.frame.visible == pytest.approx((x0, y0, x1, y1))


def test_what_lies_outside_the_regions_keeps_the_photo(
    vit: Model, detector: vislab.Detector, confidence: float
) -> None:
    seen = vislab.focus(PHOTO, detector=detector, model=vit, confidence=confidence, margin=0)
    keep = np.ones((210, 330), bool)
    for x0, y0, x1, y1 in seen.regions:
        keep[y0:y1, x0:x1] = False
    one = vislab.focus(PHOTO, detector=detector, model=vit, confidence=float(seen.detections.scores[1]), margin=0)
    assert len(one) == 1
    x0, y0, x1, y1 = one.regions[0]
    picture = one.overlay(opacity=1, boxes=False)
    inside = np.zeros((210, 330), bool)
    inside[y0:y1, x0:x1] = True
    assert np.array_equal(picture, vislab.overlay(one.heats[0], image=PHOTO, opacity=1))
    assert (picture[~inside] == PHOTO[~inside]).all()
    assert not (picture[inside] == PHOTO[inside]).all()
    assert (seen.overlay(boxes=False)[keep] == PHOTO[keep]).all()


def test_costs_count_the_tokens_of_crops_and_of_the_whole(
    vit: Model, detector: vislab.Detector, confidence: float
) -> None:
    seen = vislab.focus(PHOTO, detector=detector, model=vit, confidence=confidence, run_whole=True)
    count = len(seen)
    assert seen.staged.tokens == count * 17
    assert seen.staged.flops == count * attention_flops(17, 32, 2)
    assert seen.whole.tokens == 1 + (210 // 8) * (330 // 8)
    assert seen.whole.flops == attention_flops(1 + 26 * 41, 32, 2)
    assert seen.whole.name == "whole image of 328×208 px"
    assert seen.whole.seconds is not None
    assert seen.staged.seconds is not None
    assert f"and {count} crops: {count * 17:,} tokens" in str(seen)
    assert vislab.focus(PHOTO, detector=detector, model=vit, confidence=confidence).whole.seconds is None


def test_nothing_found_is_a_state_of_its_own(vit: Model, detector: vislab.Detector) -> None:
    seen = vislab.focus(PHOTO, detector=detector, model=vit, confidence=0.999999)
    assert len(seen) == 0
    assert np.array_equal(seen.overlay(), PHOTO)
    assert "found no boxes" in str(seen)
    assert seen.staged.tokens == 0
    assert Image.open(io.BytesIO(seen._repr_png_())).size[0] > 330


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"margin": -0.1}, "margin is a share of a box's side"),
        ({"confidence": 3}, "confidence lies between"),
        ({"method": "nothing"}, "unknown method 'nothing'"),
    ],
)
def test_bad_settings_are_said(
    vit: Model, detector: vislab.Detector, confidence: float, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        vislab.focus(PHOTO, detector=detector, model=vit, **{"confidence": confidence} | settings)
