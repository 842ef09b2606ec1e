"""The tables of the embedded image-text model's card: words, phrasings, two things at once, what its maps are worth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captions import HELD_OUT, said, with_article
from clip_bank import halves, of_two_classes
from data import LABELS, normalise
from torch import Tensor
from transformers import ViTForImageClassification

import vislab
from vislab.models.image_text import tower_of
from vislab.models.patch_size import resized

PATCH = 16  # pixels
NAMES = tuple(label.lower() for label in LABELS)
PLAIN = ("fish", "dog", "radio", "saw", "building", "horn", "truck", "petrol pump", "ball", "parachute")
# Texts that are compared with each other, and the classes that each is true of; pictures of other classes are left out.
QUESTIONS: tuple[dict[str, tuple[int, ...]], ...] = (
    {"an animal": (0, 1), "a machine": (2, 3, 6, 7), "a building": (4,), "an instrument": (5,)},
    {"a living thing": (0, 1), "an object": (2, 3, 4, 5, 6, 7, 8, 9)},
    {"a thing for music": (2, 5), "a thing for sport": (8, 9), "something with an engine": (3, 6)},
)
METHODS = ("legrad", "relevance", "grad_eclip", "grad_cam", "maskclip", "rollout")


@dataclass(frozen=True)
class Seen:
    """What a model makes of pictures: embeddings, (n, width), to be compared with texts, and the ViT's own logits of
    its classes, (n, 10)."""

    embeddings: Tensor
    logits: Tensor


@torch.no_grad()
def see(model: vislab.Model, pictures: Tensor, own: ViTForImageClassification, patch: int = PATCH) -> Seen:
    """pictures: (n, 3, 224, 224) uint8, or float32 and normalised."""
    tower, embeddings, logits = tower_of(model.module), [], []
    with resized(model.module, patch):
        for part in pictures.split(32):
            pixels = part if part.is_floating_point() else normalise(part)
            output = tower(pixels.to(model.device, model.dtype), interpolate_pos_encoding=True)
            embeddings.append(tower.of_image(output))
            logits.append(own.classifier(output.last_hidden_state[:, 0]).cpu())
    return Seen(torch.cat(embeddings), torch.cat(logits))


@torch.no_grad()
def nearest(model: vislab.Model, seen: Seen, texts: list[str]) -> Tensor:
    """Which of some texts each picture is most like. -> (n,)"""
    assert model.texts is not None
    return tower_of(model.module).compared(seen.embeddings, model.texts.embeddings(model.module, texts)).argmax(1).cpu()


def row(name: str, right: Tensor) -> str:
    return f"| {name} | {right.float().mean():.1%} | {len(right):,} |".replace("%", " %")


def tables(
    model: vislab.Model, start: Path, images: Tensor, labels: Tensor, *, two: int, sizes: list[int], maps: int
) -> Iterator[str]:
    """All tables, line by line. two: how many pictures of two halves; sizes: other patch sizes, pixels."""
    own = ViTForImageClassification.from_pretrained(start, dtype=torch.float32).to(model.device).eval()
    yield "| asked | right | pictures |\n|---|---|---|"
    seen = see(model, images, own)
    names = [f"a photo of {with_article(name)}" for name in NAMES]
    yield row("the ViT's own classifier, of the ten classes", seen.logits.argmax(1) == labels)
    yield row(f"ten names, “{names[0]}”", nearest(model, seen, names) == labels)
    for phrase in HELD_OUT:
        texts = [said(phrase, name) for name in NAMES]
        yield row(f"in words never put like this, “{texts[0]}”", nearest(model, seen, texts) == labels)
    yield row(f"plain words, {listed(PLAIN)}", nearest(model, seen, [with_article(word) for word in PLAIN]) == labels)
    for texts_of in QUESTIONS:
        whose = torch.tensor([next((k for k, of in enumerate(texts_of.values()) if c in of), -1) for c in labels])
        right = nearest(model, seen, [*texts_of]) == whose
        yield row(listed(texts_of), right[whose >= 0])
    yield from two_rows(model, own, images, labels, two, seen)
    for patch in sizes:
        small = see(model, images, own, patch)
        yield row(f"the ViT's own classifier at {patch} px", small.logits.argmax(1) == labels)
        yield row(f"ten names at {patch} px", nearest(model, small, names) == labels)
    if maps:
        yield from map_tables(model, images, labels, seen, maps)


def two_rows(
    model: vislab.Model, own: ViTForImageClassification, images: Tensor, labels: Tensor, count: int, whole: Seen
) -> Iterator[str]:
    """Of pictures of two halves: the right pair among all, and whether two are told from one. whole: of the images."""
    torch.manual_seed(0)
    picks = of_two_classes(labels, count)
    seen = see(model, halves(*(normalise(images[side]) for side in picks)), own)
    classes = labels[picks].T.sort(1).values
    of_two = torch.combinations(torch.arange(len(NAMES)))
    texts = [f"{with_article(NAMES[a])} and {with_article(NAMES[b])}" for a, b in of_two.tolist()]
    found = of_two[nearest(model, seen, texts)]
    yield row(f"two halves: the pair, “{texts[0]}”, among all {len(texts)}", (found == classes).all(1))
    single = [with_article(name) for name in NAMES]
    kind = nearest(model, seen, [*single, *texts])
    yield row("two halves: any pair, among all pairs and the ten names", kind >= len(single))
    alone = nearest(model, whole, [*single, *texts]) < len(single)
    yield row("one picture: one name alone, among all pairs and the ten names", alone)
    yield row(
        "two halves: the ViT's own two most probable classes are the pair",
        (seen.logits.topk(2).indices.sort(1).values == classes).all(1),
    )


def map_tables(model: vislab.Model, images: Tensor, labels: Tensor, seen: Seen, count: int) -> Iterator[str]:
    """What vislab.evaluate measures of maps of names, and of the ViT's classes; of pictures both name right."""
    texts = [with_article(name) for name in NAMES]
    right = ((nearest(model, seen, texts) == labels) & (seen.logits.argmax(1) == labels)).nonzero().flatten().numpy()
    chosen = np.random.default_rng(0).choice(right, min(count, len(right)), replace=False)
    pictures = [images[k].permute(1, 2, 0).contiguous().numpy() for k in chosen]
    how: dict[str, Any] = {"steps": 14, "randomised": 0, "progress": False}
    for one in (vislab.load(model, labels=texts), vislab.load("embedded", device=model.device)):
        assert one.labels is not None
        targets = [one.labels[label] for label in labels[chosen].tolist()]
        yield f"\n{vislab.evaluate(pictures, model=one, methods=METHODS, targets=targets, **how)}"


def listed(words: Iterable[str]) -> str:
    return ", ".join(f"“{word}”" for word in words)
