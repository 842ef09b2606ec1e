"""How much memory is free on a device."""

from __future__ import annotations

import torch
from torch import nn


def free_memory(device: torch.device) -> int:
    if device.type == "cuda":  # what torch has cached counts as used there, and is free
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + cached)
    import psutil

    return int(psutil.virtual_memory().available)


def module_bytes(module: nn.Module) -> int:
    """What a module's parameters and buffers take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in [*module.parameters(), *module.buffers()])
