"""Values as colours: ranges, colormaps, ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..core.checks import meant, one_of, shown
from ..core.heatmap import Heatmap

Range = tuple[float, float]
Normalise = Literal["map", "absolute"] | Range
# Of matplotlib, those with two ends and a middle; the same reversed.
DIVERGING = {
    *("PiYG", "PRGn", "BrBG", "PuOr", "RdGy", "RdBu", "RdYlBu", "RdYlGn", "Spectral", "coolwarm", "bwr", "seismic"),
    *("berlin", "managua", "vanimo"),
}


def colour_range(heats: Heatmap | Sequence[Heatmap], normalise: Normalise = "map") -> Range:
    """The values at the two ends of the colours -> (low, high).

    "map": from the lowest to the highest value shown, shared when several heatmaps are given; patches that lie wholly
    outside the photo (letterbox padding) do not count. "absolute": 0..1. Where a map is signed, 0 is in the middle:
    both ends are equally far from it, and "absolute" is -1..1. A pair is taken as it is. Another constant map has
    low == high, and is drawn in the lowest colour.
    """
    if isinstance(normalise, str):
        heats = [heats] if isinstance(heats, Heatmap) else heats
        signed = any(heat.signed for heat in heats)
        if normalise == "absolute":
            return (-1.0 if signed else 0.0), 1.0
        if normalise != "map":
            raise ValueError(f'no normalisation {normalise!r}: take "map", "absolute", or a pair (low, high)')
        visible = [visible_values(heat) for heat in heats]
        low, high = float(min(values.min() for values in visible)), float(max(values.max() for values in visible))
        end = max(-low, high) or 1.0
        return (-end, end) if signed else (low, high)
    try:
        low, high = (float(end) for end in normalise)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f'normalise is "map", "absolute" or a pair (low, high) of numbers, not {shown(normalise)}'
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"a colour range runs from a lower to a higher number, not from {low:g} to {high:g}")
    return low, high


def fraction(values: np.ndarray, span: Range) -> np.ndarray:
    """Values -> 0..1 of a colour range, of the same shape; what lies outside is cut to its ends."""
    low, high = span
    if high <= low:
        return np.zeros_like(values)
    return np.clip((values - low) / (high - low), 0, 1)


def colours(share: np.ndarray, table: np.ndarray) -> np.ndarray:
    """share: (H, W) in 0..1; table: (256, 3) -> (H, W, 3) uint8."""
    import cv2

    return cv2.applyColorMap(np.minimum(share * 256, 255).astype(np.uint8), table[:, None])


def colour_table(name: str) -> np.ndarray:
    """The colours of a matplotlib colormap, lowest first -> (256, 3) uint8."""
    from matplotlib import colormaps

    if not one_of(name, colormaps):
        instead = meant(name, colormaps, 3) or "; try 'viridis', 'magma' or 'turbo'"
        raise ValueError(f"no colormap {shown(name)}{instead}")
    return np.rint(colormaps[name](np.arange(256) / 255)[:, :3] * 255).astype(np.uint8)


def colours_of(span: Range, colormap: str) -> np.ndarray:
    """The colours of a range, lowest first -> (256, 3) uint8.

    They are the colormap's, but where 0 is in the middle of the range only a diverging one will do: then they are
    "coolwarm", unless the colormap is such a one.
    """
    table = colour_table(colormap)
    return colour_table("coolwarm") if centred(span) and colormap.removesuffix("_r") not in DIVERGING else table


def centred(span: Range) -> bool:
    """Whether 0 is in the middle of a colour range, as it is for signed maps."""
    return span[0] == -span[1] < 0


def hidden(share: np.ndarray, span: Range, threshold: float) -> np.ndarray:
    """Where a map is weak: share, in 0..1 of its colour range, lies below the threshold -> bool, of the same shape."""
    return (np.abs(2 * share - 1) if centred(span) else share) < threshold


def colour_ticks(span: Range, count: int = 5) -> tuple[list[float], list[str], str]:
    """Round numbers for a colour bar -> (values, their labels, "×10⁻³" or whatever the labels leave out)."""
    from matplotlib.ticker import MaxNLocator

    low, high = span
    values = [low]
    if low < high:
        inside = [float(v) for v in MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
        values = [v for v in inside if low <= v <= high]
        values = values if len(values) > 1 else [low, high]
    largest = max(abs(low), abs(high))
    power = math.floor(math.log10(largest)) if largest else 0
    power = 0 if -3 < power < 4 else power
    scaled = [v / 10.0**power for v in values]
    step = scaled[1] - scaled[0] if len(scaled) > 1 else abs(scaled[0]) or 1
    fits = (d for d in range(12) if all(abs(round(v, d) - v) < step * 1e-3 for v in scaled))
    decimals = next(fits, 12)
    labels = [f"{v + 0.0:.{decimals}f}".replace("-", "−") for v in scaled]  # + 0.0 makes a plain zero of -0.0
    return values, labels, "×10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")) if power else ""


def visible_values(heat: Heatmap) -> np.ndarray:
    """The values of the patches that reach into the photo by more than rounding, and that a token stood for."""
    keep = []
    for axis, count in enumerate(heat.values.shape):
        edges = np.arange(count + 1) * heat.grid.patch[axis]
        source = (edges - heat.frame.offset[axis]) / heat.frame.scale[axis]
        keep.append((source[1:] > 1e-6) & (source[:-1] < heat.frame.source[axis] - 1e-6))
    visible = heat.values[np.ix_(*keep)]
    if heat.dropped is not None:
        visible = visible[~heat.dropped[np.ix_(*keep)]]
    return visible if visible.size else heat.values
