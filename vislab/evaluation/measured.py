"""One image of an evaluation measured: its maps, and its curves of removal; kept in a file where that is asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..core.files import write
from ..core.fingerprints import of_image, of_module, of_weights
from ..core.geometry import Frame
from ..core.images import load_image
from ..models.classes import label_names
from ..models.fovea import on_input
from ..models.load import load
from ..spread.errors import PhotoError, photo_errors
from ..spread.table import job_of
from .plan import Outcome, Plan, content, maps_of, placed, rng
from .pointing import pointing_scores, quarter
from .removal import Removal, patch_score, removal

PARTS = ("methods", "fill", "steps", "seed", "patch_size", "image_size", "tokens")  # of a plan, besides its model
Item = tuple[int, Any, int | None]  # number, what `load_image` takes, class or None for the predicted one


@dataclass(frozen=True)
class LeftOut:
    """An image that could not be measured. number: its place in the list."""

    number: int
    why: str


def seen(plan: Plan, item: Item) -> tuple[np.ndarray, Frame, Plan, int]:
    """An image, its frame, the plan as it is of this image, and the class. PhotoError where it cannot be read."""
    _, source, target = item
    with photo_errors(OSError, ValueError):
        image = load_image(source)
        pixels, frame = plan.model.preprocessing(image, plan.model.input_size(plan.image_size))
        own = placed(plan, image)
    if target is None:
        spent = on_input(own.tokens, frame, plan.model.name)
        sizes: dict[str, Any] = {"patch_size": plan.patch_size, "image_size": plan.image_size}
        target = int(plan.model.logits(pixels, **sizes, **spent).argmax())
    return image, frame, own, target


def measured(plan: Plan, item: Item, kept: Path | None = None) -> Outcome | LeftOut:
    """Maps and curves of one image, or why it is left out. kept: a folder of what was measured before."""
    number = item[0]
    try:
        image, frame, own, target = seen(plan, item)
    except PhotoError as error:
        return LeftOut(number, str(error))
    path = None if kept is None else kept / f"{_job(plan, image, item)}.npz"
    if path is not None and path.exists():
        return _read(path.read_bytes(), number)
    maps = maps_of(own, image, target)
    score = patch_score(image, model=own.model, target=target, fill=own.fill, **own.sizes)
    # ties fall alike for every method, so that a method's numbers do not depend on which others are there
    fresh = (rng(own.seed, "ties", content(image)) for _ in maps)
    curves = [removal(one, score=score, steps=own.steps, seed=r) for one, r in zip(maps.values(), fresh, strict=True)]
    outcome = Outcome(number, target, maps, curves, quarter(image, frame))
    if path is not None:
        write(path, _written(outcome))
    return outcome


def pointed(plan: Plan, item: tuple[int, Sequence[Outcome]]) -> tuple[int, list[float]]:
    """The scores of a mosaic, with its number."""
    return item[0], pointing_scores(plan, item[1])


def _job(plan: Plan, image: np.ndarray, item: Item) -> str:
    """What tells a file of one image and plan from all others."""
    settings = {name: getattr(plan, name) for name in ("methods", "fill", "steps", "seed", "sizes")}
    labels = None if plan.model.texts is None else [*(plan.model.labels or ())]
    weights = of_weights(plan.model.module)
    return job_of(photo=of_image(image), weights=weights, target=item[2], labels=labels, **settings)


def _written(outcome: Outcome) -> bytes:
    file = io.BytesIO()
    curves = outcome.curves
    np.savez_compressed(
        file,
        target=outcome.target,
        names=np.array(json.dumps([*outcome.maps])),
        maps=np.stack([*outcome.maps.values()]),
        share=curves[0].share,
        deletion=np.stack([one.deletion for one in curves]),
        insertion=np.stack([one.insertion for one in curves]),
        quarter=outcome.quarter,
    )
    return file.getvalue()


def _read(data: bytes, number: int) -> Outcome:
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        names = json.loads(str(held["names"]))
        pairs = zip(held["deletion"], held["insertion"], strict=True)
        curves = [Removal(held["share"], deletion, insertion) for deletion, insertion in pairs]
        maps = dict(zip(names, held["maps"], strict=True))
        return Outcome(number, int(held["target"]), maps, curves, held["quarter"])


@dataclass(frozen=True, eq=False)
class Measuring:
    """The plan of an evaluation as the work of other processes, each of which loads the model.

    model: its name or folder, of these weights. labels: texts that are its classes, or None. plan: with no model. one:
    what is done with each item.
    """

    model: str
    device: str
    dtype: str
    weights: str
    labels: Sequence[str] | None
    plan: Mapping[str, Any]
    one: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def begin(self) -> Callable[[Any], Any]:
        ready = load(self.model, device=self.device, dtype=self.dtype)
        if of_weights(ready.module) != self.weights:
            raise ValueError(
                f"model {self.model!r} has other weights where it is loaded by name: save the model to a folder that "
                "all processes reach, and name that"
            )
        ready = ready if self.labels is None else ready.labelled(label_names(self.labels))
        return partial(self.one, Plan(ready, **self.plan), **self.options)


def elsewhere(plan: Plan, one: Callable[..., Any], **options: Any) -> Measuring:
    """What one does with a plan, as the work of other processes."""
    model = plan.model
    facts = of_module(model.module)
    labels = None if model.texts is None else [*(model.labels or ())]
    parts = {name: getattr(plan, name) for name in PARTS}
    return Measuring(model.name, facts["device"], facts["dtype"], facts["weights"], labels, parts, one, options)
