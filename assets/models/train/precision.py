"""What a detector is worth beside boxes drawn by hand: precision, the class and the place of its surest box, recall."""

from __future__ import annotations

import numpy as np
from boxes import iou
from data import LABELS
from torch import Tensor

SURE = 0.25  # confidence from which on an object counts as found
SIZES = {"a quarter of the picture or more": (0.25, 1.01), "a twentieth or more": (0.05, 0.25), "less": (0.0, 0.05)}


def average_precision(scores: np.ndarray, right: np.ndarray, count: int) -> float:
    """Area under the precision envelope over recall, all points (Everingham et al. 2010, as revised)."""
    right = right[np.argsort(-scores, kind="stable")]
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float((precision * right).sum() / count)


def class_precision(
    found: list[np.ndarray], drawn: list[np.ndarray], labels: Tensor, label: int, needed: float = 0.5
) -> float:
    """Average precision of one class over all images: a box is right if it is the first on one drawn, IoU ≥ needed."""
    scores: list[float] = []
    right: list[bool] = []
    count = 0
    for rows, boxes, true in zip(found, drawn, labels.tolist(), strict=True):
        free = np.full(len(boxes), true == label)
        count += int(free.sum())
        for row in rows[rows[:, 5] == label]:
            overlap = np.where(free, iou(row[None, :4], boxes)[0], 0)
            best = overlap.argmax()
            scores.append(row[4])
            right.append(bool(overlap[best] >= needed))
            free[best] &= not right[-1]
    return average_precision(np.array(scores), np.array(right, bool), count)


def quality(name: str, found: list[np.ndarray], drawn: list[np.ndarray], labels: Tensor) -> tuple[str, str]:
    """What detections (k, 6) are worth beside boxes drawn by hand: the card's row, and the precision of each class."""
    named = [len(r) > 0 and r[0, 5] == label for r, label in zip(found, labels.tolist(), strict=True)]
    placed = [len(r) > 0 and iou(r[:1, :4], boxes).max() >= 0.5 for r, boxes in zip(found, drawn, strict=True)]
    precisions = {LABELS[label]: class_precision(found, drawn, labels, label) for label in labels.unique().tolist()}
    return (
        f"| {name} | {np.mean(list(precisions.values())):.3f} | {np.mean(named):.0%} | {np.mean(placed):.0%} |",
        "  " + ", ".join(f"{label} {precision:.2f}" for label, precision in precisions.items()),
    )


def recalled(found: list[np.ndarray], drawn: list[np.ndarray], labels: Tensor) -> str:
    """How many objects a box of their class overlaps, IoU ≥ 0.5: by their size, and by how many an image has."""
    kinds: dict[str, list[bool]] = {name: [] for name in (*SIZES, "alone in its picture", "beside others")}
    for rows, boxes, label in zip(found, drawn, labels.tolist(), strict=True):
        own = rows[(rows[:, 5] == label) & (rows[:, 4] >= SURE), :4]
        for box in boxes:
            hit = bool((iou(own, box[None]) >= 0.5).any())
            share = (box[2:] - box[:2]).prod() / 224**2
            size = next(name for name, (low, high) in SIZES.items() if low <= share < high)
            for kind in (size, "beside others" if len(boxes) > 1 else "alone in its picture"):
                kinds[kind].append(hit)
    told = [f"{name} {sum(hits)} of {len(hits)}" for name, hits in kinds.items()]
    return f"  found above {SURE}, by size and company: " + ", ".join(told)
