"""Train and measure the embedded reader: a LLaVA-NeXT of transformers, the embedded ViT under a tiny Llama.

    python reader.py tower --data DIR --start ../vit-tiny-imagenette --out RUN [--minutes 60] [--device cuda]
    python reader.py train --data DIR --start ../vit-tiny-imagenette --tower RUN/tower.pt --out RUN [--minutes 60]
    python reader.py evaluate --data DIR --model RUN/model [--seed 0] [--scenes 300]

Scenes are made on the fly (`scenes.py`). The tower learns first, to see a picture that is small in its view as the
embedded ViT sees it alone (`tower.py`); several runs with a seed each (`--seed`) are averaged: give all of them to
`--tower`. Then it is frozen, and the Llama learns from what it sees of many scenes (`bank.py`), with ten questions a
scene that share its image tokens; where a word of an answer rests on a picture, the mean of the heads of two layers is
taught to lie on it, and an early layer to know in which quarter each image token is. A step sees some of the image
tokens. Weights and gradients are bfloat16 with float32 masters, and a running mean of the weights is what is saved.
Resumable: run it again.
"""

from __future__ import annotations

import argparse
import random
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from bank import Bank, Drawn, new_bank
from bars import measure
from data import load
from llava import COUNT, GRID, IGNORED, LINE, PATCHES, new_processor, new_reader, pack, read
from loop import Run, adamw, fall, follow, parser, require, rise, set_rate, to_fast, to_master
from scenes import PLACES, questions, scenes
from torch import Tensor, nn
from tower import Tower, named, tower_loss
from transformers import LlavaNextForConditionalGeneration, ViTForImageClassification

FREE = 0.25  # share of the training scenes in which pictures may reach into other quarters
EPOCH = 100  # steps between two checkpoints
# Image tokens of a scene that a step sees, ends of lines apart. Few are quick to learn from, but a question's own words
# then compete with few tokens for attention: in the end a step sees as many as the model will.
TOKENS = ((160, 160, 160, 320, 320, 640), (320, 640, 980))
FIRST = ("name", "nothing", "place", "nowhere")  # kinds of questions that are asked first
TAUGHT = (2, 3)  # the Llama's layers whose heads, in the mean, are taught where to look
PLACED = 1  # the Llama's layer after which an image token is to know its quarter


def new_tower(start: Path) -> Tower:
    """A copy of the embedded ViT."""
    return Tower(ViTForImageClassification.from_pretrained(start, dtype=torch.float32).vit)


