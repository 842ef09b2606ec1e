"""The scripts that trained the embedded models, run as they stand on a handful of made-up images, and their loop."""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tokens_plot
import torch
from boxes import iou, label_files, read_boxes, start_data_set, write_one
from captions import Caption, captions
from clip import drawn_together, truth
from clip_bank import halves, of_two_classes
from data import FOLDERS, LABELS, Batch, class_loss, mixed
from loop import Moment, Run, adamw, descend, fall, follow, rise
from PIL import Image
from safetensors.torch import load_file
from teacher import read_teacher
from torch import nn
from transformers import LlavaNextForConditionalGeneration

import vislab

MODELS = Path(__file__).parents[1] / "assets" / "models"
TEACHER = MODELS / "train" / "teacher.safetensors"
DETECTOR = MODELS / "yolo12n-imagenette" / "model.safetensors"
BALL, PARACHUTE = LABELS.index("golf ball"), LABELS.index("parachute")
EACH = {"train": 3, "val": 1}  # images of each class


def ball(x: int, y: int, radius: int) -> tuple[np.ndarray, list[int]]:
    """A dimpled white ball on grass, and its box: what the networks take for a golf ball."""
    noise = np.random.default_rng(0).normal(0, 10, (224, 224, 1))
    rows, columns = np.mgrid[:224, :224]
    away = np.hypot(columns - x, rows - y) / radius
    dimples = 25 * (np.sin(columns / 3.5) * np.sin(rows / 3.5) > 0.5)
    pixels = np.where(away[..., None] < 1, (250 - 60 * away - dimples)[..., None], np.array([60, 130, 40]) + noise)
    return pixels.clip(0, 255).astype(np.uint8), [x - radius, y - radius, x + radius, y + radius]


def parachute(x: int, y: int, radius: int) -> tuple[np.ndarray, list[int]]:
    """A striped dome with its lines, before a blue sky, and the dome's box."""
    noise = np.random.default_rng(0).normal(0, 10, (224, 224, 1))
    rows, columns = np.mgrid[:224, :224]
    dome = (np.hypot(columns - x, rows - y) < radius) & (rows < y + 10)
    stripes = (np.arctan2(rows - y, columns - x) * 4).astype(int) % 2 == 0
    cloth = np.where(stripes[..., None], (230, 40, 40), (250, 220, 60))
    pixels = np.where(dome[..., None], cloth, np.array([90, 150, 230]) + noise).clip(0, 255).astype(np.uint8)
    for share in np.linspace(-1, 1, 7):
        cv2.line(pixels, (int(x + share * radius), y + 8), (x, y + radius + 25), (30, 30, 30), 1)
    return pixels, [x - radius, y - radius, x + radius, y + 10]


def scene(label: int, number: int) -> tuple[np.ndarray, list[int]]:
    place = 95 + 12 * number, 120 - 10 * number, 48 + 6 * number
    if label == BALL:
        return ball(*place)
    if label == PARACHUTE:
        return parachute(*place)
    blocks = np.random.default_rng([label, number]).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return blocks.repeat(32, 0).repeat(32, 1), [40, 40, 180, 180]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Imagenette's folder holds, in small: train.tar, val.tar; and drawn.json, the boxes of the second."""
    folder, drawn = tmp_path_factory.mktemp("data"), {}
    for split, each in EACH.items():
        with tarfile.open(folder / f"{split}.tar", "w") as tar:
            for label, name in enumerate(FOLDERS):
                for number in range(each):
                    pixels, box = scene(label, number)
                    file = io.BytesIO()
                    Image.fromarray(pixels).save(file, "jpeg", quality=95)
                    member = tarfile.TarInfo(f"{split}/{name}/{number}.jpg")
                    member.size = file.tell()
                    file.seek(0)
                    tar.addfile(member, file)
                    if split == "val":
                        drawn[f"{name}/{number}.jpg"] = [box]
    (folder / "drawn.json").write_text(json.dumps({"boxes": drawn}))
    return folder


Script = Callable[..., str]


