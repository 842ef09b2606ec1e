"""Draw the pictures of the README from the project's own photographs and models.

    python assets/figures/gallery.py [NAME …]   # into this folder; by default all of them

`lab` is a photograph of the real Lab in JupyterLab: it needs Chromium, on the PATH or named by CHROMIUM.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image, ImageOps

import vislab
from vislab.figures.page import Panel

HERE = Path(__file__).parent
PHOTOS = {name: vislab.load_image(path) for name, path in vislab.samples().items()}
MARGIN = 12  # px around the Lab
CHURCHES = ("church", "minster")
ON_PAGE: dict[str, Any] = {"width": "page", "dpi": 144}


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
    return vislab.panel(heats, theme="dark", **ON_PAGE)


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
    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    import labkit

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("the picture of the Lab needs Chromium: install it, or set CHROMIUM to the path of one")
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
    picture.save(path, quality=90, subsampling=0, optimize=True)


def main(names: list[str]) -> None:
    unknown = set(names) - {*PANELS, "lab"}
    if unknown:
        sys.exit(f"no picture {', '.join(sorted(unknown))}: there are {', '.join([*PANELS, 'lab'])}")
    for name in names or [*PANELS, "lab"]:
        if name == "lab":
            lab(HERE / "lab.jpg")
        else:
            vislab.save(HERE / f"{name}.jpg", PANELS[name]())


if __name__ == "__main__":
    main(sys.argv[1:])
