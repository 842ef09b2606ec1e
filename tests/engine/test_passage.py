"""Laws of a passage: it is a matrix, forward, back and one after the other."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor

import vislab
from vislab.engine.passage import Passage


def matrix(passage: Passage) -> Tensor:
    """(new, old)"""
    dense = torch.zeros(passage.count, passage.old)
    for old, new in enumerate(passage.into.tolist()):
        if new >= 0:
            dense[new, old] = passage.weight[old]
    return dense


JOINED = Passage(torch.tensor([0, 1, 1, -1, 2, 0]), torch.tensor([0.25, 0.5, 0.5, 1, 1, 0.75]), 3)


def test_a_passage_is_a_matrix() -> None:
    chosen = Passage.chosen(torch.tensor([1, 2]), 3)
    tokens, row = torch.randn(2, 6, 5), torch.rand(1, 3)
    assert torch.allclose(JOINED.forward(tokens), matrix(JOINED) @ tokens)
    assert torch.allclose(JOINED.back(row), row @ matrix(JOINED))
    assert torch.allclose(matrix(JOINED.then(chosen)), matrix(chosen) @ matrix(JOINED))
    assert torch.equal(chosen.forward(tokens[:, :3]), tokens[:, [1, 2]])
    assert (chosen.only_drops, JOINED.only_drops) == (True, False)
    assert JOINED.owners(torch.tensor([5, -1, 3])).tolist() == [0, -1, -1]


def test_a_walk_needs_passages_that_fit() -> None:
    model = vislab.load(tiny.make("ViT"))
    run = model.run(vislab.load_image(torch.zeros(32, 32, 3, dtype=torch.uint8).numpy()), keep=0.5)
    assert run.capture.rollout().shape == (1, 17)
    run.capture.passages = dict.fromkeys(run.capture.passages, JOINED)
    with pytest.raises(ValueError, match="rollout needs one number of tokens"):
        run.capture.rollout()
