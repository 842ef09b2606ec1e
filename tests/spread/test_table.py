"""Laws of a batch: a job is told by all that decides its files, and a row says what its map shows."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from pictures import heatmap

from vislab.figures import panel, save
from vislab.spread import table


def test_a_job_is_another_when_anything_differs() -> None:
    jobs = [table.job_of(a=1, b=None), table.job_of(a=1, b=0), table.job_of(a=2, b=None), table.job_of(a=1)]
    assert len({*jobs}) == 4
    assert table.job_of(b=(1, 2), a={"x": 1}) == table.job_of(a={"x": 1}, b=(1, 2))


def test_only_whole_results_of_the_same_job_are_done(tmp_path: Path) -> None:
    figure, values = tmp_path / "f.png", tmp_path / "f.npz"
    assert table.done("job", figure, []) is None
    save.write_all(figure, panel.panel(heatmap()), notes={"job": "job", "row": {"mean": 1.5}})
    assert table.done("job", figure, []) == {"mean": 1.5}
    assert table.done("another", figure, []) is None
    assert table.done("job", figure, [values]) is None
    save.save(figure, panel.panel(heatmap()))
    assert table.done("job", figure, []) is None
    figure.write_bytes(b"\x89PNG")
    assert table.done("job", figure, []) is None


def test_statistics_of_maps_that_are_known() -> None:
    flat = table.row_of(heatmap(np.ones((4, 5))), [])
    assert flat["entropy"] == pytest.approx(1)
    assert flat["top_tenth"] == pytest.approx(0.1)
    one = np.zeros((4, 5))
    one[3, 1] = 2
    lit = table.row_of(heatmap(one, (40, 100)), [("a", 0.75), ("b", 0.25)])
    assert lit["entropy"] == pytest.approx(0)
    assert lit["top_tenth"] == pytest.approx(1)
    assert (lit["peak_x"], lit["peak_y"]) == pytest.approx((30, 35))
    assert (lit["lowest"], lit["highest"], lit["mean"]) == pytest.approx((0, 2, 0.1))
    assert (lit["label_1"], lit["probability_2"]) == ("a", 0.25)
    assert (lit["height"], lit["width"], lit["rows"], lit["cols"]) == (40, 100, 4, 5)
    assert table.row_of(heatmap(np.zeros((2, 2))), [])["entropy"] == pytest.approx(1)
    assert table.row_of(heatmap(-one, (40, 100)), [])["top_tenth"] == pytest.approx(1)


def test_a_table_is_read_back() -> None:
    rows = [{"photo": 'a, "b"\n.png', "mean": 1 / 3, "label_1": "Äpfel"}, {"photo": "c", "error": "cut short"}]
    read = list(csv.DictReader(io.StringIO(table.table(rows).decode(), newline="")))
    assert [row["photo"] for row in read] == ['a, "b"\n.png', "c"]
    assert (read[0]["mean"], read[0]["label_1"], read[1]["mean"], read[1]["error"]) == (
        "0.333333",
        "Äpfel",
        "",
        "cut short",
    )
    assert tuple(read[0]) == table.COLUMNS
