"""Photographs in shards, each of them done once: what an earlier run, or a process that was killed, made is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..core.fingerprints import of_bytes, of_image
from ..core.imports import library
from .cluster import spread
from .errors import PhotoError, photo_errors
from .parts import TRYING, Parts
from .photos import Photo
from .table import done, job_of

SHARD = 16  # photographs that a process does at a time, whose rows become one part
TRIES = 3  # a photograph at which so many processes were ended is given up, and the others go on


class Question(Protocol):
    """What is asked of each photograph; it goes to other processes, and what it loads stays in each of them."""

    @property
    def device(self) -> str | None:
        """As `load` takes it."""
        ...

    @property
    def columns(self) -> Mapping[str, str]:
        """Of its rows, besides those of every table, with their types."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides a row, besides the photograph and the weights."""
        ...

    @property
    def reading(self) -> Mapping[str, Any]:
        """Keywords of `load_image`."""
        ...

    @property
    def beside(self) -> Sequence[str]:
        """Suffixes of the files beside a picture."""
        ...

    def loaded(self) -> Any:
        """The model."""
        ...

    def weights(self, ready: Any) -> str:
        """The fingerprint of the model's weights."""
        ...

    def row(self, ready: Any, photo: Photo, image: np.ndarray, picture: Path | None, job: str) -> dict[str, Any]:
        """Ask, draw where a picture is given -> the row. PhotoError: what is wrong with this photograph alone."""
        ...


@dataclass(frozen=True)
class One:
    """A photograph to be done. picture: where it is drawn to, or None. jobs: whose rows the table holds already."""

    photo: Photo
    picture: Path | None
    jobs: frozenset[str]


@dataclass(frozen=True)
class Told:
    """What became of a photograph. kept: whether it was there already. job: None where an error says why not."""

    photo: Photo
    picture: Path | None = None
    job: str | None = None
    kept: bool = False
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Shards:
    """The work of a process: a question asked of one shard after the other, into the parts of a table."""

    question: Question
    table: Path

    @property
    def device(self) -> str | None:
        return self.question.device

    def begin(self) -> Callable[[Sequence[One]], list[Told]]:
        return partial(self._shard, self.question.loaded())

    def _shard(self, ready: Any, shard: Sequence[One]) -> list[Told]:
        rows: list[dict[str, Any]] = []
        told: list[Told] = []
        try:
            for one in shard:
                try:
                    with self._tried(one.photo):
                        told.append(self._told(ready, one, rows))
                except PhotoError as error:
                    told.append(Told(one.photo, error=" ".join(str(error).split())))
        except BaseException:
            with suppress(OSError):  # of what stopped all, such as a full disk, the first error is told
                self._add(ready, rows)
            raise
        self._add(ready, rows)
        return told

    @contextmanager
    def _tried(self, photo: Photo) -> Iterator[None]:
        """A mark stands while a photograph is done: who finds it knows that the process before was ended at it."""
        mark = self.table / f"{TRYING}{of_bytes(photo.source.encode())}"
        tries = mark.stat().st_size if mark.exists() else 0
        if tries >= TRIES:
            mark.unlink()
            raise PhotoError(
                f"{photo.source!r}: {tries} processes were ended at it: if memory is short, take fewer actors"
            )
        with mark.open("ab") as file:
            file.write(b".")
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    def _told(self, ready: Any, one: One, rows: list[dict[str, Any]]) -> Told:
        """rows: those of the shard, to which one is added unless the table has it."""
        photo, question = one.photo, self.question
        with photo_errors(OSError, ValueError):
            image = photo.image(**question.reading) if photo.away else None
            content = of_bytes(photo.contents()) if image is None else of_image(image)
        job = job_of(photo=content, weights=question.weights(ready), **question.settings)
        picture, known = one.picture, job in one.jobs
        if picture is not None:
            others = [picture.with_suffix(f".{suffix}") for suffix in question.beside]
            picture = None if done(job, picture, others) is not None else picture
        if known and picture is None:
            return Told(photo, one.picture, job, kept=True)
        with photo_errors(OSError, ValueError):
            image = photo.image(**question.reading) if image is None else image
        if picture is not None:
            picture.parent.mkdir(parents=True, exist_ok=True)
        row = question.row(ready, photo, image, picture, job)
        if not known:
            drawn = None if one.picture is None else str(one.picture)
            rows.append({"photo": photo.source, "job": job, "name": photo.name, "figure": drawn} | row)
        return Told(photo, one.picture, job)

    def _add(self, ready: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """The part is named by its rows: an actor that does a shard again, since another was killed, replaces it."""
        if not rows:
            return
        note = self.question.settings | {"weights": self.question.weights(ready)}
        name = of_bytes(json.dumps([[row["photo"], row["job"]] for row in rows]).encode())
        about = {"vislab": json.dumps(note, default=str)}
        Parts(self.table, self.question.columns).add(name, rows, about)


def done_of(
    question: Question, pictures: Mapping[Photo, Path | None], table: Path, *, ray: str | None, actors: int | None
) -> Iterator[Told]:
    """Ask of all photographs, in shards -> what became of each, in the order in which they are finished.

    pictures: where each is drawn to. table: the folder of the part files. At the end each of them has one row in it.
    """
    table = table.absolute()
    library("pyarrow")  # before anything is made
    table.mkdir(parents=True, exist_ok=True)
    parts = Parts(table, question.columns)
    jobs = parts.jobs()
    ones = [
        One(photo, path and path.absolute(), frozenset(jobs.get(photo.source, ()))) for photo, path in pictures.items()
    ]
    shards = [ones[k : k + SHARD] for k in range(0, len(ones), SHARD)]
    found: dict[str, str] = {}
    for told in spread(Shards(question, table), shards, ray=ray, actors=actors):
        found |= {one.photo.source: one.job for one in told if one.job is not None}
        yield from told
    parts.settle(found)
