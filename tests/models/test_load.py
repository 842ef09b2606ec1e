"""Laws of loading: what a name or a module leads to, and nothing opened that could do harm."""

from __future__ import annotations

import json
import pickle
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import transformers as hf
from models.test_model import offline_torchvision, photo
from torch import nn

import vislab
from vislab.core.images import samples
from vislab.models import load
from vislab.models.model import Model
from vislab.models.preprocessing import Preprocessing


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (
            lambda: hf.CLIPTextModel(hf.CLIPTextConfig(**tiny.TEXT)),
            "does not run on an input of 3 channels and 224×224",
        ),
        (lambda: nn.Conv2d(4, 4, 2, 2), "does not run on an input of 3 channels and 224×224"),
        (lambda: nn.Identity(), "has no weights"),
    ],
)
def test_modules_that_see_no_image_are_refused(module: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load.load(module())


@pytest.mark.parametrize("dtype", ["int8", torch.int8, "half-ish"])
def test_other_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(ValueError, match="dtype is float32, bfloat16, float16, float64, not"):
        load.load(tiny.make("ViT"), dtype=dtype)


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_devices_that_are_not_there_are_refused(device: str) -> None:
    with pytest.raises(ValueError, match=f"no device '{device}' here .* this machine has"):
        load.load(tiny.make("ViT"), device=device)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny.make("ViT classifier").save_pretrained(path)
    hf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(path)
    return path


@pytest.mark.parametrize("device", [False, 0, 1.5, [], ("cpu", 0), np.arange(3.0), torch.ones(2)])
@pytest.mark.parametrize("load", [vislab.load, vislab.load_detector])
def test_a_device_of_another_kind_is_refused(load: Callable[..., Any], device: Any) -> None:
    with pytest.raises(ValueError, match=r"device is a name such as 'cpu', or a torch.device, not"):
        load("embedded", device=device)


@pytest.mark.parametrize("load", [vislab.load, vislab.load_detector])
def test_nothing_is_loaded_to_the_meta_device(load: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="the meta device holds shapes and no weights"):
        load("embedded", device="meta")


@pytest.mark.parametrize("part", ["", "classifier"])
def test_a_module_without_its_weights_is_refused(part: str) -> None:
    module = tiny.make("ViT classifier")
    module.get_submodule(part).to("meta")
    with pytest.raises(ValueError, match="meta device, or a part of it: it has shapes there and no weights"):
        vislab.load(module)


@pytest.mark.parametrize("load", [vislab.load, vislab.load_detector])
def test_a_name_that_is_no_path_is_refused_in_a_short_sentence(load: Callable[..., Any]) -> None:
    for name in ("x" * 5000, "~nobody-by-this-name/x"):
        with pytest.raises(ValueError, match=r"unknown (model|detector) .* which is no path") as refused:
            load(name)
        assert len(str(refused.value)) < 300
    with pytest.raises(OSError, match="cannot load an image processor from") as unread:
        vislab.load(tiny.make("ViT classifier"), processor="x" * 5000)
    assert len(str(unread.value)) < 400


def test_labels_and_grids_of_other_kinds_are_refused() -> None:
    module = tiny.make("ViT classifier")
    for labels in (5, [1, 2], "cat", []):
        with pytest.raises(ValueError, match="labels is a list of names, one for each class, not"):
            vislab.load(module, labels=labels)  # type: ignore[arg-type]
    names = [f"kind {i}" for i in range(5)]
    assert vislab.load(module, labels=(name for name in names)).labels == tuple(names)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"grid is a vislab.Grid\(.*\), not \(4, 4\)"):
        vislab.load(module, grid=(4, 4))  # type: ignore[arg-type]


