"""Which kind of model to take, measured on the same photographs: detector, Vision Transformer, segmenter, reader."""

from __future__ import annotations

import contextlib
import html
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.checks import check_flags, first_line, meant, one_of, real, shown, whole
from ..core.images import load_image
from ..models.device import module_bytes
from .kinds import Contender, Look, contender
from .memory import Peak
from .needs import KINDS, NEEDS, QUESTION
from .plan import counted
from .rows import csv_of

COLUMNS = ("kind", "name", "device", "tokens", "parameters", "seconds", "bytes", "photo", "says")


@dataclass(frozen=True)
class Compared:
    """One model, measured. tokens: that it makes of a photograph, the most of several, or None. seconds: from a
    photograph to what it says, the median. bytes: its weights, and the most that its tensors took beside them.
    looks: what it made of each photograph."""

    kind: str
    name: str
    device: str
    tokens: int | None
    parameters: int
    seconds: float
    bytes: int
    looks: tuple[Look, ...]

    @property
    def found(self) -> int:
        """In how many of the photographs it found anything."""
        return sum(look.found for look in self.looks)


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Models of several kinds side by side, on the same photographs and this machine; `compare` makes one.

    models: what was measured of each. photos: what the photographs are called. repeats: timed runs of each. Shows its
    table as the last expression of a notebook cell, and where it is printed; `recommend` says which to take.
    """

    models: tuple[Compared, ...]
    photos: tuple[str, ...]
    repeats: int

    def recommend(
        self, needs: str | Sequence[str] = tuple(NEEDS), *, within: float | None = None, memory: float | None = None
    ) -> dict[str, str]:
        """Which of the models to take for what is needed, by what was measured -> {need: a sentence}.

        needs: "class", "boxes", "count", "outlines" or "words", one or several. within: seconds that a photograph may
        take; memory: bytes. Of the models that give what is needed and stay within both, the one that found something
        in most photographs is taken, and of equals the fastest: whether what it found is right, nobody has measured.
        """
        asked = [needs] if isinstance(needs, str) else list(needs)
        for need in asked:
            if not one_of(need, NEEDS):
                raise ValueError(f"needs are some of {', '.join(NEEDS)}, not {shown(need)}{meant(need, NEEDS)}")
        for name, limit in (("within", within), ("memory", memory)):
            if limit is not None and not (real(limit) and limit > 0):
                raise ValueError(f"{name} is a number above 0, not {shown(limit)}")
        return {need: self._for(need, within, memory) for need in asked}

    def _for(self, need: str, within: float | None, memory: float | None) -> str:
        kinds = NEEDS[need]
        able = [one for one in self.models if one.kind in kinds]
        if not able:
            return f"none of these gives it: name a {' or a '.join(kinds)}"
        fit = [
            one for one in able if (within is None or one.seconds <= within) and (memory is None or one.bytes <= memory)
        ]
        if not fit:
            least = min(able, key=lambda one: one.seconds)
            return f"none within these limits: the fastest is {_measured(least)}"
        best = max(fit, key=lambda one: (one.found, -one.seconds))
        if not best.found:
            return f"none found anything in these photographs: the fastest is {_measured(best)}"
        return f"{_measured(best)}; found something in {best.found} of {len(self.photos)}"

    def rows(self) -> list[dict[str, Any]]:
        """The table as a list of dicts, a row a model and photograph, by the names of `COLUMNS`."""
        return [
            {
                **{name: getattr(one, name) for name in COLUMNS[:-2]},
                "photo": photo,
                "says": look.says,
            }
            for one in self.models
            for photo, look in zip(self.photos, one.looks, strict=True)
        ]

    def csv(self) -> str:
        """The rows as CSV."""
        return csv_of(self.rows(), COLUMNS)

    def _table(self) -> list[list[str]]:
        return [
            ["", "name", "tokens", "parameters", "time", "memory"],
            *(
                [
                    one.kind,
                    one.name,
                    "–" if one.tokens is None else f"{one.tokens:,}",
                    _parameters(one.parameters),
                    _time(one.seconds),
                    _memory(one.bytes),
                ]
                for one in self.models
            ),
        ]

    @property
    def caption(self) -> str:
        """What was measured on what, in one line."""
        count, devices = len(self.photos), ", ".join(dict.fromkeys(one.device for one in self.models))
        return (
            f"{count} photograph{'s' * (count != 1)} on {devices} · time: median of {self.repeats} runs of each, from "
            "the photograph to what it says · memory: weights, and the most that tensors take beside them"
        )

    def __repr__(self) -> str:
        cells = self._table()
        wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
        rows = [" | ".join(map(str.ljust, line, wide)) for line in [cells[0], ["-" * n for n in wide], *cells[1:]]]
        said = [
            f"{photo}: {one.kind}: {look.says}"
            for number, photo in enumerate(self.photos)
            for one in self.models
            for look in [one.looks[number]]
        ]
        return "\n".join([f"{self.caption}\n", *(f"| {row} |" for row in rows), "", *said])

    def _repr_html_(self) -> str:
        head, *body = [[html.escape(cell) for cell in line] for line in self._table()]
        said = [
            f"<th>{html.escape(photo)}</th>"
            + "".join(f"<td>{html.escape(one.looks[n].says)}</td>" for one in self.models)
            for n, photo in enumerate(self.photos)
        ]
        names = "".join(f"<th>{html.escape(one.kind)}</th>" for one in self.models)
        top = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in body)
        return (
            f"<p>{html.escape(self.caption)}</p><table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{top}"
            f"</table><table><tr><th></th>{names}</tr>{''.join(f'<tr>{line}</tr>' for line in said)}</table>"
        )


def compare(
    images: Any,
    *,
    detector: Any = "embedded",
    model: Any = "embedded",
    segmenter: Any = "embedded",
    reader: Any = None,
    question: str = QUESTION,
    repeats: int = 3,
    progress: bool = True,
) -> Comparison:
    """Run a detector, a Vision Transformer, a segmenter and a vision-language model on the same photographs, here.

    images: what `load_image` takes, a list of it, or a mapping of names to it, such as `samples()`. detector: as of
    `detect`. model: as of `explain`. segmenter: as the model of `segment`, a Vision Transformer making a mask of its
    rollout. reader: as the model of `ask`, and question what it is asked; by default none, for the embedded one guesses
    where a photograph is no scene of its kind. None leaves a kind out.
    repeats: timed runs of each photograph, after one that is not timed.

    What is measured is what these functions take, with the photograph's preparation and the queries and keys that
    vislab records. Memory is counted tensor by tensor, on any device; what kernels take for themselves is not in it.

        table = vislab.compare(["photo.jpg", "street.jpg"], repeats=1)
        print(table)
        table.recommend(["boxes", "class"], within=0.1)

    Raises ValueError where nothing is left to compare, and what loading a model or a photograph raises.
    """
    given = dict(zip(KINDS, (detector, model, segmenter, reader), strict=True))
    if not any(one is not None for one in given.values()):
        raise ValueError(f"nothing is left to compare: name one of {', '.join(KINDS)}")
    if not whole(repeats) or repeats < 1:
        raise ValueError(f"repeats is a whole number from 1, not {shown(repeats)}")
    check_flags(progress=progress)
    photos = {name: load_image(source) for name, source in _named(images).items()}
    if not photos:
        raise ValueError("there are no photographs to compare on: give one or more")
    contenders = [contender(kind, one, question) for kind, one in given.items() if one is not None]
    with contextlib.closing(counted([name for _ in contenders for name in photos], "photograph", progress)) as bar:
        steps = iter(bar)
        models = [_compared(one, photos, repeats, steps) for one in contenders]
    return Comparison(tuple(models), tuple(photos), repeats)


def _named(images: Any) -> dict[str, Any]:
    if isinstance(images, Mapping):
        return {str(name): image for name, image in images.items()}
    listed: Iterable[Any] = images if isinstance(images, list | tuple) else [images]
    return {f"{number}: {one}" if isinstance(one, str) else f"image {number}": one for number, one in enumerate(listed)}


def _compared(one: Contender, photos: Mapping[str, Any], repeats: int, steps: Iterator[str]) -> Compared:
    """One model on all photographs; what is wrong with some of them is what it says of these.

    steps: one is taken for each photograph.
    """
    looks: list[Look] = []
    times: list[float] = []
    most, wrong = 0, None
    for image in photos.values():
        next(steps)
        try:
            with Peak([one.module]) as peak:
                looks.append(one.look(image))
        except ValueError as error:
            wrong = error
            looks.append(Look(first_line(error), False, None))
            continue
        most = max(most, peak.most)
        for _ in range(repeats):
            start = time.perf_counter()
            one.look(image)
            times.append(time.perf_counter() - start)
    if not times and wrong is not None:
        raise wrong
    counts = [look.tokens for look in looks if look.tokens is not None]
    return Compared(
        one.kind,
        one.name,
        next(one.module.parameters()).device.type,
        max(counts, default=None),
        sum(parameter.numel() for parameter in one.module.parameters()),
        statistics.median(times),
        module_bytes(one.module) + most,
        tuple(looks),
    )


def _measured(one: Compared) -> str:
    return f"{one.kind} {one.name}, {_time(one.seconds)} a photograph and {_memory(one.bytes)}"


def _parameters(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"


def _memory(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
