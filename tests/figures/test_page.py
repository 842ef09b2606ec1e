"""Laws of what a figure is: a look that is possible, and a panel that knows its pictures."""

from __future__ import annotations

import pytest
from pictures import heatmap, photo

from vislab.figures import page, panel


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": "wide"}, "no width 'wide': take 'column', 'page', 'slide', or a number"),
        ({"width": -1}, "above zero, up to"),
        ({"dpi": 0}, "above zero"),
        ({"theme": "blue"}, "no theme 'blue': take 'light', 'dark'"),
        ({"normalise": "rank"}, "no normalisation 'rank'"),
    ],
)
def test_an_impossible_look_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        page.Look(**options)


def test_a_panel_counts_its_pictures_row_by_row() -> None:
    one, two = heatmap(head=0), heatmap(head=1)
    made = panel.panel([[photo(), one], [None, two]])
    assert [(i, j, cell.heat) for i, j, cell in made.filled()] == [(0, 0, None), (0, 1, one), (1, 1, two)]
    assert made.heats == [one, two]
    assert made.title == made.caption
    assert panel.panel(one, title="mine").title == "mine"
