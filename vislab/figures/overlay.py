"""A heatmap, or masks, on the photograph, as pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core.checks import check_flags, check_shares
from ..core.geometry import pixel_cells, within
from ..core.heatmap import Heatmap
from ..masks.masks import Masks
from .blends import Blend, blended, check_blend, strength
from .boxes import Boxes, boxes_given, explained_box, with_boxes
from .colours import Normalise, colour_range, colours, colours_of, fraction, hidden
from .lines import with_grid
from .regions import with_masks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# From here on the highest colour over black is brighter than the lowest over white: maps are read in grey print too.
OPACITY = 0.6
GREY = np.array([0.299, 0.587, 0.114])  # of red, green and blue (ITU-R BT.601)
DIM = 0.35  # of the brightness of the photo, where a patch was dropped


def overlay(
    heat: Heatmap | Masks,
    *,
    image: np.ndarray | None = None,
    opacity: float = OPACITY,
    blend: Blend = "even",
    colormap: str = "viridis",
    detections: Boxes | tuple[()] | None = None,
    smooth: bool = False,
    normalise: Normalise = "map",
    threshold: float = 0.0,
    grid: bool = False,
    ax: Axes | None = None,
) -> np.ndarray:
    """The heatmap drawn over its source image, each patch where its pixels came from -> (H, W, 3) uint8.

    image: (H, W, 3) uint8, another picture of the same size to draw it on, or that of a heatmap which has none.
    detections: boxes that are drawn over it, such as those of `detect`; by default the one that the heatmap explains,
    where it is of `explain_box`, and () for none.

    A source pixel takes the patch that its centre falls in; `smooth` interpolates bilinearly between patch centres.
    Patches that were dropped are the photo in grey, darkened, as none of the colours is. Pixels the model never saw
    (cropped away, left over at the border) keep the photo, as do those below `threshold`, a
    fraction of the colour range, or, where 0 is in its middle, of the way from 0 to its ends. normalise: see
    `colour_range`; colormap: see `colours_of`. grid: with lines between the patches. With `ax` it is drawn there too,
    in source pixels.

    blend: how it lies on the photo. "even", one opacity everywhere; "value", clear where the map is weak, and up to
    `opacity` where it is strong; "multiply", the photo's brightness in the map's colours; "contour", lines at a fifth
    of the range each; "spotlight", the photo dimmed where the map is weak. Strong is what is high, or, where 0 is in
    the middle of the range, far from it.

    Of masks each has a colour, an outline and its label; of the options these take image, opacity, detections and ax.

        heat = vislab.explain("photo.jpg")
        vislab.overlay(heat, opacity=0.5, detections=vislab.detect("photo.jpg"))

    ValueError: no image, or one of another size than the heatmap's source, an unknown colormap, numbers outside 0..1.
    """
    import cv2

    check_shares(opacity=opacity, threshold=threshold)
    check_blend(blend)
    check_flags(smooth=smooth, grid=grid)
    boxes = boxes_given(detections)
    if ax is not None and not hasattr(ax, "imshow"):
        raise TypeError(f"ax is matplotlib's axes to draw on, such as plt.gca(), not {type(ax).__name__}")
    under = photograph(heat, image)
    canvas = np.array(under)
    if isinstance(heat, Masks):
        if (blend, colormap, smooth, normalise, threshold, grid) != ("even", "viridis", False, "map", 0.0, False):
            raise ValueError(
                "masks have no values to colour: leave blend, colormap, smooth, normalise, threshold and grid out"
            )
        return _shown(with_masks(canvas, heat, opacity), boxes, ax)
    span = colour_range(heat, normalise)
    table = colours_of(span, colormap)
    rows, cols = (pixel_cells(heat.grid, heat.frame, axis) for axis in (0, 1))
    covered = (within(rows, heat.grid.rows), within(cols, heat.grid.cols))

    if canvas[covered].size:
        at = rows[covered[0]], cols[covered[1]]
        share = fraction(sampled(heat, *at, smooth=True) if smooth else heat.values, span)

        def laid(values: np.ndarray) -> np.ndarray:
            """What was made of `share`, for each pixel."""
            return values if smooth else sample(values, *at, smooth=False)

        photo, colour = under[covered], laid(colours(share, table))
        if blend == "even":
            drawn = cv2.addWeighted(photo, 1 - opacity, colour, opacity, 0)
        elif blend == "contour":
            strong = strength(fraction(sampled(heat, *at, smooth=True), span), span)
            drawn = blended(photo, colour, strong, opacity, blend)
        else:
            drawn = blended(photo, colour, laid(strength(share, span)), opacity, blend)
        if threshold > 0:
            drawn = np.where(laid(hidden(share, span, threshold))[..., None], photo, drawn)
        canvas[covered] = drawn
        if heat.dropped is not None:
            gone = sample(heat.dropped, *at, smooth=False)[..., None]
            grey = np.rint(photo @ GREY * DIM)[..., None].astype(np.uint8)
            canvas[covered] = np.where(gone, grey, canvas[covered])
    if grid:
        canvas = with_grid(canvas, heat)
    return _shown(canvas, explained_box(heat) if boxes is None else boxes, ax)


def _shown(canvas: np.ndarray, boxes: Boxes | None, ax: Axes | None) -> np.ndarray:
    if boxes is not None:
        canvas = with_boxes(canvas, boxes)
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
    """values: (rows, cols, …), at positions counted in patches from the grid's corner -> (len(rows), len(cols), …).

    Nearest, or bilinear between patch centres (which stand at n + ½) and constant beyond the outermost.
    """
    if not smooth:
        return values.take(cols.astype(int), 1).take(rows.astype(int), 0)  # take copies whole rows
    first, last, weight = _neighbours(rows, values.shape[0])
    values = values[first] * (1 - weight[:, None]) + values[last] * weight[:, None]
    first, last, weight = _neighbours(cols, values.shape[1])
    return values[:, first] * (1 - weight) + values[:, last] * weight


def photograph(heat: Heatmap | Masks, image: np.ndarray | None = None) -> np.ndarray:
    """What a heatmap, or masks, are drawn on, its own image or the one given -> (H, W, 3) uint8.

    TypeError for what is no heatmap, ValueError where there is no image, or one that does not belong to it.
    """
    if not isinstance(heat, Heatmap | Masks):
        raise TypeError(f"what is drawn is a heatmap, not {type(heat).__name__}: vislab.explain(image) makes one")
    image = heat.image if image is None else image
    if image is None and isinstance(heat, Masks):
        raise ValueError("these masks have no photograph: give vislab.overlay the one they were made of, image=…")
    if image is None:
        raise ValueError(
            "this heatmap has no photograph: give vislab.overlay or vislab.save the one that was explained, image=…; "
            "for a panel, dataclasses.replace(heat, image=…)"
        )
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        other = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"heatmaps are drawn on RGB images, uint8 (H, W, 3), not {other}: vislab.load_image makes one")
    source = heat.masks.shape[1:] if isinstance(heat, Masks) else heat.frame.source
    if image.shape[:2] != source:
        (height, width), (h, w) = image.shape[:2], source
        whose = "the masks belong" if isinstance(heat, Masks) else "the heatmap belongs"
        raise ValueError(
            f"{whose} to an image {w} px wide and {h} high, this one is {width} wide and {height} high: "
            "give the image that was explained"
        )
    return image


def _neighbours(cells: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The patches whose centres lie before and after each position, and the weight of the second."""
    position = np.clip(cells - 0.5, 0, count - 1)
    first = position.astype(int)
    return first, np.minimum(first + 1, count - 1), (position - first).astype(np.float32)
