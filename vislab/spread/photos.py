"""Photographs by the names that they are given by: files, folders, patterns, addresses, and rows of Parquet."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ..core.imports import library

if TYPE_CHECKING:
    import numpy as np

PARQUET = ".parquet"
NAMES = ("name", "file_name", "filename", "path", "photo")  # columns of a name, the first that is there
PICTURES = ("image", "bytes", "data", "path", "photo")  # columns of a picture: a file's bytes, or its path


@dataclass(frozen=True)
class Photo:
    """source: a file or address; name: what {name} becomes.

    named: whether the command line names the photo itself, not a folder or pattern that it was found by. row: (row
    group, row in it) of a Parquet file that holds the picture, or None.
    """

    source: str
    name: str
    named: bool = True
    row: tuple[int, int] | None = None

    @property
    def away(self) -> bool:
        """Whether it is an address."""
        return "://" in self.source

    def contents(self) -> bytes:
        """The bytes of its file. OSError where it cannot be read."""
        if self.row is not None:
            return _bytes_in(self.source.rpartition("#")[0], *self.row)
        return Path(self.source).expanduser().read_bytes()

    def image(self, **reading: Any) -> np.ndarray:
        """As `load_image` reads it, with its errors; in them a row of Parquet goes by its source."""
        from ..core.images import load_image

        if self.row is None:
            return load_image(self.source, **reading)
        try:
            return load_image(self.contents(), **reading)
        except ValueError as error:
            raise ValueError(f"{self.source!r}: {error}") from error


def photos_of(words: Iterable[str]) -> list[Photo]:
    """The photos given by name, by pattern, by a folder that holds them, in its subfolders too, or by Parquet files.

    Figures that an earlier call left among them are no photos. A pattern that matches no photo is kept as a
    file name, so that opening it reports a missing file.
    """
    photos: list[Photo] = []
    for text in words:
        path = os.path.expanduser(text)
        is_pattern = "://" not in text and glob.has_magic(path) and not os.path.exists(path)
        files = sorted(p for p in glob.glob(path, recursive=True) if not os.path.isdir(p)) if is_pattern else []
        matches = [p for p in files if not is_figure(Path(p))]
        if path.endswith(PARQUET) and os.path.exists(path):
            photos += _rows(Path(path))
        elif "://" not in text and os.path.isdir(path):
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


def is_figure(path: Path) -> bool:
    """Whether vislab wrote a file: its record is inside."""
    from ..figures.provenance import provenance

    try:
        provenance(path)
    except (OSError, ValueError):
        return False
    return True


def _stem(photo: str) -> str:
    return Path(unquote(urlsplit(photo).path) if "://" in photo else photo).stem or "photo"


def _rows(path: Path) -> Iterator[Photo]:
    """The pictures of a Parquet file, or of a folder of them, of which only the names are read here."""
    files = sorted(path.glob(f"*{PARQUET}")) if path.is_dir() else [path]
    for file in files:
        table = _opened(str(file))
        picture, inside = _picture_column(table, str(file))
        names = next((one for one in NAMES if one in table.schema_arrow.names), f"{picture}.path" if inside else None)
        is_path = picture in ("path", "photo")
        number = 0
        for group in range(table.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            told = _texts(table.read_row_group(group, [names])) if names else [None] * count
            for row, text in enumerate(told):
                if is_path:
                    yield Photo(str(text), _stem(str(text)), named=False)
                else:
                    name = _name_of(text) or f"{file.stem}-{number:07d}"
                    yield Photo(f"{file}#{number}", name, named=False, row=(group, row))
                number += 1


def _texts(table: Any) -> list[str | None]:
    """The one column of texts, in a structure where it lies in one."""
    return [next(iter(one.values())) if isinstance(one, dict) else one for one in table.column(0).to_pylist()]


def _name_of(text: str | None) -> str:
    """A name of a file without its suffix, whose folders stay beneath the one that figures go to."""
    path = Path(str(text or "")).with_suffix("") if text else Path()
    return Path(*(part for part in path.parts if part not in (path.anchor, ".", ".."))).as_posix().strip(".")


def _opened(path: str) -> Any:
    parquet = library("pyarrow.parquet")
    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path!r} is no Parquet file that can be read ({error}): check it") from error


def _picture_column(table: Any, path: str) -> tuple[str, bool]:
    """Its name, and whether bytes lie in a structure, as datasets of the hub hold them."""
    schema = table.schema_arrow
    column = next((one for one in PICTURES if one in schema.names), None)
    if column is None:
        raise ValueError(
            f"{path!r} has no column of pictures ({', '.join(PICTURES)}): it has {', '.join(schema.names) or 'none'}"
        )
    inside = schema.field(column).type.num_fields > 0
    return column, inside


@lru_cache(maxsize=2)
def _group(path: str, group: int, state: tuple[int, ...]) -> list[Any]:
    """The pictures of a row group, which are read together. state: what tells that the file is still the same."""
    table = _opened(path)
    column, inside = _picture_column(table, path)
    cells: list[Any] = table.read_row_group(group, [column]).column(0).to_pylist()
    return [cell and cell.get("bytes") for cell in cells] if inside else cells


def _bytes_in(path: str, group: int, row: int) -> bytes:
    there = os.stat(path)
    cell = _group(path, group, (there.st_ino, there.st_size, there.st_mtime_ns))[row]
    if not isinstance(cell, bytes):
        raise ValueError(f"row {row} of row group {group} of {path!r} holds no bytes of a picture, but {cell!r}")
    return cell
