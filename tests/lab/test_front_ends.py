"""The Lab in other front ends than Jupyter's own: Voila and marimo show it, and it answers there."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import labkit
import nbformat
import psutil
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CODE = 'import vislab\n\nlab = vislab.Lab("church", before=False, detector=None)\n'
APP = f"""import marimo

app = marimo.App()


@app.cell
def _():
    import marimo
    {CODE.replace(chr(10), chr(10) + "    ").rstrip()}
    marimo.ui.anywidget(lab)
    return


if __name__ == "__main__":
    app.run()
"""


def voila(folder: Path, port: int) -> list[str]:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"}}
    cells = [nbformat.v4.new_code_cell(CODE + "lab")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "lab.ipynb")
    return ["voila", "lab.ipynb", "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]


def marimo(folder: Path, port: int) -> list[str]:
    (folder / "app.py").write_text(APP, encoding="utf-8")
    return ["marimo", "--yes", "run", "app.py", "--headless", "--no-token", f"--port={port}", "--host=127.0.0.1"]


@contextmanager
def served(front: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """A front end over a folder -> (its address, where it writes down the hosts beyond loopback that it asked for)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home, url = folder / "home", f"http://127.0.0.1:{port}/"
    home.mkdir()
    command = [sys.executable, "-m", *{"voila": voila, "marimo": marimo}[front](folder, port)]
    environment = labkit.environment(home, "") | {"HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    with (home / "log").open("wb") as log:
        process = psutil.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            end = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < end:
                with suppress(URLError, OSError):
                    with suppress(HTTPError):  # it answers, were it that there is no such page
                        urlopen(f"{url}static/", timeout=5).close()
                    break
                time.sleep(0.1)
            yield url, home / "asked"
        finally:
            labkit.end(process)


@pytest.mark.browser
@pytest.mark.parametrize("front", ["voila", "marimo"])
def test_a_front_end_shows_the_lab_and_a_slider_answers(front: str, browser: Browser, tmp_path: Path) -> None:
    with served(front, tmp_path) as (url, asked):
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, reduced_motion="reduce")
        page.set_default_timeout(240_000)
        try:
            page.goto(url, wait_until="commit")
            lab, ready = page.locator(".vislab-lab").first, page.locator(".vislab-lab .status[data-state=ready]").first
            ready.wait_for()
            canvas = lab.locator("figure > canvas").first
            assert canvas.evaluate(COLOURS) > 1000  # a photograph under its map, and no empty square
            run, before = canvas.evaluate(SHOWN)

            lab.get_by_label("scale", exact=True).press("Home")
            page.wait_for_function(
                "([canvas, run]) => canvas.lab.panes[0].shown.run !== run", arg=[canvas.element_handle(), run]
            )
            ready.wait_for()
            _, after = canvas.evaluate(SHOWN)
            assert len(after) == len(before) == 14 * 14
            assert max(after) < max(before) / 2  # asked with a tenth of q·k, all patches are nearly alike
            assert "× 0.1" in lab.inner_text()
            page.screenshot(path=tmp_path / "front.png")
        finally:
            page.close()
        assert not asked.exists() or asked.read_text(encoding="utf-8").split() == []


SHOWN = "canvas => [canvas.lab.panes[0].shown.run, [...canvas.lab.panes[0].values]]"
COLOURS = """canvas => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set();
    for (let i = 0; i < data.length; i += 4 * 97) seen.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
    return seen.size;
}"""
