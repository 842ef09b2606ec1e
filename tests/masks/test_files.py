"""Laws of mask files: each value or colour is a region on its own pixels, and what was saved is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vislab

NUMBERS = np.zeros((40, 60), np.uint8)
NUMBERS[5:20, 10:30], NUMBERS[25:35, 40:55] = 3, 255


def colours(numbers: np.ndarray) -> Image.Image:
    table = np.zeros((256, 3), np.uint8)
    table[3], table[255] = (255, 0, 0), (0, 0, 9)
    return Image.fromarray(table[numbers])


def palette(numbers: np.ndarray) -> Image.Image:
    image = Image.fromarray(numbers)
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tolist())
    return image


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        (Image.fromarray(NUMBERS), ("3", "255")),
        (Image.fromarray(NUMBERS.astype(np.uint16) * 100), ("300", "25500")),
        (palette(NUMBERS), ("3", "255")),
        (colours(NUMBERS), ("#000009", "#ff0000")),
        (colours(NUMBERS).convert("RGBA"), ("#000009", "#ff0000")),
        (Image.fromarray(NUMBERS == 3), ("1",)),
        (Image.fromarray(NUMBERS * 0), ()),
    ],
    ids=["grey", "16 bits", "palette", "colours", "with alpha", "bits", "empty"],
)
def test_each_value_is_a_region(image: Image.Image, labels: tuple[str, ...], tmp_path: Path) -> None:
    image.save(tmp_path / "drawn.png")
    masks = vislab.load_masks(tmp_path / "drawn.png")
    assert masks.labels == labels
    values = {"#000009": 255, "#ff0000": 3, "300": 3, "25500": 255, "1": 3, "3": 3, "255": 255}
    for label, mask, score in zip(labels, masks.masks, masks.scores, strict=True):
        assert np.array_equal(mask, values[label] == NUMBERS)
        assert score == pytest.approx(mask.mean())


def test_transparent_pixels_are_in_no_region_and_files_are_read_upright(tmp_path: Path) -> None:
    pixels = np.dstack([np.full((40, 60, 3), 7, np.uint8), np.where(NUMBERS == 3, 1, 0).astype(np.uint8)])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    masks = vislab.load_masks(tmp_path / "turned.png")
    assert masks.labels == ("#070707",)
    assert np.array_equal(masks.masks[0], NUMBERS == 3)


@pytest.mark.parametrize("clusters", [2, 4])
def test_saved_masks_are_read_back(clusters: int, tmp_path: Path) -> None:
    masks = vislab.segment(vislab.samples()["church"], method="kmeans", clusters=clusters)
    again = vislab.load_masks(vislab.save(tmp_path / "masks.npz", masks))
    assert np.array_equal(again.masks, masks.masks)
    assert again.labels == masks.labels
    assert np.array_equal(again.scores, masks.scores)
    for path in (tmp_path / "masks.npz", vislab.save(tmp_path / "masks.png", masks)):
        record = vislab.provenance(path)["masks"]
        assert record["method"] == f"kmeans (clusters {clusters}, seed 0)"
        assert [one["xyxy"] for one in record["regions"]] == masks.boxes.tolist()
        assert record["facts"]["weights"] == masks.facts["weights"]


def test_what_holds_no_regions_is_refused(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    noise.save(tmp_path / "photo.png")
    noise.save(tmp_path / "photo.jpg")
    (tmp_path / "torn.png").write_bytes((tmp_path / "photo.png").read_bytes()[:200])
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    (tmp_path / "torn.npz").write_bytes(b"PK")
    for name, says in {
        "photo.png": "as a photograph has",
        "photo.jpg": "colours are not exact",
        "torn.png": "cannot be read as a picture of regions",
        "other.npz": "holds no masks that vislab wrote",
        "torn.npz": "holds no masks that vislab wrote",
    }.items():
        with pytest.raises(ValueError, match=says):
            vislab.load_masks(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        vislab.load_masks(tmp_path / "nowhere.png")
