"""What is measured on every image alike, and the maps of the methods that are compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..api.detect import detect
from ..api.explain import explain
from ..core.fingerprints import of_image
from ..core.geometry import Grid
from ..core.heatmap import Heatmap
from ..methods import registry
from ..models.model import Model
from ..models.preprocessing import ImageSize
from ..models.tokens import BOX, Tokens
from .ranks import centre
from .removal import Fill, Removal
from .report import CENTRE, RANDOM

Maps = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Plan:
    """What stays the same from image to image. methods: name -> keywords of `explain`."""

    model: Model
    methods: Mapping[str, Mapping[str, Any]]
    fill: Fill
    steps: int
    seed: int
    patch_size: int | None
    image_size: ImageSize | None
    tokens: Mapping[str, Any]

    @property
    def grid(self) -> Grid:
        return self.model.grid(self.image_size, self.patch_size)

    @property
    def sizes(self) -> dict[str, Any]:
        """The sizes of every forward, and how it spends its tokens, by the keywords of `explain`."""
        return {"patch_size": self.patch_size, "image_size": self.image_size, **self.tokens}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What was measured on one image. number: its place in the list. target: class index. maps: one a method.

    quarter: (h, w, 3) uint8, what the model saw of it, at half the input's size.
    """

    number: int
    target: int
    maps: Maps
    curves: Sequence[Removal]
    quarter: np.ndarray


def placed(plan: Plan, image: np.ndarray) -> Plan:
    """The plan of one image, its fovea on the box that is found there. Raises ValueError where there is none."""
    if plan.tokens.get("fovea") != BOX:
        return plan
    return replace(plan, tokens={**plan.tokens, "fovea": Tokens(fovea=detect(image)[:1]).fovea})


def rng(seed: int, purpose: Literal["maps", "ties", "mosaics"], *key: int) -> np.random.Generator:
    """A source of chance of its own for each purpose and key, so that no number depends on what was drawn before."""
    return np.random.default_rng([seed, *purpose.encode(), *key])


def content(image: np.ndarray) -> int:
    """A key of an image, (H, W, 3) uint8: what is drawn for it is the same wherever in a list it stands."""
    return int(of_image(image), 16)


def counted(items: Iterable[Any], unit: str, shown: bool, total: int | None = None) -> Any:
    """The items one by one, with a bar that counts them where it is to be shown. total: of what has no length."""
    from tqdm.auto import tqdm

    there = total if isinstance(items, Iterator) else len(items)  # type: ignore[arg-type]
    return tqdm(items, unit=unit, total=there, disable=not (shown and there), leave=False)


def maps_of(plan: Plan, image: np.ndarray, target: int, *key: int) -> Maps:
    """The map of each method and baseline; random is drawn anew for each image and key."""
    maps = {}
    for name, keywords in plan.methods.items():
        targeted: dict[str, Any] = {"target": target} if registry.METHODS[keywords["method"]].targeted else {}
        heat = explain(image, model=plan.model, **(plan.sizes | targeted | dict(keywords)))
        maps[name] = on_patches(heat, plan.grid, plan.model.input_size(plan.image_size))
    shape = plan.grid.rows, plan.grid.cols
    return maps | {RANDOM: rng(plan.seed, "maps", content(image), *key).random(shape), CENTRE: centre(*shape)}


def on_patches(heat: Heatmap, grid: Grid, size: tuple[int, int]) -> np.ndarray:
    """The values of a heatmap on the patches that are removed: of the cell under the centre of each. -> (rows, cols)

    size: (height, width) px of the model's input. A map on these patches is given as it is.
    """
    if (heat.grid.rows, heat.grid.cols, heat.grid.patch) == (grid.rows, grid.cols, grid.patch):
        return heat.values
    at = []
    for axis, (count, cells) in enumerate(((grid.rows, heat.grid.rows), (grid.cols, heat.grid.cols))):
        centres = (np.arange(count) + 0.5) * grid.patch[axis] * heat.frame.model[axis] / size[axis]
        at.append(np.clip(centres // heat.grid.patch[axis], 0, cells - 1).astype(int))
    return heat.values[np.ix_(*at)]
