"""vislab figure: a photo, or thousands of them, each into a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.files import figure_stem
from ..figures.pool import Pool, cores
from ..methods.registry import METHODS, options
from ..methods.request import DEFAULTS
from ..spread.errors import PhotoError
from ..spread.photos import Photo, photos_of
from .arguments import (
    UsageError,
    bands,
    cell,
    csv_path,
    index_or,
    report,
    scale,
    share,
    sizes,
    stretch,
    whole,
    whole_or_none,
)
from .asking import Asker, beside_of, check_plain, warnings_told
from .batch import Batch
from .boxes import BoxAsker, box_arguments, is_box
from .clip import clip_among, clip_arguments, run_clip
from .look import beside_argument, check_look, look_arguments
from .photos import COLUMNS_TOLD, destinations, photos_argument, sweep, write_table
from .spread import check_spread, is_spread, places, run_spread, spread_arguments
from .wording import in_options

MANY = 20  # photos from which on progress is shown in a log too
MOST = 8  # processes that draw, where nobody says how many: more than one model keeps busy
FIGURE_EPILOG = f"""\
examples:
  vislab figure photo.jpg --method rollout
  vislab figure photo.jpg --out figure.pdf
  vislab figure photo.jpg --method cls --layer 11 --head 2 --out head.png
  vislab figure photo.jpg --method attention --layer mean --patch 4,9 --out patch.png
  vislab figure photo.jpg --method relevance --target church --out church.pdf
  vislab figure photo.jpg --model openai/clip-vit-base-patch16 --method legrad --target "a red door" --out door.pdf
  vislab figure photo.jpg --patch-size 8 --attention-scale 0:0.5,11:2 --out values.npz
  vislab figure photo.jpg --keep 0.5 --out kept.png
  vislab figure photo.jpg --fovea 120,40,360,300 --out fovea.png
  vislab figure photo.jpg --fovea box --fovea-patches 16,32 --out found.png
  vislab figure photo.jpg --scales 224,336,448 --out scales.png
  vislab figure 'photos/*.jpg' --model facebook/dinov2-small --image-size 336x448 --out figures/
  vislab figure photos/ --out figures/ --width column --beside npz --csv table.csv
  vislab figure photos/ --out overlays/ --plain --workers 4
  vislab figure photos/ --out figures/ --ray
  vislab figure photos.parquet --out maps.parquet --ray auto --actors 64
  vislab figure photo.jpg --box 0 --out box.pdf
  vislab figure photo.jpg --detector yolo12n.pt --box 1 --method grad_cam --out score.png
  vislab figure scan.tif --bands 3,2,1 --stretch percentile --out scan.png
  vislab figure clip.mp4 --every 5 --out sheet.pdf
  vislab figure clip.mp4 --out clip-maps.mp4

columns of --csv:
  {COLUMNS_TOLD}

