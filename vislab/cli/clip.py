"""vislab figure of a clip: a sheet of its frames' maps, or an mp4 with the maps over the frames."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..spread.photos import Photo
from .arguments import UsageError, report, whole
from .asking import Asker, beside_of
from .boxes import is_box
from .look import look_of
from .photos import destinations, sweep

if TYPE_CHECKING:
    from ..core.clip import ClipFrame
    from ..core.heatmap import Heatmap

SHEET = 60  # pictures that are still to be seen on one page


def clip_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "clip", "Of one .mp4, .mov, .avi, .mkv, .webm, …: a sheet of its frames' maps, or, with --out …mp4, a film."
    )
    group.add_argument("--every", type=whole, metavar="N", help="take each Nth frame (default: 1, all of them)")
    group.add_argument(
        "--normalise",
        choices=("shared", "map"),
        help="the frames' colours: one range for all, or each map its own (default: shared)",
    )


def clip_among(photos: Sequence[Photo], args: argparse.Namespace) -> Photo | None:
    """The clip that the command line names, if it names one; UsageError for what does not go with it, or without."""
    from ..core.clip import SUFFIXES
    from ..figures.formats import FORMATS

    clips = [photo for photo in photos if Path(photo.source).suffix.lower() in SUFFIXES]
    if not clips:
        given = next((name for name in ("every", "normalise") if getattr(args, name) is not None), None)
        if given:
            raise UsageError(
                f"--{given} is of a clip, and {photos[0].source!r} is none ({', '.join(sorted(SUFFIXES))})"
            )
        if args.out.lower().endswith(".mp4"):
            raise UsageError(f"--out {args.out!r} is of a clip: photos become {', '.join(FORMATS)}")
        return None
    clip = clips[0]
    if len(photos) > 1:
        raise UsageError(f"{clip.source!r} is a clip, and {len(photos)} files are named: give one clip, alone")
    if "://" in clip.source:
        raise UsageError(f"{clip.source!r} is a clip at an address: download it, and give the path of its file")
    if is_box(args):
        raise UsageError(f"--box is of photos, and {clip.source!r} is a clip: leave it out, or give one of its frames")
    if args.plain:
        raise UsageError(f"--plain is of photos, and {clip.source!r} is a clip: leave it out")
    for name, instead in (
        ("csv", "--beside npz holds the values of its maps"),
        ("bands", "its frames have red, green and blue"),
        ("stretch", "its frames have 8 bits"),
    ):
        if getattr(args, name) is not None:
            raise UsageError(f"--{name} is of photos, and {clip.source!r} is a clip: leave it out, {instead}")
    return clip


def run_clip(asker: Asker, clip: Photo) -> int:
    from ..core.clip import frame_count

    # What ffmpeg logs inside OpenCV is said in vislab's own words.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    args, film = asker.args, Path(asker.args.out).suffix.lower() == ".mp4"
    path = destinations(args.out, [clip], ".mp4")[clip]
    others = beside_of(path, args)
    if film and (args.transparent or "tex" in args.beside):
        wrong = "--transparent" if args.transparent else "--beside tex"
        raise UsageError(f"{wrong} is of figures on paper, and --out {args.out!r} is a film: leave it out")
    every, announced = args.every or 1, frame_count(clip.source)
    if not film and announced and announced > SHEET * every:
        raise UsageError(_too_many(clip, -(-announced // every), -(-announced // SHEET)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep([path, *others])
    heats: list[Heatmap] = []
    for some in _groups(asker, clip, _watched(clip, every, announced, "frame")):
        if not film and len(heats) + len(some) > SHEET:  # more than the file announced
            raise UsageError(_too_many(clip, f"more than {SHEET}", 2 * every))
        made = asker.explained_clip(some) if asker.model().clip else [asker.explained(clip.source, f) for f in some]
        heats += [replace(heat, image=None) if film else heat for heat in made]
    if film:
        _write_film(path, heats, clip, args)
    else:
        _write_sheet(path, heats, args)
    print(path, flush=True)
    return 0


def _groups(asker: Asker, clip: Photo, frames: Iterator[ClipFrame]) -> Iterator[list[ClipFrame]]:
    """The frames that the model sees at once: one, or as many as a model of clips takes; those left over are told."""
    sheet = asker.model().clip
    count = 1 if sheet is None else sheet.frames
    seen = 0
    while len(some := list(islice(frames, count))) == count:
        seen += count
        yield some
    if some and not seen:
        raise UsageError(
            f"{asker.args.model} takes clips of {count} frames, and {clip.source!r} has {len(some)} at "
            f"--every {asker.args.every or 1}: take a smaller one, or a longer clip"
        )
    if some:
        report(f"the last {len(some)} frames are left out: {asker.args.model} takes {count} at once", asker.args.debug)


def _too_many(clip: Photo, count: int | str, every: int) -> str:
    return (
        f"{count} frames of {clip.source!r} are too many for one sheet, which holds {SHEET}: take --every {every}, or "
        "a film, --out clip-maps.mp4"
    )


def _write_sheet(path: Path, heats: Sequence[Heatmap], args: argparse.Namespace) -> None:
    from ..figures.panel import panel
    from ..figures.save import write_all

    write_all(path, panel(heats, normalise=args.normalise or "shared", **look_of(args)), beside=args.beside)


def _write_film(path: Path, heats: Sequence[Heatmap], clip: Photo, args: argparse.Namespace) -> None:
    """The clip is read once more, so that no more than one frame is in memory though all share one range."""
    from ..core.files import write
    from ..figures.film import pages, write_film
    from ..figures.formats import numbers

    every = args.every or 1
    normalise: Literal["map", "shared"] = args.normalise or "shared"
    images = (frame.image for frame in islice(_watched(clip, every, len(heats) * every, "page"), len(heats)))
    record = write_film(path, pages(heats, images, normalise=normalise, **look_of(args)), _rate(heats))
    if "json" in args.beside:
        write(path.with_suffix(".json"), (json.dumps(record, ensure_ascii=False, indent=2) + "\n").encode())
    if "npz" in args.beside:
        write(path.with_suffix(".npz"), numbers(heats, record))


def _rate(heats: Sequence[Heatmap]) -> float:
    """Pages a second, at which the film takes as long as the clip."""
    times = [heat.facts["clip"]["second"] for heat in heats]
    took = times[-1] - times[0]
    return (len(times) - 1) / took if took > 0 else 1.0


def _watched(clip: Photo, every: int, announced: int | None, unit: str) -> Iterator[ClipFrame]:
    """The frames, with a bar on a terminal that tells how many are done."""
    from tqdm import tqdm

    from ..core.clip import frames

    some: Any = tqdm(
        frames(clip.source, every=every),
        total=announced and -(-announced // every),
        unit=unit,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        leave=False,
    )
    yield from some
