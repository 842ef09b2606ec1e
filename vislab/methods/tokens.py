"""The patches' tokens as a layer leaves them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.features import FeatureMap
from ..core.geometry import Grid
from ..core.images import load_image
from ..models.cache import model_of
from ..models.model import Model
from ..models.preprocessing import ImageSize
from .blocks import block_path
from .layers import encoder
from .question import check_tokens
from .request import layer_index


def patch_tokens(
    image: Any,
    *,
    model: str | Path | Model | nn.Module = "embedded",
    layer: int = -1,
    image_size: ImageSize | None = None,
    patch_size: int | None = None,
) -> FeatureMap:
    """What a layer's block makes of each patch, with the first three principal components as its colours.

    image, model: as of `explain`. layer: counted from 0, -1 the last. image_size, patch_size: px, as of `explain`.
    Raises ValueError for a model without layers over one grid, or whose block makes other tokens.

        from PIL import Image

        tokens = vislab.patch_tokens("photo.jpg", layer=6)
        print(tokens, tokens.components(3).shape)
        Image.fromarray(tokens.overlay()).save("tokens.png")

    Source: for images Oquab et al. 2023, DINOv2, of the patches of an image.
    """
    ready, picture = model_of(model), load_image(image)
    if not ready.attends:
        raise ValueError(
            f"{ready.name} has no attention that is one map over the image, so it has no patch tokens: it has a "
            "heatmap by grad_cam, and of that a mask, method='otsu'"
        )
    with ready.prepared(picture, image_size=image_size, patch_size=patch_size) as prepared, torch.no_grad():
        with ready.captured() as cap:
            ready.forward(prepared.pixels, prepared.arguments)
        layers = encoder(cap, prepared.grid)
        at = layer_index(layer, len(layers))
        path = block_path(ready.module, layers[at].path)
        with _kept(ready.module, path, prepared.grid) as made:
            ready.forward(prepared.pixels, prepared.arguments)
    if len(made) != 1:
        raise ValueError(f"{path} of {ready.name} runs {len(made)} times, so it is not told which of them is asked for")
    values = made[0][0, prepared.grid.patch_tokens].float().cpu()
    if not values.isfinite().all():
        raise ValueError(f"the tokens of {ready.name} hold NaN or infinite values: look for them in its weights")
    return FeatureMap(f"layer {at}", values.numpy(), prepared.grid, prepared.frame, picture)


@contextmanager
def _kept(module: nn.Module, path: str, grid: Grid) -> Iterator[list[Tensor]]:
    """What a block hands on inside the block of code, (1, tokens, width) each time."""
    made: list[Tensor] = []

    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        tokens = output if isinstance(output, Tensor) else output[0]
        check_tokens(tokens, grid.tokens)
        made.append(tokens)

    with module.get_submodule(path).register_forward_hook(hook):
        yield made
