"""A heatmap as a layer over its photograph: its colours, and how a page takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.heatmap import Heatmap
from . import blends
from .colours import Range, colours, colours_of, fraction, hidden
from .overlay import DIM, sample, sampled
from .page import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


VEIL = np.uint8(round((1 - DIM) * 255))  # of black over a dropped patch
FINE = 1024  # samples of the longer side
ROWS = 255  # of patches, that a line of colours tells apart


def draw_layer(ax: Axes, heat: Heatmap, span: Range, look: Look, *, vector: bool) -> None:
    """Draw a heatmap whose corners are the grid's, in source pixels. vector: the file scales its pictures itself."""
    grid = heat.grid
    x0, y0, x1, y1 = heat.frame.box_to_source((0, 0, grid.cols * grid.patch[1], grid.rows * grid.patch[0]))
    by_line = not vector and _by_patch(look) and grid.rows <= ROWS
    layer = _rgba(heat, span, look, 1) if by_line else layer_of(heat, span, look)
    picture = ax.imshow(layer, extent=(x0, x1, y1, y0), interpolation="none", aspect="auto")
    if by_line:
        _make_by_line(picture, layer, _fine(heat))


def layer_of(heat: Heatmap, span: Range, look: Look) -> np.ndarray:
    """The heatmap as RGBA, every patch many samples wide: viewers that blur enlarged images then blur no patch.

    Dropped patches lie under a dark veil.
    """
    fine = _fine(heat)
    return _repeated(_rgba(heat, span, look, 1), fine) if _by_patch(look) else _rgba(heat, span, look, fine)


def _by_patch(look: Look) -> bool:
    """Whether each patch has one colour, so that its samples are copies."""
    return not look.smooth and look.blend != "contour"


def _fine(heat: Heatmap) -> int:
    """Samples along a patch's side."""
    return max(1, FINE // max(heat.values.shape))


def _repeated(patches: np.ndarray, fine: int) -> np.ndarray:
    return patches.repeat(fine, 0).repeat(fine, 1)


def _rgba(heat: Heatmap, span: Range, look: Look, fine: int) -> np.ndarray:
    """So many samples along a patch's side -> (rows · fine, cols · fine, 4) uint8."""
    rows, cols = ((np.arange(count * fine) + 0.5) / fine for count in heat.values.shape)
    share = fraction(sampled(heat, rows, cols, smooth=look.smooth), span)
    smoothed = share if look.blend != "contour" else fraction(sampled(heat, rows, cols, smooth=True), span)
    over = blends.layer(
        colours(share, colours_of(span, look.colormap)), blends.strength(smoothed, span), look.opacity, look.blend
    )
    colour, alpha = over[..., :3], np.where(hidden(share, span, look.threshold), 0, over[..., 3]).astype(np.uint8)
    if heat.dropped is not None:
        gone = sample(heat.dropped, rows, cols, smooth=False)
        colour, alpha = np.where(gone[..., None], 0, colour), np.where(gone, VEIL, alpha)
    return np.dstack([colour, alpha])


def _make_by_line(picture: AxesImage, patches: np.ndarray, fine: int) -> None:
    """Have matplotlib sample one line of pixels a row of patches, and copy it to the others: the same page, sooner.

    picture: on a page of pixels. patches: (rows, cols, 4) uint8. Each line is sampled where it stands, from as many
    samples as the whole layer has, and where the layer's edge cuts through pixels they have lines of their own.
    """
    from matplotlib.transforms import Bbox

    make, rows = picture.make_image, len(patches)
    numbers = np.zeros((rows, 1, 4), np.float32)  # of the rows, as shades of red: floats become bytes rounded down
    numbers[:, 0, 0], numbers[:, 0, 3] = (np.arange(rows) + 0.5) / 255, 1

    def made(samples: np.ndarray, box: tuple[float, float, float, float], renderer: Any) -> tuple[Any, ...]:
        picture.set_data(samples)
        picture.set_clip_box(Bbox.from_extents(*box))
        return tuple(make(renderer))

    def make_image(renderer: Any, magnification: float = 1.0, unsampled: bool = False) -> tuple[Any, ...]:
        box = picture.get_clip_box() or picture.axes.bbox
        x0, y0, x1, y1 = box.extents
        seen = Bbox.intersection(picture.get_window_extent(), box)
        if seen is None or seen.width < 3:  # px: no column of it is sure to be whole
            return made(_repeated(patches, fine), (x0, y0, x1, y1), renderer)
        middle = round((seen.x0 + seen.x1) / 2)
        column, _, bottom, _ = made(numbers.repeat(fine, 0), (middle, y0, middle + 1, y1), renderer)
        kinds, first, kind = np.unique(column[:, 0, ::3], axis=0, return_index=True, return_inverse=True)
        lines, left = [], 0
        for (row, _), place in zip(kinds, first, strict=True):
            y = bottom + place
            [line], left, *_ = made(patches[row][None].repeat(fine, 1), (x0, y, x1, y + 1), renderer)
            lines.append(line)
        picture.set_clip_box(box)
        return np.stack(lines)[kind.reshape(-1)], left, bottom, None

    picture.__dict__["make_image"] = make_image
