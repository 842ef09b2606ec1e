"""Laws of Grad-ECLIP: it is the paper's formula on the queries, keys and values of the model's own eager code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
import transformers as hf
import wording
from models.test_model import photo
from torch import Tensor

import vislab

IMAGE = photo((50, 70))


def formula(own: Any, pixels: Tensor, layer: int, **sizes: Any) -> np.ndarray:
    tokens = wording.tokenizer()(["a red door"], return_tensors="pt", return_token_type_ids=False)
    own.set_attn_implementation("eager")
    attention, kept = own.vision_model.encoder.layers[layer].self_attn, {}
    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(attention, name).register_forward_hook(lambda m, a, out, name=name: kept.update({name: out[0]}))
    attention.out_proj.register_forward_pre_hook(lambda m, a: kept.update(heads=a[0]))
    score = own(pixel_values=pixels, **tokens, **sizes).logits_per_image[0, 0]
    (gradient,) = torch.autograd.grad(score, kept["heads"])
    near = F.normalize(kept["q_proj"][:1], dim=-1) @ F.normalize(kept["k_proj"][1:], dim=-1).mT
    loosened = (near[0] - near.min()) / (near.max() - near.min())
    return ((gradient[0, 0] * kept["v_proj"][1:]).sum(-1) * loosened).detach().numpy()


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("layer", [-1, 0])
def test_it_is_the_formula(size: tuple[int, int], layer: int) -> None:
    model = vislab.load(wording.make("CLIP"), processor=wording.processor())
    heat = vislab.explain(IMAGE, model=model, method="grad_eclip", target="a red door", image_size=size, layer=layer)
    pixels = model.preprocessing(IMAGE, size)[0]
    expected = formula(wording.make("CLIP"), pixels, layer, interpolate_pos_encoding=size != (32, 32))
    assert heat.values.ravel() == pytest.approx(expected, rel=1e-4, abs=1e-5 * float(np.abs(expected).max()))
    assert heat.signed


def test_an_even_image_has_no_key_that_is_nearer() -> None:
    module: Any = wording.make("CLIP")
    with torch.no_grad():
        for layer in module.vision_model.encoder.layers:
            layer.self_attn.k_proj.weight.zero_()
    heat = vislab.explain(
        IMAGE, model=vislab.load(module, processor=wording.processor()), method="grad_eclip", target="a red door"
    )
    assert np.isfinite(heat.values).all()
    assert np.ptp(heat.values) > 0


def test_it_is_refused_where_no_cls_is_read_or_no_keys_are_known() -> None:
    for family, words in (
        ("SigLIP", "SiglipModel has no CLS token whose attention grad_eclip loosens: take method='legrad'"),
        ("BLIP", r"makes its attention without a fused call: .* its queries and keys cannot"),
    ):
        model = vislab.load(wording.make(family), processor=wording.processor())
        with pytest.raises((ValueError, vislab.AttentionRefused), match=words):
            vislab.explain(IMAGE, model=model, method="grad_eclip", target="a red door")
    beit = hf.BeitForImageClassification(hf.BeitConfig(**tiny.VIT, num_labels=5, use_mean_pooling=True))
    with pytest.raises(ValueError, match=r"the score reads nothing of CLS at .*: take method='legrad'"):
        vislab.explain(IMAGE, model=tiny.roughened(beit), method="grad_eclip", target=1)
