"""A heatmap on its photograph, as pixels: colours, the overlay, boxes, and the picture a notebook shows."""

from __future__ import annotations

import difflib
import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Literal, Protocol

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .detection import Detections
from .fingerprints import of_name
from .geometry import Frame, Grid, Heatmap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Range = tuple[float, float]
Normalise = Literal["map", "absolute"] | Range

INK, WHITE = (31, 31, 31), (255, 255, 255)
# From here on the highest colour over black is brighter than the lowest over white: maps are read in grey print too.
OPACITY = 0.6
# Of matplotlib, those with two ends and a middle; the same reversed.
DIVERGING = {
    *("PiYG", "PRGn", "BrBG", "PuOr", "RdGy", "RdBu", "RdYlBu", "RdYlGn", "Spectral", "coolwarm", "bwr", "seismic"),
    *("berlin", "managua", "vanimo"),
}
# The keywords of `explain` that all methods share; what else is in a heatmap's settings is an option of its method.
ASKED = {
    *("model", "detector", "box", "method", "layer", "head", "query", "target"),
    *("attention_scale", "patch_size", "image_size"),
}
SHOWN_SIDE = (400, 720)  # px, the photo's long side in a notebook: below it is enlarged, above it reduced


class Boxes(Protocol):
    """What is drawn of detections: xyxy (n, 4) in source pixels, score (n,), label (n names)."""

    @property
    def xyxy(self) -> np.ndarray: ...
    @property
    def score(self) -> np.ndarray: ...
    @property
    def label(self) -> Sequence[str]: ...


def overlay(
    image: np.ndarray,
    heat: Heatmap,
    *,
    opacity: float = OPACITY,
    colormap: str = "viridis",
    detections: Boxes | None = None,
    smooth: bool = False,
    normalise: Normalise = "map",
    threshold: float = 0.0,
    ax: Axes | None = None,
) -> np.ndarray:
    """The heatmap drawn over its source image, each patch where its pixels came from -> (H, W, 3) uint8.

    A source pixel takes the patch that its centre falls in; `smooth` interpolates bilinearly between patch centres.
    Pixels the model never saw (cropped away, left over at the border) keep the photo, as do those below `threshold`, a
    fraction of the colour range, or, where 0 is in its middle, of the way from 0 to its ends. normalise: see
    `colour_range`; colormap: see `colours_of`. With `ax` it is drawn there too, in source pixels.

    ValueError: an image of another size than the heatmap's source, an unknown colormap, numbers outside 0..1.
    """
    check(image, heat, opacity=opacity, threshold=threshold)
    span = colour_range(heat, normalise)
    table = colours_of(span, colormap)
    rows = _pixel_cells(heat, 0)
    cols = _pixel_cells(heat, 1)
    seen = (_within(rows, heat.grid.rows), _within(cols, heat.grid.cols))

    canvas = np.array(image)
    if canvas[seen].size:
        share = fraction(sample(heat.values, rows[seen[0]], cols[seen[1]], smooth=smooth), span)
        blend = cv2.addWeighted(canvas[seen], 1 - opacity, colours(share, table), opacity, 0)
        weak = hidden(share, span, threshold)[..., None]
        canvas[seen] = blend if threshold <= 0 else np.where(weak, canvas[seen], blend)
    if detections is not None:
        canvas = with_boxes(canvas, detections)
    if ax is not None:
        ax.imshow(canvas, extent=(0, canvas.shape[1], canvas.shape[0], 0))
    return canvas


def painted(image: np.ndarray, colours: np.ndarray, grid: Grid, frame: Frame) -> np.ndarray:
    """Each patch in a colour of its own, colours: (rows, cols, 3) uint8, over its source image -> (H, W, 3) uint8."""
    order = Heatmap(np.arange(grid.patches).reshape(grid.rows, grid.cols), grid, frame, "order")
    rows, cols = _pixel_cells(order, 0), _pixel_cells(order, 1)
    seen = (_within(rows, grid.rows), _within(cols, grid.cols))
    canvas = np.array(image)
    canvas[seen] = colours[np.ix_(rows[seen[0]].astype(int), cols[seen[1]].astype(int))]
    return canvas


