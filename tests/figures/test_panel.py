"""Laws of panels: what is said of each picture, and which colours it shares."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest
from pictures import BOXES, heatmap, photo

import vislab
from vislab.cli import arguments, figure
from vislab.core.heatmap import Heatmap
from vislab.figures import drawing, layers, layout, lettering, overlay, page, panel
from vislab.lab import traits
from vislab.methods.registry import METHODS
from vislab.methods.request import DEFAULTS

NAMED = {"map": "per map", "row": "of a row", "column": "of a column", "shared": "shared", "absolute": "absolute"}
BARS = {"map": 6, "row": 2, "column": 3}


def grid() -> list[list[object]]:
    """Maximum 2, 3, 4 in the first row, 4, 5, 6 in the second; layers by row and heads by column."""
    return [[heatmap([[0, 1], [1, 2 * i + j + 2]], layer=i, head=j) for j in range(3)] for i in range(2)]


def highest(made: page.Panel) -> list[list[float]]:
    return [[cell.span[1] for cell in row] for row in made.cells]


def test_colours_are_shared_as_asked() -> None:
    assert highest(panel.panel(grid())) == [[2, 3, 4], [4, 5, 6]]
    assert highest(panel.panel(grid(), normalise="row")) == [[4] * 3, [6] * 3]
    assert highest(panel.panel(grid(), normalise="column")) == [[4, 5, 6]] * 2
    assert highest(panel.panel(grid(), normalise="shared")) == [[6] * 3] * 2
    assert highest(panel.panel(grid(), normalise="absolute")) == [[1] * 3] * 2
    assert highest(panel.panel(grid(), normalise=(0, 10))) == [[10] * 3] * 2


@pytest.mark.parametrize("normalise", ["map", "row", "column", "shared", "absolute", (0, 10)])
def test_each_scale_has_one_bar_and_the_caption_names_it(normalise: page.Normalise) -> None:
    made = panel.panel(grid(), normalise=normalise)
    named = isinstance(normalise, str)
    assert len(layout.plan(made).bars) == (BARS.get(normalise, 1) if named else 1)
    assert len(drawing.figure_of(made, vector=False).axes) == 6 + len(layout.plan(made).bars)
    assert (NAMED[normalise] if named else "from 0 to 10") in made.caption
    spans = {cell.span for _, _, cell in made.filled()}
    assert {bar.span for bar in layout.plan(made).bars} == spans


def test_equal_values_have_equal_colours_where_they_share_them() -> None:
    made = panel.panel(grid(), normalise="shared")
    drawn = [layers.layer_of(cell.heat, cell.span, made.look) for _, _, cell in made.filled()]
    assert all((layer[0, -1] == drawn[0][0, -1]).all() for layer in drawn)  # 1 in every map
    apart = panel.panel(grid())
    drawn = [layers.layer_of(cell.heat, cell.span, apart.look) for _, _, cell in apart.filled()]
    assert len({tuple(layer[0, -1]) for layer in drawn}) > 1


def test_rows_and_columns_are_called_what_sets_them_apart() -> None:
    made = panel.panel(grid())
    assert made.rows == ("layer 0", "layer 1")
    assert made.columns == ("head 0", "head 1", "head 2")
    assert all(cell.title == "" for _, _, cell in made.filled())
    assert "layer" not in made.caption
    assert "of tench" in made.caption
    mine = panel.panel(grid(), rows=["a", "b"], columns=["x", "y", "z"])
    assert (mine.rows, mine.columns) == (("a", "b"), ("x", "y", "z"))


def test_what_no_label_says_is_the_title() -> None:
    heats = [[heatmap(head=0), heatmap(head=1)], [heatmap(head=0), heatmap(head=1, attention_scale=2.0)]]
    titles = [cell.title for _, _, cell in panel.panel(heats).filled()]
    assert titles[-1] == "attention scale 2.0"
    listed = panel.panel([heatmap(head=0), heatmap(head=1)])
    assert [cell.title for _, _, cell in listed.filled()] == ["head 0", "head 1"]
    assert listed.rows == listed.columns == ()


def of_methods(*names: str) -> list[Heatmap]:
    """Of a church where a method explains one class; layer and head where it has them."""
    made = []
    for name in names:
        entry = METHODS[name]
        settings = {"model": "m", **{part: DEFAULTS[part] for part in ("layer", "head") if part in entry.asks}}
        target = "church" if entry.targeted else None
        made.append(replace(heatmap(), method=name, query="CLS", target=target, settings=settings))
    return made


def test_what_some_methods_share_is_said_once_with_their_names() -> None:
    made = panel.panel(of_methods("cls", "rollout", "relevance", "grad_cam"))
    assert [cell.title for _, _, cell in made.filled()] == ["attention", "rollout", "relevance", "Grad-CAM"]
    said = made.caption.split(" · ")
    assert said[:2] == ["relevance and Grad-CAM of church", "attention and rollout of CLS"]
    assert "attention and rollout: mean of heads" in said
    alone = panel.panel(of_methods("cls", "relevance"))
    assert [cell.title for _, _, cell in alone.filled()][1] == "relevance of church"
    both = panel.panel(of_methods("relevance", "grad_cam"))
    assert both.caption.startswith("relevance and Grad-CAM of church · ")
    one = panel.panel(of_methods("relevance"))
    assert one.caption.startswith("relevance of church · model m · ")
    assert "colours per map" not in one.caption


def test_no_title_is_said_twice_nor_begins_in_the_air() -> None:
    words = [replace(one, target=word) for one, word in zip(of_methods(*["relevance"] * 3), "abc", strict=True)]
    made = panel.panel(words)
    assert [cell.title for _, _, cell in made.filled()] == ["a", "b", "c"]
    assert made.caption.startswith("relevance · ")


def test_bars_say_what_they_measure() -> None:
    def said(*heats: Heatmap, **options: object) -> list[str]:
        made = panel.panel([list(heats)], width="slide", **options)
        return [" ".join(bar.label) for bar in layout.plan(made).bars]

    alike = of_methods("cls", "rollout")
    assert said(*alike) == ["", "share of attention"]  # the last of a row says it for all
    mixed = of_methods("cls", "relevance", "grad_cam")
    assert said(*mixed) == ["share of attention", "relevance", "gradient × feature"]
    assert said(*mixed, normalise="column") == said(*mixed)
    assert said(*alike, normalise="row") == said(*alike, normalise="shared") == ["share of attention"]
    assert said(*mixed, normalise="row") == said(*mixed, normalise="shared") == [""]
    assert said(*mixed, normalise="shared", label="value") == ["value"]
    assert said(*mixed, label="") == ["", "", ""]
    assert said(replace(mixed[0], method="somebody's")) == [""]
    assert {name for name, entry in METHODS.items() if not entry.measures} == set()


@pytest.mark.parametrize("normalise", ["map", "row", "column", "shared"])
def test_a_label_too_long_for_its_bar_is_smaller_or_cut(normalise: page.Normalise) -> None:
    made = panel.panel([of_methods("cls", "rollout")], label="word " * 60, normalise=normalise)
    for bar in layout.plan(made).bars[-1:]:  # the last of a row says it for all
        assert bar.points == page.LEAST
        assert bar.label[-1].endswith("…")
        assert len(bar.label) <= 2
        along = bar.place[2] if bar.level else bar.place[3]
        assert all(lettering.length(one, bar.points) <= along + 1e-6 for one in bar.label)


@pytest.mark.parametrize("width", ["column", "page", "slide", None])
@pytest.mark.parametrize("count", [2, 3, 4, 6, 8, 12])
def test_labels_of_many_maps_keep_their_words_whole_and_every_row_says_what_it_measures(
    count: int, width: page.Width | None
) -> None:
    """Whatever a page's width is: fewer stand beside each other on a narrow one."""
    names = ["cls", "rollout", "relevance", "grad_cam", "integrated_gradients", "token_contribution"] * 2
    made = panel.panel(of_methods(*names[:count]), width=width)
    placed = layout.plan(made)
    words = {word for *_, cell in made.filled() for word in (*cell.title.split(), *cell.label.split())}
    words |= set(made.caption.split())
    assert {word for one in placed.texts for word in one.words.split()} <= words
    said = [" ".join(bar.label) for bar in placed.bars]
    across = len(made.cells[0])
    assert all(any(said[start : start + across]) for start in range(0, count, across))
    assert min(wide for _, _, wide, _ in placed.pictures.values()) > 12


