"""The command `vislab`: figures, what attention will cost, and which models there are."""

from __future__ import annotations

import argparse
import glob
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

from .geometry import attention_flops, attention_memory

if TYPE_CHECKING:
    from .models import Model

# As vislab.attribution and vislab.models have them, which would load torch before --help is shown.
METHODS = ("rollout", "cls", "attention")
ROLLOUT_OPTIONS = ("start", "residual", "discard")
DTYPES = ("float32", "bfloat16", "float16", "float64")

MANY = 20  # photos from which on progress is shown in a log too
# The exit status of a program that was stopped by a signal: 128 + its number.
INTERRUPTED, PIPE_CLOSED = 130, 141

DESCRIPTION = "See where a Vision Transformer looks, exactly, on the source image."
EPILOG = """\
examples:
  vislab figure photo.jpg --out figure.pdf
  vislab figure photo.jpg --method cls --layer 11 --head 2 --out head.png
  vislab figure 'photos/*.jpg' --out 'figures/{name}.svg'
  vislab tokens photo.jpg --patch-size 16 --image-size 640
  vislab models

exit status:
  0    all was done
  1    something failed: a photo, a model or a setting that does not fit them; of several photos the others are done
  2    the command line is wrong
  130  interrupted with Ctrl-C; no half-written file is left
  141  whoever read the output, such as head, closed it
Results go to standard output, messages to standard error. --debug, or VISLAB_DEBUG=1, adds the traceback to a message.
"""
FIGURE_EPILOG = """\
examples:
  vislab figure photo.jpg --out figure.pdf
  vislab figure photo.jpg --method cls --layer 11 --head 2 --out head.png
  vislab figure photo.jpg --method attention --layer mean --patch 4,9 --out patch.png
  vislab figure photo.jpg --patch-size 8 --attention-scale 0:0.5,11:2 --out values.npz
  vislab figure 'photos/*.jpg' --model facebook/dinov2-small --image-size 336x448 --out figures/

The paths written go to standard output. A photo that cannot be read is named on standard error and passed over; the
exit status is then 1.
"""
TOKENS_EPILOG = """\
examples:
  vislab tokens photo.jpg
  vislab tokens photo.jpg --patch-size 16 --image-size 640
  vislab tokens photo.jpg --image-size 2048 --json
"""


class _UsageError(Exception):
    """The command line cannot be right, whatever the photos and the model are."""


class _PhotoError(Exception):
    """One photo cannot be shown; others may."""


class _Parser(argparse.ArgumentParser):
    """Reports a usage error in one line, and takes no abbreviated options, which later options would break."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message} ({self.prog} --help explains)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with arguments, by default those of the process -> its exit status, as --help lists them."""
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments or os.environ.get("VISLAB_DEBUG", "0") not in ("", "0")
    try:
        args = _parser().parse_args(arguments)
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)
    except BrokenPipeError:
        # What is still held back would be written at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except KeyboardInterrupt:
        _report("interrupted", debug)
        return INTERRUPTED
    except _UsageError as error:
        _report(str(error), debug)
        return 2
    except Exception as error:
        _report(_sentence(error), debug)
        return 1


def _report(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"vislab: {' '.join(message.split())}", file=sys.stderr)


