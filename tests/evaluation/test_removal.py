"""Laws of the numbers: a map that knows the score is best, one that knows nothing is random, and only order counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from vislab.core.geometry import Frame, Grid
from vislab.core.heatmap import Heatmap
from vislab.evaluation.pointing import pointing
from vislab.evaluation.ranks import centre, mean_and_error, spearman
from vislab.evaluation.removal import removal

WEIGHTS = np.array([[0.05, 0.4], [0.3, 0.1], [0.0, 0.15]])


def weighted(kept: np.ndarray) -> np.ndarray:
    """A model whose score is the sum of what its patches are worth: (n, rows, cols) -> (n,)."""
    return (kept * WEIGHTS).sum((1, 2))


def threshold(kept: np.ndarray) -> np.ndarray:
    """A model that needs half of what its patches are worth."""
    return (weighted(kept) >= 0.5).astype(float)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("score", [weighted, threshold])
def test_the_map_that_knows_the_score_reaches_the_best_areas_there_are(
    score: Callable[[np.ndarray], np.ndarray],
) -> None:
    orders = (np.array(order, dtype=float).reshape(3, 2) for order in itertools.permutations(range(6)))
    every = [removal(values, score=score, steps=6, seed=rng()) for values in orders]
    known = removal(WEIGHTS, score=score, steps=6, seed=rng())
    assert known.deletion_area == pytest.approx(min(one.deletion_area for one in every))
    assert known.insertion_area == pytest.approx(max(one.insertion_area for one in every))
    assert known.deletion_area < known.insertion_area


def test_the_curves_of_one_patch_by_hand() -> None:
    lit = np.zeros((3, 2))
    lit[1, 0] = 1
    curve = removal(lit, score=lambda kept: kept[:, 1, 0].astype(float), steps=6, seed=rng())
    assert curve.share.tolist() == pytest.approx([0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1])
    assert curve.deletion.tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert curve.insertion.tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert curve.deletion_area == pytest.approx(1 / 12)
    assert curve.insertion_area == pytest.approx(11 / 12)


@pytest.mark.parametrize("steps", [1, 2, 4, 6])
def test_the_curves_begin_and_end_at_the_whole_image_and_at_none(steps: int) -> None:
    asked: list[np.ndarray] = []

    def score(kept: np.ndarray) -> np.ndarray:
        asked.append(kept)
        return weighted(kept) + 7

    curve = removal(WEIGHTS, score=score, steps=steps, seed=rng())
    assert (curve.share[0], curve.share[-1]) == (0, 1)
    assert curve.share.shape == curve.deletion.shape == curve.insertion.shape == (steps + 1,)
    assert (curve.deletion[0], curve.deletion[-1]) == pytest.approx((8, 7))
    assert (curve.insertion[0], curve.insertion[-1]) == pytest.approx((7, 8))
    [kept] = asked
    assert kept.shape == (2 * steps, 3, 2)


def test_only_the_order_of_the_values_counts() -> None:
    values = rng(1).normal(size=(3, 2))
    plain = removal(values, score=weighted, steps=6, seed=rng())
    for rescaled in (values * 5 - 3, np.exp(values), values**3):
        other = removal(rescaled, score=weighted, steps=6, seed=rng())
        assert np.array_equal(other.deletion, plain.deletion)
        assert np.array_equal(other.insertion, plain.insertion)


def test_a_map_that_says_nothing_is_as_good_as_random() -> None:
    flat = [removal(np.zeros((3, 2)), score=weighted, steps=6, seed=rng(n)) for n in range(600)]
    assert len({curve.deletion_area for curve in flat}) > 50
    # of a sum of patches, a random order takes the same from the score at every step
    for curves in (np.array([c.deletion for c in flat]), np.array([c.insertion for c in flat])[:, ::-1]):
        error = curves.std(0) / math.sqrt(len(flat))
        assert (np.abs(curves.mean(0) - np.linspace(1, 0, 7)) <= 4 * error + 1e-9).all()


def test_ties_fall_as_the_seed_says() -> None:
    values = np.array([[1, 0], [0, 0], [0, 0]])
    first, again, other = (removal(values, score=weighted, steps=6, seed=rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first.deletion, again.deletion)
    assert not np.array_equal(first.deletion, other.deletion)
    assert first.deletion[1] == other.deletion[1]


def test_a_heatmap_stands_for_its_values() -> None:
    values = np.array([[0.1, 0.3, 0.2]])
    heat = Heatmap(values, Grid(1, 3, (8, 8)), Frame.stretch((8, 24), (8, 24)), "cls")
    one, other = (removal(what, score=lambda kept: kept[:, 0, 1].astype(float), steps=3) for what in (heat, values))
    assert np.array_equal(one.deletion, other.deletion)
    assert one.deletion.tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("steps", [0, 7])
def test_steps_that_take_no_patch_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"6 patches are removed in 1 to 6 steps, not in {steps}"):
        removal(WEIGHTS, score=weighted, steps=steps, seed=rng())


def test_pointing_is_the_share_that_lies_inside() -> None:
    inside = np.kron([[0, 1], [0, 0]], np.ones((3, 3)))
    assert pointing(inside, inside) == 1
    assert pointing(1 - inside, inside) == 0
    assert pointing(np.full((6, 6), 0.2), inside) == pytest.approx(1 / 4)
    assert pointing(3 * inside - 1, inside) == 1  # what speaks against it does not point
    for nothing in (0.0, -1.0):
        assert pointing(np.full((6, 6), nothing), inside) == pytest.approx(1 / 4)
    assert pointing(np.ones((1, 3)), np.array([[1, 0.5, 0]])) == pytest.approx(1 / 2)


def test_the_quarters_of_a_map_add_up_to_one() -> None:
    values = rng(2).normal(size=(6, 6))
    quarters = [np.kron(np.eye(4)[k].reshape(2, 2), np.ones((3, 3))) for k in range(4)]
    assert sum(pointing(values, quarter) for quarter in quarters) == pytest.approx(1)


def test_spearman_is_that_of_scipy() -> None:
    for seed in range(5):
        first, second = rng(seed).integers(0, 6, (2, 5, 4))
        assert spearman(first, second) == pytest.approx(scipy.stats.spearmanr(first.ravel(), second.ravel())[0])
    values = rng().normal(size=(4, 4))
    assert spearman(values, np.exp(values)) == pytest.approx(1)
    assert spearman(values, -values) == pytest.approx(-1)
    assert spearman(values, np.zeros((4, 4))) == 0
    with pytest.raises(ValueError, match=r"not of \(4, 4\) and \(2, 8\)"):
        spearman(values, values.reshape(2, 8))


def test_the_centre_is_the_centre() -> None:
    blob = centre(7, 5)
    assert np.unravel_index(blob.argmax(), blob.shape) == (3, 2)
    assert np.allclose(blob, blob[::-1, ::-1])
    assert (np.diff(blob[:4, 2]) > 0).all()
    assert 0 < blob.min() < blob.max() == 1


def test_mean_and_error_by_hand() -> None:
    assert mean_and_error(np.array([1.0, 2.0, 3.0, 6.0])) == pytest.approx((3, math.sqrt(14 / 3) / 2))
    mean, error = mean_and_error(np.array([2.0]))
    assert mean == 2
    assert math.isnan(error)
    assert math.isnan(mean_and_error(np.array([]))[0])


def test_an_order_of_patches_has_rows_and_columns() -> None:
    with pytest.raises(ValueError, match=r"\(rows, cols\), not of \(4, 4, 3\)"):
        removal(np.zeros((4, 4, 3)), score=lambda kept: np.zeros(len(kept)))
