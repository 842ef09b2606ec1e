"""What tells one photo, and one set of weights, from another, and what a model is called where others read it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


_WEIGHTS: WeakKeyDictionary[nn.Module, tuple[object, str]] = WeakKeyDictionary()


def of_image(image: np.ndarray) -> str:
    """image: (H, W, 3) uint8 -> 32 hexadecimal digits; another for any other pixel or shape."""
    digest = hashlib.blake2b(image.reshape(-1).data, digest_size=16)
    digest.update(repr(image.shape).encode())
    return digest.hexdigest()


def of_name(name: str) -> str:
    """A model's name; where it is a path of this machine, the last part of it alone.

    >>> of_name("facebook/dinov2-small"), of_name(os.path.dirname(__file__))
    ('facebook/dinov2-small', 'core')
    """
    return Path(name).name if os.path.exists(os.path.expanduser(name)) else name


def of_bytes(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def of_weights(module: nn.Module) -> str:
    """All parameters and buffers with their names -> 32 hexadecimal digits.

    Read once, and again when a tensor was replaced or changed in place since; a change through `.data`, which torch
    does not count, is not seen.
    """
    import torch

    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    state = [(n, t.data_ptr(), 0 if t.is_inference() else t._version, t.dtype) for n, t in tensors.items()]
    known = _WEIGHTS.get(module)
    if known is not None and known[0] == state:
        return known[1]
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in ((name, tensor.detach()) for name, tensor in tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if type(tensor) is torch.Tensor and tensor.layout is torch.strided:  # quantised ones are of other types
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    _WEIGHTS[module] = (state, digest.hexdigest())
    return digest.hexdigest()


def of_module(module: nn.Module, *, given: bool = False) -> dict[str, Any]:
    """What a module ran with: the fingerprint of its weights, its device and its dtype, by name.

    given: whether it was in memory, and no name loads it; then its class is told too.
    """
    one = next(module.parameters())
    dtype = str(one.dtype).removeprefix("torch.")
    kind = type(module)
    told = {"module": f"{kind.__module__}.{kind.__qualname__}"} if given else {}
    return {"weights": of_weights(module), "device": one.device.type, "dtype": dtype, **told}
