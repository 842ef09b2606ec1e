"""The words on a lab's stage: an answer, said word by word, and the map of each of its words."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..api.ask import answered
from ..api.explain_word import explain_word
from ..core.cache import KEEPERS, Latest
from ..core.checks import meant
from ..core.heatmap import Heatmap
from ..language.answer import Answer
from ..language.atlas import FUSED, Atlas, atlas
from ..language.card import card
from ..language.reader import Reader
from ..language.vocabulary import unknown_words, vocabulary
from ..language.words import words_of
from ..methods.registry import METHODS
from ..methods.request import layer_index
from . import protocol, word_messages
from .protocol import Message
from .stage import Stage, page_settings
from .values import named
from .worker import Superseded, Unless

ANSWERS = 4  # that are remembered
PLENTY = 4e6  # bytes of maps, up to which those of all layers travel with an answer
ASKING = ("digest", "model", "prompt")  # settings that make another answer


class Stopped(Exception):
    """The user had it left off; what was shown before stays."""


@dataclass(frozen=True, eq=False)
class Said:
    """An answer that is remembered. number: its name, never given twice. seconds: how long it took. made: its maps."""

    number: str
    answer: Answer
    seconds: float
    made: dict[Any, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.answer.reader.name}, {self.answer.question}"

    @property
    def bytes(self) -> int:
        """Of the queries and keys of its language model."""
        reader, tokens = self.answer.reader, len(self.answer.ids)
        width = int(reader.config.get_text_config().hidden_size)
        return 2 * reader.layers * tokens * width * reader.dtype.itemsize + self.answer.image.nbytes

    def once(self, question: Any, make: Callable[[], Any]) -> Any:
        if question not in self.made:
            self.made[question] = make()
        return self.made[question]


REMEMBERED: Latest[Said] = Latest("answer", ANSWERS, lambda said: said.bytes)
KEEPERS.append(REMEMBERED)
_NUMBERS = (f"answer {number}" for number in itertools.count(1))


class Spoken:
    """What a lab shows of a vision-language model, beside its stage, by which it is told.

    said: the answer that is shown, None where there is none. word: which of its words. stopping: set by who wants the
    work left off. told: of that answer, which messages the page has.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.said: Said | None = None
        self.word = 0
        self.stopping = threading.Event()
        self.told: set[Any] = set()
        self._view: Callable[[], Message] | None = None
        self._settings: Mapping[str, Any] = {}

    def leave(self) -> None:
        """A model without words is shown."""
        self.said = None

    def show(self, wanted: Mapping[str, Any], reader: Reader) -> float | None:
        """Show these settings -> how long the answer took, seconds; None where it was remembered, or nothing is asked.

        In this order: the word that is shown, the boxes, and the maps of all other words. Raises Superseded once newer
        settings are wanted, Stopped where the user wanted an end.
        """
        self.stopping.clear()
        self.stage.send(*word_messages.asks(reader))
        self.stage.panes, self.stage.plain, self.stage.closer = [None, None], None, None
        self.stage.send({"kind": "view", "pane": 1, "run": None}, [])
        if wanted["prompt"] is None:
            self.said = None
            self.stage.send({"kind": "view", "pane": 0, "run": None}, [])
            self.stage.find_boxes(wanted)
            return None
        said, is_new = self._asked(wanted, reader)
        if self.said is not said:
            self.told.clear()
        self.said, self._settings = said, dict(wanted)
        self.word = place_of_word(said.answer, wanted["word"])
        self._tell("answer", lambda: word_messages.spoken(said.number, said.answer, wanted["digest"]))
        self._tell_looks(wanted, [self.word])
        source = protocol.source(named(wanted["image"]))
        heat, at = self.heat(self.word), (said.number, said.answer, self.word)
        self._view = lambda: word_messages.view(*at, heat, page_settings(wanted), wanted["digest"], source)
        self.stage.send(*self._view())
        self.stage.find_boxes(wanted)
        self._tell_looks(wanted, range(len(said.answer.words)))
        return said.seconds if is_new else None

    @property
    def in_words(self) -> str:
        """What the status line says once all is shown."""
        return "waits for a question" if self.said is None else f"answered in {self.said.seconds:.1f} s"

    def heat(self, word: int) -> Heatmap:
        """The heatmap of a word of the answer that is shown, by the settings that are shown."""
        said, wanted = self.said, self._settings
        assert said is not None
        asks = METHODS[wanted["method"]].asks
        how = {name: usual if name not in asks else wanted[name] for name, usual in (("layer", -1), ("head", "mean"))}
        key = (wanted["method"], *how.values(), word)
        made: Heatmap = said.once(key, lambda: explain_word(said.answer, how, method=wanted["method"], target=word))
        return made

    def messages(self, most: float) -> Iterator[Message]:
        """All that a page holds of the answer. most: bytes of its maps; the layer that is shown always comes."""
        said, wanted = self.said, self._settings
        assert said is not None
        assert self._view is not None
        answer = said.answer
        yield word_messages.asks(answer.reader)
        yield word_messages.spoken(said.number, answer, wanted["digest"])
        for layer in self._layers(wanted):
            message = self._of_layer(said, layer, small=True)
            most -= sum(map(len, message[1]))
            if most < 0 and layer != self._layers(wanted)[0]:
                break
            yield message
        if wanted["method"] != "attention":
            for word in range(len(answer.words)):
                yield self._of_word(said, wanted, word, small=True)
        yield self._view()

    # ---- the answer ----

    def _asked(self, wanted: Mapping[str, Any], reader: Reader) -> tuple[Said, bool]:
        """The answer to what is asked, remembered or given now -> (it, whether it is new)."""
        question, digest = wanted["prompt"], wanted["digest"]
        _check_words(reader, question)
        made: list[Said] = []

        def make() -> Said:
            begun = time.perf_counter()
            try:
                with self._unless(lambda newer: any(newer[name] != wanted[name] for name in ASKING)):
                    answer = answered(reader, wanted["pixels"], question, heard=self._hearing(reader, question))
            finally:
                self.stage.send(*word_messages.NOTHING)
            made.append(Said(next(_NUMBERS), answer, time.perf_counter() - begun))
            return made[0]

        return REMEMBERED.once((reader, digest, question), make), bool(made)

    def _hearing(self, reader: Reader, question: str) -> Callable[[list[int], int], None]:
        """Tells the page of each word that is said."""
        tokenizer = reader.processor.tokenizer

        def heard(ids: list[int], most: int) -> None:
            words = [word.text for word in words_of(tokenizer, ids, 0)]
            self.stage.send(*word_messages.saying(question, words, len(ids), most))
            self.stage.say("computing", f"it answers, {len(words)} word{'s' * (len(words) != 1)} so far")

        return heard

    def _unless(self, other: Callable[[Mapping[str, Any]], bool] = lambda newer: True) -> Leaving:
        return Leaving(self, other)

    # ---- its maps ----

    def _layers(self, wanted: Mapping[str, Any]) -> list[int | str]:
        """All layers that attention can be shown of, the shown one first."""
        assert self.said is not None
        count = len(self.said.answer.sites)
        own = "mean" if wanted["layer"] == "mean" else layer_index(wanted["layer"], count)
        every: list[int | str] = ["mean", *reversed(range(count))]
        return [own, *(layer for layer in every if layer != own)]

    def _tell_looks(self, wanted: Mapping[str, Any], words: Any) -> None:
        """Tell the page the maps of words: by attention those of all come at once, a layer after the other."""
        said = self.said
        assert said is not None
        if wanted["method"] == "attention":
            first, *others = self._layers(wanted)
            size = self._tell_layer(said, first)
            if len(words) == len(said.answer.words) and size * (len(others) + 1) <= PLENTY:
                for layer in others:
                    self._tell_layer(said, layer)
            return
        for word in words:
            with self._unless():
                label, many = METHODS[wanted["method"]].label, len(said.answer.words)
                key = (wanted["method"], *self._through(wanted), word)
                if key not in self.told:
                    self.stage.say("computing", f"where each word looks, by {label}: {word + 1} of {many}")
                self._tell(key, functools.partial(self._of_word, said, wanted, word))

    def _tell_layer(self, said: Said, layer: int | str) -> int:
        """-> bytes of such a message."""
        if self.stage.is_overtaken():
            raise Superseded
        self._tell(layer, lambda: self._of_layer(said, layer))
        return 2 * self._atlas(said, layer).maps.size

    def _tell(self, what: Any, make: Callable[[], Message]) -> None:
        """Tell the page, unless it was told."""
        if what not in self.told:
            message = make()
            self.told.add(what)
            self.stage.send(*message)

    def _atlas(self, said: Said, layer: int | str) -> Atlas:
        made: Atlas = said.once(("atlas", layer), lambda: atlas(said.answer, layer))  # type: ignore[arg-type]
        return made

    def _of_layer(self, said: Said, layer: int | str, *, small: bool = False) -> Message:
        kind = word_messages.SMALL if small else word_messages.LIVE
        return word_messages.of_layer(said.number, said.answer, layer, self._atlas(said, layer), kind)

    def _of_word(self, said: Said, wanted: Mapping[str, Any], word: int, *, small: bool = False) -> Message:
        kind = word_messages.SMALL if small else word_messages.LIVE
        return word_messages.of_word(said.number, word, self.heat(word), *self._through(wanted), kind)

    def _through(self, wanted: Mapping[str, Any]) -> tuple[int | None, str | None]:
        """Up to which layer, and by which heads fused, a method goes; None where it takes no such."""
        assert self.said is not None
        asks = METHODS[wanted["method"]].asks
        layer = layer_index(wanted["layer"], len(self.said.answer.sites)) if "layer" in asks else None
        assert "head" not in asks or wanted["head"] in FUSED
        return layer, wanted["head"] if "head" in asks else None


