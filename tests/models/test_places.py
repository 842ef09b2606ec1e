"""Laws of places: each token's pixels are where the grid says, for any embedding, or the module is refused."""

from __future__ import annotations

import copy
import itertools
import time
from typing import Any

import numpy as np
import pytest
import timm
import tiny
import torch
from models.test_model import photo
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

import vislab
from vislab.models.embedding import Lost
from vislab.models.places import Places, places


class Own(nn.Module):
    """Somebody's own Vision Transformer: linear patches of 8 px, tokens of unknown names before and after them."""

    def __init__(self, *, before: int = 3, after: int = 0, order: str = "rows", cut: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.p = nn.Linear(3 * 64, 32)
        self.some, self.others = (nn.Parameter(torch.randn(1, n, 32)) for n in (before, after))
        self.where = nn.Parameter(torch.randn(1, 24 + before + after, 32))
        self.blocks = nn.ModuleList(Block(32, 4) for _ in range(3))
        self.img_size, self.order, self.cut = (32, 48), order, cut

    def forward(self, x: Tensor) -> Tensor:
        cells = x.unflatten(3, (-1, 8)).unflatten(2, (-1, 8))  # batch, channels, rows, y, cols, x
        cells = cells.permute(0, 2, 4, 3, 5, 1) if self.order == "rows" else cells.permute(0, 4, 2, 3, 5, 1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.cut):
            tokens = self.p(cells.flatten(1, 2).flatten(2))
        if self.order == "shuffled":
            tokens = tokens[:, torch.randperm(24, generator=torch.Generator().manual_seed(0))]
        tokens = (
            torch.cat([self.some.expand(len(x), -1, -1), tokens, self.others.expand(len(x), -1, -1)], 1) + self.where
        )
        for block in self.blocks:
            tokens = block(tokens)
        return tokens[:, 0] if self.some.shape[1] else tokens.mean(1)


def vit(**settings: Any) -> nn.Module:
    return tiny.roughened(VisionTransformer(32, 8, **{"embed_dim": 32, "depth": 2, "num_heads": 4} | settings)).eval()


@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("cut", [False, True])
def test_tokens_of_unknown_names_are_found(before: int, after: int, cut: bool) -> None:
    """With gradients and without, where the forward cuts them off."""
    model = vislab.load(Own(before=before, after=after, cut=cut).eval())
    assert model.grid() == vislab.Grid(4, 6, (8, 8), before, after)
    assert (model.layers, model.heads, model.dim, model.cls) == (3, 4, 32, before > 0)
    assert vislab.explain(photo((50, 70)), model=model, method="cls").values.shape == (4, 6)


def test_a_module_that_says_what_it_once_took_is_loaded_at_what_it_takes() -> None:
    """As one that timm makes for smaller images, whose pretrained_cfg stays what it was."""
    module = Own().eval()
    module.where = nn.Parameter(torch.randn(1, 16 + 3, 32))
    module.img_size = (224, 224)
    model = vislab.load(module)
    assert model.input_size() == (32, 32)
    assert model.grid() == vislab.Grid(4, 4, (8, 8), 3, 0)


@pytest.mark.parametrize("order", ["columns", "shuffled"])
def test_tokens_that_do_not_follow_the_rows_are_refused(order: str) -> None:
    with pytest.raises(
        ValueError, match=r"blocks.0.attn, its first attention, reads 27 tokens that are no grid .* grid="
    ):
        vislab.explain(photo((50, 70)), model=vislab.load(Own(order=order).eval()), method="cls")


@pytest.mark.parametrize("padding", [(2, 2), (3, 1), (0, 3)])
def test_a_padded_embedding_has_its_map_where_its_pixels_are(padding: tuple[int, int]) -> None:
    """The middle of a token's cell in the photograph is where a bright spot changes that token and no other."""
    module = vit()
    module.patch_embed.proj.padding = padding
    model = vislab.load(nn.Sequential(nn.Identity(), module).eval())
    assert model.found is not None
    assert model.found.corner == tuple(-float(p) for p in padding)
    frame, grid = model.frame((32, 32)), model.grid()
    for cell in ((1, 1), (2, 3), (3, 0)):
        x0, y0, x1, y1 = frame.box_to_source(grid.box(*cell))
        pixels = torch.zeros(2, 3, 32, 32)
        pixels[1, :, max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1)] = 1
        with torch.no_grad():
            one, other = module.patch_embed(pixels)
        moved = (one - other).abs().amax(1) > 0
        assert moved.nonzero().flatten().tolist() == [cell[0] * grid.cols + cell[1]]


