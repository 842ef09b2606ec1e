"""The options of figures, the same in every command that writes one: how maps lie on the photo, and the page."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..figures.blends import BLENDS
from .arguments import UsageError, beside, page_width, share, whole

DISPLAY: Mapping[str, dict[str, Any]] = {
    "colormap": {"default": "viridis", "metavar": "NAME", "help": "of matplotlib (default: viridis)"},
    "opacity": {"type": share, "default": 0.6, "metavar": "X", "help": "0 to 1 (default: 0.6)"},
    "blend": {
        "choices": BLENDS,
        "default": "even",
        "help": "how the map lies on the photo (default: even, one opacity)",
    },
    "smooth": {"action": "store_true", "help": "interpolate between patch centres"},
    "grid": {"action": "store_true", "help": "lines between the patches"},
}
PAGE: Mapping[str, dict[str, Any]] = {
    "width": {
        "type": page_width,
        "metavar": "column|page|slide|MM",
        "help": "85 mm, 178 mm, 16:9, or a number of mm (default: what the figure needs)",
    },
    "label": {"metavar": "TEXT", "help": "beside the colour bar, '' for nothing (default: what the values are)"},
    "caption": {
        "metavar": "TEXT",
        "help": "below the figure, in place of all that would stand there, '' for none (default: what it shows)",
    },
    "theme": {"choices": ("light", "dark"), "default": "light", "help": "(default: light)"},
    "transparent": {"action": "store_true", "help": "no page behind the figure"},
    "dpi": {"type": whole, "default": 300, "metavar": "N", "help": "of PNG and JPEG (default: 300)"},
}
LOOK = {**DISPLAY, **PAGE}
ALL = tuple(LOOK)
OF_PHOTOS = ("width", "caption", "theme", "transparent", "dpi")  # of pages with a photo and its boxes or masks alone


def look_arguments(
    parser: argparse.ArgumentParser, names: Collection[str] = ALL, *, about: str | None = None
) -> dict[str, argparse._ArgumentGroup]:
    """Those of the options of figures that are among some names, by groups, "display" and "page".

    about: what is to be said of the page.
    """
    groups = {}
    for title, options in (("display", DISPLAY), ("page", PAGE)):
        if own := [name for name in options if name in names]:
            groups[title] = parser.add_argument_group(title, about if title == "page" else None)
            for name in own:
                groups[title].add_argument(f"--{name}", **options[name])
    return groups


def beside_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--beside",
        type=beside,
        default=(),
        metavar="npz,json,tex",
        help="beside each figure: the values, how it was made, the lines that put it into LaTeX, with the "
        "caption, which the figure then leaves out unless --caption gives one",
    )


def look_of(args: argparse.Namespace) -> dict[str, Any]:
    """The look of maps, by the keywords of `panel`."""
    return {name: value for name in ALL if (value := getattr(args, name)) is not None or name != "caption"}


def given_look(args: argparse.Namespace, names: Collection[str] = ALL) -> dict[str, Any]:
    """What of it differs from what it is by itself."""
    usual = {name: option.get("default", False if "action" in option else None) for name, option in LOOK.items()}
    return {name: value for name in names if (value := getattr(args, name)) != usual[name]}


def check_look(args: argparse.Namespace, names: Collection[str] = ALL) -> None:
    """UsageError for what cannot be, before a model runs. args.out: the figure, or None."""
    from ..figures.colours import colour_table
    from ..figures.page import Look

    given = given_look(args, names)
    suffix = Path(args.out).suffix.lower() if args.out else ""
    if given and not args.out:
        raise UsageError(f"--{next(iter(given))} is of a figure: give --out too, or leave it out")
    if given and suffix == ".parquet":
        raise UsageError(f"--{next(iter(given))} is of a figure, and {args.out!r} is a table: leave one of them out")
    if given.get("transparent") and suffix in (".jpg", ".jpeg"):
        raise UsageError("JPEG knows no transparency: take .png, .pdf or .svg, or leave --transparent out")
    try:
        if "colormap" in given:  # looking would import matplotlib, which only workers need
            colour_table(given["colormap"])
        Look(**{name: value for name, value in given.items() if name != "caption"})
    except ValueError as error:
        raise UsageError(str(error)) from error
