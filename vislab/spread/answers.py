"""A question in words asked of each photograph of many, and where the words of its answers look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..core.fingerprints import of_weights
from ..figures.captions import WORD_LENS
from ..figures.page import Panel
from ..language.request import LENS
from ..models.known import READER
from .errors import photo_errors
from .photos import Photo

if TYPE_CHECKING:
    from ..language.answer import Answer
    from ..language.reader import Reader

MOST = 24  # words that a figure shows


def words_figure(
    answer: Answer, method: str, how: Mapping[str, Any], look: Mapping[str, Any] = MappingProxyType({})
) -> Panel:
    """Where the words of an answer look, each as a picture with its image share. how: layer and head, if asked for.

    A lens reads no attention: its words stand without a share. Of a long answer the first words are shown, and the
    caption says how many. look: keywords of `panel`.
    """
    from ..api.explain import explain
    from ..figures.panel import panel

    words = answer.words[:MOST]
    heats = [explain(answer, target=i, method=method, **how) for i in range(len(words))]
    if method == LENS:
        means, titles = f"values: {WORD_LENS}", [word.text for word in words]
    else:
        means = "per cent: how much of a word's attention lies on the image"
        shares = answer.image_share
        titles = [f"{word.text} {float(share):.0%}" for word, share in zip(words, shares, strict=False)]
    if "caption" not in look:
        said = [panel(heats, **look).caption, means, left_out(answer.words)]
        own = panel(heats, title=titles, **look, caption=" · ".join(filter(None, said)))
        return replace(own, captioned=False)
    return panel(heats, title=titles, **look)


def left_out(words: Sequence[object]) -> str:
    """That a figure shows some words of an answer alone, where it has more than a figure shows."""
    return f"the first {MOST} of {len(words)} words" if len(words) > MOST else ""


@dataclass(frozen=True, eq=False)
class Answers:
    """A question to one vision-language model; it goes to other processes, which load the model.

    answer, tokens: as of `ask`. method, how: of the figure. look: keywords of `panel`. beside: as of `save`.
    """

    question: str
    model: str = READER
    device: str | None = None
    dtype: str | None = "float32"
    answer: str | None = None
    tokens: int = 64
    method: str = "relevance"
    how: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)
    look: Mapping[str, Any] = field(default_factory=dict)
    beside: Sequence[str] = ()
    columns: ClassVar[Mapping[str, str]] = {
        "name": "string",
        "figure": "string",
        "width": "int32",
        "height": "int32",
        "answer": "string",
        "words": "list<string>",
        "image_share": "list<float32>",
    }

    @property
    def settings(self) -> dict[str, Any]:
        names = ("question", "model", "dtype", "answer", "tokens", "method", "how", "reading", "look", "beside")
        return {name: getattr(self, name) for name in names} | {"vislab": import_module("vislab").__version__}

    def loaded(self) -> Reader:
        from ..language.reader import reader_of

        return reader_of(self.model, processor=None, device=self.device, dtype=self.dtype)

    def weights(self, ready: Reader) -> str:
        return of_weights(ready.module)

    def row(self, ready: Reader, photo: Photo, image: np.ndarray, picture: Path | None, job: str) -> dict[str, Any]:
        """The answer, its words and their image shares; drawn where a picture is given."""
        from ..api.ask import ask
        from ..figures.save import write_all

        with photo_errors(ValueError, name=photo.source):
            said = ask(image, self.question, model=ready, answer=self.answer, tokens=self.tokens)
            row: dict[str, Any] = {"width": image.shape[1], "height": image.shape[0], "answer": said.text}
            row |= {
                "words": [word.text for word in said.words],
                "image_share": np.asarray(said.image_share, np.float32),
            }
            if picture is not None:
                notes = {"job": job, "row": {"answer": said.text}}
                figure = words_figure(said, self.method, self.how, self.look)
                write_all(picture, figure, beside=self.beside, notes=notes)
        return row
