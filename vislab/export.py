"""Figures for print, with their provenance inside: PNG, JPEG, PDF, SVG, and NPZ for the numbers."""

from __future__ import annotations

import io
import json
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import render
from .geometry import Heatmap
from .render import Boxes, Range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Normalise = Literal["map", "shared", "absolute"] | Range

PACKAGES = ("vislab", "numpy", "matplotlib", "torch", "transformers", "timm", "ultralytics")
COLUMNS = 6  # panels beside each other before a new row begins
TALLEST = 230.0  # mm, what a printed page holds
FONT, SMALL = 7.0, 6.0  # points
EDGE, GAP = 1.5, 3.0  # mm
NARROWEST = 3.0  # mm, a panel
BAR, BAR_GAP, BAR_TEXT = 1.8, 1.2, 7.5  # mm: a colour bar, its distance from the photo, its numbers
LINE = 3.2  # mm
STYLE = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "vislab"}  # text stays text; ids stay the same


@dataclass(frozen=True)
class _Look:
    """How the heatmaps of one figure are drawn."""

    opacity: float
    colormap: str
    smooth: bool
    normalise: Normalise
    threshold: float


@dataclass(frozen=True, eq=False)
class _Panels:
    """What the panels of one figure show. vector: the file scales its pictures itself."""

    image: np.ndarray
    heats: Sequence[Heatmap]
    spans: Sequence[Range]
    titles: Sequence[str]
    detections: Boxes | None
    vector: bool


def save(
    path: str | os.PathLike[str],
    image: np.ndarray,
    heat: Heatmap | Sequence[Heatmap],
    *,
    detections: Boxes | None = None,
    opacity: float = 0.5,
    colormap: str = "viridis",
    smooth: bool = False,
    normalise: Normalise = "map",
    threshold: float = 0.0,
    width_mm: float | None = None,
    dpi: int = 300,
    title: str | Sequence[str] | None = None,
    caption: str | None = None,
) -> Path:
    """Write a figure, in the format of the path's suffix: .png, .jpg, .pdf, .svg, or .npz for the values -> its path.

    Several heatmaps make panels, each with its own colours ("map"), or with common ones ("shared", "absolute", a pair
    (low, high)) and one colour bar. title: one a panel; else panels are named by what sets them apart. caption: else
    what the heatmaps have in common; "" for none. The photo keeps its resolution in PDF and SVG; dpi is for the others.
    How the figure was made travels with it (see `provenance`). The same call writes the same bytes; a failed one
    leaves nothing behind.

    ValueError: unknown suffix, image and heatmap that do not belong together. FileNotFoundError: no such folder.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"no figure is written as {path.suffix or path.name!r}: use one of {', '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}: make it first, or save somewhere else")
    heats = [heat] if isinstance(heat, Heatmap) else list(heat)
    if not heats:
        raise ValueError("there is no heatmap to save: give one, or several")
    for one in heats:
        render.check(image, one, opacity=opacity, threshold=threshold)
    titles = _titles(heats) if title is None else [title] if isinstance(title, str) else list(title)
    if len(titles) != len(heats):
        raise ValueError(f"{len(heats)} panels take {len(heats)} titles, not {len(titles)}")
    if not dpi > 0 or (width_mm is not None and not width_mm > 0):
        raise ValueError(f"a figure's width and dpi are above zero, not {width_mm} mm and {dpi} dpi")

    look = _Look(opacity, colormap, smooth, normalise, threshold)
    spans = _spans(heats, normalise)
    suffix = path.suffix.lower()
    page = {"width_mm": width_mm, "dpi": dpi, "title": title, "caption": caption}
    record = _record(heats, spans, look, detections, suffix, page)
    caption = _caption(heats, spans, look) if caption is None else caption
    if suffix == ".npz":
        data = _npz(heats, record)
    else:
        import matplotlib

        with matplotlib.rc_context():
            matplotlib.rcdefaults()  # the figure does not depend on the style set in the notebook
            matplotlib.rcParams.update(STYLE)
            panels = _Panels(image, heats, spans, titles, detections, vector=suffix in (".pdf", ".svg"))
            figure = _figure(panels, look, caption, width_mm)
            data = WRITERS[suffix](figure, dpi, titles[0] or heats[0].method, caption, record)
    _write(path, data)
    return path


def provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """How a figure that `save` wrote was made: maps, display, versions, and the Python call that makes it again.

    ValueError: a file that vislab did not write, or that lost its metadata on the way.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"no provenance is kept in {path.suffix or path.name!r}: use one of {', '.join(READERS)}")
    data = path.read_bytes()
    try:
        record = json.loads(reader(data))
        if "vislab" in record:
            return record
    except Exception as error:  # whatever a foreign or damaged file makes its reader say
        raise ValueError(f"{path} holds no provenance of vislab: it was not written by it, or was edited") from error
    raise ValueError(f"{path} holds no provenance of vislab: it was not written by it")


