"""Masks of patches refined to pixels by GrabCut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .masks import Masks

_LONGEST, _ROUNDS = 640, 4  # px of the picture that GrabCut works on; its iterations
_FEW = 16  # px on each side, below which no colours are learnt


def refined(masks: Masks, seen: np.ndarray) -> Masks:
    """The masks after GrabCut (Rother et al. 2004, OpenCV's), named as refined.

    Each mask is a first guess, from which the colours of inside and outside are learnt; then edges move to where these
    part. It works on the picture reduced to 640 px, and pixels that the model never saw stay outside. seen: (H, W)
    bool. A mask that has too few pixels inside or outside stays what it was; facts say which.
    """
    import cv2

    assert masks.image is not None
    height, width = masks.image.shape[:2]
    share = min(1.0, _LONGEST / max(height, width))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    picture = np.ascontiguousarray(cv2.resize(masks.image, size, interpolation=cv2.INTER_AREA)[..., ::-1])
    kept, unchanged = [], []
    for number, mask in enumerate(masks.masks):
        inside, there = (
            cv2.resize(one.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0 for one in (mask, seen)
        )
        if min(np.count_nonzero(inside), np.count_nonzero(there & ~inside)) < _FEW:
            kept.append(mask)
            unchanged.append(number)
            continue
        guess = np.where(inside, cv2.GC_PR_FGD, np.where(there, cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
        cv2.setRNGSeed(0)  # GrabCut begins with colours that it draws: the same masks each time
        cv2.grabCut(picture, guess, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)
        found = ((guess == cv2.GC_FGD) | (guess == cv2.GC_PR_FGD)).astype(np.uint8)
        kept.append((cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST) > 0) & seen)
    how: dict[str, object] = {"refined": f"by GrabCut, on {size[0]}×{size[1]} px"}
    if unchanged:
        how["unchanged"] = unchanged
    done = [i not in unchanged for i in range(len(masks))]
    return replace(
        masks,
        masks=np.stack(kept) if kept else masks.masks,
        labels=tuple(f"{label}, refined" if new else label for label, new in zip(masks.labels, done, strict=True)),
        scored=f"{masks.scored} before refinement",
        method=f"{masks.method}, refined by GrabCut",
        facts={**masks.facts, **how},
    )
