"""Texts as what a model is asked about: their tokens, their embeddings, made once, and their similarity to an image."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.checks import first_line, listed, meant, shown
from .classes import Classes
from .image_text import ImageText, Tokens, tower_of

_REMEMBERED = 64  # lists of texts whose embeddings are kept for a model
_ENDLESS = 10**9  # tokens: of a text that may have any number
_TOGETHER = 32  # texts of one length that are run at a time
_MARKS = ".,;:!?()[]{}\"'“”"
_EMBEDDED: weakref.WeakKeyDictionary[nn.Module, dict[tuple[str, ...], tuple[Any, Tensor]]] = weakref.WeakKeyDictionary()
_PROVEN: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Texts:
    """How an image-text model is given texts. name: of the model. tokenizer: None where none came with it.

    The module that its methods take is the one that was loaded, which holds both towers.
    """

    name: str
    tokenizer: Any

    def __post_init__(self) -> None:
        if hasattr(self.tokenizer, "context_length"):
            object.__setattr__(self, "tokenizer", _OfOpenClip(self.tokenizer))

    def classes(self, module: nn.Module, labels: Sequence[str]) -> Classes:
        """Texts as classes."""
        return Classes(tuple(labels), tower_of(module).kind)

    def logits(self, module: nn.Module, output: Any, texts: Sequence[str]) -> Tensor:
        """The similarity to each text of the images that a forward returned, as the model scales it -> (n, texts)."""
        tower = tower_of(module)
        image, embeddings = tower.of_image(output), self.embeddings(module, texts)
        with torch.set_grad_enabled(torch.is_grad_enabled() and image.requires_grad):  # its scale is a parameter
            return tower.compared(image, embeddings)

    def embeddings(self, module: nn.Module, texts: Sequence[str]) -> Tensor:
        """Of any length, (texts, width), made once and again where weights that make them were changed.

        Raises ValueError for a text that the model does not take.
        """
        tower = tower_of(module)
        known, state = _EMBEDDED.setdefault(tower, {}), _state(tower)
        kept = known.get(tuple(texts))
        if kept is not None and kept[0] == state:
            return kept[1]
        embeddings = self._embedded(tower, texts)
        while len(known) >= _REMEMBERED:
            del known[next(iter(known))]
        known[tuple(texts)] = state, embeddings
        return embeddings

    @torch.inference_mode(False)
    def _embedded(self, tower: ImageText, texts: Sequence[str]) -> Tensor:
        """Texts of one length are run together, so that none is filled up for another's sake."""
        tokens = [self.tokens(tower, text) for text in texts]
        found: dict[int, Tensor] = {}
        lengths = [next(iter(one.values())).shape[1] for one in tokens]
        for length in set(lengths):
            same = [index for index, other in enumerate(lengths) if other == length]
            for start in range(0, len(same), _TOGETHER):
                some = same[start : start + _TOGETHER]
                with torch.no_grad():
                    made = tower.of_texts(
                        {name: torch.cat([tokens[i][name] for i in some]) for name in tokens[some[0]]}
                    )
                found |= dict(zip(some, made, strict=True))
        return torch.stack([found[index] for index in range(len(texts))])

    def tokens(self, tower: ImageText, text: str, *, filled: bool = False) -> Tokens:
        """What the text tower takes, each (1, tokens), on its device. filled: up to the most that it takes."""
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"a text is words, such as 'a red door', not {shown(text)}")
        if self.tokenizer is None:
            raise ValueError(
                f"{self.name} came without a tokenizer, which makes tokens of a text: give the processor that it was "
                "trained with, vislab.load(…, processor=…), as transformers.AutoProcessor.from_pretrained(…) loads it"
            )
        made, count, most = self._tokenised(tower, text, filled=filled or tower.padded)
        if count > most:
            raise ValueError(
                f"the text {shown(text)} is of {count} tokens, and {self.name} takes at most {most}: shorten it"
            )
        device = next(tower.parameters()).device
        return {name: value.to(device) for name, value in made.items()}

    def _tokenised(self, tower: ImageText, text: str, *, filled: bool) -> tuple[Mapping[str, Tensor], int, int]:
        """Its tokens, how many they are before any are added to fill it up, and how many there may be."""
        said = [tower.positions, getattr(self.tokenizer, "model_max_length", None)]
        most = min((count for count in said if count is not None), default=_ENDLESS)
        ids = self.tokenizer(text, truncation=False)["input_ids"]
        if unknown := unknown_words(self.tokenizer, text):
            near = next(filter(None, (meant(word, self.tokenizer.get_vocab()) for word in unknown)), "")
            raise ValueError(
                f"the tokenizer of {self.name} does not know {listed(map(repr, unknown))} in the text {shown(text)}"
                f"{near or ': take other words'}"
            )
        if {*ids} <= {*self.tokenizer.all_special_ids}:
            raise ValueError(f"the tokenizer of {self.name} knows nothing of the text {shown(text)}: take other words")
        padding: dict[str, Any] = {"padding": "max_length", "max_length": most} if filled and most < _ENDLESS else {}
        if len(ids) > most:
            return {}, len(ids), most
        return self.tokenizer([text], return_tensors="pt", **padding), len(ids), most

    def prove(self, module: nn.Module, pixels: Tensor, arguments: Mapping[str, Any], text: str) -> None:
        """Compare the similarity of a text and some pixels with what the model's own forward says, once for a model.

        pixels: (1, 3, height, width). Raises ValueError where they differ, or where it says nothing of the kind.
        """
        tower = tower_of(module)
        if tower not in _PROVEN:
            _PROVEN[tower] = self._difference(module, tower, pixels, arguments, text)
        if _PROVEN[tower]:
            raise ValueError(f"texts are no targets of {self.name}: {_PROVEN[tower]}")

    @torch.inference_mode(False)
    def _difference(
        self, module: nn.Module, tower: ImageText, pixels: Tensor, arguments: Mapping[str, Any], text: str
    ) -> str:
        """In what its own forward differs; "" where in nothing."""
        seen: dict[str, Any] = {}

        def see(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.update({**dict(zip(("pixel_values",), args, strict=False)), **kwargs})

        tokens = self.tokens(tower, text)
        handle = tower.register_forward_pre_hook(see, with_kwargs=True)
        try:
            with torch.no_grad():
                output = module(pixels, **arguments)
                ours = tower.compared(tower.of_image(output), tower.of_texts(tokens)).float()
                own = tower.own(seen, tokens).float()
                filled = tower.compared(tower.of_image(output), tower.of_texts(self.tokens(tower, text, filled=True)))
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
            return f"its own forward of an image and a text gives no similarity of the two ({first_line(error)})"
        finally:
            handle.remove()
        small = 200 * torch.finfo(pixels.dtype).eps * max(1.0, float(own.abs().max()) if own.numel() else 0.0)
        if ours.shape != own.shape or float((ours - own).abs().max()) > small:
            return "the similarity that follows from its embeddings of image and text is not what its own forward says"
        if float((ours - filled.float()).abs().max()) > small:
            return (
                "its embedding of a text depends on how far it is filled up, and how far it was in training is unknown"
            )
        return ""


def unknown_words(tokenizer: Any, text: str) -> list[str]:
    """The words of a text that a tokenizer does not know, and would read as one and the same; else such marks."""
    unknown = getattr(tokenizer, "unk_token_id", None)

    def lacks(part: str) -> bool:
        return unknown is not None and unknown in tokenizer(part, add_special_tokens=False)["input_ids"]

    if not lacks(text):
        return []
    words = dict.fromkeys(word.strip(_MARKS) or word for word in text.split())
    marks = dict.fromkeys(sign for sign in text if not sign.isalnum() and not sign.isspace())
    return [*filter(lacks, words)] or [*filter(lacks, marks)] or [text]


def is_tokenizer(given: Any) -> bool:
    """Whether something makes tokens of texts, as transformers or open_clip has it."""
    if isinstance(given, nn.Module) or not callable(given):
        return False
    return hasattr(given, "all_special_ids") or hasattr(given, "context_length")


class _OfOpenClip:
    """A tokenizer of open_clip, spoken to as one of transformers; it fills every text up, and cuts off what is over."""

    def __init__(self, tokenizer: Any) -> None:
        self.whole, self.inner = tokenizer, getattr(tokenizer, "tokenizer", None)
        self.model_max_length = int(tokenizer.context_length)
        self.all_special_ids = (self.inner or tokenizer).all_special_ids
        self.unk_token_id = getattr(self.inner, "unk_token_id", None)

    def get_vocab(self) -> dict[str, int]:
        return {} if self.inner is None else dict(self.inner.get_vocab())

    def __call__(
        self, text: str | list[str], *, return_tensors: str = "", add_special_tokens: bool = True, **_: Any
    ) -> dict[str, Any]:
        if return_tensors:
            return {"input_ids": self.whole(text)}
        if self.inner is not None:
            return {"input_ids": self.inner(text, add_special_tokens=add_special_tokens)["input_ids"]}
        first, last = self.all_special_ids[:2]
        return {"input_ids": [first, *self.whole.encode(text), last]}


def _state(tower: ImageText) -> list[Any]:
    """What tells that the weights which make texts' embeddings are what they were."""
    weights = tower.text_weights()
    return [(w.data_ptr(), 0 if w.is_inference() else w._version, w.dtype) for w in weights]
