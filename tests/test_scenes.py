"""Laws of the scenes that the embedded reader is trained on, and of what is asked of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch
from bars import exam
from data import LABELS
from scenes import LARGEST, NAMES, PLACES, SIDES, SMALLEST, Scene, questions, scenes, side, words


@pytest.fixture(scope="module")
def made() -> list[Scene]:
    return list(noise_scenes(seed=0))


def noise_scenes(*, seed: int, varied: bool = False, free: float = 0.0) -> Iterator[Scene]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (2 * len(LABELS), 3, 224, 224), dtype=torch.uint8, generator=generator)
    labels = torch.arange(len(images)) % len(LABELS)
    return scenes(images, labels, seed=seed, count=8, varied=varied, free=free)


def crossing(scene: Scene) -> bool:
    """Whether a picture reaches into a quarter that is not its own."""
    return any(
        low // LARGEST != (high - 1) // LARGEST for p in scene.pictures for low, high in (p.box[::2], p.box[1::2])
    )


def test_a_seed_is_a_scene(made: list[Scene]) -> None:
    again, other = noise_scenes(seed=0), noise_scenes(seed=1)
    assert all(np.array_equal(a.image, b.image) and a.pictures == b.pictures for a, b in zip(made, again, strict=True))
    assert not any(np.array_equal(a.image, b.image) for a, b in zip(made, other, strict=True))


@pytest.mark.parametrize("varied", [False, True])
def test_pictures_lie_in_quarters_of_their_own(varied: bool) -> None:
    for scene in noise_scenes(seed=2, varied=varied):
        places = [picture.place for picture in scene.pictures]
        assert places == sorted(set(places))
        assert len({picture.label for picture in scene.pictures}) == len(places)
        for picture in scene.pictures:
            left, top, right, bottom = picture.box
            assert SMALLEST <= right - left == bottom - top <= LARGEST
            assert {left // LARGEST, (right - 1) // LARGEST} == {picture.place % 2}
            assert {top // LARGEST, (bottom - 1) // LARGEST} == {picture.place // 2}


def test_free_pictures_have_their_centre_in_their_quarter_and_meet_no_other() -> None:
    free = list(noise_scenes(seed=3, free=1.0))
    assert any(map(crossing, free))
    for scene in free:
        covered = np.zeros(scene.image.shape[:2], int)
        for picture in scene.pictures:
            left, top, right, bottom = picture.box
            covered[top:bottom, left:right] += 1
            assert ((left + right) // 2 // LARGEST, (top + bottom) // 2 // LARGEST) == (
                picture.place % 2,
                picture.place // 2,
            )
        assert covered.max() == 1


def test_an_erased_picture_is_ground_and_the_rest_stays(made: list[Scene]) -> None:
    for scene in made:
        for picture in scene.pictures:
            left, top, right, bottom = picture.box
            differs = (scene.without(picture) != scene.image).any(-1)
            assert differs[top:bottom, left:right].mean() > 0.9
            assert differs.sum() == differs[top:bottom, left:right].sum()
        for picture in scene.pictures:
            scene = Scene(scene.without(picture), scene.ground, scene.pictures)
        assert np.array_equal(scene.image, scene.ground)


def test_every_word_is_known_and_rests_on_what_it_says(made: list[Scene]) -> None:
    spoken = set()
    for scene, number in product(made, range(20)):
        rng = random.Random(number)
        named = {picture.place: NAMES[picture.label] for picture in scene.pictures}
        for q in [*questions(scene, rng), *exam(scene, rng), *(side(scene, name) for name in SIDES)]:
            said = q.answer.split()
            spoken |= {*q.text.split(), *said}
            for word, place in zip(said, q.rests, strict=True):
                if place is not None:
                    assert word in f"{named[place]} {PLACES[place]}".split()
    assert spoken <= set(words()) - {"<unk>"}
    assert len(words()) == len(set(words()))


def test_absent_names_are_asked_for_as_often_as_present_ones(made: list[Scene]) -> None:
    for scene in made:
        kinds = [q.kind for q in exam(scene, random.Random(0))]
        assert kinds.count("name") == kinds.count("place") == kinds.count("nowhere") == len(scene.pictures)
