"""Panels drawn by matplotlib: photos, heatmaps as layers of their own, colour bars, boxes and text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..core.geometry import Box
from ..core.heatmap import Heatmap
from .boxes import Boxes, apart, asking, box_labels, explained_box, points_of, turned_of
from .colours import colour_ticks, colours, colours_of
from .formats import PHOTO, rgba
from .layers import draw_layer
from .layout import LINE, Bar, Plan, Rect, plan
from .lettering import length
from .lines import edges, faintness
from .overlay import overlay
from .page import INKS, SCREEN, SMALL, STYLE, Cell, Panel
from .png import png
from .text import font

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


SHARPEST = 600  # dpi of print: beyond it no printer shows more


@contextmanager
def styled() -> Iterator[None]:
    """Figures that are made and written inside do not depend on the style set in the notebook."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def preview(panel: Panel) -> bytes:
    """What a notebook shows of a panel: a PNG."""
    with styled():
        return png(rgba(figure_of(panel, vector=False), SCREEN), dpi=SCREEN)


def pixels_of(panel: Panel) -> np.ndarray:
    """The page as pixels at its dpi, on its ground -> (H, W, 3) uint8."""
    return rgba(figure_of(panel, vector=False), panel.look.dpi)[..., :3]


def figure_of(panel: Panel, *, vector: bool) -> Figure:
    """The page. vector: the file scales its pictures itself."""
    from matplotlib.figure import Figure

    page = plan(panel)
    ink, ground = INKS[panel.look.theme]
    figure = Figure(figsize=(page.width / 25.4, page.height / 25.4))
    figure.set_facecolor("none" if panel.look.transparent else ground)

    def axes(place: Rect) -> Axes:
        left, top, wide, tall = place
        return figure.add_axes(
            (left / page.width, 1 - (top + tall) / page.height, wide / page.width, tall / page.height)
        )

    photos: dict[str, _Photo] = {}
    for i, j, cell in panel.filled():
        place = page.pictures[i, j]
        shown, image = cell.digest, cell.image
        if cell.masks is not None:
            shown, image = f"masks {i} {j}", overlay(cell.masks, image=cell.image, opacity=panel.look.opacity)
        photo = photos.setdefault(shown, _Photo(image, place, len(photos), vector))
        _draw_cell(axes(place), cell, photo, panel, page)
    for bar in page.bars:
        _draw_bar(axes(bar.place), bar, panel.look.colormap, page.unit, ink)
    for text in page.texts:
        figure.text(
            text.x / page.width,
            1 - text.y / page.height,
            text.words,
            size=text.points,
            color=ink,
            rotation=90 if text.upright else 0,
            ha="center" if text.centred else "left",
            va="center" if text.upright else "baseline",
            parse_math=False,
        )
    return figure


class _Photo:
    """A photo as the page holds it: once, however many heatmaps are drawn over it."""

    def __init__(self, image: np.ndarray, place: Rect, number: int, vector: bool) -> None:
        finest = max(1, round(place[2] / 25.4 * SHARPEST))
        self.image = image
        if vector and image.shape[1] > finest:
            tall = max(1, round(image.shape[0] * finest / image.shape[1]))
            self.image = cv2.resize(image, (finest, tall), interpolation=cv2.INTER_AREA)
        self.name, self.vector = f"{PHOTO}{number}", vector
        self._pixels: np.ndarray | None = None

    def draw(self, ax: Axes, extent: tuple[float, float, float, float]) -> None:
        way = "none" if self.vector else "auto"
        picture = ax.imshow(self.image, extent=extent, interpolation=way, aspect="auto")
        picture.set_gid(self.name)
        if self.vector:
            self._embed_once(picture)

    def _embed_once(self, picture: AxesImage) -> None:
        """Have matplotlib write the same array each time the photo is drawn: a PDF then stores it once."""
        make = picture.make_image

        def make_image(*args: Any, **options: Any) -> tuple[Any, ...]:
            pixels, *place = make(*args, **options)
            self._pixels = pixels if self._pixels is None else self._pixels
            return self._pixels, *place

        picture.__dict__["make_image"] = make_image


def _draw_cell(ax: Axes, cell: Cell, photo: _Photo, panel: Panel, page: Plan) -> None:
    """The photo, and over it the heatmap as a layer of its own."""
    height, width = cell.image.shape[:2]
    photo.draw(ax, (0, width, height, 0))
    if cell.heat is not None:
        if panel.look.blend == "multiply":  # which no layer does: a page knows no products of colours
            ax.imshow(_multiplied(cell, panel), extent=(0, width, height, 0), interpolation="none", aspect="auto")
        else:
            draw_layer(ax, cell.heat, cell.span, panel.look, vector=photo.vector)
        if panel.look.grid:
            _draw_grid(ax, cell.heat)
        if (asks := asking(cell.heat)) is not None:
            _outline(ax, asks)
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.set_axis_off()
    boxes = explained_box(cell.heat) if panel.detections is None else panel.detections
    if boxes is not None:
        _draw_boxes(ax, boxes, (SMALL - 0.5) * page.unit)


