"""Imagenette at 224 px as two tensors, and the augmented views that the training scripts share."""

from __future__ import annotations

import io
import math
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

FOLDERS = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
LABELS = list(FOLDERS.values())
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load(data: Path, split: str) -> tuple[Tensor, Tensor]:
    """Read `{split}.tar` once, then from `{split}.pt` in the working folder. -> (n, 3, 224, 224) uint8, (n,) class."""
    cache = Path(f"{split}.pt")
    if not cache.exists():
        folders, items = list(FOLDERS), []
        with tarfile.open(data / f"{split}.tar") as tar:
            for member in sorted((m for m in tar if m.isfile()), key=lambda m: m.name):
                items.append((read_member(tar, member), folders.index(Path(member.name).parent.name)))
        images = torch.from_numpy(np.stack([image for image, _ in items])).permute(0, 3, 1, 2).contiguous()
        torch.save((images, torch.tensor([label for _, label in items])), cache)
    return torch.load(cache, weights_only=True)


def read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> np.ndarray:
    """One image of an archive. -> (h, w, 3) uint8"""
    file = tar.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} is no file: an archive of one folder of images a class is needed")
    return np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))


def normalise(images: Tensor) -> Tensor:
    """uint8 (n, 3, h, w) -> float32, ImageNet mean and deviation."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def views(images: Tensor, size: int, smallest: float = 0.25) -> Tensor:
    """One random crop, flip and change of light an image. uint8 (n, 3, h, w) -> float32 (n, 3, size, size)."""
    n = len(images)
    area = torch.empty(n).uniform_(smallest, 1)
    ratio = torch.exp(torch.empty(n).uniform_(math.log(3 / 4), math.log(4 / 3)))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = width * flip, height
    theta[:, 0, 2] = (torch.rand(n) * 2 - 1) * (1 - width)
    theta[:, 1, 2] = (torch.rand(n) * 2 - 1) * (1 - height)
    grid = F.affine_grid(theta.to(images.device), [n, 3, size, size], align_corners=False)
    crops = F.grid_sample(normalise(images), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    contrast = torch.empty(n, 1, 1, 1, device=images.device).uniform_(0.6, 1.4)
    tint = torch.empty(n, 3, 1, 1, device=images.device).uniform_(-0.3, 0.3)
    return crops * contrast + tint


def cut_mix(images: Tensor) -> tuple[Tensor, Tensor, float]:
    """Paste one box of a shuffled batch into the batch (Yun et al. 2019). -> images, shuffle order, share kept."""
    share = float(torch.rand(1))  # Beta(1, 1)
    height, width = images.shape[-2:]
    h, w = int(height * math.sqrt(1 - share)), int(width * math.sqrt(1 - share))
    top, left = int(torch.randint(0, height - h + 1, (1,))), int(torch.randint(0, width - w + 1, (1,)))
    order = torch.randperm(len(images), device=images.device)
    images = images.clone()
    images[:, :, top : top + h, left : left + w] = images[order, :, top : top + h, left : left + w]
    return images, order, 1 - h * w / (height * width)


@dataclass(frozen=True)
class Batch:
    """Views of images; where a box of another image was pasted into each, that one's class counts too."""

    images: Tensor  # (n, 3, size, size) float32
    labels: Tensor  # (n,)
    others: Tensor  # (n,) classes of what was pasted
    share: float  # of each image that was not pasted over, 0..1


def mixed(images: Tensor, labels: Tensor, size: int, chance: float) -> Batch:
    """One random view of each image, cut-mixed with some chance. uint8 (n, 3, h, w), (n,)"""
    crops = views(images, size)
    if float(torch.rand(1)) >= chance:
        return Batch(crops, labels, labels, 1.0)
    crops, order, share = cut_mix(crops)
    return Batch(crops, labels, labels[order], share)


def class_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Smoothed cross-entropy with both classes of each image, by their shares. (n, classes) -> ()"""
    own, other = (F.cross_entropy(logits, true, label_smoothing=0.1) for true in (batch.labels, batch.others))
    return batch.share * own + (1 - batch.share) * other
