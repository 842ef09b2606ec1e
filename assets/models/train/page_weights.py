"""What the class page's weights cost: the same class as the model's own, and how far probabilities move.

    python page_weights.py DATA [--model embedded] [--weights int8] [--every 1]

DATA holds val.tar of Imagenette at 224 px (see README.md beside). torch runs the model with its own weights and with
those that a page holds; `tests/page/test_kernel.py` has the page's kernel within 1e-5 of torch, so this is its answer.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from data import load, normalise
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

BATCH = 16


def shares(module: nn.Module, images: Tensor) -> Tensor:
    """Probabilities of a network. (n, 3, 224, 224) uint8 -> (n, classes)"""
    with torch.inference_mode():
        return torch.cat([module(normalise(part)).logits.softmax(1) for part in images.split(BATCH)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="embedded", metavar="NAME")
    parser.add_argument("--weights", default="int8", choices=["int8", "float16"])
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of the images only every Nth (default: 1)")
    given = parser.parse_args()

    import kernel  # type: ignore[import-not-found]

    import vislab

    images, labels = load(given.data, "val")
    images, labels = images[:: given.every], labels[:: given.every]
    own, page = (vislab.load(given.model, device="cpu") for _ in range(2))
    kernel.dequantised(page, given.weights)
    before, after = (shares(model.module, images) for model in (own, page))
    same = before.argmax(1) == after.argmax(1)
    moved = (before - after).abs().amax(1)
    right = [100 * (found.argmax(1) == labels).float().mean().item() for found in (before, after)]
    print(
        f"{given.model}, {given.weights}, {len(images)} images: same class {100 * same.float().mean():.2f} %, "
        f"right {right[0]:.2f} -> {right[1]:.2f} %, |Δp| mean {moved.mean():.5f}, 99 % within "
        f"{moved.quantile(0.99):.4f}, most {moved.max():.4f}, within 0.01: {100 * (moved <= 0.01).float().mean():.2f} %"
    )


if __name__ == "__main__":
    main()
