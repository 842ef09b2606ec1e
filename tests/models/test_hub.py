"""Laws of what an error of loading says: why, and what to try, which is never what has just failed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import transformers as hf

import vislab
from vislab.core.files import assets


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vislab's own models, their weights cut short."""
    shutil.copytree(assets() / "models", tmp_path / "models", ignore=shutil.ignore_patterns("train"))
    for path in (tmp_path / "models").glob("*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])
    monkeypatch.setattr("vislab.models.load.assets", lambda: tmp_path)
    monkeypatch.setattr("vislab.models.config.assets", lambda: tmp_path)
    monkeypatch.setattr("vislab.detectors.yolo.assets", lambda: tmp_path)


@pytest.mark.usefixtures("damaged")
@pytest.mark.parametrize("load", [vislab.load, vislab.load_detector])
def test_what_comes_with_vislab_is_not_recommended_in_its_own_place(load: Callable[[str], Any]) -> None:
    with pytest.raises(OSError, match=r"cannot load .*'embedded': .* install vislab again$") as refused:
        load("embedded")
    assert "load('embedded')" not in str(refused.value)
    assert "load_detector('embedded')" not in str(refused.value)
    assert "network" not in str(refused.value)


NAMES = ["google/vit-base-patch16-224", "facebook/dinov2-small", "timm/vit_small_patch16_224", "torchvision/vit_b_16"]
DETECTORS = ["facebook/detr-resnet-50", "hustvl/yolos-tiny", "yolo12n.pt", "no.pt", "detr"]


@pytest.mark.parametrize(
    ("load", "name"),
    [(vislab.load, name) for name in [*NAMES, "embeded", "folder"]]
    + [(vislab.load_detector, name) for name in [*DETECTORS, "folder"]],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_no_error_recommends_what_has_just_failed(
    load: Callable[[str], Any], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuses)
    tiny.make("ViT classifier").save_pretrained("folder")
    hf.ViTImageProcessor().save_pretrained("folder")
    Path("folder", "model.safetensors").write_bytes(b"nothing")
    with pytest.raises((OSError, ValueError)) as refused:
        load(name)
    said = str(refused.value)
    assert name in said  # what was given
    assert "'embedded'" in said or "'yolo12n.pt'" in said  # what to try
    assert not re.search(rf"(\(|take |such as |try ){name!r}", said)
    assert "network" not in said or name != "folder"


def refuses(*_: Any, **__: Any) -> Any:
    raise OSError("the network does not answer")
