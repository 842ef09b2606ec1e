"""Which device is the fastest here, and how much memory is free on one; without torch, where it is the CPU."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ..core.checks import first_line, meant, shown

if TYPE_CHECKING:
    import torch
    from torch import nn

# On Linux, drivers of CUDA and ROCm show themselves as these, inside Windows and on small boards too.
_DRIVERS = ("/dev/nvidiactl", "/dev/nvhost-ctrl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")


class OnDevice:
    """Whatever holds a torch module: its device and dtype are those of the module's first parameter."""

    module: nn.Module

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.module.parameters()).dtype


def fastest() -> str:
    """ "cuda", "mps" or "cpu"; torch is asked only where there may be another than the last."""
    if sys.platform == "linux" and not any(map(os.path.exists, _DRIVERS)):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_of(device: object) -> torch.device:
    """A device by its name, or as torch has it. Raises ValueError for what is none, and for one that is not here."""
    import torch

    if not isinstance(device, str | torch.device):
        raise ValueError(f"device is a name such as 'cpu', or a torch.device, not {shown(device)}")
    try:
        here = torch.device(device)
        torch.empty(0, device=here)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = first_line(error)
        near = meant(device, ("cpu", "cuda", "mps")) if isinstance(device, str) else ""
        said = said if len(said) < 160 else said[:159] + "…"
        raise ValueError(f"no device {shown(str(device))} here ({said}): this machine has {fastest()}{near}") from None
    if here.type == "meta":
        raise ValueError("the meta device holds shapes and no weights, so nothing runs there: take 'cpu' or another")
    return here


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
