"""The transform: crops keep what is looked at, boxes, labels and masks follow, the same seed draws the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

import vislab

PHOTO = vislab.load_image(vislab.samples()["church"])
TENSOR = tv_tensors.Image(torch.from_numpy(PHOTO.copy()).permute(2, 0, 1))
HEIGHT, WIDTH = PHOTO.shape[:2]


def boxes(*corners: tuple[int, int, int, int], format: str = "XYXY") -> Any:
    return tv_tensors.BoundingBoxes(torch.tensor(corners).float(), format=format, canvas_size=(HEIGHT, WIDTH))  # type: ignore[call-overload]


def test_crops_hold_what_the_model_looks_at_and_the_same_seed_draws_them_again() -> None:
    masks = vislab.segment(vislab.explain(PHOTO))
    found = [vislab.Augmentation(96, spare=0.9, seed=seed).crop(PHOTO) for seed in (3, 3, *range(8))]
    assert found[0] == found[1]
    assert len({*found}) > 5
    for x0, y0, x1, y1 in found:
        assert masks.masks[0, y0:y1, x0:x1].sum() >= 0.8 * masks.masks[0].sum()
    free = [vislab.Augmentation(96, spare=0, scale=(0.1, 0.2), seed=seed).crop(PHOTO) for seed in range(8)]
    held = [masks.masks[0, y0:y1, x0:x1].sum() / masks.masks[0].sum() for x0, y0, x1, y1 in free]
    assert min(held) < 0.2


@pytest.mark.parametrize("image", [TENSOR, Image.fromarray(PHOTO), TENSOR.as_subclass(torch.Tensor).float() / 255])
def test_boxes_masks_and_labels_follow_the_image(image: Any) -> None:
    inside = boxes((400, 200, 600, 400))
    filled = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.uint8)
    filled[:, 200:400, 400:600] = 1
    target = {"boxes": inside, "labels": torch.tensor([4]), "masks": tv_tensors.Mask(filled)}
    augment = vislab.Augmentation(128, seed=2)
    x0, y0, x1, y1 = vislab.Augmentation(128, seed=2).crop(PHOTO)
    picture, moved = v2.Compose([augment, v2.Identity()])(image, target)
    size = picture.size[::-1] if isinstance(picture, Image.Image) else picture.shape[-2:]
    assert tuple(size) == (128, 128)
    scale = torch.tensor([128 / (x1 - x0), 128 / (y1 - y0)] * 2)
    expected = ((inside - torch.tensor([x0, y0, x0, y0])) * scale).clamp(0, 128)
    assert torch.allclose(moved["boxes"].as_subclass(torch.Tensor), expected.as_subclass(torch.Tensor), atol=0.01)
    assert moved["labels"].tolist() == [4]
    lit = moved["masks"][0].nonzero()
    corners = expected.as_subclass(torch.Tensor)[0]
    assert lit[:, 1].min() == pytest.approx(float(corners[0]), abs=1)
    assert lit[:, 0].max() + 1 == pytest.approx(float(corners[3]), abs=1)


def test_an_image_is_looked_at_once() -> None:
    model = vislab.load("embedded")
    runs: list[int] = []
    handle = model.module.register_forward_hook(lambda *_: runs.append(1))
    augment = vislab.Augmentation(64, model=model)
    for _ in range(3):
        augment(TENSOR)
    handle.remove()
    assert len(runs) == 1
    assert np.array_equal(augment.heatmap(PHOTO).values, vislab.explain(PHOTO).values)


def test_without_a_seed_torchs_own_decides() -> None:
    augment = vislab.Augmentation(64)
    torch.manual_seed(5)
    first = [augment.crop(PHOTO) for _ in range(3)]
    torch.manual_seed(5)
    assert [augment.crop(PHOTO) for _ in range(3)] == first


def test_a_mosaic_has_four_images_with_their_boxes() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    samples = []
    for number, colour in enumerate(colours):
        picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        picture[200:400, 400:600] = colour
        target = {"boxes": boxes((400, 200, 200, 200), format="XYWH"), "labels": torch.tensor([number])}
        samples.append((tv_tensors.Image(torch.from_numpy(picture).permute(2, 0, 1)), target))
    augment = vislab.Augmentation(160, spare=1, scale=(0.3, 1), seed=1)
    picture, target = augment.mosaic(samples)
    assert isinstance(picture, tv_tensors.Image)
    assert picture.shape == (3, 160, 160)
    assert picture.dtype == torch.uint8
    assert len(target["boxes"]) == len(target["labels"]) > 0
    assert target["boxes"].canvas_size == (160, 160)
    for (x0, y0, x1, y1), label in zip(target["boxes"].round().int().tolist(), target["labels"].tolist(), strict=True):
        inside = picture[:, y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].float()
        if inside.numel():
            assert inside.mean((1, 2)).tolist() == pytest.approx(colours[label], abs=12)
    alone = vislab.Augmentation(160, spare=1, scale=(0.3, 1), seed=1).mosaic([one for one, _ in samples])
    assert torch.equal(alone, picture)
    labels = [(one, {"labels": torch.tensor([i])}) for i, (one, _) in enumerate(samples)]
    assert augment.mosaic(labels)[1]["labels"].tolist() == [0, 1, 2, 3]
    only = [(one, {"boxes": target["boxes"]}) for one, target in samples]
    assert set(augment.mosaic(only)[1]) == {"boxes"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"spare": 1.5}, "spare lies between 0 and 1"),
        ({"size": 0}, "size is a whole number of pixels, not 0"),
        ({"size": 100_000}, "size is up to 10,000 px, as large as pictures may be, not 100,000"),
        ({"scale": (0.5, 0.2)}, "scale is two shares"),
        ({"scale": 0.5}, "scale is two shares"),
        ({"ratio": (0, 1)}, "ratio is width by height"),
        ({"seed": -1}, "seed is a whole number from 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        vislab.Augmentation(**settings)


def test_samples_that_are_none_are_refused() -> None:
    augment = vislab.Augmentation(64, seed=0)
    with pytest.raises(ValueError, match="there is no image in this sample"):
        augment(boxes((1, 1, 5, 5)))
    with pytest.raises(ValueError, match=r"augmented one by one, as tensors \(3, H, W\), not \(2, 3, 8, 8\)"):
        augment(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="a mosaic is made of four samples"):
        augment.mosaic([TENSOR])
    with pytest.raises(ValueError, match="some have none"):
        augment.mosaic([TENSOR, TENSOR, TENSOR, (TENSOR, {})])
    with pytest.raises(ValueError, match="a target holds 'boxes', 'labels' or both"):
        augment.mosaic([(TENSOR, {})] * 4)
    with pytest.raises(ValueError, match=r"boxes are torchvision's tv_tensors.BoundingBoxes, not Tensor"):
        augment.mosaic([(TENSOR, {"boxes": torch.zeros(1, 4)})] * 4)


def test_a_preview_shows_the_map_with_the_crops_and_then_these() -> None:
    augment = vislab.Augmentation(64, seed=4)
    picture = augment.preview([PHOTO, PHOTO[:, :400]], crops=2)
    assert picture.dtype == np.uint8
    assert picture.shape[0] == 2 * 64 + 4
    assert picture.shape[1] == 96 + 2 * (64 + 4)
    again = vislab.Augmentation(64, seed=4)
    x0, y0, x1, y1 = again.crop(PHOTO)
    expected = np.asarray(Image.fromarray(PHOTO[y0:y1, x0:x1]).resize((64, 64), Image.Resampling.BILINEAR))
    assert np.abs(picture[:64, 100:164].astype(int) - expected).mean() < 4
    with pytest.raises(ValueError, match="there are no images to show"):
        augment.preview([])
