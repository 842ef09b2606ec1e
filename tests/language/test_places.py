"""Laws of views laid on one map: what a token has stays as much, and lies where its pixels are."""

from __future__ import annotations

import numpy as np
import pytest
from readers import FAMILIES, PICTURE, ask

from vislab.core.geometry import Frame, Grid
from vislab.language.places import finer_grid
from vislab.language.reader import Reader


@pytest.mark.parametrize("family", ["LLaVA-1.5, padded", "LLaVA-NeXT", "Idefics3", "InternVL", "Qwen2-VL", "Gemma 3"])
def test_a_map_sums_to_what_its_tokens_have(family: str) -> None:
    places = ask(family).places
    shares = np.random.default_rng(0).random(places.count)
    seen = [token for token in range(places.count) if _area(places.boxes(token)) > 0]
    assert places.values(shares).sum() == pytest.approx(shares[seen].sum())
    for token in seen[:: max(1, len(seen) // 8)]:
        alone = np.zeros(places.count)
        alone[token] = 1
        [box] = places.boxes(token)
        for row, col in np.argwhere(places.values(alone) > 1e-9).tolist():
            x0, y0, x1, y1 = places.frame.box_to_source(places.grid.box(row, col))
            assert min(x1, box[2]) > max(x0, box[0])
            assert min(y1, box[3]) > max(y0, box[1])


def _area(boxes: list[tuple[float, float, float, float]]) -> float:
    height, width = PICTURE.shape[:2]
    inside = [(max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)) for x0, y0, x1, y1 in boxes]
    return sum(max(0.0, x1 - x0) * max(0.0, y1 - y0) for x0, y0, x1, y1 in inside)


def test_cells_are_split_by_whole_pixels() -> None:
    grid = finer_grid(Grid(2, 3, (16, 16)), 2)
    assert (grid.rows, grid.cols, grid.patch) == (4, 6, (8, 8))
    assert Frame.stretch((10, 10), (32, 48)).spread(grid).model == (32, 48)
    with pytest.raises(ValueError, match="cells of 15×15 px have no 2 patches"):
        finer_grid(Grid(2, 3, (15, 15)), 2)


def test_a_tower_that_takes_no_squares_is_refused() -> None:
    module, processor = FAMILIES["InternVL"].pair()
    module.config.vision_config.patch_size = [8, 4]
    with pytest.raises(ValueError, match=r"takes squares in all models of these families, and here \(8, 4\)"):
        Reader("odd", module, processor).places((60, 90), {"pixel_values": [None]})