def test_photos_alone_have_a_column_and_no_bar() -> None:
    heats = [[photo(), heatmap(head=0), heatmap(head=1)], [None, heatmap(head=0), heatmap(head=1)]]
    made = panel.panel(heats)
    assert made.columns == ("photo", "head 0", "head 1")
    assert [cell is None for cell in (row[0] for row in made.cells)] == [False, True]
    assert len(layout.plan(made).bars) == 4


def test_a_photo_is_held_once_however_often_it_was_read() -> None:
    made = panel.panel([heatmap(head=0), heatmap(head=1), photo(), heatmap(source=(48, 32))])
    assert len({id(cell.image) for _, _, cell in made.filled()}) == 2


def test_a_list_takes_titles_in_its_order_and_breaks_into_rows() -> None:
    made = panel.panel([heatmap(head=k) for k in range(7)], title=list("abcdefg"))
    assert [len(row) for row in made.cells] == [4, 4]
    assert [cell.title for _, _, cell in made.filled()] == list("abcdefg")
    assert made.cells[1][3] is None


def test_methods_options_are_in_the_caption_only_when_asked_for() -> None:
    assert "discard 0.5" in panel.panel(heatmap(discard=0.5)).caption
    assert "discard" not in panel.panel(heatmap()).caption


def test_one_opacity_everywhere() -> None:
    """What is seen in a notebook is what is written into a file, whichever function drew it.

    The Lab's maps lie by their value, and are as strong only where they are highest: its files say so.
    """
    drawn = {vislab.overlay, vislab.panel, vislab.Focus.overlay, page.Look}
    command = arguments.Parser()
    figure.figure_arguments(command)
    defaults = {inspect.signature(one).parameters["opacity"].default for one in drawn}
    defaults |= {command.get_default("opacity")}
    assert defaults == {overlay.OPACITY}
    assert {inspect.signature(one).parameters["blend"].default for one in drawn} == {command.get_default("blend")}
    own = traits.Settings()
    assert (own.blend, own.opacity > overlay.OPACITY) == ("value", True)


