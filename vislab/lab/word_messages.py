"""What the Lab's face is told of answers: their words, and the maps of all of these, as (content, buffers)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.heatmap import Heatmap
from ..figures.provenance import call_of
from ..language.answer import Answer
from ..language.atlas import FUSED, Atlas
from ..language.card import card
from ..language.reader import Reader
from ..language.vocabulary import vocabulary
from .prompt import SHARED
from .protocol import Message, placed

LIVE, SMALL = np.dtype("<u2"), np.dtype("u1")  # how finely a map's values are told, from 0 to its highest
NOTHING: Message = ({"kind": "saying", "words": None}, [])  # no answer is being given


def asks(reader: Reader) -> Message:
    """What a vision-language model can be asked, and its limits as its card has them."""
    own = card(reader.name)
    lists = {"words": list(vocabulary(reader)), "questions": list(own.questions)}
    return {"kind": "asks", "model": reader.name, "limits": own.limits, **lists}, []


def saying(question: str, words: Sequence[str], done: int, most: int) -> Message:
    """An answer on its way: its words so far, and tokens of the most that it may have."""
    return {"kind": "saying", "question": question, "words": list(words), "done": done, "most": most}, []


def spoken(number: str, answer: Answer, digest: str) -> Message:
    """An answer, and where its image tokens are. number: its name, never given twice; digest: of the image."""
    places = answer.places
    views = [placed(view.grid, view.frame) for view in places.views]
    lie = sum(int((view.tokens >= 0).sum()) for view in places.views)
    tokens = {"all": len(answer.ids), "image": places.count, "ends": places.count - lie}
    content: dict[str, Any] = {
        "kind": "answer",
        "run": number,
        "content": digest,
        "question": answer.question,
        "tokens": tokens,
    }
    content |= {"words": [word.text for word in answer.words], "finished": answer.finished, "limit": answer.limit}
    return content | {"views": views}, []


def of_layer(number: str, answer: Answer, layer: int | str, atlas: Atlas, kind: np.dtype[Any] = LIVE) -> Message:
    """Attention of every word in a layer: each head's map, then all heads' by each of FUSED.

    layer: an index from 0, or "mean". kind: of the whole numbers in which values are told.
    """
    content: dict[str, Any] = {
        "kind": "looks",
        "run": number,
        "method": "attention",
        "layer": layer,
        "head": None,
        "tower": "",
    }
    content |= {"words": list(range(len(answer.words))), "slots": [*range(atlas.heads), *FUSED]}
    content |= placed(answer.places.grid, answer.places.frame)
    return _packed(content, atlas.maps, atlas.shares, kind)


def of_word(
    number: str, word: int, heat: Heatmap, layer: int | None, head: str | None, kind: np.dtype[Any] = LIVE
) -> Message:
    """One word's map by a method that goes through all layers, up to `layer`. None: of what it does not ask for."""
    content: dict[str, Any] = {
        "kind": "looks",
        "run": number,
        "method": heat.method,
        "layer": layer,
        "head": head,
        "slots": [head],
    }
    content |= {"words": [word], "tower": heat.facts.get("tower", ""), **placed(heat.grid, heat.frame)}
    shares = np.array([*heat.facts["shares"].values()], np.float32)
    return _packed(content, heat.values[None, None], shares[None, None], kind)


def _packed(content: dict[str, Any], maps: np.ndarray, shares: np.ndarray, kind: np.dtype[Any]) -> Message:
    """maps: (words, slots, rows, cols), not below 0, as whole numbers of a step a map; then steps, then shares."""
    step = maps.max((-2, -1)) / np.iinfo(kind).max
    whole = np.rint(maps / np.where(step > 0, step, 1)[..., None, None]).astype(kind)
    content |= {"bytes": kind.itemsize}
    return content, [whole.tobytes(), step.astype("<f4").tobytes(), shares.astype("<f4").tobytes()]


def view(
    number: str, answer: Answer, word: int, heat: Heatmap, settings: Mapping[str, Any], digest: str, source: str
) -> Message:
    """The heatmap of the word that is shown, and what a page counts and chooses from. source: names the image."""
    reader = answer.reader
    model: dict[str, Any] = {"name": reader.name, "reads": True, "takes": "question", "methods": list(SHARED)}
    model |= {"layers": len(answer.sites), "heads": answer.sites[0].heads, "dim": 0, "prefix": 0, "suffix": 0}
    model |= {"size": heat.frame.model, "patch": heat.grid.patch, "cls": False, "resizable": False}
    model |= {"labels": None, "scores": None}
    content = {"kind": "view", "pane": 0, "run": number, "settings": dict(settings), "word": word, "model": model}
    content |= {"query": heat.query, "target": answer.words[word].text, "signed": False, "classes": []}
    content |= {"call": call_of(heat), "content": digest, "source": source, **placed(heat.grid, heat.frame)}
    return content, [heat.values.astype("<f4").tobytes()]