def _sentence(error: Exception) -> str:
    """What an error says, its type named where it was not raised for a user to read."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)!r}: {error.strerror}"
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if said and isinstance(error, ValueError | OSError | LookupError | MemoryError | RuntimeError | ImportError):
        return said
    return f"unexpected {type(error).__name__}: {said or 'no message'} (--debug shows where)"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="vislab", description=DESCRIPTION, epilog=EPILOG)
    version = import_module("vislab").__version__
    parser.add_argument("--version", action="version", version=f"vislab {version}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    asked = _model_arguments()

    text = "draw the heatmap of each photo into a file"
    figure = commands.add_parser(
        "figure", parents=[asked, common], help=text, description=f"{text.capitalize()}.", epilog=FIGURE_EPILOG
    )
    _figure_arguments(figure)
    figure.set_defaults(run=_figure)

    text = "tell how many tokens a photo becomes and what attention costs, before anything runs"
    tokens = commands.add_parser(
        "tokens", parents=[asked, common], help=text, description=f"{text.capitalize()}.", epilog=TOKENS_EPILOG
    )
    tokens.add_argument("photo", metavar="PHOTO", help="image file or http(s) address")
    tokens.add_argument("--json", action="store_true", help="for programs: bytes, pixels and operations as JSON")
    tokens.set_defaults(run=_tokens)

    text = "list the models that come with vislab and those known to work"
    models = commands.add_parser("models", parents=[common], help=text, description=f"{text.capitalize()}.")
    models.set_defaults(run=_models)
    return parser


def _model_arguments() -> _Parser:
    """What both commands that look at a photo ask of the model."""
    asked = _Parser(add_help=False)
    group = asked.add_argument_group("model")
    group.add_argument(
        "--model",
        default="embedded",
        metavar="NAME",
        help="'embedded' (default; needs no network), a name on the hub, or a local folder; see vislab models",
    )
    group.add_argument(
        "--patch-size",
        type=_whole,
        metavar="N",
        help="pixels of a patch's side (default: the model's own)",
    )
    group.add_argument(
        "--image-size",
        type=_size,
        metavar="N|HxW",
        help="pixels of the model's input, a side or height x width (default: the model's own)",
    )
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, mps, … (default: the fastest there is)")
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="(default: float32)")
    return asked


def _figure_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="image file, http(s) address, or pattern such as 'photos/*.jpg'",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="PATH",
        help="file to write: .png, .jpg, .pdf, .svg, or .npz for the values; for several photos a folder (of PNGs), "
        "or a path with {name}, which becomes each photo's name",
    )
    group = parser.add_argument_group("attention")
    group.add_argument("--method", choices=METHODS, default="rollout", help="(default: rollout)")
    group.add_argument(
        "--layer",
        type=_index_or("mean"),
        default=-1,
        metavar="N|mean",
        help="layer, counted from 0, -1 the last (default: -1); of rollout the last one that it goes through",
    )
    group.add_argument(
        "--head",
        type=_index_or("mean", "max", "min"),
        default="mean",
        metavar="N|mean|max|min",
        help="one head, or how they are fused (default: mean)",
    )
    group.add_argument(
        "--patch", type=_cell, metavar="ROW,COL", help="attending patch, counted from 0,0 (default: CLS attends)"
    )
    group.add_argument(
        "--attention-scale",
        type=_scale,
        default=1.0,
        metavar="S|LAYER:S,…",
        help="factor of q·k, of all layers or of some; 1 is the trained model (default: 1)",
    )
    group = parser.add_argument_group("rollout")
    group.add_argument("--start", type=int, metavar="N", help="first layer (default: 0)")
    group.add_argument("--residual", type=_share, metavar="X", help="share of the residual path, 0 to 1 (default: 0.5)")
    group.add_argument("--discard", type=_share, metavar="X", help="share of each row that is cut, 0 to 1 (default: 0)")
    group = parser.add_argument_group("display")
    group.add_argument("--colormap", default="viridis", metavar="NAME", help="of matplotlib (default: viridis)")
    group.add_argument("--opacity", type=_share, default=0.5, metavar="X", help="0 to 1 (default: 0.5)")
    group.add_argument("--smooth", action="store_true", help="interpolate between patch centres")


# ---- arguments ----


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number above 0, not {text!r}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    """ "640" or "480x640" -> (height, width)."""
    sides = re.split("[x×]", text)
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"takes pixels, such as 640, or HEIGHTxWIDTH, such as 480x640, not {text!r}")
    return int(sides[0]), int(sides[-1])


def _cell(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"\d+,\d+", text):
        raise argparse.ArgumentTypeError(f"takes ROW,COL counted from 0,0, such as 4,9, not {text!r}")
    row, col = text.split(",")
    return int(row), int(col)


def _index_or(*names: str) -> Any:
    def parse(text: str) -> int | str:
        if text in names:
            return text
        if not re.fullmatch(r"-?\d+", text):
            raise argparse.ArgumentTypeError(
                f"takes {', '.join(['a number', *names[:-1]])} or {names[-1]}, not {text!r}"
            )
        return int(text)

    return parse


def _scale(text: str) -> float | dict[int, float]:
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


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"takes a number from 0 to 1, not {text!r}")
    return value


# ---- vislab figure ----


def _figure(args: argparse.Namespace) -> int:
    options = _method_options(args)
    photos = _expanded(args.photos)
    paths = _destinations(args.out, photos)
    _check_colormap(args.colormap)
    from tqdm import tqdm

    # Loaded once, and only when a photo is there to look at.
    model = cache(lambda: _load_model(args))
    failed = False
    hidden = len(photos) == 1 or not (sys.stderr.isatty() or len(photos) >= MANY)
    with tqdm(photos, unit="photo", file=sys.stderr, disable=hidden, leave=False) as progress:
        for photo, path in zip(progress, paths, strict=True):
            try:
                _draw(photo, path, args, options, model)
            except _PhotoError as error:
                failed = True
                with tqdm.external_write_mode():
                    _report(str(error), args.debug)
            else:
                with tqdm.external_write_mode():
                    print(path, flush=True)
    return 1 if failed else 0


def _draw(
    photo: str, path: Path, args: argparse.Namespace, options: Mapping[str, Any], model: Callable[[], Model]
) -> None:
    from .images import load_image

    with _photo_errors(OSError, ValueError):
        image = load_image(photo)
    ready = model()
    from .compose import explain
    from .export import save

    with _photo_errors(ValueError, name=photo):
        frame = ready.preprocessing.frame((image.shape[0], image.shape[1]), args.image_size)
    query: Any = "cls"
    if args.patch is not None:
        x0, y0, x1, y1 = frame.box_to_source(ready.grid(args.image_size, args.patch_size).box(*args.patch))
        query = ((x0 + x1) / 2, (y0 + y1) / 2)
    heat = explain(
        image,
        model=ready,
        method=args.method,
        layer=args.layer,
        head=args.head,
        query=query,
        attention_scale=args.attention_scale,
        patch_size=args.patch_size,
        image_size=args.image_size,
        **options,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with _photo_errors(ValueError, name=photo):
        save(path, image, heat, opacity=args.opacity, colormap=args.colormap, smooth=args.smooth)


@contextmanager
def _photo_errors(*kinds: type[Exception], name: str = "") -> Iterator[None]:
    """Errors that are one photo's own, named by it where the message does not."""
    try:
        yield
    except kinds as error:
        raise _PhotoError(f"{name!r}: {error}" if name else _sentence(error)) from error