def _spans(heats: Sequence[Heatmap], normalise: Normalise) -> list[Range]:
    if normalise == "map":
        return [render.colour_range(heat) for heat in heats]
    return [render.colour_range(heats, "map" if normalise == "shared" else normalise)] * len(heats)


def _titles(heats: Sequence[Heatmap]) -> list[str]:
    """What sets each heatmap apart from the others."""
    phrases = [render.describe(heat) for heat in heats]
    return [" · ".join(p for p in own if not all(p in other for other in phrases)) for own in phrases]


def _caption(heats: Sequence[Heatmap], spans: Sequence[Range], look: _Look) -> str:
    phrases = [render.describe(heat) for heat in heats]
    common = [p for p in phrases[0] if all(p in other for other in phrases)]
    display = [_colours_named(look.normalise, spans[0])]
    display += ["smoothed between patch centres"] if look.smooth else []
    display += [f"hidden below {look.threshold:.0%} of the range"] if look.threshold else []
    return " · ".join([*common, *display])


def _colours_named(normalise: Normalise, span: Range) -> str:
    names = {"map": "colours per map", "shared": "colours shared by the maps", "absolute": "colours absolute, 0 to 1"}
    return names[normalise] if isinstance(normalise, str) else f"colours from {span[0]:g} to {span[1]:g}"


