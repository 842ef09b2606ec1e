"""Laws of changing the patch size: tokens of resized patches stay what they were, and so does the model afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from timm.layers.patch_embed import resample_patch_embed
from torch import Tensor, nn

from vislab.core.geometry import Grid
from vislab.engine.hooks import capture
from vislab.models import load
from vislab.models.patch_size import RESIZABLE, interpolate_positions, patch_projection, pi_resize, resized

CHANGING = [name for name in tiny.FAMILIES if not name.startswith(("YOLOS", "timm", "torchvision", "MAE with"))]


def upsampled(image: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """image: (1, 3, H, W), each of its patches brought from size `old` to `new` on its own."""
    rows, cols = image.shape[2] // old[0], image.shape[3] // old[1]
    patches = image.unflatten(2, (rows, old[0])).unflatten(4, (cols, old[1])).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    patches = F.interpolate(patches, size=new, mode="bilinear", align_corners=False)
    return patches.unflatten(0, (1, rows, cols)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize(("old", "new"), [((8, 8), (16, 16)), ((16, 16), (23, 23)), ((6, 9), (7, 21))])
def test_a_resized_kernel_sees_in_an_upsampled_patch_what_it_saw(
    old: tuple[int, int], new: tuple[int, int], dtype: torch.dtype, bound: float
) -> None:
    kernel, patches = torch.randn(40, 3, *old, dtype=dtype), torch.randn(20, 3, *old, dtype=dtype)
    tokens = F.conv2d(patches, kernel).flatten(1)
    larger = F.interpolate(patches, size=new, mode="bilinear", align_corners=False)
    again = F.conv2d(larger, pi_resize(kernel, new)).flatten(1)
    assert float((again - tokens).norm() / tokens.norm()) < bound


@pytest.mark.parametrize("size", [(4, 4), (12, 12), (16, 16), (32, 32), (10, 20)])
def test_a_resized_kernel_is_that_of_timm(size: tuple[int, int]) -> None:
    kernel = torch.randn(24, 3, 16, 16)
    theirs = resample_patch_embed(kernel, list(size), interpolation="bilinear", antialias=True)
    assert float((pi_resize(kernel, size) - theirs).norm() / theirs.norm()) < 1e-5
    if size == (16, 16):
        assert pi_resize(kernel, size) is kernel


def test_a_kernel_of_half_precision_is_resized_in_full() -> None:
    kernel = torch.randn(24, 3, 8, 8).bfloat16()
    assert pi_resize(kernel, (20, 20)).equal(pi_resize(kernel.float(), (20, 20)).bfloat16())


def test_a_kernel_can_be_trained_through_after_it_was_seen_by_inference() -> None:
    kernel = torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode():
        pi_resize(kernel, (11, 11))
    pi_resize(kernel, (11, 11)).sum().backward()
    assert kernel.grad is not None
    assert float(kernel.grad.abs().sum()) > 0


def test_positions_are_interpolated_as_transformers_does_it() -> None:
    module = tiny.make("ViT")
    positions = module.embeddings.position_embeddings
    theirs = module.embeddings.interpolate_pos_encoding(torch.zeros(1, 61, 32), 48, 80)
    assert torch.allclose(interpolate_positions(positions[:, 1:], (4, 4), (6, 10)), theirs[:, 1:], atol=1e-6)
    assert interpolate_positions(positions[:, 1:], (4, 4), (4, 4)).equal(positions[:, 1:])


def test_every_resizable_family_is_tested() -> None:
    found = {load.load(tiny.make(name)).module.config.model_type for name in CHANGING}
    assert found == set(RESIZABLE)


@pytest.mark.parametrize("size", [(32, 32), (32, 48)], ids=["square", "non-square"])
@pytest.mark.parametrize("family", CHANGING)
def test_a_model_of_larger_patches_sees_in_upsampled_patches_what_it_saw(family: str, size: tuple[int, int]) -> None:
    model = load.load(tiny.make(family), dtype="float64")
    module = model.module.eval()
    pixels, grid = torch.randn(1, 3, *size, dtype=torch.float64), model.grid(size)
    with torch.no_grad():
        before = module(pixels, **model._arguments(size, grid))[0]
        larger = (2 * size[0], 2 * size[1])
        with resized(module, 16), capture(module) as cap:
            after = module(upsampled(pixels, (8, 8), (16, 16)), **model._arguments(larger, model.grid(larger, 16)))[0]
    assert cap.site(0).keys == grid.tokens == model.grid(larger, 16).tokens
    assert float((after - before).norm() / before.norm()) < 1e-12
    assert float((before - before.mean(1, keepdim=True)).norm() / before.norm()) > 0.1  # tokens, or logits, differ


@pytest.mark.parametrize("family", CHANGING)
def test_grid_and_attention_follow_the_patch_size(family: str) -> None:
    model = load.load(tiny.make(family))
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    for size, patch in [((32, 32), 4), ((32, 64), 16), ((48, 80), 2), ((33, 44), 11)]:
        grid = model.grid(size, patch)
        extra = model.prefix + model.suffix
        assert (grid.rows, grid.cols) == (size[0] // patch, size[1] // patch)
        run = model.run(image, image_size=size, patch_size=patch)
        assert run.grid == grid
        assert run.capture.site(-1).keys == grid.rows * grid.cols + extra


@pytest.mark.parametrize("family", CHANGING)
@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_model_is_afterwards_what_it_was(family: str, error: type[BaseException] | None) -> None:
    module = load.load(tiny.make(family)).module
    weight, before = patch_projection(module).weight, tiny.fingerprint(module)

    def use() -> None:
        with resized(module, 4):
            assert patch_projection(module).kernel_size == (4, 4)
            assert tiny.fingerprint(module) != before
            if error is not None:
                raise error

    if error is None:
        use()
    else:
        with pytest.raises(error):
            use()
    assert tiny.fingerprint(module) == before
    assert patch_projection(module).weight is weight


def test_changes_may_be_nested_and_the_same_size_changes_nothing() -> None:
    module = tiny.make("ViT")
    before = tiny.fingerprint(module)
    with resized(module, 8):
        assert tiny.fingerprint(module) == before
    with resized(module, 16), resized(module, 4):
        assert module.config.patch_size == 4
    assert tiny.fingerprint(module) == before


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("YOLOS", r"YolosModel \(yolos\) cannot be changed"),
        ("timm", r"VisionTransformer \(timm\) cannot"),
        ("torchvision", r"VisionTransformer \(torchvision\) cannot"),
    ],
)
def test_other_families_are_refused_by_name(family: str, words: str) -> None:
    module = tiny.make(family)
    before = tiny.fingerprint(module)
    with pytest.raises(ValueError, match=words), resized(module, 16):
        pass
    assert tiny.fingerprint(module) == before


def test_a_module_without_patches_is_refused() -> None:
    with pytest.raises(ValueError, match="Sequential has no patch embedding: looked for a convolution of 3 channels"):
        patch_projection(nn.Sequential(nn.Conv2d(3, 8, 3)))


def test_the_patches_have_a_grid_of_their_own() -> None:
    """The helper above cuts and joins patches in the order of the grid."""
    image, grid = torch.randn(1, 3, 4, 6), Grid(2, 2, (4, 6))
    larger = upsampled(image, (2, 3), (4, 6))
    for row, col in np.ndindex(2, 2):
        x0, y0, x1, y1 = (int(v) for v in grid.box(row, col))
        patch = image[:, :, 2 * row : 2 * row + 2, 3 * col : 3 * col + 3]
        expected = F.interpolate(patch, size=(4, 6), mode="bilinear", align_corners=False)
        assert torch.allclose(larger[:, :, y0:y1, x0:x1], expected)


@pytest.mark.parametrize("inference", [False, True])
def test_a_resized_kernel_is_that_of_the_weights_whatever_was_written_into_either(*, inference: bool) -> None:
    module = tiny.make("ViT")
    own = patch_projection(module).weight

    def kernel() -> torch.Tensor:
        with torch.inference_mode(inference), resized(module, 4):
            return patch_projection(module).weight

    first = kernel()
    assert kernel().data_ptr() == first.data_ptr()
    expected = pi_resize(own.detach(), (4, 4))
    with torch.no_grad():
        first.add_(1)  # as an optimizer does
    assert kernel().equal(expected)
    with torch.no_grad():
        own.mul_(2)
    assert kernel().equal(pi_resize(own.detach(), (4, 4)))
    (kernel() ** 2).sum().backward()  # of a forward that follows, gradients are taken
