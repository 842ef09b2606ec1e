"""Laws of patch tokens: they are the model's own hidden states, each on its patch's pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers as hf
from tiny import VIT

import vislab

SCENE = np.full((64, 64, 3), 200, np.uint8)
SCENE[16:48, 8:32] = (220, 30, 20)


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_tokens_are_those_that_the_block_makes(layer: int) -> None:
    module = hf.ViTModel(hf.ViTConfig(**VIT)).eval()
    model = vislab.load(module)
    found = vislab.patch_tokens(SCENE, model=model, layer=layer)
    pixels, _ = model.preprocessing(SCENE)
    with torch.no_grad():
        states = module(pixels, output_hidden_states=True)
    layers = len(module.layers)
    assert found.name == f"layer {layer % layers}"
    values = torch.from_numpy(np.asarray(found))
    if layer == -1:
        torch.testing.assert_close(module.layernorm(values), states.last_hidden_state[0, 1:], atol=1e-5, rtol=1e-5)
    else:
        torch.testing.assert_close(values, states.hidden_states[layer + 1][0, 1:], atol=1e-5, rtol=1e-5)


def test_colours_lie_on_the_pixels_of_their_patches() -> None:
    """Two patches that are another than all others have the other end of the first component, on their pixels."""
    module = hf.ViTModel(hf.ViTConfig(**VIT)).eval()
    with torch.no_grad():
        module.embeddings.position_embeddings.zero_()
        for layer in module.layers:
            for part in (layer.attention.o_proj, layer.mlp.fc2):
                part.weight.zero_()
                part.bias.zero_()
    how = {
        "size": {"shortest_edge": 32},
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32},
    }
    model = vislab.load(module, processor=hf.CLIPImageProcessor(**how))
    scene = np.full((64, 128, 3), 200, np.uint8)
    scene[16:48, 48:64] = (220, 30, 20)
    tokens = vislab.patch_tokens(scene, model=model)
    drawn, square = tokens.overlay(), np.zeros((64, 128), bool)
    square[16:48, 48:64] = True
    seen = np.zeros_like(square)
    seen[:, 32:96] = True
    assert np.array_equal(drawn[~seen], scene[~seen])
    high = drawn[..., 0] > 127
    assert np.array_equal(high & seen, square) or np.array_equal(~high & seen, square)
    drawn_cells = np.unique(drawn[square].reshape(-1, 3), axis=0)
    assert len(drawn_cells) == 2  # of its two patches


def test_what_has_no_patch_tokens_is_refused() -> None:
    module = hf.ViTModel(hf.ViTConfig(**VIT)).eval()
    model = vislab.load(module)
    with pytest.raises(ValueError, match="no layer 9"):
        vislab.patch_tokens(SCENE, model=model, layer=9)
    with torch.no_grad():
        module.layers[-1].mlp.fc2.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        vislab.patch_tokens(SCENE, model=model)
