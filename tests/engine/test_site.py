"""Laws of a site: what it says of the call, in which state, and of which forward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers as hf
from families import FAMILIES, image
from laws import attends, difference, fused, maps, read, tokens, vit, weights
from torch import Tensor, nn

import vislab
from vislab.engine.site import AttentionRefused, Recorded, Refused, Site, Unproven, Unseen


def test_queries_keys_and_scale_make_the_attention() -> None:
    for name in ("ViT", "torchvision", "DINOv3"):
        cap = read(FAMILIES[name].model(), FAMILIES[name].inputs())
        for site in cap.layers:
            again = (site.scale * site.q @ site.k.mT).softmax(-1)
            assert torch.allclose(again, cap.attention(site, slice(None)), atol=1e-5)


def test_of_a_pooling_head_and_an_encoder_only_the_encoder_has_layers() -> None:
    cap = read(FAMILIES["SigLIP, vision"].model(), FAMILIES["SigLIP, vision"].inputs())
    assert [site.name for site in cap.layers] == list(cap.sites)[:2]
    assert cap.sites["head.attention"].queries == 1


def test_a_module_that_runs_twice_in_a_forward_is_refused() -> None:
    shared = attends(fused)
    model = nn.Sequential(shared, shared)
    with vislab.capture(model) as cap:
        model(tokens()["x"])
    with pytest.raises(AttentionRefused, match=r"'0' \(Attends\).*more than once in one forward"):
        cap.attention("0")


def test_a_module_that_attends_twice_is_refused() -> None:
    cap = read(attends(lambda q, k, v, m: fused(q, k, v, m) - 0.5 * fused(k, q, v, m)), tokens())
    with pytest.raises(AttentionRefused, match="more than once in one forward"):
        cap.attention(0)


def test_windows_are_refused_by_name() -> None:
    model = hf.SwinModel(
        hf.SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[2], num_heads=[2], window_size=4)
    )
    cap = read(model.eval())
    with pytest.raises(
        AttentionRefused, match=r"blocks\.0\.attention.*within 8 windows, frames or crops of a batch of 2"
    ):
        cap.rollout()


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
    assert states(lambda q, k, v, m: fused(q, k, v, m) + fused(q, k, v, m)) == [Refused]


def test_reading_changes_no_state() -> None:
    for attend in (fused, lambda q, k, v, m: weights(q, k) @ v, lambda q, k, v, m: v):
        site = read(attends(attend), tokens()).sites[""]
        before = site.state
        assert (site.refused is None) == isinstance(before, Recorded)
        assert site.self_attention
        assert site.state is before


def test_a_site_attends_once_and_only_what_is_unproven_is_proven() -> None:
    recorded = read(attends(fused), tokens()).sites[""].state
    site = Site("a", "Attends")
    site.prove(recorded)
    assert isinstance(site.state, Unseen)
    site.attend(Unproven())
    site.prove(recorded)
    assert site.state is recorded
    site.prove(Refused("too late"))
    assert site.state is recorded
    site.attend(recorded)
    assert site.refused == "it attends more than once in one forward"
    with pytest.raises(AttentionRefused, match=r"'a' \(Attends\) cannot be read: it attends more than once"):
        site.read()
