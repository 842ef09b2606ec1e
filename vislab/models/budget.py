"""A Budget: the tokens that a forward will have, layer by layer, known before it runs and without a framework."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..core.geometry import Frame, Grid
from .fovea import Layout, layout_of, settled
from .outline import Outline
from .preprocessing import ImageSize
from .tokens import Tokens


@dataclass(frozen=True, eq=False)
class Budget:
    """tokens: as asked for, layers counted from 0. grid: of the tokens that the module makes by itself. cells: the grid
    that values are drawn on; another one under a fovea, its smallest patches. layout: of the fovea. counts: how many
    tokens each layer attends over.
    """

    tokens: Tokens
    grid: Grid
    cells: Grid
    layout: Layout | None
    counts: tuple[int, ...]


def budget(
    model: Outline,
    tokens: Tokens,
    source: tuple[int, int],
    *,
    image_size: ImageSize | None = None,
    patch_size: int | None = None,
    frame: Frame | None = None,
) -> Budget:
    """What a forward of an image of `source`, (height, width), will have.

    frame: of the pixels, by default that of the model's preprocessing; a fovea's boxes are then as it takes them.
    Raises ValueError for what the model or the image does not allow.
    """
    named = settings_of(tokens)
    if not model.attends:
        raise ValueError(
            f"{model.name} has no attention that is one map over the image, and so no tokens to spend: leave "
            f"{' and '.join(named)} out"
        )
    grid, layout = model.grid(image_size, patch_size), None
    cells = grid
    if tokens.fovea is not None:
        if patch_size is not None:
            raise ValueError("a fovea has patch sizes of its own, fovea_patches: leave patch_size out")
        if not model.resizable:
            raise ValueError(
                f"{model.name} keeps its patches of {model.patch[0]} px, and a fovea has several sizes: leave fovea out"
            )
        frame = frame or model.preprocessing.frame(source, model.input_size(image_size))
        tokens = replace(tokens, fovea=settled(tokens.fovea, frame, tokens.fovea_patches[0], model.name))
        layout = layout_of(tokens, frame, model.name)
        cells = model.grid(image_size, tokens.fovea_patches[0])
    patches = cells.patches if layout is None else layout.patches
    counts = tokens.counts(model.layers, patches, model.prefix + model.suffix)
    return Budget(replace(tokens, heads_off=_heads(model, tokens)), grid, cells, layout, tuple(counts))


def settings_of(tokens: Tokens) -> list[str]:
    """Which settings are asked for, by name."""
    asked = {"keep": tokens.keep < 1, "merge": tokens.merge, "fovea": tokens.fovea, "heads_off": tokens.heads_off}
    return [name for name, value in asked.items() if value]


def _heads(model: Outline, tokens: Tokens) -> Any:
    """The heads that are off, by layer, both counted from 0."""
    found: dict[int, tuple[int, ...]] = {}
    for layer, heads in (tokens.heads_off or {}).items():
        if not -model.layers <= layer < model.layers:
            raise ValueError(
                f"heads_off is for no layer {layer}: layers of {model.name} run from 0 to {model.layers - 1}"
            )
        for head in heads:
            if not -model.heads <= head < model.heads:
                raise ValueError(
                    f"heads_off is for no head {head}: heads of {model.name} run from 0 to {model.heads - 1}"
                )
        at = layer % model.layers
        found[at] = tuple(sorted({*found.get(at, ()), *(head % model.heads for head in heads)}))
    return found or None
