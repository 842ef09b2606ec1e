"""Anything that holds one picture -> (H, W, 3) uint8 RGB, upright; and the photographs that come with vislab."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from .arrays import from_array
from .bands import Reading, Stretch
from .checks import meant
from .clip import ClipFrame
from .decode import from_file, from_pil
from .files import assets

if TYPE_CHECKING:
    from PIL.Image import Image


MAX_DOWNLOAD = 100_000_000
DOWNLOAD_SECONDS = 20
LONGEST = 200  # letters of a name that is shown whole
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"}  # of pictures in a folder


def load_image(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | np.ndarray | Image | ClipFrame,
    *,
    bands: Sequence[int] | None = None,
    stretch: Stretch | None = None,
) -> np.ndarray:
    """Make one RGB picture of a path, an http(s) address, the bytes of a file, an array, a PIL image or a clip's frame.

    Returns (H, W, 3) uint8, a copy: EXIF orientation applied, an embedded colour profile converted to sRGB, 16 bits
    scaled to 8, transparency laid on white, the first frame of an animation. Arrays are (H, W), (H, W, 1), (H, W, 3) or
    (H, W, 4): uint8 or other integers of 0 to 255, uint16 of 0 to 65,535, bool, or floats of 0 to 1.

    bands: the 3 that are red, green and blue, or the 1 that is grey, counted from 1 as in rasterio and QGIS; needed
    where a TIFF or an array (H, W, n) has others than grey, RGB or RGBA. stretch: what is black and what is white:
    None for the full range of the type; (low, high) in the source's values; or "percentile", each band from its 2nd to
    its 98th, as QGIS does by default, where NaN and a GeoTIFF's no data are left out and come out black. Both are of
    the values as stored, to which no colour profile is applied. What comes out nearly black or white without a stretch,
    as 12 bits in a file of 16, is warned of; figures of a picture made with either have it in their record.

    TIFFs that Pillow does not read are read by tifffile: uncompressed, deflate or LZMA, and by any other compression
    once `pip install imagecodecs` was run.

    Raises FileNotFoundError, IsADirectoryError or PermissionError for a path that cannot be read, ConnectionError for
    an address, ValueError for what is no picture, is damaged, too large, of another shape or out of range, and
    TypeError for anything else.

    >>> load_image(np.array([[0.0, 1.0]])).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    >>> load_image(np.array([[[10, 20, 30, 40, 50]]]), bands=(5, 3, 1)).tolist()
    [[[50, 30, 10]]]
    >>> load_image(np.array([[0, 2048, 4095]], np.uint16), stretch=(0, 4095))[0, :, 0].tolist()
    [0, 128, 255]
    """
    from PIL import Image

    reading = Reading(bands, stretch)
    if isinstance(source, ClipFrame):
        source = source.image
    if isinstance(source, np.ndarray):
        return from_array(source, reading)
    if isinstance(source, Image.Image):
        return from_pil(source, "the PIL image", reading)
    if isinstance(source, bytes | bytearray | memoryview):
        return from_file(BytesIO(bytes(source)), f"the {memoryview(source).nbytes:,} bytes given", reading)
    if isinstance(source, str) and (scheme := re.match(r"([a-zA-Z][\w+.-]*)://", source)):
        if scheme[1].lower() not in ("http", "https"):
            raise ValueError(
                f"cannot load {_name(source)}: give an http or https address, or a path without {scheme[0]}"
            )
        return from_file(BytesIO(_download(source)), _name(source), reading)
    if isinstance(source, str | os.PathLike):
        with _open(Path(source).expanduser()) as file:
            return from_file(file, _name(source), reading)
    raise TypeError(
        f"an image is a path, an http(s) address, bytes, a numpy array or a PIL image, not {type(source).__name__}: "
        "a tensor (3, H, W) becomes one with .permute(1, 2, 0).cpu().numpy(), a list with np.array(…)"
    )


def samples() -> dict[str, Path]:
    """Name -> path of each photograph that comes with vislab; assets/images/README.md names authors and licences.

    >>> load_image(samples()["church"]).shape
    (683, 1024, 3)
    """
    return _Samples({path.stem: path for path in sorted((assets() / "images").glob("*.jpg"))})


class _Samples(dict[str, Path]):
    """By name; a name that there is not is answered with the one that was meant."""

    def __missing__(self, name: object) -> Path:
        raise KeyError(f"no sample {name!r}{meant(name, self) or ': there are ' + ', '.join(self)}")


def _name(source: str | os.PathLike[str]) -> str:
    """A path or address in quotes, its middle left out where it is long: it may be a whole file in base64."""
    text = os.fsdecode(source)
    return repr(text if len(text) <= LONGEST else f"{text[:120]}…{text[-60:]}")


def _beside(path: Path) -> list[str]:
    """Names of files in the folder where a file was looked for, the first thousand of them; none for no name."""
    try:
        return sorted(os.listdir(path.parent))[:1000] if len(path.name) <= LONGEST else []
    except (OSError, ValueError):
        return []


def _open(path: Path) -> IO[bytes]:
    name = _name(path)
    # os.path and not pathlib: it takes names that no file can have (too long, a NUL byte) for missing.
    if os.path.isdir(path):
        raise IsADirectoryError(f"{name} is a folder: give one image file, such as {_name(path / 'photo.jpg')}")
    if not os.path.exists(path):
        known = str(path) in samples()
        sample = f"vislab.samples()[{str(path)!r}]" if known else "vislab.samples()"
        near = "" if known else meant(path.name, _beside(path))
        raise FileNotFoundError(
            f"there is no file {name} (looked in {Path.cwd()}){near or f': check the path, or take a sample: {sample}'}"
        )
    if not os.path.isfile(path):
        raise ValueError(f"{name} is a device or a pipe: give an image file, or the bytes that you read from it")
    try:
        return path.open("rb")
    except OSError as error:
        raise type(error)(f"{name} cannot be read ({error.strerror}): check its permissions, or copy it") from error


def _download(address: str) -> bytes:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.parse import quote
    from urllib.request import Request, urlopen

    name = _name(address)
    retry = "check the address, or download the picture and give its path"
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    data = bytearray()
    try:
        # Some sites refuse requests that do not say who asks.
        request = Request(quote(address, safe="%/:=&?~#+!$,;'@()*[]"), headers={"User-Agent": "vislab"})
        with urlopen(request, timeout=DOWNLOAD_SECONDS) as answer:
            while len(data) <= MAX_DOWNLOAD and (block := answer.read1(1 << 16)):
                data += block
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not complete after {DOWNLOAD_SECONDS} s")
    except HTTPError as error:
        raise ConnectionError(f"{name} answered {error.code} {error.reason}: {retry}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise ConnectionError(f"{name} cannot be loaded ({getattr(error, 'reason', error)}): {retry}") from error
    if len(data) > MAX_DOWNLOAD:
        limit = MAX_DOWNLOAD // 10**6
        raise ValueError(f"{name} is larger than {limit} MB: download a smaller version and give its path")
    return bytes(data)
