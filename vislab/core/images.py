"""Anything that holds one picture -> (H, W, 3) uint8 RGB, upright; and the photographs that come with vislab."""

from __future__ import annotations

import os
import re
import time
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from .arrays import from_array
from .files import assets

if TYPE_CHECKING:
    from PIL.Image import Image


# Checked against the header, before anything is decoded: 100 million pixels are 300 MB of RGB.
MAX_PIXELS = 100_000_000
MAX_DOWNLOAD = 100_000_000
DOWNLOAD_SECONDS = 20
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}  # of pictures in a folder
# Pillow hands these to a program or the operating system to draw: a picture from anywhere must start neither.
_DRAWINGS = {"EPS", "WMF"}


def load_image(source: str | os.PathLike[str] | bytes | bytearray | memoryview | np.ndarray | Image) -> np.ndarray:
    """Make one RGB picture of a path, an http(s) address, the bytes of a file, an array or a PIL image.

    Returns (H, W, 3) uint8, a copy: EXIF orientation applied, an embedded colour profile converted to sRGB, 16 bits
    scaled to 8, transparency laid on white, the first frame of an animation. Arrays are (H, W), (H, W, 1), (H, W, 3) or
    (H, W, 4): uint8 or other integers of 0 to 255, uint16 of 0 to 65,535, bool, or floats of 0 to 1.

    Raises FileNotFoundError, IsADirectoryError or PermissionError for a path that cannot be read, ConnectionError for
    an address, ValueError for what is no picture, is damaged, too large, of another shape or out of range, and
    TypeError for anything else.

    >>> load_image(np.array([[0.0, 1.0]])).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    from PIL import Image

    if isinstance(source, np.ndarray):
        return from_array(source)
    if isinstance(source, Image.Image):
        return _from_pil(source, "the PIL image")
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_file(BytesIO(source), f"the {memoryview(source).nbytes:,} bytes given")
    if isinstance(source, str) and (scheme := re.match(r"([a-zA-Z][\w+.-]*)://", source)):
        if scheme[1].lower() not in ("http", "https"):
            raise ValueError(
                f"cannot load {_name(source)}: give an http or https address, or a path without {scheme[0]}"
            )
        return _from_file(BytesIO(_download(source)), _name(source))
    if isinstance(source, str | os.PathLike):
        with _open(Path(source).expanduser()) as file:
            return _from_file(file, _name(source))
    raise TypeError(
        f"an image is a path, an http(s) address, bytes, a numpy array or a PIL image, not {type(source).__name__}: "
        "a tensor (3, H, W) becomes one with .permute(1, 2, 0).cpu().numpy(), a list with np.array(…)"
    )


def samples() -> dict[str, Path]:
    """Name -> path of each photograph that comes with vislab; assets/images/README.md names authors and licences.

    >>> load_image(samples()["church"]).shape
    (683, 1024, 3)
    """
    return {path.stem: path for path in sorted((assets() / "images").glob("*.jpg"))}


def _name(source: str | os.PathLike[str]) -> str:
    """A path or address in quotes, its middle left out where it is long: it may be a whole file in base64."""
    text = os.fsdecode(source)
    return repr(text if len(text) <= 200 else f"{text[:120]}…{text[-60:]}")


def _open(path: Path) -> IO[bytes]:
    name = _name(path)
    # os.path and not pathlib: it takes names that no file can have (too long, a NUL byte) for missing.
    if os.path.isdir(path):
        raise IsADirectoryError(f"{name} is a folder: give one image file, such as {_name(path / 'photo.jpg')}")
    if not os.path.exists(path):
        sample = f"vislab.samples()[{str(path)!r}]" if str(path) in samples() else "one of vislab.samples()"
        raise FileNotFoundError(f"there is no file {name} (looked in {Path.cwd()}): check the path, or try {sample}")
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


def _from_file(file: IO[bytes], name: str) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    head = file.read(12)
    file.seek(0)
    if not head:
        raise ValueError(f"{name}: empty, so it holds no picture: copy or download it again")
    try:
        # Pillow warns at its own limit; ours is checked in _from_pil.
        with warnings.catch_warnings(action="ignore"):
            image = Image.open(file)
    # ultralytics, once loaded, has Image.open try for HEIC, with a package that may be missing.
    except (UnidentifiedImageError, ImportError) as error:
        raise ValueError(f"{name}: not a picture in a known format: {_what_to_try(head)}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(name, "more pixels than can be decoded safely")) from error
    # A damaged header raises whatever the format's reader stumbles over.
    except Exception as error:
        raise ValueError(_damaged(name, error)) from error
    with image:
        return _from_pil(image, name)


def _what_to_try(head: bytes) -> str:
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")):
        return "it begins as one and is truncated or damaged, so copy or download it again"
    if head[4:8] == b"ftyp":
        return "it looks like HEIC or a video: export a JPEG or PNG from it"
    if head.lstrip()[:1] == b"<":
        return "it looks like a web page or SVG: give the address of the picture itself, or export a PNG"
    return "give a JPEG, PNG, WebP, AVIF, GIF, TIFF or BMP"


def _too_large(name: str, size: str) -> str:
    return f"{name}: {size}, and the limit is {MAX_PIXELS // 10**6} million pixels: scale it down or cut out a part"


def _damaged(name: str, error: Exception) -> str:
    return f"{name}: truncated or damaged ({error}): copy or download it again"


def _from_pil(image: Image, name: str) -> np.ndarray:
    from PIL import ExifTags, ImageOps
    from PIL import Image as pil

    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(_too_large(name, f"{width:,}×{height:,} pixels"))
    if min(width, height) < 1:
        raise ValueError(f"{name}: {width}×{height} pixels hold no picture: give at least 1×1")
    if image.format in _DRAWINGS:
        raise ValueError(f"{name}: a drawing in {image.format}, which vislab does not run: export a PNG from it")
    try:
        with warnings.catch_warnings(action="ignore"):
            image.load()
    except pil.DecompressionBombError as error:
        raise ValueError(_too_large(name, "more pixels than can be decoded safely")) from error
    # Each format's reader has its own exceptions for data that end early or make no sense.
    except Exception as error:
        raise ValueError(_damaged(name, error)) from error
    upright = image
    # A damaged EXIF block is no reason to refuse the picture.
    with suppress(Exception), warnings.catch_warnings(action="ignore"):
        # Without the question Pillow would copy every picture.
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            upright = ImageOps.exif_transpose(image)
    # Pillow's own conversions would clip these to 0..255. "I" is how it reads 16-bit PGM, and an array of int32.
    if upright.mode == "F" or upright.mode.startswith("I"):
        values = np.asarray(upright)
        if upright.mode != "F" and (image.format is not None or values.max() > 255):
            values = _sixteen_bits(values, name)
        try:
            return from_array(values)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return np.array(_on_white(_to_srgb(upright)))


def _sixteen_bits(values: np.ndarray, name: str) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"{name}: a grey picture of 32-bit integers needs values from 0 to 65,535, "
            f"not {values.min():,} to {values.max():,}: scale them"
        )
    return values.astype(np.uint16)


def _to_srgb(image: Image) -> Image:
    """RGB or RGBA in sRGB; a profile that is damaged, or not of the picture's colours, is left out."""
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("CMYK", "L", "RGB"):
        image = image.convert("RGB")
    if profile:
        # Pillow may be built without littlecms.
        with suppress(ImportError):
            from PIL import ImageCms

            with suppress(ImageCms.PyCMSError, OSError, ValueError):
                embedded = ImageCms.ImageCmsProfile(BytesIO(profile))
                # What is sRGB already would only be rounded once more.
                if "srgb" not in ImageCms.getProfileDescription(embedded).lower():
                    mode = "RGBA" if image.mode == "RGBA" else "RGB"
                    srgb = ImageCms.createProfile("sRGB")
                    image = ImageCms.profileToProfile(image, embedded, srgb, outputMode=mode) or image
    return image if image.mode in ("RGB", "RGBA") else image.convert("RGB")


def _on_white(image: Image) -> Image:
    from PIL import Image as pil

    if image.mode == "RGB":
        return image
    return pil.alpha_composite(pil.new("RGBA", image.size, "white"), image).convert("RGB")
