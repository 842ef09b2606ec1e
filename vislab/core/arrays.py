"""Arrays that hold a picture -> (H, W, 3) uint8."""

from __future__ import annotations

import numpy as np

from .bands import STRETCHED, Reading, chosen, example, remember, stretched, warn_if_dark

MAX_PIXELS = 100_000_000  # of any picture: 300 MB of RGB
# What float arithmetic on a picture of 0 to 1 may leave outside.
_ROUNDING = 1e-4


def from_array(array: np.ndarray, reading: Reading) -> np.ndarray:
    return from_values(_checked_shape(np.asarray(array), reading.bands is not None), reading, "the array")


def from_values(values: np.ndarray, reading: Reading, name: str, missing: float | None = None) -> np.ndarray:
    """values: (H, W, n). name: what a warning calls them. missing: the value that stands for no data, for a stretch."""
    if reading.bands is not None:
        values = chosen(values, reading.bands)
    ranges: list[tuple[float, float]] = []
    if reading.stretch is None:
        shown = _eight_bits(values)
        if values.dtype.kind == "f" or values.dtype == np.uint16:
            warn_if_dark(shown, name, values)
    else:
        shown, ranges = stretched(values, reading.stretch, missing)
    image = _rgb(shown)
    if reading.asked:
        remember(image, reading, ranges)
    return image


def _rgb(values: np.ndarray) -> np.ndarray:
    if values.shape[2] == 4:
        alpha = values[..., 3:].astype(np.uint16)
        return ((values[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.array(np.broadcast_to(values, (*values.shape[:2], 3)), order="C")


def _checked_shape(array: np.ndarray, bands_chosen: bool) -> np.ndarray:
    shape = array.shape
    if array.ndim > 1 and 0 in array.strides[:2] and shape[0] * shape[1] > MAX_PIXELS:  # broadcast, of few bytes
        raise ValueError(
            f"the array is of {shape[0]:,}×{shape[1]:,} pixels, and the limit is {MAX_PIXELS // 10**6} million "
            "where a few values stand for all: "
            "give a part of it, image[y0:y1, x0:x1]"
        )
    if array.size and array.ndim == 2:
        return array[..., None]
    if array.size and array.ndim == 3:
        # Bands are fewer than rows and columns; chosen among columns they would make a picture all the same.
        first = shape[0] < min(shape[1:])
        if shape[2] in (1, 3, 4) or (bands_chosen and not first):
            return array
        if first or shape[0] in (1, 3, 4):
            hint = "its channels come first, so transpose it: image.transpose(1, 2, 0)"
        else:
            hint = f"it has {shape[2]} bands, so {example(shape[2])}"
    elif array.ndim == 4:
        hint = "it looks like a batch: give one of it, image[0]"
    else:
        hint = "give one picture"
    raise ValueError(
        f"an image array is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or (H, W, n) with bands=…, not {shape}: {hint}"
    )


def _eight_bits(values: np.ndarray) -> np.ndarray:
    kind = values.dtype.kind
    if values.dtype == np.uint8:
        return values
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if kind == "u" and values.dtype.itemsize == 2:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if kind == "f":
        return _float_to_eight_bits(values)
    if kind not in "iu":
        raise ValueError(f"an image array holds integers, floats or bool, not {values.dtype}: convert it with .astype")
    low, high = values.min(), values.max()
    if low < 0 or high > 255:
        raise ValueError(
            f"an image array of {values.dtype} needs values from 0 to 255, not {low:,} to {high:,}: "
            f"scale it, give 16-bit values as uint16, or stretch it: {STRETCHED}"
        )
    return values.astype(np.uint8)


def _float_to_eight_bits(values: np.ndarray) -> np.ndarray:
    if (missing := np.isnan(values).sum()) > 0:
        raise ValueError(
            f"an image array holds no NaN, and {missing:,} of {values.size:,} values are: replace them, "
            f"for example with np.nan_to_num, or leave them out: {STRETCHED}"
        )
    low, high = values.min(), values.max()
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        hint = "undo its normalisation" if low < 0 else f"divide it by {'255' if high <= 255 else 'its full range'}"
        hint += f", or stretch it: {STRETCHED}"
        raise ValueError(f"a float image needs values from 0 to 1, not {low:.4g} to {high:.4g}: {hint}")
    return np.rint(np.clip(values, 0, 1) * values.dtype.type(255)).astype(np.uint8)
