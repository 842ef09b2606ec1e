"""What the embedded reader is worth: is it right, do its words' maps lie where they should, and does the place matter.

Everything is counted on scenes from the model's own greedy answers: an answer is right if every word of it, and the end
after it, is the likeliest one.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from llava import COUNT, GRID, IGNORED, LINE, PATCHES, VIEWS, Packed, in_line, pack, patches, read, see, views
from scenes import NAMES, PLACES, Question, Scene, count, describe, name_of, nothing, nowhere, place_of, presence
from torch import Tensor
from transformers import LlavaNextForConditionalGeneration

BARS = {"name": 0.75, "place": 0.80, "nowhere": 0.75, "map": 0.85, "erasing": 5.0}


@dataclass(frozen=True)
class Measured:
    """Figures of a reader, and on how many cases each rests.

    right: by kind of question, the share answered right. maps: by way of reading the map, the share of answer words
    whose map lies most in the quarter of the picture they rest on. share: by layer, how much of such a word's attention
    is on the image at all, in the mean of the heads. lost: the answer's probability that erasing costs, of the picture
    it rests on and of another, in the mean.
    """

    right: dict[str, float]
    maps: dict[str, float]
    share: list[float]
    lost: tuple[float, float]
    cases: dict[str, int]

    @property
    def erasing(self) -> float:
        """How many times more erasing the right picture costs than erasing another."""
        return self.lost[0] / max(self.lost[1], 1e-6)

    def brief(self) -> str:
        """One line: the share right by kind, and the best map."""
        kinds = "  ".join(f"{kind} {share:.2f}" for kind, share in self.right.items())
        way, share = max(self.maps.items(), key=lambda item: item[1])
        return f"{kinds}  map {share:.2f} ({way})"

    def __str__(self) -> str:
        rows = [f"{kind:9} {share:.3f} of {self.cases[kind]}" for kind, share in self.right.items()]
        best = sorted(self.maps.items(), key=lambda item: -item[1])
        rows += [f"map       {share:.3f} of {self.cases['map']}  {way}" for way, share in best]
        rows.append("on image  " + " ".join(f"{share:.2f}" for share in self.share) + "  by layer")
        own, other = self.lost
        times = f"{self.erasing:.1f} times" if other > 0 else "which costs nothing"
        rows.append(f"erasing   {own:.3f} the right picture, {other:.3f} another: {times}")
        found = {**self.right, "map": best[0][1], "erasing": self.erasing}
        rows += [f"{'met' if found[bar] >= least else 'MISSED'}: {bar} ≥ {least}" for bar, least in BARS.items()]
        return "\n".join(rows)


def exam(scene: Scene, rng: random.Random) -> list[Question]:
    """What is asked of a scene to measure: of each picture its name and its place, and as many absent names."""
    there = scene.pictures
    absent = [c for c in range(len(NAMES)) if c not in {p.label for p in there}]
    empty = [i for i in range(len(PLACES)) if i not in {p.place for p in there}]
    asked = [make(p) for p in there for make in (name_of, place_of)]
    asked += [nowhere(c) for c in rng.sample(absent, len(there))]
    asked += [nothing(place) for place in empty]
    asked += [presence(rng.choice(there).label, True), presence(rng.choice(absent), False)]
    return [*asked, count(scene), describe(scene)]


@torch.inference_mode()
def glance(reader: LlavaNextForConditionalGeneration, image: np.ndarray) -> Tensor:
    """What the tower sees of a scene, (448, 448, 3) uint8, as image tokens. -> (1, 1008, width)"""
    kept = torch.arange(PATCHES, device=reader.device).expand(VIEWS, -1)
    cells = patches(views(torch.from_numpy(image.copy())[None]).to(reader.device), kept)
    seen = see(reader.model.vision_tower, cells, kept)[-1]
    return in_line(seen, torch.zeros(seen.shape[2], device=seen.device))


@torch.inference_mode()
def answers(
    reader: LlavaNextForConditionalGeneration, seen: Tensor, asked: list[Question]
) -> tuple[Packed, Tensor, list[Tensor]]:
    """The questions on what is seen of one image, (1, 1008, width). -> questions, logits, each layer's attention"""
    packed = pack([asked], reader.device)
    found = read(reader, seen, torch.arange(COUNT, device=reader.device)[None], packed)
    return packed, found.logits[0].float(), [attention[0].float() for attention in found.attentions]


