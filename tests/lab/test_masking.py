"""Masks in the Lab: those of `vislab.segment`, the image encoded once, and nothing else made for a click."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import prompted
import pytest
import traitlets
import transformers as hf
from segmenting import networks
from torch import nn

import vislab
from vislab.lab import runs
from vislab.lab.widget import Lab

CHURCH = vislab.load_image(vislab.samples()["church"])
NETWORKS = networks()
MODELS = {"SAM": prompted.sam(), "SAM-HQ": prompted.sam("SamHQ"), "SAM2": prompted.sam2()}
CLICKS: list[dict[str, Any]] = [
    {"points": [(300, 200)]},
    {"points": [(300, 200), (500, 400)]},
    {"outside": [(20, 20)]},
    {"boxes": [(100, 100, 700, 600)]},
    {"points": None, "outside": None},
]


@pytest.fixture
def opened(told: list) -> Iterator[Callable[..., Lab]]:
    """Opens a lab, and waits for its first view."""
    labs: list[Lab] = []

    def make(image: Any = "church", **settings: Any) -> Lab:
        labs.append(Lab(image, **{"detector": None, **settings}))
        return labs[-1].wait(300)

    yield make
    for lab in labs:
        with contextlib.suppress(Exception):
            lab.wait(300)
        lab.close()


@contextlib.contextmanager
def counted(module: nn.Module) -> Iterator[list[int]]:
    seen: list[int] = []
    handle = module.register_forward_hook(lambda *_: seen.append(1))
    try:
        yield seen
    finally:
        handle.remove()


def still(lab: Lab) -> np.ndarray:
    return vislab.load_image(base64.b64decode(lab._still()["image/jpeg"]))


def of_kind(told: list, kind: str) -> list[dict[str, Any]]:
    return [content for content, _ in told if content["kind"] == kind]


@pytest.mark.parametrize("name", MODELS)
def test_a_click_runs_the_decoder_alone(name: str, opened: Callable[..., Lab], told: list) -> None:
    """Of many clicks the encoder ran once, before the first; the map is neither made nor told again."""
    module, processor = MODELS[name]
    vislab.cache().clear()
    with counted(module.vision_encoder) as encoded, counted(module.mask_decoder) as decoded:
        lab = opened(segmenter=(module, processor))
        assert (len(encoded), len(decoded)) == (1, 0)
        assert lab.masks is None
        forwards, made = runs.RUNS.forwards, {}
        told.clear()
        for click in CLICKS:
            for mark, value in click.items():
                setattr(lab, mark, value)
                lab.wait(300)
            made.update(click)
            assert len(encoded) == 1
        assert len(decoded) == sum(map(len, CLICKS))
        assert runs.RUNS.forwards == forwards
        assert {content["kind"] for content, _ in told} == {"masks", "status"}
        lab.image = "coffee"
        lab.wait(300)
        assert len(encoded) == 2


@pytest.mark.parametrize("name", MODELS)
def test_masks_are_those_of_segment(name: str, opened: Callable[..., Lab], told: list) -> None:
    module, processor = MODELS[name]
    lab, made = opened(segmenter=(module, processor)), {}
    for click in CLICKS:
        lab.state = click
        lab.wait(300)
        made.update(click)
        expected = vislab.segment(CHURCH, model=module, processor=processor, **made)
        assert lab.masks is not None
        assert np.array_equal(lab.masks.masks, expected.masks)
        assert np.array_equal(lab.masks.scores, expected.scores)
        content, buffers = [one for one in told if one[0]["kind"] == "masks"][-1]
        lengths = np.frombuffer(buffers[0], "<u4")
        pixels = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(content["size"])
        assert np.array_equal(pixels, expected.masks[0])
        (said,) = content["masks"]
        assert said["share"] == pytest.approx(expected.masks.mean())
        assert said["score"] == pytest.approx(float(expected.scores[0]))
        assert content["takes"] is True
        shown = {key: [tuple(map(float, one)) for one in value] for key, value in made.items() if value}
        assert all(f"{key}={value}" in content["call"] for key, value in shown.items())


def test_background_alone_says_nothing_yet(opened: Callable[..., Lab], told: list) -> None:
    lab = opened(segmenter=MODELS["SAM2"])
    lab.outside = [(20, 20)]
    lab.wait(300)
    assert lab.masks is None
    assert of_kind(told, "status")[-1]["state"] == "ready"
    lab.points = [(300, 200)]
    lab.wait(300)
    assert lab.masks is not None


def test_what_makes_masks_by_itself_needs_no_click(opened: Callable[..., Lab], told: list) -> None:
    lab = opened(segmenter="embedded")
    expected = vislab.segment(CHURCH)
    assert lab.masks is not None
    assert np.array_equal(lab.masks.masks, expected.masks)
    assert lab.masks.labels == expected.labels
    assert of_kind(told, "masks")[-1]["takes"] is False
    lab.points = [(300, 200)]
    lab.wait(300)
    words = "embedded takes no points or boxes: clear them, and its masks are shown."
    assert of_kind(told, "status")[-1] == {
        "kind": "status",
        "state": "error",
        "words": f"The map is ready, but no masks: {words}",
    }
    assert of_kind(told, "masks")[-1]["refused"] == words
    assert lab.masks is None
    assert lab.heatmap is not None
    assert lab.points == [[300.0, 200.0]]
    lab.points = None
    assert np.array_equal(lab.wait(300).masks.masks, expected.masks)


def test_a_segmenter_that_fails_harms_nothing_else(opened: Callable[..., Lab], told: list) -> None:
    lab = opened(segmenter="nobody/nothing")
    assert lab.heatmap is not None
    status = of_kind(told, "status")[-1]
    assert status["state"] == "error"
    assert status["words"].startswith("The map is ready, but no masks: cannot load 'nobody/nothing'")
    module, processor = prompted.sam2()
    module.mask_decoder.transformer = nn.Identity()
    lab.segmenter = module, processor
    lab.points = [(300, 200)]
    lab.wait(300)
    assert "Sam2Model does not answer 1 point" in of_kind(told, "status")[-1]["words"]
    lab.segmenter = MODELS["SAM2"]
    assert lab.wait(300).masks is not None
    lab.segmenter = None
    assert lab.wait(300).masks is None
    assert of_kind(told, "masks")[-1]["segmenter"] is None


def test_without_a_segmenter_nothing_is_said_of_masks(opened: Callable[..., Lab], told: list) -> None:
    lab = opened()
    lab.attention_scale = 2.0
    lab.wait(300)
    assert of_kind(told, "masks") == []
    assert lab.masks is None
    assert '"masks"' not in lab._page().split('id="module"')[0]


def test_clicks_while_it_computes_are_not_lost(opened: Callable[..., Lab], told: list) -> None:
    """Clicks that come faster than answers are all in the last; a view that is at work is still shown."""
    module, processor = MODELS["SAM"]
    lab = opened(segmenter=(module, processor))
    told.clear()
    lab.attention_scale = 0.5
    points: list[tuple[int, int]] = []
    for x in range(100, 1000, 100):
        points = [*points, (x, 300)]
        lab.points = points
    lab.wait(300)
    expected = vislab.segment(CHURCH, model=module, processor=processor, points=points)
    assert lab.masks is not None
    assert np.array_equal(lab.masks.masks, expected.masks)
    shown = [content for content in of_kind(told, "view") if content["pane"] == 0]
    assert shown[-1]["settings"]["attention_scale"] == 0.5
    assert of_kind(told, "status")[-1]["state"] == "ready"


def test_a_browser_that_sets_a_point_beside_the_image_is_answered_in_words(
    opened: Callable[..., Lab], told: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = opened(segmenter=MODELS["SAM2"], points=[(300, 200)])
    back: list[Any] = []
    monkeypatch.setattr(lab, "send_state", back.append)
    lab.set_state({"points": [[300, 200], [5000, 20]]})
    status = of_kind(told, "status")[-1]
    assert (status["state"], status["words"][:6]) == ("error", "points")
    assert "lies beside the image, which is 1024×683 px" in status["words"]
    assert back == [["points"]]
    assert lab.points == [[300.0, 200.0]]
    assert lab.masks is not None


def test_masks_stay_in_files_pages_and_the_notebook(opened: Callable[..., Lab], told: list, tmp_path: Path) -> None:
    lab = opened(segmenter=MODELS["SAM2"])
    lab._asked(lab, {"kind": "export", "suffix": ".npz", "masks": True}, [])
    assert "no masks yet that could be saved" in of_kind(told, "status")[-1]["words"]
    bare = still(lab)
    lab.points = [(300, 200)]
    lab.wait(300)
    lab._asked(lab, {"kind": "export", "suffix": ".npz", "masks": True}, [])
    content, (file,) = told[-1]
    assert (content["kind"], content["name"]) == ("file", "church-masks.npz")
    (tmp_path / "masks.npz").write_bytes(file)
    assert np.array_equal(vislab.load_masks(tmp_path / "masks.npz").masks, lab.masks.masks)
    lab._asked(lab, {"kind": "export", "suffix": ".png", "masks": True}, [])
    (tmp_path / "masks.png").write_bytes(told[-1][1][0])
    record = vislab.provenance(tmp_path / "masks.png")
    assert record["masks"]["facts"]["prompts"][0]["points"] == [[300.0, 200.0]]
    assert '"kind": "masks"' in lab._page()
    assert not np.array_equal(still(lab), bare)
    lab.masked = False
    assert np.array_equal(still(lab), bare)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_masks_is_a_segmenter_and_no_model(name: str, opened: Callable[..., Lab], told: list) -> None:
    """As the model it is refused in the page's words and in Python's, and the lab goes on."""
    module, processor = NETWORKS[name]
    kind = type(module).__name__
    with pytest.raises(ValueError, match=rf"^{kind} makes masks, and no map by .*segmenter=\(module, processor\)"):
        opened(model=module)
    said = of_kind(told, "status")[-1]
    assert said["state"] == "error"
    assert said["words"].startswith(f"{kind} makes masks, and no map by the method “")
    assert said["words"].endswith("”; its masks are drawn where it is the lab's segmenter.")
    with pytest.raises(traitlets.TraitError, match=rf"how {kind} is shown pictures: give segmenter=\(module, proc"):
        opened(segmenter=module)
    lab = opened(segmenter=(module, processor))
    expected = vislab.segment(CHURCH, model=module, processor=processor)
    assert lab.masks is not None
    assert lab.masks.labels == expected.labels
    assert np.array_equal(lab.masks.masks, expected.masks)


def test_a_network_of_masks_that_attends_over_the_image_is_a_model_too(opened: Callable[..., Lab]) -> None:
    """What goes wrong later is said as it is."""
    small: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "is_hybrid": False}
    small |= {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "backbone_out_indices": [0, 1, 2, 3]}
    config = hf.DPTConfig(**small, intermediate_size=32, image_size=64, patch_size=16)
    lab = opened(model=hf.DPTForSemanticSegmentation(config).eval())
    assert lab.heatmap.values.shape == (4, 4)
    lab.method = "relevance"
    with pytest.raises(ValueError, match="has no classifier"):
        lab.wait(300)
