"""Keep the boxes that are filled with what is seen of the class from near by, and have little of it around them.

    python sift.py --data DIR --teacher teacher.safetensors --boxes BOXES --out SIFTED [--share 0.5] [--device cuda]

A deep network knows a tench by the angler who holds it; a network that sees a small part at a time cannot (Brendel &
Bethge 2019). So a head of 1 x 1 convolutions on the teacher's second stage, 8 px a place, learns the classes; each
place votes alone. Boxes are ranked by the mean vote for their class inside less that outside; of each class the share
asked for is kept, the best first. The head is kept beside the boxes (OUT/near.safetensors) and used again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from boxes import covered, label_files, read_boxes, start_data_set
from data import LABELS, load, normalise
from loop import Run, descend, parser, require
from safetensors.torch import load_file, save_file
from teacher import Teacher, read_teacher
from torch import Tensor, nn

SIZE = 160  # px the teacher is given: 20 x 20 places
PLACES = 196  # of these a step learns from
EPOCHS, BATCH, RATE = 8, 64, 4e-3


class Near(nn.Module):
    """Votes of single places. (n, 128, h, w) -> (n, classes, h, w) logits"""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(128, width, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.more = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(2)
        )
        self.last = nn.Sequential(nn.Dropout(0.2), nn.Conv2d(width, len(LABELS), 1))

    def forward(self, features: Tensor) -> Tensor:
        x = self.first(features)
        for block in self.more:
            x = x + block(x)
        return self.last(x)


def read_near(path: Path, device: str) -> Near:
    near = Near().to(device)
    near.load_state_dict(load_file(path))
    return near.eval()


@torch.inference_mode()
def near_features(teacher: Teacher, images: Tensor, size: int = SIZE) -> Tensor:
    """The teacher's second stage. uint8 (n, 3, 224, 224) -> (n, 128, size/8, size/8), float16"""
    like = teacher.net.conv1.weight
    parts = []
    for part in images.split(64):
        x = F.interpolate(normalise(part.to(like.device)), size=(size, size), mode="bilinear", antialias=True)
        parts.append(teacher.shallow(x.to(like.dtype)).half())
    return torch.cat(parts)


def learn(teacher: Teacher, images: Tensor, labels: Tensor, checkpoint: Path) -> Near:
    """Each place is to name the image's class, and so is the mean of all."""
    device = next(teacher.parameters()).device
    features = near_features(teacher, images).flatten(2)
    near = Near().to(device)
    optimiser = torch.optim.AdamW(near.parameters(), weight_decay=0.02)
    run = Run(checkpoint, count=len(images), batch=BATCH, epochs=EPOCHS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=run.per_epoch * EPOCHS)
    run.keep(near=near, optimiser=optimiser, schedule=schedule)
    for now in run.steps(lambda: ""):
        places = torch.randperm(features.shape[2])[:PLACES]
        x, y = features[now.pick][:, :, places, None].float(), labels[now.pick].to(device)
        logits = near(x)[..., 0]
        loss = F.cross_entropy(logits.mean(2), y, label_smoothing=0.05)
        run.note(loss)
        descend(loss + 0.3 * F.cross_entropy(logits, y[:, None].expand(-1, PLACES)), optimiser)
        schedule.step()
    return near


@torch.inference_mode()
def votes(teacher: Teacher, near: Near, images: Tensor, labels: Tensor) -> np.ndarray:
    """Each place's probability of the image's class, mean with the mirror image's. -> (n, 56, 56)"""
    logits = near(near_features(teacher, images).float())
    logits = (logits + near(near_features(teacher, images.flip(-1)).float()).flip(-1)) / 2
    own = logits.softmax(1)[torch.arange(len(labels)), labels]
    return F.interpolate(own[:, None], size=(56, 56), mode="bilinear")[:, 0].cpu().numpy()


def contrast(votes: np.ndarray, boxes: np.ndarray) -> float:
    """Mean inside the boxes less the mean outside. (side, side), (k, 4) px of 224 -> -1..1"""
    inside = covered(boxes, len(votes))
    if not inside.any() or inside.all():
        return float(votes.mean()) - 1
    return float(votes[inside].mean() - votes[~inside].mean())


def main() -> None:
    command = parser(__doc__)
    require(command, "data", "teacher", "boxes", "out")
    command.add_argument("--share", type=float, default=0.5)
    args = command.parse_args()
    images, labels = load(args.data, "train")
    start_data_set(args.out)
    teacher = read_teacher(args.teacher, args.device)
    weights = args.out / "near.safetensors"
    if weights.exists():
        near = read_near(weights, args.device)
    else:
        near = learn(teacher, images, labels, args.out / "near.pt")
        save_file(near.eval().state_dict(), weights)

    files = label_files(args.boxes)
    worth: list[float] = []
    for i in range(0, len(files), 64):
        names = [int(path.stem) for path in files[i : i + 64]]
        seen = votes(teacher, near, images[names], labels[names])
        worth += [contrast(v, read_boxes(path)) for v, path in zip(seen, files[i : i + 64], strict=True)]
        print(f"\r{len(worth)} of {len(files)} images", end="", flush=True)
    print()
    for label, name in enumerate(LABELS):
        own = [k for k, path in enumerate(files) if labels[int(path.stem)] == label]
        own.sort(key=lambda k: -worth[k])
        kept = own[: round(len(own) * args.share)]
        for k in kept:
            for kind, suffix in (("labels", ".txt"), ("images", ".jpg")):
                source = args.boxes / kind / files[k].parent.name / f"{files[k].stem}{suffix}"
                shutil.copy(source, args.out / kind / source.parent.name / source.name)
        print(f"{name}: {len(kept)} of {len(own)} kept")


if __name__ == "__main__":
    main()