def test_whether_a_network_attends_is_known_after_a_few_forwards_of_whatever_size() -> None:
    ran: list[tuple[int, ...]] = []
    convolutional = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    convolutional.register_forward_pre_hook(lambda _, inputs: ran.append(tuple(inputs[0].shape)))
    assert not vislab.load(convolutional).attends
    assert len(ran) < 5, f"{len(ran)} forwards, of {sorted(set(ran))}"


def test_a_given_module_is_called_as_its_owner_says() -> None:
    module = hf.ViTModel(hf.ViTConfig(**tiny.VIT))
    named = vislab.load(module, name="epoch 30")
    assert (named.name, vislab.load(module).name, vislab.load(named, name="best").name) == (
        "epoch 30",
        "ViTModel",
        "best",
    )
    heat = vislab.explain(photo((32, 48)), model=named)
    assert (heat.settings["model"], heat.facts["module"]) == (
        "epoch 30",
        "transformers.models.vit.modeling_vit.ViTModel",
    )
    assert "module" not in vislab.explain(photo((32, 48)), model="embedded").facts
    for name in ("", 3, "two\nlines"):
        with pytest.raises(ValueError, match="name is a text in one line"):
            vislab.load(module, name=name)  # type: ignore[arg-type]


@pytest.mark.parametrize("load", [vislab.load, vislab.load_detector])
def test_what_others_load_by_its_name_takes_no_other(load: Callable[..., Any]) -> None:
    for known in ("embedded", load("embedded")):
        with pytest.raises(ValueError, match="embedded has a name"):
            load(known, name="mine")


def test_a_folder_is_loaded(folder: Path) -> None:
    loaded, given = load.load(folder), load.load(tiny.make("ViT classifier"))
    assert loaded.labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4")
    for (name, value), (again, theirs) in zip(
        loaded.module.named_parameters(), given.module.named_parameters(), strict=True
    ):
        assert name == again
        assert value.cpu().equal(theirs)
    assert loaded.preprocessing == Preprocessing((32, 32), "stretch", 1.0, (0.5,) * 3, (0.5,) * 3, "bilinear")
    best = loaded.predict(photo((50, 70)), top=9)
    assert [label for label, _ in best] != sorted(loaded.labels)
    assert sum(p for _, p in best) == pytest.approx(1, abs=1e-5)
    assert [p for _, p in best] == sorted((p for _, p in best), reverse=True)


def test_a_module_with_its_processor_is_what_its_folder_is(folder: Path) -> None:
    processor = hf.ViTImageProcessor.from_pretrained(folder)
    given = load.load(tiny.make("ViT classifier"), processor=processor, device="cpu")
    loaded, image = load.load(folder, device="cpu"), photo((50, 70))
    assert given.preprocessing == loaded.preprocessing != load.load(tiny.make("ViT classifier")).preprocessing
    assert dict(given.predict(image)) == pytest.approx(dict(loaded.predict(image)), rel=1e-5)
    for named in (folder, str(folder), "embedded", loaded):
        with pytest.raises(ValueError, match="brings its own preprocessing: leave processor out"):
            load.load(named, processor=processor)


@pytest.mark.parametrize("family", ["CLIP", "SigLIP", "DINOv2"])
def test_a_processor_is_taken_for_every_family(family: str) -> None:
    kinds = {"CLIP": hf.CLIPImageProcessor, "SigLIP": hf.SiglipImageProcessor, "DINOv2": hf.BitImageProcessor}
    processor = kinds[family]()
    model = load.load(tiny.make(family), processor=processor)
    assert model.preprocessing.mean == tuple(processor.image_mean)
    assert model.preprocessing.size == (224, 224)


@pytest.mark.parametrize(
    "sizes", [{}, {"image_size": 48}, {"patch_size": 4}, {"image_size": (48, 32), "patch_size": 16}]
)
@pytest.mark.parametrize("method", ["rollout", "relevance"])
def test_a_compiled_module_is_what_it_was_compiled_from(sizes: dict[str, Any], method: str) -> None:
    module = tiny.make("ViT classifier")
    plain, compiled = load.load(module), load.load(torch.compile(module, backend="eager"))
    assert compiled.name == plain.name
    heats = [vislab.explain(photo((50, 70)), model=model, method=method, **sizes).values for model in (plain, compiled)]
    assert np.array_equal(*heats)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (pytest.fail, ("a pickle was executed",))


