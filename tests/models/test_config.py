"""Laws of what a folder's files say: the same as the module says that is loaded from them, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import tiny
import transformers as hf

import vislab
from vislab.models.config import outline_of
from vislab.models.describe import described
from vislab.models.outline import Outline

SIZE = {"height": 32, "width": 32}


def saved(folder: Path, family: str = "ViT classifier", processor: Any = None) -> Path:
    tiny.make(family).save_pretrained(folder)
    (processor or hf.ViTImageProcessor(size=SIZE)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["embedded", "saved"])
def test_files_say_what_the_module_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the module that transformers' own choosing classes make, described by its parts."""
    where = name if name == "embedded" else str(saved(tmp_path))
    read = outline_of(where)
    assert read is not None
    loaded = vislab.load(where)
    monkeypatch.setattr("vislab.models.hub.outline", lambda *_: None)
    chosen = vislab.load(where)
    parts = described(where, chosen.module, chosen.preprocessing)
    for field in fields(Outline):
        own = getattr(read, field.name)
        assert own == getattr(loaded, field.name) == getattr(chosen, field.name) == getattr(parts, field.name)
    for sizes in ((None, None), (64, 16), ((32, 64), 8)):
        assert read.grid(*sizes) == chosen.grid(*sizes)
        assert read.memory(read.grid(*sizes), 4) == chosen.forecast(chosen.grid(*sizes))


def test_both_ways_make_the_same_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path)
    one = vislab.load(folder, device="cpu").module
    monkeypatch.setattr("vislab.models.hub.outline", lambda *_: None)
    other = vislab.load(folder, device="cpu").module
    assert type(one) is type(other)
    assert one.config.to_dict() == other.config.to_dict()
    assert one.training is other.training is False
    assert all(a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


CHANGES: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "another family": lambda config, _: config.update(model_type="deit"),
    "another architecture": lambda config, _: config.update(architectures=["ViTForMaskedImageModeling"]),
    "an architecture that is not named": lambda config, _: config.pop("architectures"),
    "a size that is not square": lambda config, _: config.update(image_size=[32, 64]),
    "a default of the configuration": lambda config, _: config.pop("hidden_size"),
    "a default of the processor": lambda _, processor: processor.pop("image_mean"),
    "other factors": lambda _, processor: processor.update(rescale_factor=1 / 127.5),
    "a crop": lambda _, processor: processor.update(do_center_crop=True, crop_size=SIZE),
    "another processor": lambda _, processor: processor.update(image_processor_type="CLIPImageProcessor"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_the_files_alone_do_not_tell_is_left_to_the_module(change: Callable[..., Any], tmp_path: Path) -> None:
    paths = [saved(tmp_path) / name for name in ("config.json", "preprocessor_config.json")]
    said = [json.loads(path.read_text()) for path in paths]
    change(*said)
    for path, one in zip(paths, said, strict=True):
        path.write_text(json.dumps(one))
    assert outline_of(str(tmp_path)) is None


@pytest.mark.parametrize("text", ["", "[1]", "{", '"vit"'])
def test_files_that_say_nothing_say_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    assert outline_of(str(tmp_path)) is None
    assert outline_of("google/vit-base-patch16-224") is None
