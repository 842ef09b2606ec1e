"""Train the embedded ViT-Tiny on Imagenette, FlexiViT-style: a random patch size each step, through vislab's PI-resize.

    python vit.py --data DIR --teacher teacher.safetensors --out RUN [--minutes 600] [--device cuda] [--start MODEL]

What makes 9,469 images enough: the convolutional teacher sees the same augmented view and teaches the CLS token (its
class probabilities), the last layer's patch tokens (its class map), the CLS attention of the last layers and the
rollout of all (where that map is high: attention transfer, Zagoruyko & Komodakis 2017) and a middle layer's patch
tokens (its features, "locality guidance", Li et al. 2022); attention starts near the identity (mimetic initialisation);
large patches and random token dropping keep most steps short; cut-mix, and a running mean of the weights, which is what
is saved. Weights and gradients are bfloat16 with float32 masters. The run is as long as the minutes given, whatever the
machine, and the rate falls to their end. Resumable: run it again. `--start` begins a new run from the weights of a
saved model.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from data import LABELS, MEAN, STD, class_loss, load, mixed, normalise
from loop import Run, accuracy, adamw, fall, follow, parser, require, rise, set_rate, to_fast, to_master
from teacher import Teacher, divergence, read_teacher
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor
from transformers.models.vit.modeling_vit import ViTAttention

from vislab.models.patch_size import interpolate_positions, pi_resize

# patch size: share of the steps, while learning and at the end
PATCHES = {
    "learning": {56: 0.04, 32: 0.32, 28: 0.30, 16: 0.20, 14: 0.08, 8: 0.06},
    "ending": {56: 0.05, 32: 0.20, 28: 0.20, 16: 0.38, 14: 0.12, 8: 0.05},
}
KEPT = {"learning": 100, "ending": 200}  # patch tokens of a step at most; the others are dropped at random
GUIDED = 8  # layers before the one that learns the teacher's features
LOOKING = 4  # last layers whose CLS attention, the mean of its heads, is taught
ROLLING = 3  # how much more than that attention the rollout counts


class Student(nn.Module):
    """The model and what only training needs: readings of the patches as classes and as the teacher's features."""

    def __init__(self, vit: ViTForImageClassification) -> None:
        super().__init__()
        self.vit = vit
        self.patches = nn.Linear(192, len(LABELS))
        self.features = nn.Linear(192, 256)


def new_model() -> ViTForImageClassification:
    config = ViTConfig(
        hidden_size=192,
        num_hidden_layers=12,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=224,
        patch_size=16,
        id2label=dict(enumerate(LABELS)),
        label2id={label: i for i, label in enumerate(LABELS)},
    )
    model = ViTForImageClassification(config)
    for layer in model.vit.layers:
        mimetic(layer.attention)
    with torch.no_grad():
        positions = sinusoids(14, 192) * 0.3
        model.vit.embeddings.position_embeddings.copy_(torch.cat([torch.zeros(1, 192), positions])[None])
    return model


@torch.no_grad()
def mimetic(attention: ViTAttention) -> None:
    """Begin with what trained attention is like: q·k near identity, v·o near its negative (Trockman & Kolter 2023)."""
    heads, dim, width = attention.num_attention_heads, attention.head_dim, attention.q_proj.in_features
    noise = torch.randn(width, width) / math.sqrt(width)
    u, s, v = torch.linalg.svd(0.4 * noise - 0.4 * torch.eye(width))
    attention.v_proj.weight.copy_(s.sqrt()[:, None] * v)
    attention.o_proj.weight.copy_(u * s.sqrt())
    for h in range(heads):
        noise = torch.randn(width, width) / math.sqrt(width)
        u, s, v = torch.linalg.svd(0.7 * noise + 0.7 * torch.eye(width))
        rows = slice(h * dim, (h + 1) * dim)
        attention.q_proj.weight[rows] = (u * s.sqrt())[:, :dim].T
        attention.k_proj.weight[rows] = (s.sqrt()[:, None] * v)[:dim]


