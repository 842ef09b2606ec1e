"""What is asked of a word of an answer, by which method: checked once, and written as the Python that asks again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..core import python_call
from ..core.checks import shown, whole
from ..methods import registry
from ..methods.request import DEFAULTS, Head, Layer, Request, layer_index
from .words import word_index

if TYPE_CHECKING:
    from .answer import Answer

LENS = "lens"  # which word an image token would say: of any word, of the answer or not
LOOKS = ("attention", "rollout", "relevance", LENS)  # the methods that explain a word: rooms `looks` and `lens`
METHOD = "relevance"  # what explains a word where no method is named
TOKENS = 64  # an answer has at most, where no limit is given
_ASK = ("model", "question", "answer", "tokens")


@dataclass(frozen=True)
class WordRequest:
    """What is asked of a word; see `vislab.explain` for each field. target: the word, by its text or its place.

    Raises ValueError for what is unknown, or what the method does not answer of words.
    """

    target: str | int = 0
    method: str = METHOD
    layer: Layer = -1
    head: Head = "mean"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        entry = registry.method(self.method)
        if self.method not in LOOKS:
            raise ValueError(f"a word of an answer is explained by {', '.join(LOOKS)}, not by {self.method!r}")
        if isinstance(self.target, bool) or (not isinstance(self.target, str) and not whole(self.target)):
            raise ValueError(
                f"target is a word of the answer, by its text or its place, such as target=0, not {shown(self.target)}"
            )
        Request(self.method, self.layer, self.head, options=self.options)
        if isinstance(self.layer, str) and self.layer not in entry.layer_words:
            raise ValueError(f"layer is the index of a layer, not {shown(self.layer)}")

    def fits(self, answer: Answer) -> int:
        """The place of the word that is meant; for a lens -1 of one that is no part of the answer.

        Raises ValueError where the answer or its model has no such part.
        """
        sites = answer.sites
        if self.layer != "mean":
            layer_index(self.layer, len(sites))
        if whole(self.head) and not -sites[0].heads <= self.head < sites[0].heads:
            raise ValueError(f"no head {self.head}: heads run from 0 to {sites[0].heads - 1}")
        if self.method == LENS and isinstance(self.target, str):
            found = [place for place, word in enumerate(answer.words) if word.text == self.target]
            return found[0] if found else -1
        return word_index(answer.words, self.target)

    @property
    def settings(self) -> dict[str, Any]:
        """What made a difference to the map, by the keywords of `vislab.explain`, the method left out."""
        entry = registry.METHODS[self.method]
        parts: dict[str, Any] = {name: getattr(self, name) for name in ("layer", "head") if name in entry.asks}
        usual = {option.name: option.default for option in entry.options}
        own = {name: value for name, value in self.options.items() if value != usual[name]}
        return {"target": self.target, **parts, **own}


def call(settings: Mapping[str, Any], image: str = "image") -> str:
    """The Python that makes a word's map again. settings: of the map, its method among them; image: names the picture.

    >>> call({"model": "m", "question": "what ?", "tokens": 64, "target": 1, "method": "relevance"})
    "vislab.explain(vislab.ask(image, 'what ?', model='m'), target=1)"
    """
    usual = {**DEFAULTS, "method": METHOD, "tokens": TOKENS, "target": None}
    changed = {name: value for name, value in settings.items() if name not in usual or value != usual[name]}
    asked = {name: value for name, value in changed.items() if name in _ASK and name != "question"}
    answer = python_call.call("vislab.ask", image, repr(settings["question"]), **asked)
    return python_call.call(
        "vislab.explain", answer, **{name: value for name, value in changed.items() if name not in _ASK}
    )
