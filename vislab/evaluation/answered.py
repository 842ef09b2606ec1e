"""Which map of a word to believe: the word's probability while squares of the image are removed and put back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from ..api.explain import explain
from ..core.checks import check_counts, one_of, shown
from ..core.geometry import Box
from ..core.heatmap import Heatmap
from ..engine.site import AttentionRefused
from ..language.answer import Answer
from ..language.prompt import extended, prompted
from ..language.words import word_index
from ..models.modes import evaluating
from .plan import Maps, content, counted, rng
from .pointing import pointing
from .ranks import centre, spearman
from .removal import BLUR, Fill, Removal, removal
from .report import BASELINES, CENTRE, RANDOM, Evaluation

METHODS: Mapping[str, Mapping[str, Any]] = {
    "attention": {"method": "attention"},
    "attention, all layers": {"method": "attention", "layer": "mean"},
    "rollout": {"method": "rollout"},
    "relevance": {"method": "relevance"},
    "lens": {"method": "lens"},
}
SQUARES = 16  # along a side of the image: what is removed at once is one of them or several


def evaluate_answers(
    answers: Sequence[Answer],
    *,
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]] | None,
    targets: Sequence[str | int] | None,
    boxes: Sequence[Box | None] | None,
    fill: Fill,
    steps: int,
    seed: int,
    progress: bool,
) -> Evaluation:
    """See `vislab.evaluate`, of answers. targets: of each answer a word, by default its longest."""
    check_counts(steps=steps, seed=seed)
    named, words = _named(methods), _words(answers, targets)
    if methods is None:
        named = _answering(answers[0], words[0], named)
    if boxes is not None and len(boxes) != len(answers):
        raise ValueError(f"{len(answers)} answers take {len(answers)} boxes, None where a word has none: {len(boxes)}")
    steps, found = min(steps, SQUARES**2), []
    for number, answer in enumerate(counted(answers, "answer", progress)):
        key = content(answer.image), words[number]
        maps = _maps(answer, words[number], named, rng(seed, "maps", *key))
        score = word_score(answer, target=words[number], fill=fill)
        curves = [removal(one, score=score, steps=steps, seed=rng(seed, "ties", *key)) for one in maps.values()]
        box = None if boxes is None else boxes[number]
        found.append((maps, curves, box and _inside(answer, box)))
    return _evaluation(answers, words, found, {"methods": named, "fill": fill, "seed": seed})


def word_score(
    answer: Answer, *, target: str | int, fill: Fill = "blur", squares: int = SQUARES
) -> Callable[[np.ndarray], np.ndarray]:
    """The probability of a word of an answer, all its pieces, where only some squares of the image are kept.

    -> (n, squares, squares) bool -> (n,), each in one forward over the question and the answer up to the word. fill:
    what a removed square shows, the image blurred until its shapes are gone, or its mean colour.
    """
    if not one_of(fill, ("blur", "mean")):
        raise ValueError(f"fill is 'blur' or 'mean', not {shown(fill)}")
    place = word_index(answer.words, target)
    rows, prompt, image = answer.rows(place), answer.inputs["input_ids"].shape[1], answer.image
    removed = np.asarray(_removed(image, fill))
    down, across = (np.arange(side) * squares // side for side in image.shape[:2])
    reader, following = answer.reader, answer.ids[[row + 1 for row in rows]]

    def probability(kept: np.ndarray) -> float:
        picture = np.where(kept[down][:, across][..., None], image, removed)
        inputs, _ = prompted(reader, picture, answer.question)
        with torch.no_grad():
            logits = reader.module(**extended(inputs, answer.ids[prompt : rows[-1] + 1]), use_cache=False).logits[0]
        said = logits[rows].float().log_softmax(-1)
        return float(said.gather(1, following[:, None].to(said.device)).sum().exp())

    known: dict[bytes, float] = {}  # every order begins with the whole image and ends without it

    def score(kept: np.ndarray) -> np.ndarray:
        with reader.lock, evaluating(reader.module):
            new = {key: one for one in kept if (key := one.tobytes()) not in known}
            known.update({key: probability(one) for key, one in new.items()})
        return np.array([known[one.tobytes()] for one in kept])

    return score


def _removed(image: np.ndarray, fill: Fill) -> Image.Image:
    picture = Image.fromarray(image)
    if fill == "blur":
        return picture.filter(ImageFilter.GaussianBlur(BLUR * min(image.shape[:2])))
    colour = tuple(round(float(one)) for one in image.reshape(-1, 3).mean(0))
    return Image.new("RGB", picture.size, colour)


def _named(methods: Sequence[str] | Mapping[str, Mapping[str, Any]] | None) -> dict[str, dict[str, Any]]:
    if methods is None:
        return {name: dict(keywords) for name, keywords in METHODS.items()}
    if isinstance(methods, str) or not isinstance(methods, Sequence | Mapping):
        raise ValueError(f"methods is a list of names, or a mapping from names to keywords, not {shown(methods)}")
    several = methods if isinstance(methods, Mapping) else {name: METHODS.get(name, {}) for name in methods}
    if taken := next((name for name in several if name in BASELINES), None):
        raise ValueError(f"{taken!r} is always there, as a baseline: leave it out of methods")
    return {name: {"method": name} | dict(keywords) for name, keywords in several.items()}


def _answering(answer: Answer, word: int, named: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The methods that the model has an answer to, found on a word of one answer; the others are warned of."""
    found = {}
    for name, keywords in named.items():
        try:
            explain(answer, target=word, **keywords)
        except (ValueError, AttentionRefused) as error:
            warnings.warn(f"left out {name}: {error}", stacklevel=4)
            continue
        found[name] = dict(keywords)
    return found