def test_methods_of_pixels_stay_at_the_pixels_where_cells_are_shifted() -> None:
    module = vit(num_classes=3)
    module.patch_embed.proj.padding = (2, 2)
    model = vislab.load(module)
    token, pixel = (vislab.explain(photo((64, 64)), model=model, method=m) for m in ("cls", "occlusion"))
    assert token.frame.offset == (2.0, 2.0)
    assert pixel.frame.offset == (0.0, 0.0)


def test_a_convolutional_stem_is_placed_where_its_tokens_see_most() -> None:
    """A kernel of 16 px at steps of 8: the centres of what tokens see lie 8 px from the corner, not 4."""
    torch.manual_seed(0)
    module = VisionTransformer(64, 8, embed_dim=32, depth=1, num_heads=4, dynamic_img_size=True)
    module.patch_embed.proj = nn.Conv2d(3, 32, 16, 8, 4)
    model = vislab.load(module.eval())
    assert model.found is not None
    assert model.found.overlap
    assert model.grid() == vislab.Grid(8, 8, (8, 8), 1)
    assert model.found.corner == (0.0, 0.0)
    heat = vislab.explain(photo((64, 64)), model=model, method="cls")
    assert heat.facts["tokens"] == "each also sees pixels beyond its patch"


def test_a_hybrid_is_placed() -> None:
    module = timm.create_model("vit_tiny_r_s16_p8_224", depth=1, img_size=128).eval()
    found = places(module, (128, 128), {})
    assert (found.grid, found.overlap) == (vislab.Grid(4, 4, (32, 32), 1), True)


class Masked(nn.Module):
    """A masked autoencoder: the encoder sees a part of the patches, the decoder all of them."""

    def __init__(self, keep: int) -> None:
        super().__init__()
        self.v, self.keep = vit(), keep
        self.decoder_blocks = nn.ModuleList(Block(32, 4) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.v._pos_embed(self.v.patch_embed(x))
        y = x[:, : self.keep]
        for block in self.v.blocks:
            y = block(y)
        x = torch.cat([y, x[:, self.keep :]], 1)
        for block in self.decoder_blocks:
            x = block(x)
        return x[:, 0]


def test_patches_that_are_dropped_before_the_first_layer_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"v\.blocks\.0\.attn, its first attention, reads 7 tokens that are no grid"):
        vislab.explain(photo((50, 70)), model=vislab.load(Masked(7).eval()), method="cls")
    model = vislab.load(Masked(17).eval())
    assert model.layers == 2  # the decoder's are not the model's
    heat, own = (vislab.explain(photo((50, 70)), model=m, method="cls") for m in (model, vislab.load(model.module.v)))
    assert np.allclose(heat.values, own.values, atol=1e-6)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (vislab.Grid(4, 6, (8, 8), 2), "reads 27 tokens"),
        (vislab.Grid(4, 6, (8, 8), 1, 2), "tokens do not do as they should: .* the first of them token 3"),
        (vislab.Grid(4, 6, (4, 4), 3), "13 of the 24 tokens do not do as they should"),
    ],
)
def test_a_grid_that_is_said_is_checked(grid: vislab.Grid, words: str) -> None:
    assert vislab.load(Own().eval(), grid=vislab.Grid(4, 6, (8, 8), 3)).grid() == vislab.Grid(4, 6, (8, 8), 3)
    with pytest.raises(ValueError, match=rf"Own does not have the grid that was given, .*({words})"):
        vislab.load(Own().eval(), grid=grid)
    with pytest.raises(ValueError, match="where the tokens of embedded are is known: leave grid out"):
        vislab.load("embedded", grid=grid)


