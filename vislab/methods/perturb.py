"""Methods for one target by captum: Grad-CAM, integrated gradients and occlusion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.geometry import Grid
from ..engine.site import AttentionRefused
from ..models.feasible import squares
from .feature_map import last_map, replaced
from .layers import encoder
from .probe import Probe
from .question import Answer, Question, tokens_given
from .request import layer_index

_MANY = 1024  # patches: a forward for each would take too long, and one of them hides next to nothing


def grad_cam(probe: Probe, question: Question) -> Answer:
    """Grad-CAM on the tokens that the attention of a layer reads, as captum's LayerGradCam defines it.

    Of a model without attention over one grid, on its last feature map, whose cells are then the map's. Signed: what
    speaks against the target is below 0. Prefix and suffix tokens take no part. Source: Selvaraju et al. 2017, eqs. 1
    and 2, without the ReLU.
    """
    from captum.attr import LayerGradCam

    cap, _ = probe.settled()
    if not probe.model.attends:
        return _of_last_map(probe)
    try:
        sites = encoder(cap, probe.grid)
        site, cells = sites[layer_index(question.layer, len(sites))], sites.cells
        site.read()
    except (ValueError, AttentionRefused):
        if question.layer != -1:
            raise
        return _of_last_map(probe)
    pixels = probe.pixels.clone().requires_grad_()
    own = cells.patches(site)
    shape = (probe.grid.rows, probe.grid.cols) if cells.plain else (1, own.stop - own.start)
    with _seen_as_image(probe.model.module.get_submodule(site.name), own, cells.count(site), shape) as seen:
        attribution = LayerGradCam(probe.differentiable, seen).attribute(pixels)
    row = F.pad(attribution.detach()[0, 0].flatten(), (own.start, cells.count(site) - own.stop))
    return Answer(cells.values(site, row), signed=True, dropped=cells.dropped(site))


def _of_last_map(probe: Probe) -> Answer:
    from captum.attr import LayerGradCam

    found, seen = last_map(probe), nn.Identity()
    pixels = probe.pixels.clone().requires_grad_()
    with replaced(probe.model.module, found.path, lambda output: found.back(seen(found.image(output)), output)):
        attribution = LayerGradCam(probe.differentiable, seen).attribute(pixels)
    height, width = pixels.shape[2:]
    grid = Grid(found.rows, found.cols, (-(-height // found.rows), -(-width // found.cols)))
    words = f"{found.rows} × {found.cols} cells of the last feature map, {found.path}, spread evenly over the image"
    return Answer(attribution.detach()[0, 0].flatten(), signed=True, grid=grid, cells=words)


def _squares(probe: Probe) -> str | None:
    """What the cells of maps by pixels are, where they are no patches of the model's."""
    side = probe.grid.patch[0]
    return None if probe.model.attends else f"{probe.grid.rows} × {probe.grid.cols} squares of {side} px"


def integrated_gradients(probe: Probe, question: Question, *, steps: int = 50) -> Answer:
    """Integrated Gradients from an input of zeros, the mean colour of the preprocessing, through captum.

    Signed: the values of all patches sum to the score's difference between image and zeros. steps: of the integral.
    Source: Sundararajan, Taly & Yan 2017.
    """
    from captum.attr import IntegratedGradients

    if steps < 1:
        raise ValueError(f"integrated_gradients takes at least 1 step, not {steps}")
    probe.settled()
    pixels = probe.pixels.clone().requires_grad_()
    with probe.counting(steps):
        attribution = IntegratedGradients(probe.differentiable).attribute(
            pixels, n_steps=steps, internal_batch_size=probe.batch
        )
    return Answer(
        _by_patch(attribution.detach(), probe.grid).sum((0, 2, 4)).flatten(),
        signed=True,
        by_pixels=True,
        cells=_squares(probe),
    )


@torch.no_grad()
def occlusion(probe: Probe, question: Question, *, square: int | None = None) -> Answer:
    """By how much the score falls when a square is replaced by zeros, the mean colour of the preprocessing, by captum.

    square: its side, px of the model's input; by default a patch of the model, of more than 1,024 of them some 14
    squares along the shorter side. Signed: a square without which the score rises is below 0. Source: Zeiler & Fergus
    2014.
    """
    from captum.attr import Occlusion

    size, grid = (probe.pixels.shape[2], probe.pixels.shape[3]), probe.grid
    if square is not None and not 1 <= square <= min(size):
        raise ValueError(f"occlusion takes squares of 1 to {min(size)} px of the model's input, not of {square}")
    if square is not None and probe.model.clip is not None:
        raise ValueError("of a clip, occlusion takes away patches, in all frames that a token sees: leave square out")
    if square is None and grid.patches > _MANY and probe.model.clip is None:
        square = squares(size)
    shown = None if square is None else Grid.of(size, (square, square))
    probe.settled()
    cells = shown or grid
    with probe.counting(cells.patches + 1):
        attribution = Occlusion(probe.scores).attribute(
            probe.pixels,
            sliding_window_shapes=(probe.pixels.shape[1], *cells.patch),
            strides=(probe.pixels.shape[1], *cells.patch),
            perturbations_per_eval=probe.batch,
        )
    values = _by_patch(attribution, cells)[0, :, 0, :, 0].flatten()
    words = _squares(probe) if shown is None else f"{cells.rows} × {cells.cols} squares of {square} px"
    return Answer(values, signed=True, by_pixels=True, grid=shown, cells=words)


def _by_patch(pixels: Tensor, grid: Grid) -> Tensor:
    """(1, channels, height, width) -> (channels, rows, patch height, cols, patch width), where there are patches."""
    height, width = grid.rows * grid.patch[0], grid.cols * grid.patch[1]
    beyond = (0, max(0, width - pixels.shape[3]), 0, max(0, height - pixels.shape[2]))
    inside = F.pad(pixels[0, :, :height, :width], beyond)
    return inside.unflatten(2, (grid.cols, -1)).unflatten(1, (grid.rows, -1))


@contextmanager
def _seen_as_image(attention: nn.Module, own: slice, count: int, shape: tuple[int, int]) -> Iterator[nn.Module]:
    """A layer whose output is the patch tokens that enter an attention module, (batch, channels, rows, cols).

    They enter it in a row, or, where there are no others, as such a map already. own: which of its `count` tokens these
    are. shape: (rows, cols) of them.
    """
    seen = nn.Identity()

    def through(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        maps = [x for x in given if x.ndim == 4 and tuple(x.shape[2:]) == shape and own == slice(0, count)]
        if maps and all(x.ndim != 3 for x in given):
            entered, image = maps[0], seen(maps[0])
        else:
            entered = tokens_given(args, kwargs, count)
            before, patches, after = entered.split((own.start, own.stop - own.start, count - own.stop), 1)
            image = torch.cat([before, seen(patches.mT.unflatten(2, shape)).flatten(2).mT, after], 1)
        swap = {id(entered): image}  # queries, keys and values of nn.MultiheadAttention are one tensor
        return tuple(swap.get(id(x), x) for x in args), {name: swap.get(id(x), x) for name, x in kwargs.items()}

    with attention.register_forward_pre_hook(through, with_kwargs=True):
        yield seen
