"""Whether a module runs on an image of some size, found out by running it once."""

from __future__ import annotations

import weakref

import torch
from torch import nn

from .calling import arguments
from .classes import remember, watched
from .embedding import Lost, reason, shape_of
from .modes import evaluating

_REMEMBERED: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, int], str | None]] = weakref.WeakKeyDictionary()


def runs(module: nn.Module, size: tuple[int, int]) -> None:
    """Run a module on a grey image of a size, (height, width) px, once.

    Raises Lost, with what it says, where it fails.
    """
    known = _REMEMBERED.setdefault(module, {})
    if size not in known:
        known[size] = _refusal(module, size)
    if (said := known[size]) is not None:
        raise Lost(said)


def squares(size: tuple[int, int]) -> int:
    """The side of squares, px, of which some 14 fill the shorter side of an input, or as many as fill both."""
    wanted, shorter = min(size) / 14, min(size)
    fitting = [d for d in range(1, shorter) if size[0] % d == size[1] % d == 0 and wanted / 2 <= d <= wanted * 2]
    return min(fitting, key=lambda d: abs(d - wanted)) if fitting else max(1, shorter // 14)


def _refusal(module: nn.Module, size: tuple[int, int]) -> str | None:
    weights = next(p for p in module.parameters() if p.is_floating_point())
    pixels = torch.zeros(1, 3, *size, device=weights.device, dtype=weights.dtype)
    try:
        with torch.no_grad(), evaluating(module), watched(module) as watch:
            output = module(pixels, **arguments(module, 0, interpolated=False))
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        return f"it does not run on an input of {shape_of(pixels)}: {reason(error)}"
    if watch is not None:
        remember(module, watch.judged(module, output))
    return None
