"""Measure what spending tokens costs the embedded ViT: accuracy against tokens and time.

    python tokens.py --data DIR --drawn ../../../tests/imagenette_boxes.json [--images N]

Validation images with boxes drawn by hand: even patches of several sizes; keep from 1 to 0.1, by attention, and at 0.5
by what else decides; merge; and a fovea on the first box that was drawn, on the detector's first, and on the centre.
Tokens are the mean over layers and images; times are the median of the forwards, one image at a time, under capture.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from boxes import read_checks
from loop import parser

import vislab

Spent = Callable[[np.ndarray, np.ndarray], dict[str, Any]]
KEEPS = (1.0, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1)
CENTRE = (56.0, 56.0, 168.0, 168.0)  # of 224 px


def settings() -> dict[str, Spent]:
    """What a row of the table is called -> the settings of the forward of an image with boxes, (k, 4)."""

    def fixed(**spent: Any) -> Spent:
        return lambda image, boxes: spent

    def on_box(image: np.ndarray, boxes: np.ndarray) -> dict[str, Any]:
        return {"fovea": tuple(boxes[0].clip(0, 224))} if len(boxes) else {"fovea": CENTRE}

    def on_detected(image: np.ndarray, boxes: np.ndarray) -> dict[str, Any]:
        return on_box(image, vislab.detect(image).xyxy)

    rows = {f"even, {patch} px": fixed(patch_size=patch) for patch in (32, 28, 16, 14, 8)}
    rows |= {f"keep {keep:g}": fixed(keep=keep) for keep in KEEPS}
    rows |= {"keep 0.5, the rest in one token": fixed(keep=0.5, gather=True)}
    rows |= {f"keep 0.5 by {by}": fixed(keep=0.5, keep_by=by) for by in ("norm", "random", "centre")}
    rows |= {f"merge {pairs}": fixed(merge=pairs) for pairs in (4, 8, 12, 16)}
    return rows | {
        "fovea on the drawn box": on_box,
        "fovea on the detector's box": on_detected,
        "fovea on the centre": fixed(fovea=CENTRE),
    }


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", type=Path, required=True)
    command.add_argument("--drawn", type=Path, required=True, help="boxes drawn by hand")
    command.add_argument("--images", type=int, help="how many (default: all)")
    args = command.parse_args()
    model = vislab.load("embedded")
    images, labels, boxes = read_checks(args.data, args.drawn)
    images, labels, boxes = images[: args.images], labels[: args.images], boxes[: args.images]
    print(f"| {len(images)} images | tokens a layer | top-1 | time per image |\n|---|---|---|---|")
    for name, spent in settings().items():
        right, tokens, times = [], [], []
        for image, label, drawn in zip(images, labels.tolist(), boxes, strict=True):
            pixels = image.permute(1, 2, 0).contiguous().numpy()
            asked = spent(pixels, drawn)
            start = time.perf_counter()
            run = model.run(pixels, **asked)
            times.append(time.perf_counter() - start)
            assert run.logits is not None
            right.append(int(run.logits.argmax()) == label)
            tokens.append(np.mean([site.keys for site in run.capture.layers]))
        print(
            f"| {name} | {np.mean(tokens):.0f} | {np.mean(right):.1%} | {np.median(times) * 1e3:.0f} ms |", flush=True
        )


if __name__ == "__main__":
    main()
