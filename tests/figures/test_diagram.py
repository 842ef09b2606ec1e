"""Laws of the diagram of a ViT: one small file, its parts by their names, in the package's own colours."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

import vislab
from vislab.figures import diagram
from vislab.figures.colours import colour_table

SVG = "{http://www.w3.org/2000/svg}"
PARTS = ("pixels", "patches", "tokens", "layer", "head", "qk", "softmax", "cls", "class")


def groups(svg: str) -> dict[str, ElementTree.Element]:
    return {node.get("id", ""): node for node in ElementTree.fromstring(svg).iter(f"{SVG}g") if node.get("id")}


def test_parts_stand_in_the_order_of_the_model() -> None:
    assert diagram.names() == PARTS == tuple(groups(diagram.drawing()))
    assert all(repr(part).replace("'", '"') in (vislab.diagram.__doc__ or "") for part in PARTS)


def test_what_is_lit_is_what_was_named_and_no_more() -> None:
    assert vislab.diagram().svg == diagram.drawing()
    lit = vislab.diagram("qk", "class")
    assert lit.parts == ("qk", "class")
    assert [name for name, node in groups(lit.svg).items() if node.get("class") == "lit"] == ["qk", "class"]
    assert lit._repr_svg_() == lit.svg
    assert lit.svg.replace(' class="lit"', "") == diagram.drawing()


def test_another_part_is_named_with_what_was_meant() -> None:
    with pytest.raises(ValueError, match=r"no part 'patch'; did you mean 'patches'\?"):
        vislab.diagram("patch")
    with pytest.raises(ValueError, match=r"no part 7: it has pixels, .*, class"):
        vislab.diagram(7)  # type: ignore[arg-type]


def test_every_part_has_a_name_and_a_frame_that_holds_it() -> None:
    """The frame is what is seen of the light without colours; no two of one row touch."""
    rows: dict[str, list[tuple[float, float]]] = {"first": [], "second": []}
    root = ElementTree.fromstring(diagram.drawing())
    for row in root.findall(f"{SVG}g"):
        for part in row.findall(f"{SVG}g"):
            first, *_, last = part
            assert first.get("class") == "frame"
            assert last.tag == f"{SVG}text"
            left, width = float(first.get("x", "")), float(first.get("width", ""))
            assert left < float(last.get("x", "")) < left + width
            rows[row.get("class", "")].append((left, left + width))
    for frames in rows.values():
        assert all(one[1] < other[0] for one, other in pairwise(frames))


def test_it_is_told_to_those_who_do_not_see_it_and_small() -> None:
    root = ElementTree.fromstring(diagram.drawing())
    title, words = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert title.text == "A Vision Transformer, from pixels to class"
    assert words is not None
    assert all(word in (words.text or "") for word in ("patches", "CLS", "softmax", "head"))
    assert root.get("role") == "img"
    assert len(diagram.drawing()) < 6_000
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|<script|\bon\w+=", diagram.drawing())


def test_its_colours_are_the_packages_own() -> None:
    """Those of viridis, which stay apart for every eye and in grey; all else is ink and ground, which a page gives."""
    drawn = set(re.findall(r'="(#\w+)"', diagram.drawing()))
    table = [bytes(colour).hex() for colour in colour_table("viridis")[:, :3]]
    marks = sorted(drawn - {"#fff", "#212121"})
    assert len(marks) >= 5
    near = [
        min(sum(abs(int(mark[i : i + 2], 16) - int(one[i - 1 : i + 1], 16)) for i in (1, 3, 5)) for one in table)
        for mark in marks
    ]
    assert max(near) <= 6
    assert set(re.findall(r"var\(--(\w+)", diagram.style())) == {"ink", "ground", "accent"}
    assert "<" not in diagram.style()
    assert "<style" not in diagram.bare()
    assert list(groups(diagram.bare())) == list(diagram.names())
