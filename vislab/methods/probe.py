"""A Probe: one image in a model that is ready for it, run as often as a method for one target needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..engine.capture import Capture
from ..models.model import Model
from ..models.preprocessing import ImageSize
from ..models.run import Prepared
from ..models.tokens import Tokens

Target = str | int | Callable[[Any], Tensor] | None
Progress = Callable[[int, int], None]
_BATCH_TOKENS = 2048  # run at a time with gradients, which bounds the activations that are kept


def _count_nothing(images: int) -> None:
    """What `Probe.run` calls outside of `counting`."""


class Probe:
    """One image in a model that is ready for it, run as often as a method needs; made by `probing`.

    pixels: (1, 3, height, width), the model's input; arguments: what it takes beside them. target: what is explained,
    in words, known after the first run.
    """

    def __init__(
        self,
        model: Model,
        prepared: Prepared,
        target: Target,
        attention_scale: float | Mapping[int, float],
        progress: Progress | None,
    ) -> None:
        self.model, self.grid, self.pixels = model, prepared.grid, prepared.pixels
        self.frame, self.by_pixels = prepared.frame, prepared.by_pixels
        self.target: str | None = None
        self.arguments, self._scale, self._progress = prepared.arguments, attention_scale, progress
        self._spending = prepared.spending
        self._asked = target
        self._index: int | None = None
        self._count: Callable[[int], object] = _count_nothing

    @property
    def batch(self) -> int:
        """How many images are run at a time: one for a function of the output, since it may look at the first only, and
        where tokens are dropped or joined, for other pixels keep others."""
        return 1 if self.of_function or self._spending is not None else max(1, _BATCH_TOKENS // self.grid.tokens)

    @property
    def of_function(self) -> bool:
        """Whether the target is a function of the model's output."""
        return callable(self._asked)

    @property
    def text(self) -> bool:
        """Whether the target is a text, which is no class of the model's."""
        return self.model.texts is not None and isinstance(self._asked, str)

    def captured(self, times: int = 1, weights: float | Tensor = 1.0) -> Capture:
        """A forward of the image, so many times over, and the backward pass of its score to the attention of all sites.

        weights: of the scores, (times,).
        """
        with self.model.captured(self._scale, gradients=True, spending=self._spending) as cap:
            output = self.model.forward(self.pixels.expand(times, -1, -1, -1), self.arguments)
            cap.differentiate((self._score(output) * weights).sum())
        return cap

    def run(self, pixels: Tensor) -> tuple[Capture, Tensor]:
        """pixels: (batch, 3, height, width) -> what attended, and the scores of the target, (batch,)."""
        with self.model.captured(self._scale, spending=self._spending) as cap:
            scores = self._score(self.model.forward(pixels, self.arguments))
        self._count(len(pixels))
        return cap, scores

    def scores(self, pixels: Tensor) -> Tensor:
        return self.run(pixels)[1]

    def differentiable(self, pixels: Tensor) -> Tensor:
        """The scores, for methods that take their gradient. Raises ValueError where they have none."""
        scores = self.scores(pixels)
        if not scores.requires_grad:
            raise ValueError(
                f"the score of {self.model.name} that is to be explained has no gradient: take method='occlusion', "
                "which needs none, or as target a function that does not count or choose"
            )
        return scores

    @property
    def index(self) -> int:
        """Of the class that is explained, after the first run."""
        assert self._index is not None
        return self._index

    def probabilities(self, pixels: Tensor) -> Tensor:
        """What the model's head says of all classes, as `Classes.scores` has it. -> (batch, classes)"""
        with self.model.captured(self._scale, spending=self._spending):
            logits = self.model.class_logits(self.model.forward(pixels, self.arguments))
        classes = self.model.classes
        assert logits is not None
        assert classes is not None
        return classes.scores(logits)

    @torch.no_grad()
    def settled(self) -> tuple[Capture, Tensor]:
        """The plain run of the image, which finds the predicted class where no target was given."""
        return self.run(self.pixels)

    @contextmanager
    def counting(self, total: int) -> Iterator[None]:
        """Report each image that `run` takes inside the block to `progress`; without one, to a bar shown after 2 s.

        total: how many images will be run.
        """
        from tqdm.auto import tqdm

        runs = 0

        def count(more: int) -> None:
            nonlocal runs
            runs += more
            bar.update(more)
            if self._progress is not None:
                self._progress(runs, total)

        with tqdm(total=total, unit="run", delay=2, leave=False, disable=self._progress is not None) as bar:
            self._count = count
            try:
                yield
            finally:
                self._count = _count_nothing

    def _score(self, output: Any) -> Tensor:
        if self.of_function:
            assert callable(self._asked)
            self.target = getattr(self._asked, "__name__", type(self._asked).__name__)
            score = self._asked(output)
            if not isinstance(score, Tensor) or score.numel() != 1:
                said = f"shape {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
                raise ValueError(f"a target takes the model's output to one number in a tensor, not to {said}")
            return score.reshape(1)
        if self.model.texts is not None and isinstance(self._asked, str):  # a text, see `text`
            self.target = self._asked
            return self.model.texts.logits(self.model.module, output, (self._asked,))[:, 0]
        logits = self.model.class_logits(output)
        if logits is None:
            raise ValueError(
                f"{self.model.name} has no classifier, so it has no class to explain: what it returns are features. "
                f"Give target a function of its output ({type(output).__name__}) that makes one number of it, or take "
                "vislab.load('embedded')"
            )
        if self._index is None:
            self._index = self._class(logits)
        return logits[:, self._index]

    def _class(self, logits: Tensor) -> int:
        index = int(logits[0].argmax()) if self._asked is None else self.model.class_index(self._asked)  # type: ignore[arg-type]
        labels = self.model.labels
        assert labels is not None
        self.target = labels[index]
        return index


@contextmanager
def probing(
    model: Model,
    image: np.ndarray,
    target: Target,
    *,
    attention_scale: float | Mapping[int, float] = 1.0,
    image_size: ImageSize | None = None,
    patch_size: int | None = None,
    progress: Progress | None = None,
    **tokens: Any,
) -> Iterator[Probe]:
    """The model ready to be asked about a target in an image, (H, W, 3) uint8; afterwards it is what it was.

    target: a class, by label or index; by default the predicted one; of an image-text model a text; or a function of
    the model's output for one image that gives one number. progress: told (done, total) by methods that take long; by
    default a bar is shown. tokens: how its forwards spend them, as of `Model.run`.
    """
    if isinstance(target, type):
        raise ValueError(
            f"target is the class {target.__name__} of Python: give a label or an index of {model.name}'s, or a "
            "function of its output"
        )
    if model.texts is not None and not callable(target):
        target = _text(model, target)
    elif model.names is not None and target is not None and not callable(target):
        target = model.class_index(target)
    sizes: dict[str, Any] = {"image_size": image_size, "patch_size": patch_size, "tokens": Tokens.of(tokens)}
    with model.prepared(image, **sizes, gradients=True) as prepared:
        yield Probe(model, prepared, target, attention_scale, progress)


def _text(model: Model, target: Any) -> Target:
    """The text that is asked about, or None for the label that is predicted; what is needed of them is made ready."""
    if model.names is None and not isinstance(target, str):
        model.class_index(target)  # which says that there are no classes
    text = target if target is None or isinstance(target, str) else model.names[model.class_index(target)]  # type: ignore[index]
    model.read(model.names or () if text is None else (text,))
    return text
