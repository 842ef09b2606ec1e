"""How the Lab feels, in Chromium and JupyterLab: first paint, hover, a layer's fetch, a new heatmap; prints Markdown.

    python tests/bench/bench_lab.py [--soak 10000]

With --soak it works in one lab instead, and prints now and then what the page and the kernel hold.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
import labkit

SIZE = 640  # px: 1,601 tokens with patches of 16 px
LAB = "const lab = [...document.querySelectorAll('.vislab-lab figure > canvas')].at(-2).lab, [pane] = lab.panes;"
READY = "pane.shown && lab.ui.status.dataset.state === 'ready'"

WARM = 'import vislab\nvislab.Lab("rocket", detector=None).wait();'
FIRST = 'vislab.Lab("church", detector=None)'
LARGE = f"""
from transformers import ViTConfig, ViTForImageClassification
module = ViTForImageClassification(ViTConfig()).eval()  # ViT-B/16, 12 heads
vislab.Lab("church", model=module, image_size={SIZE}, method="cls", detector=None)
"""
SOAK = 'import os, vislab\nlab = vislab.Lab("church")\nprint(os.getpid())\nlab'
# In the kernel: when each picture was sent, counted from the end of the forward.
NEW = f"""
import time
from vislab.lab.widget import Lab
from vislab.models.model import Model
sent, made, send, run = [], [], Lab.send, Model.run
def sending(self, content, buffers=None):
    if content.get("kind") == "view" and content["run"] is not None: sent.append(time.perf_counter())
    send(self, content, buffers)
def running(self, *given, **how):
    found = run(self, *given, **how); made.append(time.perf_counter()); return found
Lab.send, Model.run = sending, running
lab = Lab("church", before=False, detector=None, image_size={SIZE}).wait()
rows = []
for scale in (1.1, 1.2, 1.3, 1.4, 1.5):
    sent.clear(); made.clear(); lab.attention_scale = scale; lab.wait()
    rows.append([lab._stage.panes[0].kept.seconds, sent[0] - made[0], sent[-1] - made[0]])