def measure(
    reader: LlavaNextForConditionalGeneration,
    made: list[Scene],
    *,
    erased: int = 40,
    seed: int = 0,
    known: Tensor | None = None,
) -> Measured:
    """Ask everything of each scene; erase pictures of the first so many scenes that have two or more.

    known: what the tower sees of them, (n, 1008, width), where that is known.
    """
    rng = random.Random(seed)
    right: dict[str, list[bool]] = defaultdict(list)
    maps: dict[str, list[bool]] = defaultdict(list)
    share: list[list[float]] = []
    lost: list[Tensor] = []
    for number, scene in enumerate(made):
        asked = exam(scene, rng)
        seen = glance(reader, scene.image) if known is None else known[number : number + 1]
        packed, logits, attentions = answers(reader, seen, asked)
        for question, ok in zip(asked, _right(packed, logits), strict=True):
            right[question.kind].append(ok)
        _look(packed, attentions, asked, maps, share)
        if len(scene.pictures) > 1 and erased > 0:
            erased -= 1
            lost.append(_erase(reader, scene))
    cases = {kind: len(hits) for kind, hits in right.items()} | {"map": len(share)}
    mean = torch.tensor(share).mean(0).tolist()
    own, other = torch.cat(lost).mean(0).tolist() if lost else (0.0, 0.0)
    return Measured(
        {kind: sum(hits) / len(hits) for kind, hits in right.items()},
        {way: sum(hits) / len(hits) for way, hits in maps.items()},
        mean,
        (own, other),
        cases,
    )


def _right(packed: Packed, logits: Tensor) -> list[bool]:
    """Whether each question's answer is what the model would say."""
    following, segments = packed.following[0], packed.segments[0]
    ok = (logits.argmax(-1) == following) | (following == IGNORED)
    return [bool(ok[segments == number].all()) for number in range(int(segments.max()) + 1)]


def _look(
    packed: Packed,
    attentions: list[Tensor],
    asked: list[Question],
    maps: dict[str, list[bool]],
    share: list[list[float]],
) -> None:
    """Add where the words of answers to "what is at" and "where is" look, and how much of it is on the image."""
    rests, segments = packed.rests[0], packed.segments[0]
    wanted = torch.tensor([q.kind in ("name", "place") for q in asked], device=rests.device)
    rows = ((rests >= 0) & wanted[segments]).nonzero().flatten()
    heads = torch.stack([attention[:, 1 + COUNT + rows] for attention in attentions])
    image = heads[:, :, :, 1 : 1 + COUNT]
    share += image.sum(-1).mean(1).T.tolist()
    ways = {f"mean of layer {i}": image[i].mean(0) for i in range(len(image))}
    ways |= {f"layer {i} head {h}": image[i, h] for i in range(len(image)) for h in range(image.shape[1])}
    ways["rollout"] = _rollout(attentions, 1 + COUNT + rows)[:, 1 : 1 + COUNT]
    for way, seen in ways.items():
        maps[way] += (in_quarters(seen).argmax(1) == rests[rows]).tolist()


def _rollout(attentions: list[Tensor], rows: Tensor) -> Tensor:
    """Rows of the rolled out attention (Abnar & Zuidema 2020), heads' mean, residual half. -> (rows, sequence)"""
    walk = torch.zeros(len(rows), attentions[0].shape[-1], device=rows.device)
    walk[torch.arange(len(rows)), rows] = 1
    for attention in reversed(attentions):
        walk = 0.5 * walk + 0.5 * walk @ attention.mean(0)
    return walk


def in_quarters(maps: Tensor) -> Tensor:
    """How much of each map, (n, image tokens), lies at each place, in both views of it. -> (n, 4)"""
    whole = maps[:, :PATCHES].unflatten(1, (2, GRID // 2, 2, GRID // 2))
    near = maps[:, PATCHES:].unflatten(1, (2, GRID, LINE))[..., :-1].unflatten(3, (2, GRID))
    return (whole.sum((2, 4)) + near.sum((2, 4))).flatten(1)


def _erase(reader: LlavaNextForConditionalGeneration, scene: Scene) -> Tensor:
    """What erasing costs each picture's name and place: the picture itself, another in the mean. -> (questions, 2)"""
    asked = [make(p) for p in scene.pictures for make in (name_of, place_of)]
    before = _chances(reader, scene.image, asked)
    costs = [before - _chances(reader, scene.without(p), asked) for p in scene.pictures]
    cost = torch.stack(costs)  # (erased, questions)
    own = torch.arange(len(asked)) // 2
    mine = cost[own, torch.arange(len(asked))]
    return torch.stack([mine, (cost.sum(0) - mine) / (len(costs) - 1)], 1)


def _chances(reader: LlavaNextForConditionalGeneration, image: np.ndarray, asked: list[Question]) -> Tensor:
    """The probability of each question's answer, all its words. -> (questions,)"""
    packed, logits, _ = answers(reader, glance(reader, image), asked)
    following, segments = packed.following[0], packed.segments[0]
    said = logits.log_softmax(-1).gather(1, following.clamp(min=0)[:, None])[:, 0] * (following != IGNORED)
    return torch.stack([said[segments == number].sum().exp() for number in range(len(asked))]).cpu()
