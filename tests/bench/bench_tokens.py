"""What spending tokens saves, in time against what its operations promise; prints Markdown.

    python tests/bench/bench_tokens.py [--patch 8] [--rounds 15]

The embedded ViT, on a photograph. Each forward alternates with the plain one, and the median of the ratios of
neighbours counts. Operations are those of the layers' matrices and of attention, from the tokens that each layer had.
"Kept" is how much of the promise is kept: the share of time saved over the share of operations saved; keep 1 saves
nothing, and its ratio is what the machinery costs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import vislab

SPENT: dict[str, dict[str, Any]] = {
    "plain": {},
    "keep 1": {"keep": 1.0},
    "keep 0.7": {"keep": 0.7},
    "keep 0.5": {"keep": 0.5},
    "keep 0.2": {"keep": 0.2},
    "keep 0.5 by centre": {"keep": 0.5, "keep_by": "centre"},
    "merge 16": {"merge": 16},
    "fovea": {"fovea": (256, 256, 768, 640)},
}


def operations(model: vislab.Model, counts: list[int]) -> float:
    """Of all layers: their matrices, 12 of width × width a token, and the two products of attention."""
    width = model.module.config.hidden_size
    return sum(2 * (12 * width**2 * count + 2 * width * count**2) for count in counts)


def seconds(model: vislab.Model, image: Any, spent: dict[str, Any]) -> float:
    start = time.perf_counter()
    model.predict(image, **spent)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, default=8, help="pixels; the fovea's are this and four times this")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    model = vislab.load("embedded", device="cpu")
    image = vislab.load_image(vislab.samples()["church"])
    even = {"patch_size": args.patch}
    print(f"\n## Tokens spent, patches of {args.patch} px\n")
    print("| | tokens a layer | operations | time | kept |\n|---|---|---|---|---|")
    base = None
    for name, spent in SPENT.items():
        asked = {**spent, "fovea_patches": (args.patch, 4 * args.patch)} if "fovea" in spent else {**even, **spent}
        counts = [layer.keys for layer in model.run(image, **asked).capture.layers]
        made = operations(model, counts)
        base = base or made
        seconds(model, image, asked)
        ratios = [seconds(model, image, asked) / seconds(model, image, even) for _ in range(args.rounds)]
        ratio, share = statistics.median(ratios), made / base
        kept = f"{(1 - ratio) / (1 - share):.2f}" if share < 1 else ""
        print(f"| {name} | {sum(counts) / len(counts):.0f} | {share:.2f} | {ratio:.2f} | {kept} |", flush=True)


if __name__ == "__main__":
    main()
