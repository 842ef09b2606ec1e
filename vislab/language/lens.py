"""The lens of a language model: which word each token would say after each layer, by the model's own norm and head.

A token of a language model says which word comes next, so what an image token would say is no description that it was
trained to give. The layers were not trained to be read early either: an early one may be read wrongly and still hold
what later ones take out.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.checks import listed, shown
from ..engine.site import AttentionRefused
from ..models.modes import evaluating, hooked
from .prompt import extended

if TYPE_CHECKING:
    from .answer import Answer

_NORMS = ("norm", "final_layer_norm", "final_layernorm", "ln_f")
_AT_ONCE = 64  # tokens whose words are weighed together: each has as many numbers as the vocabulary has words
_ALIKE = {torch.float64: 1e-8, torch.float32: 1e-3}  # of the last layer's logits, to the model's own


@dataclass(frozen=True, eq=False)
class WordLens:
    """What each token would say after each layer; `Answer.lens` makes one.

    tokens: (layers, image tokens), the most probable word at each image token, and shares: its probability, 0 to 1.
    said: (layers, words), the most probable word where each word of the answer is predicted; chosen: (layers, words),
    the probability that the word which the answer has there already has.
    """

    answer: Answer
    tokens: np.ndarray
    shares: np.ndarray
    said: np.ndarray
    chosen: np.ndarray

    def words(self, layer: int, view: int = 0) -> list[list[str]]:
        """What the image tokens of a view would say after a layer, row by row, "" where none stands for pixels.

        view: of `answer.places.views`, the whole image or a tile of it. Raises ValueError where tokens have no place.
        """
        placed(self.answer)
        views, row = self.answer.places.views, self.tokens[layer]
        return [[row[token] if token >= 0 else "" for token in line] for line in views[view].tokens.tolist()]

    def __str__(self) -> str:
        """A line a layer: what is said where the answer is predicted, and what most image tokens would say."""
        lines = []
        for layer, (tokens, said) in enumerate(zip(self.tokens, self.said, strict=True)):
            most = ", ".join(f"{word!r} {count}" for word, count in Counter(tokens.tolist()).most_common(3))
            lines.append(f"layer {layer:2}: answer {' '.join(said)!r}" + (f"; image tokens {most}" if most else ""))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


@dataclass(frozen=True, eq=False)
class Read:
    """The states of some tokens after each layer, and the way from a state to words.

    states: (layers, tokens, dim). norm, head: modules, the first None where there is none. cap: by which logits are
    bent, as in Gemma, or None.
    """

    states: Tensor
    norm: nn.Module | None
    head: nn.Module
    cap: float | None

    def logits(self, states: Tensor) -> Tensor:
        made: Tensor = self.head(states if self.norm is None else self.norm(states)).float()
        return made if self.cap is None else torch.tanh(made / self.cap) * self.cap

    def probabilities(self, layer: int) -> Any:
        """Of all words, some tokens at a time: (start, (few, vocabulary))"""
        for start in range(0, self.states.shape[1], _AT_ONCE):
            yield start, self.logits(self.states[layer, start : start + _AT_ONCE]).softmax(-1)


def placed(answer: Answer) -> None:
    """ValueError where image tokens have no place of their own, or there are none."""
    if answer.reader.way.kind != "tokens":
        raise ValueError(
            f"the lens reads tokens of the language model, and in {answer.reader.family} the image has none with a "
            "place of its own: answer.lens() tells what is said where the answer is predicted, and method='relevance' "
            "draws a map"
        )


@torch.no_grad()
def read(answer: Answer, tokens: list[int]) -> Read:
    """The states of these tokens in one forward over prompt and answer.

    Raises AttentionRefused where norm and head do not make the model's own logits of the last layer's states.
    """
    reader = answer.reader
    module: Any = reader.module
    paths = _blocks(answer)
    prompt, made = answer.inputs["input_ids"].shape[1], []
    named = dict(module.named_modules())
    parent, root = named[paths[0].rpartition(".")[0].rpartition(".")[0]], module.get_output_embeddings()
    norm = next((getattr(parent, name) for name in _NORMS if hasattr(parent, name)), None)

    def keep(_: nn.Module, args: Any, output: Any) -> None:
        states = output if isinstance(output, Tensor) else output[0]
        made.append(states[0, tokens])

    with reader.lock, evaluating(module), hooked(module, dict.fromkeys(paths, keep)):
        inputs = extended(answer.inputs, answer.ids[prompt:-1])
        own = module(**inputs, use_cache=False).logits[0, tokens[-1:]].float()
    cap = getattr(reader.config.get_text_config(), "final_logit_softcapping", None)
    found = Read(torch.stack(made), norm, root, cap)
    if root is None or float((found.logits(found.states[-1, -1:]) - own).abs().max()) > _ALIKE.get(reader.dtype, 0.5):
        raise AttentionRefused(
            f"{reader.name} makes its words of the last layer by more than its norm and its head, so no earlier layer "
            "can be read by them: take method='relevance' or 'attention'"
        )
    return found


@torch.no_grad()
def lens(answer: Answer) -> WordLens:
    """See `Answer.lens`."""
    image = answer.image_tokens.tolist() if answer.reader.way.kind != "keys" else []
    rows = [word.start - 1 for word in answer.words]
    found = read(answer, [*image, *rows])
    ids = answer.ids[[word.start for word in answer.words]].to(found.states.device)
    decode = answer.reader.processor.tokenizer.decode
    best, shares, chosen = [], [], []
    for layer in range(len(found.states)):
        parts = [(part.max(-1), part[..., ids]) for _, part in found.probabilities(layer)]
        best.append([decode([token]).strip() for one, _ in parts for token in one.indices.tolist()])
        shares.append(torch.cat([one.values for one, _ in parts]).cpu().numpy())
        chosen.append(torch.cat([own for _, own in parts])[len(image) :].diagonal().cpu().numpy())
    words, count = np.array(best, dtype=object), len(image)
    return WordLens(answer, words[:, :count], np.stack(shares)[:, :count], words[:, count:], np.stack(chosen))


@torch.no_grad()
def of_word(answer: Answer, word: str | int, layer: int) -> tuple[np.ndarray, str]:
    """The probability of a word at each image token after a layer, laid on the image -> (rows, cols), and the word.

    word: of the answer, by its place, or any text, of which the first piece counts, with and without a space before it.
    """
    placed(answer)
    text, ids = _pieces(answer, word)
    image = answer.image_tokens.tolist()
    found = read(answer, [*image, answer.words[0].start - 1])
    if not -len(found.states) <= layer < len(found.states):
        raise ValueError(f"no layer {layer}: layers run from 0 to {len(found.states) - 1}")
    shares = torch.cat([part[:, ids].sum(-1) for _, part in found.probabilities(layer)])[: len(image)]
    return _mean_of_views(answer, shares.cpu().double().numpy()), text


def _mean_of_views(answer: Answer, shares: np.ndarray) -> np.ndarray:
    """Probabilities are no shares of a whole: where several views see a cell, or several tokens, it has their mean."""
    places = answer.places
    full = [np.where(view.tokens >= 0, 1.0 * view.grid.patch[0] * view.grid.patch[1], 0.0) for view in places.views]
    areas = [one / (view.frame.scale[0] * view.frame.scale[1]) for one, view in zip(full, places.views, strict=True)]
    padded = np.append(shares, 0.0)
    weighted = places.laid([padded[view.tokens] * area for view, area in zip(places.views, areas, strict=True)])
    total = places.laid(areas)
    made: np.ndarray = np.divide(weighted, total, out=np.zeros_like(weighted), where=total > 1e-9)
    return made


def _pieces(answer: Answer, word: str | int) -> tuple[str, list[int]]:
    if isinstance(word, int):
        return answer.words[word].text, [int(answer.ids[answer.words[word].start])]
    tokenizer = answer.reader.processor.tokenizer
    made = [tokenizer(text, add_special_tokens=False).input_ids for text in (word.strip(), " " + word.strip())]
    known = [ids[0] for ids in made if ids and ids[0] != tokenizer.unk_token_id]
    known = [token for token in known if tokenizer.decode([token]).strip()]
    if not known:
        raise ValueError(f"the model has no word for {shown(word)}: give a word that its tokenizer knows")
    return word.strip(), sorted({*known})


def _blocks(answer: Answer) -> list[str]:
    """The paths of the language model's layers, in order."""
    inside = answer.reader.decoder + "."
    names = [path for path, _ in answer.reader.module.named_modules()]
    site = next(site.path for site in answer.capture.sites.values() if site.path.startswith(inside))
    found = re.match(rf"({re.escape(inside)}(?:\w+\.)*?layers?)\.\d+\.", site)
    if found is None:
        raise AttentionRefused(f"{site} is in no list of layers: {listed(names)}")
    return [name for name in names if re.fullmatch(rf"{re.escape(found[1])}\.\d+", name)]
