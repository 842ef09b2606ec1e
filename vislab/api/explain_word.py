"""From a word of an answer to a heatmap on the source image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core import fingerprints
from ..core.checks import whole
from ..core.heatmap import Heatmap
from ..language import looks
from ..language.answer import Answer
from ..language.lens import of_word
from ..language.request import LENS, METHOD, WordRequest


def explain_word(answer: Answer, settings: Mapping[str, Any], *, method: str | None, target: Any) -> Heatmap:
    """The heatmap of one word, for `vislab.explain` of an answer. settings: layer, head, and the method's options."""
    if target is None:
        raise ValueError(
            f"which word? target is its text or its place: {', '.join(f'{i} {w}' for i, w in enumerate(answer.words))}"
        )
    options = {name: value for name, value in settings.items() if name not in ("layer", "head")}
    request = WordRequest(
        int(target) if whole(target) else target, method or METHOD, settings["layer"], settings["head"], options
    )
    place = request.fits(answer)
    if request.method == LENS:
        return _seen(answer, request, place)
    look = getattr(looks, request.method)(answer, place, request.layer, request.head, **request.options)
    word, rows = answer.words[place], answer.rows(place)
    at = f"token {rows[0]}" if len(rows) == 1 else f"mean of tokens {rows[0]} to {rows[-1]}"
    return Heatmap(
        look.values,
        look.grid,
        look.frame,
        request.method,
        f"{word.text!r}",
        settings={**answer.settings, **request.settings, "target": place},
        image=answer.image,
        query=f"{at}, before the word",
        facts={**fingerprints.of_module(answer.reader.module), "answer": answer.text, **look.facts},
    )


def _seen(answer: Answer, request: WordRequest, place: int) -> Heatmap:
    """How probable a word is at each image token, as the head reads it after a layer."""
    meant = request.target if isinstance(request.target, str) else place
    values, word = of_word(answer, meant, int(request.layer))
    places = answer.places
    return Heatmap(
        values,
        places.grid,
        places.frame,
        request.method,
        f"{word!r}",
        settings={**answer.settings, **request.settings, "target": meant},
        image=answer.image,
        query="each image token",
        facts={**fingerprints.of_module(answer.reader.module), "answer": answer.text},
    )
