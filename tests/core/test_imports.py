"""Laws of first imports: from any thread, and behind a notebook, a library is seen whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vislab.core.imports import library

ROOT = Path(__file__).parents[2]

# A library that, like transformers, puts another module in its place; two of its modules import each other, and slowly.
LAZY = """
import sys, time, types
time.sleep(0.3)
whole = types.ModuleType(__name__)
whole.__dict__.update(__spec__=__spec__, __path__=__path__, Thing="thing")
sys.modules[__name__] = whole
"""


@pytest.fixture
def lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "lazy_library_of_a_test"
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text(LAZY)
    for one, other in (("left", "right"), ("right", "left")):
        text = f"import time\ntime.sleep(0.2)\nfrom {name} import {other}\nvalue = {other}.__name__\n"
        (package / f"{one}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for loaded in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[loaded]


def at_once(*work: object) -> list[object]:
    """What functions give, or raise, that are called at the same time, each in a thread."""
    found: list[object] = [None] * len(work)
    ready = threading.Barrier(len(work))

    def run(i: int) -> None:
        ready.wait()
        try:
            found[i] = work[i]()  # type: ignore[operator]
        except Exception as error:
            found[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_module_that_replaces_itself_is_seen_whole_from_every_thread(lazy: str) -> None:
    assert at_once(*[lambda: library(lazy).Thing] * 4) == ["thing"] * 4


def test_threads_that_enter_a_library_at_two_modules_take_turns(lazy: str) -> None:
    names = [f"{lazy}.left", f"{lazy}.right"]
    assert [module.__name__ for module in at_once(*[lambda name=name: library(name) for name in names])] == names


def test_a_missing_library_is_said_as_python_says_it() -> None:
    missing = "no_such_library"
    with pytest.raises(ModuleNotFoundError, match=missing):
        library(missing)


# ---- the real libraries, each time in a fresh process ----

SCRIPTS = {
    "a lab, then a map": """
lab = vislab.Lab("church")
assert vislab.explain(church, method="cls").values.shape == (14, 14)
assert lab.wait(300).heatmap is not None
""",
    "a lab, then an import of one's own": """
lab = vislab.Lab("church")
from transformers import ViTConfig, ViTModel, AutoImageProcessor
import ultralytics.nn.tasks
ViTModel(ViTConfig(num_hidden_layers=1)), AutoImageProcessor.from_pretrained
lab.wait(300)
""",
    "two labs in a row": """
labs = [vislab.Lab("church"), vislab.Lab("rocket")]
heats = [lab.wait(300).heatmap for lab in labs]
assert len({id(lab._ready) for lab in labs}) == 1  # loaded once
assert all(lab.detections is not None for lab in labs)
""",
    "a lab that is left at work": """
vislab.Lab("church")
""",
    "four threads": """
work = [lambda: vislab.load(), lambda: vislab.load_detector()]
work += [lambda: vislab.explain(church), lambda: vislab.detect(church)]
failed = [one for one in at_once(*work) if isinstance(one, Exception)]
assert not failed, failed
""",
    "four threads, one name": """
from vislab.models.cache import model_of
first, *others = at_once(*[lambda: model_of("embedded")] * 4)
assert isinstance(first, vislab.Model) and all(other is first for other in others), (first, others)
""",
}


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_loading_is_safe_from_any_thread(script: str, tmp_path: Path) -> None:
    code = f"import vislab\nfrom core.test_imports import at_once\nchurch = vislab.samples()['church']\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_loading_is_safe_when_all_cells_are_run(tmp_path: Path) -> None:
    """Under nbconvert --execute, whose cells follow each other as fast as under Run All."""
    cells = ["import vislab", "lab = vislab.Lab('church')\nlab", "other = vislab.Lab('rocket')\nother"]
    cells += ["import transformers\ntransformers.ViTModel", "vislab.explain(vislab.samples()['church'], method='cls')"]
    cells += ["print(lab.wait(300).heatmap is not None, other.wait(300).detections is not None)"]
    book = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}
    for i, source in enumerate(cells):
        cell = {"cell_type": "code", "id": str(i), "metadata": {}, "outputs": [], "execution_count": None}
        book["cells"].append(cell | {"source": source})
    (tmp_path / "book.ipynb").write_text(json.dumps(book))
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--stdout", "book.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout)["cells"][-1]["outputs"]
    assert "".join(text for output in last for text in output.get("text", ())) == "True True\n"


# As if the extras were not installed: what they bring is not found.
BARE = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"anywidget", "ipywidgets", "jupyterlab", "pyarrow", "ray", "ultralytics"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import vislab
from vislab.cli.main import main

photo = vislab.samples()["church"]
heat = vislab.explain(photo, method="relevance")
vislab.save("figure.png", heat)
assert main(["figure", str(photo), "--out", "other.png"]) == 0
many = lambda: vislab.many(photo, out="maps.parquet", progress=False)
for asked in (many, lambda: vislab.Lab, lambda: vislab.detect(photo), lambda: vislab.explain_box(photo)):
    try:
        asked()
    except ImportError as error:
        print(error)
main(["detect", str(photo), "--out", "boxes.png"])
"""


@pytest.mark.slow
def test_the_core_works_without_the_extras_and_says_which_is_missing(tmp_path: Path) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", BARE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    lab = "anywidget is not installed, and this needs it: pip install 'vislab[lab]'"
    detectors = "ultralytics is not installed, and this needs it: pip install 'vislab[detectors]'"
    ray = "pyarrow is not installed, and this needs it: pip install 'vislab[ray]'"
    assert done.stdout.splitlines()[-4:] == [ray, lab, detectors, detectors]
    assert done.stderr.splitlines()[-1] == f"vislab: {detectors}"
    assert {path.name for path in tmp_path.iterdir()} == {"figure.png", "other.png"}
