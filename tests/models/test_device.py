"""Laws of devices: torch is asked only where there may be another than the CPU."""

from __future__ import annotations

import os
import sys

import psutil
import pytest
import torch

from vislab.models import device


def test_a_machine_without_drivers_has_a_cpu_and_torch_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.fastest() == ("cuda" if torch.cuda.is_available() else device.fastest())
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os.path, "exists", lambda _: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("torch was asked"))
    assert device.fastest() == "cpu"


@pytest.mark.parametrize(("platform", "driver"), [("linux", True), ("darwin", False), ("win32", False)])
@pytest.mark.parametrize(("cuda", "mps", "found"), [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_torch_is_asked_where_there_may_be_another(
    platform: str, driver: bool, cuda: bool, mps: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os.path, "exists", lambda _: driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert device.fastest() == found


@pytest.mark.parametrize("name", ["cpu", torch.device("cpu")])
def test_free_memory_is_the_machines(name: str | torch.device) -> None:
    assert 0 < device.free_memory(name) <= psutil.virtual_memory().total
