"""Laws of what is typed: each kind of value is read as it is meant, or refused in words that say what it takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pytest

from vislab.cli import arguments

READ: list[tuple[Callable[[str], Any], str, Any]] = [
    (arguments.share, "0.25", 0.25),
    (arguments.page_width, "column", "column"),
    (arguments.page_width, "85.5", 85.5),
    (arguments.beside, "npz,json,npz", ("npz", "json")),
]
REFUSED: list[tuple[Callable[[str], Any], str, str]] = [
    (arguments.share, "a third", "0 to 1"),
    (arguments.share, "1.5", "0 to 1"),
    (arguments.page_width, "wide", "column, page, slide or a number of mm"),
    (arguments.page_width, "colum", "; did you mean 'column'"),
    (arguments.page_width, "-3", "column, page, slide or a number of mm"),
    (arguments.page_width, "inf", "column, page, slide or a number of mm"),
    (arguments.beside, "npz,xlsx", "npz, json and tex"),
    (arguments.beside, "npz,jsn", "; did you mean 'json'"),
    (arguments.index_or("mean", "max"), "maen", "; did you mean 'mean'"),
    (arguments.box, "bx", "; did you mean 'box'"),
]


@pytest.mark.parametrize(("kind", "text", "value"), READ)
def test_what_is_meant_is_read(kind: Callable[[str], Any], text: str, value: Any) -> None:
    assert kind(text) == value


@pytest.mark.parametrize(("kind", "text", "words"), REFUSED)
def test_what_is_none_is_refused_with_what_it_takes(kind: Callable[[str], Any], text: str, words: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        kind(text)
