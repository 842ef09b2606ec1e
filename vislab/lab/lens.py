"""What the head would say after each layer, as the page is told it: words of each layer, and maps of classes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..methods.lens import lens
from .protocol import Message
from .runs import Kept
from .wording import plainly
from .worker import Unless

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..methods.lens import Lens

WORDS = 3  # classes that are named of a layer
COLOURED = 8  # classes that have a colour of their own in the maps
OTHER, NONE = 254, 255  # in place of a class: one without a colour; where no token stands


def lens_of(kept: Kept) -> Lens:
    """The lens of a run, under its settings, made once. Raises ValueError for a model without a classifier."""

    def make() -> Lens:
        return lens(kept.photo, model=kept.model, attention_scale=kept.attention_scale, **kept.sizes)

    return kept.once("lens", make)


def early(kept: Kept, stop: Callable[[], bool] = lambda: False) -> Message:
    """The lens of a run as the page is told it; left off, by raising Superseded, once stop() is true."""
    try:
        with Unless(stop):
            return told(kept, lens_of(kept))
    except (ValueError, RuntimeError, MemoryError) as error:
        return told(kept, plainly(str(error)))


def told(kept: Kept, found: Lens | str) -> Message:
    """The message: a line a layer, and for each layer the class and its score of each patch, a byte each; or why not.

    classes: those with a colour, of which most patches of all layers say so.
    """
    content: dict[str, Any] = {"kind": "lens", "run": kept.number}
    if isinstance(found, str):
        return content | {"refused": found}, []
    said = Counter(found.patches[found.patches >= 0].tolist())
    coloured = [index for index, _ in said.most_common(COLOURED)]
    number = np.full(max(len(found.labels), max(coloured, default=0) + 1) + 1, OTHER)
    number[coloured], number[-1] = range(len(coloured)), NONE  # -1, none, is the last
    classes = number[found.patches].astype(np.uint8)
    shares = np.where(found.patches < 0, 0, found.shares.clip(0, 1) * 255).round().astype(np.uint8)
    lines = [_line(found.labels, *layer) for layer in zip(found.scores, found.patches, strict=True)]
    content |= {"lines": lines, "classes": [found.labels[index] for index in coloured], "shape": found.patches.shape}
    return content, [classes.tobytes(), shares.tobytes()]


def _line(labels: Sequence[str], scores: np.ndarray, patches: np.ndarray) -> dict[str, Any]:
    """best: [name, score], the highest first; agree: how many of the patches that are left say the first alone."""
    best = scores.argsort()[::-1][:WORDS].tolist()
    named = [[labels[index], float(scores[index])] for index in best]
    return {"best": named, "agree": int((patches == best[0]).sum()), "patches": int((patches >= 0).sum())}
