"""Looking in two stages: a detector finds regions, a Vision Transformer looks at each in the photo's resolution."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.checks import check_flags, real, shown
from ..core.costs import attention_flops
from ..core.geometry import Grid
from ..core.heatmap import Heatmap
from ..core.images import load_image
from ..detectors.cache import detector_of
from ..detectors.detections import Detections
from ..detectors.detector import Detector
from ..figures import overlay as overlaying
from ..figures.blends import Blend
from ..figures.boxes import with_boxes
from ..figures.colours import colour_range
from ..figures.notebook import captioned
from ..figures.overlay import OPACITY
from ..figures.png import png
from ..models.cache import model_of
from ..models.model import Model
from .detect import detect
from .explain import explain


@dataclass(frozen=True)
class Cost:
    """What a way of looking takes. tokens: of all its sequences. flops: of their attention alone.

    seconds: measured, or None where nothing was run.
    """

    name: str
    tokens: int
    flops: int
    seconds: float | None = None

    def __str__(self) -> str:
        took = "" if self.seconds is None else f", {self.seconds:.2g} s"
        return f"{self.name}: {self.tokens:,} tokens, {self.flops / 1e9:.2g} GFLOP of attention{took}"


@dataclass(frozen=True, eq=False, repr=False)
class Focus:
    """Regions of a photo, each looked at by itself. Shows itself as the last expression of a notebook cell.

    detections: the boxes behind the regions. regions: (n, 4) int, source pixels, each box with its margin. heats: for
    each region a heatmap in the photo's pixels, which covers that region alone. image: (H, W, 3) uint8. staged, whole:
    the cost of this way, and of the whole photo at its own resolution.
    """

    detections: Detections
    regions: np.ndarray
    heats: tuple[Heatmap, ...]
    image: np.ndarray
    staged: Cost
    whole: Cost

    def __len__(self) -> int:
        return len(self.heats)

    def overlay(
        self, *, opacity: float = OPACITY, blend: Blend = "even", colormap: str = "viridis", boxes: bool = True
    ) -> np.ndarray:
        """All heatmaps on the photo, in shared colours; where regions overlap, the most certain -> (H, W, 3) uint8."""
        picture = self.image.copy()
        low, high = colour_range(self.heats) if self.heats else (0.0, 0.0)
        look: dict[str, Any] = {"opacity": opacity, "blend": blend, "colormap": colormap}
        look |= {"normalise": (low, high)} if low < high else {}
        for (x0, y0, x1, y1), heat in reversed(list(zip(self.regions, self.heats, strict=True))):
            picture[y0:y1, x0:x1] = overlaying.overlay(heat, **look)[y0:y1, x0:x1]
        return with_boxes(picture, self.detections) if boxes else picture

    def __repr__(self) -> str:
        return f"Focus({self})"

    def __str__(self) -> str:
        return f"{self.detections.summary} · {self.staged} · {self.whole}"

    def _repr_png_(self) -> bytes:
        return png(captioned(self.overlay(), [self.detections.summary, str(self.staged), str(self.whole)]))


def focus(
    image: Any,
    *,
    detector: str | Path | Detector | Any = "embedded",
    model: str | Path | Model | Any = "embedded",
    confidence: float = 0.25,
    margin: float = 0.15,
    run_whole: bool = False,
    **settings: Any,
) -> Focus:
    """Let a detector find regions in an image, and a Vision Transformer look at each of them.

    detector: what `detect` takes, with confidence. model and settings: what `explain` takes. margin: added to each side
    of a box, as a share of that side. run_whole: also run the model once over the whole image at its own resolution, so
    that the times can be compared; it must take inputs of any size.

        seen = vislab.focus("street.jpg", margin=0.2, method="cls")
        seen.heats, seen.staged, seen.whole
    """
    if not real(margin) or not 0 <= margin <= 4:
        raise ValueError(f"margin is a share of a box's side, 0 to 4, not {shown(margin)}")
    check_flags(run_whole=run_whole)
    picture, ready, finder = load_image(image), model_of(model), detector_of(detector)
    boxes, detecting = _timed(lambda: detect(picture, detector=finder, confidence=confidence))
    regions = _with_margin(boxes, margin)
    heats, looking = _timed(lambda: tuple(explain(picture, model=ready, region=r, **settings) for r in regions))

    def cost(name: str, grids: list[Grid], seconds: float | None) -> Cost:
        flops = sum(attention_flops(grid.tokens, ready.dim, ready.layers) for grid in grids)
        return Cost(name, sum(grid.tokens for grid in grids), flops, seconds)

    crops = f"{len(heats)} crop" + "s" * (len(heats) != 1)
    staged = cost(f"{finder.name} and {crops}", [heat.grid for heat in heats], detecting + looking)
    patch = (settings["patch_size"],) * 2 if settings.get("patch_size") else ready.patch
    size = tuple(max(p, side // p * p) for p, side in zip(patch, picture.shape, strict=False))
    grid, seconds = Grid.of(size, patch, ready.prefix, ready.suffix), None
    if run_whole:
        _, seconds = _timed(lambda: explain(picture, model=ready, **settings | {"image_size": size}))
    whole = cost(f"whole image of {size[1]}×{size[0]} px", [grid], seconds)
    return Focus(boxes, regions, heats, picture, staged, whole)


def _with_margin(boxes: Detections, margin: float) -> np.ndarray:
    """Boxes grown by a share of their sides, in whole pixels inside the photo -> (n, 4) int."""
    height, width = boxes.frame.source
    low, high = boxes.xyxy[:, :2], boxes.xyxy[:, 2:]
    grown = margin * (high - low)
    size = np.array([width, height])
    low = np.clip(np.floor(low - grown), 0, size - 1)
    high = np.clip(np.ceil(high + grown), low + 1, size)
    return np.concatenate([low, high], 1).astype(int)


def _timed(do: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return do(), time.perf_counter() - start
