"""Laws of counted memory: what is alive at once, and nothing that was there before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vislab.evaluation.memory import Peak

SIDE, BYTES = 64, 64 * 64 * 4


@pytest.mark.parametrize("kept", [1, 2, 5])
def test_what_is_alive_at_once_is_counted(kept: int) -> None:
    x = torch.zeros(SIDE, SIDE)
    with Peak() as peak:
        alive = [x + n for n in range(kept)]
        for _ in range(4):
            x * 2  # made, and gone at once
        alive.clear()
        x + 1
    assert peak.most == (kept + 1) * BYTES


def test_views_and_changes_in_place_take_nothing() -> None:
    with Peak() as peak:
        x = torch.zeros(SIDE, SIDE)
        x.add_(1)
        x.t().reshape(-1)[: SIDE // 2].unflatten(0, (2, -1))
    assert peak.most in (BYTES, 2 * BYTES)  # the turned one is copied to be flat


@pytest.mark.parametrize("counted", [False, True])
def test_weights_that_are_there_already_are_not_counted(counted: bool) -> None:
    module, x = nn.Linear(SIDE, SIDE, bias=False), torch.zeros(SIDE, SIDE)
    with Peak([] if counted else [module]) as peak, torch.no_grad():
        y = module(x)
    views = BYTES if counted else 0  # a view of the weight is the first that is seen of it
    assert peak.most == y.nbytes + views
