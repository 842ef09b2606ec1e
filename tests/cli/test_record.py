"""vislab show says what is in a figure's record, and vislab reproduce what is no longer as it was."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import transformers as hf
from pictures import BOXES, heatmap, photo
from PIL import Image

import vislab
from vislab.cli import main, record


@pytest.fixture
def figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two maps of one photo that lies beside the figure, by a tiny model in a folder."""
    monkeypatch.chdir(tmp_path)
    config = hf.ViTConfig(**tiny.VIT, num_labels=3)
    hf.ViTForImageClassification(config).save_pretrained("tiny")
    hf.ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained("tiny")
    Image.fromarray(photo()).save("photo.png")
    asked = [{"method": "attention", "query": (30.0, 20.0), "layer": 0}, {"method": "grad_cam", "target": 2}]
    heats = [vislab.explain(photo(), model="tiny", **one) for one in asked]
    vislab.save("figure.png", vislab.panel(heats, detections=BOXES))
    return "figure.png"


def test_show_tells_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = hf.ViTConfig(**tiny.VIT, num_labels=3)
    model = vislab.load(hf.ViTForImageClassification(config))
    found = vislab.evaluate([photo()], model=model, methods=["rollout"], steps=2, randomised=0, progress=False)
    found.save(tmp_path / "curves.png")
    assert main.main(["show", str(tmp_path / "curves.png")]) == 0
    told = capsys.readouterr().out
    for row in found.rows():
        assert f"{row['method']}, {row['measure']}" in told
        assert f"{row['mean']:.3f}, n = 1" in told
    assert "one photograph: no average" in told
    assert "fill blur" in told
    assert "torch" in told


def test_show_tells_the_record_in_words(figure: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["show", figure]) == 0
    told = capsys.readouterr().out
    kept = vislab.provenance(figure)
    height, width = photo().shape[:2]
    for words in (
        *("map 1", "attention", "of patch", "layer 0", "map 2", "Grad-CAM", "Selvaraju", f"{width}×{height} px"),
        *(
            kept["call"],
            kept["caption"],
            *kept["images"],
            kept["maps"][0]["facts"]["weights"],
            *kept["versions"].values(),
        ),
        *(f"{label} {score:.2f}" for label, score in zip(BOXES.labels, BOXES.scores, strict=True)),
        *(f"{label} {share:.1%}" for label, share in kept["maps"][0]["facts"]["predictions"]),
    ):
        assert words in told
    given(told.split("makes it again:\n")[1])
    assert main.main(["show", figure, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == kept


def given(python: str) -> None:
    """Every name is made before it is used."""
    names = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Name)]
    made = {name.id: name.lineno for name in reversed(names) if isinstance(name.ctx, ast.Store)} | {"vislab": 1}
    assert python.startswith("import vislab\n")
    assert [one.id for one in names if made.get(one.id, len(python)) > one.lineno] == []


def test_the_python_of_several_photos_makes_all_that_it_names(figure: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = np.roll(photo(), 5, 1)
    vislab.save("two.png", [vislab.explain(one, model="tiny", method="cls") for one in (photo(), other)])
    assert main.main(["show", "two.png"]) == 0
    given(capsys.readouterr().out.split("makes it again:\n")[1])


def test_what_a_model_says_is_no_probability_where_it_is_none() -> None:
    facts = {"predictions": [["age", 41.5]], "scores": "a number"}
    assert record._answers(facts) == "age 41.5 (a number)"
    assert record._answers({}) == record._run_with({}) == ""


def test_reproduce_writes_the_same_figure_and_says_what_differs(
    figure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["reproduce", figure, "--out", "again.png"]) == 0
    assert capsys.readouterr().out == "nothing differs\nagain.png\n"
    assert Path("again.png").read_bytes() == Path(figure).read_bytes()
    Image.fromarray(np.roll(photo(), 5, 1)).save("other.png")
    assert main.main(["reproduce", figure, "--image", "other.png"]) == 1
    assert "the photo is another" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["show", "photo.png"], 1, "holds no provenance of vislab"),
        (["show", "missing.png"], 1, "there is no file 'missing.png'"),
        (["reproduce", "figure.png", "--out", "./figure.png"], 2, "would overwrite the figure"),
        (["reproduce", "figure.png", "--image", "photo.png", "--out", "photo.png"], 2, "would overwrite the photo"),
    ],
)
def test_what_cannot_be_told_or_written_is_said(
    words: list[str], status: int, said: str, figure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(words) == status
    assert said in capsys.readouterr().err


def test_show_tells_of_masks_in_a_panel_and_of_masks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    heat = heatmap()
    masks = vislab.segment(heat, method="otsu")
    vislab.save("panel.png", [heat, masks])
    vislab.save("alone.png", masks)
    for name in ("panel.png", "alone.png"):
        assert main.main(["show", name]) == 0
        told = capsys.readouterr().out
        assert f"1 by {masks.method}" in told
        if name == "panel.png":
            python = told.split("makes it again:\n")[1]
            given(python)
            assert "masks = [vislab.segment(image)]" in python
            assert "masks[0]," in python


def test_a_module_that_was_in_memory_is_called_so_and_its_python_names_no_model_that_load_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo()).save("photo.jpg", quality=95)
    image = vislab.load_image("photo.jpg")
    modules = [hf.ViTForImageClassification(hf.ViTConfig(**tiny.VIT, num_labels=3)) for _ in range(2)]
    first, second = (vislab.load(one, name=f"run {n}") for n, one in enumerate(modules))
    heats = [vislab.explain(image, model=one, method="cls") for one in (first, second)]
    for shown in (heats[:1], heats):
        vislab.save("memory.png", shown)
        assert main.main(["show", "memory.png"]) == 0
        told = capsys.readouterr().out
        assert "the model run 0, a transformers.models.vit.modeling_vit.ViTForImageClassification" in told
        python = told.split("makes it again:\n")[1].replace("figure.png", "again.png")
        given(python)
        names = ("module",) if len(shown) == 1 else ("module1", "module2")
        for name in names:
            assert f"{name} = ...  # yours, a " in python
        lines = [one for one in python.splitlines() if " = ...  #" not in one]
        exec("\n".join(lines), dict(zip(names, modules, strict=False)))
        assert Path("again.png").read_bytes() == Path("memory.png").read_bytes()
    assert main.main(["reproduce", "memory.png"]) == 1
    assert "'run 0' was a transformers.models.vit.modeling_vit.ViTForImageClassification in memory" in (
        capsys.readouterr().err
    )
    again = vislab.reproduce("memory.png", model={f"run {n}": one for n, one in enumerate(modules)})
    assert again.differences == ()
    Path("weights").mkdir()
    modules[0].save_pretrained("weights")  # without an image processor
    capsys.readouterr()
    assert main.main(["reproduce", "memory.png", "--model", "weights"]) == 1
    told = capsys.readouterr().err
    assert "was made with a module that Python held, its model 'run 0', a transformers.models.vit" in told
    assert "in Python vislab.reproduce(…, model=module) makes it again; vislab show has the call" in told
    assert "preprocessor_config" not in told
