"""Propose boxes for images that have only a class: where a classifier sees the class, sharpened by GrabCut.

    python boxes.py --data DIR --teacher teacher.safetensors --out BOXES [--device cuda]
    python boxes.py --data DIR --teacher teacher.safetensors --check ../../../tests/imagenette_boxes.json

The heat is the teacher's map of the class, spread over places that look alike (a random walk over its features: Ahn &
Kwak 2018) and lowered where what a place is like runs out over the image's edge (background: Zhu et al. 2014). It is
cut at a share of its height; GrabCut, seeded by it, draws the outline. Boxes on which both agree go into a data set for
ultralytics: BOXES/{images,labels}/{train,val} and BOXES/data.yaml. `--check` compares proposals with boxes drawn by
hand, which nothing is learned from.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import yaml
from data import FOLDERS, LABELS, load, normalise, read_member
from loop import parser, require
from PIL import Image
from teacher import Teacher, read_teacher
from torch import Tensor

SIZE = 192  # px the teacher is given; it was trained at 96 and 128
GRID = 28  # places a side on which its map is spread
STEPS = 6  # of the random walk
COLOUR = 0.15  # difference of colours, of 1, that still look alike
SIDE = 84  # px a side of the segmentation
CUT, SURE, NONE = 0.4, 0.75, 0.25  # share of the map's height: inside the box; certainly object; certainly not
PEAK = 0.7  # a further object's heat reaches this height
AGREE = 0.5  # IoU of the two boxes


@torch.inference_mode()
def heats(teacher: Teacher, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Where the teacher sees each image's class: its logit above the others' mean, spread, without the background.

    uint8 (n, 3, 224, 224), (n,) -> heat (n, SIDE, SIDE), 1 at its height; probability of the class (n,)
    """
    net, device = teacher.net, next(teacher.parameters()).device
    images, labels = images.to(device), labels.to(device)
    x = F.interpolate(normalise(images), size=(SIZE, SIZE), mode="bilinear", antialias=True).bfloat16()
    shallow = teacher.shallow(x)
    deep = net.layer3(shallow)
    classes = teacher.classes(net.layer4(deep)).float()
    classes = (classes + teacher.classes(teacher.features(x.flip(-1))).float().flip(-1)) / 2
    own = classes.gather(1, labels[:, None, None, None].expand(-1, 1, *classes.shape[2:]))
    heat = F.interpolate(own - classes.mean(1, keepdim=True), size=(GRID, GRID), mode="bicubic").flatten(1)[..., None]
    looks = alike(shallow)
    walk = looks * alike(deep)
    walk = walk / walk.sum(-1, keepdim=True)
    for _ in range(STEPS):
        heat = walk @ heat
    heat = (heat - heat.amin(1, keepdim=True))[..., 0] * foreground(images, looks)
    heat = F.interpolate(heat.reshape(-1, 1, GRID, GRID), size=(SIDE, SIDE), mode="bicubic")[:, 0].clamp(min=0).cpu()
    heat = torch.from_numpy(np.stack([cv2.GaussianBlur(h, (0, 0), 1.5) for h in heat.numpy()]))
    heat = heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-6)
    return heat, classes.mean((2, 3)).softmax(1).gather(1, labels[:, None])[:, 0].cpu()


def alike(features: Tensor) -> Tensor:
    """Cosines above 0 between the features of places. (n, channels, h, w) -> (n, GRID², GRID²)"""
    f = F.interpolate(features.float(), size=(GRID, GRID), mode="bilinear", antialias=True).flatten(2).transpose(1, 2)
    f = F.normalize(f - f.mean(1, keepdim=True), dim=-1)
    return (f @ f.transpose(1, 2)).clamp(min=0)


