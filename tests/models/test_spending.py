"""Laws of spent tokens: held against a dense model that is written anew here, and against the full model's masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vislab
from vislab.engine.site import AttentionRefused
from vislab.methods.layers import encoder
from vislab.models.model import Model

PHOTO = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
PLAIN = ["ViT classifier", "DeiT", "DINOv2 with registers", "DINOv3", "CLIP vision", "SigLIP vision", "torchvision"]
PLAIN += ["timm", "timm, average of patches", "timm EVA", "BEiT, positions"]
ROTARY = ["DINOv3", "timm EVA"]


@pytest.fixture(scope="module")
def vit() -> Model:
    """A ViT of 4 layers and 64 patches, with a classifier."""
    import transformers as hf

    torch.manual_seed(0)
    config = hf.ViTConfig(**tiny.VIT | {"num_hidden_layers": 4, "image_size": 64}, num_labels=5)
    return vislab.load(tiny.roughened(hf.ViTForImageClassification(config)))


def embedded(model: Model, patch: int | None = None) -> Tensor:
    """The tokens that enter the first layer, (n, dim)."""
    found: list[Tensor] = []
    layer = model.module.vit.layers[0]
    handle = layer.register_forward_pre_hook(lambda _, args: found.append(args[0][0]))
    model.run(PHOTO, patch_size=patch)
    handle.remove()
    return found[0]


class Dense:
    """The same ViT from its weights, by plain matrices: tokens are taken out or joined by rectangular ones."""

    def __init__(self, model: Model) -> None:
        self.vit, self.classifier = model.module.vit, model.module.classifier
        self.attention: list[Tensor] = []  # (heads, n, n) a layer
        self.joints: list[Tensor] = []  # (new, old), before each layer

    @torch.no_grad()
    def __call__(self, x: Tensor, change: Any, off: dict[int, list[int]] | None = None) -> Tensor:
        keys, sizes = None, torch.ones(len(x))
        for at, layer in enumerate(self.vit.layers):
            joint = change(at, x, self.attention[-1] if self.attention else None, keys, sizes)
            self.joints.append(joint)
            x, sizes = joint @ x, (joint > 0).float() @ sizes
            part = layer.attention
            normed = layer.layernorm_before(x)
            q, k, v = (
                p(normed).unflatten(-1, (4, -1)).transpose(0, 1) for p in (part.q_proj, part.k_proj, part.v_proj)
            )
            weights = (q @ k.mT * q.shape[-1] ** -0.5 + (sizes.log() if self.weighs else 0)).softmax(-1)
            heads = weights @ v
            heads[(off or {}).get(at, [])] = 0
            x = x + part.o_proj(heads.transpose(0, 1).flatten(1))
            x = x + layer.mlp(layer.layernorm_after(x))
            self.attention.append(weights)
            keys = k.mean(0)
        return self.classifier(self.vit.layernorm(x)[0])

    weighs = False

    def rollout(self) -> Tensor:
        """Of CLS, by whole matrices: over the tokens that enter the first layer."""
        row = torch.eye(self.attention[-1].shape[1])[:1]
        for at in reversed(range(len(self.attention))):
            fused = self.attention[at].mean(0)
            row = row @ (0.5 * torch.eye(len(fused)) + 0.5 * fused)
            row = row @ self.joints[at] if at else row
        return row[0]


def selection(tokens: list[int], old: int) -> Tensor:
    return torch.eye(old)[tokens]


def kept(counts: dict[int, int], *, gather: bool = False) -> Any:
    """Before a layer, so many patches go on, those that CLS attended to most."""

    def change(at: int, x: Tensor, attention: Tensor | None, keys: Any, sizes: Any) -> Tensor:
        if at not in counts:
            return torch.eye(len(x))
        paid = attention.mean(0)[0, 1:]
        best = paid.argsort(descending=True).tolist()
        chosen, rest = sorted(best[: counts[at]]), best[counts[at] :]
        matrix = selection([0, *(i + 1 for i in chosen)], len(x))
        if not gather:
            return matrix
        row = torch.zeros(1, len(x))
        row[0, [i + 1 for i in rest]] = paid[rest] / paid[rest].sum()
        return torch.cat([matrix, row])

    return change


def merging(r: int) -> Any:
    """Bipartite soft matching, pair by pair, as section 3 of Bolya et al. 2023 tells it."""

    def change(at: int, x: Tensor, attention: Any, keys: Tensor | None, sizes: Tensor) -> Tensor:
        if not at:
            return torch.eye(len(x))
        offers = []
        for a in range(0, len(x), 2):
            mates = [(float(F.cosine_similarity(keys[a], keys[b], dim=0)), b) for b in range(1, len(x), 2)]
            if a:  # CLS stays
                offers.append((*max(mates), a))
        matrix = torch.diag(sizes)
        gone = []
        for _, b, a in sorted(offers, reverse=True)[:r]:
            matrix[b] += sizes[a] * torch.eye(len(x))[a]
            gone.append(a)
        matrix = matrix[[i for i in range(len(x)) if i not in gone]]
        return matrix / matrix.sum(1, keepdim=True)

    return change


CASES: list[tuple[dict[str, Any], Any, bool]] = [
    ({"keep": 0.25}, kept({1: 40, 2: 25, 3: 16}), False),
    ({"keep": 0.3, "keep_at": 2}, kept({2: 19}), False),
    ({"keep": 0.25, "keep_at": (1, -1), "gather": True}, kept({1: 32, 3: 16}, gather=True), False),
    ({"merge": 9}, merging(9), True),
]


@pytest.mark.parametrize(("settings", "change", "weighs"), CASES, ids=[str(case[0]) for case in CASES])
def test_spent_tokens_are_those_of_a_dense_model(vit: Model, settings: Any, change: Any, weighs: bool) -> None:
    dense = Dense(vit)
    dense.weighs = weighs
    before = tiny.fingerprint(vit.module)
    logits = dense(embedded(vit), change)
    run = vit.run(PHOTO, **settings)
    assert run.logits.numpy() == pytest.approx(logits.numpy(), abs=1e-5)
    for site, own in zip(run.capture.layers, dense.attention, strict=True):
        assert run.capture.attention(site, slice(None))[0].numpy() == pytest.approx(own.numpy(), abs=1e-5)
    heat = vislab.explain(PHOTO, model=vit, **settings)
    assert heat.values.ravel() == pytest.approx(dense.rollout()[1:].numpy(), abs=1e-6)
    assert heat.dropped is not None
    assert not heat.dropped.any()  # before the first layer all are there
    assert heat.facts["counts"] == [len(a[0]) for a in dense.attention]
    assert tiny.fingerprint(vit.module) == before


@pytest.mark.parametrize(("settings", "change", "weighs"), CASES, ids=[str(case[0]) for case in CASES])
def test_relevance_walks_the_rectangular_maps(vit: Model, settings: Any, change: Any, weighs: bool) -> None:
    """Held against whole matrices, with the gradient at attention by autograd of the dense model."""
    dense = Dense(vit)
    dense.weighs = weighs
    dense(embedded(vit), change)
    target = int(vit.run(PHOTO, **settings).logits.argmax())
    score, weights = in_graph(vit, dense, embedded(vit), target)
    gradients = torch.autograd.grad(score, weights)
    row = torch.eye(weights[-1].shape[1])[:1]
    for at in reversed(range(len(weights))):
        row = row + row @ (weights[at].detach() * gradients[at]).relu().mean(0)
        row = row @ dense.joints[at] if at else row
    heat = vislab.explain(PHOTO, model=vit, method="relevance", **settings)
    scale = float(row.max())
    assert heat.values.ravel() / scale == pytest.approx(row[0, 1:].numpy() / scale, abs=1e-6)


def in_graph(model: Model, dense: Dense, x: Tensor, target: int) -> tuple[Tensor, list[Tensor]]:
    """The score with the graph to each layer's attention, through the joints that were found."""
    weights, sizes = [], torch.ones(len(x))
    x = x.detach()
    for at, layer in enumerate(model.module.vit.layers):
        x, sizes, part = dense.joints[at] @ x, (dense.joints[at] > 0).float() @ sizes, layer.attention
        normed = layer.layernorm_before(x)
        q, k, v = (p(normed).unflatten(-1, (4, -1)).transpose(0, 1) for p in (part.q_proj, part.k_proj, part.v_proj))
        logits = q @ k.mT * q.shape[-1] ** -0.5 + (sizes.log() if dense.weighs else 0)
        weights.append(logits.softmax(-1).requires_grad_())
        x = x + part.o_proj((weights[-1] @ v).transpose(0, 1).flatten(1))
        x = x + layer.mlp(layer.layernorm_after(x))
    return model.module.classifier(model.module.vit.layernorm(x)[0])[target], weights


