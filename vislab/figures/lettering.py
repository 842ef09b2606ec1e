"""Words on a page, in mm: set in lines of a width, smaller where a word would not fit, and at last cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .page import FONT, LEAST, SMALL
from .text import cut, font, widest_word, wrapped

LARGE = 100  # px that letters are measured at, so that hinting does not round the widths
POINT = 25.4 / 72  # mm


@dataclass(frozen=True)
class Lines:
    """Words in lines of a size. points: in print; all on a slide is larger."""

    words: Sequence[str] = ()
    points: float = FONT

    def __len__(self) -> int:
        return len(self.words)


def length(words: str, points: float) -> float:
    """Of a line of text, mm."""
    return font(LARGE).getlength(words) / LARGE * points * POINT


def lines_of(words: str, width: float, unit: float, points: float) -> Lines:
    """Words in lines of at most a width. unit: how much larger than in print all is."""
    return Lines(wrapped(words.split(" · "), _pixels(width, points * unit), font(LARGE)), points)


def fitted(words: str, width: float, unit: float) -> Lines:
    """Words in lines of at most a width, smaller where a word would not fit else; in the least size it is cut."""
    needed = widest_word(words, font(LARGE)) / LARGE * POINT * unit  # mm, of a point
    return lines_of(words, width, unit, min(FONT, max(LEAST, width / needed)) if needed else FONT)


def limited(words: str, width: float, unit: float, most: int) -> Lines:
    """Small words in so many lines of at most a width: smaller where they would not fit else, and then cut."""
    face, kept = font(LARGE), Lines()
    for points in (SMALL, LEAST):
        room = _pixels(width, points * unit)
        lines = wrapped([words], room, face)
        if len(lines) <= most and widest_word(words, face) <= room:
            return Lines(lines, points)
        last = cut(" ".join(lines[most - 1 :]), room, face)
        kept = Lines([one for one in (*lines[: most - 1], last) if one], points)
    return kept


def _pixels(width: float, points: float) -> float:
    """A width in mm as letters of a size are measured."""
    return max(width, 0.0) / POINT / points * LARGE + 1e-6
