"""vislab ask: what a vision-language model says of a photo, and where in it each word looks, as a figure."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..methods.registry import METHODS
from ..models.known import DTYPES, READER
from .arguments import UsageError, index_or, whole
from .photos import spare

ASK_EPILOG = """\
examples:
  vislab ask photo.jpg "what is at the top left ?"
  vislab ask photo.jpg "What is on the hill?" --model HuggingFaceTB/SmolVLM-256M-Instruct
  vislab ask photo.jpg "What is on the hill?" --model smolvlm/ --out words.pdf
  vislab ask photo.jpg "What is it?" --answer "a church" --model smolvlm/ --method attention --layer 14 --out words.pdf

The answer goes to standard output; with --shares each word with the share of its attention that lies on the image.
"""
METHOD, WORD_METHODS = "relevance", ("relevance", "attention", "rollout")
MOST = 24  # words that a figure shows


def ask_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", metavar="PHOTO", help="image file or http(s) address")
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
    parser.add_argument("--out", metavar="PATH", help="a figure of all words: .pdf, .svg, .png, .jpg, or .npz")
    parser.add_argument(
        "--method", choices=WORD_METHODS, default="relevance", help="of the figure (default: relevance)"
    )
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


def run_ask(args: argparse.Namespace) -> int:
    asks = METHODS[args.method].asks
    for part, usual in (("layer", -1), ("head", "mean")):
        if getattr(args, part) != usual and part not in asks:
            raise UsageError(f"--method {args.method} goes through all layers: leave --{part} out, or take attention")
    from ..api.ask import ask
    from ..api.explain import explain
    from ..core.files import check_folder
    from ..core.images import load_image
    from ..figures.formats import FORMATS
    from ..figures.panel import panel
    from ..figures.save import save

    if args.out:
        if Path(args.out).suffix.lower() not in FORMATS:
            raise UsageError(f"--out takes {', '.join(FORMATS)}, not {args.out!r}")
        spare([args.photo], [args.out], f"--out {args.out!r}")
        check_folder(Path(args.out))
    answer = ask(
        load_image(args.photo), args.question, model=args.model, answer=args.answer, tokens=args.tokens,
        device=args.device, dtype=args.dtype,
    )  # fmt: skip
    rows = [(word.text, float(share)) for word, share in zip(answer.words, answer.image_share, strict=True)]
    if args.json:
        words = [{"word": text, "image_share": round(share, 4)} for text, share in rows]
        print(json.dumps({"answer": answer.text, "words": words}, ensure_ascii=False, indent=2))
    elif args.shares:
        for text, share in rows:
            print(f"{share:4.0%}  {text}")
    else:
        print(answer.text)
    if args.out:
        how = {part: getattr(args, part) for part in ("layer", "head") if part in asks}
        heats = [explain(answer, target=i, method=args.method, **how) for i in range(min(MOST, len(rows)))]
        titles = [f"{text} {share:.0%}" for text, share in rows[:MOST]]
        caption = f"{panel(heats).caption} · per cent: how much of a word's attention lies on the image"
        save(args.out, panel(heats, title=titles, caption=caption))
    return 0
