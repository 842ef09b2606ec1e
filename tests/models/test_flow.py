"""Laws of flow: what attends side by side is found by running, what attends one after the other is let be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import tiny
import torch
from models.test_model import photo
from models.test_places import vit
from torch import Tensor, nn

import vislab
from vislab.engine.site import AttentionRefused


class Chunked(nn.Module):
    """The blocks in chunks, as DINOv2 is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.v = vit(depth=4)
        self.v.blocks = nn.ModuleList(nn.Sequential(*self.v.blocks[i : i + 2]) for i in (0, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.v._pos_embed(self.v.patch_embed(x))
        for chunk in self.v.blocks:
            x = chunk(x)
        return self.v.forward_head(self.v.norm(x))


class Early(nn.Module):
    """Two lists of blocks, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        whole, other = vit(depth=2), vit(depth=3)
        self.embed, self.early, self.late = whole, whole.blocks, other.blocks
        whole.blocks = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.early(self.embed._pos_embed(self.embed.patch_embed(x))))[:, 0]


class Twins(nn.Module):
    def __init__(self, *, listed: bool) -> None:
        super().__init__()
        self.a, self.b = vit(), vit()
        if listed:
            self.towers = nn.ModuleList([self.a, self.b])
            del self.a, self.b

    def forward(self, x: Tensor) -> Tensor:
        return sum(part(x) for part in self.children()) if hasattr(self, "a") else sum(t(x) for t in self.towers)


def things() -> nn.Module:
    return timm.create_model("vit_small_patch16_18x2_224", depth=2, embed_dim=32, num_heads=4, img_size=64)


@pytest.mark.parametrize(
    ("make", "layers"),
    [(Chunked, 4), (Early, 5), (lambda: nn.Sequential(nn.Identity(), vit()), 2), (lambda: nn.DataParallel(vit()), 2)],
)
def test_one_after_the_other_is_walked(make: Callable[[], nn.Module], layers: int) -> None:
    model = vislab.load(make().eval())
    assert (model.layers, model.beside) == (layers, "")
    heat = vislab.explain(photo((50, 70)), model=model)
    capture, grid = model.run(photo((50, 70))).capture, model.grid()
    assert torch.allclose(torch.tensor(heat.values).flatten(), capture.rollout()[0, grid.patch_tokens], atol=1e-6)
    assert len(capture.layers) == layers


@pytest.mark.parametrize(
    ("make", "where"),
    [(things, "blocks.0.attns"), (lambda: Twins(listed=False), "Twins"), (lambda: Twins(listed=True), "towers")],
)
@pytest.mark.parametrize("method", ["rollout", "relevance", "grad_rollout"])
def test_walks_through_what_is_side_by_side_are_refused(make: Callable[[], nn.Module], where: str, method: str) -> None:
    module = make().eval()
    before = tiny.fingerprint(module)
    model = vislab.load(module)
    assert (model.layers, model.beside) == (4, where)
    with pytest.raises(AttentionRefused, match=rf"^{where} of .* attends in several places side by side"):
        target = {} if method == "rollout" else {"target": lambda output: output[0, 0]}
        vislab.explain(photo((50, 70)), model=model, method=method, **target)
    assert vislab.explain(photo((50, 70)), model=model, method="cls", layer=1).values.shape == (4, 4)
    assert tiny.fingerprint(module) == before
