"""Words put together from the pieces that a tokenizer makes of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.checks import listed, meant, shown, whole

_BROKEN = "\ufffd"  # what stands for a character of which some bytes are yet to come
_MARKS = re.compile(r"""[.,;:!?()\[\]{}"“”«»…。，！？、]+""")


@dataclass(frozen=True)
class Word:
    """One word of an answer. text: without spaces around it; start, stop: its tokens in the sequence of the model."""

    text: str
    start: int
    stop: int

    def __str__(self) -> str:
        return self.text


def words_of(tokenizer: Any, ids: Sequence[int], first: int) -> tuple[Word, ...]:
    """ids: of the answer, whose first one has the index `first` in the sequence -> its words, in order.

    A word begins where its token brings a space, at a mark of punctuation and after one, and at each letter of a
    script that is written without spaces. What a tokenizer leaves out, such as an end of turn, is part of no word.
    """
    found: list[Word] = []
    before, waiting = "", first
    for count in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:count], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if text.endswith(_BROKEN):  # the character is made of this token and the next
            continue
        piece, start, stop = text[len(before) :], waiting, first + count
        joins = bool(found) and not piece[:1].isspace() and not before[-1:].isspace()
        before, waiting = text, stop
        if not piece.strip():
            continue
        if joins and not _apart(found[-1].text, piece):
            found[-1] = Word(found[-1].text + piece.strip(), found[-1].start, stop)
        else:
            found.append(Word(piece.strip(), start, stop))
    return tuple(found)


def _apart(before: str, piece: str) -> bool:
    """Whether two pieces without a space between them are two words."""
    if _MARKS.fullmatch(piece.strip()) or _MARKS.fullmatch(before):
        return True
    return unicodedata.east_asian_width(piece[0]) == "W" or unicodedata.east_asian_width(before[-1]) == "W"


def word_index(words: Sequence[Word], target: Any) -> int:
    """Which word is meant, by its place or its text; case matters only where two differ by nothing else.

    Raises ValueError for a text that no word has, and for one that several have; IndexError for a place out of range.
    """
    texts = [word.text for word in words]
    if whole(target):
        if not -len(words) <= target < len(words):
            raise IndexError(f"no word {target}: the answer has {len(words)}, from 0 ({texts[0]}) to {len(words) - 1}")
        return int(target) % len(words)
    if not isinstance(target, str):
        raise ValueError(f"target is a word of the answer, by its text or its place, not {shown(target)}")
    found = [i for i, text in enumerate(texts) if text == target]
    found = found or [i for i, text in enumerate(texts) if text.lower() == target.strip().lower()]
    if len(found) > 1:
        places = " or ".join(map(str, found))
        raise ValueError(f"the answer says {target!r} {len(found)} times: choose by its place, target={places}")
    if not found:
        near = meant(target, texts)
        raise ValueError(f"the answer has no word {shown(target)}{near}; its words are {listed(dict.fromkeys(texts))}")
    return found[0]
