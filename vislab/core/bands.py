"""How measured values become a picture: which bands are shown, and what of their range is black and white."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .checks import meant, one_of, warn, whole
from .fingerprints import of_image

Stretch = Literal["percentile"] | tuple[float, float]

PERCENTILES = (2, 98)
# The call that messages recommend, also those of functions that have no such options.
STRETCHED = 'vislab.load_image(…, stretch="percentile") or `vislab figure --stretch percentile`'
_CHOOSE = (
    "choose the 3 (red, green, blue) or the 1 (grey) to show, counted from 1: image = vislab.load_image(…, bands={}), "
    "which vislab.Lab(image) and all else take, or `vislab figure --bands {}`"
)
# Fingerprint of a picture -> how it was read: the pixels alone do not tell.
_READ: dict[str, dict[str, Any]] = {}
_REMEMBERED = 10_000  # pictures: the frames of a clip are many


@dataclass(frozen=True)
class Reading:
    """How a source is read; see `vislab.load_image` for each field. Raises ValueError for what is neither."""

    bands: Sequence[int] | None = None
    stretch: Stretch | None = None

    def __post_init__(self) -> None:
        if self.bands is not None:
            _check_bands(self.bands)
            object.__setattr__(self, "bands", tuple(map(int, self.bands)))
        if self.stretch is not None and not one_of(self.stretch, ["percentile"]):
            _check_range(self.stretch)
            object.__setattr__(self, "stretch", tuple(map(float, self.stretch)))

    @property
    def asked(self) -> bool:
        return self.bands is not None or self.stretch is not None


def _check_bands(bands: Any) -> None:
    suggestion = f"such as bands=({bands},)" if isinstance(bands, int) else "such as bands=(3, 2, 1)"
    if not isinstance(bands, list | tuple) or not all(map(whole, bands)):
        raise ValueError(f"bands is {bands!r}: give 1 or 3 whole numbers, counted from 1, {suggestion}")
    if len(bands) not in (1, 3):
        raise ValueError(f"a picture shows 1 band (grey) or 3 (red, green, blue), not {len(bands)}: {suggestion}")
    if min(bands) < 1:
        hint = f"bands={tuple(int(n) + 1 for n in bands)}" if min(bands) == 0 else "bands=(3, 2, 1)"
        raise ValueError(f"there is no band {min(bands)}: they count from 1, as in rasterio and QGIS, such as {hint}")


def _check_range(stretch: Any) -> None:
    if isinstance(stretch, str):
        raise ValueError(f"stretch is 'percentile' or (low, high), not {stretch!r}{meant(stretch, ['percentile'])}")
    try:
        low, high = map(float, stretch)
    except (TypeError, ValueError):
        raise ValueError(f"stretch is 'percentile' or (low, high), two numbers, not {stretch!r}") from None
    if not (math.isfinite(high - low) and low < high):
        raise ValueError(f"stretch=(low, high) needs finite numbers, the low one first, not {stretch!r}")


def example(count: int) -> str:
    """What to do about a picture of so many bands, of which none is named."""
    return _CHOOSE.format(*(("(3, 2, 1)", "3,2,1") if count > 2 else ("(1,)", "1")))


def chosen(values: np.ndarray, bands: Sequence[int]) -> np.ndarray:
    """values: (H, W, n) -> (H, W, 1 or 3), the bands by their numbers, counted from 1."""
    count = values.shape[2]
    if max(bands) > count:
        raise ValueError(f"there is no band {max(bands)}: the picture has {count}, counted from 1")
    return values[..., [n - 1 for n in bands]]


def stretched(
    values: np.ndarray, stretch: Stretch, missing: float | None = None
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """values: (H, W, 1 or 3) -> (H, W, 1 or 3) uint8, and of each band the values that are black and white in it.

    "percentile": each band from its 2nd to its 98th percentile, as QGIS cuts a cumulative count by default. Both are
    values of the band and not between two, so what was stretched stays as it is when stretched again. missing: the
    value that stands for no data; it and NaN are not counted, and come out black.
    """
    if values.dtype.kind not in "biuf":
        raise ValueError(f"a stretch needs integers, floats or bool, not {values.dtype}: convert them with .astype")
    if values.shape[2] not in (1, 3):
        raise ValueError(f"a stretch is of 1 band or 3, and the picture has {values.shape[2]}: add bands=(1, 2, 3)")
    shown = np.empty(values.shape, np.uint8)
    ranges = []
    for n in range(values.shape[2]):
        band = values[..., n].astype(np.result_type(values.dtype, np.float32), copy=False)
        there = ~np.isnan(band)
        if missing is not None:
            there &= band != missing
        low, high = _percentiles(band[there], n + 1) if stretch == "percentile" else stretch
        # As many digits as the values and the range need, and no more memory.
        precise = band.astype(np.result_type(band.dtype, *map(np.min_scalar_type, (low, high, high - low))), copy=False)
        share = np.clip(np.where(there, precise, low), low, high)
        share -= low
        share *= 255 / (high - low)
        shown[..., n] = np.rint(share, out=share)
        ranges.append((low, high))
    return shown, ranges


def _percentiles(values: np.ndarray, number: int) -> tuple[float, float]:
    if not values.size:
        raise ValueError(f"band {number} of those shown holds no value but NaN or no data: choose another")
    low, high = (
        float(np.percentile(values, percent, method=method))  # type: ignore[call-overload]
        for percent, method in zip(PERCENTILES, ("lower", "higher"), strict=True)
    )
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            f"stretch='percentile' finds no range in band {number} of those shown, from {low:g} to {high:g} (all of it "
            f"from {values.min():g} to {values.max():g}): give one, stretch=(low, high)"
        )
    return low, high


def warn_if_dark(shown: np.ndarray, name: str, values: np.ndarray | None = None) -> None:
    """Warn where values of more than 8 bits come out nearly black or nearly white, unless they are known to be equal.

    shown: the picture, uint8; nearly black or white: at least 98 % of it is in the darkest or brightest eighth of 0 to
    255. values: all that the picture shows, before it became uint8; None where they are not at hand.
    """
    most = 0.98 * shown.size
    ends = {"black": np.count_nonzero(shown < 32) >= most, "white": np.count_nonzero(shown > 223) >= most}
    for end in (end for end, so in ends.items() if so):
        span = ""
        if values is not None:
            low, high = values.min(), values.max()
            if low == high:
                return
            span = f", from {low:.6g} to {high:.6g},"
        warn(
            f"{name} comes out nearly {end}, since its values{span} fill a small part of their type's range: "
            f"{STRETCHED} shows them, or stretch=(low, high)"
        )


def remember(image: np.ndarray, reading: Reading, ranges: Sequence[tuple[float, float]]) -> None:
    """image: (H, W, 3) uint8, as it was read, for the records of figures that show it. ranges: black and white."""
    # What is stretched again stays as it is: its first reading tells more.
    if len(_READ) >= _REMEMBERED:
        del _READ[next(iter(_READ))]
    _READ.setdefault(of_image(image), {"bands": reading.bands, "stretch": reading.stretch, "ranges": ranges})


def how_read(digest: str) -> dict[str, Any]:
    """How the picture of a fingerprint was read; nothing where no bands and no stretch were asked for."""
    return _READ.get(digest, {})
