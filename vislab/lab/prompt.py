"""What a lab asks in words: a question of a vision-language model, or a text that an image-text model looks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import traitlets

from ..core.checks import shown
from ..core.checks import whole as is_whole
from ..language.forecast import is_reader
from ..language.reader import Reader, reader_of
from ..language.request import LENS, LOOKS
from ..methods.registry import METHODS
from ..models.cache import model_of
from ..models.model import Model

WORDS = ("prompt", "word")  # the settings of this room
SHARED = tuple(look for look in LOOKS if look != LENS)  # methods whose maps are shares: 0 and above, as pages keep them
FIRST = "attention"  # the method by which words are shown where none that is theirs is chosen


class Prompted(traitlets.HasTraits):
    """The settings of a lab that speak: its question, and which word of the answer is shown.

    word: its place in the answer; None is the longest.
    """

    prompt = traitlets.Any(None, allow_none=True).tag(sync=True)
    word = traitlets.Any(None, allow_none=True).tag(sync=True)

    @traitlets.validate("prompt")
    def _prompt_says_something(self, proposal: Any) -> Any:
        value = proposal["value"]
        if value is None or (isinstance(value, str) and value.strip()):
            return value
        raise traitlets.TraitError(f"prompt is a question or a text in words, or None, not {shown(value)}")

    @traitlets.observe("prompt")
    def _text_is_another(self, change: Any) -> None:
        """Of an image-text model the prompt is the target, until another is chosen."""
        if change["old"] is not None and change["old"] == getattr(self, "target", None):
            self.set_trait("target", None)

    @traitlets.validate("word")
    def _word_is_a_place(self, proposal: Any) -> Any:
        value = proposal["value"]
        if value is None or (is_whole(value) and value >= 0):
            return None if value is None else int(value)
        raise traitlets.TraitError(f"word is the place of a word in the answer, from 0, or None, not {shown(value)}")


def ready_of(model: Any) -> Model | Reader:
    """A model that is asked in pictures or in words, loaded once. Raises what `load` and `ask` raise."""
    if isinstance(model, Reader) or (isinstance(model, str | Path) and is_reader(str(model))):
        return reader_of(model)
    return model_of(model)


def giving_way(wanted: Mapping[str, Any], ready: Model | Reader, before: Model | Reader | None) -> dict[str, Any]:
    """Settings that cannot stay with this model, and what they become. before: the model that was shown until now."""
    method = wanted["method"]
    if isinstance(ready, Reader):
        return {} if method in SHARED else {"method": FIRST}
    if isinstance(before, Reader) and method == FIRST and wanted["query"] == "cls":
        method = "cls"
    if METHODS[method].attends and not ready.attends:
        method = "grad_cam"
    prompt, target = wanted["prompt"], wanted["target"]
    if prompt is not None and ready.texts is None and target == prompt:
        target = None
    if prompt is not None and ready.texts is not None and target is None:
        target = prompt
        if not METHODS[method].targeted:
            method = "legrad" if ready.attends else "grad_cam"
    changed = {"method": method, "target": target}
    return {name: value for name, value in changed.items() if wanted[name] != value}
