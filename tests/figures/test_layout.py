"""Laws of the layout: sizes are exact, pictures keep their shape, and nothing overlaps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pictures import heatmap, photo
from PIL import Image

from vislab.core.heatmap import Heatmap
from vislab.figures import drawing, layout, panel, save
from vislab.figures import page as figures_page

SIZES = {"column": (85, None), "page": (178, None), "slide": (254, 142.875), 33.3: (33.3, None)}


def grid(high: int, wide: int, source: tuple[int, int] = (32, 48), **settings: object) -> list[list[Heatmap]]:
    values = np.eye(2) * 1e-5
    return [[heatmap(values * (k + 1), source, layer=j, head=k, **settings) for k in range(wide)] for j in range(high)]


@pytest.mark.slow
@pytest.mark.parametrize("width", SIZES)
def test_a_page_has_its_size_to_the_hundredth_of_a_millimetre(tmp_path: Path, width: figures_page.Width) -> None:
    made = panel.panel(grid(1, 2), width=width, normalise="shared", dpi=200)
    wide, high = SIZES[width]
    high = layout.plan(made).height if high is None else high
    pdf = save.save(tmp_path / "f.pdf", made).read_bytes()
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf)
    assert [float(side) / 72 * 25.4 for side in box.groups()] == pytest.approx([wide, high], abs=0.01)
    svg = save.save(tmp_path / "f.svg", made).read_text()
    sides = [re.search(rf'<svg[^>]* {name}="([\d.]+)pt"', svg)[1] for name in ("width", "height")]
    assert [float(side) / 72 * 25.4 for side in sides] == pytest.approx([wide, high], abs=0.01)
    with Image.open(save.save(tmp_path / "f.png", made)) as image:
        assert image.size == pytest.approx((wide / 25.4 * 200, high / 25.4 * 200), abs=1)
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 6, 7, 12, 13])
@pytest.mark.parametrize("source", [(32, 48), (200, 40), (2, 700)])
def test_nothing_overlaps_or_leaves_the_page(count: int, source: tuple[int, int]) -> None:
    heats = [heatmap(np.eye(2) * 1e-5 * (k + 1), source, head=k) for k in range(count)]
    nothing_overlaps(panel.panel(heats, smooth=True, threshold=0.1))


@pytest.mark.slow
@pytest.mark.parametrize("normalise", ["map", "row", "column", "shared", "absolute"])
@pytest.mark.parametrize("width", ["column", "page", "slide", None])
def test_nothing_overlaps_in_grids(normalise: figures_page.Normalise, width: figures_page.Width | None) -> None:
    rows = ["one · two words", "a label of more than one line"]
    nothing_overlaps(panel.panel(grid(2, 3), rows=rows, normalise=normalise, width=width))


@pytest.mark.parametrize("span", [(0.0234, 0.0238), (0.02019, 0.02039), (-0.1234, 0.1238)])
def test_long_numbers_and_the_words_beside_them_stay_apart(span: tuple[float, float]) -> None:
    for width in SIZES:
        nothing_overlaps(panel.panel([heatmap(np.array([span, span]), (32, 48))], width=width))


def nothing_overlaps(made: figures_page.Panel) -> None:
    with drawing.styled():
        figure = drawing.figure_of(made, vector=False)
        boxes = [ax.get_tightbbox() for ax in figure.axes] + [text.get_window_extent() for text in figure.texts]
    page = figure.bbox
    for index, box in enumerate(boxes):
        assert min(box.x0, box.y0) >= -0.5, box
        assert box.x1 <= page.x1 + 0.5, box
        assert box.y1 <= page.y1 + 0.5, box
        for other in boxes[:index]:
            apart = max(other.x0 - box.x1, box.x0 - other.x1, other.y0 - box.y1, box.y0 - other.y1)
            assert apart >= -1, (box, other)


def shapes(cells: Sequence[Sequence[object]], **options: object) -> dict[tuple[int, int], layout.Rect]:
    return dict(layout.plan(panel.panel(cells, caption="", **options)).pictures)


def test_pictures_keep_their_shape_and_line_up() -> None:
    mixed = [[heatmap(source=(30, 60)), photo((30, 60))], [heatmap(source=(60, 30)), None]]
    places = shapes(mixed, width="page")
    for (i, j), aspect in {(0, 0): 2, (0, 1): 2, (1, 0): 0.5}.items():
        _, _, wide, tall = places[i, j]
        assert wide / tall == pytest.approx(aspect)
    assert places[0, 0][1] == places[0, 1][1]
    assert (1, 1) not in places
    left, _, wide, _ = places[0, 0]
    assert places[1, 0][0] + places[1, 0][2] / 2 == pytest.approx(left + wide / 2)


def test_photos_of_several_shapes_beside_each_other_are_equally_high() -> None:
    sources = [(30, 60), (40, 40), (60, 30)]
    places = shapes([[heatmap(source=one) for one in sources] for _ in range(2)], width="page")
    assert len({round(tall, 6) for _, _, _, tall in places.values()}) == 1
    assert [places[0, j][2] / places[0, j][3] for j in range(3)] == pytest.approx([2, 1, 0.5])


def test_a_slide_is_full_and_its_text_is_large() -> None:
    small, large = (layout.plan(panel.panel(grid(1, 2), width=width)) for width in ("column", "slide"))
    assert large.width / large.height == pytest.approx(16 / 9)
    assert min(text.points for text in large.texts) >= 10
    assert min(text.points for text in small.texts) == 6
    places = list(large.pictures.values())
    assert max(left + wide for left, _, wide, _ in places) - min(left for left, *_ in places) > 0.8 * large.width


def test_pictures_too_small_to_see_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 × 12 pictures .* take a larger width, fewer"):
        layout.plan(panel.panel(grid(1, 12), width=20))
    with pytest.raises(ValueError, match="normalise='row'"):
        layout.plan(panel.panel(grid(1, 12), width="column", normalise="column"))


def test_a_page_with_no_room_for_one_picture_speaks_of_it() -> None:
    with pytest.raises(ValueError, match=r"^5 mm leave no room for the picture: take a larger width"):
        layout.plan(panel.panel(heatmap(), width=5))
