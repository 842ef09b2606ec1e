"""Scenes put together from Imagenette's pictures, and what can be asked of them.

A scene is 448 px square: a blurred picture for its ground, and one to four pictures of 80 to 224 px, of different
classes, each somewhere in a quarter of its own; in some scenes, if wanted, only its centre is in that quarter and its
edges may be in the next. Everything follows from the seed:

    for scene in scenes(*load(data, "val"), seed=7, count=100): ...
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from data import LABELS
from PIL import Image, ImageFilter
from torch import Tensor

SIDE = 448  # pixels
SMALLEST, LARGEST = 80, SIDE // 2  # a picture's side, pixels
PLACES = ("top left", "top right", "bottom left", "bottom right")
SIDES = {"top": (0, 1), "bottom": (2, 3), "left": (0, 2), "right": (1, 3)}
NUMBERS = ("no", "one", "two", "three", "four")
NAMES = tuple(label.lower() for label in LABELS)
Box = tuple[int, int, int, int]  # left, top, right, bottom, pixels
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")


@dataclass(frozen=True)
class Picture:
    """A picture of a scene: its class, its place (an index of PLACES), its box (left, top, right, bottom) in pixels."""

    label: int
    place: int
    box: Box


@dataclass(frozen=True)
class Scene:
    """A scene: image and ground (448, 448, 3) uint8, and its pictures in reading order."""

    image: np.ndarray
    ground: np.ndarray
    pictures: tuple[Picture, ...]

    def without(self, picture: Picture) -> np.ndarray:
        """The image with ground where one picture was. -> (448, 448, 3) uint8"""
        left, top, right, bottom = picture.box
        image = self.image.copy()
        image[top:bottom, left:right] = self.ground[top:bottom, left:right]
        return image


@dataclass(frozen=True)
class Question:
    """A question, its answer, and for each word of the answer the place that it rests on, or None."""

    kind: str
    text: str
    answer: str
    rests: tuple[int | None, ...]


def scenes(
    images: Tensor, labels: Tensor, *, seed: int, count: int | None = None, varied: bool = False, free: float = 0.0
) -> Iterator[Scene]:
    """Scenes of `images: (n, 3, 224, 224) uint8` and their classes; endless without a count.

    Varied ones, for training, are of random crops, mirrored and in another light. free: the share of scenes in which
    pictures may reach into other quarters, though never into each other.
    """
    rng = random.Random(seed)
    of_class = {int(c): (labels == c).nonzero().flatten().tolist() for c in labels.unique()}
    made = 0
    while count is None or made < count:
        yield _scene(images, of_class, rng, varied, rng.random() < free)
        made += 1


def _scene(images: Tensor, of_class: dict[int, list[int]], rng: random.Random, varied: bool, free: bool) -> Scene:
    ground = _pillow(images[rng.choice(of_class[rng.choice(list(of_class))])]).resize(
        (112, 112), Image.Resampling.BILINEAR
    )
    ground = ground.filter(ImageFilter.GaussianBlur(rng.uniform(2, 6))).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    image = ground.copy()
    number = rng.randint(1, min(len(PLACES), len(of_class)))
    pictures: list[Picture] = []
    classes = rng.sample(list(of_class), number)
    places = sorted(rng.sample(range(len(PLACES)), number))
    for label, place, box in zip(classes, places, _boxes(places, rng, free), strict=True):
        left, top, right, _ = box
        side = right - left
        picture = _pillow(images[rng.choice(of_class[label])])
        crop = _crop(picture.width, rng) if varied else None
        picture = picture.resize((side, side), Image.Resampling.BILINEAR, box=crop)
        image.paste(_another_light(picture, rng) if varied else picture, (left, top))
        pictures.append(Picture(label, place, box))
    return Scene(np.asarray(image), np.asarray(ground), tuple(pictures))


def _boxes(places: list[int], rng: random.Random, free: bool) -> list[Box]:
    """A box for each place, apart from each other."""
    while True:
        boxes: list[Box] = []
        for place in places:
            side = rng.randint(SMALLEST, LARGEST)
            left, top = (_start(side, half, rng, free) for half in (place % 2, place // 2))
            boxes.append((left, top, left + side, top + side))
        if not any(_meet(a, b) for i, a in enumerate(boxes) for b in boxes[:i]):
            return boxes


def _start(side: int, half: int, rng: random.Random, free: bool) -> int:
    """Where a picture begins along an axis, in the first or the second half of it; free: its centre is in that half."""
    least, most = half * LARGEST, half * LARGEST + LARGEST - side
    if free:
        least, most = max(0, least - side // 2), min(SIDE - side, most + side // 2)
    return rng.randint(least, most)


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _pillow(image: Tensor) -> Image.Image:
    return Image.merge("RGB", [Image.fromarray(band) for band in image.numpy()])


def _crop(side: int, rng: random.Random) -> tuple[float, float, float, float]:
    width, height = (side * rng.uniform(0.6, 1) for _ in range(2))
    left, top = rng.uniform(0, side - width), rng.uniform(0, side - height)
    return left, top, left + width, top + height


def _another_light(picture: Image.Image, rng: random.Random) -> Image.Image:
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    contrast = rng.uniform(0.6, 1.4)
    tables = []
    for _ in range(3):
        tint = 128 + rng.uniform(-20, 20)
        tables += [min(255, max(0, round((value - 128) * contrast + tint))) for value in range(256)]
    return picture.point(tables)


def questions(scene: Scene, rng: random.Random) -> list[Question]:
    """What is asked of a scene in training: all kinds, as many names that are absent as names that are there."""
    there = list(scene.pictures)
    absent = [c for c in range(len(NAMES)) if c not in {p.label for p in there}]
    empty = [i for i in range(len(PLACES)) if i not in {p.place for p in there}]
    asked = [name_of(p) for p in there]
    asked += [place_of(p) for p in rng.sample(there, min(2, len(there)))]
    asked += [nowhere(c) for c in rng.sample(absent, 2)]
    asked += [nothing(place) for place in rng.sample(empty, min(1, len(empty)))]
    asked.append(presence(rng.choice(there).label, True) if rng.random() < 0.5 else presence(rng.choice(absent), False))
    asked.append(rng.choice([count, describe, lambda s: side(s, rng.choice(list(SIDES)))])(scene))
    rng.shuffle(asked)
    return asked


def name_of(picture: Picture) -> Question:
    """What is at a place where something is."""
    answer = f"{_a(picture.label)} ."
    return Question("name", f"what is at the {PLACES[picture.place]} ?", answer, _resting(answer, picture.place))


def nothing(place: int) -> Question:
    """What is at a place where nothing is."""
    return Question("nothing", f"what is at the {PLACES[place]} ?", "nothing .", (None, None))


def place_of(picture: Picture) -> Question:
    """Where something is that is there."""
    answer = f"{PLACES[picture.place]} ."
    return Question("place", f"where is the {NAMES[picture.label]} ?", answer, _resting(answer, picture.place))


def nowhere(label: int) -> Question:
    """Where something is that is not there."""
    return Question("nowhere", f"where is the {NAMES[label]} ?", "nowhere .", (None, None))


def presence(label: int, there: bool) -> Question:
    """Whether something is there."""
    return Question("presence", f"is there {_a(label)} ?", "yes ." if there else "no .", (None, None))


def count(scene: Scene) -> Question:
    """How many pictures there are."""
    answer = f"{NUMBERS[len(scene.pictures)]} ."
    return Question("count", "how many pictures are there ?", answer, (None, None))


def describe(scene: Scene) -> Question:
    """All pictures with their places, in reading order."""
    answer, rests = _joined([(f"{_a(p.label)} at the {PLACES[p.place]}", p.place) for p in scene.pictures])
    return Question("describe", "describe the picture .", answer, rests)


def side(scene: Scene, name: str) -> Question:
    """What is on one side."""
    answer, rests = _joined([(_a(p.label), p.place) for p in scene.pictures if p.place in SIDES[name]])
    return Question("side", f"what is on the {name} ?", answer, rests)


def words() -> tuple[str, ...]:
    """Every word that questions and answers are made of, after the special tokens: a token's id is its index."""
    spoken = "a an the what is at on where top bottom left right nowhere nothing and describe picture how many pictures"
    spoken = f"{spoken} are there yes {' '.join(NUMBERS)} {' '.join(NAMES)} ? ."
    return SPECIAL + tuple(dict.fromkeys(spoken.split()))


def _a(label: int) -> str:
    return f"{'an' if NAMES[label][0] in 'aeiou' else 'a'} {NAMES[label]}"


def _resting(text: str, place: int) -> tuple[int | None, ...]:
    """Names and places rest on a picture; articles and full stops on nothing."""
    return tuple(None if word in ("a", "an", "at", "the", "and", ".") else place for word in text.split())


def _joined(parts: list[tuple[str, int]]) -> tuple[str, tuple[int | None, ...]]:
    if not parts:
        return "nothing .", (None, None)
    answer = " and ".join(text for text, _ in parts) + " ."
    rests: list[int | None] = []
    for text, place in parts:
        rests += [*_resting(text, place), None]  # what follows is "and", or the full stop
    return answer, tuple(rests)