def foreground(images: Tensor, looks: Tensor) -> Tensor:
    """Near 0 for places whose like meets much of the image's edge for its size. -> (n, GRID²), 0..1"""
    colours = F.interpolate(images.float() / 255, size=(GRID, GRID), mode="area").flatten(2).transpose(1, 2)
    like = looks * torch.exp(-(torch.cdist(colours, colours) ** 2) / (2 * COLOUR**2))
    edge = torch.zeros(GRID, GRID, dtype=torch.bool, device=images.device)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    meets = like[:, :, edge.flatten()].sum(-1) / like.sum(-1).sqrt()
    return torch.exp(-((meets / meets.median(1, keepdim=True).values) ** 2) / 2)


def segment(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """GrabCut (Rother et al. 2004) from the heat. uint8 (224, 224, 3), (SIDE, SIDE) -> bool (SIDE, SIDE)"""
    mask = np.full(heat.shape, cv2.GC_PR_BGD, np.uint8)
    mask[heat > CUT - 0.05], mask[heat > SURE], mask[heat < NONE] = cv2.GC_PR_FGD, cv2.GC_FGD, cv2.GC_BGD
    if (mask == cv2.GC_BGD).sum() < 5:  # the object fills the image
        return heat > CUT
    return grab_cut(cv2.resize(pixels, heat.shape, interpolation=cv2.INTER_AREA), mask, 3)


def grab_cut(pixels: np.ndarray, mask: np.ndarray, thinnest: int) -> np.ndarray:
    """The object that a mask of GrabCut's constants begins with, without what is thinner. -> bool, as mask"""
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(pixels, mask, None, *models, 2, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    return cv2.morphologyEx(inside, cv2.MORPH_OPEN, np.ones((thinnest, thinnest), np.uint8)) > 0


def parts(mask: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Boxes of the connected parts that the heat's height reaches, most heat first. -> (k, 4), px of 224"""
    count, names = cv2.connectedComponents(mask.astype(np.uint8))
    regions = [names == i for i in range(1, count)]
    regions = [r for r in regions if heat[r].max() >= PEAK and r.sum() >= 16]
    regions.sort(key=lambda r: -heat[r].sum())
    corners = [(x.min(), y.min(), x.max() + 1, y.max() + 1) for y, x in map(np.nonzero, regions)]
    return np.array(corners, float).reshape(-1, 4) * 224 / SIDE


def propose(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Boxes of the segmentation that a box of the heat agrees with, most heat first. -> (k, 4), px"""
    cut, plain = parts(segment(pixels, heat), heat), parts(heat > CUT, heat)
    if not len(cut) or not len(plain):
        return np.empty((0, 4))
    agree = iou(cut, plain).max(1) >= AGREE
    return cut[agree] if agree[0] else np.empty((0, 4))


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of (n, 4) and (m, 4) corners. -> (n, m)"""
    a, b = a[:, None], b[None]
    shared = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b)]
    return shared / (areas[0] + areas[1] - shared)


def covered(boxes: np.ndarray, side: int) -> np.ndarray:
    """Which of side × side places lie in boxes (k, 4), px of 224. -> bool (side, side)"""
    inside = np.zeros((side, side), bool)
    for left, top, right, bottom in (boxes * side / 224).round().astype(int):
        inside[top:bottom, left:right] = True
    return inside


def read_checks(data: Path, boxes: Path) -> tuple[Tensor, Tensor, list[np.ndarray]]:
    """Images with boxes drawn by hand. -> (n, 3, 224, 224) uint8, (n,) class, boxes (k, 4) each, px."""
    drawn, folders = json.loads(boxes.read_text())["boxes"], list(FOLDERS)
    with tarfile.open(data / "val.tar") as tar:
        members = {"/".join(Path(m.name).parts[-2:]): m for m in tar if m.isfile()}
        read = [read_member(tar, members[name]) for name in drawn]
    images = torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([folders.index(name.split("/")[0]) for name in drawn])
    return images, labels, [np.array(b, float).reshape(-1, 4) for b in drawn.values()]


def read_unclear(boxes: Path) -> np.ndarray:
    """Which of the images that `read_checks` reads were marked, since their boxes can be disputed. -> bool (n,)"""
    drawn = json.loads(boxes.read_text())
    return np.isin(list(drawn["boxes"]), drawn.get("unclear", []))


def check(teacher: Teacher, data: Path, drawn: Path) -> None:
    images, labels, boxes = read_checks(data, drawn)
    heat, _ = heats(teacher, images, labels)
    best: list[float] = []
    for image, h, theirs in zip(images, heat, boxes, strict=True):
        ours = propose(image.permute(1, 2, 0).numpy(), h.numpy())
        if len(ours):
            best.append(float(iou(ours[:1], theirs).max()))
    share, mean = np.mean(np.array(best) >= 0.5), np.mean(best)
    print(f"{len(best)} of {len(images)} images have boxes")
    print(f"{share:.0%} of their first boxes reach an IoU of 0.5 with one drawn; mean IoU {mean:.2f}")


def write(teacher: Teacher, images: Tensor, labels: Tensor, out: Path) -> None:
    """Images in random order, so that a part serves too; goes on where it stopped.

    Every 150th goes to `val`, which ultralytics' trainer asks for and nothing depends on.
    """
    start_data_set(out)
    done = out / "done.txt"
    first = int(done.read_text()) if done.exists() else 0
    order, kept = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)), 0
    for i in range(first, len(images), 64):
        index = order[i : i + 64]
        heat, sure = heats(teacher, images[index], labels[index])
        for n, h, p in zip(index.tolist(), heat, sure, strict=True):
            pixels = images[n].permute(1, 2, 0).numpy()
            found = propose(pixels, h.numpy()) if p > 0.5 else np.empty((0, 4))
            if len(found):
                write_one(out, n, pixels, int(labels[n]), found)
                kept += 1
        done.write_text(str(i + len(index)))
        print(
            f"\r{i + len(index)}/{len(images)} images, {kept} of {i + len(index) - first} with boxes",
            end="",
            flush=True,
        )
    print()


