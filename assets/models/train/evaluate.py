"""Measure the embedded ViT as it ships: accuracy, tokens and time by patch size, and what its maps are worth.

    python evaluate.py --data DIR [--model embedded] [--every 1] [--images 30] [--maps maps.png]

The tables are those in its card. Maps: areas under the probability of the class while patches are deleted (lower
is better) or inserted (higher), over correctly classified validation images, against a random order and a centre blob.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from data import LABELS, load, normalise

import vislab
from vislab import metrics
from vislab.patch_size import resized

SIZES = (56, 32, 28, 16, 14, 8)


@torch.inference_mode()
def probabilities(model: vislab.Model, images: torch.Tensor, patch: int) -> torch.Tensor:
    """(n, 3, 224, 224) uint8 -> (n, classes)"""
    with resized(model.module, patch):
        parts = [
            model.module(normalise(part).to(model.device, model.dtype), interpolate_pos_encoding=True).logits
            for part in images.split(32)
        ]
    return torch.cat(parts).float().softmax(1).cpu()


def accuracy_table(model: vislab.Model, images: torch.Tensor, labels: torch.Tensor) -> None:
    print("| patch size | tokens | top-1 | time per image |\n|---|---|---|---|")
    for patch in SIZES:
        top1 = float((probabilities(model, images, patch).argmax(1) == labels).float().mean())
        times = []
        for image in images[:12]:
            start = time.perf_counter()
            probabilities(model, image[None], patch)
            times.append(time.perf_counter() - start)
        tokens = model.grid(patch_size=patch).tokens
        print(f"| {patch} px | {tokens} | {top1:.1%} | {np.median(times) * 1e3:.0f} ms |", flush=True)


def map_table(
    model: vislab.Model, images: torch.Tensor, labels: torch.Tensor, count: int, picture: Path | None
) -> None:
    print("\n| patch size | map | deletion | insertion |\n|---|---|---|---|")
    rng = np.random.default_rng(0)
    right = (probabilities(model, images, 16).argmax(1) == labels).nonzero().squeeze(1)
    chosen = right[torch.from_numpy(rng.choice(len(right), count, replace=False))]
    shown: list[list[np.ndarray]] = [[] for _ in range(count)]
    for patch in (32, 16, 8):
        areas: dict[str, list[tuple[float, float]]] = {}
        for n, i in enumerate(chosen):
            pixels = images[i].permute(1, 2, 0).numpy()
            side = 224 // patch
            y, x = np.mgrid[:side, :side] - (side - 1) / 2
            cls, rollout = (
                vislab.explain(pixels, model=model, method=m, patch_size=patch, layer=-1) for m in ("cls", "rollout")
            )
            maps = {
                "rollout": rollout.values,
                "CLS attention, last layer": cls.values,
                "centre blob": -(x**2 + y**2),
                "random": rng.random((side, side)),
            }

            def score(batch: np.ndarray, patch: int = patch, label: int = int(labels[i])) -> np.ndarray:
                return probabilities(model, torch.from_numpy(batch).permute(0, 3, 1, 2), patch)[:, label].numpy()

            fill = cv2.GaussianBlur(pixels, (0, 0), 24)
            for name, values in maps.items():
                curve = metrics.removal(score, pixels, values, fill=fill)
                areas.setdefault(name, []).append((curve.deletion_area, curve.insertion_area))
            if patch == 32:
                shown[n].append(pixels)
            shown[n] += [vislab.overlay(pixels, heat, opacity=0.6) for heat in (cls, rollout)]
        for name, values in areas.items():
            deletion, insertion = np.mean(values, axis=0)
            print(f"| {patch} px | {name} | {deletion:.3f} | {insertion:.3f} |", flush=True)
    if picture is not None:
        rows = [np.concatenate(row, 1) for row in shown]
        columns = [np.concatenate(rows[k : k + 10], 0) for k in range(0, count, 10)]
        height = max(c.shape[0] for c in columns)
        columns = [np.pad(c, ((0, height - c.shape[0]), (0, 8), (0, 0))) for c in columns]
        cv2.imwrite(str(picture), cv2.cvtColor(np.concatenate(columns, 1), cv2.COLOR_RGB2BGR))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--every", type=int, default=1, help="take every n-th validation image only")
    parser.add_argument("--images", type=int, default=30, help="images for the maps")
    parser.add_argument("--maps", type=Path, help="a picture of the maps: image, then CLS and rollout at 32, 16, 8 px")
    args = parser.parse_args()
    model = vislab.load(args.model)
    assert model.labels == tuple(LABELS)
    images, labels = (part[:: args.every] for part in load(args.data, "val"))
    accuracy_table(model, images, labels)
    map_table(model, images, labels, args.images, args.maps)


if __name__ == "__main__":
    main()
