"""Thousands of photographs asked the same, into one table and, where wanted, a picture each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.checks import check_flags, check_options, shown, whole
from ..core.files import check_folder
from ..figures.panel import OPTIONS
from ..models.known import READER
from .answers import Answers
from .figures import Figures
from .parts import Parts
from .photos import PARQUET, Photo, photos_of
from .shards import Question, Told, done_of


@dataclass(frozen=True)
class Tally:
    """What became of many photographs. made, kept: how many were done now, and had been before.

    failed: photograph -> why it could not be read or shown. table: the folder of part files, one Parquet table to
    pandas, pyarrow, DuckDB or Spark.
    """

    made: int
    kept: int
    failed: Mapping[str, str] = field(default_factory=dict)
    table: Path = Path()

    def __str__(self) -> str:
        wide = max(map(len, self.failed), default=0)
        said = f"{self.made} made, {self.kept} were there already, {len(self.failed)} failed: {self.table}"
        return "\n".join([said, *(f"{photo:{wide}}  {why}" for photo, why in self.failed.items())])

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows of the table, by the names of columns, by default of all."""
        yield from Parts(self.table, {}).rows(columns)


def many(
    photos: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str],
    question: str | None = None,
    pictures: str | os.PathLike[str] | None = None,
    ray: str | None = None,
    actors: int | None = None,
    model: str | os.PathLike[str] | None = None,
    device: str | None = None,
    dtype: str | None = "float32",
    look: Mapping[str, Any] | None = None,
    plain: bool = False,
    progress: bool = True,
    **asked: Any,
) -> Tally:
    """Explain each of many photographs, or ask all the same question, into one Parquet table -> what became of them.

    photos: a folder, a pattern, an address, a Parquet file (a column image, bytes or data holds pictures, or a column
    path their paths), or a list of these. out: the table's folder, "maps.parquet": a row a photograph with its
    values (rows × cols, row by row), grid, frame (source, model, scale and offset, each (y, x)), predictions and
    statistics; or, of a question, with answer, words and image_share. pictures: "figures/{name}.png", or None for none;
    drawn by look, the keywords of `panel`, or plain, as of `save`. asked: keywords of `explain`; of a question those of
    `ask` (answer, tokens), and for its pictures method, layer and head. model: a name or a folder, which each process
    loads.

    ray: None for this process; "local" for a Ray cluster of this machine, "auto" or an address for one that runs
    (`pip install 'vislab[ray]'`); it stays connected until the process ends. actors: its processes, each with the
    model. The numbers are the same to the bit, as long as torch runs in as many threads. Each photograph has one row,
    whichever process is killed; what an earlier call with the same settings did is not done again; a photograph that
    cannot be read is told in `failed`.

        tally = vislab.many(["photo.jpg", "street.jpg"], out="maps.parquet", method="cls")
        print(tally)
        vislab.many("photos/", out="all.parquet", ray="local", actors=2)  # needs ray

    ValueError: an unknown setting. OSError: what cannot be written, such as on a full disk: what is done stays, and the
    same call goes on. ImportError: without pyarrow or Ray. ConnectionError: no cluster at that address.
    """
    check_flags(plain=plain, progress=progress)
    if actors is not None and (not whole(actors) or actors < 1):
        raise ValueError(f"actors is a whole number above 0, or None for one a core, not {shown(actors)}")
    if ray is not None and not isinstance(ray, str):
        raise ValueError(f"ray is None, 'local', 'auto' or a cluster's address, not {shown(ray)}")
    if model is not None and not isinstance(model, str | os.PathLike):
        raise ValueError(
            f"of many photographs model is a name or a folder, which each process loads, not {type(model).__name__}"
        )
    given = [photos] if isinstance(photos, str | os.PathLike) else photos
    found = photos_of(os.fspath(one) for one in given)
    name = None if model is None else os.fspath(model)
    check_options("look", look or {}, OPTIONS)
    _check_written(asked)
    common: dict[str, Any] = {"device": device, "dtype": dtype}
    reading = {part: asked.pop(part) for part in ("bands", "stretch") if asked.get(part) is not None}
    work: Question
    if question is None:
        work = Figures(name or "embedded", **common, asked=asked, reading=reading, look=look or {}, plain=plain)
    else:
        check_options("vislab.many of a question", asked, ("answer", "tokens", "method", "layer", "head"))
        how: dict[str, Any] = {part: asked.pop(part) for part in ("layer", "head") if part in asked}
        work = Answers(question, name or READER, **common, how=how, reading=reading, **asked)
    return run_many(work, placed(found, pictures), Path(out), ray=ray, actors=actors, progress=progress)


def placed(photos: Sequence[Photo], pictures: str | os.PathLike[str] | None) -> dict[Photo, Path | None]:
    """Where each photograph's picture goes. ValueError where two would go to one file."""
    if pictures is None:
        return dict.fromkeys(photos)
    pattern = os.path.expanduser(os.fspath(pictures))
    paths = {photo: Path(pattern.replace("{name}", photo.name)) for photo in photos}
    if len({*paths.values()}) < len(paths):
        raise ValueError(
            f"pictures={pattern!r} would give two photographs one file: put {{name}} into it, and give photographs "
            "whose names differ"
        )
    return dict(paths)


def run_many(
    work: Question,
    pictures: Mapping[Photo, Path | None],
    table: Path,
    *,
    ray: str | None,
    actors: int | None,
    progress: bool,
    tell: Any = None,
) -> Tally:
    """tell: called with what became of each photograph, as soon as it is known."""
    from tqdm import tqdm

    table = table.expanduser()
    if table.suffix.lower() != PARQUET:
        raise ValueError(f"out is a table, such as 'maps.parquet', not {str(table)!r}")
    if table.is_file():
        raise ValueError(f"{str(table)!r} is a file, and vislab writes a folder of part files: take another name")
    if not table.is_dir():
        check_folder(table)
    all_told = done_of(work, pictures, table, ray=ray, actors=actors)
    made = kept = 0
    failed: dict[str, str] = {}
    one: Told
    for one in tqdm(all_told, total=len(pictures), unit="photo", disable=not progress, leave=False):
        made += one.job is not None and not one.kept
        kept += one.kept
        if one.error is not None:
            failed[one.photo.source] = one.error
        if tell is not None:
            tell(one)
    return Tally(made, kept, failed, table)


def _check_written(asked: Mapping[str, Any]) -> None:
    """ValueError for what cannot be written down, so that a later call would not know whether it is the same."""
    for name, value in asked.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name}={shown(value)} cannot be written down, and of many photographs the table says how each was "
                "made: give names and numbers"
            ) from error
