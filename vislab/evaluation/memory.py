"""The most memory that tensors take at once while something runs, counted on any device."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """Counts the tensors that are made inside the block of code. most: bytes that they took at once.

    modules: whose weights are there already, and are not counted. What kernels take for themselves, and numpy's arrays,
    is not seen.

        with Peak([module]) as peak:
            module(pixels)
        peak.most
    """

    def __init__(self, modules: Iterable[nn.Module] = ()) -> None:
        super().__init__()
        self.most = self._now = 0
        tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        self._there = {tensor.untyped_storage()._cdata for tensor in tensors}
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        for one in tree_leaves(output):
            if isinstance(one, Tensor) and one.layout is torch.strided:
                self._count(one.untyped_storage())
        return output

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._there or key in self._alive:
            return

        def gone(_: object) -> None:
            self._alive.pop(key, None)
            self._now -= size

        self._alive[key] = weakref.ref(storage, gone)
        self._now += size
        self.most = max(self.most, self._now)
