"""Laws of figure files: text is text, a photo is held once with all its pixels, and metadata is read back."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from pictures import BOXES, heatmap, photo
from PIL import Image

from vislab.core.geometry import Frame
from vislab.figures import formats, save


@pytest.mark.slow
def test_text_is_text_and_the_photo_is_held_once(tmp_path: Path) -> None:
    image, heats = photo((400, 300)), [heatmap(np.eye(2) * k, (400, 300), head=k) for k in range(1, 6)]
    svg = save.save(tmp_path / "f.svg", heats, image=image, detections=BOXES)
    words = [element.text for element in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "head 3" in words
    assert "Äpfel & $x$ 0.88" in words
    assert svg.stat().st_size < 2.5 * image.size
    tree = ElementTree.parse(svg).getroot()
    names = [element.get("id") for element in tree.iter() if element.get("id")]
    uses = [e.get("{http://www.w3.org/1999/xlink}href", "")[1:] for e in tree.iter("{http://www.w3.org/2000/svg}use")]
    assert [use for use in uses if use.startswith("photo")] == [uses[0]] * 5
    assert set(uses) <= set(names)
    pdf = save.save(tmp_path / "f.pdf", heats, image=image)
    assert b"/FontFile2" in pdf.read_bytes()  # TrueType, as type 42
    assert b"/Type3" not in pdf.read_bytes()
    assert re.findall(rb"/Width 300\b|/Height 400\b", pdf.read_bytes())
    assert pdf.stat().st_size < 1.5 * image.size


def test_the_photo_keeps_its_pixels_in_svg(tmp_path: Path) -> None:

    image = photo((40, 60))
    svg = save.save(tmp_path / "f.svg", heatmap(source=(40, 60)), image=image).read_text()
    data = re.search(r"data:image/png;base64,\s*([^\"]+)\"", svg)[1]
    with Image.open(io.BytesIO(base64.b64decode(data))) as held:
        assert (np.asarray(held.convert("RGB")) == image).all()


def test_npz_holds_the_numbers(tmp_path: Path) -> None:
    heats = [heatmap(), heatmap([[5, 6, 7]])]
    with np.load(save.save(tmp_path / "one.npz", heats[0])) as file:
        assert (file["values"] == heats[0].values).all()
        assert file["grid"].tolist() == [2, 2, 16, 16, 1, 0]
        source, model, scale, offset = file["frame"]
        again = Frame(tuple(map(int, source)), tuple(map(int, model)), tuple(scale), tuple(offset))
        assert again == heats[0].frame
    with np.load(save.save(tmp_path / "two.npz", heats)) as file:
        assert (file["values_1"] == heats[1].values).all()


def test_more_notes_than_jpeg_holds_are_refused_in_words() -> None:
    write, most = formats.WRITERS[".jpg"], formats.JPEG_COMMENT
    record = {"a": "x" * (most - len('{"a": ""}'))}
    assert json.loads(formats.READERS[".jpg"](write(Figure((1, 1)), 20, "", "", record))) == record
    with pytest.raises(ValueError, match=r"JPEG holds 65,533 bytes of notes, .* takes 65,534: take \.png"):
        write(Figure((1, 1)), 20, "", "", {"a": record["a"] + "x"})


def test_a_failed_write_keeps_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.png"
    path.write_bytes(b"earlier")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        save.save(path, heatmap())
    assert [file.name for file in tmp_path.iterdir()] == ["f.png"]
    assert path.read_bytes() == b"earlier"
