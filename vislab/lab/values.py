"""Values of settings: what they are called, and traits that refuse, in words, what is none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import traitlets

from ..core.checks import meant, one_of, real, shown
from ..detectors.detector import Detector
from ..language.reader import Reader
from ..masks.networks import Segmenter
from ..masks.promptable import Promptable
from ..models.model import Model


def named(value: Any, _: Any = None) -> Any:
    """An image, a model, a detector or a segmenter by the name that loads it again; "" for what has none."""
    if value is None or isinstance(value, str | Path):
        return value and str(value)
    known = isinstance(value, Model | Detector | Reader | Promptable | Segmenter)
    return value.name if known and value.name != type(value.module).__name__ else ""  # which a bare module is named by


def whole(value: Any) -> bool:
    """Whether a value is a whole number, True and False excepted."""
    return isinstance(value, int) and not isinstance(value, bool)


class Number(traitlets.Float):
    """A number: not NaN, which no comparison with a limit finds, nor True or False."""

    def validate(self, obj: Any, value: Any) -> Any:
        if not real(value) or math.isnan(value):
            raise traitlets.TraitError(f"{self.name} is a number, not {shown(value)}")
        return super().validate(obj, value)


class Choice(traitlets.Enum[Any]):
    """One of some names; of what cannot be compared with them, such as an array, that is said."""

    def validate(self, obj: Any, value: Any) -> Any:
        if not one_of(value, self.values):
            raise traitlets.TraitError(
                f"{self.name} is one of {', '.join(map(repr, self.values))}, not {shown(value)}"
                f"{meant(value, self.values) if isinstance(value, str) else ''}"
            )
        return value


def trait(kind: Any, **tags: Any) -> Any:
    """One that the browser sees too."""
    return kind.tag(sync=True, **tags)


@contextmanager
def in_words() -> Iterator[None]:
    """Errors of the engine as the trait errors that widgets expect, in the same words."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise traitlets.TraitError(str(error)) from error