def _figure(panels: _Panels, look: _Look, caption: str, width_mm: float | None) -> Figure:
    """The page: panels in rows from the top left, colour bars at their right, the caption below. Lengths in mm."""
    from matplotlib.figure import Figure

    count = len(panels.heats)
    rows = -(-count // COLUMNS)
    columns = -(-count // rows)
    width = min(180.0, 60.0 + 60.0 * columns) if width_mm is None else float(width_mm)
    own_bars = look.normalise == "map"
    bar_room = BAR_GAP + BAR + BAR_TEXT
    around = 2 * EDGE + (columns if own_bars else 1) * bar_room + (columns - 1) * GAP
    aspect = panels.image.shape[0] / panels.image.shape[1]
    wide = min((width - around) / columns, TALLEST / rows / aspect)
    if wide < NARROWEST:
        raise ValueError(
            f"{columns} panels beside each other, {aspect:.3g} times as high as wide, would be {max(wide, 0):.1f} mm "
            f"wide on {width:g} mm: take a larger width_mm, or fewer panels"
        )
    tall = wide * aspect
    width = around + columns * wide
    titles = [_lines(text, wide, FONT) for text in panels.titles]
    factors = any(render.colour_ticks(span)[2] for span in panels.spans)
    head = max(LINE * max(map(len, titles)), LINE if factors else 0)
    step = head + tall + GAP
    below = _lines(caption, width - 2 * EDGE, SMALL)
    height = 2 * EDGE + rows * step - GAP + (1 + len(below) * LINE if below else 0)
    figure = Figure(figsize=(width / 25.4, height / 25.4))

    def axes(left: float, top: float, wide: float, tall: float) -> Axes:
        return figure.add_axes((left / width, 1 - (top + tall) / height, wide / width, tall / height))

    def text(left: float, bottom: float, lines: Sequence[str], size: float) -> None:
        for above, line in enumerate(reversed(lines)):
            y = 1 - (bottom - above * LINE) / height
            figure.text(left / width, y, line, size=size, va="baseline", parse_math=False)

    pictures: dict[Any, np.ndarray] = {}
    for number, (span, title) in enumerate(zip(panels.spans, titles, strict=True)):
        row, column = divmod(number, columns)
        left = EDGE + column * (wide + GAP + (bar_room if own_bars else 0))
        top = EDGE + row * step + head
        _draw_panel(axes(left, top, wide, tall), panels, number, look, pictures)
        text(left, top - 0.9, title, FONT)
        if own_bars:
            _draw_bar(axes(left + wide + BAR_GAP, top, BAR, tall), span, look.colormap, tall)
    if not own_bars:
        left, high = width - EDGE - BAR_TEXT - BAR, rows * step - GAP - head
        _draw_bar(axes(left, EDGE + head, BAR, high), panels.spans[0], look.colormap, high)
    text(EDGE, height - EDGE - 0.5, below, SMALL)
    return figure


def _draw_panel(ax: Axes, panels: _Panels, number: int, look: _Look, pictures: dict[Any, np.ndarray]) -> None:
    """The photo, and over it the heatmap as a layer of its own whose corners are the grid's, in source pixels."""
    height, width = panels.image.shape[:2]
    way = "none" if panels.vector else "auto"
    photo = ax.imshow(panels.image, extent=(0, width, height, 0), interpolation=way, aspect="auto")
    if panels.vector:
        _embed_once(photo, pictures)
    heat = panels.heats[number]
    grid = heat.grid
    x0, y0, x1, y1 = heat.frame.box_to_source((0, 0, grid.cols * grid.patch[1], grid.rows * grid.patch[0]))
    layer = _layer(heat, panels.spans[number], look)
    ax.imshow(layer, extent=(x0, x1, y1, y0), interpolation="none", aspect="auto")
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.set_axis_off()
    if panels.detections is not None:
        _draw_boxes(ax, panels.detections)


def _embed_once(photo: AxesImage, pictures: dict[Any, np.ndarray]) -> None:
    """Let panels with the same photo hand over the same array: a PDF then holds it once, not once a panel."""
    make = photo.make_image

    def make_image(*args: Any, **options: Any) -> tuple[Any, ...]:
        picture, *place = make(*args, **options)
        return pictures.setdefault("photo", picture), *place

    photo.__dict__["make_image"] = make_image


def _layer(heat: Heatmap, span: Range, look: _Look) -> np.ndarray:
    """The heatmap as RGBA, every patch many samples wide: viewers that blur enlarged images then blur no patch."""
    fine = max(1, 1024 // max(heat.values.shape))
    rows, cols = ((np.arange(count * fine) + 0.5) / fine for count in heat.values.shape)
    share = render.fraction(render.sample(heat.values, rows, cols, smooth=look.smooth), span)
    colour = render.colours(share, render.colour_table(look.colormap))
    alpha = np.where(share < look.threshold, 0, round(look.opacity * 255)).astype(np.uint8)
    return np.dstack([colour, alpha])


def _draw_bar(ax: Axes, span: Range, colormap: str, tall: float) -> None:
    low, high = span
    values, labels, factor = render.colour_ticks(span, count=max(2, min(6, int(tall / 8))))
    ramp = np.linspace(1, 0, 256) if low < high else np.zeros(256)
    colour = render.colours(ramp[:, None], render.colour_table(colormap))
    top = high if low < high else low + 1
    ax.imshow(colour, extent=(0, 1, low, top), interpolation="none", aspect="auto")
    ax.yaxis.tick_right()
    ax.set_xticks([])
    ax.set_yticks(values, labels)
    ax.tick_params(labelsize=SMALL, width=0.4, length=1.6, pad=1.5)
    for spine in ax.spines.values():
        spine.set_linewidth(0.4)
    ax.annotate(factor, (0, 1), (0, 2), xycoords="axes fraction", textcoords="offset points", size=SMALL)


def _draw_boxes(ax: Axes, boxes: Boxes) -> None:
    """Boxes as white lines cased in black, labels white on black: legible on a photo and on every colormap."""
    from matplotlib.patches import Rectangle

    size = SMALL - 0.5
    right, bottom = ax.get_xlim()[1], ax.get_ylim()[0]
    unit = bottom / (ax.bbox.height / ax.figure.dpi * 72)  # source pixels a point
    for (x0, y0, x1, y1), label in zip(boxes.xyxy.tolist(), render.box_labels(boxes), strict=True):
        for colour, line in (("black", 2.2), ("white", 0.8)):
            ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=line))
        wide, high = (render.font(100).getlength(label) / 100 * size + 5) * unit, (size + 5) * unit
        ax.annotate(
            label,
            (max(0, min(x0, right - wide)), max(0, min(y0, bottom - high))),
            (1.6, -1.6),
            textcoords="offset points",
            va="top",
            color="white",
            size=size,
            bbox={"facecolor": "black", "edgecolor": "none", "alpha": 0.75, "pad": 1.2},
            parse_math=False,
            clip_on=True,
        )


def _lines(words: str, width_mm: float, points: float) -> list[str]:
    """Words in lines of at most a width."""
    face = render.font(100)  # measured large, so that hinting does not round the widths
    return render.wrapped(words.split(" · "), width_mm * 72 / 25.4 / points * 100, face)


def _record(
    heats: Sequence[Heatmap],
    spans: Sequence[Range],
    look: _Look,
    boxes: Boxes | None,
    suffix: str,
    page: Mapping[str, Any],
) -> dict[str, Any]:
    """What travels with the file. It names no path of the machine it was made on."""
    maps = [
        {
            "method": heat.method,
            "target": heat.target,
            "settings": _plain(heat.settings),
            "grid": asdict(heat.grid),
            "frame": asdict(heat.frame),
            "colours": span,
        }
        for heat, span in zip(heats, spans, strict=True)
    ]
    found = [] if boxes is None else zip(boxes.label, boxes.score.tolist(), boxes.xyxy.tolist(), strict=True)
    return {
        "vislab": _version("vislab"),
        "maps": maps,
        "detections": [{"label": label, "score": score, "xyxy": box} for label, score, box in found],
        "display": asdict(look),
        "versions": {"python": platform.python_version()} | {n: v for n in PACKAGES if (v := _version(n))},
        "call": _call(heats, asdict(look) | {n: v for n, v in page.items() if v is not None}, boxes, suffix),
    }


def _call(heats: Sequence[Heatmap], options: Mapping[str, Any], boxes: Boxes | None, suffix: str) -> str:
    """The Python that makes the figure again, once `image` is its photo and `boxes` what was detected."""
    calls = [f"vislab.explain(image, {_arguments({'method': heat.method} | dict(heat.settings))})" for heat in heats]
    heat = calls[0] if len(calls) == 1 else "[\n    " + ",\n    ".join(calls) + ",\n]"
    drawn = "" if boxes is None else ", detections=boxes"
    return f"heat = {heat}\nvislab.save({'figure' + suffix!r}, image, heat{drawn}, {_arguments(options)})"


def _arguments(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)!r}" for name, value in settings.items())


