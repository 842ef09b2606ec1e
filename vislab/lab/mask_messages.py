"""What the Lab's face is told of masks, as (content, buffers): each as the lengths of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.python_call import call
from ..figures.regions import COLOURS, deepest
from ..masks.masks import Masks
from ..masks.promptable import Promptable
from .marks import MARKS, Ready
from .protocol import Message

NOTHING: Message = ({"kind": "masks", "segmenter": None}, [])  # no masks are made


def runs_of(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool -> (n,) uint32, lengths of runs of equal pixels, row by row; the first, perhaps 0, is of False.

    >>> runs_of(np.array([[True, True, False], [False, True, True]])).tolist()
    [0, 2, 2, 2]
    """
    flat = mask.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = [0, 0] if flat[0] else [0]
    return np.diff(np.concatenate([starts, ends, [flat.size]])).astype("<u4")


def masks_of(digest: str, ready: Ready, marks: Mapping[str, Any], masks: Masks | None, name: str) -> Message:
    """Masks of the image of that digest, the colour of each, and the Python that makes them; None before there are any.

    marks: what the segmenter was shown. name: what loads it again, "" where nothing does.
    """
    content: dict[str, Any] = {"kind": "masks", "content": digest, "segmenter": ready.name, "masks": None}
    content |= {"takes": isinstance(ready, Promptable), "marks": dict(marks)}
    if masks is None:
        return content, []
    keywords = {
        "model": name or f"<{ready.name}>",
        **{key: [*map(tuple, value)] for key, value in marks.items() if value},
    }
    content |= {"scored": masks.scored, "call": call("vislab.segment", "image", **keywords)}
    content |= {"size": masks.masks.shape[1:], "masks": [_told(masks, i) for i in range(len(masks))]}
    return content, [runs_of(mask).tobytes() for mask in masks.masks]


def refused(digest: str, ready: Ready | None, marks: Mapping[str, Any], name: str, words: str) -> Message:
    """Why there are no masks. ready: the segmenter, None where it could not be had."""
    takes = isinstance(ready, Promptable)
    known = {"segmenter": ready.name if ready else name, "takes": takes, "masks": None, "refused": words}
    return {"kind": "masks", "content": digest, "marks": dict(marks), **known}, []


def marks_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in MARKS}


def _told(masks: Masks, index: int) -> dict[str, Any]:
    """label, score; share: of the picture; colour; at: where a label would stand, source pixels."""
    mask = masks.masks[index]
    return {
        "label": " ".join(masks.labels[index].split()),
        "score": float(masks.scores[index]),
        "share": float(mask.mean()),
        "colour": COLOURS[index % len(COLOURS)].tolist(),
        "at": deepest(mask) if len(masks) > 1 else None,
    }
