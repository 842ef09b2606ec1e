"""Laws of layers: an index never shows another layer, and no walk leaves one out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import transformers as hf
from models.test_model import photo
from models.test_places import vit
from timm.models.vision_transformer import Block
from torch import Tensor, nn

import vislab
from vislab.engine.site import AttentionRefused
from vislab.methods.layers import encoder

WALKS = ["rollout", "relevance", "grad_rollout"]


def dropping() -> nn.Module:
    """A model of 4 layers that drops two tokens after each of the first two."""
    module = vit(depth=4, num_classes=3)
    for block in module.blocks[:2]:
        block.register_forward_hook(lambda _, args, out: out[:, :-2])
    return module


def test_layers_that_fit_are_read_by_their_own_index_and_no_other_is() -> None:
    model = vislab.load(dropping())
    assert model.layers == 4
    run = model.run(photo((50, 70)))
    assert len(encoder(run.capture, run.grid)) == 4
    heat = vislab.explain(photo((50, 70)), model=model, method="cls", layer=0)
    expected = run.capture.attention("blocks.0.attn", 0)[0].mean(0)[run.grid.patch_tokens]
    assert np.allclose(heat.values.flatten(), expected, atol=1e-6)
    for layer, name, tokens in ((1, "blocks.1.attn", 15), (2, "blocks.2.attn", 13), (-1, "blocks.3.attn", 13)):
        words = (
            rf"{name} attends over {tokens} tokens, and the input makes 4 × 4 \+ 1 = 17 tokens: .*layer 0 can be read"
        )
        with pytest.raises(ValueError, match=words):
            vislab.explain(photo((50, 70)), model=model, method="cls", layer=layer)


@pytest.mark.parametrize("settings", [*({"method": m} for m in WALKS), {"method": "cls", "layer": "mean"}])
def test_what_needs_a_layer_that_does_not_fit_is_refused_by_its_name(settings: dict[str, Any]) -> None:
    model = vislab.load(dropping())
    with pytest.raises(ValueError, match=r"blocks\.1\.attn attends over 15 tokens"):
        vislab.explain(photo((50, 70)), model=model, **settings)
    with pytest.raises(ValueError, match=r"blocks\.1\.attn attends over 15 tokens"):
        vislab.survey(model.run(photo((50, 70))))
    assert vislab.explain(photo((50, 70)), model=model, layer=0).values.shape == (4, 4)  # a walk through one that fits


def test_tokens_that_join_on_the_way_are_named() -> None:
    config = hf.EomtConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=4, image_size=32, patch_size=8, num_queries=5,
        num_blocks=2, intermediate_size=48,
    )  # fmt: skip
    model = vislab.load(hf.EomtForUniversalSegmentation(config).eval())
    assert model.layers == 4
    with pytest.raises(
        ValueError, match=r"layers\.2\.attention attends over 26 tokens, and the input makes 4 × 4 \+ 5"
    ):
        vislab.explain(photo((50, 70)), model=model)
    assert vislab.explain(photo((50, 70)), model=model, layer=1).values.shape == (4, 4)


class Decoded(nn.Module):
    """A score that a decoder makes of what the layers made."""

    def __init__(self) -> None:
        super().__init__()
        self.v, self.decoder = vit(num_classes=3), nn.ModuleList([Block(32, 4)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.v._pos_embed(self.v.patch_embed(x))
        for block in [*self.v.blocks, *self.decoder]:
            x = block(x)
        return self.v.forward_head(x)


def test_a_score_that_a_decoder_makes_is_not_walked_without_it() -> None:
    model = vislab.load(Decoded().eval())
    assert model.layers == 2
    with pytest.raises(AttentionRefused, match=r"decoder\.0\.attn \(Attention\) attends after the layers"):
        vislab.explain(photo((50, 70)), model=model, method="relevance")
    last = vislab.explain(photo((50, 70)), model=model, method="cls", layer=-1)
    assert np.array_equal(last.values, vislab.explain(photo((50, 70)), model=model, method="cls", layer=1).values)


class Pair(nn.Module):
    """A block in which two parts attend to the same tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = Block(32, 4), Block(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.one.attn(self.one.norm1(x)) + self.two.attn(self.two.norm1(x))


def test_two_that_attend_in_one_block_are_not_walked() -> None:
    module = vit(num_classes=3)
    module.blocks = nn.Sequential(Pair(), Pair())
    with pytest.raises(AttentionRefused, match=r"blocks\.0\.one\.attn and blocks\.0\.two\.attn attend in one block"):
        vislab.explain(photo((50, 70)), model=module)
    assert vislab.explain(photo((50, 70)), model=module, method="cls", layer=3).values.shape == (4, 4)
