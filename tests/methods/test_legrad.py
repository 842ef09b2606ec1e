"""Laws of LeGrad: it is what autograd says of each layer's own score at that layer's own eager attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
import wording
from models.test_model import photo
from torch import Tensor

import vislab

IMAGE = photo((50, 70))


def dense(layers: list[Tensor], attentions: list[Tensor], score: Any, patches: slice) -> np.ndarray:
    """layers: what each hands on, in the graph of its eager attention; score: of one layer's tokens."""
    values: Any = 0
    for tokens, attention in zip(layers, attentions, strict=True):
        (gradient,) = torch.autograd.grad(score(tokens), attention, retain_graph=True)
        values = values + gradient.clamp_min(0)[0].mean((0, 1))[patches]
    return values.numpy()


@torch.enable_grad()
def eager(vision: Any, pixels: Tensor, **sizes: Any) -> tuple[list[Tensor], list[Tensor]]:
    """What each layer of a vision tower hands on, and its attention, by the model's own eager code."""
    vision.set_attn_implementation("eager")
    made: list[Tensor] = []
    stack = vision.encoder.layers if hasattr(vision, "encoder") else vision.layers
    handles = [layer.register_forward_hook(lambda *a: made.append(a[2])) for layer in stack]
    attentions = vision(pixels, output_attentions=True, **sizes).attentions
    for handle in handles:
        handle.remove()
    return made, [*attentions]


@pytest.mark.parametrize("family", ["CLIP", "SigLIP"])
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_it_is_autograd_on_eager_attention(family: str, size: tuple[int, int]) -> None:
    model, own = vislab.load(wording.make(family), processor=wording.processor()), wording.make(family)
    heat = vislab.explain(IMAGE, model=model, method="legrad", target="a red door", image_size=size)
    tokens = wording.tokenizer()(
        ["a red door"], return_tensors="pt", padding="max_length", max_length=wording.MOST, return_token_type_ids=False
    )
    with torch.no_grad():
        text = F.normalize(own.get_text_features(**tokens).pooler_output, dim=-1)[0]
    layers, attentions = eager(
        own.vision_model, model.preprocessing(IMAGE, size)[0], interpolate_pos_encoding=size != (32, 32)
    )

    def score(tokens: Tensor) -> Tensor:
        if family == "CLIP":
            pooled = own.visual_projection(own.vision_model.post_layernorm(tokens[:, 0]))
        else:
            pooled = own.vision_model.head(own.vision_model.post_layernorm(tokens))
        return F.normalize(pooled, dim=-1)[0] @ text * own.logit_scale.exp()

    expected = dense(layers, attentions, score, heat.grid.patch_tokens)
    assert heat.values.ravel() == pytest.approx(expected, rel=1e-5, abs=1e-5 * float(expected.max()))
    assert (heat.signed, np.ptp(heat.values) > 0) == (False, True)


def test_of_a_class_of_a_plain_vit_too() -> None:
    module, own = tiny.make("ViT classifier"), tiny.make("ViT classifier").eval()
    model = vislab.load(module)
    heat = vislab.explain(IMAGE, model=model, method="legrad", target=3)
    own.set_attn_implementation("eager")
    layers, attentions = eager(own.vit, model.preprocessing(IMAGE)[0])
    expected = dense(layers, attentions, lambda x: own.classifier(own.vit.layernorm(x)[:, 0])[0, 3], slice(1, None))
    assert heat.values.ravel() == pytest.approx(expected, rel=1e-5, abs=1e-5 * float(expected.max()))
    best = vislab.explain(IMAGE, model=model, method="legrad")
    assert best.target == model.predict(IMAGE)[0][0]


def test_layers_that_do_not_follow_each_other_are_refused() -> None:
    class Twice(torch.nn.Module):
        """A block that runs twice."""

        def __init__(self, vit: Any) -> None:
            super().__init__()
            self.vit = vit
            vit.vit.layers[1] = vit.vit.layers[0]

        def forward(self, pixels: Tensor) -> Tensor:
            return self.vit(pixels).logits

    with pytest.raises(vislab.AttentionRefused, match="a block of Twice runs more than once"):
        vislab.explain(IMAGE, model=Twice(tiny.make("ViT classifier")), method="legrad", target=1)


@pytest.mark.parametrize("method", ["legrad", "maskclip"])
def test_what_reads_the_last_layer_must_score_each_image_alone(method: str) -> None:
    class Mixed(torch.nn.Module):
        def __init__(self, tail: Any) -> None:
            super().__init__()
            self.vit, self.tail = tiny.make("ViT"), tail
            self.head = torch.nn.Linear(32, 5)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.head(self.tail(self.vit(pixels).last_hidden_state[:, 0]))

    for tail, words in (
        (lambda x: x - x.mean(0) * (len(x) > 1), "in Mixed does not make one score an image"),
        (lambda x: x.view(1, 32), "vit.layers.1 does not run on several images"),
    ):
        with pytest.raises(vislab.AttentionRefused, match=words):
            vislab.explain(IMAGE, model=Mixed(tail), method=method, target=1)
