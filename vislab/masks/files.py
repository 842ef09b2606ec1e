"""Masks out of files: a picture whose values or colours are regions, or the numbers that `vislab.save` wrote."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from .masks import Masks

MOST = 256  # regions in a picture; one with more is a photograph


def load_masks(path: str | os.PathLike[str]) -> Masks:
    """The regions that a file holds, such as those that somebody drew.

    path: a picture without loss (.png, .tif, .bmp, .gif) in which each grey value, number of its palette or colour is a
    region, labelled by it ("1", "#ff0000"), and 0, black, or what is transparent is none; or an .npz that `vislab.save`
    wrote of masks. Of pixels that nobody judged, the 255 of Pascal VOC, a region is made as of any other value.

    Raises FileNotFoundError, and ValueError for another file, or one with more than 256 regions.

        vislab.save("truth.npz", vislab.segment("photo.jpg", method="kmeans", clusters=2))
        truth = vislab.load_masks("truth.npz")  # or a picture of regions, .png
        vislab.segment("photo.jpg").matches(truth)
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}: check the path")
    regions, labels, scores = _numbers(path) if path.suffix.lower() == ".npz" else _picture(path)
    scored = "share of the picture"
    if scores is None:
        scores = regions.mean((1, 2))
    else:
        scored = "as saved"
    return Masks(regions, labels, scores, scored, "reading a file", path.name)


def _numbers(path: Path) -> tuple[np.ndarray, tuple[str, ...], np.ndarray | None]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["masks"], tuple(map(str, file["labels"])), file["scores"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(path)!r} holds no masks that vislab wrote: give a picture of regions, .png") from error


def _picture(path: Path) -> tuple[np.ndarray, tuple[str, ...], np.ndarray | None]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            kind, image = file.format, ImageOps.exif_transpose(file)
            bare = image if image.mode in ("1", "L", "P", "I", "I;16", "RGB", "RGBA") else image.convert("RGBA")
            values = np.asarray(bare)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as a picture of regions: save it anew as .png") from error
    if kind not in ("PNG", "TIFF", "BMP", "GIF"):
        raise ValueError(
            f"{str(path)!r} is a {kind}, whose colours are not exact, so its regions have no edges: save it as .png"
        )
    numbers = values.astype(np.int64) if values.ndim == 2 else _colours(values)
    found = np.unique(numbers[numbers != 0])
    if len(found) > MOST:
        raise ValueError(
            f"{str(path)!r} has {len(found)} values or colours, as a photograph has, and each of them would be a "
            f"region: give a picture of at most {MOST} regions"
        )
    labels = [str(value) if values.ndim == 2 else f"#{value:06x}" for value in found.tolist()]
    return (numbers == found[:, None, None]), tuple(labels), None


def _colours(values: np.ndarray) -> np.ndarray:
    """(H, W, 3 or 4) uint8 -> (H, W) int, 0xrrggbb; 0 where it is black or transparent."""
    numbers = values[..., :3].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    return numbers if values.shape[2] == 3 else np.where(values[..., 3] > 0, numbers, 0)
