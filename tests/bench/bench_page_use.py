"""The class page as it is used, in Chromium: times, tasks on the main thread, frames of a camera, memory, as Markdown.

    python tests/bench/bench_page_use.py [--interactions 1000] [--rounds 5]

Times are processor time of the page's process, which a busy machine does not change much; wall time stands beside it
where somebody waits. Memory is that process's private footprint, as Chromium counts it; that of a blank page of the
same Chromium is measured beside it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import chromium
from PIL import Image

import vislab

RUNS = "Number(document.documentElement?.dataset.runs ?? 0)"
ADDRESS = "location.hash"
MOVE = """(() => {
    const canvas = document.querySelector('figure.picture > canvas'), box = canvas.getBoundingClientRect();
    for (let i = 0; i < 200; i++) {
        const [x, y] = [(i * 37) % 100, (i * 61) % 100];
        const at = { clientX: box.left + (x + 0.5) * box.width / 100, clientY: box.top + (y + 0.5) * box.height / 100 };
        canvas.dispatchEvent(new PointerEvent('pointermove', at));
    }
})()"""
SLIDE = """(() => {
    const slider = [...document.querySelectorAll('.controls > .slider > input')][%d];
    const [low, high, step] = [slider.min, slider.max, slider.step].map(Number);
    slider.value = low + step * Math.round(((high - low) / step) * %f);
    slider.dispatchEvent(new Event('input', { bubbles: true }));
})()"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=1000, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="openings, of which the median counts")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        file = vislab.class_page(Path(name) / "class.html")
        large = Path(name) / "large.jpg"
        Image.open(vislab.samples()["church"]).resize((4000, 3000)).save(large, quality=92)
        print("\n| class page in Chromium | measured | goal |\n|---|---|---|")
        first_predictions(file, given.rounds)
        used(file, large, given.interactions)
        camera(file)


def row(what: str, measured: str, goal: str) -> None:
    print(f"| {what} | {measured} | {goal} |", flush=True)


def timed(page: chromium.Page, act: Callable[[], object], ready: str) -> tuple[float, float]:
    """Seconds on the clock, and of the page's processor time, until something is so."""
    clock, before = time.monotonic(), page.spent()
    act()
    page.until(ready)
    return time.monotonic() - clock, (page.spent() - before) / 1000


def first_predictions(file: Path, rounds: int) -> None:
    walls, spent = [], []
    for _ in range(rounds):
        with chromium.opened() as page:
            clock = time.monotonic()
            page.goto(file.as_uri())
            page.until(f"{RUNS} > 0")
            walls.append(time.monotonic() - clock)
            spent.append(page.spent() / 1000)
    row(
        "first prediction",
        f"{statistics.median(walls):.1f} s, processor time {statistics.median(spent):.2f} s",
        "1.5 s, 0.8 s",
    )


def used(file: Path, large: Path, interactions: int) -> None:
    with chromium.opened() as page:
        page.goto("data:text/html,<title>blank</title>")
        time.sleep(2)
        blank = chromium.private(page.renderer)
    with chromium.opened() as page:
        opening = page.longest(lambda: (page.goto(file.as_uri()), page.until(f"{RUNS} > 0"), time.sleep(1)))
        time.sleep(5)
        fresh = chromium.private(page.renderer)
        runs = page(RUNS)
        wall = [0.0, 0.0]

        def choose() -> None:
            wall[:] = timed(page, lambda: page.choose("input[type=file]", large), f"{RUNS} > {runs}")

        photo = page.longest(choose)
        row("photograph of 12 megapixels", f"{wall[0]:.1f} s, processor time {wall[1]:.2f} s", "1.5 s")
        for _ in range(3):  # compiled
            page(MOVE)
        before = page.spent("main")
        page(MOVE)
        row("hover, a patch", f"processor time {(page.spent('main') - before) / 200:.1f} ms", "8 ms")
        sliding = page.longest(lambda: [slide(page, turn) for turn in range(40)])
        longest = f"{opening:.0f} ms opening, {photo:.0f} ms photograph, {sliding:.0f} ms sliders"
        row("longest task on the main thread", f"processor time {longest}", "50 ms")
        held = []
        for turn in range(interactions):
            slide(page, turn)
            if turn % (interactions // 10) == interactions // 10 - 1:
                held.append(chromium.private(page.renderer))
        page(SLIDE % (1, 0.8))
        time.sleep(5)
        page.collect()
        kept = chromium.private(page.renderer)
        told = f"{fresh:.0f} MB opened; {', '.join(f'{one:.0f}' for one in held)} over {interactions} interactions"
        told += f"; {kept:.0f} once the browser has collected what nobody holds; a blank page {blank:.0f}"
        row("memory of the page's process", told, "150 MB, flat")


def slide(page: chromium.Page, turn: int) -> None:
    """A slider is moved, and what it asks for is seen: all but that of the layer ask the model."""
    slider, runs, address = (1, 2, 0, 3)[turn % 4], page(RUNS), page(ADDRESS)
    page(SLIDE % (slider, (turn * 7919 % 97) / 97))
    if slider and page(ADDRESS) != address:
        page.until(f"{RUNS} > {runs}")


def camera(file: Path) -> None:
    with chromium.opened("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as page:
        page.goto(file.as_uri())
        page.until(f"{RUNS} > 0")
        page("document.querySelector('.photos > button').click()")
        page.until(f"{RUNS} > 20")
        clock, before, runs = time.monotonic(), [page.spent(thread) for thread in ("worker", "main")], page(RUNS)
        page.until(f"{RUNS} >= {runs + 60}")
        frames, passed = page(RUNS) - runs, time.monotonic() - clock
        worker, main = (
            (page.spent(thread) - spent) / frames for thread, spent in zip(("worker", "main"), before, strict=True)
        )
        measured = (
            f"{frames / passed:.0f} frames/s; processor time {worker:.0f} ms of the worker, beside it {main:.0f} ms"
        )
        row("camera, 50 tokens, a frame", measured, "15 frames/s, 66 ms")


if __name__ == "__main__":
    main()
