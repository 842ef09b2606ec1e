"""Laws of spent tokens in the Lab: it shows what `explain` gives, tells the page which token is whose, and refuses in
words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import traitlets

import vislab
from vislab.lab import lens, protocol, spent
from vislab.lab.runs import Kept, Runs
from vislab.lab.spent import NONE
from vislab.lab.traits import Settings
from vislab.lab.widget import Lab
from vislab.models.model import Model
from vislab.models.tokens import DEFAULTS, Tokens

CHURCH = vislab.samples()["church"]
BOX = [100.0, 180.0, 700.0, 600.0]
WAYS: list[dict[str, Any]] = [
    {"keep": 0.5},
    {"merge": 8},
    {"fovea": [BOX], "fovea_patches": (16, 32)},
    {"heads_off": {8: [0, 2]}},
    {"keep": 0.5, "merge": 2, "heads_off": {0: [1]}},
    {"keep": 0.4, "keep_by": "norm", "keep_at": (3,), "gather": True},
    {"keep": 0.3, "keep_by": ((0.0, 1.0), (3.0, 2.5))},
]


@pytest.fixture(scope="module")
def runs() -> Runs:
    return Runs(2**30)


@pytest.fixture
def told(told: list, monkeypatch: pytest.MonkeyPatch, runs: Runs) -> list[tuple[dict[str, Any], list[bytes]]]:
    """The same, of labs whose runs are these tests' own, and that show nothing before the whole."""
    monkeypatch.setattr("vislab.lab.runs.RUNS", runs)
    monkeypatch.setattr("vislab.lab.stage.SOON", 60.0)
    return told


@pytest.fixture
def lab(told: list) -> Iterator[Lab]:
    made = Lab("church", detector=None, before=False).wait(60)
    yield made
    made.wait(60)
    made.close()


@pytest.fixture
def settings() -> Settings:
    made = Settings()
    made._ready = vislab.load("embedded")
    made.image = "church"
    return made


def run(runs: Runs, **how: Any) -> Kept:
    image = vislab.load_image(CHURCH)
    usual = {"patch_size": None, "image_size": None, "attention_scale": 1.0}
    return runs.run(vislab.load("embedded"), image, "church", **usual, **how)[0]


# ---- settings ----


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("keep", 0, "above 0 and at most 1, not 0"),
        ("keep", True, "not True"),
        ("keep", None, "not None"),
        ("merge", None, "not None"),
        ("fovea_patches", None, "not None"),
        ("keep", 0.001, "leaves none of 196 patches"),
        ("merge", -1, "from 0, not -1"),
        ("merge", 120, "more than half of 196 patches"),
        ("fovea", "box", r"\(x0, y0, x1, y1\) in pixels of the photograph"),
        ("fovea", [[0, 0, 9000, 20]], "reaches out of what embedded sees"),
        ("fovea", [[10, 10, 14, 14]], "smaller than one of its patches of 8 px, which is 36.6 × 24.4 source pixels"),
        ("fovea_patches", [8, 20], "do not fill one of 20 px"),
        ("heads_off", {"12": [0]}, "for no layer 12"),
        ("heads_off", {"0": [3]}, "for no head 3"),
        ("heads_off", "all", "not 'all'"),
        ("keep_by", "size", "keep_by is 'attention', 'norm', 'random', 'centre', or one value a patch"),
        ("keep_by", None, "not None"),
        ("keep_at", "late", "index of a layer, or several"),
        ("gather", 1, "gather is True or False, not 1"),
    ],
)
def test_what_cannot_be_spent_is_refused_in_words(settings: Settings, name: str, value: Any, words: str) -> None:
    before = settings.state
    with pytest.raises(traitlets.TraitError, match=words):
        setattr(settings, name, value)
    assert settings.state == before


def test_what_json_brings_back_is_the_same(settings: Settings) -> None:
    state = {"keep": 0.5, "merge": 3, "fovea": (1, 2, 300, 200), "fovea_patches": (8, 16), "heads_off": {3: [1, 0]}}
    settings.state = state
    assert settings.fovea == [[1, 2, 300, 200]]
    again = Settings()
    again.state = json.loads(json.dumps(settings.state))
    assert again.state == settings.state
    assert again.heads_off == {3: [0, 1]}
    settings.state = {"fovea": [], "heads_off": {3: []}}
    assert (settings.fovea, settings.heads_off) == (None, None)