def start_data_set(out: Path) -> None:
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (out / kind / split).mkdir(parents=True, exist_ok=True)
    names = dict(enumerate(LABELS))
    config = {"path": str(out.resolve()), "train": "images/train", "val": "images/val", "names": names}
    (out / "data.yaml").write_text(yaml.safe_dump(config))


def write_one(out: Path, name: int, pixels: np.ndarray, label: int | list[int], boxes: np.ndarray) -> None:
    """Image and boxes (k, 4), px, as ultralytics reads them: class, centre and size in shares of the image."""
    split = "val" if name % 150 == 0 else "train"
    rows = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1) / 224
    labels = np.broadcast_to(label, len(rows))
    text = "\n".join(f"{k} " + " ".join(f"{v:.4f}" for v in row) for k, row in zip(labels, rows, strict=True))
    (out / "labels" / split / f"{name:05}.txt").write_text(text)
    Image.fromarray(pixels).save(out / "images" / split / f"{name:05}.jpg", quality=92)


def label_files(folder: Path) -> list[Path]:
    """Those of a data set, by the names of their images."""
    return sorted(folder.glob("labels/*/*.txt"), key=lambda path: path.stem)


def read_boxes(path: Path) -> np.ndarray:
    """What `write_one` wrote. -> (k, 4), px"""
    rows = np.loadtxt(path, ndmin=2)[:, 1:] * 224
    return np.concatenate([rows[:, :2] - rows[:, 2:] / 2, rows[:, :2] + rows[:, 2:] / 2], 1)


def main() -> None:
    command = parser(__doc__)
    require(command, "data", "teacher")
    command.add_argument("--out", type=Path, default=Path("boxes"))
    command.add_argument("--check", type=Path, help="boxes drawn by hand, to compare with instead")
    args = command.parse_args()
    teacher = read_teacher(args.teacher, args.device).bfloat16()
    if args.check:
        check(teacher, args.data, args.check)
    else:
        write(teacher, *load(args.data, "train"), args.out)


if __name__ == "__main__":
    main()
