"""Laws of heatmaps: they are arrays of their values, and belong to their image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pictures import heatmap


def test_a_heatmap_is_the_array_of_its_values() -> None:
    heat = heatmap(((0, 1, 2), (3, 4, 5)))
    assert np.asarray(heat) is heat.values
    assert np.asarray(heat).dtype == np.float32
    assert (np.array(heat) == [[0, 1, 2], [3, 4, 5]]).all()
    assert (np.stack([heat, heat]).shape, np.corrcoef(np.ravel(heat), np.ravel(heat))[0, 1]) == ((2, 2, 3), 1)
    assert (heat.values * heat == heat.values**2).all()


def test_a_copy_is_made_where_it_is_asked_for_or_needed() -> None:
    heat = heatmap()
    own = np.array(heat)
    own[0, 0] = 7
    assert heat.values[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(heat)[0, 0] = 7
    assert np.asarray(heat, dtype=np.float64).dtype == np.float64
    assert np.shares_memory(np.asarray(heat, copy=False), heat.values)
    assert not np.shares_memory(np.asarray(heat, copy=True), heat.values)
    with pytest.raises(ValueError, match=r"(?i)unable to avoid copy"):
        np.asarray(heat, dtype=np.float64, copy=False)


@pytest.mark.parametrize(
    ("values", "said"), [(((1, 2, 3),) * 3, "needs values of that shape"), (((0, np.nan),), "NaN or infinite")]
)
def test_values_that_fit_no_grid_are_refused(values: object, said: str) -> None:
    two = heatmap(((0, 1),))
    with pytest.raises(ValueError, match=said):
        replace(two, values=values)