def _multiplied(cell: Cell, panel: Panel) -> np.ndarray:
    """The photograph times the colours of its heatmap -> (H, W, 3) uint8."""
    look, (low, high) = panel.look, cell.span
    assert cell.heat is not None
    how: dict[str, Any] = {"opacity": look.opacity, "blend": look.blend, "colormap": look.colormap}
    way: Any = (low, high) if low < high else "map"
    return overlay(cell.heat, image=cell.image, normalise=way, smooth=look.smooth, threshold=look.threshold, **how)


def _draw_bar(ax: Axes, bar: Bar, colormap: str, unit: float, ink: str) -> None:
    low, high = bar.span
    _, _, wide, tall = bar.place
    size = SMALL * unit
    values, labels, factor = colour_ticks(bar.span, count=max(2, min(6, int(max(wide, tall) / 8 / unit))))
    ramp = np.linspace(1, 0, 256) if low < high else np.zeros(256)
    colour = colours(ramp[:, None], colours_of(bar.span, colormap))
    top = high if low < high else low + 1
    if bar.level:
        ax.imshow(colour[::-1].swapaxes(0, 1), extent=(low, top, 0, 1), interpolation="none", aspect="auto")
        ax.set_yticks([])
        ends = sorted({0, len(values) - 1})
        ax.set_xticks([values[k] for k in ends], [labels[k] for k in ends])
        for tick, k in zip(ax.get_xticklabels(), ends, strict=True):
            # A label keeps within its bar, so that those of neighbours never meet.
            at, half = (values[k] - low) / (top - low) * wide, length(labels[k], size) / 2
            tick.set_horizontalalignment("left" if at < half else "right" if at > wide - half else "center")
    else:
        ax.imshow(colour, extent=(0, 1, low, top), interpolation="none", aspect="auto")
        ax.yaxis.tick_right()
        ax.set_xticks([])
        kept = slice(None) if len(values) * LINE * unit <= tall else slice(None, None, max(1, len(values) - 1))
        ax.set_yticks(values[kept], labels[kept])
        ax.annotate(factor, (0, 1), (0, 2), xycoords="axes fraction", textcoords="offset points", size=size, color=ink)
    ax.tick_params(labelsize=size, width=0.4 * unit, length=1.6 * unit, pad=1.5 * unit, color=ink, labelcolor=ink)
    for spine in ax.spines.values():
        spine.set(linewidth=0.4 * unit, color=ink)


def _draw_grid(ax: Axes, heat: Heatmap) -> None:
    """White lines between the patches, the fainter the smaller the patches are on paper."""
    down, across = edges(heat)
    points = ax.bbox.height / ax.figure.dpi * 72 / heat.frame.source[0]  # a source pixel has so many
    opacity = faintness(min(np.diff(down).min(), np.diff(across).min()) * points)
    for rule, places, ends in ((ax.hlines, down, across), (ax.vlines, across, down)):
        rule(places, ends[0], ends[-1], colors="white", linewidths=0.4, alpha=opacity)


def _outline(ax: Axes, box: Box) -> None:
    """A white line cased in black around a box of source pixels."""
    from matplotlib.patches import Rectangle

    x0, y0, x1, y1 = box
    for colour, line in (("black", 2.2), ("white", 0.8)):
        ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=line))


def _draw_found(ax: Axes, boxes: Boxes, number: int, radius: float) -> None:
    """A box, turned where it is, and its keypoints. radius: of a point, source pixels."""
    from matplotlib.patches import Circle, Polygon

    turned = turned_of(boxes, number)
    if turned is None:
        _outline(ax, boxes.xyxy[number].tolist())
    else:
        for colour, line in (("black", 2.2), ("white", 0.8)):
            ax.add_patch(Polygon(turned, fill=False, edgecolor=colour, linewidth=line))
    for place in points_of(boxes, number):
        ax.add_patch(Circle(place, radius, facecolor="white", edgecolor="black", linewidth=0.6))


def _draw_boxes(ax: Axes, boxes: Boxes, size: float) -> None:
    """Boxes as white lines cased in black, labels white on black: legible on a photo and on every colormap."""
    right, bottom = ax.get_xlim()[1], ax.get_ylim()[0]
    unit = bottom / (ax.bbox.height / ax.figure.dpi * 72)  # source pixels a point
    high, labels, texts = (size + 5) * unit, [], []
    for number, ((x0, y0, *_), text) in enumerate(zip(boxes.xyxy.tolist(), box_labels(boxes), strict=True)):
        _draw_found(ax, boxes, number, 2 * unit)
        wide = (font(100).getlength(text) / 100 * size + 5) * unit
        if wide > right or high > bottom / 3:  # the label would hide what it names
            continue
        left, top = max(0.0, min(x0, right - wide)), max(0.0, min(y0, bottom - high))
        labels.append((left, top, left + wide, top + high))
        texts.append(text)
    for (left, top, *_), text in zip(apart(labels, bottom), texts, strict=True):
        ax.annotate(
            text,
            (left, top),
            (1.6, -1.6),
            textcoords="offset points",
            va="top",
            color="white",
            size=size,
            bbox={"facecolor": "black", "edgecolor": "none", "alpha": 0.75, "pad": 1.2},
            parse_math=False,
            clip_on=True,
        )
