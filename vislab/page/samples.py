"""The photographs that a page brings, small, with who took them."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.checks import shown
from ..core.credits import credit_of
from ..core.images import load_image, samples

SIDE, QUALITY, MOST = 448, 85, 24  # px of the longer side; JPEG; photographs in one page


@dataclass(frozen=True)
class Sample:
    """A photograph in the page. credit: who took it and the licence, "" where the page's maker says nothing."""

    name: str
    title: str
    credit: str
    jpeg: bytes


def brought(images: Sequence[Any] | None) -> list[Sample]:
    """Photographs, as `vislab.load_image` takes them, for a page; None: those that come with vislab.

    Raises ValueError for no photograph or too many, and what `load_image` raises.
    """
    if isinstance(images, str | bytes | os.PathLike | np.ndarray) or not isinstance(images, Sequence | None):
        raise TypeError(f"images is a list of photographs, not {shown(images)}: write images=[…]")
    own = samples()
    if images is None:
        # the church first: the model knows it, and the page opens with it
        images = sorted(own.values(), key=lambda path: path.stem != "church")
    if not 0 < len(images) <= MOST:
        raise ValueError(f"a page brings 1 to {MOST} photographs, not {len(images)}")
    made: list[Sample] = []
    for number, image in enumerate(images, 1):
        path = Path(image) if isinstance(image, str | os.PathLike) else None
        stem = path.stem if path else f"photo {number}"
        jpeg = _jpeg(load_image(image))
        title, credit = (credit_of(path) if path else None) or (stem, "")
        name = stem if stem not in [one.name for one in made] else f"{stem} {number}"
        made.append(Sample(name, title, credit, jpeg))
    return made


def _jpeg(image: np.ndarray) -> bytes:
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()
