"""Laws of comparing kinds of models: what is told is what each function finds, and what is recommended was measured."""

from __future__ import annotations

import csv
import io
from typing import Any

import detecting
import numpy as np
import pytest
import readers
import torch
import transformers as hf
from detecting import PHOTO
from tiny import VIT, make

import vislab
from vislab.evaluation import compare
from vislab.evaluation.compare import Compared, Comparison
from vislab.evaluation.kinds import Look
from vislab.masks.networks import segmenter_of


@pytest.fixture(scope="module")
def table() -> Comparison:
    module, processor = readers.FAMILIES["LLaVA-1.5"].pair()
    return vislab.compare(
        {"noise": PHOTO, "black": np.zeros((64, 64, 3), np.uint8)},
        detector=vislab.load_detector(detecting.yolo("yolo12n")),
        model=vislab.load(make("ViT classifier")),
        segmenter=vislab.load(hf.ViTModel(hf.ViTConfig(**VIT)).eval()),
        reader=vislab.ask(PHOTO, "what is on the hill", model=module, processor=processor, tokens=3).reader,
        question="what is in the sun",
        repeats=1,
        progress=False,
    )


def test_each_kind_says_what_its_function_finds(table: Comparison) -> None:
    detector, model, segmenter, reader = table.models
    boxes = vislab.detect(PHOTO, detector=vislab.load_detector(detecting.yolo("yolo12n")))
    assert detector.looks[0].says.startswith(f"{len(boxes)} boxes: {boxes.labels[0]} {boxes.scores[0]:.2f}")
    assert detector.tokens is not None
    assert detector.tokens >= sum(grid.patches for grid in boxes.levels)
    said = vislab.load(make("ViT classifier")).predict(PHOTO, top=3)
    assert model.looks[0].says == ", ".join(f"{label} {score:.2f}" for label, score in said)
    assert (model.tokens, segmenter.tokens) == (17, 17)
    assert segmenter.looks[0].says.startswith("1 region by otsu on rollout: rollout ")
    assert reader.tokens is not None
    assert reader.tokens > 16
    for one in table.models:
        assert one.seconds > 0
        assert one.bytes > 4 * one.parameters
    assert [row["says"] for row in csv.DictReader(io.StringIO(table.csv()))] == [r["says"] for r in table.rows()]
    assert len(table.rows()) == 8
    told = repr(table)
    assert all(row["says"].replace("\n", " ") in told.replace("\n", " ") for row in table.rows())
    assert "<table>" in table._repr_html_()


def test_a_photograph_that_one_model_cannot_use_stops_nothing() -> None:
    dark = np.zeros((64, 64, 3), np.uint8)
    module = hf.ViTModel(hf.ViTConfig(**VIT)).eval()
    with torch.no_grad():
        module.embeddings.position_embeddings.zero_()
    kinds: dict[str, Any] = {"detector": None, "model": None, "segmenter": vislab.load(module), "reader": None}
    table = vislab.compare([PHOTO, dark], **kinds, repeats=1, progress=False)
    assert [look.found for look in table.models[0].looks] == [True, False]
    assert "no region stands out" in table.models[0].looks[1].says
    with pytest.raises(ValueError, match="no region stands out"):
        vislab.compare(dark, **kinds, repeats=1, progress=False)


def one(kind: str, name: str, seconds: float, size: int, found: tuple[bool, ...] = (True, True)) -> Compared:
    return Compared(kind, name, "cpu", 9, 10, seconds, size, tuple(Look("x", there, 9) for there in found))


TABLE = Comparison(
    (one("detector", "slow", 0.5, 10**6), one("model", "vit", 0.02, 10**7), one("reader", "lama", 3.0, 10**9)),
    ("a", "b"),
    1,
)


