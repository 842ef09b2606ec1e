"""Laws of what travels with a figure: it says all that is needed to make it again, and nothing of the machine."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pictures import BOXES, FORMATS, SETTINGS, heatmap, photo

from vislab.core.fingerprints import of_image
from vislab.core.geometry import Frame, Grid
from vislab.core.heatmap import Heatmap
from vislab.core.images import load_image
from vislab.figures import panel, png, provenance, save


@pytest.mark.parametrize("suffix", [*FORMATS, ".PDF"])
def test_how_it_was_made_travels_with_the_file(tmp_path: Path, suffix: str) -> None:
    heats = [heatmap(head=0), heatmap(head=1, model=object())]
    path = save.save(tmp_path / f"f{suffix}", heats, normalise=(0, 4), detections=BOXES, title=["(a)", "b\n"])
    record = provenance.provenance(path)
    one, other = record["maps"]
    assert one["method"] == "cls"
    assert one["target"] == "tench"
    assert one["settings"] == SETTINGS | {"head": 0, "query": [10.0, 20.5], "attention_scale": {"3": 0.5}}
    assert other["settings"]["model"] == "<object>"
    assert one["image"] == other["image"] == of_image(photo())
    assert record["images"] == {one["image"]: {"height": 32, "width": 48}}
    assert one["grid"] == asdict(heats[0].grid) | {"patch": [16, 16]}
    assert one["frame"]["source"] == [32, 48]
    assert one["colours"] == [0, 4]
    assert record["display"]["colormap"] == "viridis"
    assert record["detections"] == [{"label": "Äpfel & $x$", "score": 0.875, "xyxy": [2, 3, 20, 28]}]
    assert {"python", "vislab", "numpy", "torch"} <= set(record["versions"])
    assert str(tmp_path) not in str(record)


def test_bands_and_stretch_of_the_photo_are_in_the_record(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (32, 48, 5), np.uint16)
    image = load_image(values, bands=(4, 3, 2), stretch=(100, 4000))
    path = save.save(tmp_path / "f.png", replace(heatmap(), image=image))
    read = {"bands": [4, 3, 2], "stretch": [100.0, 4000.0], "ranges": [[100.0, 4000.0]] * 3}
    assert provenance.provenance(path)["images"] == {of_image(image): {"height": 32, "width": 48, **read}}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".npz"])
@pytest.mark.parametrize("count", [1, 3])
def test_the_call_in_the_file_makes_the_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, count: int
) -> None:
    image = photo()
    heats = [replace(heatmap([[head, 1], [2, 3]], head=head), method="attention") for head in range(count)]
    heat = heats[0] if count == 1 else heats
    path = save.save(
        tmp_path / f"mine{suffix}",
        heat,
        image=image,
        detections=BOXES,
        width=90,
        dpi=100,
        caption="It's",
        normalise="shared",
    )

    def explain(given: np.ndarray, *, method: str, head: int, **settings: object) -> Heatmap:
        assert given is image
        assert method == "attention"
        assert settings == {name: value for name, value in SETTINGS.items() if name != "head"}
        return heats[head if count > 1 else 0]

    monkeypatch.chdir(tmp_path)
    code = provenance.provenance(path)["call"]
    exec(
        code,
        {
            "vislab": SimpleNamespace(explain=explain, save=save.save, panel=panel.panel),
            "image": image,
            "boxes": BOXES,
        },
    )
    assert (tmp_path / f"figure{suffix}").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("content", [b"", b"{}", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4\n"])
def test_a_foreign_file_has_no_provenance(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"f{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="holds no provenance of vislab"):
        provenance.provenance(path)


def test_a_plain_picture_has_no_provenance(tmp_path: Path) -> None:
    (tmp_path / "f.png").write_bytes(png.png(photo()))
    with pytest.raises(ValueError, match="holds no provenance"):
        provenance.provenance(tmp_path / "f.png")
    with pytest.raises(ValueError, match=r"'\.txt': use one of \.png"):
        provenance.provenance(tmp_path / "f.txt")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere\.png"):
        provenance.provenance(tmp_path / "nowhere.png")
    with pytest.raises(FileNotFoundError):
        provenance.provenance(tmp_path / "none.png")


def call_of(*, grid: bool = False, **options: object) -> str:
    image = photo()
    heats = [Heatmap(np.eye(2), Grid(2, 2, (16, 16)), Frame.stretch((32, 48), (32, 32)), "rollout", image=image)]
    made = panel.panel([heats] if grid else heats[0], **options)
    return provenance.record_of(made, ".png")["call"]


def test_the_call_spells_out_no_defaults() -> None:
    assert call_of() == "heat = vislab.explain(image, method='rollout')\nvislab.save('figure.png', heat)"
    defaults = {name: value for name, value in panel.OPTIONS.items() if name not in ("detections", "rows", "columns")}
    assert call_of(**defaults) == call_of()
    assert call_of(opacity=1).endswith("vislab.save('figure.png', heat, opacity=1)")


def test_a_grid_of_photos_is_told_photo_by_photo() -> None:
    first, second = photo(), photo((48, 32))
    heats = [[first, heatmap()], [heatmap(source=(48, 32)), None]]
    record = provenance.record_of(panel.panel(heats), ".png")
    one, two = record["images"]
    assert (one, two) == (of_image(first), of_image(second))
    assert record["cells"] == [[one, 0], [1, None]]
    assert "[images[0], vislab.explain(images[0], " in record["call"]
    assert "[vislab.explain(images[1], " in record["call"]


def test_latex_puts_the_file_at_its_size_and_escapes_the_caption() -> None:
    made = panel.panel(heatmap(), width="column", caption=r"50% of_it & {\this} ~ 2^3 #1 $x$")
    lines = provenance.latex("my figure_1.pdf", made, made.caption)
    assert r"\includegraphics[width=85mm]{my figure_1.pdf}" in lines
    assert r"\label{fig:my-figure-1}" in lines
    said = r"50\% of\_it \& \{\textbackslash{}this\} \textasciitilde{} 2\textasciicircum{}3 \#1 \$x\$"
    assert f"\\caption{{{said}}}" in lines
    assert "includesvg" in provenance.latex("f.svg", made, "")