@pytest.mark.parametrize("family", PLAIN)
def test_what_is_kept_sees_what_it_would_see_with_the_others_masked(family: str) -> None:
    """Of any family, rotary positions included: the full model whose attention may not look at dropped patches."""
    model = vislab.load(tiny.make(family))
    run = model.run(PHOTO, keep=0.5, keep_by="norm", keep_at=0)
    layers = encoder(run.capture, run.grid)
    owners = layers.cells.owners(layers[0])
    there = torch.cat([torch.ones(model.prefix, dtype=torch.bool), owners >= 0])
    found: list[Tensor] = []
    last = model.module.get_submodule(layers[-1].path)
    handle = last.register_forward_hook(lambda _, args, output: found.append(output[0] if len(output) > 1 else output))
    model.run(PHOTO, keep=0.5, keep_by="norm", keep_at=0)
    with Masked(there):
        model.run(PHOTO)
    handle.remove()
    own, full = (tokens.reshape(-1, tokens.shape[-1]) for tokens in found[-2:])
    assert len(own) == int(there.sum()) < len(full)
    assert own.numpy() == pytest.approx(full[there].numpy(), abs=2e-5)


class Masked(torch.overrides.TorchFunctionMode):
    """Self-attention over all tokens looks at some of them alone."""

    def __init__(self, there: Tensor) -> None:
        super().__init__()
        self.there = there

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            kwargs["attn_mask"] = torch.zeros(len(self.there)).masked_fill(~self.there, -torch.inf)[None, None, None]
        if func is F.multi_head_attention_forward:
            kwargs["key_padding_mask"] = ~self.there[None]
        return func(*args, **kwargs)


