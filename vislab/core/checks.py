"""Small questions that errors and checks share: whole numbers, near misses, lists of names in a sentence."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable
from numbers import Integral
from typing import Any, TypeGuard


def whole(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number, of numpy too; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def listed(names: Iterable[str]) -> str:
    """Names for an error message, shortened in the middle."""
    names = list(names)
    shown = names if len(names) <= 6 else [*names[:3], "…", *names[-2:]]
    return ", ".join(shown)


def first_line(error: BaseException) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0].strip()
    return line if line.endswith((".", "!", "?")) else line + "."


def meant(word: object, known: Iterable[str], count: int = 1) -> str:
    """What was probably meant by a word that is none of those known, as the end of a sentence; "" where none is near.

    >>> meant("rolout", ["cls", "rollout"]), meant("saliency", ["cls", "rollout"])
    ("; did you mean 'rollout'?", '')
    """
    near = difflib.get_close_matches(str(word), [*known], count)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def check_options(whose: str, options: Iterable[str], known: Iterable[str]) -> None:
    """ValueError for an option that is not known, which says what was probably meant, or else all that there are."""
    known = [*known]
    for option in options:
        if option not in known:
            instead = meant(option, known) or f": it has {', '.join(known)}"
            raise ValueError(f"{whose} has no option {option!r}{instead}")


def warn(message: str) -> None:
    """A UserWarning at the line that called into this package, however deep it arises."""
    package, frame, level = __name__.partition(".")[0], sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
