"""Whether crops that spare what the embedded ViT looks at teach more than crops that do not.

A small network learns Imagenette from the beginning, from few images: whole, from crops at random, and from crops at
random that hold what the ViT's rollout looks at. All see the same images in the same order, as often, from the same
first weights; only what is cut out differs. The ViT has seen these images with their classes, so what it spares is
better than what a model of other data would.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import LABELS, load, normalise
from loop import accuracy, adamw, descend, parser, require, rise, set_rate
from torch import Tensor, nn

import vislab
from vislab.masks.sparing import Attended, crop

WAYS = ("whole", "random", "sparing")
SIZE, BATCH = 64, 32
RATIO = (3 / 4, 4 / 3)


def network() -> nn.Module:
    """A small residual network with about 300,000 weights."""
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU()]
    for wide, wider in ((24, 48), (48, 96), (96, 128)):
        layers += [Block(wide, wider)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, len(LABELS)))


class Block(nn.Module):
    """Two convolutions beside a shorter way, at half the size."""

    def __init__(self, wide: int, wider: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(wide, wider, 3, 2, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(wider, wider, 3, 1, 1, bias=False), nn.BatchNorm2d(wider))
        self.short = nn.Conv2d(wide, wider, 1, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.short(x))


def cut(images: Tensor, boxes: np.ndarray, flip: Tensor) -> Tensor:
    """uint8 (n, 3, h, w), boxes (n, 4) px, (n,) bool -> float32 (n, 3, SIZE, SIZE), each its crop."""
    height, width = images.shape[-2:]
    x0, y0, x1, y1 = torch.from_numpy(boxes).float().unbind(1)
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = (x1 - x0) / width * torch.where(flip, -1.0, 1.0), (y1 - y0) / height
    theta[:, 0, 2], theta[:, 1, 2] = (x0 + x1) / width - 1, (y0 + y1) / height - 1
    grid = F.affine_grid(theta, [len(images), 3, SIZE, SIZE], align_corners=False)
    return F.grid_sample(normalise(images), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def learned(
    images: Tensor,
    labels: Tensor,
    box: Callable[[int, np.random.Generator], tuple[int, int, int, int]],
    seed: int,
    epochs: int,
    rate: float,
) -> nn.Module:
    """The network after so many epochs of one way's crops."""
    torch.manual_seed(seed)
    draws = np.random.default_rng(seed)
    model, steps = network().train(), epochs * (len(images) // min(BATCH, len(images)))
    optimiser, step = adamw(model, rate), 0
    for _ in range(epochs):
        for pick in torch.randperm(len(images)).split(BATCH):
            if len(pick) < min(BATCH, len(images)):
                continue
            set_rate(optimiser, rate * rise(step, 20) * (1 - step / steps) + 1e-6)
            boxes = np.array([box(int(i), draws) for i in pick])
            batch = cut(images[pick], boxes, torch.rand(len(pick)) < 0.5)
            loss = F.cross_entropy(model(batch), labels[pick], label_smoothing=0.1)
            descend(loss, optimiser)
            step += 1
    return model.eval()


def main() -> None:
    command = parser(__doc__)
    require(command, "data", "out")
    command.add_argument("--each", type=int, default=100, help="training images of each class")
    command.add_argument("--epochs", type=int, default=20)
    command.add_argument("--rate", type=float, default=2e-3)
    command.add_argument("--seeds", type=int, default=3)
    command.add_argument("--spare", type=float, default=0.8, help="share of what is looked at that a crop holds")
    command.add_argument("--smallest", type=float, default=0.1, help="crop, a share of the image's area")
    args = command.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    every, labels = load(args.data, "train")
    chosen = torch.cat([torch.nonzero(labels == i)[: args.each, 0] for i in range(len(LABELS))])
    images, labels = every[chosen], labels[chosen]
    shown, truth = load(args.data, "val")
    began = time.process_time()
    looks = [Attended.of(vislab.explain(one.permute(1, 2, 0).numpy())) for one in images]
    print(f"{len(images)} maps in {time.process_time() - began:.0f} s of processor time", flush=True)
    whole, scale = (0, 0, images.shape[3], images.shape[2]), (args.smallest, 1.0)
    held: list[float] = []

    def random_crop(i: int, draws: np.random.Generator, spare: float) -> tuple[int, int, int, int]:
        box = crop(looks[i], draws.random, spare=spare, scale=scale, ratio=RATIO)
        held.append(float(looks[i].share(np.array([box], float))[0]))
        return box

    ways: dict[str, Callable[[int, np.random.Generator], tuple[int, int, int, int]]] = {
        "whole": lambda i, draws: whole,
        "random": lambda i, draws: random_crop(i, draws, 0.0),
        "sparing": lambda i, draws: random_crop(i, draws, args.spare),
    }
    table: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(args.seeds):
        for way in WAYS:
            held.clear()
            model = learned(images, labels, ways[way], seed, args.epochs, args.rate)

            def classify(x: Tensor, model: nn.Module = model) -> Tensor:
                return torch.as_tensor(model(F.interpolate(normalise(x), (SIZE, SIZE), mode="area")))

            table[way].append(accuracy(classify, shown, truth, "cpu"))
            said = f", crops hold {np.mean(held):.0%} of what is looked at" if held else ""
            print(f"seed {seed}  {way}: {table[way][-1]:.1%}{said}", flush=True)
    for way, found in table.items():
        print(f"{way}: {np.mean(found):.1%} of {len(truth)} validation images, {min(found):.1%} to {max(found):.1%}")
    (Path(args.out) / "augmented.json").write_text(json.dumps(table))


if __name__ == "__main__":
    main()
