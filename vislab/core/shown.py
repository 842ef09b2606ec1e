"""How a value shows itself in a notebook: as a picture that a wing further down draws."""

from __future__ import annotations

from types import ModuleType

from .imports import library


class Shown:
    """A value that is a picture as the last expression of a notebook cell."""

    def _repr_png_(self) -> bytes:
        picture: bytes = drawing("notebook").picture(self)
        return picture


def drawing(room: str) -> ModuleType:
    """A room of the wing that draws: values stand above it, so they know it by name alone."""
    return library(f"vislab.figures.{room}")
