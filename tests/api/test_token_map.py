"""Laws of token maps: each layer's regions are a partition of the patches left, in the colours of the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny

import vislab
from vislab.models.model import Model

PHOTO = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def vit() -> Model:
    return vislab.load(tiny.make("ViT classifier"))


SPENT: list[dict[str, Any]] = [
    {"merge": 4},
    {"keep": 0.5},
    {"keep": 0.5, "gather": True},
    {"keep": 0.5, "merge": 2},
    {"fovea": (0, 0, 20, 20), "fovea_patches": (4, 8)},
    {},
]


@pytest.mark.parametrize("spent", SPENT, ids=str)
def test_regions_are_a_partition_of_the_patches_that_are_left(vit: Model, spent: dict[str, Any]) -> None:
    seen = vislab.token_map(PHOTO, model=vit, **spent)
    run = vit.run(PHOTO, **spent)
    assert seen.counts == tuple(site.keys for site in run.capture.layers)
    others = run.grid.prefix + run.grid.suffix
    for layer, owners in enumerate(seen.owners):
        regions = seen.regions(layer)
        left = np.unique(regions[regions >= 0])
        assert left.tolist() == list(range(seen.counts[layer] - others))  # one region a token, each with a patch
        assert np.array_equal(regions < 0, owners < 0)
        same = [(regions.ravel()[owners.ravel() == token] == regions.ravel()[owners.ravel() == token][0]).all()
                for token in np.unique(owners[owners >= 0])]  # fmt: skip
        assert all(same)
    assert (seen.regions(0) < 0).sum() == 0


def test_merged_patches_are_those_whose_token_they_share(vit: Model) -> None:
    seen = vislab.token_map(PHOTO, model=vit, merge=4)
    passage = list(vit.run(PHOTO, merge=4).capture.passages.values())[-1]
    into = passage.into[1:].reshape(4, 4).numpy()
    regions = seen.regions()
    assert all((regions[into == token] == regions[into == token][0]).all() for token in np.unique(into))
    assert len(np.unique(into)) == len(np.unique(regions)) == 12


def test_a_region_has_the_mean_colour_of_its_pixels(vit: Model) -> None:
    photo = PHOTO.repeat(4, 0).repeat(4, 1)  # 192 × 256 px, so that regions are wider than their edges
    seen = vislab.token_map(photo, model=vit, keep=0.5, keep_by="centre", merge=2)
    drawn, regions = seen.overlay(), seen.regions()
    assert drawn.shape == photo.shape
    number = regions.repeat(48, 0).repeat(64, 1)
    for region in np.unique(regions[regions >= 0]):
        inside = number == region
        mean = photo[inside].mean(0)
        near = np.abs(drawn[inside] - mean).max(1) <= 0.51
        assert near.mean() > 0.9  # all but the edges
        assert (near | (drawn[inside] == 24).all(1)).all()
    gone = drawn[number < 0].astype(int)
    assert (np.ptp(gone, axis=1) <= 1).all()  # grey
    assert gone.max() < 0.35 * 255 + 1
    assert drawn[1, 1].tolist() == drawn[1, 1, :1].tolist() * 3


def test_what_the_model_does_not_see_stays_as_it_is() -> None:
    model = vislab.load(tiny.make("CLIP vision"))
    photo = np.full((40, 120, 3), 200, np.uint8)
    photo[:, :20] = 10
    seen = vislab.token_map(photo, model=model, merge=2)
    if seen.frame.visible[0] > 0:
        assert (seen.overlay()[:, 0] == photo[:, 0]).all()
    x0, _, x1, _ = (round(v) for v in seen.frame.visible)
    assert (seen.overlay()[:, x0 + 1 : x1 - 1] != photo[:, x0 + 1 : x1 - 1]).any()


def test_a_token_map_shows_itself_and_tells_its_layers(vit: Model) -> None:
    seen = vislab.token_map(PHOTO, model=vit, keep=0.5)
    assert seen._repr_png_().startswith(b"\x89PNG")
    assert str(seen).splitlines()[1] == "layer  1: 9 tokens; of 16 patches 8 dropped, at most 1 in one"
    with pytest.raises(ValueError, match="no layer 2: layers run from 0 to 1"):
        seen.regions(2)
    with pytest.raises(ValueError, match="no option 'merg'"):
        vislab.token_map(PHOTO, model=vit, merg=2)
