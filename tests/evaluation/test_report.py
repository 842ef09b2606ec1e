"""Laws of the table and the figure: every number is one that was measured, and what is written can be read back."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vislab
from vislab.evaluation import report
from vislab.evaluation.report import COLOURS, Evaluation


def made(methods: tuple[str, ...] = ("a<b", "relevance", "random", "centre")) -> Evaluation:
    rng = np.random.default_rng(0)
    count = len(methods)
    return Evaluation(
        methods=methods,
        targets=("church", "tench", "church"),
        share=np.array([0, 0.5, 1]),
        deletion=rng.random((count, 3, 3)),
        insertion=rng.random((count, 3, 3)),
        agreement=rng.random((count, count, 3)),
        pointing=rng.random((count, 1)),
        parts=("head", "0", "input"),
        randomised=rng.random((count, 2, 3)),
        skipped=("image 1: <broken>",),
        settings={"model": "tiny", "methods": {}, "fill": "blur", "seed": 0, "patch_size": None, "image_size": None},
    )


def test_the_table_holds_mean_error_and_number() -> None:
    found = made()
    rows = {(row["method"], row["measure"]): row for row in found.rows()}
    measures = ["deletion", "insertion", "over random", "pointing", "randomised"]
    assert len(rows) == len(found.rows()) == 4 * (len(measures) + 4)
    areas = [(d[0] / 4 + d[1] / 2 + d[2] / 4) for d in found.deletion[1]]
    row = rows["relevance", "deletion"]
    assert row["mean"] == pytest.approx(np.mean(areas))
    assert row["standard_error"] == pytest.approx(np.std(areas, ddof=1) / math.sqrt(3))
    assert [rows["relevance", measure]["n"] for measure in measures] == [3, 3, 3, 1, 2]
    assert rows["relevance", "pointing"]["mean"] == found.pointing[1, 0]
    assert math.isnan(rows["relevance", "pointing"]["standard_error"])
    assert rows["relevance", "randomised"]["mean"] == pytest.approx(found.randomised[1].mean())
    assert rows["relevance", "agreement with centre"]["mean"] == pytest.approx(found.agreement[1, 3].mean())


def test_over_random_is_paired_with_random_on_the_same_image() -> None:
    found = made()
    deletion, insertion, over = (found.samples[name] for name in ("deletion", "insertion", "over random"))
    assert over[2].tolist() == [0, 0, 0]
    assert over[1] == pytest.approx((insertion[1] - insertion[2]) - (deletion[1] - deletion[2]))


def test_measures_that_were_not_taken_are_not_shown() -> None:
    found = replace(made(), parts=(), randomised=np.zeros((4, 0, 0)), pointing=np.zeros((4, 0)))
    assert list(found.samples) == ["deletion", "insertion", "over random"]
    assert "pointing" not in found._repr_html_()
    assert len(found.figure().axes) == 2


def test_csv_reads_back_as_the_rows(tmp_path: Path) -> None:
    found = made()
    read = list(csv.DictReader(io.StringIO(found.csv())))
    for row, there in zip(found.rows(), read, strict=True):
        assert (row["method"], row["measure"], str(row["n"])) == (there["method"], there["measure"], there["n"])
        assert float(there["mean"]) == row["mean"]
        assert (there["model"], there["images"], there["steps"], there["seed"], there["fill"]) == (
            *("tiny", "3", "2", "0", "blur"),
        )
    assert found.save(tmp_path / "table.csv").read_text() == found.csv()
    ways = {there["measure"]: there["direction"] for there in read}
    assert {measure: report.MEASURES[measure][0].split()[-1] for measure in report.MEASURES} == {
        measure: {"lower is better": "↓", "higher is better": "↑", "nearer to 0 is better": "0"}[ways[measure]]
        for measure in report.MEASURES
    }
    assert ways["agreement with centre"] == ""


def test_one_photograph_is_no_average_and_is_called_none() -> None:
    found = made()
    one = replace(found, targets=("church",), deletion=found.deletion[:, :1], insertion=found.insertion[:, :1])
    for said in (one.caption, str(one), one._repr_html_()):
        assert "one photograph: no average" in said
        assert "standard error" not in said
    assert "mean ± standard error" in found.caption


def test_the_notebook_shows_every_method_and_what_was_left_out() -> None:
    found = made()
    shown = found._repr_html_()
    assert "a&lt;b" in shown
    assert "a<b" not in shown
    assert "image 1: &lt;broken&gt;" in shown
    mean = found.pointing[1, 0]
    assert f"<td>{mean:.3f}</td>" in shown
    assert "3 images, 1 left out · 2 steps over a blur fill · seed 0" in shown
    assert "Left out" not in replace(found, skipped=())._repr_html_()


def test_printed_it_is_a_markdown_table() -> None:
    found = replace(made(), deletion=made().deletion - 2)
    caption, _, head, rule, *body = str(found).splitlines()
    assert caption == found.caption
    names = ["deletion ↓ (n = 3)", "insertion ↑ (n = 3)", "over random ↑ (n = 3)", "pointing ↑ (n = 1)"]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, rule, *body)]
    assert cells[0] == ["", *names, "randomised → 0 (n = 2)"]
    assert all(set(cell) == {"-"} for cell in cells[1])
    assert [line[0] for line in cells[2:]] == ["a<b", "relevance", "random", "centre"]
    assert len({len(line) for line in (head, rule, *body)}) == 1  # columns stand below each other in a terminal
    samples = found.samples["deletion"][1]
    assert f"| −{-samples.mean():.3f} ± {samples.std(ddof=1) / math.sqrt(3):.3f} |" == f"| {cells[3][1]} |"


def test_the_figure_draws_the_mean_of_each_method() -> None:
    found = made()
    deletion, insertion, randomised = found.figure().axes
    for ax, curves in ((deletion, found.deletion), (insertion, found.insertion)):
        for line, curve in zip(ax.get_lines(), curves, strict=True):
            assert line.get_xdata().tolist() == [0, 50, 100]
            assert line.get_ydata() == pytest.approx(curve.mean(0))
    assert randomised.get_lines()[0].get_ydata() == pytest.approx([1, *found.randomised[0].mean(0)])
    assert [label.get_text() for label in randomised.get_xticklabels()] == ["none", "head", "0", "input"]
    [legend] = found.figure().legends
    assert [text.get_text() for text in legend.get_texts()] == list(found.methods)


def test_the_figure_names_methods_as_captions_do_and_says_what_it_shows() -> None:
    found = made(("cls", "grad_cam", "first", "random", "centre"))
    methods = {name: {"method": name} for name in ("cls", "grad_cam")} | {"first": {"method": "cls", "layer": 0}}
    figure = replace(found, settings=found.settings | {"methods": methods}).figure()
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["attention of CLS", "Grad-CAM", "first", "random", "centre"]
    said = figure.get_supxlabel().replace("\n", " · ")
    assert said.startswith("tiny · 3 images, 1 left out · 2 steps over a blur fill")
    assert said.endswith("weights drawn anew on 2 of them · lines: means, bands: one standard error")
    one = replace(found, **{name: getattr(found, name)[:, :1] for name in ("deletion", "insertion")}, targets=("a",))
    assert one.figure().get_supxlabel().endswith("one photograph: no average")


def test_a_notebook_shows_the_figure_large_enough_to_read() -> None:
    with Image.open(io.BytesIO(made().figure()._repr_png_())) as picture:
        assert picture.width > 1000
    text = made().figure().legends[0].get_texts()[0]
    assert text.get_window_extent().height > 10  # px


def test_no_two_lines_look_alike() -> None:
    found = made((*(f"method {k}" for k in range(12)), "random", "centre"))
    lines = found.figure().axes[0].get_lines()
    looks = {(line.get_color(), str(line._dash_pattern)) for line in lines}
    assert len(looks) == 14
    assert len({line.get_color() for line in lines[: len(COLOURS)]}) == len(COLOURS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["curves.png", "curves.pdf", "curves.svg", "curves.jpg"])
def test_a_figure_is_written_with_its_provenance(name: str, tmp_path: Path) -> None:
    found = made()
    path = found.save(tmp_path / name, dpi=50)
    record = vislab.provenance(path)
    assert record["evaluation"]["settings"]["model"] == "tiny"
    assert [row["method"] for row in record["evaluation"]["rows"]] == [row["method"] for row in found.rows()]
    assert path.read_bytes() == found.save(tmp_path / f"again-{name}", dpi=50).read_bytes()
    if path.suffix in (".png", ".jpg"):
        with Image.open(path) as picture:
            assert picture.width == round(180 / 25.4 * 50)


def test_a_figure_does_not_depend_on_the_notebooks_style(tmp_path: Path) -> None:
    import matplotlib

    plain = made().save(tmp_path / "plain.png", dpi=50)
    with matplotlib.rc_context({"savefig.bbox": "tight", "font.size": 30, "savefig.transparent": True}):
        styled = made().save(tmp_path / "styled.png", dpi=50)
    assert plain.read_bytes() == styled.read_bytes()


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"written as '\.npz': take \.csv for the table, or \.png"):
        made().save(tmp_path / "curves.npz")
    with pytest.raises(FileNotFoundError, match="no folder"):
        made().save(tmp_path / "nowhere" / "curves.png")
    assert list(tmp_path.iterdir()) == []
