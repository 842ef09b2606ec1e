"""Laws of several scales: one is the plain map, several their mean by hand, boxes those that no surer one covers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import detecting
import numpy as np
import pytest
import tiny
import torch

import vislab
from vislab.api.scales import spread
from vislab.models.model import Model

PHOTO = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def vit() -> Model:
    return vislab.load(tiny.make("ViT classifier"))


@pytest.mark.parametrize(
    "asked", [{}, {"method": "relevance", "target": 3}, {"keep": 0.5}, {"method": "lens"}], ids=str
)
def test_one_scale_is_the_plain_map(vit: Model, asked: dict[str, Any]) -> None:
    one, plain = vislab.explain(PHOTO, model=vit, scales=(48,), **asked), None
    plain = vislab.explain(PHOTO, model=vit, image_size=48, **asked)
    assert one.values == pytest.approx(plain.values, abs=1e-7)
    assert (one.grid, one.frame, one.target) == (plain.grid, plain.frame, plain.target)
    assert one.settings["scales"] == ((48, 48),)
    assert (one.dropped is None) == (plain.dropped is None)
    assert one.dropped is None or np.array_equal(one.dropped, plain.dropped)


def by_hand(heat: vislab.Heatmap, rows: int, cols: int, *, alone: bool) -> np.ndarray:
    """A map on a grid whose cells divide its patches evenly, each value repeated, a share divided among the cells."""
    down, across = rows // heat.grid.rows, cols // heat.grid.cols
    return np.kron(heat.values, np.ones((down, across))) / (1 if alone else down * across)


@pytest.mark.parametrize(("method", "alone"), [("rollout", False), ("lens", True), ("relevance", False)])
def test_several_scales_are_their_mean_by_hand(vit: Model, method: str, alone: bool) -> None:
    asked: dict[str, Any] = {"model": vit, "method": method} | ({} if method == "rollout" else {"target": 2})
    heats = [vislab.explain(PHOTO, image_size=size, **asked) for size in (32, 64, (64, 128))]
    merged = vislab.explain(PHOTO, scales=(64, 32, (64, 128)), **asked)
    expected = np.mean([by_hand(heat, 8, 16, alone=alone) for heat in heats], axis=0)
    assert merged.values == pytest.approx(expected, abs=1e-6)
    assert merged.grid == heats[2].grid
    assert merged.frame == heats[2].frame
    if not alone:  # what all patches have together is the mean of what they have at each scale
        assert merged.values.sum() == pytest.approx(np.mean([heat.values.sum() for heat in heats]), abs=1e-5)


def test_cells_that_do_not_nest_share_by_area(vit: Model) -> None:
    heat = vislab.explain(PHOTO, model=vit, image_size=24)
    other = vislab.explain(PHOTO, model=vit, image_size=(32, 40))
    fine = np.kron(heat.values, np.ones((40, 100))) / 4000  # on cells that divide both grids, 3 × 3 and 4 × 5
    shares = fine[:120, :300].reshape(4, 30, 5, 60).sum((1, 3))
    assert spread(heat, other.grid, other.frame, alone=False) == pytest.approx(shares, abs=1e-7)
    means = fine.reshape(4, 30, 5, 60).mean((1, 3)) * 4000
    assert spread(heat, other.grid, other.frame, alone=True) == pytest.approx(means, abs=1e-6)


def test_the_class_is_that_of_the_mean_of_all_scales(vit: Model) -> None:
    sizes = (32, 64)
    scores = torch.stack([vit.run(PHOTO, image_size=size).logits.softmax(0) for size in sizes]).mean(0)
    heat = vislab.explain(PHOTO, model=vit, method="relevance", scales=sizes)
    assert vit.labels is not None
    assert heat.target == vit.labels[int(scores.argmax())]
    assert heat.facts["predictions"][0] == (heat.target, pytest.approx(float(scores.max())))


def test_several_scales_are_recorded_and_made_again(vit: Model, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"method": "cls", "keep": 0.5, "keep_by": "centre", "region": (10, 0, 60, 50)}
    heat = vislab.explain(PHOTO, model=vit, scales=[32, 64], **asked)
    vislab.save(tmp_path / "a.npz", heat)
    record = vislab.provenance(tmp_path / "a.npz")
    assert "scales=((32, 32), (64, 64))" in record["call"]
    assert "image_size" not in record["call"]
    assert vislab.reproduce(tmp_path / "a.npz", image=PHOTO, model=vit).differences == ()
    assert heat.dropped is not None  # at no scale
    assert 0 < heat.dropped.sum() < heat.dropped.size


def test_a_fovea_on_a_box_lies_alike_at_all_scales() -> None:
    church = vislab.samples()["church"]
    asked: dict[str, Any] = {"method": "cls", "fovea_patches": (16, 32)}
    heat = vislab.explain(church, scales=(224, 448), fovea="box", **asked)
    heats = [vislab.explain(church, image_size=s, fovea=heat.settings["fovea"], **asked) for s in (224, 448)]
    expected = np.mean([by_hand(one, 28, 28, alone=False) for one in heats], axis=0)
    assert heat.values == pytest.approx(expected, abs=1e-7)
    assert heat.facts["fovea"].startswith("church")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"scales": 224}, r"scales are input sizes, such as \(224, 336, 448\)"),
        ({"scales": ()}, "scales are input sizes"),
        ({"scales": (32, "64")}, "image_size is a number of pixels"),
        ({"scales": (32, (32, 32))}, "scales name a size twice"),
        ({"scales": (32, 64), "image_size": 32}, "leave image_size out"),
    ],
)
def test_scales_that_are_none_are_refused(vit: Model, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        vislab.explain(PHOTO, model=vit, **asked)
    with pytest.raises(ValueError, match=words):
        vislab.detect(PHOTO, **asked)


def test_boxes_of_one_scale_are_the_plain_ones() -> None:
    detector = vislab.load_detector(detecting.yolo("yolo12n"))
    one, plain = (vislab.detect(PHOTO, detector=detector, **k) for k in ({"scales": (160,)}, {"image_size": 160}))
    assert np.array_equal(one.xyxy, plain.xyxy)
    assert one.levels == plain.levels


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    inside = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(inside / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inside))


def test_boxes_of_several_scales_are_those_that_no_surer_one_covers() -> None:
    detector = vislab.load_detector(detecting.yolo("yolo12n"))
    parts = [vislab.detect(PHOTO, detector=detector, image_size=size, iou=0.5) for size in (160, 224)]
    every = sorted(
        (
            (float(one.scores[i]), one.labels[i], one.xyxy[i], at)
            for at, one in enumerate(parts)
            for i in range(len(one))
        ),
        key=lambda box: -box[0],
    )
    kept: list[Any] = []
    for score, label, box, at in every:
        if all(label != other[1] or overlap(box, other[2]) <= 0.5 for other in kept):
            kept.append((score, label, box, at))
    merged = vislab.detect(PHOTO, detector=detector, scales=(160, 224), iou=0.5)
    assert len(merged) == len(kept) < len(every)
    assert merged.scores == pytest.approx([box[0] for box in kept])
    assert merged.labels == tuple(box[1] for box in kept)
    assert merged.origin.tolist() == [box[3] for box in kept]
    assert merged.scales == tuple(one.frame.model for one in parts)
    with pytest.raises(ValueError, match="boxes of several scales were made by cells of several inputs"):
        merged.cell(0)
    assert merged.above(0.5).scales == merged.scales


def test_no_boxes_at_any_scale_are_no_boxes() -> None:
    assert len(vislab.detect(PHOTO, scales=(320, 640), confidence=0.9)) == 0
