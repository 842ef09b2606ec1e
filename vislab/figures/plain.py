"""A heatmap on its photograph as a picture of the photograph's own size: no page, no colour bar, no caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .boxes import with_asking
from .formats import jpg_of, png_of
from .overlay import overlay
from .page import Panel

PLAIN = (".png", ".jpg", ".jpeg")


def check_plain(figure: Panel, suffix: str, beside: Sequence[str]) -> None:
    """ValueError where a figure, a suffix or what stands beside it is of a page alone."""
    if suffix not in PLAIN:
        raise ValueError(f"a plain overlay is a picture, {', '.join(PLAIN)}, not {suffix}: leave plain out")
    cells = [cell for _, _, cell in figure.filled()]
    if len(cells) != 1 or cells[0].heat is None:
        raise ValueError(
            f"a plain overlay is of one heatmap, not of {len(cells)} pictures: save each, or leave plain out"
        )
    look = figure.look
    on_paper = {"width": look.width is not None, "theme": look.theme != "light", "transparent": look.transparent}
    wrong = [name for name, given in on_paper.items() if given]
    if wrong or "tex" in beside:
        raise ValueError(
            f"{wrong[0] if wrong else 'tex'} is of a page, and a plain overlay has none: leave it out, or plain"
        )


def plain_file(figure: Panel, suffix: str, record: Mapping[str, Any]) -> bytes:
    """The one heatmap of a panel on its photograph, as the contents of a PNG or JPEG, the record inside."""
    look = figure.look
    [cell] = [cell for _, _, cell in figure.filled()]
    assert cell.heat is not None
    # Of one map, what a row, a column or a page shares is its own.
    way: Any = look.normalise if isinstance(look.normalise, tuple) or look.normalise == "absolute" else "map"
    drawn: dict[str, Any] = {
        "opacity": look.opacity,
        "blend": look.blend,
        "colormap": look.colormap,
        "smooth": look.smooth,
        "threshold": look.threshold,
        "grid": look.grid,
    }
    pixels = with_asking(overlay(cell.heat, detections=figure.detections, normalise=way, **drawn), cell.heat)
    if suffix == ".png":
        return png_of(pixels, None, figure.title, figure.caption, record)
    return jpg_of(pixels, record)
