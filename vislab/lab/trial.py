"""What becomes of a class while patches are taken away in a map's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..core.heatmap import Heatmap
from ..evaluation import removal as removing
from ..evaluation.plan import content, on_patches, rng
from ..evaluation.removal import Removal, patch_scores, removal
from ..models.model import Model
from .runs import Kept

STEPS = 28  # of a removal, as in `evaluate`
PARTS = 8  # in which its forwards are made, telling how far they are
Best = tuple[str, float]  # the most probable class, in words, and its probability


@dataclass(frozen=True, eq=False)
class Trial:
    """What becomes of a class's probability while patches are taken away in a heatmap's order, and put back in it.

    target: the class, in words. best: the most probable one at each step of "deletion" and "insertion". gone:
    (rows, cols) int, the step from which a patch is gone. filled: (h, w, 3) uint8, the model's input as it is where
    patches are gone: blurred until its shapes are.
    """

    target: str
    curves: Removal
    best: dict[str, list[Best]]
    gone: np.ndarray
    filled: np.ndarray


def trial(
    kept: Kept,
    image: np.ndarray,
    heat: Heatmap,
    target: str | int | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trial:
    """Remove a heatmap's patches from the image of a run, under its settings; `evaluate` has the same numbers.

    target: class, by default the one that the run predicts. progress: told (done, total) in forwards. What was made of
    this run before is given again. Raises ValueError for a model without a classifier.
    """
    model, run = kept.model, kept.run
    index, name = _class_of(kept, target)
    steps = min(STEPS, run.grid.patches)
    gone = np.zeros((run.grid.rows, run.grid.cols), int)
    every = patch_scores(image, model=model, **kept.sizes)
    best: list[Best] = []

    def scores(masks: np.ndarray) -> np.ndarray:
        gone[:] = masks[: steps + 1].sum(0)  # those in which a patch is still there
        parts: list[np.ndarray] = []
        for part in np.array_split(masks, min(PARTS, len(masks))):
            progress(sum(map(len, parts)), len(masks))
            with _scaled(kept):
                parts.append(every(part))
        best[:] = _best(model, found := np.concatenate(parts))
        return found[:, index]

    def make() -> Trial:
        values = on_patches(heat, run.grid, model.input_size(kept.sizes.get("image_size")))
        curves = removal(values, score=scores, steps=steps, seed=rng(0, "ties", content(image)))
        deleted = best[: steps + 1]
        inserted = [deleted[-1], *best[steps + 1 :], deleted[0]]
        return Trial(name, curves, {"deletion": deleted, "insertion": inserted}, gone, _filled(kept, image))

    return kept.once(("trial", index, heat.values.tobytes()), make)


@dataclass(frozen=True, eq=False)
class Without:
    """The probability of a class, in words, with all patches and without some; best: what the model says without them.

    filled: as a Trial has it.
    """

    target: str
    before: float
    now: float
    best: Best
    filled: np.ndarray


def without(kept: Kept, image: np.ndarray, gone: Sequence[int], target: str | int | None = None) -> Without:
    """Take patches, counted row by row, away from the image of a run, under its settings.

    target: as of `trial`. Raises ValueError for a model without a classifier.
    """
    index, name = _class_of(kept, target)

    def make() -> tuple[float, float, Best]:
        masks = np.ones((2, kept.run.grid.patches), bool)
        masks[1, list(gone)] = False
        every = patch_scores(image, model=kept.model, **kept.sizes)
        with _scaled(kept):
            found = every(masks.reshape(2, kept.run.grid.rows, kept.run.grid.cols))
        before, now = map(float, found[:, index])
        return before, now, _best(kept.model, found)[1]

    before, now, best = kept.once(("without", index, tuple(gone)), make)
    return Without(name, before, now, best, _filled(kept, image))


def _best(model: Model, scores: np.ndarray) -> list[Best]:
    """scores: (n, classes)"""
    labels = removing.classes_of(model).labels
    return [(labels[at], float(row[at])) for row, at in zip(scores, scores.argmax(1), strict=True)]


def _class_of(kept: Kept, target: str | int | None) -> tuple[int, str]:
    """The index and name of the class that is watched."""
    labels = removing.classes_of(kept.model).labels
    if target is None:
        assert kept.run.logits is not None  # of a model that has classes
        target = int(kept.run.logits.argmax())
    index = kept.model.class_index(target)
    return index, labels[index]


def _filled(kept: Kept, image: np.ndarray) -> np.ndarray:
    """The model's input as it is where patches are gone -> (h, w, 3) uint8"""

    def make() -> np.ndarray:
        preprocessing = kept.model.preprocessing
        pixels, _ = preprocessing(image, kept.model.input_size(kept.sizes.get("image_size")))
        mean, std = (np.array(v)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
        shown = removing.filled(pixels[0], "blur").numpy() * std + mean
        return (shown.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)

    return kept.once("filled", make)


@contextmanager
def _scaled(kept: Kept) -> Iterator[None]:
    """This thread's forwards of the model inside it run under the run's attention scale, and nobody else's."""
    if kept.attention_scale == 1:
        yield
    else:
        with kept.model.lock, kept.model.captured(kept.attention_scale):
            yield
