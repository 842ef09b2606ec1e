"""Laws of folders and objects as people have them: loaded, or refused by what they are and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import tiny
import torch
import transformers as hf
from models.test_model import photo
from timm.models import save_for_hf

import vislab


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A Trainer's checkpoint without a preprocessor file."""
    tiny.make("ViT classifier").save_pretrained(tmp_path / "bare")
    return tmp_path / "bare"


@pytest.fixture
def processor() -> Any:
    return hf.ViTImageProcessor(size={"height": 32, "width": 32})


def test_a_folder_without_a_processor_takes_one(bare: Path, processor: Any, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"no preprocessor_config.json, .* vislab.load\('.*bare', processor=…\)"):
        vislab.load(bare)
    loaded = vislab.load(bare, processor=processor)
    assert loaded.labels == tuple(f"LABEL_{index}" for index in range(5))
    processor.save_pretrained(tmp_path / "beside")
    assert vislab.load(bare, processor=tmp_path / "beside").preprocessing == loaded.preprocessing
    with pytest.raises(OSError, match="cannot load an image processor from"):
        vislab.load(bare, processor=bare)
    with pytest.raises(ValueError, match="processor is an image processor of transformers, or the folder"):
        vislab.load(bare, processor=3)
    processor.save_pretrained(bare)
    with pytest.raises(ValueError, match="brings its own preprocessing: leave processor out"):
        vislab.load(bare, processor=processor)


def test_a_folder_of_timm_is_loaded_with_its_names(tmp_path: Path) -> None:
    module = timm.create_model("vit_tiny_patch16_224", num_classes=3, embed_dim=48, depth=1, num_heads=3).eval()
    arguments = {"embed_dim": 48, "depth": 1, "num_heads": 3}
    config = {"label_names": ["a", "b", "c"]}
    save_for_hf(module, tmp_path, model_config=config, model_args=arguments, safe_serialization=True)
    loaded = vislab.load(tmp_path, device="cpu")
    assert loaded.labels == ("a", "b", "c")
    own = vislab.load(module, labels=["a", "b", "c"]).predict(photo((40, 40)))
    assert dict(loaded.predict(photo((40, 40)))) == pytest.approx(dict(own), rel=1e-4)
    with pytest.raises(ValueError, match="saved by timm and brings its own preprocessing"):
        vislab.load(tmp_path, processor=tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(said | {"architecture": "vit_of_another_time"}))
    with pytest.raises(OSError, match=r"cannot load .*, saved by timm"):
        vislab.load(tmp_path)


def test_what_is_no_model_s_folder_says_what_it_is(bare: Path, tmp_path: Path) -> None:
    (bare / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "google/vit"}))
    with pytest.raises(ValueError, match=r"PEFT adapter, not a whole model: load its base \(google/vit\)"):
        vislab.load(bare)
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes(b"")
    (other / "config.json").write_text(json.dumps({"backbone": "of a library of its own"}))
    with pytest.raises(ValueError, match=r"neither of transformers .* nor of timm .*: it says backbone"):
        vislab.load(other)


def test_a_pipeline_brings_its_module_and_its_processor(processor: Any) -> None:
    module = tiny.make("ViT classifier")
    pipeline = hf.pipeline("image-classification", model=module, image_processor=processor)
    model = vislab.load(pipeline)
    assert model.module is module
    assert model.preprocessing == vislab.load(module, processor=processor).preprocessing


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda: tiny.make("ViT").state_dict(), r"a state_dict of \d+ tensors is no model: make the module"),
        (lambda: {"model": tiny.make("ViT"), "epoch": 3}, "a checkpoint, a mapping; it holds a module: give that"),
        (lambda: hf.ViTModel, "ViTModel is a class of modules, not a module"),
        (lambda: 3, "takes a name, a folder or a torch module, and this is of type int"),
        (lambda: None, "of type NoneType"),
        (lambda: torch.zeros(3), "of type Tensor"),
    ],
)
def test_what_is_no_module_is_refused(what: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        vislab.load(what())
