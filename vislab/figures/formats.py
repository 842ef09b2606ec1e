"""Files that hold a figure, or its numbers, with a record of how it was made: written, and the record read back."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.heatmap import Heatmap
from ..masks.masks import Masks
from .png import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PHOTO = "photo-"  # begins the names of photos in SVG
JPEG_COMMENT = 65533  # bytes
QUALITY = 95  # of JPEG


def rgba(figure: Figure, dpi: float) -> np.ndarray:
    """A figure as pixels -> (H, W, 4) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def _drawn(figure: Figure, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=format, **options)
    return file.getvalue()


def _png(figure: Figure, dpi: int, title: str, caption: str, record: Mapping[str, Any]) -> bytes:
    return png_of(rgba(figure, dpi), dpi, title, caption, record)


def png_of(pixels: np.ndarray, dpi: int | None, title: str, caption: str, record: Mapping[str, Any]) -> bytes:
    """pixels: (H, W, 3 or 4) uint8 -> a PNG with its record. dpi: of a page; None of a photograph at its own size."""
    notes = {"Title": title, "Description": caption, "Software": _maker(), "vislab": json.dumps(record)}
    return png(pixels, notes=notes, dpi=dpi, quick=dpi is None)


def _jpg(figure: Figure, dpi: int, title: str, caption: str, record: Mapping[str, Any]) -> bytes:
    return _drawn(figure, "jpg", dpi=dpi, pil_kwargs={"quality": QUALITY, "comment": _comment(record)})


def jpg_of(pixels: np.ndarray, record: Mapping[str, Any]) -> bytes:
    """pixels: (H, W, 3) uint8 -> a JPEG with its record."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=QUALITY, comment=_comment(record))
    return file.getvalue()


def _comment(record: Mapping[str, Any]) -> bytes:
    comment = json.dumps(record).encode()
    if len(comment) > JPEG_COMMENT:
        raise ValueError(
            f"JPEG holds {JPEG_COMMENT:,} bytes of notes, and how this figure was made takes {len(comment):,}: take "
            ".png, .pdf or .svg"
        )
    return comment


def _pdf(figure: Figure, dpi: int, title: str, caption: str, record: Mapping[str, Any]) -> bytes:
    notes = {"Title": title, "Subject": caption, "Creator": _maker(), "Keywords": json.dumps(record)}
    return _drawn(figure, "pdf", dpi=dpi, metadata=notes | {"CreationDate": None})


def _svg(figure: Figure, dpi: int, title: str, caption: str, record: Mapping[str, Any]) -> bytes:
    notes = {"Title": title, "Description": caption, "Creator": _maker(), "Source": json.dumps(record)}
    return _photos_once(_drawn(figure, "svg", dpi=dpi, metadata=notes | {"Date": None}))


def _photos_once(svg: bytes) -> bytes:
    """The SVG with each photo stored once, however often it is shown, and without the style that forbids smoothing."""
    picture = re.compile(
        rb'<image xlink:href="[^"]+" id="(' + PHOTO.encode() + rb'\d+)"( width="\d+" height="\d+")'
        rb'( transform="[^"]+")[^>]*/>'
    )
    stored: set[bytes] = set()

    def once(match: re.Match[bytes]) -> bytes:
        use = b'<use xlink:href="#' + match[1] + b'"' + match[2] + match[3] + b"/>"
        if match[1] in stored:
            return use
        stored.add(match[1])
        bare = re.sub(rb'( transform="[^"]+"| style="[^"]+")', b"", match[0])
        return b"<defs>" + bare + b"</defs>" + use

    return picture.sub(once, svg)


def numbers(heats: Sequence[Heatmap], record: Mapping[str, Any]) -> bytes:
    """values, grid (rows, cols, patch height and width, prefix, suffix) and frame (4 × (y, x)), numbered if several.

    Beside them dropped, where patches were.
    """
    arrays: dict[str, Any] = {"provenance": np.array(json.dumps(record))}
    for number, heat in enumerate(heats):
        end = f"_{number}" if len(heats) > 1 else ""
        grid, frame = heat.grid, heat.frame
        arrays[f"values{end}"] = heat.values
        arrays |= {} if heat.dropped is None else {f"dropped{end}": heat.dropped}
        arrays[f"grid{end}"] = np.array([grid.rows, grid.cols, *grid.patch, grid.prefix, grid.suffix])
        arrays[f"frame{end}"] = np.array([frame.source, frame.model, frame.scale, frame.offset], dtype=np.float64)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def numbers_of_masks(masks: Masks, record: Mapping[str, Any]) -> bytes:
    """masks, labels and scores, as `Masks` holds them."""
    arrays: dict[str, Any] = {"masks": masks.masks, "labels": np.array(masks.labels, dtype=str), "scores": masks.scores}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays, provenance=np.array(json.dumps(record)))
    return file.getvalue()


def _maker() -> str:
    return f"vislab {import_module('vislab').__version__}"


def _read_image(data: bytes) -> str:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.info["vislab"] if image.format == "PNG" else image.info["comment"].decode()


def _read_pdf(data: bytes) -> str:
    records = re.findall(rb"/Keywords \((\{(?:\\.|[^\\)])*)\)", data)
    return re.sub(r"\\(.)", r"\1", records[-1].decode("ascii"))


def _read_svg(data: bytes) -> str:
    from xml.etree import ElementTree

    sources = ElementTree.fromstring(data).iter("{http://purl.org/dc/elements/1.1/}source")
    return next(sources).text or ""


def _read_npz(data: bytes) -> str:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return str(file["provenance"])


WRITERS: dict[str, Callable[..., bytes]] = {
    ".png": _png,
    ".jpg": _jpg,
    ".jpeg": _jpg,
    ".pdf": _pdf,
    ".svg": _svg,
}
FORMATS = (*WRITERS, ".npz")
READERS: dict[str, Callable[[bytes], str]] = {
    ".png": _read_image,
    ".jpg": _read_image,
    ".jpeg": _read_image,
    ".pdf": _read_pdf,
    ".svg": _read_svg,
    ".npz": _read_npz,
}
