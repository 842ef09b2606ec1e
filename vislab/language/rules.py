"""From image tokens to pixels, one rule a family of vision-language models.

A rule is told the model's configuration, its processor, the size of the image and what the processor made of it, and
gives the views with their tokens. Each is proven by experiment in the tests: with the vision tower's attention
silenced, a token's feature changes if and only if its own pixels do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.geometry import Frame, Grid
from ..models.processor import of_processor
from .places import ImagePlaces, View, raster, tiles


@dataclass(frozen=True)
class Shown:
    """What a rule is told. config: the model's. source: (height, width) px. inputs: what the processor made."""

    config: Any
    processor: Any
    source: tuple[int, int]
    inputs: Mapping[str, Any]

    @property
    def images(self) -> Any:
        """The processor of images."""
        return self.processor.image_processor

    @property
    def patch(self) -> int:
        """Of the vision tower, px."""
        return _side(self.config.vision_config.patch_size)

    @property
    def side(self) -> int:
        """Of one view, px."""
        return _side(self.config.vision_config.image_size)


def _side(size: int | list[int] | tuple[int, ...]) -> int:
    """Of squares; some configurations say both sides."""
    if isinstance(size, int):
        return size
    if len({*size}) > 1:
        raise ValueError(f"the vision tower takes squares in all models of these families, and here {tuple(size)} px")
    return size[0]


def whole(frame: Frame, patch: int, pool: int) -> ImagePlaces:
    """One view, its tokens row by row, each made of pool × pool patches."""
    grid = Grid.of(frame.model, (patch * pool, patch * pool))
    return ImagePlaces((View(grid, frame, raster(grid.rows, grid.cols)),), grid, frame, grid.patches, pool)


