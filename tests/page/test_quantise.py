"""Laws of weights in 8 bits: what is read is what was written, within half a step."""

from __future__ import annotations

import numpy as np
import pytest

from vislab.page.quantise import check_weights, packed, quantised, unpacked


def test_no_number_is_off_by_more_than_half_a_step() -> None:
    matrix = np.random.default_rng(0).normal(size=(20, 33)).astype(np.float32)
    matrix[3] = 0
    steps, numbers = quantised(matrix)
    assert numbers.dtype == np.int8
    assert np.abs(numbers).max() == 127
    assert (np.abs(steps[:, None] * numbers - matrix) <= steps[:, None] * 0.5001).all()
    np.testing.assert_allclose(np.abs(steps[:, None] * numbers).max(1), np.abs(matrix).max(1), rtol=1e-6)


@pytest.mark.parametrize(("weights", "off"), [("int8", 0.02), ("float16", 2e-3)])
def test_what_is_packed_is_unpacked(weights: str, off: float) -> None:
    random = np.random.default_rng(1)
    tensors = [(layer, place, random.normal(size=size).astype(np.float32)) for layer, place, size in SIZES]
    found = list(unpacked(packed(tensors, weights, {(2, 7): "float32", (3, 2): "float16"})))
    for (layer, place, values), (again, there, read) in zip(tensors, found, strict=True):
        assert (layer, place, values.shape) == (again, there, read.shape)
        exact = values.ndim == 1 or (layer, place) == (2, 7)
        assert np.abs(read - values).max() <= (0 if exact else 2e-3 if layer == 3 else off)
        assert exact or (read != values).any()


SIZES = [(0, 0, (5,)), (0, 2, (7, 3)), (1, 2, (1, 9)), (2, 2, (13,)), (2, 7, (3, 5)), (3, 2, (3, 5))]


def test_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="weights are 'int8' or 'float16', not 'int4'; did you mean 'int8'"):
        check_weights("int4")
    with pytest.raises(ValueError, match="weights are 'int8' or 'float16', not 8"):
        check_weights(8)