def test_only_what_differs_from_the_defaults_is_asked() -> None:
    assert panel.panel(heatmap(), opacity=0.6, rows=None).options == {}
    assert panel.panel(heatmap(), opacity=0.7, dpi=300).options == {"opacity": 0.7}


@pytest.mark.parametrize(
    ("cells", "options", "said"),
    [
        ([], {}, "no heatmap"),
        ([photo()], {}, "no heatmap"),
        ([heatmap(), [heatmap()]], {}, "not both"),
        ([heatmap(), "b.jpg"], {}, "gap, not str"),
        ([[heatmap(), np.zeros((4, 4))]], {}, "uint8"),
        ([[heatmap()]], {"title": "a"}, "rows=… and columns=…"),
        ([[heatmap()]], {"rows": ["a", "b"]}, "1 rows take a list of 1 labels"),
        ([[heatmap()]], {"columns": "a"}, "list of 1 labels, not 'a'"),
        ([heatmap()], {"title": ["a", "b"]}, "1 panels take 1 titles, not 2"),
        ([heatmap()], {"colormap": "virids"}, "did you mean 'viridis'"),
        ([heatmap()], {"label": 3}, "label is a text, or None for what the values are, not 3"),
        ([heatmap()], {"grid": "yes"}, "grid"),
        ([heatmap()], {"opacity": 2}, "opacity lies between 0 and 1"),
    ],
)
def test_what_makes_no_panel_is_refused(cells: list[object], options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        panel.panel(cells, **options)


def test_boxes_are_drawn_on_their_own_photo_alone() -> None:
    other = heatmap(source=(40, 40))
    assert panel.panel([heatmap(), photo(), heatmap()], detections=BOXES).detections is BOXES
    with pytest.raises(ValueError, match="boxes are of one photo, and 2 are shown"):
        panel.panel([heatmap(), other], detections=BOXES)


def test_a_heatmap_without_its_photo_says_what_to_do() -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match=r"no photograph.*dataclasses\.replace"):
        panel.panel(replace(heatmap(), image=None))


def test_a_panel_shows_itself_and_no_file_is_needed() -> None:
    assert panel.panel(grid())._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("nothing", [3, object(), lambda: None])
def test_what_is_no_picture_is_refused_by_its_type(nothing: object) -> None:
    with pytest.raises(ValueError, match=f"a panel shows heatmaps, masks, photos .* not {type(nothing).__name__}"):
        panel.panel(nothing)


def test_masks_stand_beside_a_heatmap_as_they_are_drawn_on_the_photograph() -> None:
    heat = heatmap()
    masks = vislab.segment(heat, method="otsu")
    made = panel.panel([heat, masks, photo()], opacity=0.3)
    assert [cell.title for cell in made.cells[0]] == ["", f"masks by {masks.method}", ""]
    assert len(layout.plan(made).bars) == 1
    figure = drawing.figure_of(made, vector=False)
    shown = [np.asarray(ax.images[0].get_array()) for ax in figure.axes[:3]]
    assert np.array_equal(shown[1], vislab.overlay(masks, opacity=0.3))
    assert np.array_equal(shown[0], photo())
    assert np.array_equal(shown[2], photo())
    with pytest.raises(ValueError, match=r"no heatmap to show.*masks alone are written by vislab\.save"):
        panel.panel([masks])
    with pytest.raises(ValueError, match="these masks have no photograph"):
        panel.panel([heat, replace(masks, image=None)])


def test_a_misspelt_option_is_answered_by_the_one_that_was_meant() -> None:
    with pytest.raises(ValueError, match=r"vislab\.panel has no option 'widht'; did you mean 'width'"):
        panel.panel([heatmap()], widht="page")
