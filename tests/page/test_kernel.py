"""Laws of the kernel: what it computes is what transformers' own model computes with the page's weights."""

from __future__ import annotations

import copy
import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import kernel
import numpy as np
import pytest
import torch
import transformers
from transformers import ViTConfig, ViTForImageClassification

import vislab
from vislab.page import quantise, weights
from vislab.page.class_page import sizes
from vislab.page.quantise import packed, unpacked

PATCHES = (56, 32, 28, 16, 14, 8)
SCALES = (0.5, 1.0, 2.5)
KEPT = (1.0, 0.3)


def needed(*modules: str) -> None:
    """Skip where an extra of the tests is not installed; in CI, fail."""
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        reason = f"not installed: {', '.join(missing)} (pip install -e '.[test]')"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.fixture(scope="module")
def embedded() -> tuple[vislab.Model, kernel.Kernel]:
    needed("wasmtime")
    model = vislab.load("embedded", device="cpu")
    form, tensors = kernel.dequantised(model, "int8")
    return model, kernel.Kernel(form, tensors)


def inputs(held: kernel.Kernel, pixels: torch.Tensor, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """pixels: (3, side, side), normalised -> patches and positions, made in one direction after the other."""
    form, table = held.form, sizes(held.form)[patch]
    across = form.side // patch
    cut = pixels.double().numpy().reshape(3, across, patch, across, patch).transpose(1, 3, 0, 2, 4)
    old = held.positions.reshape(form.side // form.patch, -1, form.dim)
    if table["pixels"] is not None:
        matrix = np.array(table["pixels"]).reshape(form.patch, patch)
        cut = matrix @ cut @ matrix.T
        places = np.array(table["places"]).reshape(across, -1)
        old = np.einsum("ai,bj,ijd->abd", places, places, old)
    return cut.reshape(across**2, -1), old.reshape(across**2, -1)


@contextmanager
def keeping(module: Any, kept: Sequence[int] | None) -> Iterator[None]:
    """Inside, the module's encoder sees CLS and the patches that are kept."""
    indices = None if kept is None else [0, *(index + 1 for index in kept)]
    handle = module.vit.embeddings.register_forward_hook(lambda _, __, out: out if indices is None else out[:, indices])
    try:
        yield
    finally:
        handle.remove()


def check(model: vislab.Model, held: kernel.Kernel, patch: int, scale: float, share: float, tight: float = 1e-5) -> None:
    image = vislab.load_image(vislab.samples()["church"])
    pixels, _ = model.preprocessing(image)
    patches, positions = inputs(held, pixels[0], patch)
    kept = None if share == 1 else sorted(np.random.default_rng(patch).permutation(len(patches))[: int(share * len(patches))])
    with model.prepared(image, patch_size=patch) as ready, torch.no_grad(), keeping(model.module, kept):
        with vislab.capture(model.module, attention_scale=scale) as cap:
            logits = model.module(ready.pixels, **ready.arguments).logits[0].numpy()
        wanted = np.stack([cap.attention(site, query=0)[0].numpy() for site in cap.sites])
        rollout = cap.rollout(0)[0].numpy()
    rows = slice(None) if kept is None else kept
    form = held.form
    found = held.forward(patches[rows], positions[rows], np.full((form.layers, form.heads), scale))
    attention = torch.from_numpy(found["q"][:, :, :1] @ found["k"].swapaxes(2, 3)).softmax(-1)[:, :, 0].numpy()
    assert np.abs(found["logits"] - logits).max() <= tight
    assert np.abs(attention - wanted).max() <= tight
    assert np.abs(found["rollout"] - rollout).max() <= tight


@pytest.mark.parametrize("patch", PATCHES)
def test_logits_attention_and_rollout_are_those_of_torch(embedded: tuple[vislab.Model, kernel.Kernel], patch: int) -> None:
    model, held = embedded
    for scale in SCALES if patch > 8 else (2.5,):
        for share in KEPT:
            check(model, held, patch, scale, share)
