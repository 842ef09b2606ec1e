"""Laws of saved figures: in place, complete, and the same bytes for the same call."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from pictures import BOXES, FORMATS, heatmap, photo, pixels
from PIL import Image

from vislab.core.heatmap import Heatmap
from vislab.figures import overlay, save
from vislab.figures.panel import panel
from vislab.figures.provenance import latex, provenance


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_call_writes_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    options = {"detections": BOXES, "smooth": True, "threshold": 0.2}
    first = save.save(tmp_path / f"a{suffix}", heatmap(), **options)
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "image.cmap": "jet"}):
        second = save.save(str(tmp_path / f"b{suffix}"), heatmap(), **options)
    assert isinstance(second, Path)
    assert first.read_bytes() == second.read_bytes()
    assert not re.search(rb"CreationDate|ModDate|<dc:date>", first.read_bytes())


def test_width_and_dpi_set_the_pixels(tmp_path: Path) -> None:
    path = save.save(tmp_path / "f.png", heatmap(source=(30, 90)), width=127, dpi=200)
    assert pixels(path).shape[1] == pytest.approx(1000, abs=1)
    with Image.open(path) as image:
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("f.gif", {}, ValueError, r"'\.gif': use one of \.png, .*\.npz"),
        ("f", {}, ValueError, "written as 'f'"),
        ("f.html", {}, ValueError, r"vislab\.Lab\(image\)\.save\('page\.html'\)"),
        ("f.jpg", {"transparent": True}, ValueError, "take .png, .pdf or .svg"),
        ("f.pdf", {"beside": "txt"}, ValueError, "'npz', in a list, not 'txt'"),
        ("f.pdf", {"heats": photo()}, ValueError, "no heatmap to show"),
        ("f.pdf", {"heats": panel(heatmap()), "opacity": 1}, ValueError, "leave opacity out"),
        ("f.pdf", {"heats": panel(heatmap()), "image": photo()}, ValueError, "leave image out"),
        ("f.pdf", {"colourmap": "magma"}, ValueError, "no option 'colourmap'; did you mean 'colormap'"),
        ("f.pdf", {"oppacity": 1, "width": "page"}, ValueError, "no option 'oppacity'; did you mean 'opacity'"),
        ("f.pdf", {"besides": "npz"}, ValueError, "no option 'besides'; did you mean 'beside'"),
        ("f.pdf", {"query": "cls"}, ValueError, "no option 'query': it has rows, columns, .*, beside"),
        ("f.pdf", {"heats": replace(heatmap(), image=None)}, ValueError, "no photograph: give .*image="),
        ("none/f.png", {}, FileNotFoundError, "no folder .*none': make it first"),
        ("f.png", {"heats": []}, ValueError, "no heatmap"),
        ("f.png", {"image": photo((9, 9))}, ValueError, "give the image that was explained"),
        ("f.npz", {"image": photo((9, 9))}, ValueError, "give the image that was explained"),
        ("f.pdf", {"title": ["a", "b"]}, ValueError, "1 panels take 1 titles, not 2"),
        ("f.pdf", {"width": -1}, ValueError, "above zero, up to"),
        ("f.pdf", {"width": 5}, ValueError, "take a larger width"),
        ("f.png", {"dpi": 0}, ValueError, "above zero"),
        ("f.svg", {"colormap": "virids"}, ValueError, "did you mean 'viridis'"),
        ("f.svg", {"normalise": "rank"}, ValueError, "no normalisation 'rank'"),
    ],
)
def test_a_refused_figure_leaves_nothing(
    tmp_path: Path, name: str, options: dict[str, object], error: type[Exception], words: str
) -> None:
    arguments = {"heats": heatmap()} | options
    with pytest.raises(error, match=words):
        save.save(tmp_path / name, **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_saving_changes_nothing_global(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np, matplotlib\n"
        "before = dict(matplotlib.rcParams)\n"
        "import vislab\n"
        "from vislab import Frame, Grid, Heatmap\n"
        "heat = Heatmap(np.eye(2), Grid(2, 2, (8, 8)), Frame.stretch((16, 16), (16, 16)), 'cls',\n"
        "               image=np.zeros((16, 16, 3), np.uint8))\n"
        "for suffix in ('png', 'pdf', 'svg'):\n"
        f"    vislab.save({str(tmp_path)!r} + '/f.' + suffix, heat)\n"
        "assert dict(matplotlib.rcParams) == before\n"
        "assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("heats", [heatmap(), [heatmap(), heatmap(head=1)], [[heatmap()], [heatmap(head=1)]]])
def test_a_photograph_that_is_given_takes_the_place_of_the_heatmaps_own(tmp_path: Path, heats: object) -> None:
    def on(image: np.ndarray | None, heats: object) -> object:
        return [on(image, one) for one in heats] if isinstance(heats, list) else replace(heats, image=image)

    other = 255 - photo()
    own = save.save(tmp_path / "own.png", heats).read_bytes()
    drawn = save.save(tmp_path / "other.png", heats, image=other).read_bytes()
    assert drawn == save.save(tmp_path / "bare.png", on(None, heats), image=other).read_bytes()
    assert drawn == save.save(tmp_path / "replaced.png", on(other, heats)).read_bytes()
    assert drawn != own


def test_a_panel_and_its_heatmaps_are_saved_alike(tmp_path: Path) -> None:
    heats = [heatmap(head=0), heatmap(head=1)]
    one = save.save(tmp_path / "a.png", heats, theme="dark", normalise="shared")
    two = save.save(tmp_path / "b.png", panel(heats, theme="dark", normalise="shared"))
    assert one.read_bytes() == two.read_bytes()


def test_what_stands_beside_a_figure_is_about_it(tmp_path: Path) -> None:
    path = save.save(tmp_path / "f.pdf", heatmap(), beside=("json", "tex", "npz"))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["f.json", "f.npz", "f.pdf", "f.tex"]
    assert json.loads((tmp_path / "f.json").read_text()) == provenance(path) == provenance(tmp_path / "f.npz")
    assert "{f.pdf}" in (tmp_path / "f.tex").read_text()
    with np.load(tmp_path / "f.npz") as file:
        assert (file["values"] == heatmap().values).all()


@pytest.mark.parametrize("caption", [None, "mine"])
def test_with_tex_beside_it_a_figure_has_the_caption_of_its_own_alone(tmp_path: Path, caption: str | None) -> None:
    given = {} if caption is None else {"caption": caption}
    made = panel(heatmap(), **given)
    for heats, options in ((heatmap(), given), (made, {})):
        beside = save.save(tmp_path / "beside.png", heats, beside=("tex",), **options)
        alone = save.save(tmp_path / "alone.png", heatmap(), caption=caption or "")
        assert (pixels(beside) == pixels(alone)).all()
        assert latex("beside.png", made, made.caption) == (tmp_path / "beside.tex").read_text()
        assert provenance(beside)["caption"] == made.caption


def test_the_figure_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr("vislab.figures.save.write", lambda path, data: written.append(path.suffix))
    save.save(tmp_path / "f.pdf", heatmap(), beside=("json", "tex", "npz"))
    assert written[-1] == ".pdf"
    assert sorted(written) == [".json", ".npz", ".pdf", ".tex"]


def test_a_plain_overlay_is_the_photo_at_its_own_size_with_its_record(tmp_path: Path) -> None:
    heat = heatmap()
    more = {"normalise": (0, 9), "detections": BOXES, "opacity": 0.3}
    path = save.save(tmp_path / "f.png", heat, plain=True, beside="json", **more)
    assert (pixels(path) == overlay.overlay(heat, **more)).all()
    assert (pixels(save.save(path, heat, plain=True, normalise="shared")) == overlay.overlay(heat)).all()
    call = provenance(path)["call"]
    assert call.endswith("vislab.save('figure.png', heat, normalise='shared', plain=True)")
    assert save.save(tmp_path / "f.jpg", heat, plain=True).stat().st_size > 0


@pytest.mark.parametrize(
    ("name", "heats", "options", "said"),
    [
        ("f.pdf", [heatmap()], {}, r"is a picture, \.png, \.jpg, \.jpeg, not \.pdf"),
        ("f.npz", [heatmap()], {}, r"is a picture, .* not \.npz"),
        ("f.png", [heatmap(), heatmap()], {}, "of one heatmap, not of 2 pictures"),
        ("f.png", [heatmap()], {"width": 80}, "width is of a page"),
        ("f.png", [heatmap()], {"beside": "tex"}, "tex is of a page"),
        ("f.png", [heatmap()], {"plain": "yes"}, "plain is True or False"),
    ],
)
def test_what_a_plain_overlay_has_not_is_refused(
    tmp_path: Path, name: str, heats: list[Heatmap], options: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        save.save(tmp_path / name, heats, **{"plain": True} | options)
    assert not list(tmp_path.iterdir())
