"""Laws of the Lab's settings: what is impossible is refused in words, and what belongs together is set together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import traitlets
from PIL import Image

import vislab
from vislab.lab.traits import SETTINGS, Settings
from vislab.lab.values import named


@pytest.fixture
def settings() -> Settings:
    """Of a lab whose model is loaded."""
    made = Settings()
    made._ready = vislab.load("embedded")
    made.image = "church"
    return made


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("attention_scale", 9.0, r"from 0\.1 to 4.*not 9"),
        ("patch_size", 15, r"15 px do not fill .*224×224.* 14, 16"),
        ("patch_size", 2.5, r"whole number of pixels"),
        ("image_size", (64, 64, 64), r"whole number of pixels"),
        ("layer", 12, r"below 12, not 12"),
        ("head", "middle", r"'mean', 'max', 'min' or an index below 3, not 'middle'"),
        ("head", True, r"not True"),
        ("query", (5000, 3), r"1024×683"),
        ("query", "middle", r"not 'middle'"),
        ("compare", {"opacity": 1}, r"'opacity' cannot be compared"),
        ("image", "no-such.jpg", r"no file 'no-such\.jpg'"),
        ("model", 7, "takes a name, a folder or a torch module"),
        ("colormap", "rainbowish", r"viridis"),
        ("method", "magic", r"rollout"),
        ("target", 2.5, r"by label or index.*not 2\.5"),
        ("confidence", 0.01, r"0\.05"),
        ("opacity", 1.5, r"1"),
        ("normalise", "often", r"shared"),
    ],
)
def test_impossible_values_are_refused_in_words(settings: Settings, name: str, value: Any, words: str) -> None:
    before = settings.state
    with pytest.raises(traitlets.TraitError, match=words):
        setattr(settings, name, value)
    assert settings.state == before


def test_a_refused_change_keeps_the_pixels(settings: Settings) -> None:
    before = settings._pixels, settings._digest
    with pytest.raises(traitlets.TraitError, match="below 12"):
        settings.state = {"image": "coffee", "query": (10, 10), "layer": 99}
    assert (settings._pixels, settings._digest) == before
    settings.query = (1000, 600)
    settings.image = "coffee"
    assert settings.query == "cls"


def test_a_file_that_was_rewritten_is_seen(settings: Settings, tmp_path: Path) -> None:
    path, seen = tmp_path / "photo.png", []
    Image.new("RGB", (40, 30)).save(path)
    settings.image = str(path)
    settings.query = (35, 10)
    settings.observe(lambda change: seen.append(settings._digest), names="image")
    settings.image = str(path)
    assert seen == []
    Image.new("RGB", (20, 30)).save(path)
    settings.image = str(path)
    assert seen == [settings._digest]
    assert settings.query == "cls"


def test_a_pin_lies_in_the_image_that_is_set_with_it(settings: Settings) -> None:
    settings.query = (550, 300)
    settings.state = {"query": (550, 300), "image": "coffee"}
    assert settings.query == (550, 300)
    settings.state = {"image": "church", "query": (1000, 600)}
    with pytest.raises(traitlets.TraitError, match="600×400"):
        settings.state = {"image": "coffee", "query": (1000, 600)}
    assert (settings.image, settings.query) == ("church", (1000, 600))
    settings.state = {"image": "coffee", "layer": 3}
    assert settings.query == "cls"


def test_what_has_no_name_stays_as_it_is(settings: Settings) -> None:
    settings.image, settings.model = settings._pixels, settings._ready.module
    kept = settings.image, settings.model
    assert (settings.state["image"], settings.state["model"]) == ("", "")
    settings.state = settings.state | {"layer": 4}
    assert (settings.image, settings.model, settings.layer) == (*kept, 4)


def test_of_a_model_that_is_not_loaded_nothing_is_known(settings: Settings) -> None:
    settings.model = "some/other"
    settings.state = {"layer": 40, "head": 17, "patch_size": 15}
    assert settings.layer == 40


def test_sizes_that_fit_only_together_are_set_together(settings: Settings) -> None:
    settings.state = {"patch_size": 20, "image_size": 320}
    with pytest.raises(traitlets.TraitError, match="do not fill"):
        settings.state = {"patch_size": 16, "image_size": 100}
    assert (settings.patch_size, settings.image_size) == (20, 320)


def test_a_setting_that_is_not_there_is_named(settings: Settings) -> None:
    with pytest.raises(ValueError, match=r"no setting 'patchsize': it has image, model.*; did you mean 'patch_size'"):
        settings.state = {"patchsize": 16}


def test_one_head_alone_is_not_rolled_out(settings: Settings) -> None:
    settings.head = 2
    assert settings.method == "cls"
    settings.method = "rollout"
    assert settings.head == "mean"
    settings.layer = "mean"
    assert settings.method == "cls"
    settings.method = "rollout"
    assert settings.layer == -1


def test_a_method_lets_go_of_what_it_does_not_take(settings: Settings) -> None:
    settings.state = {"method": "cls", "layer": "mean", "head": 1}
    settings.method = "relevance"
    assert (settings.layer, settings.head) == (-1, "mean")
    settings.layer = 4
    assert settings.method == "cls"
    settings.method = "grad_cam"
    assert settings.layer == 4
    settings.head = "max"
    assert settings.method == "cls"


def test_state_is_plain_and_makes_the_same(settings: Settings) -> None:
    settings.state = {"method": "cls", "head": 1, "query": (100, 50), "detector": None, "compare": {"layer": 7}}
    state = settings.state
    assert set(state) == set(SETTINGS)
    again = Settings()
    again.state = json.loads(json.dumps(state))
    assert again.state == state


def test_what_has_no_name_stays_in_python() -> None:
    assert [named(value) for value in (None, "a", vislab.load("embedded"), object())] == [None, "a", "embedded", ""]
