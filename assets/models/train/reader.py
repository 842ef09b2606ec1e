"""Train and measure the embedded reader: a LLaVA of transformers, the embedded ViT under a tiny Llama.

    python reader.py train --data DIR --start ../vit-tiny-imagenette --out RUN [--epochs 40] [--device cuda]
    python reader.py evaluate --data DIR --model RUN/model [--seed 0] [--scenes 300]

Scenes are made on the fly (`scenes.py`). The embedded ViT names a picture that stands alone, and hardly one among
others: what it sees of each picture alone, the others masked, is what the tower learns to see of the whole scene
(feature distillation), with each patch's class or ground and its quarter. Then the Llama joins in, with ten questions a
scene that share its image tokens; where a word of an answer rests on a picture, the mean of one layer's heads is taught
to lie on it. A step sees some of the patches, of small pictures relatively more. Weights and gradients are bfloat16
with float32 masters, and a running mean of the weights is what is saved. Resumable: run it again.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from bars import measure
from data import load
from llava import GRID, IGNORED, new_processor, new_reader, owners, pack, patches, pixels, read, see, see_alone
from loop import Run, adamw, fall, follow, parser, require, rise, set_rate
from scenes import NAMES, PLACES, Scene, questions, scenes
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, ViTForImageClassification

EPOCH = 1600  # scenes between two checkpoints; none of them is seen twice
KEPT, GROUND = 160, 24  # patches of a scene that a step sees, and how many of them are ground at least
ALONE = 0.4  # share of the run in which the tower learns without the Llama
GUIDED = (4, 8, 12)  # after so many layers the tower learns what the embedded ViT sees of each picture alone
TAUGHT = 2  # the Llama's layer whose heads, in the mean, are taught where to look


class Pupil(nn.Module):
    """The reader and what only training needs: readings of each patch as class or ground, as a quarter, as features."""

    def __init__(self, reader: LlavaForConditionalGeneration) -> None:
        super().__init__()
        reader.set_attn_implementation("eager")  # shows its maps, and is the faster one for so few tokens
        width = reader.config.vision_config.hidden_size
        self.reader = reader
        self.labels = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(NAMES) + 1 + len(PLACES)))
        features = [nn.Linear(width, width) for _ in GUIDED]
        for linear in features:
            nn.init.eye_(linear.weight)
        self.features = nn.ModuleList(features)

    def parts(self) -> tuple[nn.Module, nn.Module]:
        """The tower, which is trained already, and all that is new: each has a rate of its own."""
        reader = self.reader
        new = [reader.model.multi_modal_projector, reader.model.language_model, reader.lm_head]
        return reader.model.vision_tower, nn.ModuleList([*new, self.labels, self.features])


def keep(owner: Tensor) -> Tensor:
    """Some patches of each scene at random, small pictures' more often. owner: (n, patches) -> (n, KEPT), in order."""
    chance = -torch.log(-torch.log(torch.rand(owner.shape).clamp(1e-9, 1 - 1e-7)))  # Gumbel: the highest are a sample
    size = torch.stack([(owner == place).sum(1) for place in range(-1, len(PLACES))], 1).clamp(min=1)
    score = chance - 0.5 * size.gather(1, owner + 1).log() + 100 * (owner >= 0)
    ground = (chance - 100 * (owner >= 0)).topk(GROUND).indices
    return score.scatter(1, ground, 1000.0).topk(KEPT).indices.sort(1).values


