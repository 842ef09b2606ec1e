"""Laws of the rules: what they say of a tensor's dimensions is where its elements came from."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vislab.engine.arrangement import Unclear, arranged
from vislab.engine.axes import Axes, Dims
from vislab.engine.rules import follow

Step = tuple[Callable[..., Any], tuple[Any, ...]]


def said(axes: Axes, dims: Dims, shape: torch.Size) -> Tensor:
    """The number of each element in (2, 4, 6, 8), as the dimensions have it: the outermost axis counts most."""
    strides = {0: 4 * 6 * 8, 1: 6 * 8, 2: 8, 3: 1}
    along: dict[int, Tensor] = {}  # how far along each axis an element is
    for at, dim in enumerate(dims):
        for i, factor in enumerate(dim):
            inner = math.prod(f.size for f in dim[i + 1 :])
            index = torch.arange(shape[at]) // inner % factor.size * factor.step
            index = index.view([-1 if other == at else 1 for other in range(len(shape))])
            along[factor.axis] = along.get(factor.axis, torch.zeros(shape, dtype=torch.long)) + index
    total = torch.zeros(shape, dtype=torch.long)
    for number, index in along.items():
        axis = axes.axes[number]
        if axis.parent is not None:
            index, number = (index - axis.shift) % axis.size, axis.parent
        total = total + index * strides[number]
    return total


def steps(x: Tensor, chance: random.Random) -> list[Step]:
    """What may be done to a tensor: views and reorderings of all kinds."""
    one, other = chance.randrange(x.ndim), chance.randrange(x.ndim)
    order = chance.sample(range(x.ndim), x.ndim)
    found: list[Step] = [
        (torch.Tensor.transpose, (x, one, other)),
        (torch.permute, (x, order)),
        (torch.Tensor.permute, (x, *order)),
        (torch.Tensor.movedim, (x, one, other)),
        (torch.Tensor.unsqueeze, (x, one)),
        (torch.Tensor.contiguous, (x,)),
        (torch.Tensor.reshape, (x, -1, x.shape[-1])),
    ]
    if x.ndim > 1:
        start = chance.randrange(x.ndim - 1)
        found.append((torch.Tensor.flatten, (x, start, start + 1)))
    if x.shape[one] % 2 == 0 and x.ndim < 7:
        sizes = chance.choice([(2, x.shape[one] // 2), (x.shape[one] // 2, 2)])
        found.append((torch.Tensor.unflatten, (x, one, sizes)))
    if x.shape[one] == 1:
        found.append((torch.Tensor.squeeze, (x, one)))
    return found


@pytest.mark.parametrize("seed", range(30))
def test_elements_are_where_the_dimensions_say(seed: int) -> None:
    chance, axes = random.Random(seed), Axes()
    x = torch.arange(2 * 4 * 6 * 8).view(2, 4, 6, 8)
    axes.say(x, tuple(dim for size in x.shape for dim in [axes.new("token", size)]))
    if seed % 3 == 0:
        rolled = torch.roll(x, shifts=(1, -3), dims=(1, 2))
        follow(axes, torch.roll, (x,), {"shifts": (1, -3), "dims": (1, 2)}, rolled)
        x = rolled
    for _ in range(12):
        func, args = chance.choice(steps(x, chance))
        y = func(*args)
        follow(axes, func, args, {}, y)
        dims = axes.of(y)
        assert dims is not None, (func, [getattr(a, "shape", a) for a in args])
        assert torch.equal(said(axes, dims, y.shape), y), func
        x = y


def kinds(axes: Axes, x: Tensor) -> list[str]:
    dims = axes.of(x)
    assert dims is not None
    return [axes.kind(dim) if dim else "" for dim in dims]


def test_what_a_model_makes_of_an_image_is_told_apart() -> None:
    axes, image = Axes(), torch.randn(2, 3, 16, 16)
    axes.input(image)

    def run(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        output = func(*args, **kwargs)
        follow(axes, func, args, kwargs, output)
        return output

    patches = run(F.conv2d, image, torch.randn(12, 3, 4, 4), None, 4)
    assert kinds(axes, patches) == ["image", "channel", "token", "token"]
    tokens = run(torch.Tensor.transpose, run(torch.Tensor.flatten, patches, 2), 1, 2)
    tokens = run(torch.cat, [torch.zeros(2, 1, 12), tokens], 1)
    assert kinds(axes, tokens) == ["image", "token", "channel"]
    normal = run(F.layer_norm, tokens, (12,)) + 0
    follow(axes, torch.add, (tokens, 0), {}, normal)
    qkv = run(F.linear, normal, torch.randn(36, 12))
    split = run(torch.Tensor.permute, run(torch.Tensor.view, qkv, 2, 17, 3, 4, 3), 2, 0, 3, 1, 4)
    query, key, _ = run(torch.Tensor.unbind, split, 0)
    assert kinds(axes, query) == ["image", "channel", "token", "channel"]
    logits = run(torch.matmul, query, run(torch.Tensor.transpose, key, -2, -1))
    assert kinds(axes, logits) == ["image", "channel", "token", "token"]
    dims = axes.of(logits)
    assert dims is not None
    assert [factor.key for dim in dims for factor in dim] == [False, False, False, True]
    by_sum = run(torch.einsum, "b h i d, b h j d -> h b i j", query, key)
    assert axes.of(by_sum) == (dims[1], dims[0], dims[2], dims[3])


def test_of_what_is_unknown_nothing_is_said() -> None:
    axes, x = Axes(), torch.randn(2, 3)
    y = torch.fft.rfft(x)
    follow(axes, torch.fft.rfft, (x,), {}, y)
    assert axes.of(y) is None
    axes.input(x)
    y = x.diag_embed()  # of more dimensions, by a function that no rule is about
    follow(axes, torch.diag_embed, (x,), {}, y)
    assert axes.of(y) is None
    strange = x.permute(0, 1)
    follow(axes, torch.permute, (x, "backwards"), {}, strange)  # called as no rule knows it
    assert axes.of(strange) is None
    none = torch.randn(0, 4)
    axes.input(none)
    reshaped = none.reshape(0, 2, 2)  # as where a cache compresses nothing yet
    follow(axes, torch.reshape, (none, (0, 2, 2)), {}, reshaped)
    assert axes.of(reshaped) is None


def test_what_is_known_of_a_tensor_ends_with_it() -> None:
    axes = Axes()
    x = torch.randn(2, 3)
    axes.input(x)
    number = id(x)
    assert axes.knows([[x]])
    del x
    assert all(axes.of(torch.randn(2, 3)) is None for _ in range(100)), number


def test_parts_of_a_row_of_images_are_neither_images_nor_windows() -> None:
    axes = Axes()
    row, heads, width = axes.new("image", 32), axes.new("channel", 4), axes.new("channel", 8)
    dims = axes.reshaped((row, heads, width), (2, 16, 4, 8))
    assert dims is not None
    parts = arranged(axes, (dims[0], dims[2], dims[1], dims[3]), torch.zeros(2, 4, 16, 8))
    assert isinstance(parts, Unclear)
