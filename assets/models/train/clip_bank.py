"""What a frozen tower makes of Imagenette's pictures, of views of them and of halves of two, kept to learn from."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from data import LABELS, load, normalise, views
from torch import Tensor
from transformers import ViTForImageClassification

SIDE = 224  # pixels


def halves(one: Tensor, other: Tensor) -> Tensor:
    """The middle halves of two pictures, beside each other, or in every second above each other. (n, 3, h, w) each"""
    quarter = one.shape[-1] // 4
    beside = torch.cat([picture[..., quarter : 3 * quarter] for picture in (one, other)], 3)
    above = torch.cat([picture[..., quarter : 3 * quarter, :] for picture in (one, other)], 2)
    return torch.where((torch.arange(len(one)) % 2 == 1).view(-1, 1, 1, 1), above, beside)


def of_two_classes(labels: Tensor, count: int) -> Tensor:
    """Pictures of two classes each, drawn at random, as many as that or a few less. -> (2, n) indices"""
    picks = torch.randint(len(labels), (2, count + count // 4))
    return picks[:, labels[picks[0]] != labels[picks[1]]][:, :count]


@torch.inference_mode()
def new_bank(start: Path, data: Path, *, two: int, device: str) -> dict[str, Tensor]:
    """The tower's CLS token of all that is trained on, and of the validation pictures.

    seen: (n, width), and shows: (n, classes) bool; watched: (m, width), and known: (m,), their class.
    """
    torch.manual_seed(0)
    tower = ViTForImageClassification.from_pretrained(start, dtype=torch.float32).vit.to(device).eval()

    def cls(pixels: Tensor) -> Tensor:
        seen: Tensor = tower(pixels.to(device)).last_hidden_state[:, 0].cpu()
        print(".", end="", flush=True)
        return seen

    images, labels = load(data, "train")
    pairs = of_two_classes(labels, two)
    seen = [cls(normalise(part)) for part in images.split(32)]
    seen += [cls(views(part, SIDE)) for part in images[::4].split(32)]
    seen += [cls(halves(*(views(images[picks], SIDE, 0.5) for picks in some))) for some in pairs.split(32, 1)]
    watched, known = load(data, "val")
    return {
        "seen": torch.cat(seen),
        "shows": torch.cat([shown(part) for part in (labels[:, None], labels[::4, None], labels[pairs].T)]),
        "watched": torch.cat([cls(normalise(part)) for part in watched.split(32)]),
        "known": known,
    }


def shown(classes: Tensor) -> Tensor:
    """Which classes pictures show. (n, how many) -> (n, classes) bool"""
    return F.one_hot(classes, len(LABELS)).sum(1) > 0
