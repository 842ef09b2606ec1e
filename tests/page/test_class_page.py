"""Laws of the file: what is in it, which models and photographs it takes, and that it says why not."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import DeiTConfig, DeiTForImageClassification, ViTConfig, ViTForImageClassification, ViTImageProcessor

import vislab
from vislab.cli import main
from vislab.page import script
from vislab.page.class_page import class_site, weights_file
from vislab.page.weights import form_of

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "num_labels": 3}
PICTURE = np.zeros((8, 8, 3), np.uint8)


def vit(processor: Any = None, **given: Any) -> vislab.Model:
    module = ViTForImageClassification(ViTConfig(**(SMALL | given)))
    return vislab.load(module, processor=processor or ViTImageProcessor())


def held(path: Path) -> tuple[dict[str, Any], dict[str, str], str]:
    """What a page is told, its parts, and its text."""
    text = path.read_text(encoding="utf-8")
    about = json.loads(re.search(r'<script type="application/json" id="about">(.*?)</script>', text, re.S)[1])
    return about, dict(re.findall(r'data-part="([\w.-]+)">(.*?)</script>', text, re.S)), text


def test_a_page_holds_the_model_the_photographs_and_nothing_it_would_have_to_ask_for(tmp_path: Path) -> None:
    model = vit()
    church = vislab.samples()["church"]
    path = vislab.class_page(tmp_path / "class.html", images=[church, PICTURE, church], model=model, weights="float16")
    about, parts, text = held(path)
    assert gzip.decompress(base64.b64decode(parts["weights.gz"])) == weights_file(model, form_of(model), "float16")
    assert base64.b64decode(parts["vit.wasm"]) == (script.STATIC / "vit.wasm").read_bytes()
    assert [one["name"] for one in about["samples"]] == ["church", "photo 2", "church 3"]
    assert about["samples"][0]["credit"] == "Gary Todd, public domain"
    assert about["samples"][1]["credit"] == ""
    assert about["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert vislab.load_image(base64.b64decode(parts["photo-0.jpg"])).shape == (299, 448, 3)
    assert not re.search(r'(?:src|href)="(?!data:,)', text)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert "unsafe-inline" not in policy
    assert "connect-src 'none'" in policy
    for inside in (
        re.search(r"<style>(.*?)</style>", text, re.S)[1],
        re.search(r'<script type="module">(.*?)</script>', text, re.S)[1],
    ):
        assert base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode() in policy


def test_two_pages_of_the_same_are_the_same(tmp_path: Path) -> None:
    model = vit()
    one, other = (vislab.class_page(tmp_path / name, images=[PICTURE], model=model) for name in ("a.html", "b.htm"))
    assert one.read_bytes() == other.read_bytes()


def test_a_site_is_the_same_in_parts(tmp_path: Path) -> None:
    path = class_site(tmp_path / "deep" / "site", images=[PICTURE], model=vit())
    names = {one.name for one in path.parent.iterdir()}
    assert names == {"index.html", "page.js", "page.css", "worker.js", "vit.wasm", "weights.gz", "photo-0.jpg"}
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) == {"data:,", "page.css", "page.js"}
    assert "'unsafe-inline'" not in text
    with pytest.raises(NotADirectoryError, match="is a file: name a folder"):
        class_site(path, model=vit())


UNFIT = {
    "is a DeiTForImageClassification": lambda: vislab.load(DeiTForImageClassification(DeiTConfig(**SMALL))),
    "has 1 layers of width 768": lambda: vit(hidden_size=768, num_attention_heads=12),
    "uses 'relu' in place of 'gelu'": lambda: vit(hidden_act="relu"),
    "heads, 8 / 2, is no multiple of 8": lambda: vit(hidden_size=8),
    "not the logits of classes": lambda: vit(problem_type="multi_label_classification"),
    "by stretch and bicubic": lambda: vit(ViTImageProcessor(resample=3)),
    "its weights are others, such as vit.layers.0.attention.k_proj.bias": lambda: vit(qkv_bias=False),
    "patches of 4 px are not 8 to 56 px wide": lambda: vit(patch_size=4, image_size=224),
    "not square": lambda: vit(ViTImageProcessor(size={"height": 448, "width": 448})),
}


@pytest.mark.parametrize("reason", list(UNFIT))
def test_models_of_another_form_are_refused_by_name(reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the class page cannot run ") as error:
        vislab.class_page(tmp_path / "class.html", images=[PICTURE], model=UNFIT[reason]())
    assert reason in str(error.value)
    assert "model='embedded'" in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "given", "kind", "said"),
    [
        ("class.txt", {}, ValueError, "a path that ends with .html, not 'class.txt'"),
        (7, {}, TypeError, "a path that ends with .html, not to 7"),
        ("nowhere/class.html", {}, FileNotFoundError, "there is no folder 'nowhere'"),
        ("class.html", {"weights": "int4"}, ValueError, "weights are 'int8' or 'float16'"),
        ("class.html", {"images": "church.jpg"}, TypeError, "images is a list of photographs"),
        ("class.html", {"images": 3}, TypeError, "images is a list of photographs"),
        ("class.html", {"images": []}, ValueError, "a page brings 1 to 24 photographs, not 0"),
        ("class.html", {"images": [PICTURE] * 25}, ValueError, "1 to 24 photographs, not 25"),
        ("class.html", {"images": ["nothing.jpg"]}, FileNotFoundError, "there is no file 'nothing.jpg'"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_loaded(
    path: Any, given: dict[str, Any], kind: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vislab.models.load.load", lambda _: pytest.fail("loaded"))
    with pytest.raises(kind, match=re.escape(said)):
        vislab.class_page(path, **given)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_file_a_site_or_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    module = ViTForImageClassification(ViTConfig(**SMALL))
    module.save_pretrained("tiny")
    ViTImageProcessor().save_pretrained("tiny")
    photo = str(vislab.samples()["coffee"])
    assert main.main(["page", photo, "--model", "./tiny", "--out", "class.html", "--host", "site"]) == 0
    assert capsys.readouterr().out.split() == ["class.html", str(Path("site/index.html"))]
    assert held(Path("class.html"))[0]["samples"][0]["name"] == "coffee"
    assert main.main(["page"]) == 2
    assert "give one of them, or both" in capsys.readouterr().err
    assert main.main(["page", "--out", "class.pdf"]) == 2
    assert "--out takes a path that ends with .html, not 'class.pdf'" in capsys.readouterr().err


def test_torch_is_loaded_only_when_a_page_is_written() -> None:
    code = "import sys, vislab.page.class_page, vislab.cli.page; print({'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
