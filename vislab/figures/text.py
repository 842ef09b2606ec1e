"""Letters: the font, and lines of a width."""

from __future__ import annotations

import math
import re
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
    """Phrases set in lines of at most a width in pixels, broken between phrases, or inside one that is too long.

    A phrase is broken at spaces; a word that is wider than a line after its hyphens and the like, and what has none is
    cut, with an ellipsis.
    """
    lines: list[str] = []
    for phrase in filter(None, (" ".join(phrase.split()) for phrase in phrases)):
        longer = f"{lines[-1]} · {phrase}" if lines else phrase
        if face.getlength(longer) <= width:
            lines[-1:] = [longer]
        else:
            lines += _broken(phrase, width, face)
    return lines


def widest_word(words: str, face: ImageFont.FreeTypeFont) -> float:
    """The width in pixels that no line of a text can be narrower than, if its words stay whole."""
    return max(map(face.getlength, words.split()), default=0.0)


def cut(words: str, width: float, face: ImageFont.FreeTypeFont) -> str:
    """As much of a text as is no wider than a width in pixels, with an ellipsis for what is left out."""
    if face.getlength(words) <= width:
        return words
    kept = next((n for n in range(len(words), 0, -1) if face.getlength(f"{words[:n].rstrip()}…") <= width), 0)
    return f"{words[:kept].rstrip()}…" if kept else ""


def _broken(phrase: str, width: float, face: ImageFont.FreeTypeFont) -> list[str]:
    """A phrase in lines of at most a width."""
    lines: list[str] = []
    for word in phrase.split(" "):
        parts = [word] if face.getlength(word) <= width else re.findall(r".+?(?:[-/_,.]+|$)", word)
        for number, part in enumerate(parts):
            longer = f"{lines[-1]}{'' if number else ' '}{part}" if lines else part
            if lines and face.getlength(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(cut(part, width, face))
    return [line for line in lines if line]
