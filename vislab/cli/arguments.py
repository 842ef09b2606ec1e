"""What the commands share: arguments in words, their errors, and how a message is said."""

from __future__ import annotations

import argparse
import math
import re
import sys
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from ..core.checks import meant
from ..models.known import DTYPES
from ..models.tokens import BOX, DEFAULTS, KEPT_BY

if TYPE_CHECKING:
    from ..models.model import Model


class UsageError(Exception):
    """The command line cannot be right, whatever the photos and the model are."""


class Parser(argparse.ArgumentParser):
    """Reports a usage error in one line, and takes no abbreviated options, which later options would break."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def parse_known_args(self, *args: Any, **more: Any) -> Any:
        """Of a command: what it does not know is said by it, and not by the parser of all commands."""
        known, unknown = super().parse_known_args(*args, **more)
        if unknown and self._subparsers is None:
            options = [one for one in self._option_string_actions if one.startswith("--")]
            near = "".join(meant(one.partition("=")[0], options) for one in unknown[:1] if one.startswith("--"))
            self.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}{_near(message)} ({self.prog} --help explains)")


def _near(message: str) -> str:
    """What was probably meant by a word that is none of argparse's choices."""
    found = re.search(r"invalid choice: '(.+)' \(choose from (.+)\)", message)
    return meant(found[1], re.findall(r"[\w-]+", found[2])) if found else ""


def report(message: str, debug: bool) -> None:
    if debug and sys.exc_info()[0]:
        traceback.print_exc()
    print(f"vislab: {' '.join(message.split())}", file=sys.stderr)


def model_arguments() -> Parser:
    """A parent parser: the options of the model, the same for both commands that look at a photo."""
    parent = Parser(add_help=False)
    group = parent.add_argument_group("model")
    group.add_argument(
        "--model",
        default="embedded",
        metavar="NAME",
        help="'embedded' (default; needs no network), a name on the hub, or a local folder; see vislab models",
    )
    group.add_argument(
        "--patch-size",
        type=whole,
        metavar="N",
        help="pixels of a patch's side (default: the model's own)",
    )
    group.add_argument(
        "--image-size",
        type=size,
        metavar="N|HxW",
        help="pixels of the model's input, a side or height x width (default: the model's own)",
    )
    tokens_arguments(parent)
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, mps, … (default: the fastest there is)")
    group.add_argument("--dtype", choices=tuple(DTYPES), default="float32", help="(default: float32)")
    return parent


def tokens_arguments(parser: argparse.ArgumentParser) -> None:
    """The options by which a forward spends its tokens."""
    group = parser.add_argument_group("tokens")
    group.add_argument(
        "--keep", type=share, default=1.0, metavar="X", help="share of the patches that go on (default: 1, all)"
    )
    group.add_argument("--keep-by", choices=KEPT_BY, default="attention", help="what decides (default: attention)")
    group.add_argument(
        "--keep-at", type=wholes, metavar="N,…", help="layers before which patches go (default: three stages)"
    )
    group.add_argument("--gather", action="store_true", help="patches that go become one token")
    group.add_argument(
        "--merge", type=int, default=0, metavar="N", help="pairs of like tokens that become one, a layer (default: 0)"
    )
    group.add_argument(
        "--fovea",
        type=box,
        action="append",
        metavar="X0,Y0,X1,Y1|box",
        help="pixels of the photo within which patches are small, which may be given several times; or box, the most "
        "certain one of the embedded detector",
    )
    group.add_argument(
        "--fovea-patches",
        type=wholes,
        default=DEFAULTS["fovea_patches"],
        metavar="N,…",
        help="pixels of a patch's side, from within the fovea outwards (default: 8,32)",
    )
    group.add_argument(
        "--heads-off", type=heads, metavar="LAYER:HEAD+HEAD,…", help="heads whose output is zero, such as 3:0+5,4:1"
    )


def tokens_of(args: argparse.Namespace) -> dict[str, Any]:
    """What of it is asked for, by the keywords of `explain`."""
    asked = {name: value for name in DEFAULTS if (value := getattr(args, name)) != DEFAULTS[name]}
    if BOX in asked.get("fovea", ()):
        if len(asked["fovea"]) > 1:
            raise UsageError("--fovea box is the one box of the detector: leave the others out, or give them all")
        asked["fovea"] = BOX
    return asked


def load_model(args: argparse.Namespace) -> Model:
    from ..models.load import load

    return load(args.model, device=args.device, dtype=args.dtype)


def whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number above 0, not {text!r}")
    return int(text)


def whole_or_none(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"takes a whole number, 0 for none, not {text!r}")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """ "640" or "480x640" -> (height, width)."""
    sides = re.split("[x×]", text)
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(
            f"takes pixels above 0, such as 640, or HEIGHTxWIDTH, such as 480x640, not {text!r}"
        )
    return int(sides[0]), int(sides[-1])


