"""Where a model's tokens are, by experiment: which pixels each token is made of, and the grid that this makes.

Only the embedding part runs, up to the first attention. First it is run on pixels, and on others that differ in a
random half of the patches that the module's records suggest: when the tokens of these patches change, and no other,
the grid is proven by two such runs. Where it is another, gradients tell of every pixel which token it feeds: the
gradient of the sum of all tokens (of a random projection of each) is compared with that of the same sum with weights
that number them, and a pixel that feeds one token alone has the two in the ratio of that token's weight. Tokens that
see more than a patch each are placed where stripes of changed pixels change them most.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.geometry import Grid
from .embedding import Lost, entrance
from .modes import evaluating

_SEEN = 1e-9  # of the strongest gradient's or change's square: below it there is none
_REMEMBERED: weakref.WeakKeyDictionary[nn.Module, dict[Any, Places]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Places:
    """The grid of a model's tokens at one input size, and where that was found.

    corner: (y, x) in model pixels of the grid's top left corner, below 0 where the embedding pads the image. overlap:
    whether a token also sees pixels beyond its patch; the grid then tells where it sees most. path: of the module that
    attends first, with so many heads (0 where that cannot be told), over tokens of so many numbers (dim).
    """

    grid: Grid
    corner: tuple[float, float]
    overlap: bool
    path: str
    heads: int
    dim: int


def places(
    module: nn.Module, size: tuple[int, int], arguments: Mapping[str, Any], *, claim: Grid | None = None
) -> Places:
    """Find them by experiment, once for a module, an input size, (height, width) px, and its arguments.

    claim: what the user says that the grid is, which the experiment checks. Raises Lost, with what was found.
    """
    known = _REMEMBERED.setdefault(module, {})
    parts = hash(tuple((id(part), part.extra_repr(), len(part._forward_hooks)) for part in module.modules()))
    key = (parts, size, tuple(sorted((k, str(v)) for k, v in arguments.items())), claim)
    if key not in known:
        known[key] = _found(module, size, arguments, claim)
    return known[key]


def noise(module: nn.Module, size: tuple[int, int], seed: int) -> Tensor:
    """Random pixels, (1, 3, height, width), as the module takes them."""
    weights = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    pixels = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    return pixels.to(weights.device, weights.dtype)


@torch.inference_mode(False)
def _found(module: nn.Module, size: tuple[int, int], arguments: Mapping[str, Any], claim: Grid | None) -> Places:
    with evaluating(module):
        return _sought(Look(module, noise(module, size, 0), arguments), claim)


def _sought(look: Look, claim: Grid | None) -> Places:
    grid, corner, overlap = claim or _by_hint(look), (0.0, 0.0), False
    if claim is not None and (why := _unconfirmed(look, claim)):
        raise Lost(why)
    if grid is None:
        grid, corner, overlap = _by_gradient(look)
    at = look.reached
    return Places(grid, corner, overlap, at.path, at.heads, at.tokens.shape[1])


class Look:
    """A module with pixels, (1, 3, height, width), and what its first attention reads of them."""

    def __init__(self, module: nn.Module, pixels: Tensor, arguments: Mapping[str, Any]) -> None:
        self.module, self.pixels, self.arguments = module, pixels, arguments
        with torch.no_grad():
            self.reached = entrance(module, pixels, arguments)

    @property
    def tokens(self) -> Tensor:
        """(n, width)."""
        return self.reached.tokens

    @torch.no_grad()
    def moved(self, pixels: Tensor) -> np.ndarray:
        """By how much the tokens are others for other pixels, squared, (n,)."""
        other = entrance(self.module, pixels, self.arguments, again=self.reached).tokens
        if self.tokens.shape != other.shape:
            raise Lost(f"its first attention reads {len(self.tokens)} tokens of one image and {len(other)} of another")
        moved = (self.tokens - other).float().square().sum(1)
        return torch.where(moved > _SEEN * moved.max(), moved, 0).cpu().numpy()  # less is rounding

    def in_graph(self) -> tuple[Tensor, Tensor] | None:
        """The tokens with the graph that they are made by, and its pixels; None where it is cut off."""
        pixels = self.pixels.clone().requires_grad_()
        try:
            with torch.enable_grad():
                tokens = entrance(self.module, pixels, self.arguments, again=self.reached).tokens
                return (tokens, pixels) if tokens.requires_grad else None
        except Lost:  # weights that were made in inference mode
            return None


# ---- by changing the pixels of patches ----


def _by_hint(look: Look) -> Grid | None:
    """The grid that the module's records suggest, if it is confirmed."""
    height, width = look.pixels.shape[2:]
    for patch in _hinted(look.module):
        rows, cols = height // patch[0], width // patch[1]
        if not 1 < rows * cols <= len(look.tokens):
            continue
        chosen, moved = _half_changed(look, rows, cols, patch)
        spare = len(moved) - rows * cols
        fits = [first for first in range(spare + 1) if (moved[first : first + rows * cols] == chosen).all()]
        if len(fits) == 1 and moved.sum() == chosen.sum():
            return Grid(rows, cols, patch, fits[0], spare - fits[0])
        return None
    return None


