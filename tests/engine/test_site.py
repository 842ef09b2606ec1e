"""Laws of a site: what it says of the call, in which state, and of which forward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from families import FAMILIES, image
from laws import attends, difference, fused, maps, read, tokens, vit, weights
from tiny import roughened
from torch import Tensor, nn

import vislab
from vislab.engine.site import AttentionRefused, Recorded, Refused, Unproven, Unseen


def test_queries_keys_and_scale_make_the_attention() -> None:
    for name in ("ViT", "torchvision", "DINOv3"):
        cap = read(FAMILIES[name].model(), FAMILIES[name].inputs())
        for site in cap.layers:
            again = (site.scale * site.q @ site.k.mT).softmax(-1)
            assert torch.allclose(again, cap.attention(site, slice(None)), atol=1e-5)


def test_values_are_kept_where_gradients_are_asked_for() -> None:
    model = vit()
    with vislab.capture(model, gradients=True) as cap, torch.enable_grad():
        model(image())
    made: list[Tensor] = []
    model.layers[-1].attention.o_proj.register_forward_pre_hook(lambda module, args: made.append(args[0]))
    with torch.no_grad():
        model(image())
    site = cap.layers[-1]
    assert torch.allclose((cap.attention(site, slice(None)) @ site.v).transpose(1, 2).flatten(2), made[0], atol=1e-5)
    with pytest.raises(
        ValueError, match=r"values are kept where gradients are asked for: capture\(module, gradients=T"
    ):
        _ = read(model).layers[-1].v


def test_of_a_pooling_head_and_an_encoder_only_the_encoder_has_layers() -> None:
    cap = read(FAMILIES["SigLIP, vision"].model(), FAMILIES["SigLIP, vision"].inputs())
    assert [site.name for site in cap.layers] == list(cap.sites)[:2]
    assert cap.sites["head.attention"].queries == 1


def test_each_run_of_a_module_that_runs_twice_is_a_site() -> None:
    shared = attends(fused)
    model, x = nn.Sequential(shared, shared), tokens()["x"]
    cap = read(model, {"input": x})
    with torch.no_grad():
        runs = [read(shared, {"x": given}) for given in (x, shared(x))]
    assert list(cap.sites) == ["0[0]", "0[1]"]
    assert difference(maps(cap), [maps(run)[0] for run in runs]) < 1e-6
    assert torch.equal(cap.attention(1), cap.attention("0[1]"))
    for ask in (lambda: cap.attention("0"), cap.rollout):
        with pytest.raises(AttentionRefused, match=r"'0'.* attends more than once in one forward"):
            ask()
    assert torch.allclose(cap.rollout(sites=[0, 1]).sum(-1), torch.ones(2))


def test_each_attention_of_a_module_that_attends_twice_is_a_site() -> None:
    cap = read(attends(lambda q, k, v, m: fused(q, k, v, m) - 0.5 * fused(k, q, v, m)), tokens())
    assert torch.allclose(cap.attention("[0]", slice(None)), weights(cap.sites["[0]"].q, cap.sites["[0]"].k), atol=1e-5)
    assert torch.equal(cap.sites["[0]"].q, cap.sites["[1]"].k)


def swin(size: int, window: int, layers: int = 2) -> tuple[nn.Module, dict[str, Tensor], list[Tensor]]:
    """A model of windows, its input, and its own attention within them."""
    torch.manual_seed(0)
    sizes = {"image_size": size, "patch_size": 4, "window_size": window}
    config = hf.SwinConfig(**sizes, embed_dim=16, depths=[layers], num_heads=[2], attn_implementation="eager")
    model, inputs = roughened(hf.SwinModel(config)).eval(), {"pixel_values": image(size, size)}
    with torch.no_grad():
        return model, inputs, model(**inputs, output_attentions=True).attentions


def test_windows_lie_on_the_map_wherever_they_were_shifted() -> None:
    model, inputs, own = swin(32, 4)
    cap = read(model, inputs)
    assert own[0].shape == (8, 2, 16, 16)
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    for site, shift in zip(cap.layers, (0, 2), strict=True):
        assert (site.batch, site.keys, site.windows) == (2, 64, 4)
        rows = cap.attention(site, slice(None))
        window = ((y - shift) % 8 // 4 * 2 + (x - shift) % 8 // 4).flatten()
        assert (rows[:, :, window[:, None] != window[None]] == 0).all()
        assert torch.allclose(rows.sum(-1), torch.ones(rows.shape[:-1]), atol=1e-5)
        picked = cap.attention(site, [5, 40])
        assert torch.equal(picked, rows[:, :, [5, 40]])
    assert torch.allclose(cap.rollout(0).sum(-1), torch.ones(2), atol=1e-5)


def test_rows_of_windows_are_the_models_own() -> None:
    """A window as large as the map leaves its tokens where they are: then the map is the window."""
    model, inputs, (own,) = swin(16, 4, 1)
    cap = read(model, inputs)
    assert cap.layers[0].windows == 1
    assert difference(maps(cap), [own]) < 1e-6
    model, inputs, (own,) = swin(32, 4, 1)
    cap = read(model, inputs)
    place = cap.layers[0].places
    assert place[1].tolist() == [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31]
    for window, at in enumerate(place):
        block = cap.attention(0, slice(None))[:, :, at][..., at]
        assert torch.allclose(block, own.view(2, 4, 2, 16, 16)[:, window], atol=1e-6)


def test_windows_with_heads_in_the_batch_are_told_apart() -> None:
    torch.manual_seed(0)
    sizes = {"image_size": 64, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = roughened(hf.VitDetModel(hf.VitDetConfig(**sizes, window_size=4, window_block_indices=[0]))).eval()
    inputs = {"pixel_values": image(64, 64)}
    cap = read(model, inputs)
    with torch.no_grad():
        windowed, whole = model(**inputs, output_attentions=True).attentions
    assert [(site.batch, site.heads, site.keys, site.windows) for site in cap.layers] == [(2, 2, 64, 4), (2, 2, 64, 1)]
    assert difference([cap.attention(1, slice(None))], [whole]) < 1e-5
    places = cap.layers[0].places
    assert places is not None
    for window, at in enumerate(places):
        block = cap.attention(0, slice(None))[:, :, at][..., at]
        assert torch.allclose(block, windowed.view(2, 4, 2, 16, 16)[:, window], atol=1e-5)
    assert repr(vislab.load(model)) == "<Model VitDetModel: 2 layers of 2 heads, patches of 8×8 px, input 64×64 px>"


def test_frames_are_named() -> None:
    class Frames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = attends(fused)

        def forward(self, clips: Tensor) -> Tensor:
            return self.inner(clips.flatten(0, 1))

    clips = torch.randn(2, 3, 9, 32)
    model = Frames()
    cap = read(model, {"clips": clips})
    assert (cap.layers[0].batch, cap.layers[0].frames) == (6, 3)
    assert difference(maps(cap), maps(read(model.inner, {"x": clips.flatten(0, 1)}))) < 1e-6


def test_what_changed_after_the_forward_is_not_read() -> None:
    model = FAMILIES["torchvision"].model()
    cap = read(model, {"x": image()})
    assert cap.attention(0).isfinite().all()
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if n.endswith("in_proj_weight")).mul_(2)
    with pytest.raises(AttentionRefused, match="changed in place since the forward; run it again"):
        cap.attention(0)


def test_the_last_forward_counts() -> None:
    model, other = vit(), torch.zeros(1, 3, 32, 32)
    with torch.no_grad(), vislab.capture(model) as cap:
        model(image())
        model(other)
    assert difference(maps(cap), maps(read(model, {"pixel_values": other}))) == 0


# ---- states ----


def states(attend: Callable[..., Tensor]) -> list[type]:
    cap = read(nn.Sequential(attends(attend)), {"input": tokens()["x"]})
    return [type(site.state) for site in cap.sites.values()]


def test_a_site_is_in_the_state_that_its_module_left_it_in() -> None:
    assert states(lambda q, k, v, m: v) == [Unseen]
    assert states(lambda q, k, v, m: weights(q, k).sum(-1, keepdim=True) * v) == [Unproven]
    assert states(lambda q, k, v, m: weights(q, k) @ v) == [Recorded]
    assert states(fused) == [Recorded]
    assert states(lambda q, k, v, m: F.dropout(weights(q, k), 0.5, training=True) @ v) == [Refused]


def test_reading_changes_no_state() -> None:
    for attend in (fused, lambda q, k, v, m: weights(q, k) @ v, lambda q, k, v, m: v):
        site = read(attends(attend), tokens()).sites[""]
        before = site.state
        assert (site.refused is None) == isinstance(before, Recorded)
        assert site.self_attention
        assert site.state is before
