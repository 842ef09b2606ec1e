"""Laws of bands and stretches: which band is which colour, what is black and what is white, and what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vislab.core import bands, fingerprints
from vislab.core.images import load_image

CUBE = np.arange(4 * 6 * 7, dtype=np.uint8).reshape(4, 6, 7)[[0, 1, 2, 3, 2, 1, 0]]  # 7 rows, 6 columns, 7 bands
TYPES = [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]


def planes() -> st.SearchStrategy[np.ndarray]:
    """One band of some type, of few values or of many."""
    sides = st.integers(2, 12)
    return st.tuples(st.sampled_from(TYPES), sides, sides).flatmap(
        lambda one: hnp.arrays(one[0], one[1:], elements=elements(np.dtype(one[0])))
    )


def elements(dtype: np.dtype) -> st.SearchStrategy[Any]:
    if dtype.kind == "f":
        return st.floats(-1e6, 1e6, width=32 if dtype.itemsize == 4 else 64)
    return hnp.from_dtype(dtype)


def stretchable(plane: np.ndarray) -> bool:
    """Whether the percentiles differ, found by sorting."""
    low, high = ends(plane)
    return bool(low < high)


def ends(plane: np.ndarray) -> tuple[Any, Any]:
    ordered = np.sort(plane, axis=None)
    last = ordered.size - 1
    return ordered[int(np.floor(0.02 * last))], ordered[int(np.ceil(0.98 * last))]


def test_bands_are_counted_from_one_and_keep_their_order() -> None:
    for order in ((1, 2, 3), (3, 2, 1), (7, 7, 2), [5, 1, 4]):
        np.testing.assert_array_equal(load_image(CUBE, bands=order), CUBE[..., np.array(order) - 1])
    for band in range(1, 8):
        np.testing.assert_array_equal(load_image(CUBE, bands=(band,)), np.stack([CUBE[..., band - 1]] * 3, axis=-1))


@given(planes())
def test_percentiles_stretch_once(plane: np.ndarray) -> None:
    """Order is kept, the ends are black and white, and what was stretched stays as it is."""
    if not stretchable(plane):
        with pytest.raises(ValueError, match=r"finds no range in band 1 .*: give one, stretch=\(low, high\)"):
            load_image(plane, stretch="percentile")
        return
    once = load_image(plane, stretch="percentile")
    shown, values = once[..., 0].ravel().astype(int), plane.ravel()
    order = np.argsort(values, kind="stable")
    assert (np.diff(shown[order]) >= 0).all()
    low, high = ends(plane)
    assert (shown[values <= low] == 0).all()
    assert (shown[values >= high] == 255).all()
    np.testing.assert_array_equal(load_image(once, stretch="percentile"), once)


@given(planes(), st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
def test_a_range_is_a_line_between_black_and_white(plane: np.ndarray, low: float, span: float) -> None:
    high = low + span
    line = np.clip((plane.astype(np.float64) - low) / (high - low), 0, 1) * 255
    shown = load_image(plane, stretch=(low, high))[..., 1]
    # float32, in which values of few digits are stretched, moves the values by 2**-24 of their size.
    size = max(abs(low), abs(high)) * 2.0**-22 / (high - low) * 255
    assert (np.abs(shown - line) <= 0.5 + 1e-3 + size).all()


def test_the_full_range_of_bytes_changes_nothing() -> None:
    for picture in (CUBE[..., :3], np.arange(256, dtype=np.uint8).reshape(16, 16)):
        np.testing.assert_array_equal(load_image(picture, stretch=(0, 255)), load_image(picture))


def test_each_band_has_its_own_percentiles() -> None:
    ramp = np.arange(10_000.0).reshape(100, 100)
    shown = load_image(np.stack([ramp, 5 * ramp + 3, -ramp], axis=-1), stretch="percentile")
    np.testing.assert_array_equal(shown[..., 0], shown[..., 1])
    np.testing.assert_allclose(shown[..., 2].astype(int), 255 - shown[..., 0].astype(int), atol=1)
    assert (shown[..., 0] == 0).mean() == pytest.approx(0.02, abs=0.003)
    assert (shown[..., 0] == 255).mean() == pytest.approx(0.02, abs=0.003)


def test_what_is_missing_is_left_out_and_black() -> None:
    ramp = np.arange(100.0).reshape(10, 10)
    holed = np.vstack([ramp, np.full((2, 10), np.nan)])
    shown = load_image(holed, stretch="percentile")
    np.testing.assert_array_equal(shown[:10], load_image(ramp, stretch="percentile"))
    assert (shown[10:] == 0).all()
    with pytest.raises(ValueError, match="holds no value but NaN or no data"):
        load_image(np.full((2, 2), np.nan), stretch="percentile")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.arange(4096, dtype=np.uint16).reshape(64, 64), "black, since its values, from 0 to 4095,"),
        (65535 - np.arange(4096, dtype=np.uint16).reshape(64, 64), "white, since its values, from 61440 to 65535,"),
        (np.linspace(0, 0.1, 64).reshape(8, 8), "black, since its values, from 0 to 0.1,"),
    ],
)
def test_what_comes_out_nearly_black_or_white_says_so(values: np.ndarray, says: str) -> None:
    with pytest.warns(UserWarning, match=f'the array comes out nearly {says} .*stretch="percentile"') as caught:
        load_image(values)
    assert caught[0].filename == __file__
    with warnings.catch_warnings(action="error"):
        assert 100 < load_image(values, stretch="percentile").mean() < 155


def test_no_warning_where_a_stretch_would_not_help() -> None:
    wide = np.linspace(0, 65535, 64).reshape(8, 8)
    with warnings.catch_warnings(action="error"):
        for values in (
            wide.astype(np.uint16),
            wide / 65535,
            np.zeros((8, 8)),
            np.zeros((8, 8), np.uint8),
            np.eye(99, dtype=np.uint8),
        ):
            load_image(values)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bands": (3, 2, 0)}, r"no band 0: they count from 1, as in rasterio and QGIS, such as bands=\(4, 3, 1\)"),
        ({"bands": (-1,)}, r"no band -1: they count from 1"),
        ({"bands": (1, 2)}, r"1 band \(grey\) or 3 \(red, green, blue\), not 2: such as bands=\(3, 2, 1\)"),
        ({"bands": ()}, "not 0"),
        ({"bands": 4}, r"bands is 4: .* such as bands=\(4,\)"),
        ({"bands": "321"}, "bands is '321': give 1 or 3 whole numbers"),
        ({"bands": (1.5, 2, 3)}, "give 1 or 3 whole numbers"),
        ({"bands": (True, 2, 3)}, "give 1 or 3 whole numbers"),
        ({"bands": (8, 2, 1)}, "no band 8: the picture has 7, counted from 1"),
        ({}, r"it has 7 bands, so choose .* bands=\(3, 2, 1\)"),
        ({"stretch": "percentil"}, "not 'percentil'; did you mean 'percentile'"),
        ({"stretch": (5, 5)}, r"the low one first, not \(5, 5\)"),
        ({"stretch": (0, np.inf)}, "finite numbers"),
        ({"stretch": (-1e308, 1e308)}, "finite numbers"),
        ({"stretch": (0,)}, "two numbers"),
        ({"stretch": 3}, "two numbers"),
        ({"bands": (1,), "stretch": ("a", "b")}, "two numbers"),
    ],
)
def test_other_bands_and_stretches_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_image(CUBE, **options)


def test_stretches_of_other_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 band or 3, and the picture has 4: add bands=\(1, 2, 3\)"):
        load_image(CUBE[..., :4], stretch="percentile")
    with pytest.raises(ValueError, match="not complex128"):
        load_image(np.array([[1j]]), stretch=(0, 1))
    with pytest.raises(ValueError, match=r"no range in band 2 of those shown, from 7 to 7"):
        load_image(np.dstack([CUBE[..., 0], CUBE[..., 0] * 0 + 7, CUBE[..., 1]]), stretch="percentile")
    flat = CUBE[:2, :, :3]  # fewer rows than bands
    np.testing.assert_array_equal(load_image(flat, bands=(3, 2, 1)), flat[..., ::-1])
    # Bands that come first would be chosen among columns.
    with pytest.raises(ValueError, match=r"\(5, 8, 9\): its channels come first, so transpose it"):
        load_image(np.zeros((5, 8, 9)), bands=(3, 2, 1))


def test_huge_ranges_are_no_overflow() -> None:
    values = np.array([[-3e38, 0, 3e38]], np.float32)
    assert load_image(values, stretch=(-1e300, 1e300))[0, :, 0].tolist() == [128, 128, 128]
    assert load_image(values, stretch=(-3e38, 3e38))[0, :, 0].tolist() == [0, 127, 255]
    assert load_image(np.array([[0, 1 << 62]]), stretch=(0, 1 << 62))[0, :, 0].tolist() == [0, 255]


def test_only_so_many_pictures_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "_READ", {})
    monkeypatch.setattr(bands, "_REMEMBERED", 2)
    made = [fingerprints.of_image(load_image(CUBE, bands=(n,))) for n in (1, 2, 3)]
    assert [bool(bands.how_read(one)) for one in made] == [False, True, True]


def test_how_a_picture_was_read_is_known_by_its_pixels() -> None:
    values = np.random.default_rng(3).integers(0, 4096, (8, 9, 5), np.uint16)
    image = load_image(values, bands=(5, 1, 2), stretch="percentile")
    known = bands.how_read(fingerprints.of_image(image))
    assert (known["bands"], known["stretch"]) == ((5, 1, 2), "percentile")
    for band, (low, high) in zip((4, 0, 1), known["ranges"], strict=True):
        assert (low, high) == ends(values[..., band])
    load_image(image, stretch="percentile")  # changes nothing, so nothing is said of it
    assert bands.how_read(fingerprints.of_image(image)) == known
    assert bands.how_read(fingerprints.of_image(CUBE[:2, :, :3])) == {}