def colour_range(heats: Heatmap | Sequence[Heatmap], normalise: Normalise = "map") -> Range:
    """The values at the two ends of the colours -> (low, high).

    "map": from the lowest to the highest value shown, shared when several heatmaps are given; patches that lie wholly
    outside the photo (letterbox padding) do not count. "absolute": 0..1. Where a map is signed, 0 is in the middle:
    both ends are equally far from it, and "absolute" is -1..1. A pair is taken as it is. Another constant map has
    low == high, and is drawn in the lowest colour.
    """
    if isinstance(normalise, str):
        heats = [heats] if isinstance(heats, Heatmap) else heats
        signed = any(heat.signed for heat in heats)
        if normalise == "absolute":
            return (-1.0 if signed else 0.0), 1.0
        if normalise != "map":
            raise ValueError(f'no normalisation {normalise!r}: take "map", "absolute", or a pair (low, high)')
        shown = [_shown_values(heat) for heat in heats]
        low, high = float(min(values.min() for values in shown)), float(max(values.max() for values in shown))
        end = max(-low, high) or 1.0
        return (-end, end) if signed else (low, high)
    low, high = (float(end) for end in normalise)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"a colour range runs from a lower to a higher number, not from {low:g} to {high:g}")
    return low, high


def fraction(values: np.ndarray, span: Range) -> np.ndarray:
    """Values -> 0..1 of a colour range, of the same shape; what lies outside is cut to its ends."""
    low, high = span
    if high <= low:
        return np.zeros_like(values)
    return np.clip((values - low) / (high - low), 0, 1)


def sample(values: np.ndarray, rows: np.ndarray, cols: np.ndarray, *, smooth: bool) -> np.ndarray:
    """values: (rows, cols), read at positions counted in patches from the grid's corner -> (len(rows), len(cols)).

    Nearest, or bilinear between patch centres (which stand at n + ½) and constant beyond the outermost.
    """
    if not smooth:
        return values[np.ix_(rows.astype(int), cols.astype(int))]
    first, last, weight = _neighbours(rows, values.shape[0])
    values = values[first] * (1 - weight[:, None]) + values[last] * weight[:, None]
    first, last, weight = _neighbours(cols, values.shape[1])
    return values[:, first] * (1 - weight) + values[:, last] * weight


def colours(share: np.ndarray, table: np.ndarray) -> np.ndarray:
    """share: (H, W) in 0..1; table: (256, 3) -> (H, W, 3) uint8."""
    return cv2.applyColorMap(np.minimum(share * 256, 255).astype(np.uint8), table[:, None])


def colour_table(name: str) -> np.ndarray:
    """The colours of a matplotlib colormap, lowest first -> (256, 3) uint8."""
    from matplotlib import colormaps

    if name not in colormaps:
        near = difflib.get_close_matches(str(name), list(colormaps), n=3)
        instead = f"did you mean {', '.join(map(repr, near))}?" if near else "try 'viridis', 'magma' or 'turbo'."
        raise ValueError(f"no colormap {name!r}: {instead}")
    return np.rint(colormaps[name](np.arange(256) / 255)[:, :3] * 255).astype(np.uint8)


def colours_of(span: Range, colormap: str) -> np.ndarray:
    """The colours of a range, lowest first -> (256, 3) uint8.

    They are the colormap's, but where 0 is in the middle of the range only a diverging one will do: then they are
    "coolwarm", unless the colormap is such a one.
    """
    table = colour_table(colormap)
    return colour_table("coolwarm") if centred(span) and colormap.removesuffix("_r") not in DIVERGING else table


def centred(span: Range) -> bool:
    """Whether 0 is in the middle of a colour range, as it is for signed maps."""
    return span[0] == -span[1] < 0


