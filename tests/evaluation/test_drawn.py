"""Laws of measuring against drawn masks: each number is the measure of the mask that the map makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vislab
from vislab.masks.measures import MEASURES

PHOTOS = {name: vislab.samples()[name] for name in ("church", "raccoon")}


def drawn(name: str) -> np.ndarray:
    mask = vislab.segment(PHOTOS[name], method="share").masks[0].copy()
    mask[:200] = False
    return mask


def test_numbers_are_those_of_the_masks(tmp_path: Path) -> None:
    Image.fromarray(drawn("church")).save(tmp_path / "church.png")
    image = vislab.load_image(PHOTOS["raccoon"])
    truth = vislab.Masks(drawn("raccoon")[None], ("x",), [1], "drawn", "hand", "none", image)
    files = {"church": tmp_path / "church.png", "raccoon": truth}
    found = vislab.evaluate_masks(PHOTOS, masks=files, methods=["cls", "rollout"], progress=False)
    assert found.methods == ("cls", "rollout", "the whole picture")
    for row, method in enumerate(("cls", "rollout")):
        for number, name in enumerate(PHOTOS):
            mask = vislab.segment(vislab.explain(PHOTOS[name], method=method)).masks[0]
            for measure, of in MEASURES.items():
                assert found.values[measure][row, number] == of(mask, drawn(name))
    assert found.values["iou"][2] == pytest.approx([drawn(name).mean() for name in PHOTOS])
    first = found.rows()[0]
    assert first["mean"] == pytest.approx(found.values["iou"][0].mean())
    assert (first["method"], first["measure"], first["n"]) == ("cls", "iou", 2)
    assert repr(found).startswith("embedded · 2 images · masks of maps by otsu · mean ± standard error\n")
    assert found.csv().count("\n") == 1 + 3 * len(MEASURES)


def test_images_without_a_drawn_mask_are_named_and_left_out(tmp_path: Path) -> None:
    Image.fromarray(drawn("church")).save(tmp_path / "church.png")
    Image.fromarray(np.zeros((5, 5), bool)).save(tmp_path / "small.png")
    photos = {**PHOTOS, "other": PHOTOS["church"], "empty": np.zeros((5, 5, 3), np.uint8), "gone": "gone.jpg"}
    files = {"church": tmp_path / "church.png", "other": tmp_path / "small.png", "empty": tmp_path / "small.png"}
    with pytest.warns(UserWarning, match="left out") as told:
        found = vislab.evaluate_masks(photos, masks=files, methods=["cls"], progress=False)
    assert len(told) == 4
    assert found.values["iou"].shape == (2, 1)
    said = "\n".join(found.skipped)
    for words in ("raccoon: nobody drew", "other: its mask is 5×5 px", "empty: its mask is empty", "gone: there is no"):
        assert words in said
    with pytest.raises(ValueError, match="none of the 1 images"), pytest.warns(UserWarning, match="nobody drew"):
        vislab.evaluate_masks({"church": PHOTOS["church"]}, masks={}, progress=False)
    with pytest.raises(ValueError, match="did you mean 'rollout'"):
        vislab.evaluate_masks(PHOTOS, masks=files, methods=["rolout"])
    with pytest.raises(ValueError, match="by otsu, threshold, share, not by 'kmeans'"):
        vislab.evaluate_masks(PHOTOS, masks=files, mask="kmeans")
