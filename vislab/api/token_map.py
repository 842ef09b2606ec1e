"""From an image and settings of tokens to the map of which token stands for which patch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..core.images import load_image
from ..core.token_map import TokenMap
from ..methods.layers import encoder
from ..models.cache import model_of
from ..models.model import Model


def token_map(image: Any, *, model: str | Path | Model | nn.Module = "embedded", **forward: Any) -> TokenMap:
    """Which patches were dropped, and which became one, before each layer.

    image, model: as of `explain`. forward: settings of the forward, as of `explain`: keep, merge, fovea, patch_size, ….
    Raises ValueError for what the model or the image does not allow.

        from PIL import Image

        regions = vislab.token_map("photo.jpg", merge=16)
        print(regions)
        Image.fromarray(regions.overlay(layer=6)).save("merged.png")
    """
    ready, picture = model_of(model), load_image(image)
    run = ready.run(picture, **forward)
    layers = encoder(run.capture, run.grid)
    shape, cells = (run.grid.rows, run.grid.cols), layers.cells
    owners = [cells.owners(site).reshape(shape).cpu().numpy() for site in layers]
    return TokenMap(np.stack(owners), tuple(cells.count(site) for site in layers), run.grid, run.frame, picture)
