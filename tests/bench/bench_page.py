"""Time of the class page's kernel against torch on one thread, the same forward of the embedded model, as Markdown.

    python tests/bench/bench_page.py [--rounds 10]

The kernel runs in Node, whose engine is Chromium's, from patches to the logits, as the page's worker runs it once a
photograph is cut; torch runs transformers' own model. They take turns, in processor time; the median counts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = """
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { forward, opened } from "./engine.js";
const [code, weights] = ["vit.wasm", "weights"].map((name) => new Uint8Array(readFileSync(name)));
const form = JSON.parse(readFileSync("form", "utf8"));
const model = await opened(code, weights, form);
const each = new Float32Array(form.layers * form.heads).fill(1);
const rgb = Uint8Array.from({ length: 3 * form.side ** 2 }, (_, i) => (i * 7919) % 256);
for await (const line of createInterface({ input: process.stdin })) {
  const start = process.cpuUsage();
  forward(model, rgb, { patch: Number(line), scale: each, on: each });
  const { user, system } = process.cpuUsage(start);
  console.log((user + system) / 1000);
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="turns at each patch size (default: 10)")
    rounds = parser.parse_args().rounds
    node = shutil.which("node")
    if node is None:
        sys.exit("the class page's kernel was not measured: that takes Node (apt install nodejs)")

    import torch

    import vislab
    from vislab.page import script
    from vislab.page.class_page import _about, weights_file
    from vislab.page.weights import form_of

    torch.set_num_threads(1)
    model = vislab.load("embedded", device="cpu")
    form = form_of(model)
    image = vislab.load_image(vislab.samples()["church"])
    print("\n| class page: patches | tokens | kernel, ms | torch, one thread, ms | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for module in ("engine.js", "pixels.js", "vit.wasm"):
            shutil.copy(script.STATIC / module, folder)
        (folder / "weights").write_bytes(weights_file(model, form, "int8"))
        (folder / "form").write_text(json.dumps(_about(model, form, [], "int8")["form"]), encoding="utf-8")
        (folder / "run.mjs").write_text(SCRIPT, encoding="utf-8")
        (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
        with subprocess.Popen(
            [node, "run.mjs"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for patch in (56, 32, 16, 8):
                kernel, plain = [], []
                with model.prepared(image, patch_size=patch) as ready, torch.no_grad():
                    for turn in range(rounds + 1):  # the first warms up
                        process.stdin.write(f"{patch}\n")
                        one = float(process.stdout.readline())
                        start = time.thread_time()
                        model.module(ready.pixels, **ready.arguments)
                        other = 1000 * (time.thread_time() - start)
                        if turn:
                            kernel.append(one)
                            plain.append(other)
                ratio = statistics.median(k / p for k, p in zip(kernel, plain, strict=True))
                tokens = ready.grid.tokens
                ms = f"{statistics.median(kernel):.0f} | {statistics.median(plain):.0f}"
                print(f"| {patch} px | {tokens} | {ms} | {ratio:.2f} |", flush=True)
            process.stdin.close()


if __name__ == "__main__":
    main()
