"""Which device is the fastest here, and how much memory is free on one; without torch, where it is the CPU."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

# On Linux, drivers of CUDA and ROCm show themselves as these, inside Windows and on small boards too.
_DRIVERS = ("/dev/nvidiactl", "/dev/nvhost-ctrl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")


def fastest() -> str:
    """ "cuda", "mps" or "cpu"; torch is asked only where there may be another than the last."""
    if sys.platform == "linux" and not any(map(os.path.exists, _DRIVERS)):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def free_memory(device: torch.device | str) -> int:
    """Bytes."""
    if str(device).startswith("cuda"):
        import torch

        # what torch has cached counts as used there, and is free
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + cached)
    import psutil

    return int(psutil.virtual_memory().available)


def module_bytes(module: nn.Module) -> int:
    """What a module's parameters and buffers take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in [*module.parameters(), *module.buffers()])
