"""A heatmap on its photograph, as pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..core.checks import check_flags, check_shares
from ..core.geometry import pixel_cells, within
from ..core.heatmap import Heatmap
from .boxes import Boxes, check_boxes, with_boxes
from .colours import Normalise, colour_range, colours, colours_of, fraction, hidden

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# From here on the highest colour over black is brighter than the lowest over white: maps are read in grey print too.
OPACITY = 0.6
GREY = np.array([0.299, 0.587, 0.114])  # of red, green and blue (ITU-R BT.601)
DIM = 0.35  # of the brightness of the photo, where a patch was dropped


def overlay(
    heat: Heatmap,
    *,
    image: np.ndarray | None = None,
    opacity: float = OPACITY,
    colormap: str = "viridis",
    detections: Boxes | None = None,
    smooth: bool = False,
    normalise: Normalise = "map",
    threshold: float = 0.0,
    ax: Axes | None = None,
) -> np.ndarray:
    """The heatmap drawn over its source image, each patch where its pixels came from -> (H, W, 3) uint8.

    image: (H, W, 3) uint8, another picture of the same size to draw it on, or that of a heatmap which has none.
    detections: boxes that are drawn over it, such as those of `detect`.

    A source pixel takes the patch that its centre falls in; `smooth` interpolates bilinearly between patch centres.
    Patches that were dropped are the photo in grey, darkened, as none of the colours is. Pixels the model never saw
    (cropped away, left over at the border) keep the photo, as do those below `threshold`, a
    fraction of the colour range, or, where 0 is in its middle, of the way from 0 to its ends. normalise: see
    `colour_range`; colormap: see `colours_of`. With `ax` it is drawn there too, in source pixels.

        heat = vislab.explain("photo.jpg")
        vislab.overlay(heat, opacity=0.5, detections=vislab.detect("photo.jpg"))

    ValueError: no image, or one of another size than the heatmap's source, an unknown colormap, numbers outside 0..1.
    """
    check_shares(opacity=opacity, threshold=threshold)
    check_flags(smooth=smooth)
    check_boxes(detections)
    if ax is not None and not hasattr(ax, "imshow"):
        raise TypeError(f"ax is matplotlib's axes to draw on, such as plt.gca(), not {type(ax).__name__}")
    canvas = np.array(photograph(heat, image))
    span = colour_range(heat, normalise)
    table = colours_of(span, colormap)
    rows, cols = (pixel_cells(heat.grid, heat.frame, axis) for axis in (0, 1))
    covered = (within(rows, heat.grid.rows), within(cols, heat.grid.cols))

    if canvas[covered].size:
        at = rows[covered[0]], cols[covered[1]]
        share = fraction(sampled(heat, *at, smooth=smooth), span)
        blend = cv2.addWeighted(canvas[covered], 1 - opacity, colours(share, table), opacity, 0)
        weak = hidden(share, span, threshold)[..., None]
        photo = canvas[covered].copy()
        canvas[covered] = blend if threshold <= 0 else np.where(weak, photo, blend)
        if heat.dropped is not None:
            gone = sample(heat.dropped, *at, smooth=False)[..., None]
            grey = np.rint(photo @ GREY * DIM)[..., None].astype(np.uint8)
            canvas[covered] = np.where(gone, grey, canvas[covered])
    if detections is not None:
        canvas = with_boxes(canvas, detections)
    if ax is not None:
        ax.imshow(canvas, extent=(0, canvas.shape[1], canvas.shape[0], 0))
    return canvas


def sampled(heat: Heatmap, rows: np.ndarray, cols: np.ndarray, *, smooth: bool) -> np.ndarray:
    """A heatmap's values as `sample` reads them; between centres, dropped patches take no part."""
    if heat.dropped is None or not smooth:
        return sample(heat.values, rows, cols, smooth=smooth)
    there = (~heat.dropped).astype(np.float32)
    weight = sample(there, rows, cols, smooth=True)
    weighed = sample(heat.values * there, rows, cols, smooth=True)
    return np.divide(weighed, weight, out=np.zeros_like(weighed), where=weight > 0)


def sample(values: np.ndarray, rows: np.ndarray, cols: np.ndarray, *, smooth: bool) -> np.ndarray:
    """values: (rows, cols), read at positions counted in patches from the grid's corner -> (len(rows), len(cols)).

    Nearest, or bilinear between patch centres (which stand at n + ½) and constant beyond the outermost.
    """
    if not smooth:
        return values[np.ix_(rows.astype(int), cols.astype(int))]
    first, last, weight = _neighbours(rows, values.shape[0])
    values = values[first] * (1 - weight[:, None]) + values[last] * weight[:, None]
    first, last, weight = _neighbours(cols, values.shape[1])
    return values[:, first] * (1 - weight) + values[:, last] * weight


def photograph(heat: Heatmap, image: np.ndarray | None = None) -> np.ndarray:
    """What a heatmap is drawn on, its own image or the one given -> (H, W, 3) uint8.

    TypeError for what is no heatmap, ValueError where there is no image, or one that does not belong to it.
    """
    if not isinstance(heat, Heatmap):
        raise TypeError(f"what is drawn is a heatmap, not {type(heat).__name__}: vislab.explain(image) makes one")
    image = heat.image if image is None else image
    if image is None:
        raise ValueError(
            "this heatmap has no photograph: give vislab.overlay or vislab.save the one that was explained, image=…; "
            "for a panel, dataclasses.replace(heat, image=…)"
        )
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        other = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"heatmaps are drawn on RGB images, uint8 (H, W, 3), not {other}: vislab.load_image makes one")
    if image.shape[:2] != heat.frame.source:
        (height, width), (h, w) = image.shape[:2], heat.frame.source
        raise ValueError(
            f"the heatmap belongs to an image {w} px wide and {h} high, this one is {width} wide and {height} high: "
            "give the image that was explained"
        )
    return image


def _neighbours(cells: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The patches whose centres lie before and after each position, and the weight of the second."""
    position = np.clip(cells - 0.5, 0, count - 1)
    first = position.astype(int)
    return first, np.minimum(first + 1, count - 1), (position - first).astype(np.float32)