@pytest.fixture(scope="module")
def script(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Script:
    """Run a script from a folder of its own, with options by name, and take what it prints."""
    folder = tmp_path_factory.mktemp("run")

    def run(name: str, *commands: str, **options: object) -> str:
        words = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
            patch.chdir(folder)
            patch.setattr("sys.argv", [name, *commands, *words])
            torch.manual_seed(0)
            runpy.run_path(str(MODELS / "train" / name), run_name="__main__")
        return printed.getvalue()

    return run


def numbers(label: int) -> list[int]:
    """Which of the training images show a class: they are read class by class."""
    return [label * EACH["train"] + number for number in range(EACH["train"])]


def test_crops_that_spare_are_compared_with_those_that_do_not(script: Script, data: Path, tmp_path: Path) -> None:
    printed = script("augmented.py", data=data, out=tmp_path, each=2, epochs=2, seeds=1, spare=0.9)
    table = json.loads((tmp_path / "augmented.json").read_text())
    assert {*table} == {"whole", "random", "sparing"}
    assert all(len(found) == 1 and 0 <= found[0] <= 1 for found in table.values())
    assert f"sparing: {table['sparing'][0]:.1%} of 10 validation images" in printed
    held = {way: int(said.split("crops hold ")[1].split("%")[0]) for way in ("random", "sparing")
            for said in printed.splitlines() if f"  {way}:" in said}  # fmt: skip
    assert held["sparing"] >= 90 > held["random"]


# The detector's data sets, each made from the one before it.


@pytest.fixture(scope="module")
def proposed(script: Script, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("boxes")
    script("boxes.py", data=data, teacher=TEACHER, out=out)
    return out


@pytest.fixture(scope="module")
def agreed(script: Script, data: Path, proposed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("agreed")
    script("detector.py", "relabel", data=data, boxes=proposed, weights=DETECTOR, out=out)
    return out


@pytest.fixture(scope="module")
def sifted(script: Script, data: Path, agreed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sifted")
    script("sift.py", data=data, teacher=TEACHER, boxes=agreed, out=out, share=1.0)
    return out


def assert_boxes_are_on_the_objects(folder: Path) -> None:
    files = {int(path.stem): path for path in label_files(folder)}
    assert set(numbers(BALL) + numbers(PARACHUTE)) <= set(files)
    for label in (BALL, PARACHUTE):
        for number, name in enumerate(numbers(label)):
            box = np.array([scene(label, number)[1]], float)
            assert iou(read_boxes(files[name])[:1], box)[0, 0] > 0.5
            assert files[name].read_text().split()[0] == str(label)
            assert (folder / "images" / files[name].parent.name / f"{name:05}.jpg").is_file()


def test_boxes_are_proposed_where_the_objects_are(proposed: Path) -> None:
    assert_boxes_are_on_the_objects(proposed)


def test_proposals_that_are_done_are_not_made_again(script: Script, data: Path, proposed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in label_files(proposed)}
    script("boxes.py", data=data, teacher=TEACHER, out=proposed)
    assert {path: path.stat().st_mtime_ns for path in label_files(proposed)} == before


def test_proposals_are_compared_with_boxes_drawn(script: Script, data: Path) -> None:
    said = script("boxes.py", data=data, teacher=TEACHER, check=data / "drawn.json")
    assert "of 10 images have boxes" in said


def test_detector_and_proposals_agree(agreed: Path) -> None:
    assert_boxes_are_on_the_objects(agreed)


def test_what_is_seen_from_near_by_is_kept(sifted: Path, agreed: Path) -> None:
    assert [path.name for path in label_files(sifted)] == [path.name for path in label_files(agreed)]
    assert (sifted / "near.safetensors").is_file()


@pytest.mark.slow
def test_objects_are_pasted_onto_other_classes(
    script: Script, data: Path, agreed: Path, sifted: Path, tmp_path: Path
) -> None:
    script("paste.py", data=data, teacher=TEACHER, boxes=agreed, sifted=sifted, out=tmp_path, scenes=6)
    real = len(FOLDERS) * EACH["train"]
    made = [path.read_text().splitlines() for path in label_files(tmp_path) if int(path.stem) >= real]
    assert len(made) == 6
    classes = [{line.split()[0] for line in lines} for lines in made]
    assert {str(BALL), str(PARACHUTE)} in classes  # one was pasted beside the other


@pytest.mark.slow
def test_the_teacher_learns_and_goes_on(script: Script, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "teacher.pt"
    assert "epoch 1.0" in script("teacher.py", data=data, out=out, epochs=1)
    first = read_teacher(out, "cpu").net.fc.weight
    assert "epoch 2.0" in script("teacher.py", data=data, out=out, epochs=2)
    assert torch.load(out, weights_only=True)["step"] == 2
    assert not torch.equal(first, read_teacher(out, "cpu").net.fc.weight)


@pytest.mark.slow
def test_the_vit_learns_and_is_still_the_embedded_one(script: Script, data: Path, tmp_path: Path) -> None:
    start = MODELS / "vit-tiny-imagenette"
    said = script("vit.py", data=data, teacher=TEACHER, out=tmp_path, start=start, minutes=1e-6)
    assert "at 16 px" in said
    model = vislab.load(tmp_path / "model")
    assert model.labels == tuple(LABELS)
    image, _ = scene(BALL, 0)
    assert model.predict(image)[0][0] == "golf ball"


@pytest.mark.slow
def test_the_detector_begins_as_a_classifier(script: Script, data: Path, tmp_path: Path) -> None:
    script("detector.py", "begin", data=data, teacher=TEACHER, out=tmp_path, minutes=1e-6, size=64)
    begun, shipped = load_file(tmp_path / "begun.safetensors"), load_file(DETECTOR)
    assert {name: value.shape for name, value in begun.items()} == {n: v.shape for n, v in shipped.items()}
    assert all(value.isfinite().all() for value in begun.values())


@pytest.mark.slow
def test_the_detector_learns_the_boxes(script: Script, tmp_path: Path) -> None:
    start_data_set(tmp_path)
    for name in range(6):
        label = (BALL, PARACHUTE)[name % 2]
        pixels, box = scene(label, name // 2)
        write_one(tmp_path, name, pixels, label, np.array([box], float))
    options = {"minutes": 0.001, "size": 64, "batch": 4, "mosaic": 0.0}
    script("detector.py", "train", boxes=tmp_path, start=DETECTOR, out=tmp_path / "first", **options)
    learned, shipped = load_file(tmp_path / "first" / "detector.safetensors"), load_file(DETECTOR)
    assert learned.keys() == shipped.keys()
    assert any(not torch.equal(learned[name], shipped[name]) for name in learned)


def test_the_mean_of_a_detector_with_itself_is_the_detector(script: Script, tmp_path: Path) -> None:
    script("detector.py", "mean", first=DETECTOR, second=DETECTOR, out=tmp_path / "mean.safetensors")
    mean, shipped = load_file(tmp_path / "mean.safetensors"), load_file(DETECTOR)
    assert mean.keys() == shipped.keys()
    assert all(torch.equal(mean[name], shipped[name]) for name in mean)


@pytest.mark.slow
def test_the_detector_is_measured_on_each_set_of_boxes(script: Script, data: Path, tmp_path: Path) -> None:
    drawn = json.loads((data / "drawn.json").read_text())
    balls = [name for name in drawn["boxes"] if name.startswith("n03445777/")]
    (tmp_path / "other.json").write_text(json.dumps(drawn | {"unclear": balls}))
    sets = [str(data / "drawn.json"), str(tmp_path / "other.json")]
    said = script("detector.py", "measure", "--drawn", *sets, data=data)
    said = said[said.index("drawn.json: ") :]
    first, second = said.split("other.json: 10 images, 10 boxes\n")
    assert first.startswith("drawn.json: 10 images, 10 boxes\n")
    assert "golf ball 1.00" in first
    assert "parachute 1.00" in first
    assert re.search(
        r"found above 0\.25, by size and company: .*alone in its picture \d of 10, beside others 0 of 0", first
    )
    assert "unclear" not in first
    for line in first.splitlines()[1:]:
        assert line in second
    row, classes = second[second.index("| 224 px, without 1 unclear images |") :].splitlines()[:2]
    assert "nan" not in row
    assert "golf ball" not in classes  # none is left to be found
    assert "all 10 validation images" in second


def test_pictures_are_chosen_evenly_and_drawn_with_their_boxes(script: Script, data: Path, tmp_path: Path) -> None:
    chosen, none = tmp_path / "chosen.json", tmp_path / "none.json"
    none.write_text(json.dumps({"boxes": {}}))
    script("sheets.py", "pick", data=data, out=chosen, without=none, each=1)
    names = list(json.loads(chosen.read_text())["boxes"])
    assert names == [f"{folder}/0.jpg" for folder in FOLDERS]
    for path, plain in ((chosen, 0), (chosen, 1), (data / "drawn.json", 1)):
        out = tmp_path / f"{path.stem}{plain}"
        script("sheets.py", "draw", data=data, drawn=path, out=out, plain=plain)
        assert [sheet.name for sheet in sorted(out.iterdir())] == ["00.png", "01.png"]
    lined, bare, boxed = (
        cv2.imread(str(tmp_path / name / "00.png")).astype(int) for name in ("chosen0", "chosen1", "drawn1")
    )
    assert lined.shape == bare.shape == boxed.shape
    assert (lined != bare).any()
    rows, columns = np.nonzero((boxed != bare).any(2)[:500, :474])  # of the first picture, whose box is known
    assert [columns.min(), rows.min(), columns.max(), rows.max()] == [26 + 79, 52 + 79, 26 + 360, 52 + 360]


def test_no_picture_is_chosen_that_has_boxes_already(script: Script, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has 0 pictures that .* and 1 were asked for"):
        script("sheets.py", "pick", data=data, out=tmp_path / "x.json", without=data / "drawn.json", each=1)


@pytest.mark.slow
def test_the_vit_is_measured(script: Script, data: Path, tmp_path: Path) -> None:
    options = {"sizes": 32, "map_sizes": 32, "methods": "cls", "images": 1, "drawn": data / "drawn.json"}
    said = script("evaluate.py", data=data, maps=tmp_path / "maps.png", **options)
    assert "| 32 px | 50 |" in said
    assert "Maps at 32 px" in said
    assert cv2.imread(str(tmp_path / "maps.png")).shape == (224, 3 * 224 + 8, 3)


@pytest.mark.slow
def test_masks_are_measured_against_drawn_boxes(script: Script, data: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("before\n<!-- corloc -->\nold\n<!-- /corloc -->\nafter\n")
    said = script("corloc.py", data=data, drawn=data / "drawn.json", images=2, patch_size=32, card=card)
    assert card.read_text() == f"before\n<!-- corloc -->\n{said}<!-- /corloc -->\nafter\n"
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in said.splitlines()[2:]}
    assert {"the whole picture", "the embedded detector's first box", "relevance, otsu", "tokencut"} <= set(rows)
    sides = [float(rows[f"tokencut{more}"][1]) for more in ("", ", the best of its two sides")]
    assert sides[0] <= sides[1] <= 1


@pytest.mark.slow
def test_the_reader_learns_and_is_measured(script: Script, data: Path, tmp_path: Path) -> None:
    given = {"data": data, "start": MODELS / "vit-tiny-imagenette", "out": tmp_path, "minutes": 1e-6, "watch": 1}
    for seed in (0, 1):
        said = script("reader.py", "tower", **given | {"out": tmp_path / str(seed), "seed": seed, "batch": 6})
        assert "patches name" in said
    towers = [tmp_path / str(seed) / "tower.pt" for seed in (0, 1)]
    one, other = (torch.load(path, weights_only=True)["mean"] for path in towers)
    said = script("reader.py", "train", "--tower", *map(str, towers), **given, batch=2, bank=3)
    assert "map" in said
    learned = LlavaNextForConditionalGeneration.from_pretrained(tmp_path / "model", dtype=torch.float32)
    for name in ("layers.3.mlp.fc1.weight", "embeddings.position_embeddings"):
        mean = (one[f"vit.{name}"] + other[f"vit.{name}"]) / 2
        torch.testing.assert_close(learned.model.vision_tower.state_dict()[name], mean, rtol=1e-3, atol=1e-3)
    said = script("reader.py", "evaluate", data=data, model=tmp_path / "model", scenes=1)
    assert "erasing" in said
    before = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"]
    given |= {"minutes": torch.load(tmp_path / "checkpoint.pt", weights_only=True)["minutes"] + 1e-6}
    script("reader.py", "train", "--tower", *map(str, towers), **given, batch=2, bank=3)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] > before


@pytest.mark.slow
def test_texts_are_learned_over_the_vit_and_measured(script: Script, data: Path, tmp_path: Path) -> None:
    vit = MODELS / "vit-tiny-imagenette"
    script("clip.py", "see", data=data, start=vit, out=tmp_path, two=4)
    bank = torch.load(tmp_path / "bank.pt", weights_only=True)
    alone, both = (bank["shows"].sum(1) == 1).sum(), (bank["shows"].sum(1) == 2).sum()
    assert alone == 30 + 8  # whole, and a view of every fourth
    assert 0 < both <= 4
    assert len(bank["seen"]) == alone + both
    for epochs in (1, 2):
        said = script("clip.py", "train", start=vit, out=tmp_path, epochs=epochs, batch=8)
        assert f"epoch {epochs}.0" in said
        assert "names" in said
    learned, shipped = (
        load_file(path / "model.safetensors") for path in (tmp_path / "model", MODELS / "clip-imagenette")
    )
    assert {name: value.shape for name, value in learned.items()} == {n: v.shape for n, v in shipped.items()}
    said = script("clip.py", "evaluate", data=data, start=vit, model=tmp_path / "model", two=4, sizes=32, maps=1)
    for row in ("the ViT's own classifier, of the ten classes | ", "ten names at 32 px | ", "two halves: the pair, "):
        assert f"| {row}" in said
    assert "| legrad " in said


def test_a_caption_is_true_of_pictures_that_show_all_that_it_names() -> None:
    tench, church, both, ball = torch.zeros(4, len(LABELS)).bool()
    tench[0], church[4], both[[0, 4]], ball[BALL] = True, True, True, True
    fish, temple, animal = frozenset([0]), frozenset([4]), frozenset([0, 1])
    said = [Caption("", sets) for sets in ((fish,), (animal,), (fish, temple), (temple, animal))]
    assert truth(torch.stack([tench, church, both, ball]), said).int().tolist() == [
        [1, 1, 0, 0],
        [0, 0, 0, 0],
        [1, 1, 1, 1],
        [0, 0, 0, 0],
    ]
    assert {classes for caption in captions() for classes in caption.sets[0]} == {*range(len(LABELS))}


def test_all_that_is_true_is_drawn_nearer_by_the_same() -> None:
    true = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 0]]).bool()  # of the last picture nothing is said
    logits = torch.zeros(3, 3, requires_grad=True)
    drawn_together(logits, true, torch.ones(3)).backward()
    pull = -logits.grad  # type: ignore[operator]
    assert (pull[:2][true[:2]] > 0).all()
    assert (pull[~true] < 0).all()
    right = torch.tensor([[30.0, 0], [0, 30.0]])
    assert drawn_together(right, right > 0, torch.ones(2)) < 1e-6 < drawn_together(right, right == 0, torch.ones(2))


def test_a_caption_that_counts_more_is_drawn_nearer() -> None:
    logits = torch.zeros(1, 2, requires_grad=True)
    optimiser = torch.optim.SGD([logits], lr=1.0)
    for _ in range(200):
        optimiser.zero_grad()
        drawn_together(logits, torch.ones(1, 2).bool(), torch.tensor([1.0, 3.0])).backward()
        optimiser.step()
    assert logits.softmax(1)[0].tolist() == pytest.approx([0.25, 0.75], abs=0.01)


def test_halves_are_the_middles_of_two_pictures() -> None:
    one, other = torch.arange(8.0).expand(2, 3, 8, 8), 10 + torch.arange(8.0).expand(2, 3, 8, 8)
    beside, above = halves(one, other)
    assert beside[0, 0].tolist() == [2, 3, 4, 5, 12, 13, 14, 15]
    assert above[0, :, 0].tolist() == [0] * 4 + [10] * 4
    labels = torch.tensor([0, 0, 0, 1])
    picks = of_two_classes(labels, 50)
    assert (labels[picks[0]] != labels[picks[1]]).all()


# The loop.


class Clock:
    """Minutes that pass when a test says so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.minutes = 0.0
        patch.setattr("time.monotonic", lambda: 60 * self.minutes)


def go(run: Run, stop_after: int | None = None) -> list[Moment]:
    moments = []
    for now in run.steps(lambda: ""):
        moments.append(now)
        if len(moments) == stop_after:
            break
    return moments


def test_an_epoch_takes_each_item_once_at_most(tmp_path: Path) -> None:
    run = Run(tmp_path / "run.pt", count=11, batch=4, epochs=3)
    moments = go(run)
    assert [now.progress for now in moments] == pytest.approx([step / 6 for step in range(6)])
    assert [now.step for now in moments] == list(range(6))
    for first, second in zip(moments[::2], moments[1::2], strict=True):
        picked = torch.cat([first.pick, second.pick])
        assert len(picked.unique()) == 8
        assert 0 <= picked.min() <= picked.max() < 11


def test_fewer_items_than_a_batch_are_a_batch(tmp_path: Path) -> None:
    moments = go(Run(tmp_path / "run.pt", count=3, batch=64, epochs=2))
    assert [sorted(now.pick.tolist()) for now in moments] == [[0, 1, 2]] * 2


def test_a_run_ends_with_its_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, progress = Clock(monkeypatch), []
    for now in Run(tmp_path / "run.pt", count=8, batch=4, minutes=5).steps(lambda: ""):
        progress.append(now.progress)
        clock.minutes += 2
    assert progress == pytest.approx([0, 0.4, 0.8])


def test_a_run_goes_on_where_its_checkpoint_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, module = Clock(monkeypatch), nn.Linear(1, 1, bias=False)

    def run() -> Run:
        made = Run(tmp_path / "run.pt", count=8, batch=4, minutes=10, every=2)
        made.keep(module=module)
        return made

    for now in run().steps(lambda: ""):
        module.weight.data.fill_(now.step)
        clock.minutes += 1
        if now.step == 6:  # killed: the checkpoint is the one after four steps
            break
    clock.minutes += 100  # between the runs
    again = run()
    assert module.weight.item() == 3
    [now] = go(again, stop_after=1)
    assert (now.step, now.progress) == (4, pytest.approx(0.4))


def test_a_run_that_is_over_reports_and_learns_no_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> Run:
        made = Run(tmp_path / "run.pt", count=4, batch=4, epochs=2)
        made.keep()
        return made

    assert len(go(run())) == 2
    reports: list[int] = []
    assert list(run().steps(lambda: reports.append(1) or "as it was")) == []
    assert reports == [1]
    assert capsys.readouterr().out.endswith("epoch 2.0  as it was\n")


def test_a_report_tells_the_mean_loss_since_the_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "run.pt", count=4, batch=2, epochs=2)
    for now in run.steps(lambda: ""):
        run.note(torch.tensor(float(now.step)))
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines() if line] == ["0.500", "2.500"]


def test_the_rate_rises_and_falls() -> None:
    assert [rise(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert [fall(progress, 0.4) for progress in (0, 0.4, 0.7, 1, 2)] == pytest.approx([1, 1, 0.5, 0, 0])


def test_a_running_mean_stays_between_what_it_was_and_what_is() -> None:
    mean, model = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(mean.weight, 0.0)
    model.num_batches_tracked += 5
    for step in (0, 30, 10**6):
        before = mean.weight.detach().clone()
        follow(mean, model, step)
        assert (mean.weight > before).all()
        assert (mean.weight <= 1).all()
    assert mean.weight[0] > 0.95  # the first steps count for nearly all
    assert mean.num_batches_tracked == 0  # counts have no mean


def test_what_scales_does_not_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Linear(4, 2))
    decayed, plain = adamw(model, 1e-3).param_groups
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in plain["params"]} == {1}
    assert len(decayed["params"] + plain["params"]) == len(list(model.parameters()))
    assert plain["weight_decay"] == 0 < decayed["weight_decay"]


@pytest.mark.parametrize(("clip", "length"), [(None, 5.0), (2.0, 2.0), (9.0, 5.0)])
def test_a_step_is_as_long_as_the_gradient_or_the_clip(clip: float | None, length: float) -> None:
    point = nn.Parameter(torch.zeros(2))
    point.grad = torch.tensor([100.0, 0])  # of an earlier step
    descend((point * torch.tensor([3.0, 4])).sum(), torch.optim.SGD([point], lr=1.0), clip=clip)
    assert point.detach().norm() == pytest.approx(length, rel=1e-5)


def test_cut_mix_counts_both_classes_by_their_shares() -> None:
    logits, labels, others = torch.randn(6, 10), torch.arange(6), torch.arange(6).flip(0)
    images = torch.zeros(6, 3, 8, 8)
    own, other, both = (
        class_loss(logits, Batch(images, *pair, share))
        for *pair, share in ((labels, labels, 1.0), (others, others, 1.0), (labels, others, 0.75))
    )
    assert both == pytest.approx(0.75 * own + 0.25 * other)


def test_mixed_views_show_what_they_say() -> None:
    images = torch.arange(4, dtype=torch.uint8).mul(60)[:, None, None, None].expand(-1, 3, 64, 64).contiguous()
    whole = mixed(images, torch.arange(4), 32, 0.0)
    assert (whole.share, whole.images.shape) == (1.0, (4, 3, 32, 32))
    assert torch.equal(whole.labels, whole.others)
    cut = mixed(images, torch.arange(4), 32, 1.0)
    for image, own, other in zip(cut.images[:, 0], cut.labels, cut.others, strict=True):
        values, counts = image.round(decimals=3).unique(return_counts=True)
        assert len(values) == 1 + (own != other)
        if own != other:
            assert counts.max() / counts.sum() == pytest.approx(max(cut.share, 1 - cut.share), abs=1e-3)


def test_accuracy_against_tokens_is_drawn_again_from_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CSV and as the Markdown of the card; and no label covers another."""
    card = tokens_plot.read_rows(MODELS / "vit-tiny-imagenette" / "README.md")
    assert {row.name for row in card} >= {"even, 16 px", "keep 0.5", "merge 16", "fovea on the drawn box"}
    tokens_plot.write_rows(tmp_path / "rows.csv", card)
    assert tokens_plot.read_rows(tmp_path / "rows.csv") == card
    close = tokens_plot.plt.close
    monkeypatch.setattr(tokens_plot.plt, "close", lambda figure: None)
    tokens_plot.plot(card, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text(encoding="utf-8").startswith("<?xml")
    figure = tokens_plot.plt.gcf()
    labels = [[text for text in ax.texts if text.get_text()] for ax in figure.axes]
    assert [len(texts) for texts in labels] == [18, 4]
    for texts in labels:
        boxes = [text.get_window_extent() for text in texts]
        assert [box.count_overlaps(boxes) for box in boxes] == [1] * len(boxes)  # itself
    close(figure)
    (tmp_path / "empty.md").write_text("no table")
    with pytest.raises(ValueError, match=r"holds no table of tokens\.py"):
        tokens_plot.read_rows(tmp_path / "empty.md")
