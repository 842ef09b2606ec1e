"""vislab page: a model inside one HTML page, for a class."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import UsageError

PAGE_EPILOG = """\
examples:
  vislab page --out class.html
  vislab page photos/*.jpg --out class.html --weights float16
  vislab page --host site/

One file that opens in any browser of today, from a disk or a mail, without Python and without a network; pupils explore
the model on photographs of their own, which never leave the page. --host writes the same page as files for a server.
"""


def page_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "photos", nargs="*", metavar="PHOTO", help="photographs to bring (default: those that come with vislab)"
    )
    parser.add_argument("--out", metavar="PATH", help="HTML file to write")
    parser.add_argument("--host", metavar="DIR", help="folder to write index.html and its parts into, for a server")
    parser.add_argument(
        "--model",
        default="embedded",
        metavar="NAME",
        help="'embedded' (default; needs no network), or a ViTForImageClassification up to ViT-Small, by its name on "
        "the hub or its folder",
    )
    parser.add_argument(
        "--weights", choices=("int8", "float16"), default="int8", help="float16 is twice as large (default: int8)"
    )


def run_page(args: argparse.Namespace) -> int:
    if not args.out and not args.host:
        raise UsageError(
            "--out class.html writes one file, --host DIR a folder for a server: give one of them, or both"
        )
    if args.out and Path(args.out).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out takes a path that ends with .html, not {args.out!r}")
    from ..page.class_page import class_page, class_site

    given = {"images": args.photos or None, "model": args.model, "weights": args.weights}
    if args.out:
        print(class_page(args.out, **given), flush=True)
    if args.host:
        print(class_site(Path(args.host), **given), flush=True)
    return 0
