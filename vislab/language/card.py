"""What the card beside a model says of it: its limits, and what it can be asked."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

from ..core.files import assets, place_of
from ..models.known import READER_FOLDERS

_LIMITS = re.compile(r"^- \*\*Limits\*\*: (.+)$", re.MULTILINE)
_QUESTIONS = re.compile(r"^\| *question *\|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", re.MULTILINE)


@dataclass(frozen=True)
class Card:
    """limits: in sentences, the one that matters most first; "" where the card names none. questions: examples."""

    limits: str = ""
    questions: tuple[str, ...] = ()


def card(name: str) -> Card:
    """The card of a model by its name or folder, a README.md beside its weights; an empty one where there is none."""
    text = ""
    with suppress(ValueError, OSError, UnicodeDecodeError):
        folder = assets() / "models" / READER_FOLDERS[name] if name in READER_FOLDERS else place_of(name)
        text = (folder / "README.md").read_text(encoding="utf-8")
    limits, table = _LIMITS.search(text), _QUESTIONS.search(text)
    rows = table[1].splitlines() if table else []
    return Card(limits[1].strip() if limits else "", tuple(row.split("|")[1].strip() for row in rows))