@pytest.mark.parametrize("family", [*PLAIN, "BEiT", "YOLOS"])
def test_heads_that_are_off_are_zero_columns_of_the_output_projection(family: str) -> None:
    model = vislab.load(tiny.make(family))
    before = tiny.fingerprint(model.module)
    run = model.run(PHOTO, heads_off={0: [1, -1]})
    last = run.capture.attention(-1, slice(None))
    assert tiny.fingerprint(model.module) == before
    site = model.module.get_submodule(run.capture.layers[0].path)
    width = model.dim // model.heads
    names = ("o_proj.weight", "out_proj.weight", "proj.weight", "projection.weight")
    weights = [p for name, p in site.named_parameters() if name in names]
    parent = model.module.get_submodule(run.capture.layers[0].path.rpartition(".")[0])
    weights = weights or [p for name, p in parent.named_parameters() if name.endswith("output.dense.weight")][:1]
    with torch.no_grad():
        for head in (1, model.heads - 1):
            weights[0][:, head * width : (head + 1) * width] = 0
    assert last.numpy() == pytest.approx(model.run(PHOTO).capture.attention(-1, slice(None)).numpy(), abs=2e-5)


@pytest.mark.parametrize(
    "settings", [{"keep": 1.0}, {"merge": 0}, {"keep": 1, "heads_off": {}}, {"heads_off": {1: []}}]
)
def test_nothing_is_spent_and_nothing_is_hooked(vit: Model, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = vit.run(PHOTO)
    monkeypatch.setattr("vislab.models.model.Spending", lambda *_: pytest.fail("hooks"))
    run = vit.run(PHOTO, **settings)
    assert torch.equal(run.logits, plain.logits)
    assert not run.capture.passages


@pytest.mark.parametrize("family", ["ViT classifier", "DINOv2 with registers", "DINOv3", "SigLIP vision"])
@pytest.mark.parametrize("patch", [4, 8])
def test_a_fovea_over_everything_is_the_plain_model(family: str, patch: int) -> None:
    model = vislab.load(tiny.make(family))
    plain = model.run(PHOTO, patch_size=patch)
    for sizes in ((patch,), (patch, 2 * patch)):
        run = model.run(PHOTO, fovea=(0, 0, 64, 64), fovea_patches=sizes)
        assert (run.grid.rows, run.grid.patch) == (plain.grid.rows, plain.grid.patch)
        for site, other in zip(run.capture.layers, plain.capture.layers, strict=True):
            rows, others = run.capture.attention(site, slice(None)), plain.capture.attention(other, slice(None))
            assert rows.numpy() == pytest.approx(others.numpy(), abs=1e-6)


def test_a_foveas_patches_are_those_of_their_sizes(vit: Model) -> None:
    """16 px boxes of 8 px cells: a box in the upper left, and all else in patches of 16 px."""
    small, large = embedded(vit, 8), embedded(vit, 16)
    run = vit.run(PHOTO, fovea=[(3, 3, 20, 15)], fovea_patches=(8, 16))
    layers = encoder(run.capture, run.grid)
    owners = layers.cells.owners(layers[0]).reshape(8, 8) - 1
    rows = [small[:1]]
    for token in range(int(owners.max()) + 1):
        (row, col), *others = (owners == token).nonzero().tolist()
        assert len(others) in (0, 3)
        assert (not others) == (row < 2 and col < 4)
        rows.append(small[1 + row * 8 + col][None] if not others else large[1 + row // 2 * 4 + col // 2][None])
    dense = Dense(vit)
    logits = dense(torch.cat(rows), lambda at, x, *_: torch.eye(len(x)))
    assert run.logits.numpy() == pytest.approx(logits.numpy(), abs=1e-5)
    heat = vislab.explain(PHOTO, model=vit, method="cls", fovea=[(3, 3, 20, 15)], fovea_patches=(8, 16))
    own = dense.attention[-1].mean(0)[0, 1:]
    assert heat.values == pytest.approx(own[owners].numpy(), abs=1e-6)
    assert run.capture.layers[0].keys == 1 + 8 + 14


SPENT: list[dict[str, Any]] = [
    {"keep": 0.3},
    {"keep": 0.3, "gather": True},
    {"merge": 7},
    {"keep": 0.5, "keep_by": "centre", "keep_at": 0, "merge": 5},
    {"fovea": (10, 10, 40, 50), "fovea_patches": (4, 8, 16), "keep": 0.5, "keep_by": "random"},
]


@pytest.mark.parametrize("settings", SPENT, ids=str)
def test_each_layers_token_map_is_a_partition(vit: Model, settings: Any) -> None:
    run = vit.run(PHOTO, **settings)
    layers = encoder(run.capture, run.grid)
    for site in layers:
        owners, own = layers.cells.owners(site), layers.cells.patches(site)
        assert set(owners[owners >= 0].tolist()) == set(range(own.start, own.stop))
        assert site.keys == layers.cells.count(site)
        if settings.get("gather") or "keep" not in settings:
            assert int(owners.min()) > 0  # all patches are stood for


@pytest.mark.parametrize("settings", [s for s in SPENT if "keep_at" not in s], ids=str)
def test_a_lit_patch_changes_the_token_that_stands_for_it(vit: Model, settings: Any) -> None:
    """At the first layer, where tokens know nothing of each other: those, and no others."""
    run = vit.run(PHOTO, **settings | {"attention_scale": 1.0})
    layers = encoder(run.capture, run.grid)
    owners = layers.cells.owners(layers[0]).reshape(run.grid.rows, run.grid.cols)
    for row, col in [(0, 0), (3, 2), (run.grid.rows - 1, run.grid.cols - 1)]:
        lit = PHOTO.copy()
        side = run.grid.patch[0]
        lit[row * side : (row + 1) * side, col * side : (col + 1) * side] ^= 255
        other = vit.run(lit, **settings).capture.layers[0]
        moved = (run.capture.layers[0].k - other.k).abs().amax((0, 1, 3)) > 1e-5
        assert moved.nonzero().flatten().tolist() == [int(owners[row, col])]


METHODS = ["cls", "relevance", "grad_rollout", "grad_cam", "token_contribution"]


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        *((method, SPENT[3]) for method in (*METHODS, "integrated_gradients", "occlusion")),
        pytest.param("both_contribution", SPENT[3], marks=pytest.mark.slow),
        *((method, SPENT[4]) for method in ("cls", "relevance", "grad_cam", "token_contribution")),
    ],
    ids=str,
)
def test_every_method_reads_a_spent_forward(vit: Model, method: str, settings: Any) -> None:
    options = {"integrated_gradients": {"steps": 2}, "occlusion": {"square": 32}}.get(method, {})
    before = tiny.fingerprint(vit.module)
    heat = vislab.explain(PHOTO, model=vit, method=method, **settings, **options)
    assert tiny.fingerprint(vit.module) == before
    if heat.dropped is not None:
        assert (heat.values[heat.dropped] == 0).all()
    if method in ("cls", "grad_cam", "token_contribution", "both_contribution"):  # what is left at the last layer
        run = vit.run(PHOTO, **settings)
        layers = encoder(run.capture, run.grid)
        owners = layers.cells.owners(layers[-1]).numpy().reshape(heat.values.shape)
        assert np.array_equal(heat.dropped, owners < 0)
        for token in np.unique(owners[owners >= 0]):
            assert np.ptp(heat.values[owners == token]) == 0


def test_what_decides_is_what_was_said(vit: Model) -> None:
    def owners(**settings: Any) -> np.ndarray:
        run = vit.run(PHOTO, keep=0.25, keep_at=0, **settings)
        layers = encoder(run.capture, run.grid)
        return (layers.cells.owners(layers[0]) >= 0).numpy().reshape(8, 8)

    centre = owners(keep_by="centre")
    assert centre[2:6, 3:5].all()
    assert centre.sum() == 16
    assert not centre[0].any()
    values = np.zeros((2, 4))
    values[1, 0] = values[0, 3] = 1
    corners = np.zeros((8, 8), bool)
    corners[4:, :2] = corners[:4, 6:] = True
    assert np.array_equal(owners(keep_by=values), corners)
    heat = vislab.Heatmap(values, vislab.Grid(2, 4, (32, 16)), vislab.Frame.stretch((64, 64), (64, 64)), "cls")
    assert np.array_equal(owners(keep_by=heat), corners)
    assert np.array_equal(owners(keep_by="random"), owners(keep_by="random"))
    tokens = embedded(vit)[1:].norm(dim=1).reshape(8, 8)
    assert tokens[torch.from_numpy(owners(keep_by="norm"))].min() >= tokens.flatten().sort().values[48]
    half = vislab.Heatmap(values[:, :2], vislab.Grid(2, 2, (32, 16)), vislab.Frame((64, 64), (64, 32), (1, 1)), "cls")
    assert owners(keep_by=half)[4:, :2].all()  # where it does not reach, its lowest value
    other = vislab.Heatmap(values, vislab.Grid(2, 4, (5, 5)), vislab.Frame.stretch((9, 9), (10, 20)), "cls")
    with pytest.raises(ValueError, match="heatmap of an image of 9×9 px, and this one has 64×64"):
        owners(keep_by=other)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"keep": 0}, "keep is the share of patches that go on, above 0 and at most 1, not 0"),
    ({"keep": "half"}, "keep is the share"),
    ({"keep": 0.001}, r"keep=0.001 leaves none of 64 patches: take at least 0.016"),
    ({"keep": 0.5, "keep_by": "atention"}, "keep_by is 'attention', 'norm', 'random', 'centre', or one value a patch"),
    ({"keep": 0.5, "keep_by": [1, 2]}, "keep_by is"),
    ({"keep": 0.5, "keep_by": [["a"]]}, "keep_by is"),
    ({"keep_by": "norm"}, "keep_by says how patches are dropped, and all are kept"),
    ({"keep": 0.5, "keep_at": 0}, "before layer 0 no attention was paid yet"),
    ({"keep": 0.5, "keep_at": 4}, "keep_at is for no layer 4: layers run from 0 to 3"),
    ({"keep": 0.5, "keep_at": (3, -1)}, "keep_at names a layer twice"),
    ({"keep": 0.5, "keep_at": "last"}, "keep_at is the index of a layer"),
    ({"keep": 0.5, "gather": 1}, "gather is True or False"),
    ({"merge": -1}, "merge is how many tokens are merged a layer, from 0, not -1"),
    ({"merge": 33}, "merge=33 is more than half of 64 patches, .* take at most 32"),
    ({"fovea": (0, 0, 90, 20)}, r"the fovea \(0, 0, 90, 20\) reaches out of what .* sees, \(0, 0, 64, 64\)"),
    ({"fovea": (0, 0, 5, 20)}, "is smaller than one of its patches of 8 px, which is 8 × 8 source pixels"),
    ({"fovea": (9, 0, 5, 20)}, r"fovea is \(x0, y0, x1, y1\) in source pixels, a list of such"),
    ({"fovea": "centre"}, "fovea is"),
    ({"fovea": (0, 0, 20, 20), "fovea_patches": (8, 20)}, "patches of 8 px do not fill one of 20 px"),
    ({"fovea": (0, 0, 20, 20), "fovea_patches": (24,)}, "patches of 24 px do not fill the input of 64×64 px"),
    ({"fovea": (0, 0, 20, 20), "fovea_patches": "8"}, "fovea_patches are pixels"),
    ({"fovea": (0, 0, 20, 20), "patch_size": 16}, "a fovea has patch sizes of its own"),
    ({"fovea_patches": (8,)}, "fovea_patches are the sizes of patches around a fovea: give fovea"),
    ({"heads_off": {4: [0]}}, "heads_off is for no layer 4: layers of .* run from 0 to 3"),
    ({"heads_off": {0: [4]}}, "heads_off is for no head 4: heads of .* run from 0 to 3"),
    ({"heads_off": [0]}, "heads_off is {layer"),
    ({"heads_off": {0: "all"}}, "heads_off is {layer"),
    ({"kep": 0.5}, "has no option 'kep'.*did you mean 'keep'"),
]


