"""Laws of blends: what is weak leaves the photograph as it is, whatever else a blend does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vislab
from vislab.core.geometry import Frame, Grid
from vislab.core.heatmap import Heatmap
from vislab.figures import blends
from vislab.figures.colours import colour_table

GRID = Grid(2, 2, (8, 8))


def heatmap(values: list[list[float]], **more: object) -> Heatmap:
    photo = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    return Heatmap(np.float32(values), GRID, Frame.stretch((16, 16), (16, 16)), "cls", image=photo, **more)


def test_by_value_the_weakest_is_the_photograph_and_the_strongest_the_veil() -> None:
    heat = heatmap([[0, 1], [0.5, 0.25]])
    drawn, even = (vislab.overlay(heat, opacity=0.7, blend=blend) for blend in ("value", "even"))
    assert np.array_equal(drawn[:8, :8], heat.image[:8, :8])
    assert np.abs(drawn[:8, 8:].astype(int) - even[:8, 8:]).max() <= 1
    colour, photo = colour_table("viridis")[128].astype(float), heat.image[8:, :8].astype(float)
    assert np.abs(drawn[8:, :8] - (photo * 0.65 + colour * 0.35)).max() <= 1


def test_of_a_signed_map_zero_is_the_photograph() -> None:
    heat = heatmap([[0, 1], [-1, 0.5]], signed=True)
    for blend in ("value", "contour"):
        drawn = vislab.overlay(heat, blend=blend)
        if blend == "value":
            assert np.array_equal(drawn[:8, :8], heat.image[:8, :8])
        assert not np.array_equal(drawn[8:, :8], heat.image[8:, :8])


def test_multiplied_is_the_product_of_photograph_and_colours() -> None:
    heat = heatmap([[0, 1], [0.5, 0.25]])
    drawn = vislab.overlay(heat, opacity=1, blend="multiply")
    wanted = heat.image[:8, 8:] * (colour_table("viridis")[255] / 255)
    assert np.abs(drawn[:8, 8:] - wanted).max() <= 0.51


def test_a_spotlight_dims_what_is_weak_and_colours_nothing() -> None:
    heat = heatmap([[0, 1], [0.5, 0.25]])
    drawn = vislab.overlay(heat, opacity=0.8, blend="spotlight")
    assert np.array_equal(drawn[:8, 8:], heat.image[:8, 8:])
    assert np.abs(drawn[:8, :8] - heat.image[:8, :8] * 0.2).max() <= 0.51


def test_lines_stand_where_a_level_is_crossed() -> None:
    ramp = np.tile(np.linspace(0, 1, 600), (60, 1))
    line = blends.lines(ramp)
    assert line.all(0).any()
    for level in blends.LEVELS:
        assert line[:, round(level * 599) - 2 : round(level * 599) + 3].any()
    assert line.mean() < 0.05
    assert not blends.lines(np.full((40, 40), 0.5)).any()


def test_unknown_blends_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"blend is 'even', 'value'.*not 'valeu'; did you mean 'value'"):
        vislab.overlay(heatmap([[0, 1], [1, 0]]), blend="valeu")
    with pytest.raises(ValueError, match="blend is"):
        vislab.panel(heatmap([[0, 1], [1, 0]]), blend=3)


@pytest.mark.parametrize("blend", blends.BLENDS)
def test_a_file_says_how_it_was_blended(blend: str, tmp_path: Path) -> None:
    heat = vislab.explain(vislab.samples()["church"], method="cls")
    for name in ("figure.png", "figure.pdf"):
        path = vislab.save(tmp_path / name, heat, blend=blend)
        assert vislab.provenance(path)["display"]["blend"] == blend
    assert ("blend=" in vislab.provenance(path)["call"]) == (blend != "even")
    plain = vislab.save(tmp_path / "plain.png", heat, blend=blend, plain=True)
    assert np.array_equal(np.array(Image.open(plain))[..., :3], vislab.overlay(heat, blend=blend))