def label_loss(logits: Tensor, owner: Tensor, kept: Tensor, classes: Tensor) -> Tensor:
    """How wrong the patches are of their class or ground, of their quarter, and together of what each picture is.

    logits: (n, tokens, 11 + 4); owner, kept: (n, tokens); classes: (n, 4), IGNORED where no picture is.
    """
    said, quarter = logits.split([len(NAMES) + 1, len(PLACES)], -1)
    lies = torch.where(owner >= 0, classes.gather(1, owner.clamp(min=0)), len(NAMES))
    each = F.cross_entropy(said.flatten(0, 1), lies.flatten(), label_smoothing=0.1)
    where = kept // GRID * 2 // GRID * 2 + kept % GRID * 2 // GRID
    place = F.cross_entropy(quarter.flatten(0, 1), where.flatten())
    share = F.one_hot(owner + 1, len(PLACES) + 1)[:, :, 1:].to(said.dtype)
    share = share / share.sum(1, keepdim=True).clamp(min=1)
    whole = (share.transpose(1, 2) @ said)[:, :, : len(NAMES)]
    named = F.cross_entropy(whole.flatten(0, 1), classes.flatten(), label_smoothing=0.1, ignore_index=IGNORED)
    return named + 0.5 * each + 0.1 * place


def guide_loss(features: nn.ModuleList, seen: list[Tensor], alone: list[Tensor], owner: Tensor) -> Tensor:
    """How far the tower's tokens are from what the embedded ViT sees of each picture alone, ground left out."""
    there, parts = owner >= 0, []
    for linear, depth in zip(features, GUIDED, strict=True):
        mine, its = (F.layer_norm(layers[depth - 1], layers[0].shape[-1:]) for layers in (seen, alone))
        parts.append(F.mse_loss(linear(mine).float()[there], its.float()[there]))
    return torch.stack(parts).mean()


def look_loss(attention: Tensor, owner: Tensor, rests: Tensor) -> Tensor:
    """How little of the mean head's attention lies on the picture that the next word rests on.

    attention: (n, heads, 1 + tokens + length, same); owner: (n, tokens); rests: (n, length).
    """
    tokens = owner.shape[1]
    there = attention[:, :, 1 + tokens :, 1 : 1 + tokens].mean(1).float() * (owner[:, None] == rests[:, :, None])
    return -there.sum(-1)[rests >= 0].clamp(min=1e-4).log().mean()


def classes_of(made: Iterable[Scene]) -> Tensor:
    """The class at each place. -> (n, 4), IGNORED where no picture is"""
    rows = [{p.place: p.label for p in scene.pictures} for scene in made]
    return torch.tensor([[row.get(place, IGNORED) for place in range(len(PLACES))] for row in rows])


def boxes_of(made: Iterable[Scene]) -> Tensor:
    """The box at each place. -> (n, 4, 4) scene pixels, zeros where no picture is"""
    rows = [{p.place: p.box for p in scene.pictures} for scene in made]
    return torch.tensor([[row.get(place, (0, 0, 0, 0)) for place in range(len(PLACES))] for row in rows])


def lesson(
    pupil: Pupil, vit: ViTForImageClassification, made: list[Scene], rng: random.Random | None, device: str
) -> Tensor:
    """The loss on some scenes; without `rng`, which chooses the questions, of the tower alone."""
    owner = torch.stack([owners(scene) for scene in made])
    kept = keep(owner)
    owner = owner.gather(1, kept).to(device)
    cells, kept = patches(pixels(made), kept).to(device), kept.to(device)
    seen = see(pupil.reader, cells, kept)
    with torch.no_grad():
        alone = see_alone(vit, cells, kept, owner, boxes_of(made).to(device))
    loss = 0.5 * label_loss(pupil.labels(seen[-1]).float(), owner, kept, classes_of(made).to(device))
    loss = loss + 2 * guide_loss(pupil.features, seen, alone, owner)
    if rng is None:
        return loss
    packed = pack([questions(scene, rng) for scene in made], device)
    logits, attentions = read(pupil.reader, seen[-1], kept, packed)
    said = F.cross_entropy(logits.float().flatten(0, 1), packed.following.flatten(), ignore_index=IGNORED)
    return loss + 2 * said + 0.3 * look_loss(attentions[TAUGHT], owner, packed.rests)


@torch.inference_mode()
def named(pupil: Pupil, made: list[Scene], device: str) -> float:
    """How often all patches of a picture, together, say its class."""
    hits = []
    for scene in made:
        owner, kept = owners(scene), torch.arange(GRID**2)[None]
        seen = see(pupil.reader, patches(pixels([scene]), kept).to(device), kept.to(device))[-1]
        said = pupil.labels(seen)[0, :, : len(NAMES)].cpu()
        hits += [int(said[owner == p.place].mean(0).argmax()) == p.label for p in scene.pictures]
    return sum(hits) / len(hits)


