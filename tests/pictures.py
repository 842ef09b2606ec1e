"""What the tests of figures draw: a photo, heatmaps of it, and boxes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from vislab.core.geometry import Frame, Grid
from vislab.core.heatmap import Heatmap

SETTINGS = {
    "model": "org/model (large)\\",
    "layer": 3,
    "head": np.int64(2),
    "query": (10.0, 20.5),
    "attention_scale": {3: 0.5},
}
FORMATS = [".png", ".jpg", ".jpeg", ".pdf", ".svg", ".npz"]
BOXES = SimpleNamespace(xyxy=np.array([[2.0, 3, 20, 28]]), scores=np.array([0.875]), labels=["Äpfel & $x$"])


def heatmap(values: object = ((0, 1), (2, 3)), source: tuple[int, int] = (32, 48), **settings: object) -> Heatmap:
    values = np.asarray(values, dtype=np.float32)
    grid = Grid(*values.shape, (16, 16), 1)
    frame = Frame.stretch(source, (grid.rows * 16, grid.cols * 16))
    return Heatmap(values, grid, frame, "cls", "tench", SETTINGS | settings, image=photo(source))


def photo(size: tuple[int, int] = (32, 48)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
