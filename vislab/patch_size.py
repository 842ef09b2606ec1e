"""Changing a Vision Transformer's patch size: PI-resize of the kernel, interpolation of the position embeddings."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@lru_cache(maxsize=64)
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
    matrix = _pi_matrix(old, size).to(kernel.device, kernel.dtype)
    return (kernel.flatten(-2) @ matrix.mT).unflatten(-1, size)


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
