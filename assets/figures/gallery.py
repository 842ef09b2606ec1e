"""Draw the pictures of the README from the project's own photographs and models.

    python assets/figures/gallery.py [NAME …]   # into this folder; by default all of them

`lab` is a photograph of the real Lab in JupyterLab, `moving` a film of the page that a Lab exports: both need Chromium,
on the PATH or named by CHROMIUM.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image, ImageOps

import vislab
from vislab.figures.page import Panel

HERE = Path(__file__).parent
PHOTOS = {name: vislab.load_image(path) for name, path in vislab.samples().items()}
MARGIN = 12  # px around the Lab
FILM, LARGEST = (1000, 800), 1_000_000  # px of the moving picture, and bytes
# Where the pointer goes on the photograph, shares of its width and height: sky, dome, towers, portal, lawn.
WAY = [(0.1, 0.2), (0.3, 0.15), (0.46, 0.2), (0.46, 0.3), (0.3, 0.4), (0.22, 0.5), (0.4, 0.6), (0.55, 0.7), (0.75, 0.9)]
CHURCHES = ("church", "minster")
ON_PAGE: dict[str, Any] = {"width": "page", "dpi": 220}


def methods() -> Panel:
    """Methods side by side."""
    asked = ("cls", "rollout", "relevance", "grad_cam")
    heats = [[PHOTOS[name], *(vislab.explain(PHOTOS[name], method=one) for one in asked)] for name in CHURCHES]
    columns = ["photograph", "attention of CLS", "rollout", "relevance", "Grad-CAM"]
    return vislab.panel(heats, rows=CHURCHES, columns=columns, normalise="column", **ON_PAGE)


def heads() -> Panel:
    """Layers × heads."""
    layers = (0, 3, 6, 9, 11)
    heats = [[vislab.explain(PHOTOS["minster"], method="cls", layer=n, head=head) for n in layers] for head in range(3)]
    return vislab.panel(heats, normalise="column", **ON_PAGE)


def patches() -> Panel:
    """Patch sizes, on a dark page."""
    sizes = (56, 32, 16, 8)
    heats = [[vislab.explain(PHOTOS["church"], method="relevance", patch_size=size) for size in sizes]]
    columns = [f"{heat.grid.patch[0]} px · {heat.grid.tokens} tokens" for heat in heats[0]]
    return vislab.panel(heats, columns=columns, theme="dark", **ON_PAGE)


def areas() -> Panel:
    """What a detector's box rests on: attention in areas, then over the whole image, and what raises its score."""
    photo = PHOTOS["cathedral"]
    boxes = vislab.detect(photo, confidence=0.5)
    asked: dict[str, dict[str, Any]] = {
        "attention in areas": {"layer": 0},
        "over the whole image": {"layer": 7},
        "Grad-CAM of the score": {"method": "grad_cam"},
    }
    heats = [vislab.explain_box(photo, box=0, **one) for one in asked.values()]
    return vislab.panel([[photo, *heats]], columns=["photograph", *asked], detections=boxes, **ON_PAGE)


PANELS: dict[str, Callable[[], Panel]] = {"methods": methods, "heads": heads, "patches": patches, "areas": areas}


def lab(path: Path) -> None:
    """The Lab as JupyterLab shows it, with nothing around it."""
    labkit, chromium = _browser()
    cell = nbformat.v4.new_code_cell('import vislab\n\nvislab.Lab("church")')
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"}}  # else JupyterLab asks for one
    with tempfile.TemporaryDirectory() as folder, labkit.browse(chromium) as browser:
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), Path(folder) / "lab.ipynb")
        with labkit.serve("jupyterlab", Path(folder)) as server:
            page = browser.new_page(viewport={"width": 1500, "height": 1100}, reduced_motion="reduce")
            labkit.open_notebook(page, server, "lab.ipynb")
            labkit.run_all(page)
            page.locator(".vislab-lab .status[data-state=ready]").first.wait_for(timeout=240_000)
            shown = page.locator(".vislab-lab").first.screenshot()
    picture = ImageOps.expand(Image.open(io.BytesIO(shown)).convert("RGB"), MARGIN, "white")
    picture.save(path, quality=82, subsampling=0, optimize=True)


def moving(path: Path) -> None:
    """A film of the Lab's page: pointing across the photograph, then layer after layer, then the attention scale."""
    labkit, chromium = _browser()
    frames: list[tuple[Image.Image, int]] = []
    with tempfile.TemporaryDirectory() as folder, labkit.browse(chromium) as browser:
        written = vislab.Lab("church", before=False, detector=None).save(Path(folder) / "lab.html")
        page = browser.new_page(viewport={"width": FILM[0], "height": FILM[1]}, reduced_motion="reduce")
        page.goto(written.as_uri())
        canvas = page.locator(".vislab-lab figure > canvas").first
        canvas.wait_for()
        page.wait_for_timeout(2000)

        def shoot(milliseconds: int) -> None:
            page.wait_for_timeout(120)
            frames.append((Image.open(io.BytesIO(page.screenshot())).convert("RGB"), milliseconds))

        def slide(label: str, values: Sequence[float], milliseconds: int) -> None:
            slider = page.locator(".vislab-lab").get_by_label(label, exact=True)
            for value in values:
                slider.evaluate(f"e => {{ e.value = {value}; e.dispatchEvent(new Event('input')); }}")
                shoot(milliseconds)
            slider.dispatch_event("change")

        shoot(1500)
        box = canvas.bounding_box()
        assert box is not None
        for x, y in WAY:
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            shoot(260)
        page.mouse.move(1, 1)
        shoot(700)
        slide("layer", range(0, 12, 2), 450)
        slide("layer", [11], 800)
        least, most = page.locator(".vislab-lab").get_by_label("scale", exact=True).evaluate("e => [+e.min, +e.max]")
        middle = page.locator(".vislab-lab").get_by_label("scale", exact=True).evaluate("e => +e.value")
        there = [middle + (most - middle) * k / 2 for k in (1, 2)]
        back = [most + (least - most) * k / 4 for k in range(1, 5)]
        slide("scale", [*there, *back, middle], 420)
        shoot(1200)
    pictures, durations = [one for one, _ in frames], [one for _, one in frames]
    for quality in (60, 45, 30):
        pictures[0].save(
            path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=quality, method=4
        )
        if path.stat().st_size <= LARGEST:
            return
    sys.exit(f"{path.name} has {path.stat().st_size:,} bytes, more than {LARGEST:,}: take fewer frames")


def _browser() -> tuple[Any, str]:
    """The tests' ways with a browser, and the path of Chromium."""
    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    import labkit

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("pictures of the Lab need Chromium: install it, or set CHROMIUM to the path of one")
    return labkit, chromium


IN_BROWSER: dict[str, tuple[str, Callable[[Path], None]]] = {"lab": ("lab.jpg", lab), "moving": ("lab.webp", moving)}


def main(names: list[str]) -> None:
    every = [*PANELS, *IN_BROWSER]
    unknown = set(names) - set(every)
    if unknown:
        sys.exit(f"no picture {', '.join(sorted(unknown))}: there are {', '.join(every)}")
    for name in names or every:
        if name in IN_BROWSER:
            file, draw = IN_BROWSER[name]
            draw(HERE / file)
        else:
            vislab.save(HERE / f"{name}.jpg", PANELS[name]())


if __name__ == "__main__":
    main(sys.argv[1:])
