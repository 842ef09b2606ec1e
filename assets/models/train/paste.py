"""Tell what people hold from who holds it, and paste objects onto other images.

    python paste.py --data DIR --teacher teacher.safetensors --boxes AGREED --sifted SIFTED --out PASTED [--scenes 800]

A classifier takes the angler for part of the tench: most of the faces it has seen were anglers'. Nearest neighbours do
not, because other classes' images show faces too, and none of them a tench. So the heat of what people hold counts only
where a place looks more like other images of its class than like any of another class; its box and that of a
segmentation have to agree. The other classes' boxes are those that `sift.py` kept.

Then objects, cut out along two segmentations that agree, are pasted at any size onto images of other classes (Dwibedi
et al. 2017). PASTED holds the images and the scenes made from them. Takes `--device cuda` too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from boxes import grab_cut, heats, iou, label_files, read_boxes, start_data_set, write_one
from data import LABELS, load
from loop import parser, require
from sift import near_features, read_near, votes
from teacher import Teacher, read_teacher
from torch import Tensor

HELD = {LABELS.index(name) for name in ("tench", "chain saw", "French horn")}
SIZE = 192  # px the teacher is given for likeness: 24 x 24 places
IMAGES, PLACES, NEIGHBOURS = 260, 50, 5  # known images of each class, places of each of them, how many are asked
AGREE = 0.6  # IoU of two boxes
SHARE = 0.5  # of the cut-outs of each class that nobody holds, those with the most votes inside
SMALLEST, LARGEST = 24, 180  # px of the longer side of what is pasted
HIDDEN = 0.3  # share of a box that what is pasted over it may cover


class Likeness:
    """How much more a place looks like its own class's other images than like any other class's."""

    def __init__(self, teacher: Teacher, images: Tensor, labels: Tensor) -> None:
        self.teacher = teacher
        groups = [torch.nonzero(labels == k)[:, 0] for k in range(len(LABELS))]
        self.names = torch.stack([group[torch.randperm(len(group))[:IMAGES]] for group in groups])
        places = self.places(images[self.names.flatten()])
        self.mean, self.spread = places.mean((0, 1)), places.std((0, 1)) + 1e-4
        chosen = torch.randint(places.shape[1], (len(places), PLACES, 1), device=places.device)
        known = self.directions(places.gather(1, chosen.expand(-1, -1, places.shape[2])))
        self.known = known.unflatten(0, self.names.shape).flatten(1, 2)  # (classes, IMAGES * PLACES, channels)

    def places(self, images: Tensor) -> Tensor:
        return near_features(self.teacher, images, SIZE).float().flatten(2).transpose(1, 2)

    def directions(self, places: Tensor) -> Tensor:
        return F.normalize((places - self.mean) / self.spread, dim=-1).bfloat16()

    @torch.inference_mode()
    def __call__(self, images: Tensor, names: Tensor, label: int) -> np.ndarray:
        """Images of one class -> (n, 24, 24); above 0: the nearest neighbours are of this class."""
        places, nearest = self.directions(self.places(images)), []
        for k, known in enumerate(self.known):
            like = places @ known.T
            if k == label:
                itself = (self.names[k] == names[:, None]).repeat_interleave(PLACES, 1)
                like.masked_fill_(itself[:, None].to(like.device), -1)
            nearest.append(like.topk(NEIGHBOURS).values.float().mean(-1))
        own = nearest.pop(label)
        others = torch.logsumexp(20 * torch.stack(nearest), 0) / 20
        return (own - others).unflatten(1, (SIZE // 8, SIZE // 8)).cpu().numpy()


@dataclass
class Cutout:
    pixels: np.ndarray  # uint8 (224, 224, 3), the whole image
    mask: np.ndarray  # bool (224, 224)
    label: int
    worth: float  # votes inside less votes outside


def outline(pixels: np.ndarray, heat: np.ndarray, box: np.ndarray, inside: float) -> np.ndarray:
    """The largest part of GrabCut's object in a box. uint8 (224, 224, 3), (224, 224), (4,) px -> bool (224, 224)"""
    left, top, right, bottom = box.round().astype(int).clip(0, 224)
    within = np.zeros(heat.shape, bool)
    within[top:bottom, left:right] = True
    share = heat / max(heat[within].max(initial=0), 1e-6)
    mask = np.full(heat.shape, cv2.GC_BGD, np.uint8)
    mask[within] = cv2.GC_PR_BGD
    mask[within & (share > inside)] = cv2.GC_PR_FGD
    mask[within & (share > 0.7)] = cv2.GC_FGD
    if not (mask == cv2.GC_FGD).any() or not (mask == cv2.GC_BGD).any():
        return np.zeros(heat.shape, bool)
    return largest(grab_cut(pixels, mask, 5), np.ones(heat.shape))


