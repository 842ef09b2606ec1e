"""Which photos a command line names, and the file that each of them goes into."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..spread.photos import Photo
from ..spread.table import COLUMN_WORDS
from .arguments import UsageError, report

COLUMNS_TOLD = "\n  ".join(f"{names}: {words}" for names, words in COLUMN_WORDS.items())


def photos_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="image file, folder of them, http(s) address, or pattern such as 'photos/*.jpg'",
    )


def destinations(out: str, photos: Sequence[Photo], *more: str) -> dict[Photo, Path]:
    """Where each photo's figure goes, no two to the same path and none over a photo. more: suffixes beside figures'."""
    pattern = _pattern(out, photos, more)
    paths = {photo: Path(pattern.replace("{name}", photo.name)) for photo in photos}
    spare((photo.source for photo in photos), paths.values(), f"--out {out!r}")
    taken: dict[str, Photo] = {}
    for photo, path in paths.items():
        other = taken.setdefault(_place(path), photo)
        if other is not photo:
            raise UsageError(
                f"{other.source!r} and {photo.source!r} would both become {str(path)!r}: draw each into a folder of "
                "its own"
            )
    return paths


def spare(photos: Iterable[str], paths: Iterable[str | Path], option: str) -> None:
    """UsageError where a path to be written, of an option, is that of a photo."""
    places = {_place(photo) for photo in photos if "://" not in photo}
    for path in paths:
        if _place(path) in places:
            raise UsageError(f"{option} would overwrite the photo {str(path)!r}: take another name or folder")


def _pattern(out: str, photos: Sequence[Photo], more: Sequence[str]) -> str:
    """The path of --out with {name} in it where a folder, or several photos, ask for it."""
    from ..core.files import check_folder
    from ..figures.formats import FORMATS

    path, several = Path(out).expanduser(), len(photos) > 1 or any(not photo.named for photo in photos)
    if path.is_dir() or out.endswith(("/", os.sep)) or (several and not path.suffix):
        path /= "{name}.png"
    if path.suffix.lower() not in (*FORMATS, *more):
        suffixes = ", ".join((*FORMATS, *more))
        raise UsageError(f"--out {out!r} has none of the suffixes {suffixes}; for a folder end it with /")
    if "{name}" not in str(path):
        if len(photos) > 1:
            raise UsageError(
                f"{len(photos)} photos do not go into one file {out!r}: give --out a folder, or a path with {{name}}"
            )
        check_folder(path)
    return str(path)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The table of photos, and under it, on standard error, what is not plain of its columns."""
    from ..core.files import write
    from ..spread.table import table

    write(path, table(rows))
    told = "; ".join(f"{names}: {COLUMN_WORDS[names]}" for names in ("entropy", "top_tenth", "peak_x, peak_y"))
    report(f"{path}: {told} (--help tells all)", debug=False)


def sweep(paths: Sequence[Path]) -> None:
    """Remove what processes that were killed left half written of these files."""
    names = {(path.parent, path.name) for path in paths}
    for folder in {path.parent for path in paths}:
        for part in folder.glob(".*.part"):
            ours = re.fullmatch(r"\.(.+)\.(\d+)\.part", part.name)
            if ours and (folder, ours[1]) in names and not _runs(int(ours[2])):
                part.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))


def _place(path: str | Path) -> str:
    return os.path.realpath(os.path.expanduser(path))
