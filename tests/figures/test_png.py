"""Laws of PNG files: each pixel and note is kept, in files that are no larger than Pillow's."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pictures import photo
from PIL import Image

import vislab
from vislab.figures.png import png


@pytest.mark.parametrize("channels", [3, 4])
def test_every_pixel_and_note_is_kept_and_the_file_is_always_the_same(channels: int) -> None:
    pixels = np.dstack([photo((17, 23)), photo((17, 23))])[..., :channels]
    notes = {"Title": "Äpfel", "Description": "0 ≤ α → ∞", "vislab": '{"a": 1}'}
    data = png(pixels, notes=notes, dpi=300)
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert {name: image.info[name] for name in notes} == notes
        assert (np.asarray(image) == pixels).all()
        image.load()
    assert data == png(pixels.copy(), notes=notes, dpi=300)


def test_alpha_is_held_where_something_is_transparent_alone() -> None:
    solid = np.dstack([photo(), np.full((32, 48), 255, np.uint8)])
    clear = solid.copy()
    clear[3, 4, 3] = 254
    assert [Image.open(io.BytesIO(png(pixels))).mode for pixels in (solid, clear)] == ["RGB", "RGBA"]


def test_photographs_take_little_more_than_with_the_slow_compression() -> None:
    image = vislab.load_image(vislab.samples()["church"])
    slow = io.BytesIO()
    Image.fromarray(image).save(slow, "png")
    assert len(png(image)) < 1.1 * len(slow.getvalue())
    quick = png(image, quick=True)
    assert len(quick) < 1.1 * len(png(image))
    assert (np.asarray(Image.open(io.BytesIO(quick))) == image).all()