def save(reader: LlavaForConditionalGeneration, folder: Path) -> None:
    """Weights as float16, with configuration, tokenizer and preprocessing."""
    half = LlavaForConditionalGeneration(reader.config)
    half.load_state_dict(reader.state_dict())
    half.half().save_pretrained(folder)
    new_processor().save_pretrained(folder)


def train(args: argparse.Namespace) -> None:
    """Train, with a quick look at scenes of one half of the validation pictures at each checkpoint."""
    args.out.mkdir(parents=True, exist_ok=True)
    device, vit = args.device, ViTForImageClassification.from_pretrained(args.start, dtype=torch.float32)
    vit.set_attn_implementation("eager")
    master = Pupil(new_reader(vit)).to(device)
    config = master.reader.config
    fast = Pupil(LlavaForConditionalGeneration(config)).to(device).bfloat16().train()
    mean = Pupil(LlavaForConditionalGeneration(config)).to(device).eval()
    mean.load_state_dict(master.state_dict())
    vit = vit.to(device).bfloat16().eval()
    tower, new = (adamw(part, args.rate) for part in master.parts())
    run = Run(args.out / "checkpoint.pt", count=EPOCH, batch=args.batch, epochs=args.epochs)
    run.keep(master=master, mean=mean, tower=tower, new=new)
    joins = int(ALONE * args.epochs * run.per_epoch)  # the step at which the Llama does

    images, labels = load(args.data, "val")
    watched = list(scenes(images[::2], labels[::2], seed=1, count=args.watch))
    pictures = load(args.data, "train")

    def report() -> str:
        save(mean.reader, args.out / "model")
        return f"patches name {named(mean, watched, device):.3f}  {measure(mean.reader, watched, erased=0).brief()}"

    for now in run.steps(report):
        joined = now.step >= joins
        set_rate(tower, 3e-4 * rise(now.step, 200) * fall(now.progress, 0.25) + 1e-7)
        set_rate(new, args.rate * rise(now.step - joined * joins, 100) * fall(now.progress, 0.6) + 1e-7)
        for slow, quick in zip(master.parameters(), fast.parameters(), strict=True):
            quick.data.copy_(slow.data)
        made = list(scenes(*pictures, seed=now.step, count=args.batch, varied=True))
        loss = lesson(fast, vit, made, random.Random(now.step) if joined else None, device)
        loss.backward()
        for slow, quick in zip(master.parameters(), fast.parameters(), strict=True):
            slow.grad = None if quick.grad is None else quick.grad.float()
            quick.grad = None
        nn.utils.clip_grad_norm_(master.parameters(), 1.0)
        tower.step()
        new.step()
        follow(mean, master, now.step)
        run.note(loss)


def evaluate(args: argparse.Namespace) -> None:
    """Print the bars of a saved reader, on scenes of the half of the validation pictures that training never saw."""
    reader = LlavaForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32, attn_implementation="eager")
    images, labels = load(args.data, "val")
    made = scenes(images[1::2], labels[1::2], seed=args.seed, count=args.scenes)
    print(measure(reader.to(args.device).eval(), list(made), erased=max(1, args.scenes // 4)))


def main() -> None:
    commands = parser(__doc__)
    named_commands = commands.add_subparsers(required=True)
    command = named_commands.add_parser("train")
    require(command, "data", "start", "out")
    command.add_argument("--epochs", type=float, default=40, help=f"of {EPOCH} scenes")
    command.add_argument("--batch", type=int, default=16)
    command.add_argument("--rate", type=float, default=1e-3)
    command.add_argument("--watch", type=int, default=24, help="scenes of the quick look")
    command.set_defaults(run=train)
    command = named_commands.add_parser("evaluate")
    require(command, "data", "model")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--scenes", type=int, default=300)
    command.set_defaults(run=evaluate)
    args = commands.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
