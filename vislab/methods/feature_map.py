"""The last feature map of a model without attention that is one map over the image, found by running it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..models.modes import hooked
from .probe import Probe

_TRIED = 8  # modules from the last, which are cut to see whether the whole score goes through them


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """What a module makes, as cells of a map. layout: "NCHW", "NHWC", or "tokens" of which `prefix` stand before."""

    path: str
    layout: str
    rows: int
    cols: int
    prefix: int = 0

    def image(self, output: Tensor) -> Tensor:
        """-> (n, channels, rows, cols)."""
        if self.layout == "NCHW":
            return output
        if self.layout == "NHWC":
            return output.permute(0, 3, 1, 2)
        return output[:, self.prefix :].mT.unflatten(2, (self.rows, self.cols))

    def back(self, image: Tensor, output: Tensor) -> Tensor:
        """An image in the place of the output that it was made of."""
        if self.layout == "NCHW":
            return image
        if self.layout == "NHWC":
            return image.permute(0, 2, 3, 1)
        return torch.cat([output[:, : self.prefix], image.flatten(2).mT], 1)


def last_map(probe: Probe) -> FeatureMap:
    """The last map that the whole score goes through: with it cut off, no pixel changes the score.

    Of tokens in a row it is proven that they are a map, row by row: lit squares change those most where they lie.
    Raises ValueError where there is none.
    """
    seen: list[tuple[str, Tensor]] = []
    module, size = probe.model.module, (probe.pixels.shape[2], probe.pixels.shape[3])

    def see(path: str) -> Callable[..., None]:
        return lambda part, args, output: seen.append((path, found)) if (found := _tensor(output)) is not None else None

    with hooked(module, {path: see(path) for path, _ in module.named_modules() if path}), torch.no_grad():
        probe.scores(probe.pixels)
    once = {path for path, _ in seen}
    once = {path for path in once if sum(path == other for other, _ in seen) == 1}
    tried: list[tuple[int, ...]] = []
    for path, output in reversed(seen):
        for found in _maps(path, output, size) if path in once and len(tried) < _TRIED else ():
            tried.append(tuple(output.shape))
            if _all_goes_through(probe, path) and (found.layout != "tokens" or _is_raster(probe, found)):
                return found
    raise ValueError(
        f"no feature map was found in {probe.model.name} that its whole score goes through: take "
        "method='integrated_gradients' or 'occlusion', which need none"
    )


@contextmanager
def replaced(module: nn.Module, path: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """What the module at a path makes is changed inside the block before others get it."""

    def hook(_: nn.Module, args: Any, output: Any) -> Any:
        old = _tensor(output)
        assert old is not None
        new = change(old)
        return new if isinstance(output, Tensor) else (new, *output[1:])

    with hooked(module, {path: hook}):
        yield


def _tensor(output: Any) -> Tensor | None:
    first = output[0] if isinstance(output, tuple) and type(output) is tuple and output else output
    return first if isinstance(first, Tensor) and first.is_floating_point() else None


def _maps(path: str, output: Tensor, size: tuple[int, int]) -> Iterator[FeatureMap]:
    """The ways in which an output may be a map of one image of that size, (height, width) px."""

    def fits(rows: int, cols: int) -> bool:
        few = rows <= size[0] and cols <= size[1] and rows * cols > 1
        return few and abs(rows * size[1] - cols * size[0]) < max(size)  # by less than a row or column

    if output.shape[0] != 1:
        return
    if output.ndim == 4:
        for layout, rows, cols in (("NCHW", *output.shape[2:]), ("NHWC", *output.shape[1:3])):
            if fits(rows, cols):
                yield FeatureMap(path, layout, rows, cols)
                return
    if output.ndim == 3:
        for prefix in range(3):
            count = output.shape[1] - prefix
            for rows in range(1, count + 1):
                if count % rows == 0 and rows * size[1] == count // rows * size[0] and fits(rows, count // rows):
                    yield FeatureMap(path, "tokens", rows, count // rows, prefix)


def _all_goes_through(probe: Probe, path: str) -> bool:
    pixels = probe.pixels.detach().clone().requires_grad_()
    with torch.enable_grad(), replaced(probe.model.module, path, lambda output: output.detach().requires_grad_()):
        (score,) = probe.scores(pixels)
        if not score.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(score, pixels, allow_unused=True)
    return gradient is None


@torch.no_grad()
def _is_raster(probe: Probe, found: FeatureMap) -> bool:
    """Whether lit squares change most the tokens where they lie, one square in each quarter of the image."""
    kept: list[Tensor] = []
    base, (height, width) = probe.pixels, probe.pixels.shape[2:]
    places = [((2 * k + 1) * found.rows // 4, (2 * j + 1) * found.cols // 4) for k in (0, 1) for j in (0, 1)]

    def keep(output: Tensor) -> Tensor:
        kept.append(found.image(output).float())
        return output

    with replaced(probe.model.module, found.path, keep):
        for row, col in [(-1, -1), *places]:
            pixels = base.clone()
            if row >= 0:
                top, left = row * height // found.rows, col * width // found.cols
                pixels[..., top : (row + 1) * height // found.rows, left : (col + 1) * width // found.cols] += 3
            probe.model.forward(pixels, probe.arguments)
    for (row, col), lit in zip(places, kept[1:], strict=True):
        most = divmod(int((lit - kept[0])[0].square().sum(0).argmax()), found.cols)
        if abs(most[0] - row) > 1 or abs(most[1] - col) > 1:
            return False
    return True
