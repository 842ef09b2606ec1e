"""Laws of saved figures: in place, complete, telling how they were made, and the same bytes for the same call."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from vislab import export, render
from vislab.geometry import Frame, Grid, Heatmap

SETTINGS = {
    "model": "org/model (large)\\",
    "layer": 3,
    "head": np.int64(2),
    "query": (10.0, 20.5),
    "attention_scale": {3: 0.5},
}
FORMATS = [".png", ".jpg", ".jpeg", ".pdf", ".svg", ".npz"]
BOXES = SimpleNamespace(xyxy=np.array([[2.0, 3, 20, 28]]), score=np.array([0.875]), label=["Äpfel & $x$"])


def heatmap(values: object = ((0, 1), (2, 3)), source: tuple[int, int] = (32, 48), **settings: object) -> Heatmap:
    values = np.asarray(values, dtype=np.float32)
    grid = Grid(*values.shape, (16, 16), 1)
    frame = Frame.stretch(source, (grid.rows * 16, grid.cols * 16))
    return Heatmap(values, grid, frame, "cls", "tench", SETTINGS | settings)


def photo(size: tuple[int, int] = (32, 48)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def run_of(mask: np.ndarray) -> tuple[int, int]:
    """First and last position of the only run of True."""
    where = np.flatnonzero(mask)
    assert where[-1] - where[0] + 1 == len(where)
    return int(where[0]), int(where[-1]) + 1


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_call_writes_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    options = {"detections": BOXES, "smooth": True, "threshold": 0.2}
    first = export.save(tmp_path / f"a{suffix}", photo(), heatmap(), **options)
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "image.cmap": "jet"}):
        second = export.save(str(tmp_path / f"b{suffix}"), photo(), heatmap(), **options)
    assert isinstance(second, Path)
    assert first.read_bytes() == second.read_bytes()
    assert not re.search(rb"CreationDate|ModDate|<dc:date>", first.read_bytes())


@pytest.mark.parametrize("suffix", [*FORMATS, ".PDF"])
def test_how_it_was_made_travels_with_the_file(tmp_path: Path, suffix: str) -> None:
    heats = [heatmap(head=0), heatmap(head=1, model=object())]
    path = export.save(
        tmp_path / f"f{suffix}", photo(), heats, normalise=(0, 4), detections=BOXES, title=["(a)", "b\n"]
    )
    record = export.provenance(path)
    one, other = record["maps"]
    assert one["method"] == "cls"
    assert one["target"] == "tench"
    assert one["settings"] == SETTINGS | {"head": 0, "query": [10.0, 20.5], "attention_scale": {"3": 0.5}}
    assert other["settings"]["model"] == "<object>"
    assert one["grid"] == asdict(heats[0].grid) | {"patch": [16, 16]}
    assert one["frame"]["source"] == [32, 48]
    assert one["colours"] == [0, 4]
    assert record["display"]["colormap"] == "viridis"
    assert record["detections"] == [{"label": "Äpfel & $x$", "score": 0.875, "xyxy": [2, 3, 20, 28]}]
    assert {"python", "vislab", "numpy", "torch"} <= set(record["versions"])
    assert str(tmp_path) not in str(record)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".npz"])
@pytest.mark.parametrize("count", [1, 3])
def test_the_call_in_the_file_makes_the_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, count: int
) -> None:
    image, heats = photo(), [heatmap([[head, 1], [2, 3]], head=head) for head in range(count)]
    heat = heats[0] if count == 1 else heats
    path = export.save(
        tmp_path / f"mine{suffix}",
        image,
        heat,
        detections=BOXES,
        width_mm=90,
        dpi=100,
        caption="It's",
        normalise="shared",
    )

    def explain(given: np.ndarray, *, method: str, head: int, **settings: object) -> Heatmap:
        assert given is image
        assert method == "cls"
        assert settings == {name: value for name, value in SETTINGS.items() if name != "head"}
        return heats[head if count > 1 else 0]

    monkeypatch.chdir(tmp_path)
    code = export.provenance(path)["call"]
    exec(code, {"vislab": SimpleNamespace(explain=explain, save=export.save), "image": image, "boxes": BOXES})
    assert (tmp_path / f"figure{suffix}").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize(
    "frame",
    [
        Frame.stretch((60, 90), (64, 64)),
        Frame.crop((90, 60), (96, 64), (64, 64)),
        Frame.letterbox((61, 93), (128, 128)),
    ],
    ids=["stretch", "crop", "letterbox"],
)
def test_a_lit_patch_is_printed_where_it_belongs(tmp_path: Path, frame: Frame, smooth: bool) -> None:
    grid = Grid.of(frame.model, (16, 16))
    row, col = grid.rows // 2, 1
    values = np.zeros((grid.rows, grid.cols))
    values[row, col] = 1
    heat = Heatmap(values, grid, frame, "cls")
    black = np.zeros((*frame.source, 3), np.uint8)
    drawn = {"opacity": 1, "colormap": "gray", "threshold": 0.5, "smooth": smooth, "caption": ""}
    page = pixels(export.save(tmp_path / "f.png", black, heat, **drawn)).mean(-1)

    edge = round(export.EDGE / 25.4 * 300) + 4  # on the page's white, then on the black photo, beside the lit patch
    left, top = (int(np.argmax(line < 128)) for line in (page[edge], page[:, edge]))
    bottom = top + int(np.argmax(page[top:, edge] > 128))
    scale = (bottom - top) / frame.source[0]
    bright = page[top:bottom, left : left + round(frame.source[1] * scale) - 1] > 120
    x0, y0, x1, y1 = np.array(heat.box(row, col)) * scale
    for found, expected in ((run_of(bright.any(0)), (x0, x1)), (run_of(bright.any(1)), (y0, y1))):
        assert found == pytest.approx(expected, abs=1.5)  # print pixels


def test_the_layer_stands_on_the_grid_and_the_photo_on_itself(tmp_path: Path) -> None:
    frame = Frame.crop((90, 61), (96, 65), (64, 64))
    heat = Heatmap(np.eye(3), Grid(3, 3, (20, 20)), frame, "cls")
    look = export._Look(0.5, "viridis", False, "map", 0.4)
    panels = export._Panels(photo((90, 61)), [heat], [(0, 1)], [""], None, vector=True)
    ax = export._figure(panels, look, "", 80).axes[0]
    under, over = ax.images
    assert under.get_extent() == [0, 61, 90, 0]
    assert (under.get_array() == panels.image).all()
    x0, y0, x1, y1 = frame.box_to_source((0, 0, 60, 60))
    assert over.get_extent() == pytest.approx([x0, x1, y1, y0])
    layer = over.get_array()
    fine = layer.shape[0] // 3
    assert (layer[:fine, :fine] == [253, 231, 37, 128]).all()
    assert (layer[:fine, fine:, 3] == 0).all()
    width, height = (ax.bbox.width, ax.bbox.height)
    assert height / width == pytest.approx(90 / 61)


@pytest.mark.parametrize("normalise", ["map", "shared", "absolute", (0, 10)])
def test_panels_have_their_own_bars_or_one_together(normalise: export.Normalise) -> None:
    heats = [heatmap([[0, k], [k, 2 * k]], head=k) for k in (1, 2, 3)]
    spans = export._spans(heats, normalise)
    expected = {"map": [(0, 2), (0, 4), (0, 6)], "shared": [(0, 6)] * 3, "absolute": [(0, 1)] * 3}
    assert spans == (expected[normalise] if isinstance(normalise, str) else [(0, 10)] * 3)
    look = export._Look(0.5, "viridis", False, normalise, 0)
    panels = export._Panels(photo(), heats, spans, export._titles(heats), None, vector=False)
    figure = export._figure(panels, look, export._caption(heats, spans, look), None)
    assert len(figure.axes) == (6 if normalise == "map" else 4)
    words = " ".join(text.get_text() for text in figure.texts)
    assert "head 1" in words
    assert words.count("layer 3") == 1
    named = {"map": "per map", "shared": "shared", "absolute": "absolute"}
    assert (named[normalise] if isinstance(normalise, str) else "from 0 to 10") in words


@pytest.mark.parametrize("count", [1, 2, 6, 7, 12, 13])
@pytest.mark.parametrize("source", [(32, 48), (200, 40)])
def test_nothing_overlaps_or_leaves_the_page(count: int, source: tuple[int, int]) -> None:
    heats = [heatmap(np.eye(2) * 1e-5 * (k + 1), source, head=k) for k in range(count)]
    look = export._Look(0.5, "viridis", True, "map", 0.1)
    spans = export._spans(heats, "map")
    panels = export._Panels(photo(source), heats, spans, export._titles(heats), None, vector=False)
    figure = export._figure(panels, look, export._caption(heats, spans, look), None)
    page = figure.bbox
    boxes = [ax.get_tightbbox() for ax in figure.axes] + [text.get_window_extent() for text in figure.texts]
    for index, box in enumerate(boxes):
        assert min(box.x0, box.y0) >= -0.5, box
        assert box.x1 <= page.x1 + 0.5, box
        assert box.y1 <= page.y1 + 0.5, box
        for other in boxes[:index]:
            apart = max(other.x0 - box.x1, box.x0 - other.x1, other.y0 - box.y1, box.y0 - other.y1)
            assert apart >= -1, (box, other)


def test_labels_of_boxes_stay_on_the_photo() -> None:
    heat = heatmap(source=(80, 120))
    corners = np.array([[-9.0, -9, 30, 30], [110, 70, 130, 90], [118, 2, 120, 9]])
    found = SimpleNamespace(xyxy=corners, score=np.ones(3), label=["golf ball", "gas pump", "chain saw"])
    panels = export._Panels(photo((80, 120)), [heat], [(0, 3)], [""], found, vector=False)
    ax = export._figure(panels, export._Look(0.5, "viridis", False, "map", 0), "", None).axes[0]
    assert [text.get_text() for text in ax.texts] == ["golf ball 1.00", "gas pump 1.00", "chain saw 1.00"]
    for text in ax.texts:
        box = text.get_window_extent()
        assert ax.bbox.x0 <= box.x0 < box.x1 <= ax.bbox.x1
        assert ax.bbox.y0 <= box.y0 < box.y1 <= ax.bbox.y1


def test_text_is_text_and_the_photo_is_held_once(tmp_path: Path) -> None:
    image, heats = photo((400, 300)), [heatmap(np.eye(2) * k, (400, 300), head=k) for k in range(1, 6)]
    svg = export.save(tmp_path / "f.svg", image, heats, detections=BOXES)
    words = [element.text for element in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "head 3" in words
    assert "Äpfel & $x$ 0.88" in words
    assert svg.stat().st_size < 2.5 * image.size
    tree = ElementTree.parse(svg).getroot()
    names = [element.get("id") for element in tree.iter() if element.get("id")]
    uses = [e.get("{http://www.w3.org/1999/xlink}href", "")[1:] for e in tree.iter("{http://www.w3.org/2000/svg}use")]
    assert [use for use in uses if use.startswith("image")] == [uses[0]] * 5
    assert set(uses) <= set(names)
    pdf = export.save(tmp_path / "f.pdf", image, heats)
    assert b"/FontFile2" in pdf.read_bytes()  # TrueType, as type 42
    assert b"/Type3" not in pdf.read_bytes()
    assert re.findall(rb"/Width 300\b|/Height 400\b", pdf.read_bytes())
    assert pdf.stat().st_size < 1.5 * image.size


def test_the_photo_keeps_its_pixels_in_svg(tmp_path: Path) -> None:
    import base64

    image = photo((40, 60))
    svg = export.save(tmp_path / "f.svg", image, heatmap(source=(40, 60))).read_text()
    data = re.search(r"data:image/png;base64,\s*([^\"]+)\"", svg)[1]
    with Image.open(io.BytesIO(base64.b64decode(data))) as held:
        assert (np.asarray(held.convert("RGB")) == image).all()


def test_width_and_dpi_set_the_pixels(tmp_path: Path) -> None:
    path = export.save(tmp_path / "f.png", photo((30, 90)), heatmap(source=(30, 90)), width_mm=127, dpi=200)
    assert pixels(path).shape[1] == pytest.approx(1000, abs=1)
    with Image.open(path) as image:
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)


def test_npz_holds_the_numbers(tmp_path: Path) -> None:
    heats = [heatmap(), heatmap([[5, 6, 7]])]
    with np.load(export.save(tmp_path / "one.npz", photo(), heats[0])) as file:
        assert (file["values"] == heats[0].values).all()
        assert file["grid"].tolist() == [2, 2, 16, 16, 1, 0]
        source, model, scale, offset = file["frame"]
        again = Frame(tuple(map(int, source)), tuple(map(int, model)), tuple(scale), tuple(offset))
        assert again == heats[0].frame
    with np.load(export.save(tmp_path / "two.npz", photo(), heats)) as file:
        assert (file["values_1"] == heats[1].values).all()


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("f.gif", {}, ValueError, r"'\.gif': use one of \.png, .*\.npz"),
        ("f", {}, ValueError, "written as 'f'"),
        ("none/f.png", {}, FileNotFoundError, "no folder .*none: make it first"),
        ("f.png", {"heat": []}, ValueError, "no heatmap to save"),
        ("f.png", {"image": photo((9, 9))}, ValueError, "pass the image that was explained"),
        ("f.npz", {"image": photo((9, 9))}, ValueError, "pass the image that was explained"),
        ("f.pdf", {"title": ["a", "b"]}, ValueError, "1 panels take 1 titles, not 2"),
        ("f.pdf", {"width_mm": -1}, ValueError, "above zero, not -1 mm"),
        ("f.pdf", {"width_mm": 5}, ValueError, "take a larger width_mm"),
        ("f.png", {"dpi": 0}, ValueError, "above zero"),
        ("f.svg", {"colormap": "virids"}, ValueError, "did you mean 'viridis'"),
        ("f.svg", {"normalise": "rank"}, ValueError, "no normalisation 'rank'"),
    ],
)
def test_a_refused_figure_leaves_nothing(
    tmp_path: Path, name: str, options: dict[str, object], error: type[Exception], words: str
) -> None:
    arguments = {"image": photo(), "heat": heatmap()} | options
    with pytest.raises(error, match=words):
        export.save(tmp_path / name, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.png"
    path.write_bytes(b"earlier")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(export.os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        export.save(path, photo(), heatmap())
    assert [file.name for file in tmp_path.iterdir()] == ["f.png"]
    assert path.read_bytes() == b"earlier"


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("content", [b"", b"{}", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4\n"])
def test_a_foreign_file_has_no_provenance(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"f{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="holds no provenance of vislab"):
        export.provenance(path)


def test_a_plain_picture_has_no_provenance(tmp_path: Path) -> None:
    (tmp_path / "f.png").write_bytes(render.png(photo()))
    with pytest.raises(ValueError, match="holds no provenance"):
        export.provenance(tmp_path / "f.png")
    with pytest.raises(ValueError, match=r"'\.txt': use one of \.png"):
        export.provenance(tmp_path / "f.txt")
    with pytest.raises(FileNotFoundError):
        export.provenance(tmp_path / "none.png")


def test_saving_changes_nothing_global(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np, matplotlib\n"
        "before = dict(matplotlib.rcParams)\n"
        "from vislab import export\n"
        "from vislab.geometry import *\n"
        "heat = Heatmap(np.eye(2), Grid(2, 2, (8, 8)), Frame.stretch((16, 16), (16, 16)), 'cls')\n"
        "for suffix in ('png', 'pdf', 'svg'):\n"
        f"    export.save({str(tmp_path)!r} + '/f.' + suffix, np.zeros((16, 16, 3), np.uint8), heat)\n"
        "assert dict(matplotlib.rcParams) == before\n"
        "assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