def _plain(value: Any) -> Any:
    """The same as numbers, strings, lists and dicts; anything else by the name of its type."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence):
        return tuple(map(_plain, value)) if isinstance(value, tuple) else list(map(_plain, value))
    return f"<{type(value).__name__}>"


def _version(package: str) -> str | None:
    if package == "vislab":
        return str(import_module("vislab").__version__)
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _drawn(figure: Figure, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=format, **options)
    return file.getvalue()


def _png(figure: Figure, dpi: int, title: str, caption: str, record: Mapping[str, Any]) -> bytes:
    notes = {"Title": title, "Description": caption, "Software": _maker(), "vislab": json.dumps(record)}
    return _drawn(figure, "png", dpi=dpi, metadata=notes)


def _jpg(figure: Figure, dpi: int, title: str, caption: str, record: Mapping[str, Any]) -> bytes:
    return _drawn(figure, "jpg", dpi=dpi, pil_kwargs={"quality": 95, "comment": json.dumps(record).encode()})


def _pdf(figure: Figure, dpi: int, title: str, caption: str, record: Mapping[str, Any]) -> bytes:
    notes = {"Title": title, "Subject": caption, "Creator": _maker(), "Keywords": json.dumps(record)}
    return _drawn(figure, "pdf", dpi=dpi, metadata=notes | {"CreationDate": None})


def _svg(figure: Figure, dpi: int, title: str, caption: str, record: Mapping[str, Any]) -> bytes:
    notes = {"Title": title, "Description": caption, "Creator": _maker(), "Source": json.dumps(record)}
    return _photo_once(_drawn(figure, "svg", dpi=dpi, metadata=notes | {"Date": None}))


def _photo_once(svg: bytes) -> bytes:
    """The first picture, the photo, held once for all panels, and left to the viewer to smooth, unlike the patches."""
    picture = re.compile(
        rb'<image xlink:href="([^"]+)"( id="(\w+)" width="\d+" height="\d+")( transform="[^"]+")[^>]*/>'
    )
    photo = picture.search(svg)
    if photo is None:
        return svg
    held = b'<defs><image xlink:href="' + photo[1] + b'"' + photo[2] + b"/></defs>"

    def shown(found: re.Match[bytes]) -> bytes:
        if found[1] != photo[1]:
            return found[0]
        use = b'<use xlink:href="#' + found[3] + b'"' + found[4] + b"/>"
        return held + use if found.start() == photo.start() else use

    return picture.sub(shown, svg)


def _npz(heats: Sequence[Heatmap], record: Mapping[str, Any]) -> bytes:
    """values, grid (rows, cols, patch height and width, prefix, suffix) and frame (4 × (y, x)), numbered if several."""
    arrays: dict[str, Any] = {"provenance": np.array(json.dumps(record))}
    for number, heat in enumerate(heats):
        end = f"_{number}" if len(heats) > 1 else ""
        grid, frame = heat.grid, heat.frame
        arrays[f"values{end}"] = heat.values
        arrays[f"grid{end}"] = np.array([grid.rows, grid.cols, *grid.patch, grid.prefix, grid.suffix])
        arrays[f"frame{end}"] = np.array([frame.source, frame.model, frame.scale, frame.offset], dtype=np.float64)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _maker() -> str:
    return f"vislab {_version('vislab')}"


def _read_image(data: bytes) -> str:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.info["vislab"] if image.format == "PNG" else image.info["comment"].decode()


def _read_pdf(data: bytes) -> str:
    found = re.findall(rb"/Keywords \((\{(?:\\.|[^\\)])*)\)", data)
    return re.sub(r"\\(.)", r"\1", found[-1].decode("ascii"))


def _read_svg(data: bytes) -> str:
    from xml.etree import ElementTree

    sources = ElementTree.fromstring(data).iter("{http://purl.org/dc/elements/1.1/}source")
    return next(sources).text or ""


def _read_npz(data: bytes) -> str:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return str(file["provenance"])


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing: written beside the path, then moved there."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


WRITERS: dict[str, Callable[..., bytes]] = {
    ".png": _png,
    ".jpg": _jpg,
    ".jpeg": _jpg,
    ".pdf": _pdf,
    ".svg": _svg,
    ".npz": _npz,
}
READERS: dict[str, Callable[[bytes], str]] = {
    ".png": _read_image,
    ".jpg": _read_image,
    ".jpeg": _read_image,
    ".pdf": _read_pdf,
    ".svg": _read_svg,
    ".npz": _read_npz,
}