@pytest.mark.parametrize(("settings", "words"), WRONG, ids=lambda v: str(v)[:40])
def test_what_cannot_be_spent_is_refused(vit: Model, settings: Any, words: str) -> None:
    before = tiny.fingerprint(vit.module)
    with pytest.raises(ValueError, match=words):
        vit.run(PHOTO, **settings)
    with pytest.raises(ValueError, match=words):
        vislab.explain(PHOTO, model=vit, **settings)
    assert tiny.fingerprint(vit.module) == before


@pytest.mark.parametrize(
    ("family", "settings", "words"),
    [
        ("BEiT", {"keep": 0.5}, "keep cannot be done in BeitModel: in layers.0 it matters where a token stands"),
        ("YOLOS", {"merge": 2}, "merge cannot be done in YolosModel: something else comes between"),
        ("DINOv3", {"merge": 2}, "merge cannot be done in .*: a token that stands for several has no position"),
        ("timm EVA", {"keep": 0.5, "gather": True}, "gather cannot be done in Eva"),
        ("timm", {"fovea": (0, 0, 32, 32)}, "VisionTransformer keeps its patches of 8 px, and a fovea has several"),
    ],
)
def test_families_in_which_tokens_cannot_be_spent_are_refused(family: str, settings: Any, words: str) -> None:
    module = tiny.make(family)
    model = vislab.load(module)
    before = tiny.fingerprint(module)
    with pytest.raises((AttentionRefused, ValueError), match=words):
        model.run(PHOTO, **settings)
    assert tiny.fingerprint(module) == before


