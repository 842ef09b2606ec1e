"""An Answer: what a vision-language model said of an image, its words, and what they attended to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.shown import drawing
from ..engine.capture import Capture
from ..engine.site import AttentionRefused, Site
from .lens import WordLens, lens
from .places import ImagePlaces
from .prompt import Inputs
from .reader import Reader
from .words import Word


@dataclass(frozen=True, eq=False)
class Answer:
    """What a vision-language model said of an image; make one with `vislab.ask`, explain a word with `vislab.explain`.

    text: what it said. words: of the text, each with its tokens in the model's sequence. image: (H, W, 3) uint8.
    given: whether the text was not the model's own but given to it. finished: whether the model came to an end by
    itself. ids: (tokens,), prompt and answer. reader, inputs, capture, places: the model, what it was given, what
    attended, and where the image tokens are. Shows itself as the last expression of a notebook cell, with its words to
    point at.
    """

    text: str
    words: tuple[Word, ...]
    question: str
    image: np.ndarray
    given: bool
    finished: bool
    limit: int
    ids: Tensor
    reader: Reader
    inputs: Inputs
    capture: Capture
    places: ImagePlaces

    def __repr__(self) -> str:
        return f"Answer({self.text!r}, words={[word.text for word in self.words]})"

    def _repr_html_(self) -> str:
        page: str = drawing("words").page(self)
        return page

    @cached_property
    def sites(self) -> list[Site]:
        """Where the words' queries meet the image's keys, the layers in which they do in order.

        All layers of the language model, where image tokens are among its own; else those of its cross-attention.
        """
        found = self.reader.sites(self.capture)
        for site in found:
            if site.refused is None and site.queries != len(self.ids) - 1:
                raise AttentionRefused(
                    f"{site.name} ({site.kind}) has {site.queries} queries, and {len(self.ids) - 1} tokens went "
                    f"through {self.reader.name}: its words cannot be told apart"
                )
        return found

    @cached_property
    def image_tokens(self) -> Tensor:
        """Which of the keys that words attend to stand for the image, in order -> (image tokens,)

        Tokens of the prompt; where words cross to the image, all that they cross to.
        """
        if self.reader.way.kind == "keys":
            return torch.arange(self.places.count)
        prompt = self.ids[: self.inputs["input_ids"].shape[1]]
        return (prompt == self.reader.image_token).nonzero().squeeze(1)

    @cached_property
    def first(self) -> int:
        """The first token that stands for no image, on which attention often rests as on a drain."""
        if self.reader.way.kind == "keys":
            return -1
        return int((self.ids != self.reader.image_token).nonzero()[0])

    def rows(self, word: int) -> list[int]:
        """The tokens at which a word's pieces are predicted: each stands one before the piece."""
        return list(range(self.words[word].start - 1, self.words[word].stop - 1))

    @cached_property
    def shares(self) -> np.ndarray:
        """How much of each word's attention lies on what -> (words, layers, heads, 3): image, text, first token.

        The three sum to 1. Of a word of several pieces, the mean of theirs. Where words cross to the image (Mllama,
        BLIP), the layers in which they do are told of, and there all lies on the image.
        """
        begin = self.words[0].start - 1
        out = np.zeros((len(self.words), len(self.sites), self.sites[0].heads, 3), dtype=np.float32)
        for layer, site in enumerate(self.sites):
            parts = self.parts(self.capture.attention(site, slice(begin, self.words[-1].stop - 1))[0])
            for number in range(len(self.words)):
                rows = [row - begin for row in self.rows(number)]
                out[number, layer] = parts[:, rows].mean(1).cpu().numpy()
        return out

    def parts(self, attention: Tensor) -> Tensor:
        """attention: (…, keys), 0 to 1 -> (…, 3), its sums over image, other text and first token."""
        image = attention[..., self.image_tokens.to(attention.device)].sum(-1)
        if self.first < 0:
            return torch.stack([image, torch.zeros_like(image), torch.zeros_like(image)], -1)
        first = attention[..., self.first]
        return torch.stack([image, attention.sum(-1) - image - first, first], -1)

    @property
    def image_share(self) -> np.ndarray:
        """The share of each word's attention on the image, in the mean of layers and heads -> (words,), 0 to 1."""
        share: np.ndarray = self.shares[..., 0].mean((1, 2))
        return share

    def lens(self) -> WordLens:
        """Which word each image token would say after each layer, and what is said where each word is predicted.

        One forward over prompt and answer; its layers' states are read by the model's own norm and head. A map of one
        word is `vislab.explain(answer, target="church", method="lens", layer=5)`. Raises AttentionRefused where norm
        and head alone do not make the model's own words.

            print(answer.lens())  # needs the network

        Source: nostalgebraist 2020, the logit lens; at image tokens Neo et al. 2024, Towards Interpreting Visual
        Information Processing in Vision-Language Models.
        """
        return lens(self)

    @property
    def settings(self) -> dict[str, Any]:
        """The keywords of `ask` that made it."""
        own = {"answer": self.text} if self.given else {"tokens": self.limit}
        return {"model": self.reader.name, "question": self.question, **own}
