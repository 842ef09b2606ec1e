"""Laws of models without attention over one grid: maps that captum makes too, on cells that are where they are said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers as hf
from captum.attr import IntegratedGradients, LayerGradCam
from models.test_model import photo
from tiny import roughened
from torch import Tensor, nn

import vislab
from vislab.figures.captions import describe

IMAGE = photo((64, 96))
SWIN = {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}


class Plain(nn.Module):
    """A network of convolutions, whose classes read the mean of the last map."""

    def __init__(self, last_layout: str = "NCHW") -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.stage = nn.Conv2d(8, 16, 2, 2)
        self.order = Last(last_layout)
        self.head = nn.Linear(16, 3)
        self.num_classes = 3
        self.img_size = 64

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.order(torch.tanh(self.stage(torch.tanh(self.stem(pixels)))))
        dims = {"NCHW": (2, 3), "NHWC": (1, 2), "tokens": (1,)}[self.order.layout]
        return self.head(x.square().mean(dims))


class Last(nn.Module):
    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        if self.layout == "NCHW":
            return x * 1
        return x.permute(0, 2, 3, 1) if self.layout == "NHWC" else x.flatten(2).mT


def plain(layout: str = "NCHW") -> Any:
    torch.manual_seed(0)
    return vislab.load(roughened(Plain(layout)).eval())


def hf_swin() -> nn.Module:
    return hf.SwinForImageClassification(hf.SwinConfig(**SWIN, num_labels=3))


MODELS: dict[str, Any] = {
    "ResNet": lambda: timm.create_model("resnet10t", num_classes=3),
    "ConvNeXt": lambda: timm.create_model("convnext_atto", num_classes=3, depths=(1, 1, 1, 1)),
    "EdgeNeXt": lambda: timm.create_model("edgenext_xx_small", num_classes=3),
    "PoolFormer": lambda: timm.create_model("poolformer_s12", num_classes=3),
    "EfficientNet": lambda: timm.create_model("efficientnet_lite0", num_classes=3),
    "Mixer": lambda: timm.create_model("mixer_s32_224", num_classes=3),
    "Swin": hf_swin,
    "SqueezeNet": lambda: torchvision.models.squeezenet1_1(num_classes=3),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_vision_model_gets_a_map(name: str) -> None:
    torch.manual_seed(0)
    module = MODELS[name]().eval()
    for parameter in module.parameters():  # some begin with a head of zeros, by which nothing would speak for a class
        parameter.data += 0.01 * torch.randn_like(parameter)
    model = vislab.load(module)
    assert model.labels is not None
    assert len(model.labels) == 3
    for method, more in (("grad_cam", {}), ("integrated_gradients", {"steps": 1}), ("occlusion", {"square": 112})):
        more = {"square": 32} if name == "Swin" and method == "occlusion" else more
        heat = vislab.explain(IMAGE, model=model, method=method, target=1, **more)
        assert heat.values.any()
        assert heat.target == model.labels[1]
    with pytest.raises((ValueError, RuntimeError), match=r"grad_cam.*integrated_gradients.*occlusion"):
        vislab.explain(IMAGE, model=model, method="rollout")


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "tokens"])
def test_grad_cam_is_captum_s_on_the_last_map(layout: str) -> None:
    model, same = plain(layout), plain()
    pixels, _ = model.preprocessing(IMAGE)
    own = LayerGradCam(same.module, same.module.order).attribute(pixels, target=2)[0, 0].detach()
    heat = vislab.explain(IMAGE, model=model, method="grad_cam", target=2)
    assert np.allclose(heat.values, own.numpy(), atol=1e-6)
    assert heat.signed
    assert heat.facts["cells"] == "8 × 8 cells of the last feature map, order, spread evenly over the image"
    assert heat.facts["cells"] in describe(heat)
    assert not any("layer" in phrase or "token" in phrase for phrase in describe(heat))


def test_integrated_gradients_are_captum_s_summed_over_squares() -> None:
    model = plain()
    pixels, _ = model.preprocessing(IMAGE)
    own = IntegratedGradients(model.module).attribute(pixels, target=0, n_steps=20)[0].sum(0).detach()
    heat = vislab.explain(IMAGE, model=model, method="integrated_gradients", steps=20, patch_size=16, target=0)
    assert np.allclose(heat.values, own.reshape(4, 16, 4, 16).sum((1, 3)).numpy(), atol=1e-5)
    assert "4 × 4 squares of 16 px" in describe(heat)


@pytest.mark.parametrize("square", [8, 16, 64])
@torch.no_grad()
def test_occlusion_is_the_fall_of_the_score_without_each_square(square: int) -> None:
    model = plain()
    pixels, _ = model.preprocessing(IMAGE)
    whole = model.module(pixels)[0, 1]
    expected = np.zeros((64 // square, 64 // square))
    for row, col in np.ndindex(expected.shape):
        without = pixels.clone()
        without[..., row * square : (row + 1) * square, col * square : (col + 1) * square] = 0
        expected[row, col] = whole - model.module(without)[0, 1]
    heat = vislab.explain(IMAGE, model=model, method="occlusion", square=square, target=1)
    assert np.allclose(heat.values, expected, atol=1e-5)
    assert heat.grid.patch == (square, square)
    with pytest.raises(ValueError, match="squares of 1 to 64 px"):
        vislab.explain(IMAGE, model=model, method="occlusion", square=65)


def test_squares_of_occlusion_are_chosen_for_vision_transformers_too() -> None:
    heat = vislab.explain(IMAGE, method="occlusion", square=56)
    assert heat.values.shape == (4, 4)
    assert "4 × 4 squares of 56 px" in describe(heat)


@pytest.mark.parametrize("corner", [(8, 72), (40, 8)])
def test_a_lit_square_lies_in_its_cell(corner: tuple[int, int]) -> None:
    """The map of a score that only what is bright raises is highest over what is bright, whatever the map's layout."""
    image = np.full((64, 96, 3), 124, np.uint8)
    y, x = corner
    image[y : y + 16, x : x + 16] = 255
    for layout in ("NCHW", "NHWC", "tokens"):
        model = plain(layout)
        for method in ("grad_cam", "occlusion"):
            heat = vislab.explain(image, model=model, method=method, target=brightness)
            row, col = np.unravel_index(np.abs(heat.values - np.median(heat.values)).argmax(), heat.values.shape)
            x0, y0, x1, y1 = heat.box(int(row), int(col))
            assert y - 8 <= (y0 + y1) / 2 <= y + 24
            assert x - 12 <= (x0 + x1) / 2 <= x + 28


def brightness(output: Tensor) -> Tensor:
    return output.square().sum()


def test_cells_that_do_not_divide_the_input_are_spread_evenly_over_it() -> None:
    model = plain()
    heat = vislab.explain(IMAGE, model=model, method="grad_cam", image_size=68, target=0)
    assert heat.values.shape == (8, 8)
    assert heat.box(0, 0)[:2] == pytest.approx((0, 0))
    assert heat.box(7, 7)[2:] == pytest.approx((96, 64))


def test_what_such_a_model_does_not_have_is_refused() -> None:
    model = plain()
    assert "no attention" in repr(model)
    with pytest.raises(ValueError, match="no layers of attention to choose from"):
        vislab.explain(IMAGE, model=model, method="grad_cam", layer=2)
    with pytest.raises(ValueError, match="none to scale"):
        vislab.explain(IMAGE, model=model, method="grad_cam", attention_scale=2.0)
    with pytest.raises(ValueError, match="does not run on an input of 3 channels and 3×3 px"):
        vislab.explain(IMAGE, model=model, method="grad_cam", image_size=3)
    table = vislab.evaluate([IMAGE], model=model, steps=4, randomised=0, progress=False)
    assert table.methods[:3] == ("grad_cam", "integrated_gradients", "occlusion")