def test_pickles_are_refused_unopened(folder: Path, tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb())
    for name in ("model.pt", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(bomb)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ValueError, match=r"model.pt is a file: give a folder .* Pickles .* vislab never opens them"):
        load.load(tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"needs config.json and model.safetensors \(pickles are not opened\); it hol"):
        load.load(tmp_path)


def test_code_beside_the_weights_is_never_run(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('executed')")
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(OSError, match="cannot load"):
        load.load(tmp_path)


def test_weights_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(OSError, match=r"its weights lack \d+ of the model's, such as .*2"):
        load.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(OSError, match="cannot load"):
        load.load(tmp_path)


@pytest.mark.parametrize("name", ["embeded", "", "/no/such/folder", "./here", "~/there"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown model .*: take 'embedded', a hub name such as"):
        load.load(name)


def test_unknown_names_of_torchvision_are_refused() -> None:
    with pytest.raises(ValueError, match="torchvision has no Vision Transformer 'vit_b_17': it has vit_b_16, vit_b_32"):
        load.load("torchvision/vit_b_17")


@pytest.mark.slow
def test_the_hub_offline_points_to_the_embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("the network was asked"))
    with pytest.raises(OSError, match=r"cannot load 'google/vit-base-patch16-224': .* vislab.load\('embedded'\)"):
        load.load("google/vit-base-patch16-224")

    # a network that swallows everything, and a user who has not said that there is none
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    silence = threading.Event()

    def swallowed(*_: Any, **__: Any) -> None:
        silence.wait(120)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", swallowed)
    started = time.monotonic()
    with pytest.raises(OSError, match=r"vislab.load\('embedded'\)"):
        load.load("google/vit-base-patch16-224")
    assert time.monotonic() - started < 60  # it did not wait for an answer
    silence.set()


def test_torchvision_s_weights_are_read_as_tensors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = offline_torchvision(monkeypatch)
    model = load.load("torchvision/vit_b_32")
    assert asked == [{"progress": False, "check_hash": True, "weights_only": True}]
    assert model.labels is not None
    assert len(model.labels) == 1000
    assert len(model.predict(photo((50, 70)))) == 5


def test_the_embedded_model_is_there_without_a_network() -> None:
    model = load.load()
    assert model.labels is not None
    assert len(model.labels) == 10
    assert "church" in model.labels
    assert len(model.predict(photo((50, 70)), top=3)) == 3
    assert isinstance(model, Model)
    assert load.load(model) is model


@pytest.mark.parametrize("name", ["church", "cathedral", "minster"])
def test_the_twin_is_the_embedded_model_with_other_weights(name: str) -> None:
    twin, taught = load.load("embedded-plain"), load.load()
    assert twin.preprocessing == taught.preprocessing
    assert (twin.name, twin.labels, twin.grid()) == ("embedded-plain", taught.labels, taught.grid())
    assert twin.predict(samples()[name], top=1)[0][0] == "church"
    kept, other = (one.module.state_dict() for one in (twin, taught))
    assert kept.keys() == other.keys()
    assert not torch.equal(kept["vit.embeddings.cls_token"], other["vit.embeddings.cls_token"])


@pytest.mark.parametrize("name", ["church", "cathedral", "minster"])
@pytest.mark.parametrize("patch_size", [8, 16, 32])
def test_the_embedded_model_knows_a_church_at_any_patch_size(name: str, patch_size: int) -> None:
    [(label, probability)] = load.load().predict(samples()[name], top=1, patch_size=patch_size)
    assert label == "church"
    assert probability > 0.4
