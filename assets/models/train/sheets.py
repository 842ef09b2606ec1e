"""Draw boxes by eye: choose pictures of each class by a seed, and print them with their pixels counted.

    python sheets.py pick --data DIR --out ../../../tests/imagenette_boxes_second.json \\
        --without ../../../tests/imagenette_boxes.json [--each 9] [--seed 0]
    python sheets.py draw --data DIR --drawn ../../../tests/imagenette_boxes_second.json --out SHEETS [--plain 1]

`pick` takes as many validation pictures of every class, none of those that a file names already, and writes a file of
their names without boxes; no model is asked. `draw` makes sheets of six pictures, each at twice its size with a line
every 20 pixels (`--plain 1`: without lines), and the boxes that the file holds: look, write boxes down, draw again,
correct. Pictures in which they can be disputed are named under "unclear".
"""

from __future__ import annotations

import argparse
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
from boxes import read_checks
from data import FOLDERS
from loop import parser, require

ABOUT = (
    "Boxes drawn by eye on validation images of Imagenette ({each} of each class, chosen by sheets.py with seed {seed} "
    "from those that {without} does not hold, resized to 224×224): [x0, y0, x1, y1] in those pixels, every instance of "
    "the class."
)
ENLARGED, APART, MARGIN = 2, 20, 26  # times its size; pixels between lines; of a sheet, for the numbers
ACROSS, DOWN = 3, 2  # pictures of a sheet
COLOURS = ((230, 60, 30), (30, 90, 230), (20, 150, 60), (200, 30, 180), (240, 150, 0), (0, 160, 180))


def pick(args: argparse.Namespace) -> None:
    """Names of `--each` pictures a class, in alphabetical order, each without boxes."""
    taken = set(json.loads(args.without.read_text())["boxes"])
    with tarfile.open(args.data / "val.tar") as tar:
        names = sorted("/".join(Path(member.name).parts[-2:]) for member in tar if member.isfile())
    rng, chosen = np.random.default_rng(args.seed), dict[str, list[list[int]]]()
    for folder in FOLDERS:
        free = [name for name in names if name.startswith(f"{folder}/") and name not in taken]
        if len(free) < args.each:
            left = f"{folder} has {len(free)} pictures that {args.without} does not hold"
            raise ValueError(f"{left}, and {args.each} were asked for: give a smaller --each")
        chosen |= {name: [] for name in sorted(rng.choice(free, args.each, replace=False).tolist())}
    write(args.out, ABOUT.format(each=args.each, seed=args.seed, without=args.without.name), chosen)
    print(f"{len(chosen)} pictures named in {args.out}, none with a box yet")


def write(path: Path, about: str, boxes: dict[str, list[list[int]]]) -> None:
    """A line a picture, so that a change of one box is a change of one line."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(drawn)}" for name, drawn in boxes.items())
    path.write_text(f'{{\n "about": {json.dumps(about, ensure_ascii=False)},\n "boxes": {{\n{lines}\n }}\n}}\n')


def counted(picture: np.ndarray, boxes: np.ndarray, title: str, lines: bool) -> np.ndarray:
    """A picture, (h, w, 3) uint8, enlarged, its pixels counted in the margin, with boxes (k, 4) in its pixels."""
    large = cv2.resize(picture, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
    sheet = np.full((large.shape[0] + 2 * MARGIN, large.shape[1] + MARGIN, 3), 255, np.uint8)
    inside = sheet[2 * MARGIN :, MARGIN:]
    inside[:] = large
    for place in range(0, max(picture.shape[:2]), APART):
        at = place * ENLARGED
        if lines and place:
            for line in (inside[:, at : at + 1], inside[at : at + 1]):
                line[:] = (0.6 * line + (102 if place % 100 else 0)).astype(np.uint8)
        cv2.putText(sheet, str(place), (MARGIN + at - 6, 2 * MARGIN - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0))
        cv2.putText(sheet, str(place), (1, 2 * MARGIN + at + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0))
    cv2.putText(sheet, title, (2, MARGIN - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    for k, box in enumerate(boxes):
        left, top, right, bottom = (int(v) * ENLARGED for v in box)
        cv2.rectangle(inside, (left, top), (right - 1, bottom - 1), COLOURS[k % len(COLOURS)], 2)
    return sheet


def draw(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    names = list(json.loads(args.drawn.read_text())["boxes"])
    images, labels, boxes = read_checks(args.data, args.drawn)
    kinds = list(FOLDERS.values())
    pictures = [
        counted(image, found, f"{number} {kinds[label]}: {name.split('/')[1]}", not args.plain)
        for number, (name, image, label, found) in enumerate(
            zip(names, images.permute(0, 2, 3, 1).numpy(), labels.tolist(), boxes, strict=True)
        )
    ]
    empty = np.full_like(pictures[0], 255)
    for start in range(0, len(pictures), ACROSS * DOWN):
        cells = pictures[start : start + ACROSS * DOWN]
        cells += [empty] * (ACROSS * DOWN - len(cells))
        rows = [np.concatenate(cells[row * ACROSS : (row + 1) * ACROSS], 1) for row in range(DOWN)]
        path = args.out / f"{start // (ACROSS * DOWN):02}.png"
        cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
    print(f"{len(pictures)} pictures in {args.out}")


def main() -> None:
    script = parser(__doc__)
    steps = script.add_subparsers(required=True)
    for run, paths, values in (
        (pick, ("data", "out", "without"), {"each": 9, "seed": 0}),
        (draw, ("data", "drawn", "out"), {"plain": 0}),
    ):
        command = steps.add_parser(run.__name__)
        command.set_defaults(run=run)
        require(command, *paths)
        for name, value in values.items():
            command.add_argument(f"--{name}", type=int, default=value)
    args = script.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
