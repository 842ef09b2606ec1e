"""The two sets of boxes drawn by hand: no picture in both, every class as often, every box in its picture."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from data import FOLDERS

TESTS = Path(__file__).parent
FIRST, SECOND = (json.loads((TESTS / f"imagenette_boxes{name}.json").read_text()) for name in ("", "_second"))


def test_no_picture_is_in_both_sets() -> None:
    assert not set(FIRST["boxes"]) & set(SECOND["boxes"])


@pytest.mark.parametrize(("held", "each"), [(FIRST, 10), (SECOND, 9)], ids=["first", "second"])
def test_every_class_is_drawn_as_often_and_every_box_lies_in_its_picture(held: dict, each: int) -> None:
    assert Counter(name.split("/")[0] for name in held["boxes"]) == dict.fromkeys(FOLDERS, each)
    for name, boxes in held["boxes"].items():
        assert boxes, name
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= 224, name
            assert 0 <= top < bottom <= 224, name
        assert len({tuple(box) for box in boxes}) == len(boxes), name


def test_unclear_pictures_are_among_those_drawn() -> None:
    assert set(SECOND["unclear"]) < set(SECOND["boxes"])
