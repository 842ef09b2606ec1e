"""The bytes of a file, or what Pillow has opened -> (H, W, 3) uint8 RGB, upright and in sRGB."""

from __future__ import annotations

import warnings
from contextlib import suppress
from io import BytesIO
from typing import IO, TYPE_CHECKING

import numpy as np

from . import tiff
from .arrays import MAX_PIXELS as MAX_PIXELS
from .arrays import from_values
from .bands import STRETCHED, Reading, warn_if_dark

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow hands these to a program or the operating system to draw: a picture from anywhere must start neither.
_DRAWINGS = {"EPS", "WMF"}
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")  # brands in its first bytes


def from_file(file: IO[bytes], name: str, reading: Reading) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    head = file.read(12)
    if not head:
        raise ValueError(f"{name}: empty, so it holds no picture: copy or download it again")
    is_tiff = head.startswith(tiff.HEADS)
    if is_tiff and tiff.many_bands(file):
        return _from_tiff(file, name, reading)
    file.seek(0)
    try:
        # Pillow warns at its own limit; ours is checked in _decode.
        with warnings.catch_warnings(action="ignore"):
            image = Image.open(file)
    except Image.DecompressionBombError as error:
        way = tiff.smaller(file, MAX_PIXELS) if is_tiff else None
        raise ValueError(_too_large(name, "more pixels than can be decoded safely", way)) from error
    # A damaged header raises whatever the format's reader stumbles over; ultralytics, once loaded, has Image.open try
    # for HEIC, with a package that may be missing.
    except Exception as error:
        if is_tiff:
            return _from_tiff(file, name, reading)
        if isinstance(error, UnidentifiedImageError | ImportError):
            raise ValueError(f"{name}: not a picture in a known format: {_what_to_try(head)}") from error
        raise ValueError(_unread(name, error)) from error
    with image:
        if image.format == "TIFF" and not tiff.shows_all(image, reading.asked):
            return _from_tiff(file, name, reading)
        if image.format == "PNG" and reading.asked and tiff.reduced(image):
            return _from_deep_png(file, image, name, reading)
        try:
            return from_pil(image, name, reading)
        except ValueError:
            # Pillow and tifffile know other compressions: damaged is what neither reads.
            if image.format == "TIFF" and _broken(image, name) is not None:
                return _from_tiff(file, name, reading)
            raise


def _from_tiff(file: IO[bytes], name: str, reading: Reading) -> np.ndarray:
    from PIL import Image

    try:
        page = tiff.read(file, MAX_PIXELS, reading.asked)
    except tiff.TooLarge as error:
        raise ValueError(_too_large(name, str(error), tiff.smaller(file, MAX_PIXELS))) from error
    except tiff.Unreadable as error:
        raise ValueError(f"{name}: {error}") from error
    # What tifffile stumbles over in a damaged file is of many kinds.
    except Exception as error:
        raise ValueError(_unread(name, error)) from error
    picture = _named(page.values, name, reading, page.missing)
    if page.profile is None or reading.asked:
        return picture
    image = Image.fromarray(picture)
    image.info["icc_profile"] = page.profile
    return np.array(_to_srgb(image))


def _from_deep_png(file: IO[bytes], image: Image, name: str, reading: Reading) -> np.ndarray:
    """A PNG of 16 bits in colour, of which Pillow keeps 8."""
    import cv2

    _decode(image, name)  # OpenCV would print what is damaged and check no size
    file.seek(0)
    values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError(_unread(name, "its pixels cannot be decoded"))
    blue_first = [2, 1, 0, 3][: values.shape[2]]
    return _named(tiff.upright(values[..., blue_first], _orientation(image)), name, reading)