def _method_options(args: argparse.Namespace) -> dict[str, Any]:
    options = {name: value for name in ROLLOUT_OPTIONS if (value := getattr(args, name)) is not None}
    if options and args.method != "rollout":
        raise _UsageError(f"--{next(iter(options))} is an option of --method rollout, not of {args.method}")
    if args.patch is not None and args.method == "cls":
        raise _UsageError("--method cls shows what CLS attends to: leave --patch out, or take --method attention")
    return options


def _expanded(given: Sequence[str]) -> list[str]:
    """Photos, patterns replaced by the files they match; a pattern that matches none stays, to be missed as a file."""
    found: list[str] = []
    for text in given:
        path = os.path.expanduser(text)
        is_pattern = "://" not in text and glob.has_magic(path) and not os.path.exists(path)
        matches = sorted(p for p in glob.glob(path, recursive=True) if not os.path.isdir(p)) if is_pattern else []
        found += matches or [text]
    return list(dict.fromkeys(found))


def _destinations(out: str, photos: Sequence[str]) -> list[Path]:
    """Where each photo's figure goes, no two to the same path and none over a photo."""
    from .export import WRITERS

    path = Path(out).expanduser()
    formats = ", ".join(WRITERS)
    if path.is_dir() or out.endswith(("/", os.sep)) or (len(photos) > 1 and not path.suffix):
        path /= "{name}.png"
    if path.suffix.lower() not in WRITERS:
        raise _UsageError(f"--out {out!r} has none of the suffixes {formats}; for a folder end it with /")
    if "{name}" not in str(path):
        if len(photos) > 1:
            raise _UsageError(
                f"{len(photos)} photos do not go into one file {out!r}: give --out a folder, or a path with {{name}}"
            )
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {str(path.parent)!r} to write {path.name} in: make it first")
    taken: dict[str, str] = {}
    sources = {os.path.realpath(os.path.expanduser(photo)) for photo in photos}
    paths = [Path(str(path).replace("{name}", _stem(photo))) for photo in photos]
    for photo, one in zip(photos, paths, strict=True):
        place = os.path.realpath(one)
        if place in sources:
            raise _UsageError(f"--out {out!r} would overwrite the photo {str(one)!r}: take another name or folder")
        if place in taken:
            raise _UsageError(f"{taken[place]!r} and {photo!r} would both become {str(one)!r}: draw them in two calls")
        taken[place] = photo
    return paths


def _stem(photo: str) -> str:
    """What {name} becomes."""
    return Path(unquote(urlsplit(photo).path) if "://" in photo else photo).stem or "photo"


def _check_colormap(name: str) -> None:
    from .render import colour_table

    try:
        colour_table(name)
    except ValueError as error:
        raise _UsageError(str(error)) from error


def _load_model(args: argparse.Namespace) -> Model:
    from .models import load

    return load(args.model, device=args.device, dtype=args.dtype)


# ---- vislab tokens ----


