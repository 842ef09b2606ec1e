"""Photos into files, one or thousands: read ahead, asked of the model here, drawn by other processes, told in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..figures.pool import Pool, cores
from ..figures.worker import Answer, Ended
from ..spread.errors import PhotoError, photo_errors
from ..spread.photos import Photo
from .asking import Asker, beside_of

if TYPE_CHECKING:
    import numpy as np

AHEAD = 3  # photos that are read while the model is at work: each is in memory


@dataclass(frozen=True, eq=False)
class Source:
    """A photo as it was read. image: None where it is read when needed; content: its fingerprint."""

    image: np.ndarray | None
    content: str


@dataclass(frozen=True, eq=False)
class Figure:
    """A photo on its way into its file. row: of the table; answer: of who draws it, None where it was there already."""

    photo: Photo
    path: Path
    row: Mapping[str, Any] = field(default_factory=dict)
    answer: Future[Answer] | None = None
    error: PhotoError | None = None

    @property
    def ready(self) -> bool:
        return self.answer is None or self.answer.done()

    @property
    def written(self) -> bool:
        """Whether its file is known to be there, once nobody draws any more."""
        if self.answer is None:
            return self.error is None
        return self.answer.done() and not self.answer.cancelled() and self.answer.result().error is None

    def told(self) -> dict[str, Any]:
        """Its row, once it is written. Raises PhotoError for what is its own error, and any other as it is."""
        if self.error is not None:
            raise self.error
        if self.answer is not None:
            with photo_errors(ValueError, name=self.photo.source), photo_errors(Ended):
                self.answer.result().tell()
        return {"figure": str(self.path)} | dict(self.row)


@contextmanager
def _sharing() -> Iterator[None]:
    """Half of the cores run the model, and leave the others to who draws: threads that wait for a core cost most.

    As many whatever --workers says, since torch may add in another order on other numbers of threads.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, cores() // 2)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Batch:
    """The photos of one call. kept: how many of them had their files already. waiting: what is not told yet."""

    def __init__(self, asker: Asker, pool: Pool) -> None:
        self.asker, self.args, self.model, self.pool, self.kept = asker, asker.args, asker.model, pool, 0
        self.waiting: deque[Figure] = deque()
        self.settings = asker.figures.settings

    def figures(self, paths: Mapping[Photo, Path]) -> Iterator[Figure]:
        """Each photo's figure in the order given, once it is written or has failed."""
        for photo, path, source in self._sources(paths):
            with _sharing() if len(paths) > 1 else nullcontext():
                self.waiting.append(self._begun(photo, path, source))
            while self.waiting and (self.waiting[0].ready or len(self.waiting) > 2 * self.pool.count):
                yield self._next()
        while self.waiting:
            yield self._next()

    def _next(self) -> Figure:
        """The first that waits; it leaves the queue once it is written, so that Ctrl-C meanwhile loses nothing."""
        first = self.waiting[0]
        if first.answer is not None:
            first.answer.exception()
        return self.waiting.popleft()

    def _sources(self, paths: Mapping[Photo, Path]) -> Iterator[tuple[Photo, Path, Future[Source] | None]]:
        """Photos with what is read of them in a thread, a few ahead; of addresses nothing, for that may take long."""
        reader = ThreadPoolExecutor(1, thread_name_prefix="vislab-photo")
        ahead: deque[tuple[Photo, Path, Future[Source] | None]] = deque()
        try:
            for photo, path in paths.items():
                ahead.append((photo, path, None if photo.away else reader.submit(self._read, photo, path)))
                if len(ahead) > AHEAD:
                    yield ahead.popleft()
            while ahead:
                yield ahead.popleft()
        finally:
            reader.shutdown(cancel_futures=True)

    def _read(self, photo: Photo, path: Path) -> Source:
        from ..core.fingerprints import of_bytes, of_image

        with photo_errors(OSError, ValueError):
            image = None if path.exists() and not photo.away else photo.image(**self.asker.figures.reading)
            if image is None or not photo.away:
                return Source(image, of_bytes(photo.contents()))
            return Source(image, of_image(image))

    def _begun(self, photo: Photo, path: Path, reading: Future[Source] | None) -> Figure:
        """A photo's figure, given to who draws it, unless it is there already."""
        ready = self.model()
        try:
            source = self._read(photo, path) if reading is None else reading.result()
            return self._asked(photo, path, source, ready)
        except PhotoError as error:
            return Figure(photo, path, error=error)

    def _asked(self, photo: Photo, path: Path, source: Source, ready: Any) -> Figure:
        from ..core.fingerprints import of_weights
        from ..spread.table import done, job_of, row_of

        figures, others = self.asker.figures, beside_of(path, self.args)
        job = job_of(photo=source.content, weights=of_weights(ready.module), **self.settings)
        if row := done(job, path, others):
            self.kept += 1
            return Figure(photo, path, row)
        with photo_errors(OSError, ValueError):
            image = photo.image(**figures.reading) if source.image is None else source.image
        heat = self.asker.explained(photo.source, image)
        row = row_of(heat, figures.predictions(ready, image, heat))
        path.parent.mkdir(parents=True, exist_ok=True)
        task = figures.task(path, heat, {"job": job, "row": row})
        return Figure(photo, path, row, self.pool.submit(task))
