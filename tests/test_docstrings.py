"""The examples in public docstrings run as they stand; what needs the network or an extra says so, and is left out."""

from __future__ import annotations

import ast
import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import vislab

NETWORK, ONNX, RAY = "# needs the network", "# needs onnx", "# needs ray"


def documented() -> Iterator[tuple[str, str]]:
    """Each public name, and each public method of a public class, with its docstring."""
    for name in vislab.__all__:
        value = getattr(vislab, name)
        yield name, inspect.getdoc(value) or ""
        if inspect.isclass(value) and value.__module__.startswith("vislab."):
            own = {key: one for key, one in vars(value).items() if not key.startswith("_") and callable(one)}
            yield from ((f"{name}.{key}", inspect.getdoc(one) or "") for key, one in own.items())


def example(docstring: str) -> str:
    """The lines of a docstring that are set off by four spaces; those of doctest run by themselves."""
    lines = docstring.splitlines()
    return "" if ">>>" in docstring else "\n".join(line[4:] for line in lines if line.startswith("    "))


EXAMPLES = {name: code for name, docstring in documented() if (code := example(docstring))}


def offline(code: str) -> ast.Module:
    """The statements of an example, less those that are marked as in need of the network."""
    lines, tree = code.splitlines(), ast.parse(code)
    marked = {number for number, line in enumerate(lines, 1) if line.rstrip().endswith((NETWORK, ONNX, RAY))}
    tree.body = [node for node in tree.body if not marked & set(range(node.lineno, (node.end_lineno or 0) + 1))]
    return tree


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that examples name."""
    place = tmp_path_factory.mktemp("examples")
    for sample, name in zip(vislab.samples().values(), ("photo", "street", "a", "b"), strict=False):
        shutil.copy(sample, place / f"{name}.jpg")
    clip = cv2.VideoWriter(str(place / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for shade in range(0, 120, 20):
        clip.write(np.full((48, 64, 3), shade, np.uint8))
    clip.release()
    vislab.save(place / "figure.png", vislab.explain(place / "photo.jpg", method="cls"))
    return place


@pytest.fixture(scope="module")
def names(folder: Path) -> dict[str, Any]:
    """The names that examples take for granted: a picture, a torch module, and its input."""
    model, image = vislab.load("embedded"), vislab.load_image(folder / "photo.jpg")
    pixels, _ = model.preprocessing(image)
    return {"vislab": vislab, "image": image, "model": model.module, "pixels": pixels}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name: str, names: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    exec(compile(offline(EXAMPLES[name]), name, "exec"), dict(names))


def test_an_example_is_left_out_only_where_it_is_marked() -> None:
    code = f"first = 1\nsecond = load('name')  {NETWORK}\nthird = 3"
    assert [ast.unparse(node) for node in offline(code).body] == ["first = 1", "third = 3"]
    assert len(EXAMPLES) >= 8
