"""Letters: the font, and lines of a width."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

INK, WHITE = (31, 31, 31), (255, 255, 255)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of a size in pixels: matplotlib's own, which knows far more letters than OpenCV's."""
    from matplotlib import get_data_path

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size, layout_engine=ImageFont.Layout.BASIC)


def line_image(words: str, face: ImageFont.FreeTypeFont) -> Image.Image | None:
    """A line of text as a picture of its own, which can be turned; None where there are no words."""
    if not words:
        return None
    page = Image.new("RGB", (math.ceil(face.getlength(words)), sum(face.getmetrics())), WHITE)
    ImageDraw.Draw(page).text((0, 0), words, INK, face)
    return page


def wrapped(phrases: Sequence[str], width: float, face: ImageFont.FreeTypeFont) -> list[str]:
    """Phrases set in lines of at most a width in pixels, broken between phrases, or inside one that is too long."""
    lines: list[str] = []
    for phrase in filter(None, (" ".join(phrase.split()) for phrase in phrases)):
        longer = f"{lines[-1]} · {phrase}" if lines else phrase
        if face.getlength(longer) <= width:
            lines[-1:] = [longer]
        else:
            letters = int(len(phrase) * min(1, width / face.getlength(phrase)))
            lines += textwrap.wrap(phrase, max(1, letters))
    return lines