def sinusoids(side: int, dim: int) -> Tensor:
    """2-D sine and cosine positions. -> (side², dim)"""
    rate = 1 / 10000 ** (torch.arange(dim // 4) / (dim // 4))
    angle = torch.arange(side)[:, None] * rate
    wave = torch.cat([angle.sin(), angle.cos()], 1)
    rows = wave[:, None].expand(-1, side, -1)
    return torch.cat([rows, rows.transpose(0, 1)], 2).flatten(0, 1)


def forward(
    model: ViTForImageClassification, images: Tensor, patch: int, kept: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The model at any patch size, on some patches.

    -> (n, 1 + tokens, width), CLS first, of the last layer and of the guided one; the patches kept (n, tokens).
    """
    e = model.vit.embeddings
    projection = e.patch_embeddings.projection
    tokens = F.conv2d(images, pi_resize(projection.weight, (patch, patch)), projection.bias, stride=patch)
    grid = (tokens.shape[2], tokens.shape[3])
    tokens = tokens.flatten(2).transpose(1, 2) + interpolate_positions(e.position_embeddings[:, 1:], (14, 14), grid)
    if kept is not None and kept < tokens.shape[1]:
        index = torch.rand(tokens.shape[:2], device=tokens.device).argsort(1)[:, :kept]
        tokens = tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))
    else:
        index = torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
    cls = (e.cls_token + e.position_embeddings[:, :1]).expand(len(tokens), -1, -1)
    x = torch.cat([cls, tokens], 1)
    for i, layer in enumerate(model.vit.layers, 1):
        x = layer(x)
        if i == GUIDED:
            middle = x
    return model.vit.layernorm(x), middle, index


def remember(model: ViTForImageClassification, attentions: list[Tensor]) -> None:
    """Append each layer's attention, the mean of its heads (n, 1 + tokens, 1 + tokens), to a list in every forward."""
    model.set_attn_implementation("eager")  # fused attention has no maps, and here all are learned from
    for layer in model.vit.layers:
        layer.attention.register_forward_hook(lambda _module, _args, out: attentions.append(out[1].mean(1)))


def looks(attentions: list[Tensor]) -> Tensor:
    """Where CLS looks: in the last layers, then rolled out through all -> (n, LOOKING + 1, tokens), each sum 1."""
    rows = [attention[:, :1].float() for attention in attentions[-LOOKING:]]
    rollout = torch.zeros_like(rows[0])
    rollout[:, :, 0] = 1
    for attention in reversed(attentions):
        rollout = 0.5 * rollout + 0.5 * (rollout.to(attention.dtype) @ attention).float()
    seen = torch.cat([*rows, rollout], 1)[:, :, 1:]
    return seen / seen.sum(-1, keepdim=True)


def class_heat(taught: Tensor) -> Tensor:
    """Where the teacher sees the classes it names: logits above the others' mean, cubed. (n, tokens, 10) -> sum 1"""
    named = taught.mean(1, keepdim=True).softmax(-1)
    heat = (taught * named).sum(-1) - taught.mean(-1)
    heat = (heat - heat.amin(1, keepdim=True)) ** 3
    return heat / heat.sum(1, keepdim=True).clamp(min=1e-6)


def save(model: ViTForImageClassification, folder: Path) -> None:
    """Weights as float16, with config and preprocessing: the whole image stretched to 224 px, as in training."""
    half = ViTForImageClassification(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder)
    size = {"height": 224, "width": 224}
    ViTImageProcessor(size=size, image_mean=MEAN, image_std=STD, resample=2).save_pretrained(folder)


def at_patches(maps: Tensor, patch: int, kept: Tensor) -> Tensor:
    """The teacher's maps (n, channels, 8, 8), read at the patches kept. -> (n, tokens, channels)"""
    maps = F.interpolate(maps, size=(224 // patch, 224 // patch), mode="bilinear").flatten(2).transpose(1, 2)
    return maps.gather(1, kept[:, :, None].expand(-1, -1, maps.shape[2]))


def pick(shares: dict[int, float]) -> int:
    return list(shares)[int(torch.multinomial(torch.tensor(list(shares.values())), 1))]


@torch.no_grad()
def lessons(teacher: Teacher, images: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's features (n, 256, 8, 8) and class map (n, 10, 8, 8) of the same views."""
    features = teacher.features(F.interpolate(images, size=(128, 128), mode="bilinear"))
    return features.float(), teacher.classes(features).float()


def main() -> None:
    command = parser(__doc__)
    require(command, "data", "teacher", "out")
    command.add_argument("--start", type=Path, help="folder of a saved model to begin with")
    command.add_argument("--minutes", type=float, default=600)
    command.add_argument("--batch", type=int, default=64)
    command.add_argument("--rate", type=float, default=1e-3)
    command.add_argument("--decay-from", type=float, default=0.4, help="share of the run after which the rate falls")
    args = command.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    images, labels = load(args.data, "train")
    val_images, val_labels = (part[::5] for part in load(args.data, "val"))  # a quick look; `evaluate.py` takes all
    teacher = read_teacher(args.teacher, args.device).bfloat16()

    start = ViTForImageClassification.from_pretrained(args.start).float() if args.start else new_model()
    master = Student(start).to(args.device)
    fast = Student(ViTForImageClassification(start.config)).to(args.device).bfloat16().train()
    attentions: list[Tensor] = []
    remember(fast.vit, attentions)
    mean = ViTForImageClassification(start.config).to(args.device).eval()
    mean.load_state_dict(start.state_dict())
    optimiser = adamw(master, args.rate)
    run = Run(args.out / "checkpoint.pt", count=len(images), batch=args.batch, minutes=args.minutes, every=3)
    run.keep(master=master, mean=mean, optimiser=optimiser)

    def report() -> str:
        save(mean, args.out / "model")
        quick = ViTForImageClassification(mean.config).to(args.device).bfloat16().eval()
        quick.load_state_dict(mean.state_dict())

        def classify(x: Tensor, patch: int) -> Tensor:
            return quick.classifier(forward(quick, normalise(x).bfloat16(), patch)[0][:, 0])

        top1 = {p: accuracy(partial(classify, patch=p), val_images, val_labels, args.device) for p in (16, 32)}
        return "val " + ", ".join(f"{share:.3f} at {patch} px" for patch, share in top1.items())

    for now in run.steps(report):
        set_rate(optimiser, args.rate * rise(now.step, 500) * fall(now.progress, args.decay_from) + 1e-6)
        to_fast(master, fast)
        stage = "learning" if now.progress < 0.75 else "ending"
        patch = pick(PATCHES[stage])
        chance = 0.5 if now.progress < 0.95 else 0.0
        batch = mixed(images[now.pick].to(args.device), labels[now.pick].to(args.device), 224, chance)
        x = batch.images.bfloat16()
        features, taught = lessons(teacher, x)

        attentions.clear()
        tokens, middle, kept = forward(fast.vit, x, patch, KEPT[stage])
        logits = fast.vit.classifier(tokens[:, 0]).float()
        places = at_patches(taught, patch, kept)
        heat = class_heat(places)[:, None].clamp(min=1e-6)
        where = (heat * (heat.log() - looks(attentions).clamp(min=1e-6).log())).sum(-1)
        where = where[:, :-1].mean() + ROLLING * where[:, -1].mean()
        dense = divergence(fast.patches(tokens[:, 1:]).float().flatten(0, 1), places.flatten(0, 1))
        guide = F.layer_norm(at_patches(features, patch, kept), (256,))
        guided = F.mse_loss(fast.features(middle[:, 1:]).float(), guide)
        soft = divergence(logits, taught.mean((2, 3)))
        loss = 0.3 * class_loss(logits, batch) + soft + 0.5 * dense + guided + 0.3 * where
        loss.backward()
        to_master(fast, master)
        optimiser.step()
        follow(mean, master.vit, now.step)
        run.note(loss)


if __name__ == "__main__":
    main()
