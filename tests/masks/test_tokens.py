"""Tokens of the last block, on a synthetic scene and against dense references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
import transformers as hf
from PIL import Image
from tiny import VIT

import vislab
from vislab.masks.tokens import directions, kmeans, similarity, tokencut
from vislab.models.model import Model

SCENE = np.full((64, 64, 3), 200, np.uint8)
SCENE[16:48, 8:32] = (220, 30, 20)


def heaps(sizes: tuple[int, ...] = (20, 11, 5), width: int = 16) -> np.ndarray:
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(len(sizes), width)) * 3
    return np.concatenate(
        [centre + draw.normal(size=(n, width)) * 0.3 for centre, n in zip(centres, sizes, strict=True)]
    )


@pytest.mark.parametrize("tau", [-0.2, 0.0, 0.3])
def test_the_cut_is_that_of_the_generalised_eigenproblem(tau: float) -> None:
    values = np.random.default_rng(3).normal(size=(30, 8)) + np.repeat([[1.5], [-1.5]], [11, 19], 0)
    kept, clean = tokencut(values, tau)
    alike = similarity(values, tau)
    degree = np.diag(alike.sum(1))
    vector = scipy.linalg.eigh(degree - alike, degree)[1][:, 1]
    side = vector > vector.mean()
    side = side if side[np.abs(vector).argmax()] else ~side
    assert np.array_equal(kept, side)
    ncut = sum(alike[np.ix_(a, ~a)].sum() / alike[a].sum() for a in (side, ~side))
    assert clean == pytest.approx(1 - ncut / 2)


def test_kmeans_finds_heaps_the_largest_first_and_the_same_each_time() -> None:
    values = heaps()
    found = kmeans(values, 3, 0)
    assert found.tolist() == [0] * 20 + [1] * 11 + [2] * 5
    assert np.array_equal(found, kmeans(values, 3, 0))
    noise = np.random.default_rng(0).normal(size=(40, 6))
    labels = kmeans(noise, 5, 7)
    points = directions(noise)
    centres = np.stack([points[labels == i].mean(0) for i in range(5)])
    assert np.array_equal(((points[:, None] - centres) ** 2).sum(2).argmin(1), labels)  # Lloyd's fixed point


def flat() -> Model:
    """A model whose tokens are the colours of their patches, and nothing else; it sees the centre of a picture."""
    module = hf.ViTModel(hf.ViTConfig(**VIT)).eval()
    with torch.no_grad():
        module.embeddings.position_embeddings.zero_()
        for layer in module.layers:
            for part in (layer.attention.o_proj, layer.mlp.fc2):
                part.weight.zero_()
                part.bias.zero_()
    how = {"size": {"shortest_edge": 32}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
    return vislab.load(module, processor=hf.CLIPImageProcessor(**how))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("method", ["kmeans", "tokencut"])
def test_the_regions_of_a_cropped_or_turned_scene_lie_where_they_are(method: str, turned: bool, tmp_path: Path) -> None:
    scene = np.full((64, 128, 3), 200, np.uint8)
    scene[16:48, 48:64] = (220, 30, 20)
    scene[:, :32] = scene[:, 96:] = (0, 0, 255)  # never seen
    stored, exif = Image.fromarray(scene), Image.Exif()
    if turned:
        stored, exif[0x0112] = stored.transpose(Image.Transpose.ROTATE_90), 6
    stored.save(tmp_path / "scene.png", exif=exif)
    options = {"clusters": 2} if method == "kmeans" else {}
    masks = vislab.segment(tmp_path / "scene.png", model=flat(), method=method, **options)
    square = np.zeros((64, 128), bool)
    square[16:48, 48:64] = True
    assert np.array_equal(masks.masks[-1], square)
    if method == "kmeans":
        seen = np.zeros_like(square)
        seen[:, 32:96] = True
        assert np.array_equal(masks.masks[0], seen & ~square)
        assert masks.scores.tolist() == [14 / 16, 2 / 16]
        assert masks.labels == ("cluster 0", "cluster 1")
    again = vislab.segment(tmp_path / "scene.png", model=flat(), method=method, refine=True, **options)
    assert np.array_equal(again.masks[-1], square)
    assert again.labels[-1].endswith(", refined")
    assert again.facts["refined"] == "by GrabCut, on 128×64 px"


def test_tokens_that_nothing_divides_are_refused() -> None:
    with pytest.raises(ValueError, match="more alike than tau"):
        tokencut(np.eye(3), -0.6)
    with pytest.raises(ValueError, match="all tokens of this image are the same"):
        kmeans(np.ones((5, 3)), 2, 0)
    with pytest.raises(ValueError, match="4097 patches takes too long"):
        tokencut(np.zeros((4097, 2)), 0.2)


def test_models_without_such_tokens_are_refused() -> None:
    module = hf.ResNetModel(hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]))
    without = vislab.load(module, processor=hf.ViTImageProcessor(size={"height": 32, "width": 32}))
    with pytest.raises(ValueError, match="no patch tokens"):
        vislab.segment(SCENE, model=without, method="kmeans")
    with pytest.raises(ValueError, match="no attention that is one map over the image"):
        vislab.segment(SCENE, model=without)
