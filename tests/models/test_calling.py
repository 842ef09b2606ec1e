"""Laws of calling: what is run is the part that sees, through wrappers, with what it takes beside the pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import transformers as hf
from models.test_model import photo
from torch import nn

import vislab
from vislab.models.calling import core, image_part

IMAGE: dict[str, Any] = {"vision_config": tiny.VIT, "text_config": tiny.TEXT}


class Adapter(nn.Module):
    """As adapters around a model are: attributes are handed on, and forward takes anything."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.base(*args, **kwargs)


@pytest.mark.parametrize("wrap", [Adapter, nn.DataParallel, lambda m: Adapter(nn.DataParallel(m))])
@pytest.mark.parametrize("sizes", [{}, {"image_size": 48}, {"patch_size": 16}])
def test_a_wrapped_model_is_what_is_inside(wrap: Callable[[nn.Module], nn.Module], sizes: dict[str, Any]) -> None:
    module = tiny.make("ViT classifier").eval()
    assert core(wrap(module)) is module
    heats = [vislab.explain(photo((50, 70)), model=m, **sizes).values for m in (module, wrap(module))]
    assert np.array_equal(*heats)


COMPOSITES: dict[str, Callable[[], nn.Module]] = {
    "CLIP": lambda: hf.CLIPModel(hf.CLIPConfig(**IMAGE)),
    "BLIP": lambda: hf.BlipModel(hf.BlipConfig(**IMAGE)),
    "OWL-ViT": lambda: hf.OwlViTModel(hf.OwlViTConfig(**IMAGE)),
    "AltCLIP": lambda: hf.AltCLIPModel(hf.AltCLIPConfig(vision_config=tiny.VIT, text_config=tiny.TEXT)),
    "SigLIP2": lambda: hf.Siglip2Model(
        hf.Siglip2Config(vision_config=tiny.SIZE | {"patch_size": 8, "num_patches": 16}, text_config=tiny.TEXT)
    ),
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_of_a_model_that_takes_words_the_part_that_sees_is_shown(name: str) -> None:
    torch.manual_seed(0)
    module = COMPOSITES[name]().eval()
    part = image_part(module)
    assert part is not module
    one, other = (vislab.explain(photo((50, 70)), model=m) for m in (module, part))
    assert one.values.shape == (4, 4)
    assert np.array_equal(one.values, other.values)


def test_patches_that_siglip2_is_given_are_those_of_its_own_processor() -> None:
    module = image_part(COMPOSITES["SigLIP2"]()).eval()
    model = vislab.load(module)
    image = photo((32, 32))
    own = hf.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)(image, return_tensors="pt")
    assert own["spatial_shapes"].tolist() == [[4, 4]]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        theirs, ours = module(**own), model.module(pixels)
    assert torch.allclose(theirs.last_hidden_state, ours.last_hidden_state, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_models_of_other_channels_are_refused_with_a_way_that_works(channels: int) -> None:
    module = tiny.roughened(hf.ViTForImageClassification(hf.ViTConfig(**tiny.VIT, num_channels=channels)))
    with pytest.raises(ValueError, match=rf"It takes images of {channels} channels?, and pictures have 3: load a mod"):
        vislab.load(module)

    class Around(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, pixels: torch.Tensor) -> Any:
            grey = pixels.mean(1, keepdim=True)
            return self.model(grey if channels == 1 else torch.cat([pixels, grey.expand(-1, channels - 3, -1, -1)], 1))

    for method in ("rollout", "relevance", "occlusion"):
        heat = vislab.explain(photo((32, 32)), model=Around(), method=method)
        assert heat.values.shape == (4, 4)
        assert np.ptp(heat.values) > 0


def test_a_module_that_needs_more_than_an_image_says_so() -> None:
    config = hf.SegGptConfig(
        **tiny.VIT | {"image_size": [32, 32]}, mlp_dim=48, merge_index=0, intermediate_hidden_state_indices=[0, 1, 1, 1]
    )
    with pytest.raises(ValueError, match=r"does not run on an input of 3 channels .* missing 2 required positional"):
        vislab.load(hf.SegGptModel(config))