def _words(answers: Sequence[Answer], targets: Sequence[str | int] | None) -> list[int]:
    if targets is None:
        return [_longest(one) for one in answers]
    if isinstance(targets, str) or len(targets) != len(answers):
        raise ValueError(f"{len(answers)} answers take {len(answers)} targets, a word of each, not {shown(targets)}")
    return [word_index(one.words, target) for one, target in zip(answers, targets, strict=True)]


def _longest(answer: Answer) -> int:
    lengths = [len(word.text) for word in answer.words]
    return lengths.index(max(lengths))


def _maps(answer: Answer, word: int, named: Mapping[str, Mapping[str, Any]], chance: np.random.Generator) -> Maps:
    maps = {name: on_squares(explain(answer, target=word, **keywords)) for name, keywords in named.items()}
    return maps | {RANDOM: chance.random((SQUARES, SQUARES)), CENTRE: centre(SQUARES, SQUARES)}


def on_squares(heat: Heatmap, squares: int = SQUARES, points: int = 4) -> np.ndarray:
    """A heatmap on squares of the source image: of each the mean at points × points of it, 0 where no cell is."""
    height, width = heat.frame.source
    at = (np.arange(squares * points) + 0.5) / (squares * points)
    out = np.zeros((len(at), len(at)))
    for row, y in enumerate(at):
        for col, x in enumerate(at):
            cell = heat.grid.cell_at(*heat.frame.to_model(float(x * width), float(y * height)))
            out[row, col] = 0.0 if cell is None else heat.values[cell]
    return out.reshape(squares, points, squares, points).mean((1, 3))


def _inside(answer: Answer, box: Box) -> np.ndarray:
    """The share of each square that lies in a box of the source image -> (squares, squares)"""
    height, width = answer.image.shape[:2]
    x0, y0, x1, y1 = (float(edge) for edge in box)
    shares = []
    for low, high, side in ((y0, y1, height), (x0, x1, width)):
        edges = np.arange(SQUARES + 1) * side / SQUARES
        shares.append(np.clip(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0, None) * SQUARES / side)
    return np.outer(*shares)


def box_of(box: Any) -> Box:
    """(x0, y0, x1, y1), or ValueError."""
    made = np.asarray(box, dtype=float)
    if made.shape != (4,) or not (made[0] < made[2] and made[1] < made[3]):
        raise ValueError(f"a box is (x0, y0, x1, y1) in pixels of the image, not {shown(box)}")
    x0, y0, x1, y1 = made.tolist()
    return x0, y0, x1, y1


def _evaluation(
    answers: Sequence[Answer],
    words: Sequence[int],
    found: Sequence[tuple[Maps, list[Removal], np.ndarray | None]],
    settings: dict[str, Any],
) -> Evaluation:
    names = tuple(found[0][0])
    pointed = [[pointing(one, inside) for one in maps.values()] for maps, _, inside in found if inside is not None]
    alike = [
        np.array([[spearman(one, other) for other in maps.values()] for one in maps.values()]) for maps, _, _ in found
    ]
    return Evaluation(
        methods=names,
        targets=tuple(answer.words[word].text for answer, word in zip(answers, words, strict=True)),
        share=found[0][1][0].share,
        deletion=np.stack([[curve.deletion for curve in curves] for _, curves, _ in found], 1),
        insertion=np.stack([[curve.insertion for curve in curves] for _, curves, _ in found], 1),
        agreement=np.stack(alike, -1),
        pointing=np.array(pointed).reshape(len(pointed), len(names)).T,
        parts=(),
        randomised=np.zeros((len(names), len(found), 0)),
        skipped=(),
        settings={"model": answers[0].reader.name, **settings},
    )