def train_tower(args: argparse.Namespace) -> None:
    """Train the tower, with a quick look at scenes of one half of the validation pictures at each checkpoint."""
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    device = args.device
    vit = ViTForImageClassification.from_pretrained(args.start, dtype=torch.bfloat16, attn_implementation="eager")
    master, fast, mean = (new_tower(args.start).to(device) for _ in range(3))
    fast, mean, vit = fast.bfloat16().train(), mean.eval(), vit.to(device).eval()
    mean.load_state_dict(master.state_dict())
    optimiser = adamw(master, args.rate)
    run = Run(args.out / "tower.pt", count=EPOCH, batch=1, minutes=args.minutes)
    run.keep(master=master, mean=mean, optimiser=optimiser)
    images, labels = load(args.data, "val")
    watched = list(scenes(images[::2], labels[::2], seed=1, count=args.watch))
    pictures = load(args.data, "train")

    for now in run.steps(lambda: f"patches name {named(mean, watched, device):.3f}"):
        set_rate(optimiser, args.rate * rise(now.step, 50) * fall(now.progress, 0.3) + 1e-7)
        to_fast(master, fast)
        made = scenes(*pictures, seed=(args.seed << 32) + now.step, count=args.batch // 3, varied=True, free=FREE)
        loss = tower_loss(fast, vit, list(made), args.batch, device)
        loss.backward()
        to_master(fast, master)
        optimiser.step()
        follow(mean, master, now.step)
        run.note(loss)


class Pupil(nn.Module):
    """The reader, its tower frozen, and what only training needs: a reading of image tokens as quarters."""

    def __init__(self, reader: LlavaNextForConditionalGeneration) -> None:
        super().__init__()
        reader.set_attn_implementation("eager")  # shows its maps
        reader.model.vision_tower.requires_grad_(False)
        self.reader = reader
        self.quarter = nn.Linear(reader.config.text_config.hidden_size, len(PLACES))


def some(owner: Tensor, count: int) -> Tensor:
    """Some image tokens at random, small pictures' more often, and all ends of lines, in order.

    owner: (n, tokens) of places, -1 ground, -2 an end of a line, -3 not to be taken -> (n, count + lines)
    """
    chance = -torch.log(-torch.log(torch.rand(owner.shape).clamp(1e-9, 1 - 1e-7)))  # Gumbel: the highest are a sample
    size = torch.stack([(owner == place).sum(1) for place in range(-3, len(PLACES))], 1).clamp(min=1)
    score = chance - 0.5 * size.gather(1, owner + 3).log() + 100.0 * (owner == -2) - 100.0 * (owner == -3)
    return score.topk(count + 2 * GRID).indices.sort(1).values


def quarter_of(kept: Tensor) -> Tensor:
    """The place in which each image token lies, IGNORED for ends of lines. kept: any shape, which tokens."""
    row, col = (kept - PATCHES) // LINE, (kept - PATCHES) % LINE
    near = row // GRID * 2 + col // GRID
    small = kept // GRID * 2 // GRID * 2 + kept % GRID * 2 // GRID
    return torch.where(kept < PATCHES, small, torch.where(col == LINE - 1, IGNORED, near))


def look_loss(attention: Tensor, owner: Tensor, rests: Tensor) -> Tensor:
    """How little of the mean head's attention lies on the picture that the next word rests on.

    attention: (n, heads, 1 + tokens + length, same); owner: (n, tokens); rests: (n, length).
    """
    tokens = owner.shape[1]
    there = attention[:, :, 1 + tokens :, 1 : 1 + tokens].mean(1).float() * (owner[:, None] == rests[:, :, None])
    return -there.sum(-1)[rests >= 0].clamp(min=1e-4).log().mean()


def lesson(pupil: Pupil, drawn: Drawn, count: int, rng: random.Random, *, first: bool, device: str) -> Tensor:
    """The loss on some scenes, of which so many image tokens are seen; first: whether only FIRST is asked."""
    line, owner = drawn.tokens()
    kept = some(owner, count)
    seen = line.gather(1, kept[:, :, None].expand(-1, -1, line.shape[2])).to(device)
    owner, kept = owner.gather(1, kept).to(device), kept.to(device)
    asked = [[q for q in questions(scene, rng) if not first or q.kind in FIRST] for scene in drawn.made]
    packed = pack(asked, device)
    found = read(pupil.reader, seen, kept, packed)
    said = F.cross_entropy(found.logits.float().flatten(0, 1), packed.following.flatten(), ignore_index=IGNORED)
    look = torch.stack([look_loss(found.attentions[layer], owner, packed.rests) for layer in TAUGHT]).mean()
    quarter = pupil.quarter(found.image[PLACED]).float().flatten(0, 1)
    placed = F.cross_entropy(quarter, quarter_of(kept).flatten(), ignore_index=IGNORED)
    return said + 0.3 * look + 0.3 * placed


def save(reader: LlavaNextForConditionalGeneration, folder: Path) -> None:
    """Weights as float16, with configuration, tokenizer and preprocessing."""
    half = LlavaNextForConditionalGeneration(reader.config)
    half.load_state_dict(reader.state_dict())
    half.half().save_pretrained(folder)
    new_processor().save_pretrained(folder)


def with_tower(start: Path, towers: list[Path]) -> LlavaNextForConditionalGeneration:
    """A new reader with the mean of trained towers."""
    reader = new_reader(ViTForImageClassification.from_pretrained(start, dtype=torch.float32))
    states = [torch.load(path, weights_only=True)["mean"] for path in towers]
    mean = {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
    tower = reader.model.vision_tower
    vit = {name.removeprefix("vit."): value for name, value in mean.items() if name.startswith("vit.")}
    tower.load_state_dict({**tower.state_dict(), **vit})
    return reader


def train(args: argparse.Namespace) -> None:
    """Train the Llama, with a quick look at scenes of one half of the validation pictures at each checkpoint."""
    args.out.mkdir(parents=True, exist_ok=True)
    device = args.device
    torch.manual_seed(0)
    master = Pupil(with_tower(args.start, args.tower)).to(device)
    fast, mean = (Pupil(LlavaNextForConditionalGeneration(master.reader.config)).to(device) for _ in range(2))
    fast, mean = fast.bfloat16().train(), mean.eval()
    mean.load_state_dict(master.state_dict())
    tower = fast.reader.model.vision_tower
    to_fast(master, fast)
    if not (args.out / "bank.pt").exists():
        pictures = load(args.data, "train")
        many = scenes(*pictures, seed=1, varied=True, free=FREE)
        new_bank(tower, islice(many, args.bank), device).save(args.out / "bank.pt")
    bank = Bank.read(args.out / "bank.pt")
    images, labels = load(args.data, "val")
    watched = list(scenes(images[::2], labels[::2], seed=1, count=args.watch))
    known = new_bank(tower, iter(watched), device).whole(list(range(args.watch))).tokens()[0].float()
    optimiser = adamw(master, args.rate)
    run = Run(args.out / "checkpoint.pt", count=EPOCH, batch=1, minutes=args.minutes)
    run.keep(master=master, mean=mean, optimiser=optimiser)

    def report() -> str:
        save(mean.reader, args.out / "model")
        return measure(mean.reader, watched, erased=0, known=known).brief()

    for now in run.steps(report):
        set_rate(optimiser, args.rate * rise(now.step, 100) * fall(now.progress, 0.5) + 1e-7)
        to_fast(master, fast)
        rng = random.Random(now.step)
        count = rng.choice(TOKENS[now.progress > 0.8])
        if rng.random() < 0.5:
            drawn = bank.whole(rng.choices(range(len(bank.pictures)), k=args.batch))
        else:
            drawn, count = bank.mixed(args.batch, rng), min(count, COUNT - PATCHES - 2 * GRID)
        loss = lesson(fast, drawn, count, rng, first=now.progress < 0.25, device=device)
        loss.backward()
        to_master(fast, master)
        optimiser.step()
        follow(mean, master, now.step)
        run.note(loss)


def evaluate(args: argparse.Namespace) -> None:
    """Print the bars of a saved reader, on scenes of the half of the validation pictures that training never saw."""
    reader = LlavaNextForConditionalGeneration.from_pretrained(
        args.model, dtype=torch.float32, attn_implementation="eager"
    )
    images, labels = load(args.data, "val")
    made = scenes(images[1::2], labels[1::2], seed=args.seed, count=args.scenes, free=args.free)
    print(measure(reader.to(args.device).eval(), list(made), erased=max(1, args.scenes // 4)))


def main() -> None:
    commands = parser(__doc__)
    named_commands = commands.add_subparsers(required=True)
    command = named_commands.add_parser("tower")
    require(command, "data", "start", "out")
    command.add_argument("--minutes", type=float, default=60)
    command.add_argument("--batch", type=int, default=24, help="views")
    command.add_argument("--rate", type=float, default=3e-4)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--watch", type=int, default=24, help="scenes of the quick look")
    command.set_defaults(run=train_tower)
    command = named_commands.add_parser("train")
    require(command, "data", "start", "out")
    command.add_argument("--tower", type=Path, nargs="+", required=True, help="checkpoints of `tower`, averaged")
    command.add_argument("--minutes", type=float, default=60)
    command.add_argument("--batch", type=int, default=16, help="scenes")
    command.add_argument("--rate", type=float, default=1e-3)
    command.add_argument("--bank", type=int, default=2000, help="scenes that the tower is shown once")
    command.add_argument("--watch", type=int, default=24, help="scenes of the quick look")
    command.set_defaults(run=train)
    command = named_commands.add_parser("evaluate")
    require(command, "data", "model")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--scenes", type=int, default=300)
    command.add_argument("--free", type=float, default=0.0, help="share of scenes with pictures in free places")
    command.set_defaults(run=evaluate)
    args = commands.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
