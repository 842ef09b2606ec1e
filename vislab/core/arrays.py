"""Arrays that hold a picture -> (H, W, 3) uint8."""

from __future__ import annotations

import numpy as np

# What float arithmetic on a picture of 0 to 1 may leave outside.
_ROUNDING = 1e-4


def from_array(array: np.ndarray) -> np.ndarray:
    values = _eight_bits(_checked_shape(array))
    if values.shape[2] == 4:
        alpha = values[..., 3:].astype(np.uint16)
        return ((values[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.array(np.broadcast_to(values, (*values.shape[:2], 3)), order="C")


def _checked_shape(array: np.ndarray) -> np.ndarray:
    shape = array.shape
    if array.size and array.ndim == 2:
        return array[..., None]
    if array.size and array.ndim == 3 and shape[2] in (1, 3, 4):
        return array
    hint = "give one picture"
    if array.ndim == 3 and shape[0] in (1, 3, 4):
        hint = "its channels come first, so transpose it: image.transpose(1, 2, 0)"
    elif array.ndim == 4:
        hint = "it looks like a batch: give one of it, image[0]"
    raise ValueError(f"an image array is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {shape}: {hint}")


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
            "scale it, or give 16-bit values as uint16"
        )
    return values.astype(np.uint8)


def _float_to_eight_bits(values: np.ndarray) -> np.ndarray:
    if (missing := np.isnan(values).sum()) > 0:
        raise ValueError(
            f"an image array holds no NaN, and {missing:,} of {values.size:,} values are: replace them, "
            "for example with np.nan_to_num"
        )
    low, high = values.min(), values.max()
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        hint = "undo its normalisation" if low < 0 else f"divide it by {'255' if high <= 255 else 'its full range'}"
        raise ValueError(f"a float image needs values from 0 to 1, not {low:.4g} to {high:.4g}: {hint}")
    return np.rint(np.clip(values, 0, 1) * values.dtype.type(255)).astype(np.uint8)
