"""Laws of `vislab augment`: one seed makes the same files, folders of classes stay, photos are not written over."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vislab
from vislab.cli.main import main


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(0)
    for name in ("a/one", "a/two", "b/one", "three"):
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(f"photos/{name}.png")


def test_folders_are_made_again_with_the_same_crops_for_the_same_seed(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["augment", "photos", "--count", "2", "--size", "48", "--mosaics", "2", "--seed", "3"]
    for folder in ("first", "second"):
        assert main([*words, "--out", folder, "--preview", f"{folder}.png"]) == 0
        assert capsys.readouterr().out == f"10 pictures in {folder}\n"
    names = sorted(path.relative_to("first").as_posix() for path in Path("first").rglob("*.png"))
    crops = [f"{name}-{i}.png" for name in ("a/one", "a/two", "b/one", "three") for i in (1, 2)]
    assert names == sorted([*crops, "mosaic-1.png", "mosaic-2.png"])
    for name in names:
        assert vislab.load_image(f"first/{name}").shape == (48, 48, 3)
        assert Path("first", name).read_bytes() == Path("second", name).read_bytes()
    augment = vislab.Augmentation(48, seed=3)
    own = np.asarray(augment(Image.fromarray(vislab.load_image("photos/a/one.png"))))
    assert np.array_equal(vislab.load_image("first/a/one-1.png"), own)
    assert vislab.load_image("first.png").shape == (4 * 52 - 4, 72 + 3 * 52, 3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("photos", "say where the pictures go"),
        ("photos --preview p.jpg", "--preview takes a .png, not 'p.jpg'"),
        ("photos --out x --smallest 0", "--smallest is a share above 0"),
        ("photos/three.png --out x --mosaics 1", "a mosaic is made of four photos, and there are 1"),
        ("photos --preview photos/three.png", "photos/three.png"),
        ("photos --out x --spare 2", "0 to 1|between 0 and 1"),
        ("photos --out x --method rolout", "did you mean 'rollout'"),
    ],
)
def test_what_is_wrong_is_said(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["augment", *words.split()]) == 2
    assert re.search(says, capsys.readouterr().err)
