"""Measure how well boxes of masks made without training, and of the detector, find what people drew boxes around.

    python corloc.py --data DIR --drawn ../../../tests/imagenette_boxes.json [--model embedded] [--card FILE]

CorLoc: the share of images on which one box reaches an IoU of 0.5 with a drawn one (Deselaers et al. 2010). Of a mask
the smallest box around all of it, and around the largest of its connected parts. Rows that say "the best of" look at
the drawn boxes to choose: no method could do better with those regions. `--card` writes the table between the marks
<!-- corloc --> of a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from boxes import iou, read_checks
from loop import parser

import vislab

MAPS = ("cls", "rollout", "relevance", "grad_cam")
WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("otsu", {}),
    ("threshold", {"level": 0.5}),
    ("share", {"level": 0.8}),
)
REFINED = ("rollout", "relevance")
Found = dict[str, list[np.ndarray]]  # row -> masks (H, W) bool; several where the best of them counts


def masks_of(model: vislab.Model, image: np.ndarray, label: int, patch: int) -> Found:
    """The masks that each row of the table makes of an image, (224, 224, 3) uint8, of a class."""
    found: Found = {}
    for method in MAPS:
        asked: dict[str, Any] = {} if method in ("cls", "rollout") else {"target": label}
        heat = vislab.explain(image, model=model, method=method, patch_size=patch, **asked)
        for way, options in WAYS:
            name = f"{method}, {way}" + "".join(f" {value:g}" for value in options.values())
            found[name] = list(vislab.segment(heat, method=way, **options).masks)
        if method in REFINED:
            found[f"{method}, otsu, refined"] = list(vislab.segment(heat, refine=True).masks)
    [kept] = vislab.segment(image, model=model, method="tokencut", patch_size=patch).masks
    found["tokencut"] = [kept]
    found["tokencut, the best of its two sides"] = [kept, ~kept]
    two = vislab.segment(image, model=model, method="kmeans", clusters=2, patch_size=patch).masks
    found["kmeans 2, the smaller"] = [two[1]]
    four = vislab.segment(image, model=model, method="kmeans", patch_size=patch).masks
    found["kmeans 4, the best of four"] = list(four)
    return found


def around(mask: np.ndarray) -> np.ndarray:
    """The smallest box around a mask, (H, W) bool -> (4,) px; zeros of an empty one."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1] if len(rows) else [0, 0, 0, 0], float)


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask, (H, W) bool."""
    count, parts, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return mask if count < 2 else parts == 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())


def best(boxes: list[np.ndarray], drawn: np.ndarray) -> float:
    """The highest IoU of some boxes with some drawn ones; 0 where there is no box."""
    return float(iou(np.stack(boxes), drawn).max()) if boxes and len(drawn) else 0.0


def line(name: str, *columns: list[float] | None) -> str:
    """A row of the table: CorLoc and mean IoU of each column."""
    cells = [
        (" ", " ")
        if one is None
        else (f"{np.mean(np.array(one) >= 0.5):.0%}".replace("%", " %"), f"{np.mean(one):.3f}")
        for one in columns
    ]
    return f"| {name} | {' | '.join(cell for pair in cells for cell in pair)} |"


def table(
    model: vislab.Model, images: list[np.ndarray], labels: list[int], boxes: list[np.ndarray], patch: int
) -> Iterator[str]:
    """The table, line by line, the baselines first."""
    yield f"| {len(images)} images, patches of {patch} px | CorLoc | mean IoU | largest part: CorLoc | mean IoU |"
    yield "|---|---|---|---|---|"
    side = float(images[0].shape[0])
    fixed: dict[str, Callable[[np.ndarray], list[np.ndarray]]] = {
        "the whole picture": lambda image: [np.array([0, 0, side, side])],
        "its middle, ¾ of each side": lambda image: [np.array([side / 8, side / 8, side * 7 / 8, side * 7 / 8])],
        "the embedded detector's first box": lambda image: list(
            vislab.detect(image, confidence=0.001).xyxy[:1].astype(float)
        ),
    }
    for name, of in fixed.items():
        yield line(name, [best(of(image), drawn) for image, drawn in zip(images, boxes, strict=True)], None)
    whole: dict[str, list[float]] = {}
    parts: dict[str, list[float]] = {}
    for image, label, drawn in zip(images, labels, boxes, strict=True):
        for name, masks in masks_of(model, image, label, patch).items():
            whole.setdefault(name, []).append(best([around(mask) for mask in masks], drawn))
            parts.setdefault(name, []).append(best([around(largest(mask)) for mask in masks], drawn))
    for name in whole:
        yield line(name, whole[name], parts[name])


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", type=Path, required=True)
    command.add_argument("--drawn", type=Path, required=True, help="boxes drawn by hand")
    command.add_argument("--model", default="embedded", help="whose tokens and maps")
    command.add_argument("--patch-size", type=int, default=16, help="(default: 16)")
    command.add_argument("--images", type=int, help="how many (default: all)")
    command.add_argument("--card", type=Path, help="a file to write the table into, between <!-- corloc --> marks")
    args = command.parse_args()
    model = vislab.load(args.model)
    images, labels, boxes = read_checks(args.data, args.drawn)
    pictures = list(images.permute(0, 2, 3, 1).contiguous().numpy())[: args.images]
    lines = []
    for one in table(model, pictures, labels.tolist()[: args.images], boxes[: args.images], args.patch_size):
        print(one, flush=True)
        lines.append(one)
    if args.card is not None:
        text = args.card.read_text(encoding="utf-8")
        block = "\n".join(lines) + "\n"
        text, times = re.subn(r"(?s)(?<=<!-- corloc -->\n).*(?=<!-- /corloc -->)", lambda _: block, text)
        if times != 1:
            raise SystemExit(f"{args.card} has no <!-- corloc --> with <!-- /corloc --> after it: put them in")
        args.card.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
