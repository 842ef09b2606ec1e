"""SAM, SAM-HQ and SAM2: masks of points and boxes are those of the library's own processor, an image encoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import prompted
import pytest
import torch
import transformers as hf
from PIL import Image
from torch import nn

import vislab
from vislab.masks import promptable

PHOTO = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
POINT, BOX = (31.0, 22.0), (12.0, 8.0, 70.0, 52.0)


MODELS = {"SAM": prompted.sam(), "SAM-HQ": prompted.sam("SamHQ"), "SAM2": prompted.sam2()}


@pytest.fixture(params=MODELS)
def asked(request: pytest.FixtureRequest) -> tuple[nn.Module, Any]:
    return MODELS[request.param]


def own(module: Any, processor: Any, photo: np.ndarray, **prompt: Any) -> tuple[np.ndarray, np.ndarray]:
    """(candidates, H, W) and their scores by the library alone."""
    inputs = processor(images=Image.fromarray(photo), return_tensors="pt", **prompt)
    with torch.no_grad():
        output = module(**{k: v for k, v in inputs.items() if "sizes" not in k})
    sizes = [inputs[name] for name in ("original_sizes", "reshaped_input_sizes") if name in inputs]
    (masks,) = processor.post_process_masks(output.pred_masks, *sizes)
    return masks[0].numpy(), output.iou_scores[0, 0].numpy()


def turned(photo: np.ndarray, folder: Path) -> Path:
    """The photo as a camera held upright stores it: lying, with the turn in its Exif."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(photo).copy()).save(folder / "turned.png", exif=exif)
    return folder / "turned.png"


PROMPTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "point": ({"points": [POINT]}, {"input_points": [[[[*POINT]]]]}),
    "box": ({"boxes": [BOX]}, {"input_boxes": [[[*BOX]]]}),
    "points": (
        {"points": [POINT, (40, 30)], "outside": [(5, 5)]},
        {"input_points": [[[[*POINT], [40.0, 30.0], [5.0, 5.0]]]], "input_labels": [[[1, 1, 0]]]},
    ),
    "both": ({"points": [POINT], "boxes": [BOX]}, {"input_points": [[[[*POINT]]]], "input_boxes": [[[*BOX]]]}),
}


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (61, 61)])
def test_masks_are_those_of_the_processor(asked: Any, prompt: str, shape: tuple[int, int], tmp_path: Path) -> None:
    module, processor = asked
    photo = np.resize(PHOTO, (*shape, 3))
    ours, theirs = PROMPTS[prompt]
    expected, sure = own(module, processor, photo, **theirs)
    for source in (photo, turned(photo, tmp_path)):
        every = vislab.segment(source, model=module, processor=processor, candidates=True, **ours)
        order = np.argsort(-sure)
        assert len(every) == len(expected) == 3
        assert every.iou(expected[order]).diagonal().min() >= 0.999
        assert every.scores == pytest.approx(np.clip(sure[order], 0, 1), abs=1e-4)
        best = vislab.segment(source, model=module, processor=processor, **ours)
        assert np.array_equal(best.masks[0], every.masks[0])
    assert best.scored == "IoU that the model expects"
    assert 0 < expected.mean() < 1


def test_boxes_of_a_detector_are_objects_of_their_names(asked: Any) -> None:
    module, processor = asked
    frame = vislab.Frame.stretch((60, 90), (60, 90))
    corners = np.array([BOX, (2, 2, 30, 30)])
    boxes = vislab.Detections(corners, [0.9, 0.8], ("church", "dog"), [0, 1], [0, 1], frame, 0.25, "mine")
    masks = vislab.segment(PHOTO, model=module, processor=processor, boxes=boxes)
    assert masks.labels == ("church", "dog")
    assert str(masks).startswith("2 masks by 2 boxes; model Sam")
    for mask, box in zip(masks.masks, corners, strict=True):
        alone = vislab.segment(PHOTO, model=module, processor=processor, boxes=[box])
        assert alone.labels == ("box 1",)
        assert np.array_equal(alone.masks[0], mask)


def test_an_image_is_encoded_once_until_its_pixels_or_the_weights_change(asked: Any) -> None:
    module, processor = asked
    vislab.cache().clear()
    runs = []
    handle = module.vision_encoder.register_forward_hook(lambda *_: runs.append(1))
    photo = PHOTO.copy()
    try:
        for x in (10, 40, 80):
            vislab.segment(photo, model=module, processor=processor, points=[(x, 20)])
        assert len(runs) == 1
        assert [entry.kind for entry in vislab.cache().entries] == ["run"]
        assert vislab.cache().bytes > 0
        photo[0, 0] += 1
        vislab.segment(photo, model=module, processor=processor, points=[POINT])
        assert len(runs) == 2
        vislab.segment(PHOTO, model=module, processor=processor, points=[POINT])
        assert len(runs) == 2
        weight = next(module.mask_decoder.parameters())
        with torch.no_grad():
            weight.mul_(1.0)
        vislab.segment(PHOTO, model=module, processor=processor, points=[POINT])
        assert len(runs) == 2  # the same values
    finally:
        handle.remove()
    module.train()
    vislab.segment(PHOTO, model=module, processor=processor, points=[POINT])
    assert module.training
    module.eval()


