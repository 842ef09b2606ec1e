"""The API reference that `make docs` builds: every public name is in it, and arrays are told by shape and unit."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_project import ROOT

import vislab

# A shape has two lengths or more, `(n, 4)`, or one that is named, `(n,)`; a number has none.
SHAPE = re.compile(r"one number|\((?=[^()]*[A-Za-z0-9])[A-Za-z0-9 +×*²/.…-]+,(?: [A-Za-z0-9 +×*²/.…-]+,?)*\)")
UNIT = re.compile(r"\b(uint8|float\d+|int|bool|pixels|px|patches|tokens|probabilit\w+|logits|correlations?|numbers?)\b")
RANGE = re.compile(r"\d\.\.\d|\b-?\d to -?\d|sums? (to )?1")
ELSEWHERE = re.compile(r"(as of|as in|like) `[\w.]+`")
ARRAY = re.compile(r"\b(ndarray|Tensor|ArrayLike)\b")


def written(annotations: dict[str, Any]) -> str:
    return " ".join(map(str, annotations.values()))


def public(name: str, value: Any) -> Iterator[tuple[str, str, str]]:
    """What a public name documents: its name or its members', annotations, docstring."""
    if not inspect.isclass(value):
        yield name, written(value.__annotations__), value.__doc__ or ""
        return
    if dataclasses.is_dataclass(value):
        yield name, written(value.__annotations__), value.__doc__ or ""
    for key, member in vars(value).items():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if not key.startswith("_") and inspect.isfunction(function):
            yield f"{name}.{key}", written(function.__annotations__), function.__doc__ or ""


ARRAYS = {
    name: doc
    for public_name in vislab.__all__
    for name, annotations, doc in public(public_name, getattr(vislab, public_name))
    if ARRAY.search(annotations)
}


def lacking(doc: str) -> list[str]:
    """What a docstring does not say of the arrays that go in and come out."""
    told = {"a shape": SHAPE, "a dtype, unit or range": re.compile(f"{UNIT.pattern}|{RANGE.pattern}")}
    return [] if ELSEWHERE.search(doc) else [what for what, pattern in told.items() if not pattern.search(doc)]


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_told_by_shape_and_unit(name: str) -> None:
    assert lacking(ARRAYS[name]) == []


@pytest.mark.parametrize(
    ("doc", "missing"),
    [
        ("Boxes. xyxy: (n, 4), source pixels", []),
        ("The row -> (batch, heads, keys), rows sum to 1.", []),
        ("share: (steps + 1,) of the patches", []),
        ("site and query: as of `attention`", []),
        ("A picture -> (H, W, 3)", ["a dtype, unit or range"]),
        ("A mask, bool (see `above`, or what it calls)", ["a shape"]),
        ("Boxes of an image.", ["a shape", "a dtype, unit or range"]),
    ],
)
def test_what_is_missing_is_seen(doc: str, missing: list[str]) -> None:
    assert lacking(doc) == missing


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page that the command of `make docs` writes."""
    out = tmp_path_factory.mktemp("docs")
    [arguments] = re.findall(r"-m (pdoc .+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    words = shlex.split(arguments)
    words[words.index("--output-directory") + 1] = str(out)
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, check=True)
    assert [path.name for path in Path(out).glob("*.html")] == ["index.html", "vislab.html"]
    return (out / "vislab.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", vislab.__all__)
def test_every_public_name_is_in_the_reference(name: str, reference: str) -> None:
    assert f'<section id="{name}">' in reference
    first = (getattr(vislab, name).__doc__ or "").split()[:4]
    section = reference.split(f'<section id="{name}">')[1]
    assert " ".join(first) in " ".join(re.sub(r"<[^>]+>", "", section).replace("&#39;", "'").split())