def test_the_experiment_is_made_once_and_leaves_nothing_behind() -> None:
    module = vit().train()
    runs: list[int] = []
    module.patch_embed.register_forward_hook(lambda *_: runs.append(1))
    before = tiny.fingerprint(module)
    first = places(module, (32, 32), {})
    assert len(runs) == 2  # of the embedding part
    assert places(module, (32, 32), {}) is first
    assert len(runs) == 2
    assert tiny.fingerprint(module) == before
    assert isinstance(first, Places)


def test_a_module_that_was_changed_is_looked_at_again() -> None:
    module = vit()
    assert places(module, (32, 32), {}).grid.rows == 4
    module.patch_embed.proj.padding = (2, 2)
    assert places(module, (32, 32), {}).corner == (-2.0, -2.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_places_are_found_in_every_dtype(dtype: torch.dtype) -> None:
    module = vit().to(dtype)
    assert places(module, (32, 32), {}).grid == vislab.Grid(4, 4, (8, 8), 1)
    module.patch_embed.proj.padding = (2, 2)
    assert places(module, (32, 32), {}).corner == (-2.0, -2.0)


def test_what_has_no_attention_is_lost() -> None:
    with pytest.raises(Lost, match="no attention was seen"):
        places(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (32, 32), {})


class Learnt(nn.Module):
    """Queries that are weights attend to each other before they see anything of the image, as in a DETR's decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.patches = nn.Parameter(torch.randn(1, 16, 24)), nn.Conv2d(3, 24, 8, 8)
        self.own, self.cross = (nn.MultiheadAttention(24, 2, batch_first=True) for _ in range(2))

    def forward(self, pixels: Tensor) -> Tensor:
        queries, patches = self.own(self.queries, self.queries, self.queries)[0], self.patches(pixels).flatten(2).mT
        seen: Tensor = self.cross(queries.expand(len(pixels), -1, -1), patches, patches)[0]
        return seen


def test_tokens_that_are_weights_are_no_places() -> None:
    with pytest.raises(Lost, match="reaches 0 of its 16 tokens"):
        places(Learnt().eval(), (32, 32), {})


@pytest.mark.slow
def test_the_experiment_costs_little_beside_a_forward() -> None:
    module = timm.create_model("vit_base_patch16_224").eval()
    pixels = torch.zeros(1, 3, 224, 224)

    def took(do: Any) -> float:
        start = time.perf_counter()
        do()
        return time.perf_counter() - start

    with torch.no_grad():
        module(pixels)
        forward = min(took(lambda: module(pixels)) for _ in range(3))
    alone = took(lambda: places(module, (224, 224), {}))
    assert alone < 0.15 * forward  # 5 % where nothing else runs beside it


class Summed(nn.Module):
    """A convolutional stem whose cells attend to each other beside their mean, as in the ResNets of CLIP."""

    def __init__(self) -> None:
        super().__init__()
        sides = [3, 16, 16, 16]
        self.stem = nn.Sequential(*(nn.Conv2d(a, b, 3, 2, 1) for a, b in itertools.pairwise(sides)))
        self.places = nn.Parameter(torch.randn(50, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        cells = self.stem(pixels).flatten(2).mT
        tokens = torch.cat([cells.mean(1, keepdim=True), cells], 1) + self.places
        return self.attention(tokens, tokens, tokens)[0][:, 0]


def test_a_token_that_sums_up_the_others_is_no_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = Summed().eval()
    with pytest.raises(Lost, match=r"its 50 tokens see more than a patch each, and the pixels of patch \(\d, \d"):
        places(module, (56, 56), {})
    monkeypatch.setattr("vislab.models.places._check_by_light", lambda *_: None)
    found = places(copy.deepcopy(module), (56, 56), {})
    assert found.grid.patches == 50  # what they would be taken for
