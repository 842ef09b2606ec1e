"""The maps of a clip's frames as a film: a page a frame, written as mp4 by OpenCV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import cv2
import numpy as np

from ..core.files import write
from ..core.heatmap import Heatmap
from .captions import caption_of, joined, parts, shared
from .colours import colour_range
from .drawing import pixels_of, styled
from .layout import plan
from .page import Look, Normalise, Panel
from .panel import panel
from .provenance import record_of

FILM = ".mp4"
_CODE = "mp4v"  # MPEG-4, which every build of OpenCV writes
_LARGEST = 8190  # px of a side in it


def pages(
    heats: Sequence[Heatmap], images: Iterable[np.ndarray], *, normalise: Literal["map", "shared"], **look: Any
) -> Iterator[Panel]:
    """A figure of each map on its frame, alike in all: what they share in the caption, what is its own in its title.

    images: (H, W, 3) uint8, read one by one. normalise: whether the colours of all maps have one range. look: as of
    `panel`, a caption too.
    """
    given = look.pop("caption", None)
    phrases = [parts(heat) for heat in heats]
    common = shared(phrases)
    low, high = colour_range(heats)
    span: Normalise = (low, high) if normalise == "shared" and low < high else "map"
    for heat, image, own in zip(heats, images, phrases, strict=True):
        title = joined({part: phrase for part, phrase in own.items() if part not in common})
        page = panel([replace(heat, image=image)], title=title, caption="", normalise=span, **look)
        told = caption_of(common, Look(normalise=normalise, **look), page.cells) if given is None else given
        yield replace(page, caption=told)


def write_film(path: Path, figures: Iterable[Panel], rate: float) -> dict[str, Any]:
    """An mp4 of figures, whole or not at all, of which one is in memory at a time -> the record of how it was made.

    rate: figures a second. All have the size of the first; what is smaller or larger is set in its middle.
    """
    record: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        part, writer, count = Path(folder, f"film{FILM}"), None, 0
        try:
            for figure in figures:
                if writer is None:
                    size = _size(figure)
                    writer = _opened(part, size, rate)
                with styled():
                    pixels = pixels_of(figure)
                writer.write(np.ascontiguousarray(_set(pixels, size)[..., ::-1]))
                count += 1
                one = record_of(figure, FILM)
                record = record or {**one, "maps": [], "images": {}}
                record["maps"] += one["maps"]
                record["images"] |= one["images"]
        finally:
            if writer is not None:
                writer.release()
        _check(part, count)
        write(path, part)
    return {name: value for name, value in record.items() if name not in ("cells", "listed", "call")}


def _size(figure: Panel) -> tuple[int, int]:
    """(height, width), px, even numbers since the codec halves its colours. ValueError where it takes fewer."""
    page = plan(figure)
    height, width = (int(side / 25.4 * figure.look.dpi) // 2 * 2 for side in (page.height, page.width))
    if not 2 <= min(height, width) <= max(height, width) <= _LARGEST:
        raise ValueError(
            f"a film of {width:,}×{height:,} px is beyond the 2 to {_LARGEST:,} px that a side may have: take another "
            "dpi or width"
        )
    return height, width


def _opened(part: Path, size: tuple[int, int], rate: float) -> cv2.VideoWriter:
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*_CODE), rate, size[::-1])
    if not writer.isOpened():
        raise RuntimeError(
            f"this OpenCV ({cv2.__version__}) writes no mp4 ({_CODE}), as the wheels of PyPI do: pip install "
            "opencv-python-headless, or take a sheet, such as .png"
        )
    return writer


def _check(part: Path, count: int) -> None:
    """RuntimeError where OpenCV did not write all: it says nothing of a full disk."""
    film = cv2.VideoCapture(str(part))
    written = int(film.get(cv2.CAP_PROP_FRAME_COUNT)) if film.isOpened() else 0
    film.release()
    if written != count:
        raise RuntimeError(f"OpenCV wrote {written} of the film's {count} frames: look whether the disk is full")


def _set(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """pixels: (H, W, 3) uint8, in the middle of a page of that size, in the colour of its own corner."""
    if pixels.shape[:2] == size:
        return pixels
    canvas = np.empty((*size, 3), np.uint8)
    canvas[:] = pixels[0, 0]
    high, wide = (min(a, b) for a, b in zip(pixels.shape, size, strict=False))
    (y, x), (v, u) = (
        [(whole - part) // 2 for whole, part in zip(full, (high, wide), strict=False)] for full in (size, pixels.shape)
    )
    canvas[y : y + high, x : x + wide] = pixels[v : v + high, u : u + wide]
    return canvas
