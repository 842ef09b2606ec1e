"""The notebooks, opened and run in JupyterLab and in Notebook 7 by a browser, with no network."""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import labkit
import pytest

if TYPE_CHECKING:
    from labkit import Server
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def png_size(output: dict[str, Any]) -> tuple[int, int]:
    """(width, height) as the file's header has it."""
    return struct.unpack(">II", base64.b64decode(output["data"]["image/png"])[16:24])


def test_first_look_shows_its_heatmaps(page: Page, server: Server, tmp_path: Path) -> None:
    labkit.open_notebook(page, server, "01_first_look.ipynb")
    labkit.run_all(page)
    labkit.screenshot(page, tmp_path / f"{server.app}.png")

    heatmaps = 0
    for cell in labkit.code_cells(page):
        pngs = [output for output in cell["outputs"] if "image/png" in output.get("data", {})]
        assert [(width, height) for width, height, _ in cell["pictures"]] == [png_size(png) for png in pngs]
        assert all(shown > 200 for *_, shown in cell["pictures"])
        heatmaps += sum("".join(png["data"]["text/plain"]).startswith("Heatmap(") for png in pngs)
    assert heatmaps >= 2  # CLS and a patch: each the last expression of its cell
