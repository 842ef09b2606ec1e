"""Laws of where image tokens are: each family's rule, found again by changing pixels of the photograph."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from readers import FAMILIES, Family, onevision
from torch import Tensor, nn

from vislab.language.places import ImagePlaces
from vislab.language.reader import Reader

SIZES = [(150, 260), (290, 180)]  # larger than what the towers are shown, so that a change stays inside its cell


def silenced(module: nn.Module, decoder: str) -> nn.Module:
    """The module, its vision tower without attention: each patch then sees itself alone."""

    def nothing(_: nn.Module, __: Any, output: Any) -> Any:
        return output * 0 if isinstance(output, Tensor) else (output[0] * 0, *output[1:])

    for path, part in module.named_modules():
        if "Attention" in type(part).__name__ and not path.startswith(decoder):
            part.register_forward_hook(nothing)
    return module


def shown(reader: Reader, image: np.ndarray, **more: Any) -> dict[str, Any]:
    text = reader.processor.image_token + "what ?"
    return dict(reader.processor(images=[Image.fromarray(image)], text=[text], return_tensors="pt", **more))


def features(reader: Reader, inputs: dict[str, Any]) -> Tensor:
    """What the vision tower makes of each image token, in their order -> (tokens, dim)"""
    takes = inspect.signature(reader.module.get_image_features).parameters
    with torch.no_grad():
        made = reader.module.get_image_features(
            **{name: x for name, x in inputs.items() if name in takes}
        ).pooler_output
    return torch.cat([one.reshape(-1, one.shape[-1]) for one in (made if isinstance(made, list | tuple) else [made])])


def check(reader: Reader, size: tuple[int, int], *, exact: bool = True, **more: Any) -> ImagePlaces:
    """Change the middle of some cells of a view: of that view's tokens theirs change, and no other."""
    silenced(reader.module, reader.decoder)
    rng = np.random.default_rng(0)
    image = rng.integers(60, 190, (*size, 3), dtype=np.uint8)
    inputs = shown(reader, image, **more)
    places, before = reader.places(size, inputs), features(reader, inputs)
    assert int((inputs["input_ids"] == reader.image_token).sum()) == len(before) == places.count
    ends = set(range(places.count)) - {t for view in places.views for t in view.tokens.ravel().tolist()}
    for view in places.views:
        held = {t for t in view.tokens.ravel().tolist() if t >= 0}
        for _ in range(4):
            chosen, other = set(), image.copy()
            for token in held:
                if rng.random() < 0.5:
                    [(x0, y0, x1, y1)] = places.boxes(token)
                    if x0 < -1 or y0 < -1 or x1 > size[1] + 1 or y1 > size[0] + 1:
                        continue  # some of it is padding
                    row, col = int((y0 + y1) / 2), int((x0 + x1) / 2)
                    other[row - 1 : row + 1, col - 1 : col + 1] = rng.choice([0, 255])
                    chosen.add(token)
            change = (features(reader, shown(reader, other, **more)) - before).abs().amax(1)
            moved = {int(t) for t in (change > 1e-5 * before.abs().max()).nonzero()}
            assert chosen <= moved
            assert not moved & ends
            if exact:
                assert moved & held == chosen
    return places


@pytest.mark.parametrize("size", SIZES, ids=["wide", "tall"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_token_changes_if_and_only_if_its_own_pixels_do(family: str, size: tuple[int, int]) -> None:
    module, processor = FAMILIES[family].pair()
    places = check(Reader(family, module, processor), size)
    tiled = family.startswith(("LLaVA-NeXT", "LLaVA-One", "Idefics", "Smol", "Intern"))
    assert (len(places.views) > 2) == tiled


def test_pan_and_scan_is_followed_into_its_crops() -> None:
    for size in SIZES:
        pan = {"min_crop_size": 16, "max_num_crops": 3, "min_ratio_to_activate": 1.2}
        more = {f"pan_and_scan_{name}": value for name, value in pan.items()}
        places = check(Reader("gemma", *FAMILIES["Gemma 3"].pair()), size, do_pan_and_scan=True, **more)
        assert len(places.views) > 2


def test_an_interpolated_raster_is_known_to_be_one() -> None:
    places = check(Reader("onevision", *Family(partial(onevision, most=1)).pair()), (260, 250), exact=False)
    assert places.pool is None
