"""The modules within a torch module, and its tensors by their paths, found quickly: each photograph of many asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def parts_of(module: nn.Module) -> list[nn.Module]:
    """What `modules()` gives, in its order."""
    found: list[nn.Module] = []
    seen: set[nn.Module | None] = {None}
    ahead: list[nn.Module | None] = [module]
    while ahead:
        part = ahead.pop()
        if part is None or part in seen:
            continue
        seen.add(part)
        found.append(part)
        if inner := part._modules:
            ahead += reversed(inner.values())
    return found


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """What `named_parameters()` and then `named_buffers()` give, in their order."""
    holders = [(f"{path}." if path else "", part) for path, part in module.named_modules()]
    found: dict[str, Tensor] = {}
    for kind in ("_parameters", "_buffers"):
        seen: set[int] = set()
        for path, part in holders:
            for name, one in part.__dict__[kind].items():
                if one is not None and id(one) not in seen:
                    seen.add(id(one))
                    found[path + name] = one
    return found
