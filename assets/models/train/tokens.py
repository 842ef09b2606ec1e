"""Measure what spending tokens costs the embedded ViT: accuracy against tokens and time.

    python tokens.py --data DIR --drawn ../../../tests/imagenette_boxes.json --rows rows.csv --plot plot.svg
    python tokens.py --rows rows.csv --plot plot.svg

Even patches of several sizes; keep from 1 to 0.1, by attention, and at 0.5 by what else decides; merge; and a fovea on
the detector's first box and on the centre: on all validation images. A fovea on the first box that was drawn by hand:
on the images that have one, beside the others. Tokens are the mean over layers and images. Where all images spend
alike, they are classified in batches. Some go through all settings in turn, one forward each, under capture: times are
the median of their ratios to the even patches of 16 px. The second line draws again what the first has measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from boxes import read_checks
from data import load
from loop import parser
from tokens_plot import Measured, plot, read_rows, write_rows

import vislab

Box = tuple[float, float, float, float]
Spent = Callable[[np.ndarray, np.ndarray], dict[str, Any]]
KEEPS = (1.0, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1)
SIDE = 224  # pixels of an image
BATCH = 8  # images of a forward
CENTRE = (56.0, 56.0, 168.0, 168.0)
NEAR = 96  # side of the square fovea about a box's centre, pixels


@dataclass
class Row:
    """A line of the table: how tokens are spent, and what came of it, an entry an image.

    spent: what `vislab.Model.run` takes, of all images alike or by an image and its drawn boxes. on_drawn: whether it
    needs a box drawn by hand.
    """

    name: str
    spent: dict[str, Any] | Spent
    on_drawn: bool = False
    right: list[bool] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def measured(self, plain: Row) -> Measured:
        """plain: the row whose forwards of the same images its times are ratios to."""
        time = float(np.median(np.divide(self.times, plain.times)))
        return Measured(self.name, float(np.mean(self.tokens)), float(np.mean(self.right)), len(self.right), time)


def about(boxes: np.ndarray) -> Box:
    """A square about the centre of the first box, within the image; of an image without one about its own centre."""
    x0, y0, x1, y1 = boxes[0] if len(boxes) else CENTRE
    left, top = (min(max((low + high - NEAR) / 2, 0.0), SIDE - NEAR) for low, high in ((x0, x1), (y0, y1)))
    return (left, top, left + NEAR, top + NEAR)


def rows() -> list[Row]:
    """What is measured."""

    def on_drawn(image: np.ndarray, boxes: np.ndarray) -> dict[str, Any]:
        return {"fovea": about(boxes), "fovea_patches": (16, 32)}

    def on_detected(image: np.ndarray, boxes: np.ndarray) -> dict[str, Any]:
        return on_drawn(image, vislab.detect(image).xyxy)

    found = [Row(f"even, {patch} px", {"patch_size": patch}) for patch in (56, 32, 28, 16, 14, 8)]
    found += [Row(f"keep {keep:g}", {"keep": keep}) for keep in KEEPS]
    found += [Row("keep 0.5, the rest in one token", {"keep": 0.5, "gather": True})]
    found += [Row(f"keep 0.5 by {by}", {"keep": 0.5, "keep_by": by}) for by in ("norm", "random", "centre")]
    found += [Row(f"merge {pairs}", {"merge": pairs}) for pairs in (4, 8, 12, 16)]
    centre = on_drawn(np.empty(0), np.empty((0, 4)))
    return [
        *found,
        Row("fovea on the detector's box", on_detected),
        Row("fovea on the centre", centre),
        Row("fovea on the drawn box", on_drawn, on_drawn=True),
        Row("there, even, 16 px", {}, on_drawn=True),
        Row("there, even, 32 px", {"patch_size": 32}, on_drawn=True),
        Row("there, fovea on the centre", centre, on_drawn=True),
    ]


def measure(
    model: vislab.Model, asked: Sequence[Row], pixels: np.ndarray, boxes: np.ndarray, label: int, *, timed: bool
) -> None:
    """Add an image, (224, 224, 3) uint8 with boxes (k, 4), to rows, a forward each."""
    for row in asked:
        spent = row.spent if isinstance(row.spent, dict) else row.spent(pixels, boxes)
        start = time.perf_counter()
        run = model.run(pixels, **spent)
        row.times += [time.perf_counter() - start] if timed else []
        assert run.logits is not None
        row.right.append(int(run.logits.argmax()) == label)
        row.tokens.append(float(np.mean([site.keys for site in run.capture.layers])))


def classify(model: vislab.Model, row: Row, pixels: Sequence[np.ndarray], labels: Sequence[int]) -> None:
    """Add images on which tokens are spent alike to a row, in one batch of plain forwards."""
    assert isinstance(row.spent, dict)
    given = torch.cat([model.preprocessing(image)[0] for image in pixels])
    row.right += (model.logits(given, **row.spent).argmax(-1).cpu() == torch.tensor(labels)).tolist()


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", type=Path, help="images; without, --plot draws --rows")
    command.add_argument("--drawn", type=Path, help="boxes drawn by hand")
    command.add_argument("--images", type=int, help="how many (default: all)")
    command.add_argument("--timed", type=int, default=100, help="how many of them one forward each (%(default)s)")
    command.add_argument("--rows", type=Path, help="the table as CSV, written, or read where there is no --data")
    command.add_argument("--plot", type=Path, help="a picture of accuracy against tokens")
    args = command.parse_args()
    if args.data is None:
        if not (args.rows and args.plot):
            command.error("give --data and --drawn to measure, or --rows and --plot to draw what was measured")
        return plot(read_rows(args.rows), args.plot)
    if args.drawn is None:
        command.error("give --drawn, boxes drawn by hand, beside --data")
    found = measured(args)
    print("\r| | tokens a layer | top-1 | images | time |\n|---|---|---|---|---|")
    print(*(f"| {r.name} | {r.tokens:.0f} | {r.right:.1%} | {r.images} | {r.time:.2f} |" for r in found), sep="\n")
    if args.rows:
        write_rows(args.rows, found)
    if args.plot:
        plot(found, args.plot)


def measured(args: argparse.Namespace) -> list[Measured]:
    """All rows, of the images that the arguments name."""
    model, table = vislab.load("embedded"), rows()
    images, labels = load(args.data, "val")
    picks = np.linspace(0, len(images) - 1, args.images or len(images)).astype(int)
    none = np.empty((0, 4))
    alone = set(picks[np.linspace(0, len(picks) - 1, min(args.timed, len(picks))).astype(int)].tolist())
    for start in range(0, len(picks), BATCH):
        batch = picks[start : start + BATCH].tolist()
        pixels = {pick: images[pick].permute(1, 2, 0).contiguous().numpy() for pick in batch}
        others = [pick for pick in batch if pick not in alone]
        for pick in batch:
            asked = [r for r in table if not r.on_drawn and (pick in alone or not isinstance(r.spent, dict))]
            measure(model, asked, pixels[pick], none, int(labels[pick]), timed=pick in alone)
        for row in table if others else []:
            if not row.on_drawn and isinstance(row.spent, dict):
                classify(model, row, [pixels[pick] for pick in others], labels[others].tolist())
        print(f"\r{start + len(batch)} of {len(picks)} images", end="", flush=True)
    for image, label, boxes in zip(*read_checks(args.data, args.drawn), strict=True):
        pixels = image.permute(1, 2, 0).contiguous().numpy()
        measure(model, [row for row in table if row.on_drawn], pixels, boxes, int(label), timed=True)
    plain = {row.on_drawn: row for row in table if row.name.endswith("even, 16 px")}
    return [row.measured(plain[row.on_drawn]) for row in table]


if __name__ == "__main__":
    main()
