"""Laws of the walk through a module: torch's own order and paths."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers
from tiny import VIT
from torch import nn

from vislab.core.parts import named_tensors, parts_of


def shared() -> nn.Module:
    """A module in two places, one in itself, a weight of two layers, an empty place and a buffer that stands twice."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    outer = nn.ModuleDict({"b": nn.Sequential(inner, nn.GELU()), "a": inner, "c": nn.Linear(2, 2)})
    outer["c"].weight = inner[0].weight
    outer["c"].register_buffer("mean", inner[1].running_mean)
    outer["c"].register_module("nothing", None)
    outer["b"].add_module("around", outer)
    return outer


def transformer() -> nn.Module:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**VIT))


@pytest.mark.parametrize("build", [shared, nn.Module, nn.GELU, transformer])
def test_the_walk_is_torchs_own(build: Callable[[], nn.Module]) -> None:
    module = build()
    assert parts_of(module) == [*module.modules()]
    told = dict([*module.named_parameters(), *module.named_buffers()])
    found = named_tensors(module)
    assert [*found] == [*told]
    assert all(found[name] is told[name] for name in told)
