"""Changing a Vision Transformer's patch size: PI-resize of the kernel, interpolation of the position embeddings."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .outline import RESIZABLE

_SIZES = 4  # of a kernel that are kept


@dataclass(frozen=True, eq=False)
class _Kept:
    """A kernel of another size. of: the weights that it was made of. version: torch's count of writes into it then."""

    of: Tensor
    kernel: Tensor
    version: int

    def holds(self, weight: Tensor) -> bool:
        alike = (self.of.dtype, self.of.device) == (weight.dtype, weight.device)
        return alike and self.kernel._version == self.version and torch.equal(self.of, weight)


_RESIZED: weakref.WeakKeyDictionary[nn.Conv2d, dict[tuple[int, int], _Kept]] = weakref.WeakKeyDictionary()


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # it is kept for later callers, who may train through it
def _pi_matrix(old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Pseudo-inverse of the transposed bilinear resize operator. -> (new pixels, old pixels), float64."""
    basis = torch.eye(old[0] * old[1], dtype=torch.float64).reshape(-1, 1, *old)
    resize = F.interpolate(basis, size=new, mode="bilinear", align_corners=False, antialias=True)
    return torch.linalg.pinv(resize.flatten(1))


def pi_resize(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a patch-embedding kernel so that tokens of resized patches stay what they were.

    kernel: (dim, channels, h, w); size: (h', w') in pixels -> (dim, channels, h', w'), kernel's dtype.
    Where the size grows, embedding a bilinearly upsampled patch with the new kernel equals embedding the patch with
    the old one. Differentiable in the kernel.

    Source: FlexiViT (Beyer et al. 2023), section 3.4.
    """
    old = (int(kernel.shape[-2]), int(kernel.shape[-1]))
    if old == size:
        return kernel
    wide = torch.promote_types(kernel.dtype, torch.float32)
    matrix = _pi_matrix(old, size).to(kernel.device, wide)
    return (kernel.to(wide).flatten(-2) @ matrix.mT).unflatten(-1, size).to(kernel.dtype)


@torch.inference_mode(False)
@torch.no_grad()
def _kernel(projection: nn.Conv2d, size: tuple[int, int]) -> Tensor:
    """The kernel of a patch embedding, PI-resized: once, until its weights are others, or it was written into."""
    made, weight = _RESIZED.setdefault(projection, {}), projection.weight
    kept = made.pop(size, None)
    if kept is None or not kept.holds(weight):
        kernel = pi_resize(weight, size)
        kept = _Kept(weight.detach().clone(), kernel, kernel._version)
    made[size] = kept
    while len(made) > _SIZES:
        made.pop(next(iter(made)), None)
    return kept.kernel


def interpolate_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Interpolate position embeddings of a grid of patches (no prefix tokens among them) to another grid.

    positions: (1, rows*cols, dim), row-major -> (1, rows'*cols', dim). Bicubic, as the `interpolate_pos_encoding` of
    transformers' models does it.
    """
    if old == new:
        return positions
    planes = positions.reshape(1, *old, -1).permute(0, 3, 1, 2)
    planes = F.interpolate(planes, size=new, mode="bicubic", align_corners=False)
    return planes.flatten(2).transpose(1, 2)


@contextmanager
def resized(module: nn.Module, patch_size: int) -> Iterator[None]:
    """Give a Vision Transformer of transformers another patch size inside the block; afterwards it is what it was.

    patch_size: pixels, at least 1. The patch embedding's kernel is PI-resized, every record of the patch size is
    changed, and position embeddings are interpolated by the model's own code. Raises ValueError for modules that read
    the patch size in other places, or have no patch embedding.
    """
    projection = patch_projection(module)
    old, new = cast("tuple[int, int]", projection.kernel_size), (patch_size, patch_size)
    if old == new:
        yield
        return
    family = getattr(getattr(module, "config", None), "model_type", type(module).__module__.split(".")[0])
    if family not in RESIZABLE:
        raise ValueError(
            f"the patch size of {type(module).__name__} ({family}) cannot be changed: it can for {', '.join(RESIZABLE)}"
        )
    weight = nn.Parameter(_kernel(projection, new), projection.weight.requires_grad)
    changes: list[tuple[object, str, object]] = [
        (projection, "weight", weight),
        (projection, "kernel_size", new),
        (projection, "stride", new),
    ]
    parts = [*module.modules()]
    owners: dict[int, object] = {id(one): one for part in parts for one in (part, vars(part).get("config"))}
    for owner in owners.values():
        value = vars(owner).get("patch_size") if isinstance(owner, nn.Module) else getattr(owner, "patch_size", None)
        if value == old[0]:
            changes.append((owner, "patch_size", patch_size))
        elif isinstance(value, tuple | list) and tuple(value) == old:
            changes.append((owner, "patch_size", type(value)(new)))
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def patch_projection(module: nn.Module) -> nn.Conv2d:
    """The convolution that makes patch tokens of pixels: three channels in, its stride its kernel's size."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.in_channels == 3 and part.kernel_size == part.stride != (1, 1):
            return part
    raise ValueError(
        f"{type(module).__name__} has no patch embedding: looked for a convolution of 3 channels, as wide as its stride"
    )
