"""Laws of masks: what they hold is what was found, and how they are drawn, saved and compared."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vislab
from vislab.masks.masks import Masks

PHOTO = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
REGIONS = np.zeros((3, 60, 90), bool)
REGIONS[0, 10:40, 5:45] = REGIONS[1, 30:55, 60:80] = True


def made(**changes: Any) -> Masks:
    parts: dict[str, Any] = {"masks": REGIONS, "labels": ("dog", "cat", "dog"), "scores": [0.9, 0.5, 0.25]}
    parts |= {"scored": "share", "method": "hand", "model": "tiny", "image": PHOTO}
    return Masks(**parts | changes)


def test_parts_are_masks() -> None:
    masks = made()
    assert masks[1].labels == masks[-2].labels == ("cat",)
    assert masks[1:].scores.tolist() == [0.5, 0.25]
    assert masks[np.array([True, False, True])].labels == ("dog", "dog")
    assert np.array_equal(np.asarray(masks[[1]]), REGIONS[1:2])
    assert masks.boxes.tolist() == [[5, 10, 45, 40], [60, 30, 80, 55], [0, 0, 0, 0]]
    assert len(masks[:0]) == 0
    assert not masks.masks.flags.writeable
    assert str(masks[0]) == "1 mask by hand; model tiny; scores: share"
    with pytest.raises(IndexError, match="no mask 3: there are 3"):
        masks[3]


def test_iou_of_each_with_each() -> None:
    masks = made()
    assert np.array_equal(masks.iou(masks), np.eye(3))
    assert masks.iou(REGIONS[0] | REGIONS[1]).shape == (3, 1)
    assert masks.iou(REGIONS[0] | REGIONS[1])[0, 0] == pytest.approx(1200 / 1700)
    assert masks[:0].iou(masks).shape == (0, 3)


def test_agreement_is_by_class() -> None:
    masks = made()
    other = made(masks=REGIONS[[0, 0]], labels=("dog", "mouse"), scores=[1, 1])
    assert masks.agreement(masks, measure="boundary_f") == {"dog": 1, "cat": 1, "mean": 1}
    assert masks.agreement(other) == {"dog": 1, "cat": 0, "mouse": 0, "mean": 1 / 3}
    with pytest.raises(ValueError, match="neither of the two has a mask"):
        masks[:0].agreement(masks[:0])
    with pytest.raises(ValueError, match="compared with other Masks"):
        masks.agreement(REGIONS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="measure is one of iou, dice"):
        masks.agreement(masks, measure="f1")


def test_matches_are_the_masks_that_overlap_most() -> None:
    masks, regions = made(), np.zeros((3, 60, 90), bool)
    regions[0, 10:40, 5:35] = regions[1, 35:55, 60:80] = regions[2, 0:5, 0:5] = True
    matches = masks.matches(made(masks=regions, labels=("a", "b", "c"), scores=[1, 1, 1]))
    assert [(one.region, one.mask, one.label) for one in matches] == [
        ("a", 0, "dog"),
        ("b", 1, "cat"),
        ("c", None, None),
    ]
    for match, region in zip(matches[:2], regions, strict=False):
        assert match.values["iou"] == masks.iou(region).max()
        assert match.values["dice"] == pytest.approx(2 * match.values["iou"] / (1 + match.values["iou"]))
    assert matches[2].values == {"iou": 0, "dice": 0, "pixel_accuracy": 1 - 25 / 5400, "boundary_f": 0}
    assert [one.mask for one in masks[:0].matches(masks)] == [None] * 3
    assert masks.matches(masks[:0]) == ()
    with pytest.raises(TypeError, match=r"vislab\.load_masks reads them"):
        masks.matches(regions)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "says"),
    [(REGIONS[0, :20], "90×60 px, and the others 90×20"), (REGIONS * 1, "array of bool"), ("mask", "array of bool")],
)
def test_others_are_of_the_same_image(other: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made().iou(other)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"masks": REGIONS[0]}, r"array of bool, \(n, H, W\)"),
        ({"masks": REGIONS * 1}, "array of bool"),
        ({"labels": ("dog",)}, "3 masks need as many labels"),
        ({"scores": [0.1]}, "3 masks need as many labels and scores"),
        ({"scores": [0.1, np.nan, 1]}, "scores lie between 0 and 1"),
        ({"image": PHOTO[:20]}, "the masks are of an image of"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made(**changes)


def test_overlay_colours_the_mask_alone() -> None:
    masks, grey = made()[:1], np.full((60, 90, 3), 100, np.uint8)
    drawn = vislab.overlay(masks, image=grey, opacity=0.5)
    assert np.array_equal(masks.overlay(), vislab.overlay(masks, opacity=0.5))
    outside = np.ones((60, 90), bool)
    outside[8:42, 3:47] = outside[15:35] = False  # the mask with its outline, and the label
    assert (drawn[outside] == 100).all()
    assert drawn[13:15, 9:41].tolist() == np.full((2, 32, 3), (165, 130, 50)).tolist()
    assert np.array_equal(vislab.overlay(made()[:0]), PHOTO)
    boxes = type("Boxes", (), {"xyxy": np.array([[60.0, 5, 80, 20]]), "scores": [1.0], "labels": ["x"]})()
    assert not np.array_equal(vislab.overlay(masks, image=grey, opacity=0.5, detections=boxes), drawn)


def test_notebooks_and_files_show_them(tmp_path: Path) -> None:
    for masks in (made(), made(image=None)):
        assert np.asarray(Image.open(io.BytesIO(masks._repr_png_()))).ndim == 3
    path = vislab.save(tmp_path / "masks.png", made())
    with Image.open(path) as file:
        assert np.array_equal(np.asarray(file), made().overlay())
        assert file.info["Description"] == str(made())
    assert vislab.save(tmp_path / "m.png", made(image=None), image=PHOTO, opacity=0.5).read_bytes() == path.read_bytes()


def test_how_masks_are_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="these masks have no photograph"):
        made(image=None).overlay()
    with pytest.raises(ValueError, match="the masks belong to an image 90 px wide"):
        vislab.overlay(made(), image=PHOTO[:20])
    with pytest.raises(ValueError, match="masks have no values to colour"):
        vislab.overlay(made(), colormap="magma")
    for name, options in {"a.png": {"plain": True}, "b.png": {"beside": "npz"}}.items():
        with pytest.raises(ValueError, match=r"masks are saved as \.png, .*\.svg, or as \.npz for themselves"):
            vislab.save(tmp_path / name, made(), **options)
    with pytest.raises(ValueError, match="has no option 'colormap'"):
        vislab.save(tmp_path / "a.png", made(), colormap="magma")
    assert not list(tmp_path.iterdir())
    assert replace(made(), image=None).image is None