def test_what_says_how_patches_go_waits_until_some_do(settings: Settings) -> None:
    """It is refused then, too, in words; and there is one trait for each setting of `Tokens`, alike by default."""
    settings.state = {"keep_by": "norm", "keep_at": 3, "gather": True}
    assert spent.spent_by(spent.asked(settings.state)) is None
    settings.keep = 0.5
    assert spent.spent_by(spent.asked(settings.state)) == Tokens(keep=0.5, keep_by="norm", keep_at=3, gather=True)
    with pytest.raises(traitlets.TraitError, match="no layer 12: layers run from 0 to 11"):
        settings.keep_at = 12
    with pytest.raises(traitlets.TraitError, match="before layer 0 no attention was paid yet"):
        settings.state = {"keep_at": 0, "keep_by": "attention"}
    assert {name: Settings.class_traits()[name].default() for name in DEFAULTS} == DEFAULTS


def test_a_maps_values_stay_with_its_image(settings: Settings) -> None:
    settings.state = {"keep": 0.5, "keep_by": [[0, 1], [3, 2]]}
    assert settings.keep_by == ((0, 1), (3, 2))
    settings.image = "coffee"
    assert (settings.keep, settings.keep_by) == (0.5, "attention")
    with pytest.raises(traitlets.TraitError, match="or one value a patch"):
        settings.keep_by = vislab.explain(CHURCH)


def test_a_fovea_lies_in_its_image(settings: Settings) -> None:
    settings.fovea = BOX
    settings.image = "coffee"
    assert settings.fovea is None
    settings.state = {"fovea": [[0, 0, 1000, 600]], "image": "church"}
    assert settings.fovea == [[0, 0, 1000, 600]]
    with pytest.raises(traitlets.TraitError, match="reaches out"):
        settings.state = {"image": "coffee", "fovea": [[0, 0, 1000, 600]]}
    assert (settings.image, settings.fovea) == ("church", [[0, 0, 1000, 600]])


def test_the_state_of_a_lab_brings_its_fovea_only_to_its_own_photograph(told: list) -> None:
    for image, fovea in (("church", [BOX]), (None, [BOX]), ("coffee", None), (vislab.load_image(CHURCH), None)):
        lab = Lab(image, state={"image": "church", "fovea": BOX, "detector": None}, before=False)
        assert lab.fovea == fovea
        lab.wait(60)
        lab.close()


# ---- what is shown ----


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("asked", [{}, {"method": "rollout"}, {"query": (520.0, 400.0), "layer": 2}], ids=str)
def test_the_lab_shows_what_explain_gives(lab: Lab, way: dict[str, Any], asked: dict[str, Any]) -> None:
    lab.state = way | asked
    method = asked.get("method", "attention" if "query" in asked else "cls")
    wanted = vislab.explain(CHURCH, **way, **{**asked, "method": method})
    assert np.array_equal(lab.wait(60).heatmap.values, wanted.values)
    assert lab.heatmap.settings == wanted.settings


def test_a_fovea_has_patch_sizes_of_its_own(lab: Lab) -> None:
    """What is set beside it, or without it, makes no difference, and is there again when it goes."""
    lab.state = {"patch_size": 32, "fovea": BOX}
    assert lab.wait(60).heatmap.grid.patch == (8, 8)
    lab.fovea = None
    lab.fovea_patches = (8, 16)
    assert lab.wait(60).heatmap.grid.patch == (32, 32)


