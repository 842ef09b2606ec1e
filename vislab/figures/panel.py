"""Heatmaps -> a panel: what each picture is called, which colours it shares, and what the caption says."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.checks import check_options, shown
from ..core.fingerprints import of_image
from ..core.heatmap import Heatmap
from ..masks.masks import Masks
from . import colours
from .blends import Blend
from .boxes import Boxes, boxes_given
from .captions import caption_of, joined, measure_of, parts, shared
from .colours import Range, colour_range, colour_table
from .overlay import OPACITY, photograph
from .page import FONT, WIDEST, Cell, Look, Normalise, Panel, Theme, Width

Content = Heatmap | Masks | np.ndarray | None
COLUMNS = 6  # heatmaps of a plain list beside each other before a new row begins
PITCH = 34.0  # mm in print that one takes at least with a bar of its own and what stands beside it


def panel(
    heats: Heatmap | Sequence[Content] | Sequence[Sequence[Content]],
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    title: str | Sequence[str] | None = None,
    caption: str | None = None,
    detections: Boxes | tuple[()] | None = None,
    opacity: float = OPACITY,
    blend: Blend = "even",
    colormap: str = "viridis",
    smooth: bool = False,
    normalise: Normalise = "map",
    threshold: float = 0.0,
    grid: bool = False,
    label: str | None = None,
    width: Width | None = None,
    theme: Theme = "light",
    transparent: bool = False,
    dpi: int = 300,
    **unknown: Any,
) -> Panel:
    """Heatmaps on their photos as one figure: a list of them, or a grid as a list of rows.

    heats: beside a heatmap may stand Masks, a photo, uint8 (H, W, 3), or None for a gap. rows, columns: labels of a
    grid; by default what sets its rows and columns apart. title: one a picture of a list, by default what sets them
    apart. caption: by default what all have in common; "" for none. detections: boxes on the photo; by default each
    heatmap's own, which `explain_box` explained, and () for none. opacity: from 0.6 on the highest colour over black
    is brighter than the lowest over white, so that maps are read in grey print too. blend: see `overlay`. normalise:
    which of them share their colours and a bar: "map" none, "row", "column" or "shared"; or "absolute", 0 to 1, or a
    pair (low, high). threshold: the share of the colours below which the photo shows. grid: whether lines between the
    patches are drawn. label: what stands beside the colour bars, by default what their values are; "" for nothing.
    width: "column" (85 mm), "page" (two columns, 178 mm), "slide" (16:9, 254 mm), or mm; by default what the pictures
    need. transparent: no page behind them; theme "dark" has light text. dpi: of PNG and JPEG; PDF and SVG need none.
    Shows itself in a notebook; `vislab.save(path, panel)` writes it.

        methods = ("cls", "rollout")
        heats = [[vislab.explain(photo, method=method) for method in methods] for photo in ("a.jpg", "b.jpg")]
        vislab.panel(heats, rows=["a", "b"], normalise="column", width="page")

    ValueError: heatmaps without a photo, labels that do not fit the grid, unknown or impossible options.
    """
    options = {name: value for name, value in locals().items() if name not in ("heats", "unknown")}
    check_options("vislab.panel", unknown, OPTIONS)
    look = Look(opacity, blend, colormap, smooth, normalise, threshold, grid, label, width, theme, transparent, dpi)
    colour_table(colormap)
    boxes = boxes_given(detections)
    if caption is not None and not isinstance(caption, str):
        raise ValueError(f"caption is a text, or None for what all have in common, not {shown(caption)}")
    options = {name: value for name, value in options.items() if _differs(value, OPTIONS[name])}
    lines, listed = _grid(heats, _most(look), named=rows is not None or columns is not None)
    maps = [one for row in lines for one in row if isinstance(one, Heatmap)]
    if not maps:
        raise ValueError("there is no heatmap to show: give one, or several; masks alone are written by vislab.save")
    for row in lines:
        for one in row:
            if isinstance(one, Heatmap | Masks):
                photograph(one)

    phrases = _Phrases(lines, listed)
    photos: dict[str, np.ndarray] = {}
    names = _titles(phrases, title)
    cells = tuple(
        tuple(_cell(one, span, name, label, photos) for one, span, name in zip(*line, strict=True))
        for line in zip(lines, _spans(lines, normalise), names, strict=True)
    )
    if boxes is not None and len(boxes.labels) and len(photos) > 1:
        raise ValueError(f"the boxes are of one photo, and {len(photos)} are shown: draw each with its own")
    return Panel(
        cells,
        _labels("rows", rows, phrases.rows),
        _labels("columns", columns, phrases.columns),
        caption_of(phrases.common, look, cells) if caption is None else caption,
        boxes,
        look,
        listed,
        {name: value for name, value in options.items() if name != "detections"},
        captioned=caption is not None,
    )


OPTIONS: Mapping[str, Any] = {
    name: parameter.default
    for name, parameter in inspect.signature(panel).parameters.items()
    if name not in ("heats", "unknown")
}


def _differs(value: Any, default: Any) -> bool:
    return value is not default and (type(value) is not type(default) or value != default)


def _most(look: Look) -> int:
    """How many heatmaps of a plain list stand beside each other."""
    if look.normalise != "map":
        return COLUMNS
    return max(1, min(COLUMNS, int((look.paper.width or WIDEST) / (PITCH * look.paper.text / FONT))))


def _grid(heats: Any, most: int, *, named: bool) -> tuple[list[list[Content]], bool]:
    """Rows of equal length, and whether they were a plain list. most: how many of a list in one row."""
    several = isinstance(heats, Iterable) and not isinstance(heats, Heatmap | Masks | np.ndarray)
    contents: list[Any] = list(heats) if several else [heats]
    nested = [isinstance(one, list | tuple) for one in contents]
    if any(nested) and not all(nested):
        raise ValueError("a panel takes a list of heatmaps, or a list of rows of them, not both in one")
    if any(nested):
        rows = [list(row) for row in contents]
    else:
        high = 1 if named else -(-len(contents) // most)
        wide = -(-len(contents) // max(1, high))
        rows = [contents[start : start + wide] for start in range(0, len(contents), wide or 1)]
    for one in (one for row in rows for one in row):
        photo = isinstance(one, np.ndarray) and one.dtype == np.uint8 and one.ndim == 3 and one.shape[2] == 3
        if not (one is None or isinstance(one, Heatmap | Masks) or photo):
            raise ValueError(
                "a panel shows heatmaps, masks, photos as uint8 (H, W, 3), and None for a gap, not "
                f"{type(one).__name__}"
            )
    wide = max(map(len, rows), default=0)
    return [row + [None] * (wide - len(row)) for row in rows], not (any(nested) or named)


class _Phrases:
    """What is said of heatmaps, and where: what all share, what a row or a column shares, what is left for each.

    own: of each its phrases by part. common: those of the caption, by part.
    """

    def __init__(self, grid: Sequence[Sequence[Content]], listed: bool) -> None:
        self.own = [[parts(one) if isinstance(one, Heatmap) else None for one in row] for row in grid]
        self.masks = [[f"masks by {one.method}" if isinstance(one, Masks) else "" for one in row] for row in grid]
        self.empty = [[one is None for one in row] for row in grid]
        every = [own for row in self.own for own in row if own is not None]
        self.common = shared(every)
        self.listed = listed
        across, down = self.own, list(zip(*self.own, strict=True))
        self.rows = [] if listed else [self._shared(line) for line in across]
        self.columns = [] if listed else [self._shared(line) for line in down]

    def _shared(self, line: Sequence[Mapping[str, str] | None]) -> dict[str, str]:
        own = [one for one in line if one is not None]
        if not own:
            return {"photo": "photo"}
        return {k: v for k, v in own[0].items() if k not in self.common and all(one.get(k) == v for one in own)}

    def left(self, i: int, j: int) -> str:
        if self.masks[i][j]:
            return self.masks[i][j]
        elsewhere = {*self.common, *(() if self.listed else (*self.rows[i], *self.columns[j]))}
        return joined({part: said for part, said in (self.own[i][j] or {}).items() if part not in elsewhere})


def _titles(phrases: _Phrases, title: str | Sequence[str] | None) -> list[list[str]]:
    if title is None:
        return [[phrases.left(i, j) for j in range(len(row))] for i, row in enumerate(phrases.own)]
    if not phrases.listed:
        raise ValueError("a grid is labelled by rows=… and columns=…, one for each: leave title out")
    titles = [title] if isinstance(title, str) else _texts("title", title)
    count = sum(not gap for row in phrases.empty for gap in row)
    if len(titles) != count:
        raise ValueError(f"{count} panels take {count} titles, not {len(titles)}")
    rest = iter(titles)
    return [["" if gap else next(rest) for gap in row] for row in phrases.empty]


def _labels(name: str, labels: Sequence[str] | None, own: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    if labels is None:
        words = tuple(joined(phrases) for phrases in own)
        return words if any(one not in ("", "photo") for one in words) else ()
    if isinstance(labels, str) or len(texts := _texts(name, labels)) != len(own):
        raise ValueError(f"{len(own)} {name} take a list of {len(own)} labels, not {shown(labels)}")
    return tuple(texts)


def _texts(name: str, texts: Any) -> list[str]:
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} is a list of texts, not {shown(texts)}")
    return list(texts)


def _spans(grid: Sequence[Sequence[Content]], normalise: Normalise) -> list[list[Range]]:
    """The values at the ends of each picture's colours: those of the heatmaps it shares them with."""
    where = {(i, j): one for i, row in enumerate(grid) for j, one in enumerate(row) if isinstance(one, Heatmap)}

    def with_it(i: int, j: int) -> list[Heatmap]:
        same = {"row": lambda k: k[0] == i, "column": lambda k: k[1] == j, "map": lambda k: k == (i, j)}
        chosen = same.get(normalise, lambda _: True) if isinstance(normalise, str) else lambda _: True
        return [one for key, one in where.items() if chosen(key)]

    way: colours.Normalise = "map" if isinstance(normalise, str) and normalise != "absolute" else normalise
    return [
        [colour_range(with_it(i, j), way) if (i, j) in where else (0.0, 1.0) for j in range(len(row))]
        for i, row in enumerate(grid)
    ]


def _cell(one: Content, span: Range, title: str, label: str | None, photos: dict[str, np.ndarray]) -> Cell | None:
    """photos: those of the panel, so that each is held once."""
    if one is None:
        return None
    image = one.image if isinstance(one, Heatmap | Masks) else one
    assert image is not None
    digest = of_image(image)
    heat = one if isinstance(one, Heatmap) else None
    said = "" if heat is None else measure_of([heat]) if label is None else label
    masks = one if isinstance(one, Masks) else None
    return Cell(photos.setdefault(digest, image), digest, heat, span, title, said, masks)