def _named(values: np.ndarray, name: str, reading: Reading, missing: float | None = None) -> np.ndarray:
    """The picture of values (H, W, n); an error begins with the name."""
    try:
        return from_values(values, reading, name, missing)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _what_to_try(head: bytes) -> str:
    webp = head.startswith(b"RIFF") and b"WEBP".startswith(head[8:])  # RIFF is sound and video too
    if webp or head[4:] == b"ftypavif" or head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM")):
        return (
            "it begins as one, and is truncated, damaged or of a kind that Pillow does not read, "
            "so copy or download it again, or export a PNG from it"
        )
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "it is JPEG XL, which is not read here: export a JPEG or PNG from it"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        return "it looks like HEIC: export a JPEG or PNG from it"
    if head[4:8] in (b"ftyp", b"moov") or head.startswith(b"\x1aE\xdf\xa3") or head[8:] == b"AVI ":
        return (
            'it looks like a video: vislab.frames("clip.mp4", every=5) gives its frames, which are pictures, and '
            "`vislab figure clip.mp4 --every 5` draws a sheet of their maps"
        )
    if head.lstrip()[:1] == b"<":
        return "it looks like a web page or SVG: give the address of the picture itself, or export a PNG"
    return "give a JPEG, PNG, WebP, AVIF, GIF, TIFF or BMP, or its pixels as an array (H, W, 3)"


def _too_large(name: str, size: str, way: str | None = None) -> str:
    way = way or "scale it down or cut out a part"
    return f"{name}: {size}, and the limit is {MAX_PIXELS // 10**6} million pixels: {way}"


def _unread(name: str, error: Exception | str) -> str:
    # Pillow's words for a sound file in a form that it, or this build of it, does not decode.
    if isinstance(error, NotImplementedError) or "not available" in str(error):
        return f"{name}: of a kind that Pillow does not read here ({error}): export a PNG from it"
    return f"{name}: truncated or damaged ({error}): copy or download it again"


def _decode(image: Image, name: str) -> None:
    if (error := _broken(image, name)) is not None:
        raise ValueError(_unread(name, error)) from error


def _broken(image: Image, name: str) -> Exception | None:
    """What keeps Pillow from decoding the pixels of a picture. ValueError for one that it must not decode."""
    from PIL import Image as pil

    width, height = image.size
    if width * height > MAX_PIXELS:
        file = getattr(image, "fp", None)
        way = tiff.smaller(file, MAX_PIXELS) if image.format == "TIFF" and file else None
        raise ValueError(_too_large(name, f"{width:,}×{height:,} pixels", way))
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
        return error
    return None


def _orientation(image: Image) -> int:
    from PIL import ExifTags

    # A damaged EXIF block is no reason to refuse the picture.
    with suppress(Exception), warnings.catch_warnings(action="ignore"):
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    return 1


def from_pil(image: Image, name: str, reading: Reading) -> np.ndarray:
    from PIL import ImageOps

    deep = tiff.reduced(image)
    if deep and reading.asked:
        raise ValueError(
            f"{name}: Pillow keeps 8 of its 16 bits, too few for bands and stretch: give the path or the bytes of a "
            "PNG or TIFF file"
        )
    _decode(image, name)
    upright = image
    # Without the question Pillow would copy every picture.
    if _orientation(image) != 1:
        with suppress(Exception), warnings.catch_warnings(action="ignore"):
            upright = ImageOps.exif_transpose(image)
    # Pillow's own conversions would clip these to 0..255. "I" is how it reads 16-bit PGM, and an array of int32.
    if upright.mode == "F" or upright.mode.startswith("I"):
        values = np.asarray(upright)
        if upright.mode != "F" and reading.stretch is None and (image.format is not None or values.max() > 255):
            values = _sixteen_bits(values, name)
        return _named(values[..., None], name, reading)
    if reading.asked:
        plain = upright if upright.mode in ("L", "LA", "RGB", "RGBA") else _on_white(_to_srgb(upright))
        values = np.asarray(plain)
        return _named(values.reshape(*values.shape[:2], -1), name, reading)
    shown = np.array(_on_white(_to_srgb(upright)))
    if deep:
        warn_if_dark(shown, name)
    return shown


def _sixteen_bits(values: np.ndarray, name: str) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"{name}: a grey picture of 32-bit integers needs values from 0 to 65,535, "
            f"not {values.min():,} to {values.max():,}: scale them, or stretch them: {STRETCHED}"
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