def _check_words(reader: Reader, question: str) -> None:
    """Raises ValueError where a question has words that the model does not know: it would read them all as one."""
    if strange := unknown_words(reader, question):
        known, asked = vocabulary(reader), card(reader.name).questions
        words = " and ".join(f"“{word}”" for word in strange)
        hint = "".join(meant(word, known) for word in strange)
        many = f" It knows {len(known)} words." if known else ""
        such = f" Ask for example “{asked[0]}” or “{asked[1]}”." if len(asked) > 1 else ""
        raise ValueError(f"{reader.name} does not know {words}{hint or '.'}{many}{such}")


class Leaving(Unless):
    """Work of words, left off where the user wants an end, or where newer settings want another."""

    def __init__(self, spoken: Spoken, other: Callable[[Mapping[str, Any]], bool]) -> None:
        def stop() -> bool:
            newer = spoken.stage.newer()
            return spoken.stopping.is_set() or (newer is not None and other(newer))

        super().__init__(stop)
        self.stopping = spoken.stopping

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, Superseded) and self.stopping.is_set():
            raise Stopped from error


def place_of_word(answer: Answer, word: int | None) -> int:
    """Which word is shown: the one that is wanted, or, where there is none such, the longest."""
    lengths = [len(one.text) for one in answer.words]
    return word if word is not None and word < len(lengths) else lengths.index(max(lengths))
