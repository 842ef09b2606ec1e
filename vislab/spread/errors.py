"""What is wrong with one photograph of many, told apart from what is wrong with all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


class PhotoError(Exception):
    """One photo cannot be shown; others may."""


@contextmanager
def photo_errors(*kinds: type[Exception], name: str = "") -> Iterator[None]:
    """Errors that are one photo's own, named by it where the message does not."""
    try:
        yield
    except kinds as error:
        raise PhotoError(f"{name!r}: {error}" if name else sentence(error)) from error


def sentence(error: Exception) -> str:
    """What an error says, its type named where it was not raised for a user to read."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)!r}: {error.strerror}"
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if said and isinstance(error, ValueError | OSError | LookupError | MemoryError | RuntimeError | ImportError):
        return said
    return f"unexpected {type(error).__name__}: {said or 'no message'} (--debug shows where)"
