"""Tokens: how a forward spends its tokens, as it is asked for; and how many are left in each layer, before it runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from ..core.checks import check_flags, check_options, one_of, real, shown, whole
from ..core.heatmap import Heatmap

KEPT_BY = ("attention", "norm", "random", "centre")
Box = tuple[float, float, float, float]
KeepBy = Literal["attention", "norm", "random", "centre"] | tuple[tuple[float, ...], ...] | Heatmap
Layers = int | Sequence[int] | None
BOX = "box"  # of a detector, which is asked before the forward


class Found(tuple[Box, ...]):
    """Boxes that a detector found, source pixels: they are cut to what a model sees, and widened to a patch."""


@dataclass(frozen=True)
class Tokens:
    """How a forward spends its tokens; by default as the model does.

    keep: share of the patches that are left in the end, above 0. keep_by: what decides, highest first: "attention",
    that which CLS paid them in the layer before (without CLS, the mean of all queries), "norm" of the token, "random",
    "centre", nearest first, or one value a patch: a heatmap, or (rows, cols) spread evenly over the input. keep_at: the
    layer before which patches go, or several, which take equal factors; by default a quarter, a half and three quarters
    of the way. gather: whether those that go become one token, their mean, weighted by attention where that decides.
    merge: pairs of tokens that become one between any two layers. fovea: (x0, y0, x1, y1), source pixels, or several,
    within which patches are small; or all boxes of Detections; "box", the most certain one of the embedded detector, is
    for `explain` and `evaluate` to find. fovea_patches: px, the sizes of patches from within the fovea outwards, each a
    multiple of the one before. heads_off: {layer: heads} whose output is zero.

    Sources: keep by attention and gather, Liang et al. 2022 (EViT), here between layers; merge, Bolya et al. 2023.
    """

    keep: float = 1.0
    keep_by: Any = "attention"
    keep_at: Any = None
    gather: bool = False
    merge: int = 0
    fovea: Any = None
    fovea_patches: Any = (8, 32)
    heads_off: Any = None

    def __post_init__(self) -> None:
        if not real(self.keep) or not 0 < self.keep <= 1:
            raise ValueError(
                f"keep is the share of patches that go on, above 0 and at most 1, not {shown(self.keep)}: a half is 0.5"
            )
        check_flags(gather=self.gather)
        if not whole(self.merge) or self.merge < 0:
            raise ValueError(f"merge is how many tokens are merged a layer, from 0, not {shown(self.merge)}")
        for name, settle in (
            ("keep_by", _decider),
            ("keep_at", _layers),
            ("fovea", _boxes),
            ("fovea_patches", _sizes),
            ("heads_off", _heads),
        ):
            object.__setattr__(self, name, settle(getattr(self, name)))
        if self.keep == 1:
            for name in ("keep_by", "keep_at", "gather"):
                if getattr(self, name) != DEFAULTS[name]:
                    raise ValueError(
                        f"{name} says how patches are dropped, and all are kept: give keep a share below 1"
                    )
        if self.fovea is None and self.fovea_patches != DEFAULTS["fovea_patches"]:
            raise ValueError("fovea_patches are the sizes of patches around a fovea: give fovea, (x0, y0, x1, y1)")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Tokens | None:
        """Those that are asked for by name; None where all is as by default. ValueError for other names."""
        check_options("a forward", settings, (*DEFAULTS, "patch_size", "image_size", "attention_scale"))
        tokens = cls(**settings)
        return None if tokens == cls() else tokens

    @property
    def asked(self) -> dict[str, Any]:
        """What is not as the model does it, by name."""
        return {name: value for name, value in vars(self).items() if value != DEFAULTS[name]}

    def stages(self, layers: int) -> tuple[int, ...]:
        """The layers before which patches go, in order. ValueError for one that a model of so many does not have."""
        if self.keep == 1:
            return ()
        if self.keep_at is None:
            stages = tuple(sorted({layers * part // 4 for part in (1, 2, 3)} - {0})) or (0,)
        else:
            for layer in self.keep_at:
                if not -layers <= layer < layers:
                    raise ValueError(f"keep_at is for no layer {layer}: layers run from 0 to {layers - 1}")
            stages = tuple(sorted({layer % layers for layer in self.keep_at}))
            if len(stages) < len(self.keep_at):
                raise ValueError(f"keep_at names a layer twice: {shown(self.keep_at)}")
        if stages[0] == 0 and self.keep_by == "attention":
            raise ValueError(
                "before layer 0 no attention was paid yet that could decide: take keep_at from 1, or another keep_by"
            )
        return stages

    def left(self, patches: int, stage: int, stages: int) -> int:
        """How many patches are left after a stage, counted from 0. ValueError where none would be."""
        if round(patches * self.keep) < 1:
            raise ValueError(
                f"keep={self.keep:g} leaves none of {patches} patches: take at least {_ceiled(1 / patches)}"
            )
        return max(1, round(patches * self.keep ** ((stage + 1) / stages)))

    def counts(self, layers: int, patches: int, others: int) -> list[int]:
        """How many tokens each layer attends over. others: tokens that are no patches.

        ValueError for what leaves no patch, or merges more than half of them at once.
        """
        if 2 * self.merge > patches:
            raise ValueError(
                f"merge={self.merge} is more than half of {patches} patches, and a pair is two of them: take at most "
                f"{patches // 2}"
            )
        stages, counts = self.stages(layers), []
        count = patches
        for layer in range(layers):
            if layer in stages:
                left = min(count, self.left(patches, stages.index(layer), len(stages)))
                count = left + (self.gather and left < count)
            if layer:
                count -= min(self.merge, count // 2)
            counts.append(count + others)
        return counts


DEFAULTS: Mapping[str, Any] = {part.name: part.default for part in fields(Tokens)}


def _ceiled(share: float) -> str:
    return f"{-(-share * 1000 // 1) / 1000:g}"


def _decider(keep_by: Any) -> Any:
    """What keep_by is, as one of the names, a heatmap, or rows of numbers."""
    if one_of(keep_by, KEPT_BY) or isinstance(keep_by, Heatmap):
        return keep_by
    said = f"keep_by is {', '.join(map(repr, KEPT_BY))}, or one value a patch, (rows, cols), not {shown(keep_by)}"
    if isinstance(keep_by, str):
        raise ValueError(said)
    try:
        values = np.asarray(keep_by, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(said) from None
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(said)
    return tuple(tuple(row) for row in values.tolist())


def _layers(keep_at: Any) -> tuple[int, ...] | None:
    if keep_at is None:
        return None
    layers = [keep_at] if whole(keep_at) else keep_at
    if not isinstance(layers, list | tuple | range) or not layers or not all(whole(layer) for layer in layers):
        raise ValueError(f"keep_at is the index of a layer, or several, (3, 6, 9), not {shown(keep_at)}")
    return tuple(int(layer) for layer in layers)


def _boxes(fovea: Any) -> tuple[Box, ...] | str | None:
    """One box or several, as boxes; None and "box" as they are."""
    if fovea is None or (isinstance(fovea, str) and fovea == BOX):
        return fovea
    given = getattr(fovea, "xyxy", fovea)
    if given is not fovea and len(given) == 0:
        raise ValueError(
            "fovea lies on the boxes of a detector, and it found none in this image: detect again with a lower "
            "confidence, or give (x0, y0, x1, y1)"
        )
    try:
        corners = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        corners = np.zeros(0)
    boxes = corners[None] if corners.ndim == 1 else corners
    proper = boxes.ndim == 2 and boxes.size > 0 and boxes.shape[1] == 4 and np.isfinite(boxes).all()
    if not proper or not ((boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])).all():
        raise ValueError(
            "fovea is (x0, y0, x1, y1) in source pixels, a list of such, the boxes of vislab.detect, or 'box', not "
            f"{shown(fovea)}"
        )
    kind = Found if given is not fovea or isinstance(fovea, Found) else tuple
    return kind((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes.tolist())


def _sizes(patches: Any) -> tuple[int, ...]:
    sizes = (patches,) if whole(patches) else patches
    if not isinstance(sizes, list | tuple) or not sizes or not all(whole(p) and p > 0 for p in sizes):
        raise ValueError(f"fovea_patches are pixels, from within the fovea outwards, (8, 32), not {shown(patches)}")
    for small, large in itertools.pairwise(sizes):
        if large % small or large == small:
            raise ValueError(
                f"patches of {small} px do not fill one of {large} px: fovea_patches grow outwards, each a multiple of "
                "the one before, such as (8, 32) or (8, 16, 32)"
            )
    return tuple(int(p) for p in sizes)


def _heads(heads_off: Any) -> dict[int, tuple[int, ...]] | None:
    if heads_off is None:
        return None
    said = f"heads_off is {{layer: [head, …]}}, such as {{3: [0, 5]}}, not {shown(heads_off)}"
    if not isinstance(heads_off, Mapping):
        raise ValueError(said)
    found: dict[int, tuple[int, ...]] = {}
    for layer, heads in heads_off.items():
        several = [heads] if whole(heads) else heads
        if not whole(layer) or not isinstance(several, list | tuple | range) or not all(whole(h) for h in several):
            raise ValueError(said)
        if several:
            found[int(layer)] = tuple(int(head) for head in several)
    return found or None