The paths go to standard output. A photo that cannot be read is named on standard error and passed over; the exit status
is then 1. What an earlier call with the same settings has finished, even one that was interrupted, is not done again.
"""


_OPTION_TYPES: dict[str, Any] = {"share": share, "index": int, "count": whole}


def figure_arguments(parser: argparse.ArgumentParser) -> None:
    photos_argument(parser)
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="file to write: .png, .jpg, .pdf, .svg, or .npz for the values; for several photos a folder (of PNGs), "
        "or a path with {name}, which becomes each photo's name; {method} becomes the method's; of a clip .mp4 too "
        "(default: {name}-{method}.png here, of one photo)",
    )
    group = parser.add_argument_group("picture")
    group.add_argument(
        "--bands", type=bands, metavar="R,G,B|N", help="bands of a TIFF that are shown, counted from 1, such as 3,2,1"
    )
    group.add_argument(
        "--stretch",
        type=stretch,
        metavar="percentile|LOW,HIGH",
        help="what is black and what is white: 2 %% and 98 %% of each band, or values as stored (--stretch=-5,40 where "
        "one is below 0; default: the full range of their type)",
    )
    clip_arguments(parser)
    group = parser.add_argument_group("attention")
    usual = DEFAULTS["method"]
    group.add_argument("--method", type=_method, choices=list(METHODS), help=f"(default: {usual})")
    group.add_argument(
        "--layer",
        type=index_or("mean"),
        default=-1,
        metavar="N|mean",
        help="layer, counted from 0, -1 the last (default: -1); of rollout the last one that it goes through",
    )
    group.add_argument(
        "--head",
        type=index_or("mean", "max", "min"),
        default="mean",
        metavar="N|mean|max|min",
        help="one head, or how they are fused (default: mean)",
    )
    group.add_argument(
        "--target",
        metavar="CLASS|TEXT",
        help="what a method for one class explains, by name or index (default: predicted); of CLIP and its kin a text",
    )
    group.add_argument(
        "--patch", type=cell, metavar="ROW,COL", help="attending patch, counted from 0,0 (default: CLS attends)"
    )
    group.add_argument(
        "--attention-scale",
        type=scale,
        default=1.0,
        metavar="S|LAYER:S,…",
        help="factor of q·k, of all layers or of some; 1 is the trained model (default: 1)",
    )
    group.add_argument(
        "--scales", type=sizes, metavar="N|HxW,…", help="several sizes of the model's input, whose maps become one"
    )
    group = parser.add_argument_group("of one method")
    for option, takers in options().items():
        group.add_argument(
            f"--{option.name}",
            type=_OPTION_TYPES[option.kind],
            metavar="X" if option.kind == "share" else "N",
            help=f"{option.words}, of {' and '.join(takers)} "
            + ("" if option.default is None else f" (default: {option.default:g})"),
        )
    look_arguments(parser)["display"].add_argument(
        "--plain", action="store_true", help="the photo at its own size under its map, without a page: .png or .jpg"
    )
    group = parser.add_argument_group("files")
    beside_argument(group)
    group.add_argument(
        "--workers",
        type=whole_or_none,
        metavar="N",
        help=f"processes that draw while the model runs, 0 for none (default: one a core, up to {MOST}; none for .npz)",
    )
    group.add_argument(
        "--csv", type=csv_path, metavar="PATH", help="a table of all photos, whose columns are explained below"
    )
    spread_arguments(parser)
    box_arguments(parser)


def _method(text: str) -> str:
    if "," in text:
        raise argparse.ArgumentTypeError(f"takes one method, not {text!r}: in Python vislab.panel([…]) shows several")
    return text


def run_figure(args: argparse.Namespace) -> int:
    of_box = is_box(args)
    asker, photos = (BoxAsker if of_box else Asker)(args), photos_of(args.photos)
    args.out = _out_of(args, photos, f"box-{args.box or 0}" if of_box else "")
    check_look(args)
    check_spread(args)
    with warnings_told(args):
        if is_spread(args):
            return _run_spread(asker, photos)
        if clip := clip_among(photos, args):
            return run_clip(asker, clip)
        return _run_photos(asker, destinations(args.out, photos))


def _out_of(args: argparse.Namespace, photos: Sequence[Photo], box: str) -> str:
    """--out with the method's name where it asks for it; of one photo, where there is no --out, a file beside us.

    box: which one is asked about, or "".
    """
    asked = [one for one in (box, args.method) if one]
    if args.out is not None:
        return str(args.out).replace("{method}", "-".join(asked))
    if len(photos) > 1 or not photos[0].named:
        raise UsageError("where do the figures of a folder or of several photos go? Give --out a folder, such as maps/")
    return f"{figure_stem(photos[0].name, *asked)}.png"


def _run_photos(asker: Asker, paths: Mapping[Photo, Path]) -> int:
    from ..core.files import check_folder

    args = asker.args
    listed = Path(args.csv).expanduser() if args.csv else None
    if listed:
        check_folder(listed)  # before hours of work, not after
    check_plain(args, paths.values())
    sweep([one for path in paths.values() for one in (path, *beside_of(path, args))])
    rows: list[Mapping[str, Any]] = []
    with Pool(
        workers_of(args, paths.values())
    ) as pool:  # they begin to import what draws before torch is imported here
        batch = Batch(asker, pool)
        try:
            _tell(batch, paths, rows)
        finally:
            pool.close()
            rows += [{"photo": one.photo.source} | one.told() for one in batch.waiting if one.written]
            if listed and rows:
                write_table(listed, rows)
    return 1 if any("error" in row for row in rows) else 0


def _run_spread(asker: Asker, photos: Sequence[Photo]) -> int:
    from ..core.files import check_folder
    from ..spread.table import COLUMNS

    args = asker.args
    if args.workers is not None:
        raise UsageError("--workers draw beside one model, and a cluster or a table has none of them: take --actors")
    pictures, place = places(args.out, photos, "heatmaps.parquet")
    paths = [path for path in pictures.values() if path is not None]
    check_plain(args, paths)
    for path in paths:
        beside_of(path, args)
    listed = Path(args.csv).expanduser() if args.csv else None
    if listed:
        check_folder(listed)
    rows = run_spread(asker.figures, args, pictures, place)
    if listed:
        write_table(listed, [{name: row[name] for name in COLUMNS if name in row} for row in rows.values()])
    return int(any("error" in row for row in rows.values()))


def workers_of(args: argparse.Namespace, paths: Iterable[Path]) -> int:
    """How many processes draw, where that is left to vislab: one a core and no more than there are figures to draw.

    0 where values alone are written: to send a photograph to another process takes as long as to write them.
    """
    if args.workers is not None:
        return int(args.workers)
    missing = [path.suffix.lower() for path in paths if not path.exists()]
    return 0 if missing and {*missing} == {".npz"} else max(1, min(cores(), len(missing), MOST))


def _tell(batch: Batch, paths: Mapping[Photo, Path], rows: list[Mapping[str, Any]]) -> None:
    """Tell of each photo where its figure went, or what was wrong. rows: of the table, one is added for each."""
    from tqdm import tqdm

    args = batch.args
    hidden = len(paths) == 1 or not (sys.stderr.isatty() or len(paths) >= MANY)
    bar = tqdm(batch.figures(paths), total=len(paths), unit="photo", file=sys.stderr, disable=hidden, leave=False)
    for figure in bar:
        row: dict[str, Any] = {"photo": figure.photo.source}
        try:
            row |= figure.told()
        except PhotoError as error:
            row["error"] = " ".join(str(error).split())
            with tqdm.external_write_mode():
                report(in_options(str(error), args.options), args.debug)
        else:
            with tqdm.external_write_mode():
                print(figure.path, flush=True)
        rows.append(row)
    if not hidden:
        failed = sum("error" in row for row in rows)
        drawn = len(rows) - failed - batch.kept
        print(f"vislab: {drawn} drawn, {batch.kept} were there already, {failed} failed", file=sys.stderr)