def test_what_stands_in_no_list_of_blocks_is_refused() -> None:
    class Pair(nn.Module):
        def __init__(self, one: nn.Module, two: nn.Module) -> None:
            super().__init__()
            self.one, self.two = one, two

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x))

    module = tiny.make("timm")
    module.blocks = nn.Sequential(Pair(*module.blocks))
    with pytest.raises(AttentionRefused, match="do not stand one after the other in one list"):
        vislab.load(module).run(PHOTO, keep=0.5)


def test_a_softmax_of_its_own_cannot_be_changed() -> None:
    module = tiny.make("timm")
    for block in module.blocks:
        block.attn.fused_attn = False
    model = vislab.load(module)
    with pytest.raises(
        AttentionRefused, match="without a fused call, so that heads cannot be switched off there: leave"
    ):
        model.run(PHOTO, heads_off={0: [1]})
    assert [site.keys for site in model.run(PHOTO, keep=0.5).capture.layers] == [17, 9]


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
@pytest.mark.parametrize("settings", [SPENT[3], SPENT[4], {"heads_off": {0: [1]}}], ids=str)
def test_nothing_is_left_on_the_model_after_an_error(vit: Model, settings: Any, error: BaseException) -> None:
    def fail(*_: Any) -> None:
        raise error

    vit.run(PHOTO, **settings)
    handle = vit.module.vit.layers[2].register_forward_hook(fail)
    before = tiny.fingerprint(vit.module)
    with pytest.raises((AttentionRefused, KeyboardInterrupt), match=r"does not run through with .*boom|^$"):
        vit.run(PHOTO, **settings)
    assert tiny.fingerprint(vit.module) == before
    handle.remove()


