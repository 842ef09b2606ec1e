"""How many photographs a second `vislab figure FOLDER` makes, and what their parts take, as Markdown.

    python tests/bench/bench_many.py [--photos 48] [--workers N]

Rates are of whole calls on copies of vislab's own photographs, from the first figure that is told to the last: without
the start. Processor time beside them is that of all processes of such a call, less that of one on eight photographs, a
photograph. Parts are processor time in one process, medians over the photographs. What more cores would make follows
from the parts: all cores together cannot do more than there is, and of a call without --ray one process runs the model;
in a cluster each core has a model of its own. Neither knows how long disks and networks take.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

import vislab
from vislab.figures.drawing import pixels_of, styled
from vislab.figures.panel import panel
from vislab.figures.png import png
from vislab.figures.pool import cores
from vislab.figures.save import write_all

ROOT = Path(__file__).parents[2]
KINDS = {
    "figures, 300 dpi": ["--out", "out/"],
    "plain overlays, .png": ["--out", "out/", "--plain"],
    "plain overlays, .jpg": ["--out", "out/{name}.jpg", "--plain"],
    "arrays": ["--out", "out/{name}.npz"],
}
SMALL = ["--patch-size", "32"]
FEW = 8  # photographs of the call that is subtracted: the start is in both


def whole(folder: Path, more: list[str]) -> tuple[float, float]:
    """Photographs a second of one call, after its first; and the seconds of processor time of all its processes."""
    command = [sys.executable, "-m", "vislab", "figure", str(folder), *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as here:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, cwd=here, env=environment, text=True, **streams) as running:
            times = [time.perf_counter() for _ in running.stdout]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (len(times) - 1) / (times[-1] - times[0]), took


def copies(folder: str, count: int) -> Path:
    """A folder of so many photographs."""
    samples = [*vislab.samples().values()]
    for k in range(count):
        shutil.copy(samples[k % len(samples)], Path(folder, f"{k}.jpg"))
    return Path(folder)


def processor(work: Callable[[], object]) -> float:
    """Milliseconds of processor time."""
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


def parts() -> dict[str, float]:
    """Milliseconds of each part of a figure, by name."""
    model = vislab.load("embedded", device="cpu")
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in [*vislab.samples().values()] * 2:
            image = vislab.load_image(path)
            heat = vislab.explain(image, model=model)
            page = panel(heat)
            with styled():
                pixels = pixels_of(page)
            for name, work in {
                "read": lambda path=path: vislab.load_image(path),
                "model, patches of 16 px": lambda image=image: vislab.explain(image, model=model),
                "model, patches of 32 px": lambda image=image: vislab.explain(image, model=model, patch_size=32),
                "figure drawn": lambda page=page: pixels_of(page),
                "figure compressed": lambda pixels=pixels: png(pixels),
                **{
                    f"written{suffix}{' plain' * plain}": lambda heat=heat, suffix=suffix, plain=plain: write_all(
                        Path(folder, f"f{suffix}"), panel(replace(heat)), plain=plain
                    )
                    for suffix, plain in ((".png", False), (".png", True), (".jpg", True), (".npz", False))
                },
            }.items():
                taken.setdefault(name, []).append(processor(work))
    return {name: statistics.median(times[2:]) for name, times in taken.items()}


def most(took: dict[str, float], size: int, written: str, count: int, *, ray: bool) -> float:
    """Photographs a second that so many cores can make, by what the parts take. ray: whether each has a model."""
    model = took[f"model, patches of {size} px"]
    together = count * 1000 / (took["read"] + model + took[f"written{written}"])
    return together if ray else min(together, 1000 / model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=48, help="more than 8")
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    workers = [] if args.workers is None else ["--workers", str(args.workers)]
    print(f"{args.photos} photographs on {cores()} cores, photographs a second and processor time of each:\n")
    print("| | patches of 16 px | | patches of 32 px | |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        many, few = copies(folder, args.photos), copies(other, FEW)
        for name, more in KINDS.items():
            cells = []
            for size in ([], SMALL):
                (_, start), (rate, all_of_it) = (whole(one, [*more, *size, *workers]) for one in (few, many))
                cells += [f"{rate:.1f}", f"{1000 * (all_of_it - start) / (args.photos - FEW):.0f} ms"]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    torch.set_num_threads(1)
    took = parts()
    print("\n| part | processor time |\n|---|---|")
    for name, milliseconds in took.items():
        print(f"| {name} | {milliseconds:.1f} ms |")
    wholes = {"figures": (16, ".png"), "plain overlays": (32, ".png plain"), "arrays": (32, ".npz")}
    print("\n| a second, at most | " + " | ".join(f"{name}, {size} px" for name, (size, _) in wholes.items()) + " |")
    print("|---" * (len(wholes) + 1) + "|")
    for count, ray in [*((count, False) for count in (1, 2, 4, 8, 16)), *((count, True) for count in (16, 64, 256))]:
        rates = [most(took, size, written, count, ray=ray) for size, written in wholes.values()]
        print(f"| {'cluster of ' * ray}{count} cores | " + " | ".join(f"{rate:.1f}" for rate in rates) + " |")


if __name__ == "__main__":
    main()