def _hinted(module: nn.Module) -> list[tuple[int, int]]:
    """Patch sizes that are written in the module, those of convolutions on pixels first."""
    found: dict[tuple[int, int], None] = {}
    parts = list(module.modules())
    first = [part for part in parts if isinstance(part, nn.Conv2d) and part.in_channels == 3]
    for said in [*(part.stride for part in first), *(getattr(part, "patch_size", None) for part in parts)]:
        sides = (said, said) if isinstance(said, int) else said
        if isinstance(sides, tuple | list) and len(sides) == 2 and all(isinstance(s, int) and s > 1 for s in sides):
            found[(sides[0], sides[1])] = None
    return list(found)


def _half_changed(look: Look, rows: int, cols: int, patch: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Which patches were changed, a random half of them, (patches,) bool, and which tokens then changed, (n,) bool."""
    chosen = torch.rand(rows, cols, generator=torch.Generator().manual_seed(3)) < 0.5
    chosen[0, 0], chosen[-1, -1] = True, rows * cols == 1
    area = chosen.repeat_interleave(patch[0], 0).repeat_interleave(patch[1], 1)
    other = look.pixels.clone()
    other[..., : area.shape[0], : area.shape[1]] += area.to(other) * 3
    return chosen.flatten().numpy(), look.moved(other) > 0


def _unconfirmed(look: Look, grid: Grid) -> str:
    """What speaks against a grid; "" where the tokens of the patches that are changed change, and no other patch's."""
    if len(look.tokens) != grid.tokens:
        return f"{look.reached.path}, its first attention, reads {len(look.tokens)} tokens"
    chosen, moved = _half_changed(look, grid.rows, grid.cols, grid.patch)
    wrong = int((moved[grid.patch_tokens] != chosen).sum())
    if not wrong:
        return ""
    return (
        f"with the pixels of {chosen.sum()} of these patches changed, {wrong} of the {grid.patches} tokens do not do "
        f"as they should: {moved.sum()} tokens change, the first of them token {moved.argmax()}"
    )


# ---- by gradients ----


def _by_gradient(look: Look) -> tuple[Grid, tuple[float, float], bool]:
    graph = look.in_graph()
    if graph is not None:
        fed = _fed(_projected(graph[0]), graph[1])
        if fed is not None:
            return *_raster(fed, look), False
    grid, corner = _centred(look)
    exact = corner == (0.0, 0.0) and not _unconfirmed(look, grid)
    return grid, corner, not exact


def _projected(tokens: Tensor) -> Tensor:
    direction = torch.randn(tokens.shape[1], generator=torch.Generator().manual_seed(2))
    return tokens.float() @ direction.to(tokens.device)


def _fed(score: Tensor, pixels: Tensor) -> np.ndarray | None:
    """Which token each pixel feeds, -1 for none, (height, width); None where pixels feed several."""
    found: tuple[Tensor | None, ...] = torch.autograd.grad(score.sum(), pixels, retain_graph=True, allow_unused=True)
    if found[0] is None:
        return None
    plain = found[0][0].float()
    energy = plain.square().sum(0)
    seen = energy > _SEEN * energy.max()
    base = 2048 if pixels.dtype in (torch.float32, torch.float64) else 12  # what its numbers can tell apart
    numbers = torch.arange(len(score), device=score.device)
    index, single, place = torch.zeros_like(energy), seen.clone(), 1
    while place < max(len(score), 2):
        weights = (numbers // place % base + 1).float()
        (weighted,) = torch.autograd.grad((score * weights).sum(), pixels, retain_graph=True)
        ratio = (weighted[0].float() * plain).sum(0) / energy.clamp_min(1e-30)
        digit = ratio.round() - 1
        single &= ((ratio - ratio.round()).abs() < 0.3) & (digit >= 0) & (digit < base)
        index += digit * place
        place *= base
    if (seen & ~single).sum() > 0.005 * seen.sum():
        return None
    return torch.where(single, index, -1).long().cpu().numpy()


def _raster(index: np.ndarray, look: Look) -> tuple[Grid, tuple[float, float]]:
    """The grid whose patches are the pixels of each token, and its corner."""
    fed, ys, xs = _boxes(index)
    first, cells, count = int(fed[0]), len(fed), len(look.tokens)
    cols = int(np.argmax(ys[:, 0] != ys[0, 0])) or cells
    rows = cells // cols
    regular = rows * cols == cells == fed[-1] - first + 1
    if regular:
        tops, lefts = ys[:, 0].reshape(rows, cols), xs[:, 0].reshape(rows, cols)
        regular = bool((tops == tops[:, :1]).all() and (lefts == lefts[:1]).all())
    if regular:
        (top, height), (left, width) = _steps(ys[::cols]), _steps(xs[:cols])
        regular = height > 0 and width > 0
    if regular:
        y, x = (np.arange(index.shape[0]) - top) // height, (np.arange(index.shape[1]) - left) // width
        expected = first + y[:, None] * cols + x
        regular = bool(((index == expected) | (index < 0)).all())
    if not regular:
        share = float((index >= 0).mean())
        dropped = f": only {share:.0%} of the pixels reach a token" if share < 0.9 else ""
        raise Lost(
            f"{look.reached.path}, its first attention, reads {count} tokens that are no grid of patches, row by row "
            f"from the top left{dropped}; patches may be dropped, shuffled or of several sizes"
        )
    return Grid(rows, cols, (height, width), first, count - first - cells), (float(top), float(left))


def _boxes(index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tokens that are fed, and from which row to which, from which column to which: (n,), (n, 2), (n, 2)."""
    y, x = np.nonzero(index >= 0)
    fed, at = np.unique(index[y, x], return_inverse=True)
    spans = []
    for along in (y, x):
        low, high = np.full(len(fed), np.iinfo(int).max), np.zeros(len(fed), int)
        np.minimum.at(low, at, along)
        np.maximum.at(high, at, along + 1)
        spans.append(np.stack([low, high], 1))
    if not len(fed):
        raise Lost("no pixel reaches its first attention")
    return fed, spans[0], spans[1]


def _steps(spans: np.ndarray) -> tuple[int, int]:
    """Where the first of equal steps begins, and the step; 0 for steps that are not equal. The first may be cut off."""
    if len(spans) == 1:
        return int(spans[0, 0]), int(spans[0, 1] - spans[0, 0])
    steps = np.diff(spans[:, 0])
    step = int(steps[1]) if len(steps) > 1 else int(max(steps[0], (spans[:, 1] - spans[:, 0]).max()))
    even = (steps[1:] == step).all() and steps[0] <= step
    return int(spans[1, 0]) - step, step if even else 0


def _centred(look: Look) -> tuple[Grid, tuple[float, float]]:
    """The grid of tokens that see more than a patch each, by which of them a stripe of pixels changes most."""
    height, width = look.pixels.shape[2:]
    tokens = look.tokens
    changed = np.nonzero(look.moved(noise(look.module, (height, width), 1)))[0]
    count, first = len(changed), int(changed[0]) if len(changed) else 0
    if not count or changed[-1] - first + 1 != count:
        raise Lost(f"the image reaches {count} of its {len(tokens)} tokens, which do not follow each other")
    shapes = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    shape = min(shapes, key=lambda shape: abs(np.log(height / shape[0] * shape[1] / width)))
    found = []
    for axis, (side, steps) in enumerate(((height, shape[0]), (width, shape[1]))):
        nominal = side / steps
        lit = [round(side * share) for share in ((0.25, 0.75) if steps > 3 else (0.5,))]
        other, thick = look.pixels.clone(), max(1, round(nominal / 4))
        for at in lit:
            stripe = other.narrow(2 + axis, at - thick // 2, thick)
            stripe += 2
        moved = look.moved(other)[first : first + count].reshape(shape).mean(1 - axis)
        seen = [_middle(part) + (steps // 2) * half for half, part in enumerate(_halves(moved, len(lit)))]
        step = (lit[-1] - lit[0]) / (seen[-1] - seen[0]) if len(lit) > 1 and seen[-1] > seen[0] else nominal
        patch = round(nominal) if abs(step - nominal) < 0.2 * nominal and nominal == round(nominal) else round(step)
        corner = float(np.mean(lit) - np.mean(seen) * patch)
        if patch < 1 or abs(corner) > max(patch, side - steps * patch) + 1:
            raise Lost(
                f"its {len(tokens)} tokens see more than a patch each, and what they see is not spread over a grid of "
                f"{shape[0]} × {shape[1]}"
            )
        found.append((patch, 0.0 if abs(corner) < patch / 4 else float(round(corner))))
    (tall, top), (wide, left) = found
    grid = Grid(*shape, (tall, wide), first, len(tokens) - first - count)
    _check_by_light(look, grid, (top, left))
    return grid, (top, left)


def _check_by_light(look: Look, grid: Grid, corner: tuple[float, float]) -> None:
    """Raise Lost where the pixels of a patch change another token most than the patch's own or one beside it.

    A token that sums up the others, as in CLIP's ResNets, would else be taken for a patch.
    """
    for row, col in {(grid.rows * k // 4, grid.cols * j // 4) for k in (1, 3) for j in (1, 3)}:
        y, x = (max(0, round(c) + i * p) for c, i, p in zip(corner, (row, col), grid.patch, strict=True))
        other = look.pixels.clone()
        other[..., y : y + grid.patch[0], x : x + grid.patch[1]] += 3
        most = divmod(int(look.moved(other)[grid.patch_tokens].argmax()), grid.cols)
        if abs(most[0] - row) > 1 or abs(most[1] - col) > 1:
            raise Lost(
                f"its {grid.tokens} tokens see more than a patch each, and the pixels of patch ({row}, {col}) of "
                f"{grid.rows} × {grid.cols} change patch {most} most"
            )


def _halves(profile: np.ndarray, parts: int) -> list[np.ndarray]:
    return [profile] if parts == 1 else [profile[: len(profile) // 2], profile[len(profile) // 2 :]]


def _middle(profile: np.ndarray) -> float:
    """Where a profile is high, in steps from its beginning. Raises Lost for one that is high everywhere."""
    high = np.where(profile > 0.1 * profile.max(), profile, 0)
    if len(profile) > 6 and (high > 0).mean() > 0.7:
        raise Lost("its tokens see all of the image from the first layer on, so that none has a place")
    return float((high * (np.arange(len(high)) + 0.5)).sum() / max(high.sum(), 1e-30))