def _tokens(args: argparse.Namespace) -> int:
    from .images import load_image

    height, width = load_image(args.photo).shape[:2]
    model = _load_model(args)
    facts = _facts(model, (height, width), args)
    if args.json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        _print_table(_described(args.photo, facts))
    return 0


def _facts(model: Model, source: tuple[int, int], args: argparse.Namespace) -> dict[str, Any]:
    """What is known before a forward. Sizes are (height, width) in pixels, memory is in bytes."""
    from . import models

    grid = model.grid(args.image_size, args.patch_size)
    frame = model.preprocessing.frame(source, args.image_size)
    value = model.dtype.itemsize
    return {
        "photo": source,
        "model": model.name,
        "layers": model.layers,
        "heads": model.heads,
        "dim": model.dim,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "input": frame.model,
        "visible": [round(side) for side in frame.visible],
        "patch": grid.patch,
        "rows": grid.rows,
        "cols": grid.cols,
        "prefix": grid.prefix,
        "suffix": grid.suffix,
        "tokens": grid.tokens,
        "attention_flops_layer": attention_flops(grid.tokens, model.dim),
        "attention_flops": attention_flops(grid.tokens, model.dim, model.layers),
        "maps_layer": attention_memory(grid.tokens, model.heads, 1, value),
        "maps": attention_memory(grid.tokens, model.heads, model.layers, value),
        "kept": 2 * grid.tokens * model.dim * value * model.layers,
        "forecast": model.forecast(grid),
        "free": models._free_memory(model.device),
    }


def _described(photo: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts in words, with what they are called."""
    (height, width), (h, w), (x0, y0, x1, y1) = facts["photo"], facts["input"], facts["visible"]
    whole = (x0, y0, x1, y1) == (0, 0, width, height)
    seen = "the whole photo" if whole else f"the photo from x {x0} to {x1} and y {y0} to {y1}"
    others = facts["prefix"] + facts["suffix"]
    total = f"{facts['rows']} × {facts['cols']}" + (f" + {others}" if others else "") + f" = {facts['tokens']:,}"
    fits = "" if facts["forecast"] <= facts["free"] else ": too little; take larger patches or a smaller image size"
    return {
        "photo": f"{photo}, {width} px wide and {height} px high",
        "model": f"{facts['model']}: {facts['layers']} layers, {facts['heads']} heads, width {facts['dim']}, "
        f"{facts['dtype']} on {facts['device']}",
        "input": f"{w} px wide and {h} px high, holds {seen}",
        "grid": f"{facts['rows']} rows × {facts['cols']} cols of patches of {' × '.join(map(str, facts['patch']))} px",
        "tokens": total + (f" ({others} of them no patch)" if others else ""),
        "attention": f"{_amount(facts['attention_flops_layer'], 'FLOP')} a layer, "
        f"{_amount(facts['attention_flops'], 'FLOP')} in all",
        "n² maps": f"{_amount(facts['maps_layer'], 'B')} a layer, {_amount(facts['maps'], 'B')} in all: not made",
        "q and k": f"{_amount(facts['kept'], 'B')} in all: what vislab keeps instead",
        "forecast": f"{_amount(facts['forecast'], 'B')} beside the weights, {_amount(facts['free'], 'B')} free{fits}",
    }


def _amount(value: float, unit: str) -> str:
    """A number with three digits and the prefix that suits it."""
    prefixes = ["", "k", "M", "G", "T", "P", "E"]
    while float(f"{value:.3g}") >= 1000 and len(prefixes) > 1:
        value /= 1000
        prefixes.pop(0)
    return f"{value:.3g} {prefixes[0]}{unit}"


def _print_table(rows: Mapping[str, str]) -> None:
    wide = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:{wide}}  {text}")


# ---- vislab models ----


def _models(args: argparse.Namespace) -> int:
    from . import models

    print("Embedded, needs no network:")
    _print_table({f"  {name}": _introduced(models.load(name, device="cpu")) for name in models.EMBEDDED})
    print("\nKnown to work, downloaded when first used:")
    _print_table({f"  {name}": words for name, words in models.KNOWN.items()})
    print("\nAny other model of these families works by its name on the hub, timm/NAME and torchvision/NAME included,")
    print("and any folder with its config.json and model.safetensors. What cannot be read exactly is refused by name.")
    return 0


def _introduced(model: Model) -> str:
    height, width = model.preprocessing.size
    size = f"{model.layers} layers, patches of {model.patch[0]} px, input {height}×{width} px"
    return f"{size}, {len(model.labels)} classes: {', '.join(model.labels)}" if model.labels else size