def largest(mask: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The connected part with the most heat; where there is none, as given. -> bool, as mask"""
    count, names = cv2.connectedComponents(mask.astype(np.uint8))
    return names == 1 + np.argmax([heat[names == k].sum() for k in range(1, count)]) if count > 1 else mask


def bounds(mask: np.ndarray) -> np.ndarray:
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], float)


def cut_out(pixels: np.ndarray, heat: np.ndarray, seen: np.ndarray, box: np.ndarray, label: int) -> Cutout | None:
    """The object of a box, where two segmentations agree: of the heat, and of the heat where the votes are.

    uint8 (224, 224, 3), (224, 224), (224, 224), (4,) px
    """
    loose, tight = outline(pixels, heat, box, 0.35), outline(pixels, heat * seen, box, 0.5)
    if min(loose.sum(), tight.sum()) < 100:
        return None
    own = bounds(tight)
    area = (own[2:] - own[:2]).prod()
    if iou(own[None], bounds(loose)[None])[0, 0] < AGREE or tight.sum() < 0.4 * area:
        return None
    return Cutout(pixels, tight, label, float(seen[tight].mean() - seen[~tight].mean()))


def held_box(heat: np.ndarray, likeness: np.ndarray) -> np.ndarray:
    """Of the heat where a place looks like its class. (224, 224), (24, 24) -> (4,) px"""
    smooth = cv2.GaussianBlur(cv2.resize(likeness, heat.shape, interpolation=cv2.INTER_CUBIC), (0, 0), 5)
    own = heat / (1 + np.exp(-20 * (smooth - 0.03)))
    return bounds(largest(own > 0.2 * own.max(), own))


def paste(
    scene: np.ndarray, cutout: Cutout, taken: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """Turned, mirrored, at a random size, place and brightness, where it hides little of the boxes taken (k, 4).

    uint8 (224, 224, 3) -> scene, box (4,) px; none where ten places were too full
    """
    left, top, right, bottom = bounds(cutout.mask).astype(int)
    pixels, mask = (a[top:bottom, left:right] for a in (cutout.pixels, cutout.mask))
    height, width = mask.shape
    shape = cv2.erode(mask.astype(np.float32), np.ones((3, 3)))
    for _ in range(10):
        scale = min(1.5, np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))) / max(height, width))
        x, y = rng.uniform(0.1, 0.9, 2) * 224
        move = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 8), scale)
        if rng.random() < 0.5:
            move = move @ np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1.0]])
        move[:, 2] += (x - width / 2, y - height / 2)
        alpha = cv2.warpAffine(shape, move, (224, 224))
        if (alpha > 0.5).sum() < 100 or alpha.sum() < 0.7 * shape.sum() * scale**2:  # too small, or over the edge
            continue
        hidden = [(alpha[y0:y1, x0:x1] > 0.5).mean() for x0, y0, x1, y1 in taken.round().clip(0).astype(int)]
        if max(hidden, default=0.0) > HIDDEN:
            continue
        sharp = cv2.GaussianBlur(pixels, (0, 0), 0.4 / scale) if scale < 0.7 else pixels
        moved = cv2.warpAffine(sharp, move, (224, 224), borderMode=cv2.BORDER_REPLICATE)
        moved = (moved * rng.uniform(0.7, 1.2)).clip(0, 255)
        soft = cv2.GaussianBlur(alpha, (0, 0), 0.7)[..., None]
        return (scene * (1 - soft) + moved * soft).round().astype(np.uint8), bounds(alpha > 0.5)
    return None


def proposals(agreed: Path, sifted: Path, labels: Tensor) -> dict[int, np.ndarray]:
    """Image -> boxes (k, 4): one each of what people hold, as agreed; what `sift.py` kept of the others."""
    found = {}
    for folder, held in ((agreed, True), (sifted, False)):
        for path in label_files(folder):
            boxes = read_boxes(path)
            if (int(labels[int(path.stem)]) in HELD) == held and not (held and len(boxes) > 1):
                found[int(path.stem)] = boxes
    return found


def cut_all(
    args: argparse.Namespace, images: Tensor, labels: Tensor
) -> Iterator[tuple[int, np.ndarray, Cutout | None]]:
    """Image, its boxes (k, 4), and the first one's object. Of what people hold, only those that agree."""
    teacher = read_teacher(args.teacher, args.device).bfloat16()
    near = read_near(args.sifted / "near.safetensors", args.device)
    likeness, boxes = Likeness(teacher, images, labels), proposals(args.boxes, args.sifted, labels)
    with ThreadPoolExecutor() as pool:
        for label, name in enumerate(LABELS):
            own = [n for n in boxes if labels[n] == label]
            for i in range(0, len(own), 16):
                part = own[i : i + 16]
                some = images[part], labels[part]
                heat = [cv2.resize(h.numpy(), (224, 224)) for h in heats(teacher, *some)[0]]
                seen = [cv2.resize(v, (224, 224)) for v in votes(teacher, near, *some)]
                pixels = [image.permute(1, 2, 0).contiguous().numpy() for image in images[part]]
                first = [boxes[n][0] for n in part]
                cut = list(pool.map(cut_out, pixels, heat, seen, first, [label] * len(part)))
                print(f"\r{name}: {i + len(part)} of {len(own)} images", end="", flush=True)
                if label not in HELD:
                    yield from zip(part, (boxes[n] for n in part), cut, strict=True)
                    continue
                for n, h, like, c in zip(part, heat, likeness(some[0], torch.tensor(part), label), cut, strict=True):
                    if c is not None:
                        pair = np.stack([held_box(h, like), bounds(c.mask)])
                        if iou(pair[:1], pair[1:])[0, 0] >= AGREE:
                            yield n, pair.mean(0, keepdims=True), c
            print()


def main() -> None:
    command = parser(__doc__)
    require(command, "data", "teacher", "boxes", "sifted", "out")
    command.add_argument("--scenes", type=int, default=800)
    args = command.parse_args()
    images, labels = load(args.data, "train")
    start_data_set(args.out)
    real: list[tuple[int, np.ndarray]] = []
    cutouts: list[list[Cutout]] = [[] for _ in LABELS]
    for n, boxes, cutout in cut_all(args, images, labels):
        write_one(args.out, n, images[n].permute(1, 2, 0).numpy(), int(labels[n]), boxes)
        real.append((n, boxes))
        if cutout is not None:
            cutouts[cutout.label].append(cutout)
    for label, own in enumerate(cutouts):
        if label not in HELD:
            own.sort(key=lambda cutout: -cutout.worth)
            del own[round(len(own) * SHARE) :]
    print("cut-outs: " + ", ".join(f"{name} {len(own)}" for name, own in zip(LABELS, cutouts, strict=True)))

    rng = np.random.default_rng(0)
    for k in range(args.scenes):
        n, boxes = real[rng.integers(len(real))]
        scene, named = images[n].permute(1, 2, 0).numpy(), [int(labels[n])] * len(boxes)
        others = [label for label, own in enumerate(cutouts) if own and label != labels[n]]
        for label in rng.choice(others, rng.integers(1, 3)):
            pasted = paste(scene, cutouts[label][rng.integers(len(cutouts[label]))], boxes, rng)
            if pasted:
                scene, boxes = pasted[0], np.vstack([boxes, pasted[1]])
                named.append(int(label))
        write_one(args.out, len(images) + k, scene, named, boxes)
        print(f"\r{k + 1} of {args.scenes} scenes", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
