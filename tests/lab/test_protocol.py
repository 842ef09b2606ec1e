"""Laws of what the browser is told: numbers that make the same attention, a page that holds all it needs."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

import vislab
from vislab.api import explain
from vislab.engine.site import Refused
from vislab.lab import export_page, protocol
from vislab.lab.runs import Kept, Runs
from vislab.methods.request import Request

ASKED = {"layer": -1, "head": "mean", "query": "cls", "attention_scale": 1.0, "patch_size": None, "image_size": None}


@pytest.fixture(scope="module")
def kept() -> Kept:
    image = vislab.load_image(vislab.samples()["church"])
    return Runs(1).run(vislab.load("embedded"), image, "church", patch_size=None, image_size=None)[0]


def heat(kept: Kept, **asked: object) -> vislab.Heatmap:
    image = np.zeros((*kept.run.frame.source, 3), np.uint8)
    return explain.heatmap(kept.model, kept.run, image, Request(**asked), token=None)


def rows(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    logits = q.astype(np.float32) @ k.astype(np.float32).transpose(0, 2, 1)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def unpacked(content: dict, buffers: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    heads, tokens, channels = content["shape"]
    kinds = {1: np.int8, 2: np.dtype("<i2")}
    found = [[], []]
    for number, (size, count) in enumerate(content["parts"]):
        for which in (0, 1):
            part = np.frombuffer(buffers[2 * number + which], kinds[size])
            found[which].append(part.reshape(heads, tokens, count).astype(np.float32))
    steps = np.frombuffer(buffers[2 * len(content["parts"])], "<f4").reshape(heads, 1, channels)
    return np.concatenate(found[0], -1) * steps, np.concatenate(found[1], -1)


@pytest.mark.parametrize("index", [0, 5, 11])
def test_sixteen_bits_keep_the_attention(kept: Kept, index: int) -> None:
    content, buffers = protocol.layer(kept, index, sums=True)
    exact = kept.run.capture.attention(index, slice(None))[0].numpy()
    assert (np.abs(rows(*unpacked(content, buffers)) - exact).max(-1) <= 5e-4 * exact.max(-1)).all()
    sums = np.frombuffer(buffers[-1], "<f4").reshape(exact.shape[:2])
    q, k = unpacked(content, buffers)
    assert np.allclose(sums, np.log(np.exp((q @ k.transpose(0, 2, 1)).astype(float)).sum(-1)), atol=1e-3)


@pytest.mark.parametrize("index", [0, 5, 11])
def test_eight_bits_keep_the_picture(kept: Kept, index: int) -> None:
    content, buffers = protocol.layer(kept, index, small=True)
    exact = kept.run.capture.attention(index, slice(None))[0].numpy()
    assert sum(map(len, buffers[:-1])) == 2 * kept.model.dim * kept.run.grid.tokens
    assert (np.abs(rows(*unpacked(content, buffers)) - exact).max(-1) <= 0.02 * exact.max(-1)).all()


def test_views_are_json_beside_their_numbers(kept: Kept) -> None:
    shown = heat(kept)
    content, [values] = protocol.view(0, kept, shown, ASKED)
    assert json.loads(json.dumps(content))["grid"] == [14, 14, 16, 16, 1, 0]
    assert np.array_equal(np.frombuffer(values, "<f4").reshape(14, 14), shown.values)
    assert len(content["classes"]) == 5
    plain, _ = protocol.plain(kept, kept, ASKED, 1e9)
    assert all(len(plain["own"][name]) == kept.model.heads for name in ("entropy", "distance"))
    assert sum(plain["classes"].values()) == pytest.approx(1, abs=1e-5)
    assert plain["measures"] == plain["own"]
    assert plain["layer"] == ASKED["layer"]


def test_atlas_holds_every_head(kept: Kept) -> None:
    content, [maps] = protocol.atlas(kept)
    assert np.frombuffer(maps, "<f4").size == 12 * 3 * np.prod(content["grid"]) == 12 * 3 * 196
    assert content["cls"]
    assert np.shape(content["entropy"]) == (12, 3)


def test_a_layer_that_is_not_there_is_refused_in_words(kept: Kept) -> None:
    site = kept.run.capture.site(3)
    state, site.state = site.state, Refused("of a test")
    try:
        content, buffers = protocol.layer(kept, 3)
    finally:
        site.state = state
    assert "cannot be read: of a test" in content["refused"]
    assert buffers == []


def test_the_page_asks_for_nothing_and_holds_its_size(kept: Kept) -> None:
    image = vislab.load_image(vislab.samples()["church"])
    state = {"_photo": protocol.jpeg(image), "_source": image.shape[:2]}
    told = [protocol.view(0, kept, heat(kept), ASKED), protocol.atlas(kept)]
    page = export_page.page("</title><b>", state, told, export_page.small_layers([(kept, -1)]))
    assert len(page.encode()) <= 2_000_000
    assert "default-src 'none'" in page
    assert page.count("</script>") == 3
    assert "<title>&lt;/title&gt;&lt;b&gt;</title>" in page
    assert not re.search(r'(?:src|href)="', page.split("<script", 1)[0])
    held = json.loads(re.search(r'id="held">(.*?)</script>', page, re.DOTALL)[1])
    assert len(held["layers"]) == 12


def test_the_call_is_python_that_makes_the_same(kept: Kept) -> None:
    namespace: dict = {"vislab": vislab}
    namespace["image"] = eval(protocol.source("church"), namespace)
    assert namespace["image"].shape == (683, 1024, 3)
    code = protocol.call_of(heat(kept, attention_scale=0.5))
    assert "attention_scale=0.5" in code
    assert eval(code, namespace).settings["attention_scale"] == 0.5


@pytest.mark.slow
def test_a_notebook_that_a_program_runs_keeps_the_finished_map(tmp_path: Path) -> None:
    """nbconvert, papermill and Voila end the kernel with the last cell: by then the map is there."""
    import nbclient
    import nbformat

    code = 'import vislab\nlab = vislab.Lab("church", detector=None)\nlab'
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(book, timeout=240, resources={"metadata": {"path": tmp_path}}).execute()
    [last] = [one["data"] for one in book.cells[0].outputs if "image/jpeg" in one.get("data", {})]
    picture = vislab.load_image(base64.b64decode(last["image/jpeg"])).astype(int)
    shown = vislab.explain(vislab.samples()["church"], method="cls")
    assert np.abs(picture - vislab.overlay(shown, blend="value", opacity=0.8)).mean() < 4
    assert np.abs(picture - vislab.load_image(vislab.samples()["church"])).mean() > 4
    assert "vislab-held" in last["text/html"]
