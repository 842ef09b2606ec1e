"""vislab compare: which kind of model to take, measured on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..core.checks import meant
from ..evaluation.needs import KINDS, NEEDS, QUESTION
from ..spread.photos import photos_of
from .arguments import UsageError, csv_path, whole
from .photos import photos_argument, spare

COMPARE_EPILOG = """\
examples:
  vislab compare photo.jpg
  vislab compare photos/ --detector yolo12n.pt --model google/vit-base-patch16-224 --need class,boxes --within 0.1
  vislab compare photo.jpg --segmenter nvidia/segformer-b0-finetuned-ade-512-512 \\
      --reader HuggingFaceTB/SmolVLM-256M-Instruct --question "How many boats are there?"

The table goes to standard output: tokens, parameters, time and memory of each model, what each says of each photo, and
which to take for what is needed, by what was measured here. none leaves a kind out.
"""


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    photos_argument(parser)
    for name, words, usual in (
        ("detector", "as of vislab detect", "embedded"),
        ("model", "a Vision Transformer, as of vislab figure", "embedded"),
        ("segmenter", "as --model of vislab segment", "embedded"),
        ("reader", "a vision-language model, as --model of vislab ask", "none"),
    ):
        parser.add_argument(f"--{name}", default=usual, metavar="NAME", help=f"{words} (default: {usual})")
    parser.add_argument("--question", metavar="TEXT", help="what the vision-language model is asked")
    parser.add_argument("--repeats", type=whole, default=3, metavar="N", help="timed runs of each photo (default: 3)")
    parser.add_argument(
        "--need", type=_needs, default=tuple(NEEDS), metavar="NAME,…", help=f"some of {', '.join(NEEDS)} (default: all)"
    )
    parser.add_argument("--within", type=_positive, metavar="S", help="seconds that a photo may take")
    parser.add_argument("--memory", type=_positive, metavar="GB", help="memory that a model may take")
    parser.add_argument("--csv", type=csv_path, metavar="PATH", help="the table as a file")
    parser.add_argument("--json", action="store_true", help="for programs: the table and what to take as JSON")


def run_compare(args: argparse.Namespace) -> int:
    given = {kind: getattr(args, kind) for kind in KINDS}
    models = {kind: None if name == "none" else name for kind, name in given.items()}
    if not any(models.values()):
        raise UsageError("all kinds are none: name one of --detector, --model, --segmenter and --reader")
    if args.question is not None and models["reader"] is None:
        raise UsageError("--question is for a vision-language model: name one, --reader NAME")
    from ..core.files import check_folder, write
    from ..evaluation.compare import compare

    photos = {photo.source: photo.source for photo in photos_of(args.photos)}
    if args.csv:
        spare(photos, [args.csv], f"--csv {args.csv!r}")
        check_folder(Path(args.csv))
    table = compare(
        photos,
        **models,
        question=args.question or QUESTION,
        repeats=args.repeats,
        progress=sys.stderr.isatty(),
    )
    memory = None if args.memory is None else args.memory * 1e9
    advice = table.recommend(args.need, within=args.within, memory=memory)
    if args.csv:
        write(Path(args.csv), table.csv().encode())
    if args.json:
        print(json.dumps({"models": table.rows(), "take": advice}, ensure_ascii=False, indent=2))
    else:
        print(
            table,
            "",
            "to take, by what was measured here; whether what it found is right, only you can tell:",
            sep="\n",
        )
        for need, words in advice.items():
            print(f"  {need}: {words}")
    return 0


def _needs(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in NEEDS:
            raise argparse.ArgumentTypeError(f"takes some of {', '.join(NEEDS)}, not {name!r}{meant(name, NEEDS)}")
    return names


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"takes a number above 0, not {text!r}")
    return value
