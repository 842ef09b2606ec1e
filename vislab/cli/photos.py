"""Which photos a command line names, and the file that each of them goes into."""

from __future__ import annotations

import argparse
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .arguments import UsageError


@dataclass(frozen=True)
class Photo:
    """source: a file or address; name: what {name} becomes.

    named: whether the command line names the photo itself, not a folder or pattern that it was found by.
    """

    source: str
    name: str
    named: bool = True


def photos_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="image file, folder of them, http(s) address, or pattern such as 'photos/*.jpg'",
    )


def photos_of(words: Sequence[str]) -> list[Photo]:
    """The photos given by name, by pattern, or by a folder that holds them, in its subfolders too.

    Figures that an earlier call left among them are no photos. A pattern that matches no photo is kept as a
    file name, so that opening it reports a missing file.
    """
    photos: list[Photo] = []
    for text in words:
        path = os.path.expanduser(text)
        is_pattern = "://" not in text and glob.has_magic(path) and not os.path.exists(path)
        files = sorted(p for p in glob.glob(path, recursive=True) if not os.path.isdir(p)) if is_pattern else []
        matches = [p for p in files if not is_figure(Path(p))]
        if "://" not in text and os.path.isdir(path):
            photos += _held(text, Path(path))
        else:
            photos += [Photo(one, _stem(one), named=not matches) for one in matches or [text]]
    by_source: dict[str, Photo] = {}
    for photo in photos:
        by_source.setdefault(photo.source, photo)
    return list(by_source.values())


def _held(text: str, folder: Path) -> Iterator[Photo]:
    """The pictures in a folder; their names keep its subfolders."""
    from ..core.images import SUFFIXES

    pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    inside = {path: path.relative_to(folder) for path in pictures}
    shown = [path for path, name in inside.items() if not _is_hidden(name) and not is_figure(path)]
    if not shown:
        raise FileNotFoundError(f"the folder {text!r} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    for path in shown:
        yield Photo(str(path), inside[path].with_suffix("").as_posix(), named=False)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


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


def is_figure(path: Path) -> bool:
    """Whether vislab wrote a file: its record is inside."""
    from ..figures.provenance import provenance

    try:
        provenance(path)
    except (OSError, ValueError):
        return False
    return True


def _place(path: str | Path) -> str:
    return os.path.realpath(os.path.expanduser(path))


def _stem(photo: str) -> str:
    return Path(unquote(urlsplit(photo).path) if "://" in photo else photo).stem or "photo"