def hidden(share: np.ndarray, span: Range, threshold: float) -> np.ndarray:
    """Where a map is weak: share, in 0..1 of its colour range, lies below the threshold -> bool, of the same shape."""
    return (np.abs(2 * share - 1) if centred(span) else share) < threshold


def colour_ticks(span: Range, count: int = 5) -> tuple[list[float], list[str], str]:
    """Round numbers for a colour bar -> (values, their labels, "×10⁻³" or whatever the labels leave out)."""
    from matplotlib.ticker import MaxNLocator

    low, high = span
    values = [low]
    if low < high:
        inside = [float(v) for v in MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
        values = [v for v in inside if low <= v <= high]
        values = values if len(values) > 1 else [low, high]
    largest = max(abs(low), abs(high))
    power = math.floor(math.log10(largest)) if largest else 0
    power = 0 if -3 < power < 4 else power
    scaled = [v / 10.0**power for v in values]
    step = scaled[1] - scaled[0] if len(scaled) > 1 else abs(scaled[0]) or 1
    fits = (d for d in range(12) if all(abs(round(v, d) - v) < step * 1e-3 for v in scaled))
    decimals = next(fits, 12)
    labels = [f"{v + 0.0:.{decimals}f}".replace("-", "−") for v in scaled]  # + 0.0 makes a plain zero of -0.0
    return values, labels, "×10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")) if power else ""


def describe(heat: Heatmap) -> list[str]:
    """What a heatmap shows, in the short phrases of a caption."""
    known = heat.settings
    scale = known.get("attention_scale", 1.0)
    phrases = [
        heat.method,
        f"of {heat.target}" if heat.target else "",
        of_name(str(known.get("model") or known.get("detector") or "")),
        _layer(heat.method, known.get("layer")),
        f"head {_words(known['head'])}" if known.get("head") is not None else "",
        f"query {heat.query or _words(known.get('query'))}" if heat.query or known.get("query") is not None else "",
        *(f"{name} {_words(value)}" for name, value in known.items() if name not in ASKED and value is not None),
        f"attention scale {_words(scale)}" if scale not in (None, 1, 1.0) else "",
        f"patch {'×'.join(map(str, dict.fromkeys(heat.grid.patch)))} px",
        str(heat.grid),
    ]
    return [phrase for phrase in phrases if phrase]