def test_heads_off_are_shown_beside_all_heads(lab: Lab, told: list) -> None:
    lab.before = True
    lab.wait(60)
    told.clear()
    lab.heads_off = {8: [0, 1, 2]}
    lab.wait(60)
    views = [content for content, _ in told if content["kind"] == "view"]
    assert [view["settings"]["heads_off"] for view in views] == [{8: [0, 1, 2]}, None]
    plain = next(content for content, _ in told if content["kind"] == "plain")
    assert plain["classes"] == dict(vislab.load("embedded").predict(CHURCH, top=10))
    assert views[0]["classes"] == vislab.load("embedded").predict(CHURCH, heads_off={8: [0, 1, 2]})


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_is_exported_is_made_again(lab: Lab, told: list, tmp_path: Path, way: dict[str, Any]) -> None:
    lab.state = way
    names = {"vislab": vislab, "image": vislab.load_image(CHURCH)}
    lab.wait(60)
    view = next(content for content, _ in reversed(told) if content["kind"] == "view" and content["run"])
    assert np.array_equal(eval(view["call"], names).values, lab.heatmap.values)
    made = vislab.reproduce(lab.save(tmp_path / "figure.png"))
    assert made.differences == ()


def test_forwards_are_remembered_by_how_they_spend(lab: Lab, runs: Runs) -> None:
    made = runs.forwards
    for way in ({"keep": 0.7}, {"keep": 1.0}, {"keep": 0.7, "merge": 3}, {"keep": 0.7, "merge": 0}):
        lab.state = way
        lab.wait(60)
    assert runs.forwards == made + 2


# ---- what the page is told ----


def test_the_page_is_told_which_token_stands_for_a_patch(runs: Runs) -> None:
    for way in WAYS[:3]:
        kept = run(runs, **way)
        wanted = vislab.token_map(CHURCH, **way)
        found = spent.owners(kept.run).reshape(wanted.owners.shape)
        assert np.array_equal(np.where(found == NONE, -1, found.astype(int)), wanted.owners)
        assert kept.counts == wanted.counts
        assert kept.bytes == sum(wanted.counts) * 192 * 2 * 4
    assert spent.owners(run(runs, heads_off={0: [1]}).run) is None


def test_rows_of_merged_tokens_are_made_in_the_page(runs: Runs) -> None:
    """With the logarithms of their sizes, which are added to the keys' logits."""
    from lab.test_protocol import unpacked

    kept = run(runs, merge=8)
    content, buffers = protocol.layer(kept, 7, sums=True)
    q, k = unpacked(content, buffers)
    added, sums = np.frombuffer(buffers[-2], "<f4"), np.frombuffer(buffers[-1], "<f4").reshape(q.shape[:2])
    exact = kept.run.capture.attention(7, slice(None))[0].numpy()
    made = np.exp(q @ k.transpose(0, 2, 1) + added - sums[..., None])
    assert np.abs(made - exact).max() <= 5e-3 * exact.max()
    assert content["added"]
    assert not protocol.layer(run(runs, keep=0.5), 7)[0]["added"]


def test_the_lens_is_what_lens_says(runs: Runs) -> None:
    kept = run(runs, keep=0.5)
    content, [classes, shares] = lens.early(kept)
    wanted = vislab.lens(CHURCH, keep=0.5)
    shape = wanted.patches.shape
    assert json.loads(json.dumps(content))["shape"] == list(shape)
    found, sure = (np.frombuffer(part, np.uint8).reshape(shape) for part in (classes, shares))
    names = np.array([*content["classes"], *[""] * (256 - len(content["classes"]))])
    there = (wanted.patches >= 0) & (found != lens.OTHER)
    assert np.array_equal(found == lens.NONE, wanted.patches < 0)
    assert np.array_equal(names[found[there]], np.array(wanted.labels)[wanted.patches[there]])
    assert np.abs(sure / 255 - np.where(wanted.patches < 0, 0, wanted.shares)).max() <= 1 / 255
    for line, scores, patches in zip(content["lines"], wanted.scores, wanted.patches, strict=True):
        assert line["best"][0] == [wanted.labels[scores.argmax()], pytest.approx(scores.max())]
        assert line["agree"] == (patches == scores.argmax()).sum()
        assert line["patches"] == (patches >= 0).sum()


