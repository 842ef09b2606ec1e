"""vislab ask: what a vision-language model says of a photo, and where in it each word looks, as a figure."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..language.request import LOOKS, METHOD, WordRequest
from ..methods.registry import METHODS
from ..models.known import DTYPES, READER
from ..spread.photos import Photo, photos_of
from .arguments import UsageError, index_or, report, whole
from .asking import beside_of
from .look import beside_argument, check_look, look_arguments, look_of
from .photos import spare
from .spread import check_spread, is_spread, places, run_spread, spread_arguments

ASK_EPILOG = """\
examples:
  vislab ask photo.jpg "what is at the top left ?"
  vislab ask photo.jpg "What is on the hill?" --model HuggingFaceTB/SmolVLM-256M-Instruct
  vislab ask photo.jpg "What is on the hill?" --model smolvlm/ --out words.pdf --width page
  vislab ask photos/ "what is at the top left ?" --out answers.parquet --ray
  vislab ask photo.jpg "What is it?" --answer "a church" --model smolvlm/ --method attention --layer 14 --out words.pdf
  vislab ask photo.jpg "What is on the hill?" --model smolvlm/ --method lens --layer 20 --out lens.png

The answer goes to standard output; with --shares each word with the share of its attention that lies on the image.
"""


def ask_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "photo", metavar="PHOTO", help="image file or http(s) address; or a folder, a pattern in quotes, a Parquet file"
    )
    parser.add_argument("question", metavar="QUESTION", help="what is asked of it")
    parser.add_argument(
        "--model",
        default=READER,
        metavar="NAME",
        help=f"{READER!r} (default; needs no network), a vision-language model's name on the hub, or a local folder",
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, mps, … (default: the fastest there is)")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32", help="(default: float32)")
    parser.add_argument("--answer", metavar="TEXT", help="words to explain in place of the model's own")
    parser.add_argument("--tokens", type=whole, default=64, metavar="N", help="of an answer, at most (default: 64)")
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="a figure of all words: .pdf, .svg, .png, .jpg, or .npz; of several photos a folder, a path with {name}, "
        "or a table of the answers, .parquet",
    )
    parser.add_argument("--method", choices=LOOKS, default=METHOD, help=f"of the figure (default: {METHOD})")
    parser.add_argument(
        "--layer",
        type=index_or("mean"),
        default=-1,
        metavar="N|mean",
        help="of the language model (default: -1, the last)",
    )
    parser.add_argument(
        "--head", type=index_or("mean", "max", "min"), default="mean", metavar="N|mean|max|min", help="(default: mean)"
    )
    parser.add_argument("--shares", action="store_true", help="each word with its image share")
    parser.add_argument("--json", action="store_true", help="for programs: the answer, its words and shares as JSON")
    beside_argument(look_arguments(parser)["page"])
    spread_arguments(parser)


def run_ask(args: argparse.Namespace) -> int:
    asks = METHODS[args.method].asks
    for part, usual in (("layer", -1), ("head", "mean")):
        if getattr(args, part) != usual and part not in asks:
            why = "reads no head" if "layer" in asks else "goes through all layers"
            raise UsageError(f"--method {args.method} {why}: leave --{part} out, or take attention")
    how: dict[str, Any] = {part: getattr(args, part) for part in ("layer", "head") if part in asks}
    try:
        WordRequest(method=args.method, **how)
    except ValueError as error:
        raise UsageError(f"--method {args.method}: {error}") from error
    check_look(args)
    check_spread(args)
    photos = photos_of([args.photo])
    if is_spread(args) or any(not photo.named for photo in photos):
        return _run_many(args, photos, how)
    return _run_one(args, how)


def _run_one(args: argparse.Namespace, how: Mapping[str, Any]) -> int:
    from ..api.ask import ask
    from ..core.files import check_folder
    from ..core.images import load_image
    from ..figures.formats import FORMATS
    from ..figures.save import save
    from ..spread.answers import words_figure

    if args.out:
        if Path(args.out).suffix.lower() not in FORMATS:
            raise UsageError(f"--out takes {', '.join(FORMATS)}, not {args.out!r}")
        spare([args.photo], [args.out, *beside_of(Path(args.out), args)], f"--out {args.out!r}")
        check_folder(Path(args.out))
    answer = ask(
        load_image(args.photo), args.question, model=args.model, answer=args.answer, tokens=args.tokens,
        device=args.device, dtype=args.dtype,
    )  # fmt: skip
    _say(args, answer.text, [word.text for word in answer.words], [*map(float, answer.image_share)])
    if args.out:
        save(args.out, words_figure(answer, args.method, how, look_of(args)), beside=args.beside)
        _say_left_out(args.out, answer.words)
    return 0


def _run_many(args: argparse.Namespace, photos: Sequence[Photo], how: Mapping[str, Any]) -> int:
    """Each answer after its photo, in their order."""
    from ..spread.answers import Answers

    if not args.out:
        raise UsageError("the answers of several photos go into a table: give --out, such as answers.parquet")
    pictures, table = places(args.out, photos, "answers.parquet")
    named = {name: getattr(args, name) for name in ("model", "device", "dtype", "answer", "tokens", "method")}
    for path in filter(None, pictures.values()):
        beside_of(path, args)
    work = Answers(args.question, how=how, look=look_of(args), beside=args.beside, **named)
    rows = run_spread(work, args, pictures, table)
    for photo, row in rows.items():
        if "error" not in row:
            if not args.json:
                print(f"{photo}:", end="\n" if args.shares else " ")
            _say(args, row["answer"], row["words"], row["image_share"], photo=photo)
            if row.get("figure"):
                _say_left_out(row["figure"], row["words"])
    return int(any("error" in row for row in rows.values()))


def _say_left_out(figure: str, words: Sequence[object]) -> None:
    from ..spread.answers import left_out

    if said := left_out(words):
        report(f"{figure} shows {said}", debug=False)


def _say(
    args: argparse.Namespace, text: str, words: Sequence[str], shares: Sequence[float], photo: str | None = None
) -> None:
    if args.json:
        rows = [{"word": word, "image_share": round(share, 4)} for word, share in zip(words, shares, strict=True)]
        said = ({"photo": photo} if photo else {}) | {"answer": text, "words": rows}
        print(json.dumps(said, ensure_ascii=False, indent=None if photo else 2))
    elif args.shares:
        for word, share in zip(words, shares, strict=True):
            print(f"{share:4.0%}  {word}")
    else:
        print(text)
