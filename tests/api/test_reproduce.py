"""Laws of reproduction: a figure made again is pixel for pixel the same, and what is not as it was is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import transformers as hf
from pictures import BOXES, heatmap, photo
from PIL import Image

import vislab
from vislab.api import reproduce
from vislab.core.files import assets
from vislab.figures import provenance, save
from vislab.models import describe, load
from vislab.models.known import EMBEDDED

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> vislab.Model:
    """A tiny model with random weights, known by the name "tiny"."""
    config = hf.ViTConfig(**SIZE, image_size=32, patch_size=8, num_labels=3)
    made = describe.described("tiny", hf.ViTForImageClassification(config).eval(), None)
    named = load._named
    monkeypatch.setattr("vislab.models.load._named", lambda name, *how: made if name == "tiny" else named(name, *how))
    vislab.cache().clear()
    return made


@pytest.fixture
def beside(tmp_path: Path) -> np.ndarray:
    """A photo that lies beside the figures."""
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    return photo()


def grid(model: vislab.Model, image: np.ndarray) -> vislab.pages.Panel:
    asked: list[dict[str, Any]] = [
        {"method": "cls", "layer": 0, "head": 1, "attention_scale": {0: 0.5, -1: 2.0}},
        {"method": "attention", "query": (30.0, 20.0), "image_size": (32, 64)},
        {"discard": 0.5, "patch_size": 4},
    ]
    heats = [vislab.explain(image, model=model, **one) for one in asked]
    options: dict[str, Any] = {"normalise": "row", "theme": "dark", "dpi": 80, "caption": "It's"}
    return vislab.panel([[image, *heats[:1]], [heats[1], heats[2]]], rows=["a", "b"], detections=BOXES, **options)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".pdf", ".svg", ".npz"])
def test_a_figure_made_again_is_the_same_to_the_byte(
    tmp_path: Path, model: vislab.Model, beside: np.ndarray, suffix: str
) -> None:
    path = vislab.save(tmp_path / f"figure{suffix}", grid(model, beside))
    again = vislab.reproduce(path)
    assert again.differences == ()
    assert str(again) == "nothing differs"
    assert vislab.save(tmp_path / f"again{suffix}", again.panel).read_bytes() == path.read_bytes()


def test_a_plain_overlay_is_made_again(tmp_path: Path, model: vislab.Model, beside: np.ndarray) -> None:
    path = vislab.save(tmp_path / "f.png", vislab.explain(beside, model=model), plain=True)
    again = vislab.reproduce(path)
    assert again.differences == ()
    assert vislab.save(tmp_path / "again.png", again.panel, plain=True).read_bytes() == path.read_bytes()


def test_a_folder_in_the_place_of_a_module_makes_the_figure_that_bears_its_name(
    tmp_path: Path, beside: np.ndarray
) -> None:
    folder = assets() / "models" / EMBEDDED["embedded"]
    own = vislab.load(vislab.load("embedded").module, processor=folder, name="bridge, untrained")
    path = tmp_path / "own.png"
    vislab.save(path, vislab.explain(beside, model=own, method="cls"))
    again = vislab.reproduce(path, image=beside, model=folder)
    assert again.differences == ()
    assert "bridge, untrained" in again.panel.caption


def test_a_list_and_a_range_of_colours_come_back(tmp_path: Path, model: vislab.Model, beside: np.ndarray) -> None:
    heats = [vislab.explain(beside, model=model, method="cls", head=head) for head in (0, 1)]
    path = vislab.save(tmp_path / "f.png", heats, normalise=(0, 0.2), title=["x", "y"], dpi=60)
    again = vislab.reproduce(path)
    assert again.differences == ()
    assert again.panel.listed
    assert again.panel.look.normalise == (0, 0.2)


def test_the_samples_of_vislab_are_found(tmp_path: Path, model: vislab.Model) -> None:
    image = vislab.load_image(vislab.samples()["coffee"])
    path = vislab.save(tmp_path / "f.npz", vislab.explain(image, model=model))
    assert vislab.reproduce(path).differences == ()


def test_a_photo_of_many_bands_is_read_as_it_was(tmp_path: Path, model: vislab.Model) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (32, 48, 5), np.uint16)
    tifffile.imwrite(tmp_path / "bands.tif", values, photometric="minisblack", planarconfig="contig")
    image = vislab.load_image(tmp_path / "bands.tif", bands=(4, 3, 2), stretch="percentile")
    path = vislab.save(tmp_path / "figure.png", vislab.explain(image, model=model))
    for given in (None, tmp_path / "bands.tif", image):
        again = vislab.reproduce(path, image=given)
        assert again.differences == ()


def test_a_missing_photo_is_asked_for(tmp_path: Path, model: vislab.Model) -> None:
    path = vislab.save(tmp_path / "f.npz", vislab.explain(photo(), model=model))
    Image.fromarray(255 - photo()).save(tmp_path / "other.png")  # of the same size
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(
        FileNotFoundError, match=r"f\.npz is not there: .*48×32 px.*image=…, or in the terminal as --image PHOTO"
    ):
        vislab.reproduce(path)
    assert vislab.reproduce(path, image=photo()).differences == ()


def test_another_photo_is_told(tmp_path: Path, model: vislab.Model, beside: np.ndarray) -> None:
    path = vislab.save(tmp_path / "f.png", vislab.explain(beside, model=model), dpi=60)
    said = str(vislab.reproduce(path, image=255 - beside))
    assert "the photo is another" in said
    assert "of the picture's values differ" in said
    with pytest.raises(ValueError, match="shows 1 photos, not 2"):
        vislab.reproduce(path, image=[beside, beside])


def test_other_weights_and_dtype_are_told(tmp_path: Path, model: vislab.Model, beside: np.ndarray) -> None:
    path = vislab.save(tmp_path / "f.png", vislab.explain(beside, model=model), dpi=60)
    with torch.no_grad():
        model.module.vit.embeddings.cls_token += 1
    said = str(vislab.reproduce(path))
    assert "weights of tiny" in said
    assert "dtype" not in said
    model.module.to(torch.float64)
    assert "dtype of tiny: float32 then, float64 now" in str(vislab.reproduce(path, model=model))


@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".npz"])
def test_other_values_are_told_in_every_format(
    tmp_path: Path, model: vislab.Model, beside: np.ndarray, suffix: str
) -> None:
    """Though the colours, from 0 to 1, are the same."""
    heat = vislab.explain(beside, model=model)
    path = vislab.save(tmp_path / f"f{suffix}", replace(heat, values=heat.values[::-1] / 2), normalise=(0, 1))
    said = "values differ by at most" if suffix == ".npz" else "the drawing differs"
    assert said in str(vislab.reproduce(path))


def test_the_map_of_a_region_comes_back(tmp_path: Path, model: vislab.Model, beside: np.ndarray) -> None:
    heat = vislab.explain(beside, model=model, method="cls", region=(8, 4, 40, 30))
    path = vislab.save(tmp_path / "f.pdf", heat)
    assert vislab.reproduce(path).differences == ()
    assert "region=(8, 4, 40, 30)" in vislab.provenance(path)["call"]


def test_a_figure_names_no_path_of_this_machine(tmp_path: Path, model: vislab.Model, beside: np.ndarray) -> None:
    folder = tmp_path / "mine"
    model.module.save_pretrained(folder)
    hf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    path = vislab.save(tmp_path / "f.svg", vislab.explain(beside, model=folder))
    assert str(tmp_path) not in path.read_text()
    assert vislab.provenance(path)["maps"][0]["settings"]["model"] == "mine"
    with pytest.raises(ValueError, match=r"unknown model 'mine'.*model=…"):
        vislab.reproduce(path)
    assert vislab.reproduce(path, model=folder).differences == ()


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png", "npz"])
def test_a_figure_whose_caption_stands_in_a_text_is_made_again(
    tmp_path: Path, model: vislab.Model, beside: np.ndarray, suffix: str
) -> None:
    path = vislab.save(tmp_path / f"f.{suffix}", vislab.explain(beside, model=model), beside="tex")
    assert str(vislab.reproduce(path)) == "nothing differs"


def test_other_versions_are_told(tmp_path: Path, model: vislab.Model, beside: np.ndarray) -> None:
    made = vislab.panel(vislab.explain(beside, model=model))
    record = provenance.record_of(made, ".npz")
    record["versions"] = record["versions"] | {"torch": "1.0", "gone": "2"}
    (tmp_path / "f.npz").write_bytes(save.file_of(made, ".npz", record))
    now = record["versions"] | provenance.versions()
    assert vislab.reproduce(tmp_path / "f.npz").differences == (
        f"torch was 1.0, and is {now['torch']}",
        "gone was 2, and is not there",
    )


def test_what_only_python_knew_is_asked_for(tmp_path: Path, model: vislab.Model, beside: np.ndarray) -> None:
    own = describe.described("mine", model.module, None)
    path = vislab.save(tmp_path / "f.npz", vislab.explain(beside, model=own))
    with pytest.raises(ValueError, match=r"unknown model 'mine'.*model=…"):
        vislab.reproduce(path)
    assert vislab.reproduce(path, model=own).differences == ()
    assert vislab.reproduce(path, model={"mine": own}).differences == ()
    path = vislab.save(tmp_path / "g.npz", heatmap(target=len))
    with pytest.raises(ValueError, match="target was <builtin_function_or_method>, an object that only Python knew"):
        vislab.reproduce(path)


def test_a_file_without_maps_is_refused(tmp_path: Path) -> None:
    record = np.array(json.dumps({"vislab": "0", "evaluation": {}}))
    np.savez(tmp_path / "f.npz", provenance=record)
    with pytest.raises(ValueError, match="no figure of heatmaps"):
        reproduce.reproduce(tmp_path / "f.npz")


@pytest.mark.parametrize("beside", [False, True], ids=["masks alone", "a panel"])
def test_masks_are_not_made_again(tmp_path: Path, beside: bool) -> None:
    heat = heatmap()
    masks = vislab.segment(heat, method="otsu")
    path = vislab.save(tmp_path / "f.png", [heat, masks] if beside else masks)
    with pytest.raises(ValueError, match=r"f\.png shows masks.*make them again by vislab\.segment"):
        vislab.reproduce(path)


def test_a_notebook_shows_the_figure_and_what_differs(tmp_path: Path, model: vislab.Model, beside: np.ndarray) -> None:
    path = vislab.save(tmp_path / "f.npz", vislab.explain(beside, model=model))
    shown = vislab.reproduce(path)._repr_html_()
    assert 'src="data:image/png;base64,' in shown
    assert "<li>nothing differs</li>" in shown