def llava(shown: Shown) -> ImagePlaces:
    """A token a patch, row by row; CLIP's centre crop, or, where the processor pads, the whole image in a square."""
    source = shown.source
    if getattr(shown.images, "do_pad", False):
        square = (max(source),) * 2
        offset = tuple(float((full - side) // 2) for full, side in zip(square, source, strict=True))
        inner = of_processor(shown.images, lambda: (shown.side,) * 2).frame(square)
        moved = tuple(o * s + i for o, s, i in zip(offset, inner.scale, inner.offset, strict=True))
        frame = Frame(source, inner.model, inner.scale, (moved[0], moved[1]))
    else:
        frame = of_processor(shown.images, lambda: (shown.side,) * 2).frame(source)
    return whole(frame, shown.patch, 1)


def paligemma(shown: Shown) -> ImagePlaces:
    """A token a patch, row by row, of the whole image."""
    return whole(Frame.stretch(shown.source, (shown.side,) * 2), shown.patch, 1)


def gemma3(shown: Shown) -> ImagePlaces:
    """Patches averaged in squares; the whole image first, then, under pan and scan, its crops."""
    side, source = shown.side, shown.source
    per_side = math.isqrt(int(shown.config.mm_tokens_per_image))
    pool = side // shown.patch // per_side
    grid = Grid.of((side, side), (shown.patch * pool,) * 2)
    views = [View(grid, Frame.stretch(source, (side, side)), raster(grid.rows, grid.cols))]
    crops = len(shown.inputs["pixel_values"]) - 1
    if crops == 0:
        return ImagePlaces(tuple(views), grid, views[0].frame, grid.patches, pool)
    down = source[0] > source[1]
    size = (math.ceil(source[0] / crops), source[1]) if down else (source[0], math.ceil(source[1] / crops))
    for number in range(crops):
        top, left = (number * size[0], 0) if down else (0, number * size[1])
        held = (min(size[0], source[0] - top), min(size[1], source[1] - left))
        frame = Frame.stretch(held, (side, side)).cut_from(source, (left, top))
        views.append(View(grid, frame, raster(grid.rows, grid.cols, (number + 1) * grid.patches)))
    finest = Grid(grid.rows * (crops if down else 1), grid.cols * (1 if down else crops), grid.patch)
    full = (side * (crops if down else 1), side * (1 if down else crops))
    return ImagePlaces(tuple(views), finest, Frame.stretch(source, full), (crops + 1) * grid.patches, pool)


def qwen(shown: Shown) -> ImagePlaces:
    """A token for each 2 × 2 patches, row by row, of the whole image; the tower's own order goes by these squares."""
    _, rows, cols = (int(n) for n in shown.inputs["image_grid_thw"][0])
    pool, patch = int(shown.images.merge_size), int(shown.images.patch_size)
    frame = Frame.stretch(shown.source, (rows * patch, cols * patch))
    grid = Grid(rows // pool, cols // pool, (patch * pool, patch * pool))
    squares = raster(rows * cols // pool**2, pool**2).reshape(grid.rows, grid.cols, pool, pool)
    order = squares.transpose(0, 2, 1, 3).reshape(rows, cols)
    view = View(grid, frame, raster(grid.rows, grid.cols), order)
    return ImagePlaces((view,), grid, frame, grid.patches, pool)


def tiled(shown: Shown, rows: int, cols: int, pool: int, count: int) -> ImagePlaces:
    """Tiles of one size, row by row, onto which the image is stretched, and, where there are several, the whole image.

    count: of views that the tower is shown.
    """
    side, source = shown.side, shown.source
    cell = (shown.patch * pool,) * 2
    grid = Grid.of((side, side), cell)
    finest = Grid(rows * grid.rows, cols * grid.cols, cell)
    frame = Frame.stretch(source, (rows * side, cols * side))
    frames = [*tiles(source, rows, cols, (side, side), frame.scale)]
    frames += [Frame.stretch(source, (side, side))] if count > rows * cols else []
    views = [View(grid, one, raster(grid.rows, grid.cols, number * grid.patches)) for number, one in enumerate(frames)]
    return ImagePlaces(tuple(views), finest, frame, count * grid.patches, pool)


def idefics3(shown: Shown) -> ImagePlaces:
    """Squares of patches shuffled into one token; tiles, then the whole image."""
    pixels = shown.inputs["pixel_values"]
    count = pixels.shape[1]
    rows = cols = 1
    if count > 1:
        _, rows, cols = shown.images.get_number_of_image_patches(*shown.source)
    return tiled(shown, int(rows), int(cols), int(shown.config.scale_factor), int(count))


def internvl(shown: Shown) -> ImagePlaces:
    """Squares of patches shuffled into one token; tiles, then the whole image."""
    from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

    count, cols, rows = len(shown.inputs["pixel_values"]), 1, 1
    if count > 1:
        limits = (int(shown.images.min_patches), int(shown.images.max_patches))
        cols, rows = get_optimal_tiled_canvas(shown.source, (shown.side, shown.side), *limits)
    return tiled(shown, rows, cols, round(1 / shown.config.downsample_ratio), count)


def llava_next(shown: Shown) -> ImagePlaces:
    """The whole image, then one raster over all tiles without their padding, each of its rows ended by a token more."""
    return _anyres(shown, most=None)


def llava_onevision(shown: Shown) -> ImagePlaces:
    """As LLaVA-NeXT; a raster of many more tokens than the model is to read is interpolated to fewer."""
    said = getattr(shown.config, "vision_aspect_ratio", None) or "anyres_max_9"
    return _anyres(shown, most=int(said.removeprefix("anyres_max_")))


def _anyres(shown: Shown, most: int | None) -> ImagePlaces:
    from transformers.image_processing_utils import select_best_resolution

    source, side, patch = shown.source, shown.side, shown.patch
    per_side = side // patch
    base_grid = Grid.of((side, side), (patch, patch))
    base = View(base_grid, Frame.stretch(source, (side, side)), raster(per_side, per_side))
    full = select_best_resolution(source, [tuple(one) for one in shown.config.image_grid_pinpoints])
    rows, cols = full[0] // side, full[1] // side
    resized, (top, left) = _fitted(source, full)
    scale = (resized[0] / source[0], resized[1] / source[1])
    high, wide = _unpadded(source, (rows * per_side, cols * per_side))
    fewer = _interpolated((len(high), len(wide)), per_side, most)
    if fewer is not None:
        # The raster without its padding, resampled: cells of the same height and width over the same pixels.
        shape = (len(high) * patch, len(wide) * patch)
        frame = Frame(source, shape, scale, (top - high.start * patch, left - wide.start * patch))
        grid = Grid(*fewer, (1000, 1000))
        frame = frame.spread(grid)
        view = View(grid, frame, _lines(*fewer, base_grid.patches))
        count = base_grid.patches + fewer[0] * (fewer[1] + 1)
        return ImagePlaces((base, view), grid, frame, count, None)
    tokens = np.full((rows * per_side, cols * per_side), -1)
    tokens[high.start : high.stop, wide.start : wide.stop] = _lines(len(high), len(wide), base_grid.patches)
    views = [base]
    for number, frame in enumerate(tiles(source, rows, cols, (side, side), scale, (float(top), float(left)))):
        row, col = (n * per_side for n in divmod(number, cols))
        views.append(View(base_grid, frame, tokens[row : row + per_side, col : col + per_side]))
    grid = Grid(len(high), len(wide), (patch, patch))
    offset = (top - high.start * patch, left - wide.start * patch)
    frame = Frame(source, (len(high) * patch, len(wide) * patch), scale, (float(offset[0]), float(offset[1])))
    return ImagePlaces(tuple(views), grid, frame, base_grid.patches + len(high) * (len(wide) + 1), 1)


def _lines(rows: int, cols: int, first: int) -> np.ndarray:
    """Tokens row by row, where each row is ended by one that stands for no pixels."""
    return raster(rows, cols + 1, first)[:, :-1]


def _fitted(source: tuple[int, int], full: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The image's size where it fits into all tiles, its aspect kept, and what is padded above and to its left."""
    ratio = (full[0] / source[0], full[1] / source[1])
    if ratio[1] < ratio[0]:
        size = (min(math.ceil(source[0] * ratio[1]), full[0]), full[1])
    else:
        size = (full[0], min(math.ceil(source[1] * ratio[0]), full[1]))
    return size, ((full[0] - size[0]) // 2, (full[1] - size[1]) // 2)


def _unpadded(source: tuple[int, int], full: tuple[int, int]) -> tuple[range, range]:
    """Rows and columns of the raster that are kept, by the image's aspect alone, as transformers' unpad_image does."""
    if source[1] / source[0] > full[1] / full[0]:
        kept = int(round(source[0] * (full[1] / source[1]), 7))
        edge = (full[0] - kept) // 2
        return range(edge, full[0] - edge), range(full[1])
    kept = int(round(source[1] * (full[0] / source[0]), 7))
    edge = (full[1] - kept) // 2
    return range(full[0]), range(edge, full[1] - edge)


def _interpolated(shape: tuple[int, int], per_side: int, most: int | None) -> tuple[int, int] | None:
    """Rows and columns that a raster is interpolated to, None where it stays."""
    ratio = 0.0 if most is None else math.sqrt(shape[0] * shape[1] / (most * per_side**2))
    return (int(shape[0] // ratio), int(shape[1] // ratio)) if ratio > 1.1 else None


def mllama(shown: Shown) -> ImagePlaces:
    """The keys that words cross to: of each tile a class token and its patches; the image keeps its aspect."""
    from transformers.models.mllama.image_processing_mllama import (
        get_image_size_fit_to_canvas,
        get_optimal_tiled_canvas,
    )

    side, patch, source = shown.side, shown.patch, shown.source
    most = int(shown.images.max_image_tiles)
    canvas = tuple(int(n) for n in get_optimal_tiled_canvas(*source, most, side))
    fitted = tuple(int(n) for n in get_image_size_fit_to_canvas(*source, *canvas, side))
    rows, cols = canvas[0] // side, canvas[1] // side
    grid, scale = Grid.of((side, side), (patch, patch)), (fitted[0] / source[0], fitted[1] / source[1])
    views = tuple(
        View(grid, frame, raster(grid.rows, grid.cols, number * (grid.patches + 1) + 1))
        for number, frame in enumerate(tiles(source, rows, cols, (side, side), scale))
    )
    finest = Grid(rows * grid.rows, cols * grid.cols, grid.patch)
    frame = Frame(source, (canvas[0], canvas[1]), scale)
    return ImagePlaces(views, finest, frame, most * (grid.patches + 1), 1, marks=1)


def blip(shown: Shown) -> ImagePlaces:
    """The keys that words cross to: a class token, then a token a patch, row by row, of the whole image."""
    frame = Frame.stretch(shown.source, (shown.side,) * 2)
    grid = Grid.of(frame.model, (shown.patch,) * 2)
    return ImagePlaces((View(grid, frame, raster(grid.rows, grid.cols, 1)),), grid, frame, grid.patches + 1, 1, marks=0)


def q_former(shown: Shown) -> ImagePlaces:
    """The tokens that the Q-Former's queries attend to, as of BLIP; the prompt has the queries in their place."""
    return replace(blip(shown), marks=int(shown.config.num_query_tokens))


# By what transformers calls the family, with its usual name and its rule.
RULES: dict[str, tuple[str, Callable[[Shown], ImagePlaces]]] = {
    "llava": ("LLaVA-1.5", llava),
    "llava_next": ("LLaVA-NeXT", llava_next),
    "llava_onevision": ("LLaVA-OneVision", llava_onevision),
    "idefics3": ("Idefics3", idefics3),
    "smolvlm": ("SmolVLM", idefics3),
    "qwen2_vl": ("Qwen2-VL", qwen),
    "qwen2_5_vl": ("Qwen2.5-VL", qwen),
    "qwen3_vl": ("Qwen3-VL", qwen),
    "paligemma": ("PaliGemma", paligemma),
    "gemma3": ("Gemma 3", gemma3),
    "internvl": ("InternVL", internvl),
    "mllama": ("Mllama", mllama),
    "blip": ("BLIP", blip),
    "blip-2": ("BLIP-2", q_former),
    "instructblip": ("InstructBLIP", q_former),
}


def known_families() -> str:
    """Their usual names, in words."""
    names = [name for name, _ in RULES.values()]
    return f"{', '.join(names[:-1])} and {names[-1]}"
