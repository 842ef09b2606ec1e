"""Small questions that errors and checks share: whole numbers, near misses, lists of names in a sentence."""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, TypeGuard


def whole(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number, of numpy too; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def one_of(value: Any, names: Iterable[str]) -> TypeGuard[str]:
    """Whether a value is one of some names; of arrays, lists and the like, which cannot be looked up, it is none."""
    return isinstance(value, str) and value in [*names]


def shown(value: Any) -> str:
    """A value for an error message, shortened in the middle."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:50]} … {text[-20:]}"


def check_shares(**shares: Any) -> None:
    """ValueError where an opacity, a threshold or the like, by its name, is no number from 0 to 1."""
    for name, number in shares.items():
        if not real(number) or not 0 <= float(number) <= 1:
            raise ValueError(f"{name} lies between 0 and 1, not at {shown(number)}")


def real(value: Any) -> bool:
    """Whether a value is a number, True and False excepted; it may be NaN."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_flags(**flags: Any) -> None:
    """ValueError where what is on or off, by its name, is neither True nor False."""
    for name, flag in flags.items():
        if not (isinstance(flag, bool) or type(flag).__name__ == "bool"):  # numpy's own
            raise ValueError(f"{name} is True or False, not {shown(flag)}")


def check_counts(**counts: Any) -> None:
    """ValueError where a count, by its name, is no whole number from 0."""
    for name, count in counts.items():
        if not whole(count) or count < 0:
            raise ValueError(f"{name} is a whole number from 0, not {shown(count)}")


def check_name(name: Any) -> None:
    """ValueError for what is no name of something given, or None."""
    if name is not None and not (isinstance(name, str) and name.strip() and name.isprintable()):
        raise ValueError(f"name is a text in one line, such as 'my ViT, epoch 30', not {shown(name)}")


def check_named(name: Any, model: Any) -> None:
    """ValueError for a name of what has one already: of a name, a path, or what vislab loaded; TypeError as well."""
    check_name(name)
    if isinstance(model, str | os.PathLike) or isinstance(getattr(model, "name", None), str):
        known = getattr(model, "name", model)
        raise ValueError(f"{known} has a name already: name= is of a module that you give")


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
