"""A clip, frame by frame: pictures with their numbers and seconds, of which one is in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import shown, warn, whole

if TYPE_CHECKING:
    import cv2
    from numpy.typing import DTypeLike


SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".mts"}
_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff"}  # OpenCV takes them for clips of one
_AGAIN = "ffmpeg -i {} -c:v libx264 -pix_fmt yuv420p clip.mp4"


@dataclass(frozen=True, eq=False)
class ClipFrame:
    """One frame of a clip, which `explain`, `detect` and all that take an image take; `frames` makes them.

    image: (H, W, 3) uint8 RGB, upright. number: which frame of the clip it is, counted from 0. second: when it is
    shown, seconds from the clip's start, as the file says. `np.asarray(frame)` is its image.
    """

    image: np.ndarray
    number: int
    second: float

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.image, dtype=dtype, copy=copy)


def frames(path: str | os.PathLike[str], *, every: int = 1) -> Iterator[ClipFrame]:
    """The frames of a clip, one at a time: the first, and each that comes `every` frames after one that was given.

    path: a file that OpenCV reads, such as .mp4, .mov, .avi, .mkv or .webm. Of each frame vislab keeps nothing; its
    number and second stay in what `explain` makes of it, and so in the title and the record of a figure.

        heats = [vislab.explain(frame) for frame in vislab.frames("clip.mp4", every=5)]
        vislab.save("sheet.pdf", heats, normalise="shared")

    Raises, when called, FileNotFoundError or IsADirectoryError for a path that cannot be read, TypeError for what is
    no path, and ValueError for an impossible `every` or a file in which OpenCV finds no clip. Warns where a clip ends
    before the frames that its file announces.
    """
    if not whole(every) or every < 1:
        raise ValueError(f"every is a whole number from 1, such as every=5 for each fifth frame, not {shown(every)}")
    return _frames(_opened(path), repr(os.fsdecode(path)), int(every))


def frame_count(path: str | os.PathLike[str]) -> int | None:
    """How many frames a clip's file announces, without decoding them; None where it does not say."""
    return _announced(_opened(path))


def told(image: Any) -> dict[str, Any]:
    """What the facts of a heatmap say of a clip's frame: its number and second; nothing of another image."""
    return {"clip": {"frame": image.number, "second": image.second}} if isinstance(image, ClipFrame) else {}


def _frames(clip: cv2.VideoCapture, name: str, every: int) -> Iterator[ClipFrame]:
    import cv2

    announced, number = _announced(clip), 0
    try:
        while clip.grab():
            if number % every == 0:
                second = clip.get(cv2.CAP_PROP_POS_MSEC) / 1000
                there, pixels = clip.retrieve()
                if not there:
                    raise ValueError(f"{name}: its frame {number} cannot be decoded: {_repaired(name)}")
                yield ClipFrame(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), number, round(second, 6))
            number += 1
    finally:
        clip.release()
    if not number:
        raise ValueError(f"{name}: a clip of which no frame can be decoded: {_repaired(name)}")
    # Some files only estimate how many frames they hold.
    if announced and number < announced - max(2, announced // 20):
        warn(f"{name} ends after {number} of the {announced} frames that it announces: it is cut short or damaged")


def _opened(path: Any) -> cv2.VideoCapture:
    import cv2

    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"a clip is the path of a file, such as 'clip.mp4', not {type(path).__name__}")
    name, place = repr(os.fsdecode(path)), os.path.expanduser(os.fsdecode(path))
    if "://" in place:
        raise ValueError(f"{name} is an address: download the clip, and give the path of its file")
    if os.path.isdir(place):
        raise IsADirectoryError(f"{name} is a folder: give one clip, such as {os.path.join(place, 'clip.mp4')!r}")
    if not os.path.isfile(place):
        raise FileNotFoundError(f"there is no file {name} (looked in {Path.cwd()}): check the path")
    if Path(place).suffix.lower() in _PICTURES:
        raise ValueError(f"{name} is a picture, not a clip: vislab.load_image takes it, and `vislab figure` as it is")
    if not os.path.getsize(place):
        raise ValueError(f"{name}: empty, so it holds no clip: copy or download it again")
    with _silent():
        clip = cv2.VideoCapture(place, cv2.CAP_FFMPEG)
    if not clip.isOpened():
        raise ValueError(
            f"{name}: OpenCV finds no clip in it that it can decode, since it is damaged, holds no frame, or is of a "
            f"codec that OpenCV does not know: {_repaired(name)}"
        )
    return clip


def _repaired(name: str) -> str:
    return f"play it, and if it plays write it again, such as by {_AGAIN.format(name)}"


def _announced(clip: cv2.VideoCapture) -> int | None:
    import cv2

    count = clip.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if 0 < count < 2**53 else None


@contextmanager
def _silent() -> Iterator[None]:
    """OpenCV would log what is said in an error."""
    from cv2.utils import logging

    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)
