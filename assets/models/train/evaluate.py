"""Measure the embedded ViT as it ships: accuracy, tokens and time by patch size, and what its maps are worth.

    python evaluate.py --data DIR [--model embedded] [--every 1] [--sizes 16 8]
    python evaluate.py --data DIR --sizes --images 100 --map-sizes 16 [--methods cls relevance] [--maps maps.png]
    python evaluate.py --data DIR --sizes --drawn ../../../tests/imagenette_boxes*.json --map-sizes 32 16

The first table is its card's, the second the README's: what vislab.evaluate measures of the maps, over validation
images that are classified correctly. The third: how much of the maps lies on the objects, in boxes drawn by hand, for
each set of boxes by itself.
"""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import torch
from boxes import covered, read_checks
from data import LABELS, load, normalise
from loop import parser

import vislab
from vislab.evaluation import ranks
from vislab.methods import registry
from vislab.models.patch_size import resized

SIZES = (56, 32, 28, 16, 14, 8)
METHODS = ("cls", "rollout", "relevance", "grad_rollout", "grad_cam")


@torch.inference_mode()
def probabilities(model: vislab.Model, images: torch.Tensor, patch: int) -> torch.Tensor:
    """(n, 3, 224, 224) uint8 -> (n, classes)"""
    with resized(model.module, patch):
        parts = [
            model.module(normalise(part).to(model.device, model.dtype), interpolate_pos_encoding=True).logits
            for part in images.split(32)
        ]
    return torch.cat(parts).float().softmax(1).cpu()


def accuracy_table(model: vislab.Model, images: torch.Tensor, labels: torch.Tensor, sizes: list[int]) -> None:
    print("| patch size | tokens | top-1 | time per image |\n|---|---|---|---|")
    for patch in sizes:
        top1 = float((probabilities(model, images, patch).argmax(1) == labels).float().mean())
        times = []
        for image in images[:12]:
            start = time.perf_counter()
            probabilities(model, image[None], patch)
            times.append(time.perf_counter() - start)
        tokens = model.grid(patch_size=patch).tokens
        print(f"| {patch} px | {tokens} | {top1:.1%} | {np.median(times) * 1e3:.0f} ms |", flush=True)


def some(model: vislab.Model, images: torch.Tensor, labels: torch.Tensor, count: int) -> tuple[list, list[int]]:
    """Images that are classified correctly, (224, 224, 3) uint8, and their classes."""
    right = (probabilities(model, images, 16).argmax(1) == labels).nonzero().squeeze(1)
    chosen = right[torch.from_numpy(np.random.default_rng(0).choice(len(right), count, replace=False))]
    return list(images[chosen].permute(0, 2, 3, 1).contiguous().numpy()), labels[chosen].tolist()


def drawn_table(model: vislab.Model, data: Path, drawn: Path, sizes: list[int], methods: list[str]) -> None:
    """Beside the blob in the centre that vislab.evaluate compares maps with, and a map that is the same everywhere."""
    images, labels, boxes = read_checks(data, drawn)
    objects = np.stack([covered(corners, 224) for corners in boxes])

    def on_objects(maps: list[np.ndarray]) -> tuple[np.ndarray, float]:
        """Each map's share that lies in the boxes, and how often its highest place does."""
        large = [np.kron(m, np.ones((224 // m.shape[0], 224 // m.shape[1]))).clip(min=0) for m in maps]
        shares = [m[inside].sum() / m.sum() for m, inside in zip(large, objects, strict=True)]
        return np.array(shares), float(np.mean([i[m == m.max()].mean() for m, i in zip(large, objects, strict=True)]))

    centre, peak = on_objects([ranks.centre(224, 224)] * len(images))
    print(f"{drawn.name}: {len(images)} images")
    print("| | patch size | inside the boxes | highest place inside | more inside than the centre blob |")
    print("|---|---|---|---|---|")
    print(f"| even | | {objects.mean():.3f} | | |")
    print(f"| centre | | {centre.mean():.3f} | {peak:.0%} | |")
    for patch in sizes:
        for method in methods:
            maps = []
            for image, label in zip(images, labels.tolist(), strict=True):
                pixels = image.permute(1, 2, 0).contiguous().numpy()
                asked = {"target": label} if registry.METHODS[method].targeted else {}
                maps.append(vislab.explain(pixels, model=model, method=method, patch_size=patch, **asked).values)
            shares, peak = on_objects(maps)
            print(
                f"| {method} | {patch} px | {shares.mean():.3f} | {peak:.0%} | {(shares > centre).mean():.0%} |",
                flush=True,
            )


def map_picture(model: vislab.Model, pictures: list[np.ndarray], sizes: list[int], path: Path) -> None:
    """Ten rows a column: each image, then its CLS and rollout maps at each patch size."""
    rows = []
    for picture in pictures:
        heats = [
            vislab.explain(picture, model=model, method=method, patch_size=patch)
            for patch in sizes
            for method in ("cls", "rollout")
        ]
        rows.append(np.concatenate([picture, *(vislab.overlay(heat, opacity=0.6) for heat in heats)], 1))
    columns = [np.concatenate(rows[k : k + 10], 0) for k in range(0, len(rows), 10)]
    height = max(column.shape[0] for column in columns)
    columns = [np.pad(column, ((0, height - column.shape[0]), (0, 8), (0, 0))) for column in columns]
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(columns, 1), cv2.COLOR_RGB2BGR))


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", type=Path, required=True)
    command.add_argument("--model", default="embedded")
    command.add_argument("--every", type=int, default=1, help="take every n-th validation image only")
    command.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="patch sizes of the table of accuracy")
    command.add_argument("--images", type=int, default=0, help="images for the maps (default: none)")
    command.add_argument("--map-sizes", type=int, nargs="+", default=(32, 16, 8), help="patch sizes of the maps")
    command.add_argument("--methods", nargs="+", default=METHODS, help="methods that make the maps")
    command.add_argument("--maps", type=Path, help="a picture of the maps: each image, then its maps at each size")
    command.add_argument("--drawn", type=Path, nargs="+", default=[], help="sets of boxes drawn by hand")
    args = command.parse_args()
    model = vislab.load(args.model)
    assert model.labels == tuple(LABELS)
    images, labels = (part[:: args.every] for part in load(args.data, "val"))
    if args.sizes:
        accuracy_table(model, images, labels, args.sizes)
    for drawn in args.drawn:
        drawn_table(model, args.data, drawn, args.map_sizes, args.methods)
    if args.images:
        pictures, targets = some(model, images, labels, args.images)
        for patch in args.map_sizes:
            settings = {"targets": targets, "randomised": 0, "patch_size": patch}
            found = vislab.evaluate(pictures, model=model, methods=args.methods, **settings)
            print(f"\nMaps at {patch} px: {found}", flush=True)
        if args.maps is not None:
            map_picture(model, pictures, args.map_sizes, args.maps)


if __name__ == "__main__":
    main()
