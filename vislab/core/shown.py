"""How a value shows itself in a notebook: as a picture that a wing further down draws."""

from __future__ import annotations

from importlib import import_module

from .imports import IMPORTING


class Shown:
    """A value that is a picture as the last expression of a notebook cell.

    Values stand above what draws them, so they know it by name alone: `vislab.figures.notebook.picture`.
    """

    def _repr_png_(self) -> bytes:
        with IMPORTING:
            notebook = import_module("vislab.figures.notebook")
        picture: bytes = notebook.picture(self)
        return picture
