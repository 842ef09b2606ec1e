"""What every test stands on: no network, no writing into the user's folders, fixed seeds, and the browser."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# The frameworks read these when they are imported, so they are set before any test module is.
_home = tempfile.mkdtemp(prefix="vislab-tests-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
os.environ |= {
    "HF_HOME": f"{_home}/huggingface",
    "HF_HUB_OFFLINE": "1",
    "IPYTHONDIR": f"{_home}/ipython",
    "JUPYTER_PLATFORM_DIRS": "1",
    "MPLBACKEND": "Agg",
    "TORCH_HOME": f"{_home}/torch",
    "TRANSFORMERS_OFFLINE": "1",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_CONFIG_DIR": f"{_home}/ultralytics",
    "YOLO_OFFLINE": "true",
}

# Test files that run side by side share the cores: torch would take them all, each time.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import hypothesis  # noqa: E402
import labkit  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

if TYPE_CHECKING:
    from labkit import Server
    from playwright.sync_api import Browser, Page

collect_ignore = ["bench"]

# A first example pays for loading a framework, and CI's machine is shared: time says nothing about a law.
hypothesis.settings.register_profile("vislab", deadline=None, derandomize=True)
hypothesis.settings.load_profile("vislab")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Notebooks first, then files that drive a browser or a cluster, then slow ones: none is left for the end, when
    the other processes have nothing to do any more.
    """
    ranks: dict[Path, int] = {}
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        rank = 3 if item.path.suffix == ".ipynb" else 2 if marks & {"browser", "ray"} else int("slow" in marks)
        ranks[item.path] = max(rank, ranks.get(item.path, 0))
    items.sort(key=lambda item: -ranks[item.path])


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 -- the libraries under test draw from the global generator
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium to drive: $CHROMIUM, or one on the PATH. Without one, CI fails and others skip."""
    names = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    path = next(filter(None, map(shutil.which, filter(None, names))), None)
    if path is None:
        reason = "no Chromium: apt install chromium, or set CHROMIUM to the path of one"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return path


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with labkit.browse(chromium) as running:
        yield running


@pytest.fixture(scope="session", params=["jupyterlab", "notebook"])
def server(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """JupyterLab and Notebook 7, each over a copy of the notebooks: running them changes no file of the project."""
    folder = tmp_path_factory.mktemp(request.param) / "notebooks"
    shutil.copytree(labkit.ROOT / "notebooks", folder, ignore=shutil.ignore_patterns(".*"))
    with labkit.serve(request.param, folder) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """An empty page. Whatever it, the server or a kernel asks of the network fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(120_000)  # ms: the machine may have much else to do
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    try:
        yield context.new_page()
    finally:
        context.close()
    assert [url for url in asked if labkit.beyond_loopback(url)] == []
    assert server.outside() == []
