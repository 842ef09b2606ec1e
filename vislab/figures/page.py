"""What a figure is: pictures in rows and columns with their labels, and the page that they stand on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..core.checks import check_flags, check_shares, one_of, real, shown
from ..core.heatmap import Heatmap
from ..core.shown import Shown
from ..masks.masks import Masks
from .blends import Blend, check_blend
from .boxes import Boxes
from .colours import Range
from .overlay import OPACITY

Normalise = Literal["map", "row", "column", "shared", "absolute"] | Range
Width = Literal["column", "page", "slide"] | float
Theme = Literal["light", "dark"]
FONT, SMALL, LEAST = 7.0, 6.0, 5.0  # points, the last of words that would not fit otherwise
WIDEST = 180.0  # mm, of a page that is as wide as its figure needs
SCREEN = 144  # dpi, in a notebook
STYLE = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "vislab"}  # text stays text; ids stay the same


@dataclass(frozen=True)
class Paper:
    """width, height: mm, or None: as what stands on it needs. text: points."""

    width: float | None
    height: float | None
    text: float


# One and two columns of a journal, and a slide of 10 × 5.625 inches, which is 16:9.
PAPERS = {"column": Paper(85, None, FONT), "page": Paper(178, None, FONT), "slide": Paper(254, 142.875, 12)}
INKS = {"light": ("black", "white"), "dark": ("#f2f2f2", "#121212")}  # of the text, and of the page


MILLIMETRES, DPI = 5000, 10_000  # more than any page, and finer than any printer


def _positive(number: Any, most: float) -> bool:
    return real(number) and 0 < number <= most


@dataclass(frozen=True)
class Look:
    """How a figure is drawn: the heatmaps, and the page they stand on."""

    opacity: float = OPACITY
    blend: Blend = "even"
    colormap: str = "viridis"
    smooth: bool = False
    normalise: Normalise = "map"
    threshold: float = 0.0
    grid: bool = False
    label: str | None = None
    width: Width | None = None
    theme: Theme = "light"
    transparent: bool = False
    dpi: int = 300

    def __post_init__(self) -> None:
        check_shares(opacity=self.opacity, threshold=self.threshold)
        check_blend(self.blend)
        check_flags(smooth=self.smooth, grid=self.grid, transparent=self.transparent)
        if not isinstance(self.label, str | None):
            raise ValueError(f"label is a text, or None for what the values are, not {shown(self.label)}")
        if self.width is not None and not one_of(self.width, PAPERS) and not _positive(self.width, MILLIMETRES):
            names = ", ".join(map(repr, PAPERS))
            raise ValueError(
                f"no width {shown(self.width)}: take {names}, or a number of mm above zero, up to {MILLIMETRES:,}"
            )
        if not _positive(self.dpi, DPI) or self.dpi < 1:
            raise ValueError(f"dpi is a number above zero, from 1 to {DPI:,}, not {shown(self.dpi)}")
        if not one_of(self.theme, INKS):
            raise ValueError(f"no theme {shown(self.theme)}: take {', '.join(map(repr, INKS))}")
        if isinstance(self.normalise, str) and self.normalise not in ("map", "row", "column", "shared", "absolute"):
            raise ValueError(
                f"no normalisation {self.normalise!r}: take 'map', 'row', 'column', 'shared', 'absolute', or a pair "
                "(low, high)"
            )

    @property
    def paper(self) -> Paper:
        return PAPERS[self.width] if isinstance(self.width, str) else Paper(self.width, None, FONT)


@dataclass(frozen=True, eq=False)
class Cell:
    """One picture: a photo, and over it a heatmap with the values at the ends of its colours, or masks, or nothing.

    digest: the photo's fingerprint. label: what the values are, beside the colour bar.
    """

    image: np.ndarray
    digest: str
    heat: Heatmap | None = None
    span: Range = (0.0, 1.0)
    title: str = ""
    label: str = ""
    masks: Masks | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Panel(Shown):
    """A figure: pictures in rows and columns, their labels and colour bars; make one with `vislab.panel`.

    cells: rows of equal length, None where nothing stands. rows, columns: labels, or none. detections: boxes on each
    picture, or None for the one that a heatmap explains. listed: whether its heatmaps are a plain list. options: the
    keywords of `panel` that made it. captioned: whether somebody wrote its caption. Shows itself as the last expression
    of a notebook cell; `vislab.save` writes it.
    """

    cells: tuple[tuple[Cell | None, ...], ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    caption: str
    detections: Boxes | None
    look: Look
    listed: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    captioned: bool = False

    def __repr__(self) -> str:
        return f"Panel({len(self.cells)} × {len(self.cells[0])} pictures: {self.caption or self.title})"

    def filled(self) -> Iterator[tuple[int, int, Cell]]:
        """The pictures with their row and column."""
        for i, row in enumerate(self.cells):
            yield from ((i, j, cell) for j, cell in enumerate(row) if cell is not None)

    @property
    def heats(self) -> list[Heatmap]:
        return [cell.heat for _, _, cell in self.filled() if cell.heat is not None]

    @property
    def title(self) -> str:
        """What a file is called in its metadata."""
        titles = [cell.title for _, _, cell in self.filled() if cell.title]
        return titles[0] if len(titles) == 1 else self.caption or next((heat.method for heat in self.heats), "")