Lab.send, Model.run = send, run
print(rows)
"""
HOVER = f"""async () => {{
    {LAB}
    const canvas = lab.ui.canvas, box = canvas.getBoundingClientRect(), {{ rows, cols }} = pane.shown.grid, times = [];
    for (let i = 0; i < 200; i++) {{
        const at = [((i * 7) % cols + 0.5) / cols, ((i * 11) % rows + 0.5) / rows];
        const [clientX, clientY] = [box.left + at[0] * box.width, box.top + at[1] * box.height];
        const start = performance.now();
        canvas.dispatchEvent(new PointerEvent('pointermove', {{ clientX, clientY }}));
        lab.draw(false);
        times.push(performance.now() - start);
        await new Promise(requestAnimationFrame);
    }}
    return times;
}}"""
FETCH = f"""async () => {{
    {LAB}
    const times = [];
    for (let layer = 0; layer < 6; layer++) {{
        const start = performance.now(), key = `${{pane.shown.run}}:${{layer}}`;
        lab.port.send({{ kind: 'layer', run: pane.shown.run, layer, sums: false }});
        while (!lab.layers.get(key)) await new Promise((next) => setTimeout(next, 1));
        times.push(performance.now() - start);
    }}
    return times;
}}"""
PAINT = f"""async () => {{
    const frame = () => new Promise(requestAnimationFrame), first = () => {{ {LAB} return lab; }};
    const start = performance.now();
    jupyterapp.shell.currentWidget.content.activeCellIndex = 1;
    jupyterapp.commands.execute('notebook:run-cell');
    while (!document.querySelector('.vislab-lab figure > canvas')) await frame();
    await first().ready;
    const photo = performance.now() - start;
    while (!first().panes[0].shown) await frame();
    return [photo, performance.now() - start];
}}"""
WORK = f"""async (times) => {{
    {LAB}
    const {{ canvas, scale, layer, opacity }} = lab.ui;
    const set = (node, value) => {{ node.value = value; node.dispatchEvent(new Event('change')); }};
    for (let i = 0; i < times; i++) {{
        const box = canvas.getBoundingClientRect();
        const clientX = box.left + (((i * 37) % 100) / 100) * box.width;
        const clientY = box.top + (((i * 61) % 100) / 100) * box.height;
        if (i % 25 === 24) set(scale, ((i * 7) % 80) - 50);
        else if (i % 10 === 9) set(layer, i % 12);
        else if (i % 10 === 4) set(opacity, (i % 100) / 100);
        else canvas.dispatchEvent(new PointerEvent('pointermove', {{ clientX, clientY }}));
        await new Promise(requestAnimationFrame);
    }}
}}"""


@contextmanager
def notebook(*cells: str) -> Iterator[Any]:
    """A page of JupyterLab with a notebook of these cells, not yet run."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no Chromium: apt install chromium, or set CHROMIUM to the path of one")
    code = [
        {"cell_type": "code", "id": f"c{i}", "source": cell, "metadata": {}, "outputs": [], "execution_count": None}
        for i, cell in enumerate(cells)
    ]
    with tempfile.TemporaryDirectory() as folder, labkit.browse(chromium) as browser:
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        book = {"cells": code, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
        (Path(folder) / "bench.ipynb").write_text(json.dumps(book), encoding="utf-8")
        with labkit.serve("jupyterlab", Path(folder)) as server:
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            page.set_default_timeout(600_000)
            labkit.open_notebook(page, server, "bench.ipynb")
            yield page


def run(page: Any, index: int) -> str:
    """Run one cell; what it printed."""
    done = f"""async () => {{
        {labkit.NOTEBOOK} {labkit.CODE}
        notebook.activeCellIndex = {index};
        await jupyterapp.commands.execute('notebook:run-cell');
    }}"""
    page.evaluate(done)
    outputs = labkit.code_cells(page)[index]["outputs"]
    for output in outputs:
        if output["output_type"] == "error":
            raise SystemExit("\n".join([output["ename"], output["evalue"]]))
    return "".join("".join(output.get("text", "")) for output in outputs)


def until(page: Any, expression: str) -> None:
    page.wait_for_function(f"() => {{ {LAB} return {expression}; }}", timeout=600_000)


def line(what: str, times: list[float], goal: str) -> None:
    """times: ms. The first may warm up: the median of the others counts, and the slowest tenth."""
    ordered = sorted(times[1:] or times)
    slow = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    print(f"| {what} | {statistics.median(ordered):.1f} | {slow:.1f} | {goal} |", flush=True)


def feel() -> None:
    print("| | median ms | slowest tenth | goal |\n|---|---|---|---|", flush=True)
    with notebook(WARM, FIRST, NEW, LARGE) as page:
        run(page, 0)
        photo, heat = page.evaluate(PAINT)
        line("first paint: the photograph", [photo], "")
        line("first paint: the heatmap", [heat], "1500")
        forward, first, exact = (list(part) for part in zip(*json.loads(run(page, 2)), strict=True))
        line(f"embedded at {SIZE} px: the forward", [1000 * s for s in forward], "")
        line("… a first picture, after the forward", [1000 * s for s in first], "60")
        line("… the exact rollout, after the forward", [1000 * s for s in exact], "")
        run(page, 3)
        until(page, READY)
        line("a layer's q and k, 1,601 tokens × 768", page.evaluate(FETCH), "150")
        line("hover, 1,601 tokens × 12 heads", page.evaluate(HOVER), "8")


def soak(times: int) -> None:
    with notebook(SOAK) as page:
        kernel = psutil.Process(int(run(page, 0).split()[0]))
        until(page, READY)
        client = page.context.new_cdp_session(page)
        client.send("HeapProfiler.enable")
        print("| interactions | kernel | page's heap | elements | s |\n|---|---|---|---|---|", flush=True)
        start, step = time.perf_counter(), max(1, times // 10)
        for done in range(0, times + 1, step):
            if done:
                page.evaluate(WORK, step)
            until(page, READY)
            client.send("HeapProfiler.collectGarbage")
            heap = page.evaluate("() => performance.memory.usedJSHeapSize")
            nodes = client.send("Memory.getDOMCounters")["nodes"]
            held = [f"{kernel.memory_info().rss / 1e6:.0f} MB", f"{heap / 1e6:.1f} MB", f"{nodes:,}"]
            print(f"| {done:,} | {' | '.join(held)} | {time.perf_counter() - start:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soak", type=int, metavar="N", help="work in one lab, N interactions, and watch its memory")
    options = parser.parse_args()
    if options.soak:
        soak(options.soak)
    else:
        feel()


if __name__ == "__main__":
    main()
