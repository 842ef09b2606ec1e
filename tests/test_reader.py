"""Laws of the embedded reader's training: its parts run for many questions at once, and what tower and Llama learn."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bank import Bank, new_bank
from bars import answers, exam, glance, in_quarters, measure
from llava import (
    BOS,
    COUNT,
    GRID,
    IGNORED,
    IMAGE,
    LINE,
    PATCHES,
    VIEW,
    VIEWS,
    in_line,
    new_processor,
    new_reader,
    owners_in_views,
    pack,
    patches,
    pixels,
    quarters,
    read,
    see,
    views,
)
from PIL import Image
from reader import look_loss, quarter_of, save, some
from scenes import PLACES, SIDE, Scene, name_of, words
from test_scenes import crossing, noise_scenes
from tower import FINE, GROUND, KEPT, alone, boxes_of, inside, keep
from transformers import AutoProcessor, LlavaNextForConditionalGeneration, ViTForImageClassification, logging
from word_maps import METHODS, Case, Found, box_of, cases, measured, table, write_between

import vislab

START = Path(__file__).parents[1] / "assets" / "models" / "vit-tiny-imagenette"


@pytest.fixture(scope="module")
def made() -> list[Scene]:
    return list(noise_scenes(seed=0))


@pytest.fixture(scope="module")
def vit() -> ViTForImageClassification:
    logging.disable_progress_bar()
    return ViTForImageClassification.from_pretrained(START, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def reader(vit: ViTForImageClassification) -> LlavaNextForConditionalGeneration:
    torch.manual_seed(0)
    made = new_reader(vit).eval()
    made.set_attn_implementation("eager")
    for parameter in made.model.language_model.parameters():
        parameter.data *= 1 if parameter.ndim == 1 else 8  # attention far from even, answers far from each other
    return made


@pytest.fixture(scope="module")
def bank(reader: LlavaNextForConditionalGeneration, made: list[Scene]) -> Bank:
    free = next(scene for scene in noise_scenes(seed=3, free=1.0) if crossing(scene))
    return new_bank(reader.model.vision_tower, iter([*made[:3], free]), "cpu")


def test_what_is_read_together_is_what_the_model_says_of_each_alone(
    reader: LlavaNextForConditionalGeneration, made: list[Scene]
) -> None:
    scene, processor = made[0], new_processor()
    asked = exam(scene, random.Random(0))
    packed, logits, attentions = answers(reader, glance(reader, scene.image), asked)
    for number, question in list(enumerate(asked))[::4]:
        inputs = processor(
            images=Image.fromarray(scene.image),
            text=f"<image>{question.text.upper()} {question.answer}",
            return_tensors="pt",
        )
        ids = inputs["input_ids"][0]
        assert ids[: 1 + COUNT].tolist() == [BOS, *[IMAGE] * COUNT]
        assert ids[1 + COUNT :].tolist() == packed.ids[0, packed.segments[0] == number].tolist()
        with torch.inference_mode():
            lone = reader(**inputs, output_attentions=True)
        rows = (packed.segments[0] == number).nonzero().flatten()
        torch.testing.assert_close(logits[rows], lone.logits[0, 1 + COUNT :], rtol=1e-4, atol=1e-4)
        for together, own in zip(attentions, lone.attentions, strict=True):
            shared = together[:, 1 + COUNT + rows, : 1 + COUNT]
            torch.testing.assert_close(shared, own[0, :, 1 + COUNT :, : 1 + COUNT], rtol=1e-4, atol=1e-5)


def test_questions_of_a_scene_do_not_see_each_other(
    reader: LlavaNextForConditionalGeneration, made: list[Scene]
) -> None:
    asked, kept = exam(made[0], random.Random(0))[:3], torch.arange(0, COUNT, 5)[None]
    seen = torch.randn(1, kept.shape[1], 192)
    with torch.inference_mode():
        packed, turned = pack([asked]), pack([asked[::-1]])
        logits, other = read(reader, seen, kept, packed).logits[0], read(reader, seen, kept, turned).logits[0]
    for number in range(3):
        mine, its = logits[packed.segments[0] == number], other[turned.segments[0] == 2 - number]
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)


def test_what_is_to_be_said_follows_what_was(made: list[Scene]) -> None:
    asked = [exam(scene, random.Random(0)) for scene in made[:3]]
    packed = pack(asked)
    for row, of_scene in enumerate(asked):
        for number, question in enumerate(of_scene):
            own = packed.segments[row] == number
            said = packed.following[row, own]
            said = [words()[token] for token in said[said != IGNORED]]
            assert said == [*question.answer.split(), "</s>"]
            rests = [place for place in question.rests if place is not None]
            assert packed.rests[row, own & (packed.rests[row] >= 0)].tolist() == rests
            length = int(own.sum())
            assert packed.positions[row, own].tolist() == list(range(1 + COUNT, 1 + COUNT + length))
        assert (packed.following[row, packed.segments[row] < 0] == IGNORED).all()


def test_views_are_those_of_the_processor(made: list[Scene]) -> None:
    images = [Image.fromarray(scene.image) for scene in made[:2]]
    own = new_processor().image_processor(images, return_tensors="pt")["pixel_values"].flatten(0, 1)
    shown = patches(views(pixels(made[:2])), torch.arange(PATCHES).expand(2 * VIEWS, -1))
    cells = F.unfold(own, 16, stride=16).transpose(1, 2)
    assert shown.shape == cells.shape
    of_views = (shown - cells).unflatten(0, (2, VIEWS)).abs()
    assert of_views[:, 1:].max() < 1e-5
    assert of_views[:, 0].max() < 0.02  # a level of 256 in the small one


def test_tokens_stand_where_the_model_puts_them(reader: LlavaNextForConditionalGeneration) -> None:
    features = torch.arange(2.0 * VIEWS * PATCHES).reshape(2 * VIEWS, PATCHES, 1) + 1
    own, _ = reader.model.pack_image_features(
        features.split(VIEWS),
        torch.tensor([[2 * VIEW, 2 * VIEW]] * 2),
        vision_feature_select_strategy="default",
        image_newline=torch.tensor([-2.0]),
    )
    line = in_line(features, torch.tensor([-2.0]))
    assert line.shape == (2, COUNT, 1)
    assert torch.equal(line.flatten(0, 1), torch.cat(tuple(own)))


def test_some_patches_are_seen_as_a_vit_sees_them_without_the_others(
    vit: ViTForImageClassification, made: list[Scene]
) -> None:
    shown = views(pixels(made[:1]))[:2]
    every, half = (torch.arange(0, PATCHES, step).expand(2, -1) for step in (1, 2))
    own = new_processor().image_processor(Image.fromarray(made[0].image), return_tensors="pt")["pixel_values"][0, 1:2]
    with torch.inference_mode():
        layers = see(vit.vit, patches(shown, every), every)
        plain = vit(own, output_hidden_states=True).hidden_states
        part = see(vit.vit, patches(shown, half), half)[-1]
    for mine, its in zip(layers[:-1], plain[1:-1], strict=True):
        torch.testing.assert_close(mine[1:], its[:, 1:], rtol=1e-4, atol=1e-4)
    assert part.shape == (2, PATCHES // 2, 192)
    assert not torch.allclose(part, layers[-1][:, ::2], atol=1e-2)


# What the tower learns from.


def test_owners_are_where_the_pictures_are(made: list[Scene]) -> None:
    owner = owners_in_views(made).unflatten(0, (-1, VIEWS))
    for scene, of_views in zip(made, owner, strict=True):
        for p in scene.pictures:
            left, top, right, bottom = p.box
            corner = torch.zeros(2 * GRID, 2 * GRID, dtype=torch.bool)
            middle = slice(-(-top // 16), bottom // 16), slice(-(-left // 16), right // 16)
            corner[middle] = True
            own = quarters(corner[None])[0].flatten(1)
            assert (of_views[1:][own] == p.place).all()
            area = ((of_views[0] == p.place).sum() * 32**2) ** 0.5
            assert abs(area - (right - left)) <= 32


def test_kept_patches_are_some_of_all_and_of_every_picture(made: list[Scene]) -> None:
    owner = owners_in_views(made)
    kept = keep(owner)
    assert kept.shape == (len(owner), KEPT)
    assert (kept.diff(dim=1) > 0).all()
    for row, chosen in zip(owner, kept, strict=True):
        assert set(row[row >= 0].tolist()) == set(row[chosen][row[chosen] >= 0].tolist())
        assert (row[chosen] < 0).sum() >= min(GROUND, int((row < 0).sum()))


@pytest.mark.parametrize("view", range(VIEWS))
def test_a_patch_is_where_it_is_in_its_picture(view: int) -> None:
    quarter = [(place % 2 * VIEW, place // 2 * VIEW) for place in range(4)]
    boxes = torch.tensor([[x, y, x + VIEW, y + VIEW] for x, y in quarter])[None].float()  # each fills its quarter
    rows, cols = torch.arange(PATCHES) // GRID, torch.arange(PATCHES) % GRID
    place = rows * 2 // GRID * 2 + cols * 2 // GRID if view == 0 else torch.full((PATCHES,), view - 1)
    side = GRID // 2 if view == 0 else GRID
    cell = inside(boxes, place[None], torch.arange(PATCHES)[None], torch.tensor([view]))[0]
    expected = [(((at % side) + 0.5) * FINE / side).long() for at in (rows, cols)]
    assert torch.equal(cell, expected[0] * FINE + expected[1])


def test_pictures_alone_are_cut_out_in_the_order_of_places(made: list[Scene]) -> None:
    labels, boxes = boxes_of(made)
    cut = alone(made)
    assert len(cut) == int((labels >= 0).sum())
    assert [p.label for scene in made for p in scene.pictures] == labels[labels >= 0].tolist()
    sources = [scene.image for scene in made for _ in scene.pictures]
    for box, picture, source in zip(boxes[labels >= 0], cut, sources, strict=True):
        left, top, right, bottom = box.int().tolist()
        own = torch.from_numpy(source[top:bottom, left:right].copy()).float().mean((0, 1)) / 255
        mean = (picture * torch.tensor([0.229, 0.224, 0.225])[:, None, None]).mean((1, 2))
        torch.testing.assert_close(mean + torch.tensor([0.485, 0.456, 0.406]), own, rtol=0, atol=0.02)


# What the Llama learns from.


def test_a_bank_is_what_was_saved(bank: Bank, tmp_path: Path) -> None:
    bank.save(tmp_path / "bank.pt")
    again = Bank.read(tmp_path / "bank.pt")
    assert torch.equal(again.seen, bank.seen)
    assert torch.equal(again.owner, bank.owner)
    assert again.pictures == bank.pictures


def test_whole_scenes_of_a_bank_are_what_is_seen_of_them(
    bank: Bank, reader: LlavaNextForConditionalGeneration, made: list[Scene]
) -> None:
    line, owner = bank.whole([1, 0]).tokens()
    torch.testing.assert_close(line[1:].float(), glance(reader, made[0].image), rtol=1e-2, atol=1e-2)
    assert (owner == -2).sum(1).tolist() == [2 * GRID] * 2
    assert set(owner[1].tolist()) == {-2, -1, *(p.place for p in made[0].pictures)}


def test_mixed_scenes_are_of_quarters_whose_pictures_are_whole(bank: Bank) -> None:
    drawn = bank.mixed(6, random.Random(0))
    assert [crossing(Scene(np.empty(0), np.empty(0), of_scene)) for of_scene in bank.pictures] == [False] * 3 + [True]
    for seen, owner, scene in zip(drawn.seen, drawn.owner, drawn.made, strict=True):
        labels = [p.label for p in scene.pictures]
        assert labels
        assert len(set(labels)) == len(labels)
        assert not seen[0].any()
        for place in range(len(PLACES)):
            [source] = [
                (scene, quarter)
                for scene, quarter in product(range(3), range(4))
                if torch.equal(bank.seen[scene, 1 + quarter], seen[1 + place])
            ]
            lay = {p.place: p.label for p in bank.pictures[source[0]]}.get(source[1])
            assert {p.place: p.label for p in scene.pictures}.get(place) == lay
            there = bank.owner[source[0], 1 + source[1]] >= 0
            assert torch.equal(owner[1 + place], torch.where(there, place, -1))
    line, owner = drawn.tokens()
    assert (owner[:, :PATCHES] == -3).all()
    assert (owner[:, PATCHES:] > -3).all()
    assert not line[:, :PATCHES].any()


def test_a_step_takes_all_ends_of_lines_and_nothing_unknown(bank: Bank) -> None:
    known = {"whole": COUNT - 2 * GRID, "mixed": COUNT - 2 * GRID - PATCHES}
    for kind, count in [("whole", 160), ("mixed", 160), *known.items()]:
        drawn = bank.whole([0, 1, 2]) if kind == "whole" else bank.mixed(3, random.Random(0))
        _, owner = drawn.tokens()
        kept = some(owner, count)
        assert kept.shape == (3, count + 2 * GRID)
        assert (kept.diff(dim=1) > 0).all()
        taken = owner.gather(1, kept)
        assert ((taken == -2).sum(1) == 2 * GRID).all()
        assert (taken > -3).all()
        for row, of_scene in zip(taken, drawn.made, strict=True):
            assert {p.place for p in of_scene.pictures} <= set(row.tolist())


def test_the_quarter_of_a_token_is_where_its_map_lies() -> None:
    tokens = torch.arange(COUNT)
    quarter = quarter_of(tokens)
    assert quarter[quarter >= 0].bincount().tolist() == [PATCHES // 4 + PATCHES] * 4
    assert torch.equal((quarter == IGNORED).nonzero().flatten(), PATCHES + LINE * (1 + torch.arange(2 * GRID)) - 1)
    lies = in_quarters(torch.eye(COUNT))
    assert torch.equal(lies.argmax(1)[quarter >= 0], quarter[quarter >= 0])
    assert not lies[quarter == IGNORED].any()


def test_a_word_that_looks_at_its_picture_costs_nothing() -> None:
    owner, rests = torch.tensor([[0, 0, -1, 3]]), torch.tensor([[-1, 3, 0]])
    attention = torch.zeros(1, 2, 8, 8)
    attention[0, :, 6, 4] = 1
    attention[0, :, 7, 1:3] = 0.5
    assert look_loss(attention, owner, rests) == 0
    attention[0, :, 7, 1:3] = 0.25
    assert look_loss(attention, owner, rests) == pytest.approx(np.log(2) / 2)


# What is saved, and what it is worth.


def test_a_saved_reader_is_itself_without_code_of_its_own(
    reader: LlavaNextForConditionalGeneration, made: list[Scene], tmp_path: Path
) -> None:
    save(reader, tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    loaded = LlavaNextForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    inputs = processor(
        images=Image.fromarray(made[0].image), text="<image>What is at the top left?", return_tensors="pt"
    )
    with torch.inference_mode():
        said = loaded.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert set(processor.decode(said[0, inputs["input_ids"].shape[1] :]).split()) <= set(words())
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 16 * 2**20
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, reader.state_dict()[name], rtol=1e-3, atol=1e-3)


def test_bars_are_of_everything_asked(reader: LlavaNextForConditionalGeneration, made: list[Scene]) -> None:
    one = next(scene for scene in made if len(scene.pictures) > 1)
    found = measure(reader, [one], erased=1)
    assert found.cases["name"] == found.cases["place"] == found.cases["nowhere"] == len(one.pictures)
    assert all(0 <= share <= 1 for share in (*found.right.values(), *found.maps.values(), *found.share))
    assert "MISSED: name" in str(found)  # a Llama of chance weights names nothing


# What the maps of its words are worth.


@pytest.fixture(scope="module")
def found(made: list[Scene]) -> list[Found]:
    """Of one scene, by chance of two seeds; the right answer is given, for of noise the reader knows no names."""
    scene = next(scene for scene in made if len(scene.pictures) > 1)
    question = name_of(scene.pictures[0])
    answer = vislab.ask(scene.image, question.text, model="embedded-reader", device="cpu", answer=question.answer)
    case = Case(answer, 1, box_of(scene.pictures[0].place))
    return [measured(case, steps=1, seed=seed) for seed in (0, 1)]


def test_a_words_quarter_is_where_its_picture_is(made: list[Scene]) -> None:
    for p in (p for scene in made for p in scene.pictures):
        left, top, right, bottom = box_of(p.place)
        assert left <= p.box[0] < p.box[2] <= right
        assert top <= p.box[1] < p.box[3] <= bottom
    assert {box_of(place) for place in range(4)} == {
        (x, y, x + SIDE // 2, y + SIDE // 2) for x in (0, SIDE // 2) for y in (0, SIDE // 2)
    }


def test_every_method_is_measured_beside_the_baselines(found: list[Found]) -> None:
    one, other = found
    assert one.evaluation.methods == (*METHODS, "random", "centre")
    assert list(one.highest) == list(one.taken) == list(METHODS)
    assert all(0 <= share <= 1 for share in one.highest.values())
    assert min(one.taken.values()) > 0
    assert one.highest == other.highest
    pointing, again = (seed.evaluation.pointing[:, 0] for seed in found)
    np.testing.assert_allclose(pointing[:-2], again[:-2])
    assert pointing[-2] != again[-2]  # a random order is of its seed
    assert pointing[-1] == pytest.approx(0.25)


def test_the_table_is_the_mean_of_the_cases(found: list[Found]) -> None:
    lines = [*table(found, seed=7)]
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines[2:-2]}
    assert list(cells) == [*METHODS, "random", "centre"]
    for number, name in enumerate(cells):
        means = [np.mean([one.evaluation.samples[measure][number, 0] for one in found]) for measure in
                 ("deletion", "insertion", "over random", "pointing")]  # fmt: skip
        said = [float(cell.replace("−", "-").split(" ± ")[0]) for cell in cells[name][:4]]
        assert said == pytest.approx(means, abs=6e-4)
        assert ("±" in cells[name][3]) == (name == "random")  # the others are the same whatever the seed
    assert lines[-1].startswith("2 words of 2 scenes, seed 7, 1 steps")


def test_only_right_answers_of_scenes_with_others_in_them_are_taken(made: list[Scene]) -> None:
    assert not list(cases("embedded-reader", iter([s for s in made if len(s.pictures) == 1]), seed=0, device="cpu"))
    for case in cases("embedded-reader", iter([s for s in made if len(s.pictures) > 1][:2]), seed=0, device="cpu"):
        assert not case.answer.given
        assert len(case.answer.words[case.word].text) == max(len(word.text) for word in case.answer.words)


def test_a_table_is_put_between_its_marks(tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("before\n<!-- words -->\nold\n<!-- /words -->\nafter\n")
    write_between(tmp_path / "card.md", "| new |\n")
    assert (tmp_path / "card.md").read_text() == "before\n<!-- words -->\n| new |\n<!-- /words -->\nafter\n"
    (tmp_path / "other.md").write_text("nothing")
    with pytest.raises(SystemExit, match="put them in"):
        write_between(tmp_path / "other.md", "")
