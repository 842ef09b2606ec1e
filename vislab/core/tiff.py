"""The TIFFs that Pillow does not show whole: other numbers of bands, 16 bits in colour, floats of 64 bits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from .bands import example

if TYPE_CHECKING:
    from PIL.Image import Image
    from tifffile import TiffPage

HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two of BigTIFF
# Of tags: TIFF 6.0, and GDAL's for the value that stands for no data.
_BITS, _COLOUR, _ORIENTATION, _SAMPLES, _FORMAT, _PROFILE, _NO_DATA = 258, 262, 274, 277, 339, 34675, 42113
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # of the tag _COLOUR
_COLOURS = ("1", "P", "PA", "CMYK", "YCbCr", "LAB")  # modes of Pillow whose bands are no measured values
_MOST_OF_PILLOW = 6  # bands
_MAX_BYTES = 4 * 10**9

_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


class Unreadable(ValueError):
    """A sound TIFF that is not read here; its words say why and what to do."""


class TooLarge(ValueError):
    """A TIFF of more pixels, or more bytes, than are decoded; its words say how many."""


@dataclass(frozen=True)
class Page:
    """values: (H, W, n) as stored, upright. missing: what stands for no data. profile: the ICC profile."""

    values: np.ndarray
    missing: float | None
    profile: bytes | None


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """values: (H, W, n), turned as the tag of that name says."""
    return _UPRIGHT.get(orientation, lambda a: a)(values)


def many_bands(file: IO[bytes]) -> bool:
    """Whether a TIFF has more bands than Pillow opens: it would log an error, though there is none."""
    from tifffile import TiffFile

    file.seek(0)
    with suppress(Exception), TiffFile(file) as tiff:  # what is damaged is told when it is read
        return tiff.pages.first.samplesperpixel > _MOST_OF_PILLOW
    return False


def reduced(image: Image) -> bool:
    """Whether Pillow reads 16 bits of colour as 8; asked before it decodes."""
    tiles = getattr(image, "tile", [])  # files have some
    return any(";16" in str(tile.args) for tile in tiles) and not image.mode.startswith("I")


def shows_all(image: Image, asked: bool) -> bool:
    """Whether Pillow shows a TIFF as it is. asked: whether bands or a stretch are, which need each value as stored."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    samples = tags.get(_SAMPLES, 1)
    if image.mode in _COLOURS:
        return True
    # Pillow takes signed bytes for unsigned ones, and lets white be zero in 8 bits only.
    bits, signed = tags.get(_BITS, (1,))[0], tags.get(_FORMAT, (1,))[0] == 2
    if (bits == 8 and signed) or (bits > 8 and tags.get(_COLOUR) == _WHITE_IS_ZERO):
        return False
    if asked:
        return len(image.getbands()) == samples and not reduced(image) and image.mode != "I"
    return len(image.getbands()) == samples or image.mode in ("RGB", "RGBA")


def read(file: IO[bytes], most: int, asked: bool) -> Page:
    """The first page of a TIFF. most: pixels. asked: whether its bands are chosen; else they must be grey or RGB(A).

    Raises Unreadable, TooLarge, and whatever tifffile says of a file that is damaged.
    """
    from tifffile import TiffFile

    file.seek(0)
    with TiffFile(file) as tiff:
        page = tiff.pages.first
        if page.imagewidth * page.imagelength > most:
            raise TooLarge(f"{page.imagewidth:,}×{page.imagelength:,} pixels")
        _check(page, asked)
        if page.nbytes > _MAX_BYTES:
            raise TooLarge(f"{page.nbytes / 1e9:.1f} GB of values")
        try:
            values = page.asarray()
        except Exception as error:
            if "imagecodecs" in str(error):
                raise Unreadable(
                    f"a TIFF compressed with {_named(page.compression)}, which needs one more package: "
                    "pip install imagecodecs, or write it again with deflate or uncompressed"
                ) from error
            raise
        # Of each page: bands apart, depth, height, width, bands together.
        apart, _, height, width, together = page.shaped
        values = values.reshape(apart, height, width, together)
        values = np.moveaxis(values, 0, -1)[..., 0, :] if apart > 1 else values[0]
        if not asked:
            values = _as_declared(page, values)
        orientation = page.tags.valueof(_ORIENTATION, default=1)
        missing = float(page.nodata) if _NO_DATA in page.tags else None
        return Page(upright(values, orientation), missing, page.tags.valueof(_PROFILE))


def _check(page: TiffPage, asked: bool) -> None:
    if page.photometric == _WHITE_IS_ZERO:
        if asked or page.dtype is None or page.dtype.kind != "u":
            raise Unreadable(
                "a TIFF in which zero is white, where bands and stretch need it black: export it again as grey"
            )
    elif page.photometric not in (_BLACK_IS_ZERO, _RGB):
        raise Unreadable(
            f"a TIFF whose colours are {_named(page.photometric)}, which is not read here: export it as grey or RGB"
        )
    if min(page.shaped) < 1:
        raise Unreadable(f"{page.imagewidth}×{page.imagelength} pixels of {page.samplesperpixel} bands hold no picture")
    if page.dtype is None or page.imagedepth != 1:
        raise Unreadable(f"a TIFF of {page.bitspersample} bits and depth {page.imagedepth}: export it with 8 or 16")


def _named(value: int) -> str:
    """What tifffile calls a value of a tag, or its number."""
    return str(getattr(value, "name", value))


def _as_declared(page: TiffPage, values: np.ndarray) -> np.ndarray:
    """Grey, RGB or RGBA, where the file says that it holds that."""
    count, extra = values.shape[2], page.extrasamples[:1]
    if page.photometric == _WHITE_IS_ZERO and count == 1:
        return ~values
    if count in (1, 3) or (page.photometric == _RGB and count == 4 and extra == (2,)):
        return values
    if page.photometric == _RGB and extra == (0,):  # RGB and bands that are not said to be transparency
        return values[..., :3]
    raise Unreadable(f"a TIFF of {count} bands: {example(count)}")


def smaller(file: IO[bytes], most: int) -> str | None:
    """How to read less of a TIFF than all of it, in words: a level of its pyramid, as slide scanners write, or a part.

    most: pixels that the level may have.
    """
    from tifffile import TiffFile

    with suppress(Exception):  # a damaged pyramid is no reason for another error
        file.seek(0)
        with TiffFile(file) as tiff:
            series = tiff.series[0]
            for number, level in enumerate(series.levels):
                page = level.keyframe
                if page.imagewidth * page.imagelength <= most:
                    size = f"{page.imagewidth:,}×{page.imagelength:,}"
                    return f"its level {number} has {size}: vislab.load_image(tifffile.imread(path, level={number}))"
            if series.axes.startswith("YX"):
                part = "tifffile.imread(path, selection=np.s_[0:4000, 0:4000])"
                return f"cut out a part, such as vislab.load_image({part}), which needs `pip install zarr`"
    return None
