"""How soon the command is done, from a cold start: seconds, processor time and peak memory, as Markdown.

    python tests/bench/bench_start.py [--runs 5]

The commands take turns, so that a machine that slows down slows all of them; the ratio of
processor times is to `import torch, transformers`, run by run. Seconds are what somebody waits: on an idle machine of
two cores or more, the import of what draws goes on beside that of the model's libraries.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "assets" / "images" / "church.jpg"
LIBRARIES = "import torch, transformers"
LOAD = """
import time
from transformers.models.vit import modeling_vit
import vislab.models.load
start = time.process_time()
vislab.load("embedded")
print(time.process_time() - start)
"""
LOADED = f"""
from transformers.models.vit.modeling_vit import ViTForImageClassification as Model
Model.from_pretrained({str(ROOT / "assets" / "models" / "vit-tiny-imagenette")!r}, use_safetensors=True)
"""
COMMANDS = {
    f"`{LIBRARIES}`": ["-c", LIBRARIES],
    "transformers' ViT, imported": ["-c", "from transformers.models.vit import modeling_vit"],
    "the same, and its weights loaded": ["-c", LOADED],
    "`vislab models`": ["-m", "vislab", "models"],
    "`vislab tokens`": ["-m", "vislab", "tokens", str(PHOTO)],
    "`vislab figure` of one photograph": ["-m", "vislab", "figure", str(PHOTO), "--out", "figure.png"],
}

# What is compiled is kept, as it is where vislab was installed: the run that is not counted writes it.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": ""}

# A child's peak is at least what its parent had when it was made: each command is the child of a small process.
MEASURE = """
import os, sys, time
start = time.perf_counter()
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
used = os.wait4(child, 0)[2]
scale = 1000 if sys.platform == "linux" else 1_000_000
print(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / scale, file=sys.stderr)
"""


def measured(arguments: list[str]) -> tuple[float, float, float]:
    """(seconds, processor seconds, peak MB) of a Python process, in an empty folder."""
    command = [sys.executable, "-c", MEASURE, *arguments]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    waited, seconds, peak = map(float, done.stderr.split()[-3:])
    return waited, seconds, peak


def loading() -> float:
    """Processor seconds of `vislab.load("embedded")` where its libraries are imported already."""
    done = subprocess.run([sys.executable, "-c", LOAD], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    rounds = [{name: measured(command) for name, command in COMMANDS.items()} for _ in range(runs + 1)][1:]
    base = next(iter(COMMANDS))
    print(f"Cold starts, medians of {runs} runs in turn after one that is not counted:\n")
    print("| | seconds | processor time | ratio | peak memory |\n|---|---|---|---|---|")
    for name in COMMANDS:
        waited, seconds, peak = (statistics.median(one[name][i] for one in rounds) for i in range(3))
        ratio = statistics.median(one[name][1] / one[base][1] for one in rounds)
        print(f"| {name} | {waited:.2f} s | {seconds:.2f} s | {ratio:.2f} | {peak:,.0f} MB |")
    seconds = statistics.median(loading() for _ in range(runs))
    print(f'| `vislab.load("embedded")` once they are there | | {seconds:.2f} s | | |')


if __name__ == "__main__":
    main()