def test_what_comes_after_the_layers_may_need_all_tokens() -> None:
    import transformers as hf

    config = hf.BeitConfig(**tiny.VIT, use_relative_position_bias=True)
    model = vislab.load(hf.BeitModel(config))  # its bias is 0 as yet, so that it does not matter where a token stands
    with pytest.raises(AttentionRefused, match=r"does not run through with keep: .*; leave keep out"):
        model.run(PHOTO, keep=0.5)


def test_weights_of_half_precision_are_spent_too(vit: Model) -> None:
    half = vislab.load(tiny.make("ViT classifier").bfloat16())
    assert [site.keys for site in half.run(PHOTO, keep=0.5).capture.layers] == [17, 9]


def test_a_dropped_patch_attends_to_nothing(vit: Model) -> None:
    run = vit.run(PHOTO, keep=0.25, keep_by="centre", keep_at=2)
    assert [site.keys for site in run.capture.layers] == [65, 65, 17, 17]
    settings: Any = {"model": vit, "method": "attention", "keep": 0.25, "keep_by": "centre", "keep_at": 2}
    with pytest.raises(ValueError, match=r"patch \(0, 0\) was dropped before vit.layers.3"):
        vislab.explain(PHOTO, query=(1, 1), **settings)
    heat = vislab.explain(PHOTO, query=(1, 1), layer=1, **settings)
    assert heat.query == "patch (0, 0)"
    inside = vislab.explain(PHOTO, query=(36, 36), **settings)
    assert inside.query == "patch (4, 4)"