def test_folders_and_pipelines_are_loaded(asked: Any, tmp_path: Path) -> None:
    module, processor = asked
    module.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    expected = vislab.segment(PHOTO, model=module, processor=processor, points=[POINT])
    masks = vislab.segment(PHOTO, model=tmp_path, points=[POINT])
    assert np.array_equal(masks.masks, expected.masks)
    assert masks.model == str(tmp_path)
    bare = vislab.segment(PHOTO, model=module, processor=processor.image_processor, points=[POINT])
    assert np.array_equal(bare.masks, expected.masks)
    with pytest.raises(ValueError, match=r"makes the mask of what it is shown: give points=\[\(x, y\)\] or boxes"):
        vislab.segment(PHOTO, model=tmp_path)
    for file in tmp_path.glob("*processor*.json"):
        file.unlink()
    promptable.MODELS.clear()
    with pytest.raises(OSError, match="cannot load"):
        vislab.segment(PHOTO, model=tmp_path, points=[POINT])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"points": [(91, 20)]}, r"points: \(91, 20\) lies beside the image, which is 90×60 px"),
        ({"points": (10, 20)}, r"points is a list of \(x, y\), such as \[\(120, 80\)\]"),
        ({"points": 5}, "points is a list of"),
        ({"points": [(1, 2, 3)]}, "points is a list of"),
        ({"points": ["a"]}, "points is a list of"),
        ({"points": [(1, float("nan"))]}, "points is a list of"),
        ({"boxes": [(10, 20)]}, r"boxes is a list of \(x0, y0, x1, y1\)"),
        ({"boxes": [(30, 10, 20, 40)]}, "has no area: left, top, right and bottom"),
        ({"boxes": [(100, 10, 120, 40)]}, r"boxes: \(100, 10, 120, 40\) lies beside the image"),
        ({"boxes": []}, "there are no boxes to ask by"),
        ({"outside": [POINT]}, "points outside an object say nothing of it alone"),
        ({"points": [POINT], "boxes": [BOX, BOX]}, "points describe one object, and there are 2 boxes"),
        ({"points": [POINT], "method": "kmeans"}, "leave method out"),
        ({"points": [POINT], "refine": True}, "leave refine out"),
        ({"points": [POINT], "image_size": 64}, "leave image_size out"),
        ({"points": [POINT], "level": 0.5}, "leave level out"),
        ({"points": [POINT], "candidates": 2}, "candidates is True or False"),
    ],
)
def test_prompts_that_say_nothing_are_refused(options: dict[str, Any], says: str) -> None:
    module, processor = MODELS["SAM2"]
    with pytest.raises(ValueError, match=says):
        vislab.segment(PHOTO, model=module, processor=processor, **options)


def test_models_that_take_no_points_say_so() -> None:
    for model in ("embedded", vislab.load("embedded")):
        with pytest.raises(ValueError, match="embedded takes no points or boxes: leave them out, or take a model"):
            vislab.segment(PHOTO, model=model, points=[POINT])
    with pytest.raises(ValueError, match="Linear takes no points or boxes"):
        vislab.segment(PHOTO, model=nn.Linear(2, 2), boxes=[BOX])
    with pytest.raises(ValueError, match="a heatmap: give its photograph"):
        vislab.segment(vislab.explain(PHOTO), points=[POINT])


def test_what_is_wrong_with_a_model_is_said() -> None:
    module, processor = prompted.sam2()
    with pytest.raises(ValueError, match=r"nothing says how Sam2Model is shown pictures and points.*Sam2Processor"):
        vislab.segment(PHOTO, model=module, points=[POINT])
    with pytest.raises(ValueError, match="ViTImageProcessor does not say how Sam2Model"):
        vislab.segment(PHOTO, model=module, processor=hf.ViTImageProcessor(), points=[POINT])
    module.mask_decoder.transformer = nn.Identity()
    with pytest.raises(ValueError, match=r"Sam2Model does not answer 1 point: .* \(TypeError\)"):
        vislab.segment(PHOTO, model=module, processor=processor, points=[POINT])
    vislab.cache().clear()
    module.vision_encoder = nn.Identity()
    with pytest.raises(ValueError, match="Sam2Model does not run on this picture"):
        vislab.segment(PHOTO, model=module, processor=processor, points=[POINT])
