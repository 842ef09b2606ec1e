"""Many photos of one command, by the processes of a Ray cluster or into a table of Parquet."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..spread.photos import PARQUET, Photo
from .arguments import UsageError, report, whole
from .photos import destinations, sweep
from .wording import in_options

LOCAL = "local"


def spread_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a cluster, the same for each command that takes many photos."""
    group = parser.add_argument_group("cluster")
    group.add_argument(
        "--ray",
        nargs="?",
        const=LOCAL,
        metavar="ADDRESS",
        help="spread the photos over a Ray cluster: one of this machine (no ADDRESS, given last), auto for one that "
        "runs, or its address; takes the extra [ray]",
    )
    group.add_argument(
        "--actors", type=whole, metavar="N", help="its processes, each with the model (default: one a core)"
    )


def check_spread(args: argparse.Namespace) -> None:
    """UsageError for options of a cluster without one."""
    if args.actors is not None and args.ray is None:
        raise UsageError("--actors are processes of a cluster: give --ray too, or leave them out")


def is_spread(args: argparse.Namespace) -> bool:
    """Whether photos go through a cluster, or into a table."""
    return args.ray is not None or str(args.out or "").lower().endswith(PARQUET)


def places(out: str, photos: Sequence[Photo], table: str) -> tuple[Mapping[Photo, Path | None], Path]:
    """Where each picture goes, and the table, which stands beside them where --out names pictures."""
    if out.lower().endswith(PARQUET):
        return dict.fromkeys(photos), Path(out).expanduser()
    pictures = destinations(out, photos)
    path = Path(out).expanduser()
    folder = path if out.endswith(("/", os.sep)) or path.is_dir() or not path.suffix else path.parent
    while "{name}" in str(folder):
        folder = folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    return dict(pictures), folder / table


def run_spread(
    work: Any, args: argparse.Namespace, pictures: Mapping[Photo, Path | None], table: Path
) -> dict[str, dict[str, Any]]:
    """Have it done, and tell of each photo -> photo -> its row, or its error."""
    from ..spread.many import run_many
    from ..spread.shards import Told

    beside = [path.with_suffix(f".{suffix}") for path in pictures.values() if path for suffix in work.beside]
    sweep([*filter(None, pictures.values()), *beside])

    def tell(one: Told) -> None:
        from tqdm import tqdm

        with tqdm.external_write_mode():
            if one.error is not None:
                report(in_options(one.error, args.options), args.debug)
            else:
                print(pictures[one.photo] or one.photo.source, flush=True)

    tally = run_many(work, pictures, table, ray=args.ray, actors=args.actors, progress=sys.stderr.isatty(), tell=tell)
    print(f"vislab: {str(tally).splitlines()[0]}", file=sys.stderr)
    columns = [name for name in ("photo", *work.columns) if name not in ("values", "dropped", "frame")]
    made = {row["photo"]: row for row in tally.rows(columns)}
    found: dict[str, dict[str, Any]] = {}
    for photo, path in pictures.items():
        wrong = tally.failed.get(photo.source)
        row = {"error": wrong} if wrong else {**made[photo.source], "figure": path and str(path)}
        found[photo.source] = {"photo": photo.source, **row}
    return found
