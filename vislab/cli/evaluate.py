"""vislab evaluate: which method's maps to trust, measured on photos."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.checks import meant
from ..methods.registry import METHODS
from ..spread.photos import Photo, photos_of
from .arguments import UsageError, csv_path, load_model, report, tokens_of, whole
from .look import given_look, look_arguments
from .photos import photos_argument, spare
from .spread import check_spread, spread_arguments
from .wording import in_options

if TYPE_CHECKING:
    from ..evaluation.report import Evaluation

EVALUATE_EPILOG = """\
examples:
  vislab evaluate photos/ --methods rollout,cls,relevance
  vislab evaluate 'photos/*.jpg' --methods rollout,grad_cam --csv table.csv --figure curves.pdf
  vislab evaluate photos/ --methods rollout,cls --kept measured/ --ray
  vislab evaluate photos/ --masks drawn/ --methods rollout,relevance

The table goes to standard output: deletion, insertion, grid pointing game and randomisation check, each method beside a
random order and a centre blob; or, with --masks, how much the masks of maps agree with drawn ones.

"over random" is insertion minus deletion, beyond those of random orders of the same photo. "pointing" takes four photos
of different classes, in a mosaic; where there are none, a line on standard error says so.

A photo that cannot be read is named on standard error and left out; the exit status is then 1.
"""


def evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    photos_argument(parser)
    parser.add_argument(
        "--methods",
        type=_methods,
        metavar="NAME,…",
        help=f"(default: all, some of which take long: {', '.join(METHODS)})",
    )
    parser.add_argument("--fill", choices=("blur", "mean"), default="blur", help="of removed patches (default: blur)")
    parser.add_argument("--steps", type=whole, default=28, metavar="N", help="of removal (default: 28)")
    parser.add_argument(
        "--randomised",
        type=_count,
        default=8,
        metavar="N",
        help="photos that the randomisation check is done on (default: 8; 0 leaves it out)",
    )
    parser.add_argument("--seed", type=_count, default=0, metavar="N", help="of all that is random (default: 0)")
    parser.add_argument(
        "--masks",
        metavar="DIR",
        help="folder of mask files named as the photos, .png or .npz, with 0 where nothing is: measures IoU, Dice, "
        "pixel accuracy and boundary F of the maps' masks (by otsu) instead",
    )
    parser.add_argument(
        "--kept", metavar="DIR", help="folder of what was measured of each photo, so that the same call can go on"
    )
    parser.add_argument("--csv", type=csv_path, metavar="PATH", help="the table as a file")
    parser.add_argument("--figure", metavar="PATH", help="the curves: .png, .jpg, .pdf or .svg")
    look_arguments(parser, ("dpi",))
    spread_arguments(parser)


def run_evaluate(args: argparse.Namespace) -> int:
    from ..evaluation.report import destination

    check_spread(args)
    if given_look(args, ("dpi",)) and not args.figure:
        raise UsageError("--dpi is of the curves: give --figure too, or leave it out")
    paths = [destination(path) for path in (args.csv, args.figure) if path]  # refused before hours of work, not after
    if args.masks is not None:
        return _against_drawn(args, photos_of(args.photos))
    given = photos_of(args.photos)
    if any(photo.row is not None for photo in given):
        raise UsageError("evaluate takes photos as files: write those of a Parquet file into a folder")
    photos = [photo.source for photo in given]
    spare(photos, paths, f"--figure {args.figure!r}")
    model = load_model(args)
    from ..evaluation.evaluate import evaluate

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "left out image")  # reported below, in the manner of the other commands
        result = evaluate(
            photos,
            model=model,
            methods=args.methods,
            fill=args.fill,
            steps=args.steps,
            randomised=args.randomised,
            seed=args.seed,
            patch_size=args.patch_size,
            image_size=args.image_size,
            **tokens_of(args),
            kept=args.kept,
            ray=args.ray,
            actors=args.actors,
            progress=sys.stderr.isatty(),
        )
    for reason in result.skipped:
        report(in_options(f"left out {reason}", args.options), args.debug)
    if unpointed := _unpointed(result):
        report(unpointed, args.debug)
    for path in paths:
        result.save(path, dpi=args.dpi)
    print(result)
    return 1 if result.skipped else 0


def _unpointed(result: Evaluation) -> str:
    """Why pointing was not measured, where it was not."""
    if "pointing" in result.samples:
        return ""
    known = len({*result.targets})
    photos, classes = f"photo{'s' * (len(result.targets) != 1)}", f"class{'es' * (known != 1)}"
    of = f"the model sees {known} {classes} in {len(result.targets)} {photos}"
    why = of if known < 4 else "the detector finds no box in a mosaic for --fovea box"
    return f"pointing is left out: it takes four photos of different classes in a mosaic, and {why}"


def _against_drawn(args: argparse.Namespace, photos: Sequence[Photo]) -> int:
    from ..core.files import check_folder, write
    from ..evaluation.drawn import evaluate_masks

    folder = Path(args.masks).expanduser()
    if not folder.is_dir():
        raise NotADirectoryError(f"there is no folder {args.masks!r}: give the one that the mask files lie in")
    for name, usual in (
        ("figure", None),
        ("fill", "blur"),
        ("steps", 28),
        ("randomised", 8),
        ("seed", 0),
        ("kept", None),
        ("ray", None),
    ):
        if getattr(args, name) != usual:
            raise UsageError(f"--{name} is of what --masks does not measure: leave one of them out")
    if args.csv:
        spare([photo.source for photo in photos], [args.csv], f"--csv {args.csv!r}")
        check_folder(Path(args.csv))
    places = [(photo.name, folder / f"{photo.name}{suffix}") for suffix in (".npz", ".png") for photo in photos]
    masks = {name: path for name, path in places if path.is_file()}
    asked: dict[str, Any] = {"patch_size": args.patch_size, "image_size": args.image_size, **tokens_of(args)}
    if args.methods is not None:
        asked["methods"] = args.methods
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "left out")  # reported below, in the manner of the other commands
        images = {photo.name: photo.source for photo in photos}
        result = evaluate_masks(images, masks=masks, model=load_model(args), progress=sys.stderr.isatty(), **asked)
    for reason in result.skipped:
        report(in_options(f"left out {reason}", args.options), args.debug)
    if args.csv:
        write(Path(args.csv), result.csv().encode())
    print(result)
    return 1 if result.skipped else 0


def _methods(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in METHODS:
            raise argparse.ArgumentTypeError(
                f"takes some of {', '.join(METHODS)}, with commas between, not {name!r}{meant(name, METHODS)}"
            )
    return names


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"takes a whole number from 0, not {text!r}")
    return int(text)
