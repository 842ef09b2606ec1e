"""Laws of the kernel: what it computes is what transformers' own model computes with the page's weights."""

from __future__ import annotations

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
from vislab.page import quantise
from vislab.page.class_page import sizes

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


def check(
    model: vislab.Model, held: kernel.Kernel, patch: int, scale: float, share: float, tight: float = 1e-5
) -> None:
    image = vislab.load_image(vislab.samples()["church"])
    pixels, _ = model.preprocessing(image)
    patches, positions = inputs(held, pixels[0], patch)
    kept = (
        None
        if share == 1
        else sorted(np.random.default_rng(patch).permutation(len(patches))[: int(share * len(patches))])
    )
    with model.prepared(image, patch_size=patch) as ready, torch.no_grad(), keeping(model.module, kept):
        with vislab.capture(model.module, attention_scale=scale) as cap:
            logits = model.module(ready.pixels, **ready.arguments).logits[0].numpy()
        wanted = np.stack([cap.attention(site, query=slice(None))[0].numpy() for site in cap.sites])
        rollout = cap.rollout(0)[0].numpy()
    rows = slice(None) if kept is None else kept
    form = held.form
    found = held.forward(patches[rows], positions[rows], np.full((form.layers, form.heads), scale))
    attention = torch.from_numpy(found["products"]).softmax(-1).numpy()
    assert np.abs(found["logits"] - logits).max() <= tight
    assert np.abs(found["cls"] - wanted[:, :, 0]).max() <= tight
    assert np.abs(attention[:, :, 0] - wanted[:, :, 0]).max() <= tight
    assert (
        np.abs(attention - wanted).max() <= 5 * tight
    )  # the largest product of any two tokens is larger than those of CLS
    assert np.abs(found["rollout"] - rollout).max() <= tight


@pytest.mark.slow
@pytest.mark.parametrize("patch", PATCHES)
def test_logits_attention_and_rollout_are_those_of_torch(
    embedded: tuple[vislab.Model, kernel.Kernel], patch: int
) -> None:
    model, held = embedded
    for scale in SCALES if patch > 8 else (2.5,):
        for share in KEPT:
            check(model, held, patch, scale, share)


def random_vit(**given: Any) -> vislab.Model:
    """A ViT with random weights far from uniform attention, of any widths."""
    torch.manual_seed(1)
    widths = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 72,
        "num_labels": 5,
    }
    module = ViTForImageClassification(ViTConfig(**(widths | given))).eval()
    for parameter in module.parameters():
        parameter.data = torch.randn_like(parameter) * (0.7 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5)
    return vislab.load(module, processor=transformers.ViTImageProcessor())


@pytest.mark.parametrize(
    "widths",
    [
        {"hidden_size": 16, "num_attention_heads": 1, "num_labels": 2},
        {"hidden_size": 40, "num_attention_heads": 5, "num_labels": 8, "layer_norm_eps": 1e-6},
        {"hidden_size": 48, "num_attention_heads": 2, "intermediate_size": 24, "num_labels": 1000, "patch_size": 8},
        {
            "hidden_size": 384,
            "num_attention_heads": 6,
            "intermediate_size": 1536,
            "num_hidden_layers": 1,
            "num_labels": 9,
        },
    ],
)
@pytest.mark.parametrize("kind", ["int8", "float16"])
def test_widths_are_arguments(widths: dict[str, Any], kind: quantise.Weights) -> None:
    needed("wasmtime")
    model = random_vit(**widths)
    held = kernel.Kernel(*kernel.dequantised(model, kind))
    check(model, held, 56, 1.5, 0.5, tight=3e-5)  # logits are a hundred times those of the embedded model


def test_each_layer_and_head_has_its_scale_and_a_head_is_knocked_out(
    embedded: tuple[vislab.Model, kernel.Kernel],
) -> None:
    model, held = embedded
    image = vislab.load_image(vislab.samples()["church"])
    pixels, _ = model.preprocessing(image)
    patches, positions = inputs(held, pixels[0], 56)
    scale, on = np.ones((12, 3)), np.ones((12, 3))
    scale[4], scale[9], on[7, 1] = 0.5, 2, 0
    dim = held.form.dim // held.form.heads

    def without(_: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        heads = given[0].clone()
        heads[..., dim : 2 * dim] = 0
        return (heads, *given[1:])

    handle = model.module.vit.layers[7].attention.o_proj.register_forward_pre_hook(without)
    try:
        wanted = model.run(image, patch_size=56, attention_scale={4: 0.5, 9: 2}).logits.numpy()
    finally:
        handle.remove()
    found = held.forward(patches, positions, scale, on)["logits"]
    assert np.abs(found - wanted).max() <= 1e-5
    assert np.abs(found - held.forward(patches, positions, scale)["logits"]).max() > 1e-3


def test_memory_that_is_refused_is_told(embedded: tuple[vislab.Model, kernel.Kernel]) -> None:
    held = embedded[1]
    mark = held("mark")
    assert held("alloc", 2**32 - 2**20 - 1) == 0
    assert held("mark") == mark
    most = 2**32 // (4 * held.form.dim) - 1  # tokens whose numbers alone would fill all that can be addressed
    for call in (
        ("forward", most, 0, 0, 0, 0),
        ("look", most, 0, 0, 0, 0, 0),
        ("walk", most, 0, 0, 11, 0),
        ("classify", most, 0, 0),
    ):
        assert held(*call) == 1, call
        assert held("mark") == mark
    assert held("configure", 12, 1, 1, 8, 3, 1, 1e-6) == 1  # heads of 12 numbers


def test_the_kernel_is_what_the_pinned_compiler_makes_of_its_source() -> None:
    needed("ziglang")
    committed = (kernel.STATIC / "vit.wasm").read_bytes()
    assert kernel.compiled() == committed
    assert len(committed) <= 12_000


def test_code_that_does_not_compile_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    needed("ziglang")
    monkeypatch.setattr(kernel, "FLAGS", ["--no-such-flag"])
    with pytest.raises(RuntimeError, match="no-such-flag"):
        kernel.compiled()
