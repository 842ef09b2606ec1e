"""What the embedded reader is trained on and with: scenes, questions, and its parts run for many questions at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from bars import answers, exam, measure
from data import LABELS
from llava import GRID, IMAGE, new_processor, new_reader, owners, patches, pixels, see, see_alone
from PIL import Image
from reader import KEPT, boxes_of, keep, save
from scenes import LARGEST, NAMES, PLACES, SIDES, SMALLEST, Scene, questions, scenes, side, words
from transformers import AutoProcessor, LlavaForConditionalGeneration, ViTForImageClassification, logging

START = Path(__file__).parents[1] / "assets" / "models" / "vit-tiny-imagenette"


@pytest.fixture(scope="module")
def made() -> list[Scene]:
    return list(noise_scenes(seed=0))


def noise_scenes(*, seed: int, varied: bool = False) -> Iterator[Scene]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (2 * len(LABELS), 3, 224, 224), dtype=torch.uint8, generator=generator)
    return scenes(images, torch.arange(len(images)) % len(LABELS), seed=seed, count=8, varied=varied)


@pytest.fixture(scope="module")
def vit() -> ViTForImageClassification:
    logging.disable_progress_bar()
    return ViTForImageClassification.from_pretrained(START, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def reader(vit: ViTForImageClassification) -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    made = new_reader(vit).eval()
    made.set_attn_implementation("eager")
    for parameter in made.model.language_model.parameters():
        parameter.data *= 1 if parameter.ndim == 1 else 8  # attention far from even, answers far from each other
    return made


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


def test_what_is_read_together_is_what_the_model_says_of_each_alone(
    reader: LlavaForConditionalGeneration, made: list[Scene]
) -> None:
    scene, processor = made[0], new_processor()
    asked = exam(scene, random.Random(0))
    packed, logits, attentions = answers(reader, torch.from_numpy(scene.image.copy()), asked)
    for number, question in list(enumerate(asked))[::3]:
        inputs = processor(
            images=Image.fromarray(scene.image),
            text=f"<image>{question.text.upper()} {question.answer}",
            return_tensors="pt",
        )
        assert int((inputs["input_ids"] == IMAGE).sum()) == GRID**2
        assert inputs["input_ids"][0, 1 + GRID**2 :].tolist() == packed.ids[0, packed.segments[0] == number].tolist()
        with torch.inference_mode():
            alone = reader(**inputs, output_attentions=True)
        rows = (packed.segments[0] == number).nonzero().flatten()
        torch.testing.assert_close(logits[rows], alone.logits[0, 1 + GRID**2 :], rtol=1e-4, atol=1e-4)
        together = attentions[2][:, 1 + GRID**2 + rows, : 1 + GRID**2]
        torch.testing.assert_close(
            together, alone.attentions[2][0, :, 1 + GRID**2 :, : 1 + GRID**2], rtol=1e-4, atol=1e-5
        )


def test_a_picture_alone_does_not_see_the_others(vit: ViTForImageClassification, made: list[Scene]) -> None:
    scene = next(scene for scene in made if len(scene.pictures) > 1)
    erased = Scene(scene.without(scene.pictures[0]), scene.ground, scene.pictures)
    owner, kept = owners(scene)[None], torch.arange(GRID**2)[None]
    with torch.inference_mode():
        before, after = (
            see_alone(vit, patches(pixels([s]), kept), kept, owner, boxes_of([s]))[-1][0] for s in (scene, erased)
        )
    for picture in scene.pictures:
        same = torch.allclose(before[owner[0] == picture.place], after[owner[0] == picture.place], atol=1e-5)
        assert same == (picture != scene.pictures[0])


def test_a_picture_that_fills_a_quarter_is_seen_as_the_embedded_vit_sees_it(vit: ViTForImageClassification) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2 * LARGEST, 2 * LARGEST, 3), dtype=np.uint8)
    kept = torch.arange(GRID**2)[None]
    owner = torch.full((GRID, GRID), -1)
    owner[: GRID // 2, GRID // 2 :] = 1
    boxes = torch.zeros(1, 4, 4, dtype=torch.long)
    boxes[0, 1] = torch.tensor([LARGEST, 0, 2 * LARGEST, LARGEST])
    cells = patches(torch.from_numpy(image)[None], kept)
    quarter = cells[owner.flatten()[None] == 1].unflatten(1, (3, 16, 16)).unflatten(0, (14, 14))
    whole = quarter.permute(2, 0, 3, 1, 4).reshape(1, 3, LARGEST, LARGEST)
    with torch.inference_mode():
        alone = see_alone(vit, cells, kept, owner.flatten()[None], boxes)[-1][owner.flatten()[None] == 1]
        plain = vit(whole, output_hidden_states=True).hidden_states[-1][0, 1:]
    torch.testing.assert_close(alone, plain, rtol=1e-3, atol=1e-3)


def test_kept_patches_are_some_of_all_and_of_every_picture(made: list[Scene]) -> None:
    owner = torch.stack([owners(scene) for scene in made])
    kept = keep(owner)
    assert kept.shape == (len(made), KEPT)
    assert (kept.diff(dim=1) > 0).all()
    for scene, row, chosen in zip(made, owner, kept, strict=True):
        assert {picture.place for picture in scene.pictures} <= set(row[chosen].tolist())


def test_a_saved_reader_is_itself_without_code_of_its_own(
    reader: LlavaForConditionalGeneration, made: list[Scene], tmp_path: Path
) -> None:
    save(reader, tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    loaded = LlavaForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    image = Image.fromarray(made[0].image)
    inputs = processor(images=image, text="<image>What is at the top left?", return_tensors="pt")
    kept = torch.arange(GRID**2)[None]
    with torch.inference_mode():
        seen = loaded.model.get_image_features(inputs["pixel_values"]).pooler_output[0]
        own = see(loaded, patches(pixels(made[:1]), kept), kept)[-1]
        torch.testing.assert_close(seen, loaded.model.multi_modal_projector(own)[0], rtol=1e-4, atol=1e-4)
        said = loaded.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert set(processor.decode(said[0, inputs["input_ids"].shape[1] :]).split()) <= set(words())
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 16 * 2**20


def test_bars_are_of_everything_asked(reader: LlavaForConditionalGeneration, made: list[Scene]) -> None:
    found = measure(reader, made[:2], erased=1)
    pictures = sum(len(scene.pictures) for scene in made[:2])
    assert found.cases["name"] == found.cases["place"] == found.cases["nowhere"] == pictures
    assert all(0 <= share <= 1 for share in (*found.right.values(), *found.maps.values(), *found.share))
    assert "MISSED: name" in str(found)  # a Llama of chance weights names nothing
