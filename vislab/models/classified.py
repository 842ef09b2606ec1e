"""A Classified: a module whose output names classes, texts or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from ..core.checks import check_counts, meant, one_of, shown, whole
from .calling import arguments
from .classes import Classes, classes, columns, logits_of
from .modes import evaluating
from .placed import Placed
from .places import noise
from .run import Run
from .texts import Texts

FEW = 20  # classes that a message lists


@dataclass(frozen=True, eq=False)
class Classified(Placed):
    """A module with the classes that its logits are of, where it has any.

    texts: how an image-text model is given texts, which are its classes then; None of any other.
    """

    texts: Texts | None = None

    @property
    def classes(self) -> Classes | None:
        """What its logits are; None for a model without a classifier. One that nobody describes is run once to tell."""
        if self.texts is None and self.names is None and columns(self.module) is None:
            size = self.preprocessing.size
            pixels = torch.zeros(1, 3, *size, device=self.device, dtype=self.dtype)
            with self.lock, torch.no_grad(), evaluating(self.module):
                self.forward(pixels, self._arguments(size, self.grid()))
        return self._known_classes()

    def _known_classes(self) -> Classes | None:
        if self.texts is None:
            return classes(self.module, self.names, columns(self.module))
        return None if self.names is None else self.texts.classes(self.module, self.names)

    @property
    def labels(self) -> tuple[str, ...] | None:
        found = self.classes
        return None if found is None else found.labels

    def class_logits(self, output: Any) -> Tensor | None:
        """The logits of classes in what the module returned, (n, classes); None for a model without a classifier."""
        if self.texts is not None:
            return None if self.names is None else self.texts.logits(self.module, output, self.names)
        logits, found = logits_of(output), self.classes
        return None if logits is None or found is None or logits.shape[1] != len(found.labels) else logits

    def class_index(self, target: str | int) -> int:
        """The index of a class, given by its label or its index. Raises ValueError for one that is not there."""
        labels = self.labels
        if labels is None:
            raise ValueError(self._names_nothing())
        if one_of(target, labels):
            return labels.index(target)
        if whole(target) and 0 <= target < len(labels):
            return int(target)
        hint = meant(shown(target), labels) or (f": it knows {', '.join(labels)}" if len(labels) <= FEW else "")
        unread = ", for it has no text tower that vislab reads" if isinstance(target, str) and " " in target else ""
        raise ValueError(
            f"{self.name} knows no class {shown(target)}: give a label or an index from 0 to "
            f"{len(labels) - 1}{unread}{hint}"
        )

    def labelled(self, labels: Sequence[str]) -> Self:
        """An image-text model with texts as its classes. Raises ValueError for texts that it cannot take."""
        if self.texts is None:
            raise ValueError(
                f"{self.name} has no text tower that vislab reads: leave labels out, or take an image-text model such "
                "as 'openai/clip-vit-base-patch16'"
            )
        self.read(labels)
        return replace(self, names=tuple(labels))

    def read(self, texts: Sequence[str]) -> None:
        """Have the embeddings of texts ready, which are made once; before the first of them, the model's own forward
        must confirm what is computed with them. Raises ValueError for texts that it cannot take.
        """
        if self.texts is None or not texts:
            return
        with self.lock, evaluating(self.module):
            pixels = noise(self.module, self.own_size, 0)
            self.texts.prove(self.module, pixels, arguments(self.module, 0, interpolated=False), texts[0])
            self.texts.embeddings(self.module, texts)

    def _names_nothing(self) -> str:
        if self.texts is not None:
            return (
                f"{self.name} has no classes of its own: it compares an image with texts. Give target a text, such as "
                "'a red door', or texts for classes, model.predict(image, labels=[…]) or vislab.load(…, labels=[…])"
            )
        return (
            f"{self.name} has no classifier: what it returns are features, and it names nothing. Methods for one "
            "target take a function of its output as target; a model that classifies is vislab.load('embedded')"
        )

    def top(self, run: Run, count: int = 5) -> list[tuple[str, float]]:
        """The most probable classes of a run that was made, or the numbers that it gave, the highest first."""
        found = self.classes
        if run.logits is None or found is None:
            raise ValueError(self._names_nothing())
        check_counts(top=count)
        best = found.scores(run.logits).topk(min(count, len(found.labels)))
        return [(found.labels[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
