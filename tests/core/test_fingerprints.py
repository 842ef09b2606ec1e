"""Laws of fingerprints: the same for the same content, another for any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vislab.core import fingerprints


def test_a_photo_is_told_by_pixels_and_shape() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    other = image.copy()
    other[1, 2, 2] = 1
    marks = {fingerprints.of_image(one) for one in (image, image.copy(), other, image.reshape(3, 2, 3))}
    assert len(marks) == 3
    assert fingerprints.of_image(np.asfortranarray(other)) == fingerprints.of_image(other)


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_equal_weights_have_equal_marks_whatever_holds_them() -> None:
    assert fingerprints.of_weights(module()) == fingerprints.of_weights(module())


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[0].weight.add_(torch.tensor([[0, 0, 1e-6], [0, 0, 0]])),
        lambda m: m[1].running_mean.fill_(1),
        lambda m: m.half(),
        lambda m: setattr(m[0], "bias", nn.Parameter(torch.ones(2))),
        lambda m: m.load_state_dict({name: value + 1 for name, value in m.state_dict().items()}),
        lambda m: torch.optim.SGD(m.parameters(), lr=1, weight_decay=1).step(),
    ],
)
def test_any_change_is_seen(change: object) -> None:
    made = module()
    before = fingerprints.of_weights(made)
    for parameter in made.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with torch.no_grad():
        change(made)
    assert fingerprints.of_weights(made) != before


def test_names_count() -> None:
    one, other = nn.ModuleDict({"a": nn.Linear(1, 1)}), nn.ModuleDict({"b": nn.Linear(1, 1)})
    other["b"].load_state_dict(one["a"].state_dict())
    assert fingerprints.of_weights(one) != fingerprints.of_weights(other)


def test_weights_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = module()
    mark = fingerprints.of_weights(made)
    monkeypatch.setattr(fingerprints.hashlib, "blake2b", lambda **_: pytest.fail("the weights were read again"))
    assert fingerprints.of_weights(made) == mark


def test_bfloat16_and_single_numbers_have_marks() -> None:
    made = nn.Linear(2, 2, dtype=torch.bfloat16)
    made.register_buffer("one", torch.tensor(True))
    mark = fingerprints.of_weights(made)
    made.one.fill_(False)
    assert fingerprints.of_weights(made) != mark
