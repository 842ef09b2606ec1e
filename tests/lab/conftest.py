"""A JavaScript engine for the modules of the Lab that need no page; what labs send; and labs in pages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from living import Living

from vislab.lab import face
from vislab.lab.widget import Lab

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def node() -> str:
    """A JavaScript engine: one on the PATH, or the one that the browser's driver brings. In CI there must be one."""
    from playwright._impl._driver import compute_driver_executable

    engine = shutil.which("node") or shutil.which(str(compute_driver_executable()[0]))
    if engine is None:
        reason = "no JavaScript engine: apt install nodejs"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return engine


@pytest.fixture(scope="module")
def js(node: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Evaluate an expression in which `lab` holds what the modules without a page export; given arrays come as
    Float32Array, others as JSON. before: statements that run first."""
    folder = tmp_path_factory.mktemp("js")
    shutil.copytree(face.STATIC, folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    pure = face.ORDER[: face.ORDER.index("elements")]
    all_of_them = "".join(f'export * from "./{name}.js";\n' for name in pure)
    (folder / "pure.js").write_text(all_of_them, encoding="utf-8")

    def evaluate(expression: str, before: str = "", **given: Any) -> Any:
        lines = ['import * as lab from "./pure.js";']
        for name, value in given.items():
            array = isinstance(value, np.ndarray)
            text = json.dumps(value.ravel().tolist() if array else value)
            lines.append(f"const {name} = {f'Float32Array.from({text})' if array else text};")
        lines += [before, f"const found = {expression};"]
        lines += ["console.log(JSON.stringify(ArrayBuffer.isView(found) ? Array.from(found) : found));"]
        script = folder / "run.js"
        script.write_text("\n".join(lines), encoding="utf-8")
        done = subprocess.run([node, str(script)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return evaluate


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], list[bytes]]]:
    """What labs send to their browser."""
    sent: list[tuple[dict[str, Any], list[bytes]]] = []
    monkeypatch.setattr(Lab, "send", lambda self, content, buffers=None: sent.append((content, buffers or [])))
    return sent


@pytest.fixture
def living(browser: Browser) -> Iterator[Callable[..., Living]]:
    """Opens a lab in a page of a size, px; by default of the church, without a detector, once its map is there."""
    opened: list[Living] = []

    def make(
        image: Any = "church", *, width: int = 1280, height: int = 800, mapped: bool = True, **settings: Any
    ) -> Living:
        page = browser.new_context(viewport={"width": width, "height": height}).new_page()
        opened.append(Living(page, image, **{"detector": None, **settings}))
        opened[-1].ready(mapped)
        return opened[-1]

    yield make
    for one in opened:
        assert one.errors == []
        one.page.context.close()