@pytest.mark.parametrize("how", [{"keep": 0.3}, {"merge": 9}, {"fovea": (3, 3, 30, 20), "fovea_patches": (8, 16)}])
def test_heads_are_surveyed_on_the_tokens_that_are_left(vit: Model, how: dict[str, Any]) -> None:
    """Entropy over them, distances between the middles of their patches, and maps with a value on all of those."""
    run = vit.run(PHOTO, **how)
    seen, layers = vislab.survey(run), encoder(run.capture, run.grid)
    middles = np.stack(np.divmod(np.arange(run.grid.patches), run.grid.cols), 1) * run.grid.patch[0]
    for at, site in enumerate(layers):
        rows = run.capture.attention(site, slice(None))[0].double().numpy()
        owners = layers.cells.owners(site).numpy()
        count = layers.cells.count(site) - run.grid.prefix
        token = rows[:, run.grid.prefix :]
        wanted = -(token * np.log2(np.maximum(token, 1e-30))).sum(-1).mean(1)
        assert np.allclose(seen.entropy[at], wanted, atol=1e-4)
        centre = np.stack([middles[owners == run.grid.prefix + i].mean(0) for i in range(count)])
        apart = np.linalg.norm(centre[:, None] - centre, axis=-1)
        inner = token[..., run.grid.prefix :]
        assert np.allclose(seen.distance[at], ((inner * apart).sum(-1) / inner.sum(-1)).mean(1), rtol=1e-4)
        assert np.allclose(seen.maps[at], np.where(owners < 0, 0, rows[:, 0, owners]), atol=1e-6)
    assert seen.queries == layers.cells.count(layers[0]) - run.grid.prefix