def test_the_lens_is_made_while_it_is_open_and_stays_in_the_page(lab: Lab, told: list, tmp_path: Path) -> None:
    assert "lens" not in {content["kind"] for content, _ in told}
    assert '"kind": "lens"' not in lab.save(tmp_path / "page.html").read_text()
    lab._asked(lab, {"kind": "lens", "open": True}, [])
    lab.wait(60)
    [content] = [content for content, _ in told if content["kind"] == "lens"]
    assert content["run"] == lab._stage.panes[0].kept.number
    assert '"kind": "lens"' in lab.save(tmp_path / "page.html").read_text()
    lab._asked(lab, {"kind": "lens", "open": False}, [])
    told.clear()
    lab.layer = 3
    lab.wait(60)
    assert "lens" not in {content["kind"] for content, _ in told}


def test_patches_of_a_fovea_are_taken_away_one_by_one(lab: Lab, told: list) -> None:
    lab.state = {"fovea": BOX, "fovea_patches": (16, 32)}
    lab.wait(60)
    kept = lab._stage.panes[0].kept
    lab._asked(lab, {"kind": "take", "run": kept.number, "gone": [90, 91]}, [])
    lab.wait(60)
    content = next(content for content, _ in told if content["kind"] == "without")
    masks = np.ones((2, kept.run.grid.rows, kept.run.grid.cols), bool)
    masks[1].flat[[90, 91]] = False
    wanted = vislab.patch_score(CHURCH, target="church", fovea=BOX, fovea_patches=(16, 32))(masks)
    assert [content["before"], content["now"]] == pytest.approx(wanted, rel=1e-4)
    assert content["before"] == pytest.approx(float(dict(kept.model.top(kept.run))["church"]), rel=1e-3)


def test_why_a_model_cannot_is_found_by_trying() -> None:
    assert spent.bound(vislab.load("embedded")) == {}
    import transformers as hf

    beit = vislab.load(tiny.roughened(hf.BeitModel(hf.BeitConfig(**tiny.VIT, use_relative_position_bias=True))))
    why = spent.bound(beit)
    assert set(why) >= {"keep", "merge", "fovea"}
    assert "it matters where a token stands" in why["keep"]
    assert "heads_off" not in why
    resnet = vislab.load(hf.ResNetModel(hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])))
    assert "no attention that is one map" in spent.bound(resnet)["keep"]


def test_a_model_without_a_classifier_has_no_lens(runs: Runs) -> None:
    import transformers as hf

    model: Model = vislab.load(tiny.roughened(hf.ViTModel(hf.ViTConfig(**tiny.VIT))))
    kept = runs.run(model, np.zeros((32, 32, 3), np.uint8), "grey", patch_size=None, image_size=None)[0]
    content, buffers = lens.early(kept)
    assert "no classifier" in content["refused"]
    assert buffers == []


def test_a_film_of_a_merged_map_counts_all_patches(lab: Lab, told: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vislab.lab.trial.STEPS", 3)
    lab.state = {"keep": 0.5, "method": "relevance"}
    lab._asked(lab, {"kind": "film", "open": True}, [])
    lab.wait(60)
    content, [gone, _] = next((c, b) for c, b in told if c["kind"] == "removal")
    assert np.frombuffer(gone, "<u2").size == 196
    whole = dict(vislab.load("embedded").predict(CHURCH, keep=0.5))["church"]
    assert content["deletion"][0] == pytest.approx(whole, rel=1e-3)


def test_a_method_that_reads_every_patch_says_so(lab: Lab, told: list) -> None:
    lab.state = {"keep": 0.5, "method": "legrad"}
    with pytest.raises(ValueError, match="reads every patch in every layer"):
        lab.wait(60)
    assert "the method “LeGrad” reads every patch" in told[-1][0]["words"]
    assert "vislab" not in told[-1][0]["words"]
    lab.keep = 1.0
    lab.wait(60)


@pytest.mark.parametrize("tokens", [(197,), (197, 197, 99), (5, 4, 3)])
def test_tokens_are_told_layer_by_layer(tokens: tuple[int, ...]) -> None:
    assert spent.in_words(tokens).split(" → ")[0].split()[0] == str(tokens[0])
    assert spent.in_words(tokens).count("→") == len(set(tokens)) - 1
