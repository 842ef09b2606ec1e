"""Laws of MaskCLIP: a patch's score is that of its values of the last layer, by the model's own parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
import wording
from models.test_model import photo

import vislab

IMAGE = photo((50, 70))


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_it_is_the_dense_formula(size: tuple[int, int]) -> None:
    model, own = vislab.load(wording.make("CLIP"), processor=wording.processor()), wording.make("CLIP")
    heat = vislab.explain(IMAGE, model=model, method="maskclip", target="a red door", image_size=size)
    given: Any = {}
    last = own.vision_model.encoder.layers[-1]
    last.register_forward_pre_hook(lambda m, a, k: given.update(x=a[0] if a else k["hidden_states"]), with_kwargs=True)
    pixels = model.preprocessing(IMAGE, size)[0]
    own.vision_model(pixels, interpolate_pos_encoding=size != (32, 32))
    x = given["x"][0, 1:]
    x = x + last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(x)))
    x = x + last.mlp(last.layer_norm2(x))
    dense = F.normalize(own.visual_projection(own.vision_model.post_layernorm(x)), dim=-1)
    tokens = wording.tokenizer()(["a red door"], return_tensors="pt", return_token_type_ids=False)
    text = F.normalize(own.get_text_features(**tokens).pooler_output, dim=-1)[0]
    assert heat.values.ravel() == pytest.approx((dense @ text * own.logit_scale.exp()).numpy(), rel=1e-4, abs=1e-5)
    assert (heat.signed, heat.query) == (False, None)


def test_it_is_the_models_own_score_where_all_patches_are_alike() -> None:
    model = vislab.load(wording.make("SigLIP"), processor=wording.processor())
    with torch.no_grad():
        model.module.model.vision_model.embeddings.position_embedding.weight.zero_()  # type: ignore[union-attr]
    grey = np.full((40, 40, 3), 90, np.uint8)
    heat = vislab.explain(grey, model=model, method="maskclip", target="a red door")
    logit = torch.tensor(dict(model.predict(grey, labels=["a red door"]))["a red door"]).logit()
    assert heat.values == pytest.approx(np.full((4, 4), float(logit)), abs=1e-4)


@pytest.mark.parametrize("family", ["DINOv3", "timm EVA", "BEiT"])
def test_layers_that_take_places_are_refused(family: str) -> None:
    class Headed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit, self.head = tiny.make(family), torch.nn.LazyLinear(5)
            self(torch.zeros(1, 3, 32, 32))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            output = self.vit(pixels)
            return self.head(output if isinstance(output, torch.Tensor) else output.last_hidden_state[:, 0])

    with pytest.raises(vislab.AttentionRefused, match=r"does not run on single tokens, as .* take method='legrad'"):
        vislab.explain(IMAGE, model=Headed().eval(), method="maskclip", target=1)
    assert np.ptp(vislab.explain(IMAGE, model=Headed().eval(), method="legrad", target=1).values) > 0