ALIKE: list[dict[str, Any]] = [
    *({"keep": 0.3, "keep_by": by} for by in ("attention", "norm", "random", "centre")),
    {"keep": 0.3, "gather": True},
    {"merge": 9},
    {"merge": 5, "keep": 0.5},
    {"fovea": (3, 3, 30, 20), "fovea_patches": (8, 16)},
]


@pytest.mark.parametrize("family", ["torchvision", "DINOv3"])
def test_images_of_a_batch_keep_patches_of_their_own(family: str) -> None:
    model = vislab.load(tiny.make(family))
    sizes = {"image_size": model.own_size}
    images = [PHOTO, PHOTO[::-1].copy()]
    if model.labels is None:  # rotary tables: nothing is told apart but by each image's own forward
        with pytest.raises(ValueError, match="no classifier"):
            model.logits(torch.cat([model.preprocessing(image)[0] for image in images]), keep=0.5, **sizes)
        return
    for spent in ({"keep": 0.3}, {"merge": 3}):
        many = model.logits(torch.cat([model.preprocessing(image)[0] for image in images]), **spent, **sizes)
        for one, image in zip(many, images, strict=True):
            assert one.numpy() == pytest.approx(model.run(image, **spent, **sizes).logits.numpy(), abs=1e-5)


def found(*boxes: tuple[float, ...], size: tuple[int, int] = (64, 64)) -> vislab.Detections:
    """Boxes as a detector finds them in an image of (height, width)."""
    count = len(boxes)
    corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return vislab.Detections(
        corners, np.linspace(0.9, 0.5, count), ("it",) * count, np.zeros(count), np.zeros(count),
        vislab.Frame.stretch(size, (640, 640)), 0.25, "detector",
    )  # fmt: skip


def test_a_fovea_lies_on_the_boxes_of_a_detector(vit: Model) -> None:
    given = vit.run(PHOTO, fovea=[(10, 20, 40, 50), (50, 0, 64, 14)])
    boxes = found((10, 20, 40, 50), (50, 0, 64, 14))
    assert torch.equal(vit.run(PHOTO, fovea=boxes).logits, given.logits)
    assert vit.predict(PHOTO, fovea=boxes) == vit.top(given)
    over = found((-9, -3, 40, 30), (70, 70, 80, 90))  # what lies outside is cut away
    assert torch.equal(vit.run(PHOTO, fovea=over).logits, vit.run(PHOTO, fovea=(0, 0, 40, 30)).logits)
    for small, wide in (((20, 20, 22, 24), (17, 18, 25, 26)), ((62, 0, 64, 2), (56, 0, 64, 8))):
        assert torch.equal(vit.run(PHOTO, fovea=found(small)).logits, vit.run(PHOTO, fovea=wide).logits)
    for wrong, words in (
        (found(), "the detector|a detector, and it found none in this image: detect again with a lower confidence"),
        (found((70, 70, 80, 90)), "no box that was found lies in what ViTForImageClassification sees"),
        ("box", r"fovea='box' asks a detector.*fovea=vislab.detect\(image\)"),
    ):
        with pytest.raises(ValueError, match=words):
            vit.run(PHOTO, fovea=wrong)


def test_logits_of_several_images_are_those_of_each(vit: Model) -> None:
    pixels = torch.cat([vit.preprocessing(image)[0] for image in (PHOTO, PHOTO[::-1].copy())])
    for spent in ALIKE:
        many = vit.logits(pixels, **spent)
        for one, image in zip(many, (PHOTO, PHOTO[::-1].copy()), strict=True):
            assert one.numpy() == pytest.approx(vit.run(image, **spent).logits.numpy(), abs=1e-5)
    assert vit.predict(PHOTO, keep=0.3, top=5) == vit.top(vit.run(PHOTO, keep=0.3), 5)