def figure_array(heat: Heatmap) -> np.ndarray:
    """What a notebook shows of a heatmap: on its photo (on white if it has none), colour bar, caption -> RGB uint8."""
    heat = _at_shown_size(heat)
    photo = heat.image if heat.image is not None else np.full((*heat.frame.source, 3), 255, np.uint8)
    picture = overlay(photo, heat, opacity=OPACITY if heat.image is not None else 1)
    height, width = picture.shape[:2]
    span = colour_range(heat)
    values, labels, factor = colour_ticks(span, count=max(2, min(6, height // 60)))
    small, edge, bar = font(12), 10, 14
    bar_height = max(height, 60)
    bar_left = edge + width + 12
    top = edge + (18 if factor else 0)
    right = bar_left + bar + 7 + math.ceil(max(small.getlength(text) for text in [*labels, factor]))
    display = "colours per map" + (", 0 in the middle" if centred(span) else "")
    lines = wrapped([*describe(heat), display], max(right, 380) - edge, small)
    below = top + bar_height + 10

    page = Image.new("RGB", (max(right, 380) + edge, below + 18 * len(lines) + edge - 4), WHITE)
    page.paste(Image.fromarray(picture), (edge, top))
    ramp = colours(np.linspace(1 if span[0] < span[1] else 0, 0, bar_height)[:, None], colours_of(span, "viridis"))
    page.paste(Image.fromarray(ramp.repeat(bar, axis=1)), (bar_left, top))
    draw = ImageDraw.Draw(page)
    for value, label in zip(values, labels, strict=True):
        y = top + round((1 - float(fraction(np.array(value), span))) * (bar_height - 1))
        draw.line((bar_left + bar, y, bar_left + bar + 3, y), fill=INK)
        draw.text((bar_left + bar + 7, y), label, INK, small, anchor="lm")
    draw.text((bar_left, top - 7), factor, INK, small, anchor="ls")
    for number, line in enumerate(lines):
        draw.text((edge, below + 18 * number), line, INK, small, anchor="la")
    return np.asarray(page)


def boxes_array(boxes: Detections) -> np.ndarray:
    """What a notebook shows of detections: boxes on their photo (on white if it has none), a caption -> RGB uint8."""
    photo = boxes.image if boxes.image is not None else np.full((*boxes.frame.source, 3), 255, np.uint8)
    height, width = _shown_size(boxes.frame.source)
    scale = np.tile((width / photo.shape[1], height / photo.shape[0]), 2)
    picture = with_boxes(_resized(photo, (height, width)), replace(boxes, xyxy=boxes.xyxy * scale, image=None))
    return captioned(picture, [str(boxes)])


def captioned(picture: np.ndarray, phrases: Sequence[str]) -> np.ndarray:
    """picture: (H, W, 3) uint8 -> the same at a notebook's size, with phrases in lines below it."""
    edge, small = 10, font(12)
    picture = _resized(picture, _shown_size((picture.shape[0], picture.shape[1])))
    height, width = picture.shape[:2]
    lines = wrapped(phrases, max(width, 380), small)
    page = Image.new("RGB", (max(width, 380) + 2 * edge, height + 2 * edge + 6 + 18 * len(lines)), WHITE)
    page.paste(Image.fromarray(picture), (edge, edge))
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        draw.text((edge, edge + height + 10 + 18 * number), line, INK, small, anchor="la")
    return np.asarray(page)


def png(rgb: np.ndarray) -> bytes:
    """rgb: (H, W, 3) uint8 -> PNG file, the same bytes for the same pixels."""
    return cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()


def check(image: np.ndarray, heat: Heatmap, *, opacity: float = OPACITY, threshold: float = 0.0) -> None:
    """ValueError, in words, where a heatmap cannot be drawn over an image."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        given = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"heatmaps are drawn on RGB images, uint8 (H, W, 3), not {given}: vislab.load_image makes one")
    if image.shape[:2] != heat.frame.source:
        (height, width), (h, w) = image.shape[:2], heat.frame.source
        raise ValueError(
            f"the heatmap belongs to an image {w} px wide and {h} high, this one is {width} wide and {height} high: "
            "pass the image that was explained"
        )
    for name, number in (("opacity", opacity), ("threshold", threshold)):
        if not 0 <= number <= 1:
            raise ValueError(f"{name} lies between 0 and 1, not at {number}")


def box_labels(boxes: Boxes) -> list[str]:
    """What stands beside each box: its name and score."""
    return [
        f"{' '.join(name.split())} {float(score):.2f}" for name, score in zip(boxes.label, boxes.score, strict=True)
    ]


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of a size in pixels: matplotlib's own, which knows far more letters than OpenCV's."""
    from matplotlib import get_data_path

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size, layout_engine=ImageFont.Layout.BASIC)


def wrapped(phrases: Sequence[str], width: float, face: ImageFont.FreeTypeFont) -> list[str]:
    """Phrases set in lines of at most a width in pixels, broken between phrases, or inside one that is too long."""
    lines: list[str] = []
    for phrase in filter(None, (" ".join(phrase.split()) for phrase in phrases)):
        longer = f"{lines[-1]} · {phrase}" if lines else phrase
        if face.getlength(longer) <= width:
            lines[-1:] = [longer]
        else:
            letters = int(len(phrase) * min(1, width / face.getlength(phrase)))
            lines += textwrap.wrap(phrase, max(1, letters))
    return lines


def _pixel_cells(heat: Heatmap, axis: int) -> np.ndarray:
    """Where the centres of the source pixels along an axis stand on the grid, counted in patches."""
    frame = heat.frame
    centres = np.arange(frame.source[axis]) + 0.5
    return (centres * frame.scale[axis] + frame.offset[axis]) / heat.grid.patch[axis]


def _within(cells: np.ndarray, count: int) -> slice:
    """The pixels that a patch covers: one run, since positions only grow."""
    return slice(int(np.searchsorted(cells, 0)), int(np.searchsorted(cells, count)))


def _neighbours(cells: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The patches whose centres lie before and after each position, and the weight of the second."""
    position = np.clip(cells - 0.5, 0, count - 1)
    first = position.astype(int)
    return first, np.minimum(first + 1, count - 1), (position - first).astype(np.float32)


def _shown_values(heat: Heatmap) -> np.ndarray:
    """The values of the patches that reach into the photo by more than rounding."""
    keep = []
    for axis, count in enumerate(heat.values.shape):
        edges = np.arange(count + 1) * heat.grid.patch[axis]
        source = (edges - heat.frame.offset[axis]) / heat.frame.scale[axis]
        keep.append((source[1:] > 1e-6) & (source[:-1] < heat.frame.source[axis] - 1e-6))
    shown = heat.values[np.ix_(*keep)]
    return shown if shown.size else heat.values


def _layer(method: str, layer: object) -> str:
    """The layer that was read, or, of rollout, the last one that it goes through where that is not the model's last."""
    last = layer == -1
    if layer is None or (last and method == "rollout"):
        return ""
    if method == "rollout":
        return f"up to layer {layer}"
    return "last layer" if last else f"layer {layer}"


def _words(value: object) -> str:
    if isinstance(value, tuple | list):
        return "(" + ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value) + ")"
    return "CLS" if value == "cls" else str(value)


def _at_shown_size(heat: Heatmap) -> Heatmap:
    """The same heatmap over a photo of a size that suits a notebook."""
    height, width = heat.frame.source
    size = _shown_size((height, width))
    if size == (height, width):
        return heat
    image = None if heat.image is None else _resized(heat.image, size)
    scale = (heat.frame.scale[0] * height / size[0], heat.frame.scale[1] * width / size[1])
    return replace(heat, frame=Frame(size, heat.frame.model, scale, heat.frame.offset), image=image)


def _shown_size(source: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) at which a notebook shows a photo."""
    smallest, largest = SHOWN_SIDE
    long = max(source)
    zoom = largest / long if long > largest else max(1, smallest // long)
    return max(1, round(source[0] * zoom)), max(1, round(source[1] * zoom))


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    way = cv2.INTER_AREA if size < image.shape[:2] else cv2.INTER_CUBIC
    return cv2.resize(image, size[::-1], interpolation=way)


def with_boxes(image: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Boxes as white lines cased in black, labels white on black: legible on a photo and on every colormap."""
    height, width = image.shape[:2]
    line = max(1, round(min(height, width) / 320))
    face = font(max(11, round(min(height, width) / 38)))
    page = Image.fromarray(image)
    draw = ImageDraw.Draw(page, "RGBA")
    corners = [[round(float(v)) for v in box] for box in boxes.xyxy]
    for x0, y0, x1, y1 in corners:
        draw.rectangle((x0 - line, y0 - line, x1 + line, y1 + line), outline=(0, 0, 0, 190), width=3 * line)
        draw.rectangle((x0, y0, x1, y1), outline=WHITE, width=line)
    for (x0, y0, _, _), text in reversed(list(zip(corners, box_labels(boxes), strict=True))):  # the first on top
        wide, high = math.ceil(face.getlength(text)) + 8, sum(face.getmetrics()) + 2
        left = max(0, min(x0 - line, width - wide))
        top = y0 - line - high if y0 - line >= high else max(0, min(y0 + line, height - high))
        draw.rectangle((left, top, left + wide - 1, top + high - 1), fill=(0, 0, 0, 190))
        draw.text((left + 4, top + high / 2), text, WHITE, face, anchor="lm")
    return np.array(page)