def sizes(text: str) -> tuple[tuple[int, int], ...]:
    """ "224,336x448" -> (height, width) of each."""
    return tuple(size(part) for part in text.split(","))


def cell(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"\d+,\d+", text):
        raise argparse.ArgumentTypeError(f"takes ROW,COL counted from 0,0, such as 4,9, not {text!r}")
    row, col = text.split(",")
    return int(row), int(col)


def index_or(*names: str) -> Any:
    def parse(text: str) -> int | str:
        if text in names:
            return text
        if not re.fullmatch(r"-?\d+", text):
            raise argparse.ArgumentTypeError(
                f"takes {', '.join(['a number', *names[:-1]])} or {names[-1]}, not {text!r}{meant(text, names)}"
            )
        return int(text)

    return parse


def scale(text: str) -> float | dict[int, float]:
    """ "0.5" or "0:0.5,11:2" -> the attention scale of all layers or of some."""
    try:
        if ":" not in text:
            return float(text)
        pairs = [part.split(":") for part in text.split(",")]
        scales = {int(layer): float(scale) for layer, scale in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes a number, or LAYER:S,… such as 0:0.5,11:2, not {text!r}") from None
    if len(scales) < len(pairs):
        raise argparse.ArgumentTypeError(f"takes one scale a layer, and {text!r} gives a layer two")
    return scales


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"takes a number from 0 to 1, not {text!r}")
    return value


def wholes(text: str) -> tuple[int, ...]:
    """ "3,6,9" -> whole numbers; -1 and the like too."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes whole numbers with commas between, not {text!r}") from None


def pixels(*names: str) -> Any:
    """The type of an option: "300,200" -> as many numbers as names, in pixels of the photo."""

    def parsed(text: str) -> tuple[float, ...]:
        try:
            given = tuple(float(part) for part in text.split(","))
        except ValueError:
            given = ()
        if len(given) != len(names):
            such = ",".join(("10", "20", "110", "90")[: len(names)])
            raise argparse.ArgumentTypeError(f"takes {','.join(names)}, such as {such}, not {text!r}")
        return given

    return parsed


def box(text: str) -> tuple[float, ...] | str:
    """ "10,20,110,90" -> corners in pixels; "box" as it is."""
    if text == BOX:
        return text
    try:
        corners = tuple(float(part) for part in text.split(","))
    except ValueError:
        corners = ()
    if len(corners) != 4:
        near = meant(text, [BOX])
        raise argparse.ArgumentTypeError(f"takes X0,Y0,X1,Y1, such as 10,20,110,90, or box, not {text!r}{near}")
    return corners


def heads(text: str) -> dict[int, tuple[int, ...]]:
    """ "3:0+5,4:1" -> the heads of each layer."""
    pairs = [part.partition(":") for part in text.split(",")]
    try:
        found = {int(layer): tuple(int(head) for head in heads.split("+")) for layer, _, heads in pairs}
    except ValueError:
        found = {}
    if len(found) < len(pairs):
        raise argparse.ArgumentTypeError(f"takes LAYER:HEAD+HEAD,…, each layer once, such as 3:0+5,4:1, not {text!r}")
    return found


def bands(text: str) -> tuple[int, ...]:
    """ "3,2,1" or "4" -> the bands that are red, green and blue, or grey, counted from 1."""
    parts = text.split(",")
    if len(parts) not in (1, 3) or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"takes 3 bands (red, green, blue) or 1 (grey), counted from 1, such as 3,2,1, not {text!r}"
        )
    return tuple(map(int, parts))


def stretch(text: str) -> str | tuple[float, float]:
    """ "percentile", or "0,4095" -> the values that are black and white."""
    if text == "percentile":
        return text
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = 0.0
    if not (math.isfinite(high - low) and low < high):
        raise argparse.ArgumentTypeError(
            f"takes percentile, or LOW,HIGH, the values that are black and white, such as 0,4095, not {text!r}"
            f"{meant(text, ['percentile'])}"
        )
    return low, high


def csv_path(text: str) -> str:
    if not text.lower().endswith(".csv"):
        raise argparse.ArgumentTypeError(f"takes a path that ends with .csv, not {text!r}")
    return text


def page_width(text: str) -> str | float:
    """ "column", "page", "slide", or mm."""
    if text in ("column", "page", "slide"):
        return text
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        near = meant(text, ("column", "page", "slide"))
        raise argparse.ArgumentTypeError(f"takes column, page, slide or a number of mm above 0, not {text!r}{near}")
    return value


def beside(text: str) -> tuple[str, ...]:
    """ "npz,json" -> the suffixes of what stands beside a figure."""
    suffixes = tuple(dict.fromkeys(text.split(",")))
    for one in suffixes:
        if one not in (kinds := ("npz", "json", "tex")):
            near = meant(one, kinds)
            raise argparse.ArgumentTypeError(f"takes npz, json and tex, with commas between them, not {text!r}{near}")
    return suffixes


def print_table(rows: Mapping[str, str]) -> None:
    wide = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:{wide}}  {text}")