@pytest.mark.parametrize(
    ("need", "limits", "words"),
    [
        ("class", {}, "model vit, 20 ms a photograph and 10.0 MB; found something in 2 of 2"),
        ("class", {"memory": 1e6}, "none within these limits: the fastest is model vit, 20 ms"),
        ("boxes", {}, "detector slow, 500 ms a photograph and 1.0 MB"),
        ("boxes", {"within": 0.1}, "none within these limits: the fastest is detector slow, 500 ms"),
        ("words", {"within": 3}, "reader lama, 3.00 s a photograph and 1.00 GB"),
        ("outlines", {}, "none of these gives it: name a segmenter"),
    ],
)
def test_what_fits_the_need_and_the_limits_is_taken(need: str, limits: dict[str, float], words: str) -> None:
    assert TABLE.recommend(need, **limits)[need].startswith(words)


def test_who_finds_more_comes_before_who_is_faster() -> None:
    several = [one("detector", "fast", 0.1, 1, (True, False)), one("detector", "sure", 0.2, 1)]
    assert Comparison(tuple(several), ("a", "b"), 1).recommend("count")["count"].startswith("detector sure")
    blind = Comparison((one("detector", "blind", 0.1, 1, (False, False)),), ("a", "b"), 1)
    assert blind.recommend("boxes")["boxes"].startswith("none found anything")
    assert list(TABLE.recommend()) == ["class", "boxes", "count", "outlines", "words"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: TABLE.recommend("box"), "did you mean 'boxes'|needs are some of"),
        (lambda: TABLE.recommend("boxes", within=0), "within is a number above 0"),
        (
            lambda: vislab.compare(PHOTO, detector=None, model=None, segmenter=None, reader=None),
            "nothing is left to compare",
        ),
        (lambda: vislab.compare([]), "no photographs"),
        (lambda: vislab.compare(PHOTO, repeats=0), "repeats is a whole number from 1"),
    ],
)
def test_what_cannot_be_compared_is_said(call: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_kinds_can_be_left_out_and_a_model_without_classes_says_so() -> None:
    module = hf.ViTModel(hf.ViTConfig(**VIT)).eval()
    table = vislab.compare(PHOTO, detector=None, segmenter=None, reader=None, model=module, repeats=1, progress=False)
    assert [one.kind for one in table.models] == ["model"]
    assert table.models[0].looks == (Look("no classes", False, 17),)


def test_a_segmenter_of_pixels_counts_the_tokens_that_attend() -> None:
    config = hf.SegformerConfig(hidden_sizes=[8, 8, 8, 8], depths=[1] * 4, decoder_hidden_size=8, num_labels=3)
    module = hf.SegformerForSemanticSegmentation(config).eval()
    found = segmenter_of(module, hf.SegformerImageProcessor(size={"height": 64, "width": 64}))
    table = vislab.compare(PHOTO, detector=None, model=None, segmenter=found, reader=None, repeats=1, progress=False)
    assert table.models[0].tokens == 16 * 16
    assert "by semantic segmentation" in table.models[0].looks[0].says


def test_a_segmenter_of_ultralytics_counts_its_cells() -> None:
    seg = vislab.load_detector(detecting.yolo("yolo11n-seg"))
    table = vislab.compare(PHOTO, detector=None, model=None, segmenter=seg, repeats=1, progress=False)
    boxes = vislab.detect(PHOTO, detector=seg)
    assert table.models[0].tokens == sum(grid.patches for grid in boxes.levels)
    assert table.models[0].looks[0].says.startswith(f"{len(boxes)} regions by instance segmentation: ")


def test_the_bar_counts_each_photograph_of_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, seen = compare.counted, []

    def watched(items: list[str], unit: str, shown: bool) -> Any:
        seen.append((len(items), unit, shown))
        return counted(items, unit, False)

    monkeypatch.setattr(compare, "counted", watched)
    classifier = vislab.load(make("ViT classifier"))
    photos = {"noise": PHOTO, "black": np.zeros((64, 64, 3), np.uint8)}
    found = vislab.compare(photos, detector=None, model=classifier, segmenter=classifier, repeats=1, progress=True)
    assert seen == [(4, "photograph", True)]
    assert [len(one.looks) for one in found.models] == [2, 2]
