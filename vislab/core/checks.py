"""Small questions that errors and checks share: whole numbers, near misses, lists of names in a sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Integral
from typing import Any, TypeGuard


def whole(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number, of numpy too; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def meant(word: object, known: Iterable[str]) -> str:
    """The name that was probably meant, as the end of a sentence; nothing where none is near.

    >>> meant("rolout", ["cls", "rollout"])
    "; did you mean 'rollout'?"
    """
    near = difflib.get_close_matches(str(word), [*known], 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def listed(names: Iterable[str]) -> str:
    """Names for an error message, shortened in the middle."""
    names = list(names)
    shown = names if len(names) <= 6 else [*names[:3], "…", *names[-2:]]
    return ", ".join(shown)


def first_line(error: BaseException) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0].strip()
    return line if line.endswith((".", "!", "?")) else line + "."
