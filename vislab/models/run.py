"""What goes into one forward of a model, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..core.geometry import Frame, Grid
from ..engine.capture import Capture
from .spending import Spending


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as a model's input.

    pixels: (1, 3, height, width). frame: of the grid's cells, which is that of the pixels but where the grid has
    another corner. by_pixels: of the pixels. arguments: what the module takes beside them. spending: how its forwards
    spend their tokens, where they do.
    """

    pixels: Tensor
    grid: Grid
    frame: Frame
    by_pixels: Frame
    arguments: Mapping[str, Any]
    spending: Spending | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """One forward under capture. logits: (classes,) or None where the model has no classifier."""

    capture: Capture
    grid: Grid
    frame: Frame
    logits: Tensor | None
