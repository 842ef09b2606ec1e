"""Laws of the browser's arithmetic of spent tokens: the counts, layouts and boxes are Python's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vislab.core.geometry import Frame, Grid
from vislab.figures.regions import with_regions
from vislab.models import fovea
from vislab.models.tokens import Found, Tokens

FRAMES = [Frame.stretch((683, 1024), (224, 224)), Frame.crop((400, 600), (256, 384), (224, 224))]


def framed(frame: Frame) -> dict[str, Any]:
    return {"model": frame.model, "scale": frame.scale, "offset": frame.offset}


@pytest.mark.parametrize("layers", [2, 3, 4, 12, 24])
def test_js_counts(js: Any, layers: int) -> None:
    asked = [(keep, merge) for keep in (1, 0.95, 0.5, 0.3, 0.05) for merge in (0, 1, 8, 24)]
    for patches in (49, 196, 425):
        found = js(
            f"asked.map(([keep, merge]) => lab.countsOf({{ keep, merge }}, {layers}, {patches}, 2))", asked=asked
        )
        wanted = [Tokens(keep=keep, merge=merge).counts(layers, patches, 2) for keep, merge in asked]
        assert found == wanted


@pytest.mark.parametrize("keep_at", [None, (1,), (2, 5), (-1, 3), (0,)])
def test_js_counts_where_patches_go_and_whether_into_one(js: Any, keep_at: tuple[int, ...] | None) -> None:
    for gather in (False, True):
        how: dict[str, Any] = {"keep_at": keep_at, "gather": gather, "merge": 3}
        found = js("lab.countsOf({ keep: 0.4, ...how }, 6, 196, 1)", how=how)
        assert found == Tokens(keep=0.4, keep_by="norm", **how).counts(6, 196, 1)


@pytest.mark.parametrize("sizes", [(8, 32), (8, 16), (16, 32), (8, 16, 32)])
@pytest.mark.parametrize("frame", FRAMES, ids=["stretch", "crop"])
def test_js_layouts(js: Any, frame: Frame, sizes: tuple[int, ...]) -> None:
    x0, y0, x1, y1 = frame.visible
    wide, high = x1 - x0, y1 - y0
    boxes = [
        [(x0, y0, x1, y1)],
        [(x0 + wide * 0.2, y0 + high * 0.31, x0 + wide * 0.55, y0 + high * 0.7)],
        [(x0, y0, x0 + wide / 4, y0 + high / 4), (x0 + wide / 2, y0 + high / 2, x1, y1)],
    ]
    for several in boxes:
        before = "const model = lab.boxesOnInput(several, frame);"
        found = js("lab.layoutOf(model, sizes, frame.model)", before, several=several, sizes=sizes, frame=framed(frame))
        wanted = fovea.layout_of(Tokens(fovea=several, fovea_patches=sizes), frame, "a model")
        assert found["patches"] == wanted.patches
        assert np.array_equal(np.reshape(found["owner"], wanted.owner.shape), wanted.owner)


@pytest.mark.parametrize("frame", FRAMES, ids=["stretch", "crop"])
def test_js_boxes_are_fitted(js: Any, frame: Frame) -> None:
    for box in [(10, 20, 300, 200), (-50, -50, 900, 900), (200, 200, 203, 204), (597, 396, 599, 399)]:
        found = js("lab.fittedBox(box, frame, 8)", box=box, frame=framed(frame))
        try:
            [wanted] = fovea.settled(Found([box]), frame, 8, "a model")
        except ValueError:
            assert found is None
        else:
            assert found == pytest.approx(wanted)


def test_js_rows_count_what_is_added(js: Any) -> None:
    generator = np.random.default_rng(0)
    qk = {name: generator.normal(size=(3, 21, 6)).astype(np.float32) * 2 for name in ("q", "k")}
    added = np.log(np.arange(1, 22, dtype=np.float32))
    logits = qk["q"].astype(float) @ qk["k"].astype(float).transpose(0, 2, 1) + added
    wanted = np.exp(logits - logits.max(-1, keepdims=True))
    wanted /= wanted.sum(-1, keepdims=True)
    shape = "{ q, k, added, heads: 3, tokens: 21, dim: 6 }"
    row = js(f"lab.attentionRow({shape}, 7)", added=added, **qk)
    column = js(f"lab.attentionColumn({{ ...{shape}, sums: lab.logSums({shape}) }}, 7)", added=added, **qk)
    assert np.allclose(np.reshape(row, (3, 21)), wanted[:, 7], atol=1e-6)
    assert np.allclose(np.reshape(column, (3, 21)), wanted[:, :, 7], atol=1e-6)


OWNERS = [1, 1, 65535, 2, 1, 3]
SHOWN = f"""const owners = Uint16Array.from([1, 2, 3, 4, 5, 6, ...{OWNERS}]);
const shown = {{ owners, grid: {{ rows: 2, cols: 3, prefix: 1 }} }};"""


def test_js_a_tokens_value_lies_on_all_its_patches(js: Any) -> None:
    row = np.float32([9, 1, 2, 3])
    assert js("Array.from(lab.onPatches(shown, 1, row))", SHOWN, row=row) == [1, 1, 0, 2, 1, 3]
    assert js("[[0, 0], [0, 2], [1, 0]].map((cell) => lab.tokenAt(shown, 1, cell))", SHOWN) == [1, None, 2]
    assert js("lab.regionSizes(lab.ownersAt(shown, 1))", SHOWN) == {"dropped": 1, "most": 3, "regions": 3}
    plain = "const shown = { grid: { rows: 2, cols: 2, prefix: 1 } };"
    assert js("Array.from(lab.onPatches(shown, 5, row))", plain, row=np.arange(5)) == [1, 2, 3, 4]
    assert js("lab.tokenAt(shown, 5, [1, 1])", plain) == 4


def test_js_regions_have_the_colours_of_figures(js: Any) -> None:
    """One pixel a patch, so that a figure's regions have no room for edges but their own colour at one corner each."""
    side = 8
    cells = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    image = cells.repeat(side, 0).repeat(side, 1)
    grid, frame = Grid(2, 3, (side, side), 1), Frame.stretch(image.shape[:2], image.shape[:2])
    numbers = np.array([[0, 0, -1], [1, 0, 2]])
    wanted = with_regions(image, numbers, grid, frame)[side // 2 :: side, side // 2 :: side]
    before = f"const owners = Uint16Array.from({OWNERS});"
    found = js("lab.regionColours(colours, owners)", before, colours=cells.astype(np.float32))
    assert np.abs(np.reshape(found, (2, 3, 3)) - wanted).max() <= 1
