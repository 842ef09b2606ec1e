"""Laws of models of clips: a token's value lies on its own patch of its own frames, as the model's own numbers say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import vislab
from vislab.cli import main
from vislab.models.clips import OfClip

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "image_size": 32,
    "num_frames": 4,
    "num_labels": 3,
}


def made(family: str) -> nn.Module:
    torch.manual_seed(0)
    if family == "VideoMAE":
        config = hf.VideoMAEConfig(**SMALL, patch_size=8, tubelet_size=2)
        return hf.VideoMAEForVideoClassification(config).eval()
    if family == "ViViT":
        return hf.VivitForVideoClassification(hf.VivitConfig(**SMALL, tubelet_size=[2, 8, 8])).eval()
    return hf.TimesformerForVideoClassification(hf.TimesformerConfig(**SMALL, patch_size=8)).eval()


FAMILIES = ("VideoMAE", "ViViT", "TimeSformer")
MODELS: dict[str, vislab.Model] = {}


def loaded(family: str) -> vislab.Model:
    return MODELS.setdefault(family, vislab.load(made(family)))


def clip(count: int = 4, size: tuple[int, int] = (40, 56)) -> list[np.ndarray]:
    return [np.random.default_rng(n).integers(0, 256, (*size, 3), dtype=np.uint8) for n in range(count)]


def pixels(model: vislab.Model, frames: list[np.ndarray]) -> Tensor:
    """(1, frames, 3, height, width), as each frame's own preprocessing makes them."""
    assert model.of_frame is not None
    return torch.stack([model.of_frame(frame)[0][0] for frame in frames])[None]


@pytest.mark.parametrize("by_frame", [True, False])
def test_a_sheet_holds_every_pixel_of_the_clip_once(by_frame: bool) -> None:
    seen = OfClip(nn.Identity(), 6, (12, 20), 4, 2, by_frame=by_frame, channels_first=False)
    frames = torch.arange(2 * 6 * 3 * 12 * 20).reshape(2, 6, 3, 12, 20)
    sheet = seen.sheet(frames)
    assert sheet.shape == (2, 3, *seen.input_size)
    assert seen.clip(sheet).equal(frames)
    cells = sheet[0, 0].unflatten(1, (-1, seen.patch_size[1])).unflatten(0, (-1, seen.patch_size[0]))
    numbers = cells[:, 0, :, 0].numpy()  # of the first pixel of each token
    for number, values in enumerate(seen.by_frames(numbers)):
        step = number // 2 * 2
        assert np.array_equal(values, frames[0, step, 0, ::4, ::4].numpy())


@pytest.mark.parametrize("family", FAMILIES)
def test_what_hides_a_patch_is_drawn_on_it(family: str) -> None:
    """Occlusion against the module run on the clip itself, with the patch hidden in the frames of its token."""
    model, frames = loaded(family), clip()
    heats = vislab.explain_clip(frames, model=model, method="occlusion", target=1)
    plain, together = pixels(model, frames), heats[0].facts["frames"]["seen together"]
    with torch.no_grad():
        score = model.module.model(plain).logits[0, 1]
        for number, row, col in [(0, 0, 0), (3, 1, 2), (2, 3, 3), (1, 2, 0)]:
            hidden, first = plain.clone(), number // together * together
            hidden[:, first : first + together, :, row * 8 : row * 8 + 8, col * 8 : col * 8 + 8] = 0
            fall = float(score - model.module.model(hidden).logits[0, 1])
            assert heats[number].values[row, col] == pytest.approx(fall, abs=1e-5)
    for frame, heat in zip(frames, heats, strict=True):
        assert np.array_equal(heat.image, frame)
        assert heat.frame.visible == (0, 0, 56, 40)


def test_attention_is_the_model_s_own() -> None:
    """Of ViViT, whose CLS attends to the patches of all frames, against its own eager attention."""
    model, frames = loaded("ViViT"), clip()
    heats = vislab.explain_clip(frames, model=model, method="cls", layer=1, head=2)
    eager = made("ViViT")
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        own = eager(pixels(model, frames), output_attentions=True).attentions[1][0, 2, 0, 1:]
    values = np.stack([heat.values for heat in heats])
    np.testing.assert_allclose(values[::2], own.reshape(2, 4, 4).numpy(), atol=1e-6)
    assert np.array_equal(values[::2], values[1::2])
    assert float(own.sum()) == pytest.approx(values[::2].sum(), abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_that_go_through_the_model_answer_or_say_why_not(family: str) -> None:
    """Divided attention, over time and then over each frame, is no map over all patches."""
    model, frames = loaded(family), clip()
    for method in ("rollout", "relevance"):
        if family == "TimeSformer":
            with pytest.raises(ValueError, match="attends over 64 tokens, and the input makes 4 × 16"):
                vislab.explain_clip(frames, model=model, method=method)
        else:
            heats = vislab.explain_clip(frames, model=model, method=method)
            assert [heat.values.shape for heat in heats] == [(4, 4)] * 4
    with torch.no_grad():
        own = model.module.model(pixels(model, frames)).logits[0].softmax(0)
    assert "clips of 4 frames of 32×32 px, 3 classes" in repr(model)
    assert [p for _, p in model.predict(frames)] == pytest.approx(own.sort(descending=True)[0].tolist(), abs=1e-5)


class Convolutional(nn.Module):
    """Frames after channels, and nothing that attends."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 4, (3, 7, 7), (1, 2, 2), (1, 3, 3))
        self.head = nn.Linear(4, 5)

    def forward(self, clip: Tensor) -> Tensor:
        return self.head(self.stem(clip).mean((2, 3, 4)))


class FrameByFrame(nn.Module):
    """A convolutional net for each frame, and the mean of their scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 16, 16)
        self.head = nn.Linear(4, 5)

    def forward(self, clip: Tensor) -> Tensor:
        frames = self.stem(clip.flatten(0, 1)).relu().mean((2, 3))
        return self.head(frames).unflatten(0, (len(clip), -1)).mean(1)


def test_a_model_without_attention_is_asked_by_squares_of_each_frame() -> None:
    torch.manual_seed(0)
    model = vislab.load(Convolutional())
    frames = clip(16, (64, 64))
    heats = vislab.explain_clip(frames, model=model, method="integrated_gradients", steps=2, target=2)
    assert len(heats) == 16
    assert heats[0].grid.rows * heats[0].grid.patch[0] == 224
    with pytest.raises(ValueError, match="no feature map was found in Convolutional"):
        vislab.explain_clip(frames, model=model, method="grad_cam")
    two = vislab.load(FrameByFrame())
    with pytest.raises(ValueError, match=r"no patches of the frames|no feature map was found"):
        vislab.explain_clip(clip(16), model=two, method="grad_cam", target=lambda output: output[0, 1])


def test_what_is_no_clip_of_the_model_is_refused_in_one_sentence(tmp_path: Path) -> None:
    model, frames = loaded("VideoMAE"), clip()
    name = "VideoMAEForVideoClassification"
    for given, words in {
        "few": (frames[:3], rf"{name} takes clips of 4 frames, not of 3: give a list such as \[\*vislab.frames"),
        "a path": ("clip.mp4", "takes a clip, a list of 4 pictures"),
        "sizes": ([*frames[:3], clip(1, (30, 30))[0]], r"frames of a clip have one size, and these have \(30, 30\)"),
    }.values():
        with pytest.raises(ValueError, match=words):
            vislab.explain_clip(given, model=model)
    with pytest.raises(ValueError, match=f"{name} takes clips of 4 frames, not one picture: vislab.explain_clip"):
        vislab.explain(frames[0], model=model)
    with pytest.raises(ValueError, match="embedded sees single images, not clips"):
        vislab.explain_clip(frames, model="embedded")
    with pytest.raises(ValueError, match="of a clip, occlusion takes away patches, in all frames that a token sees"):
        vislab.explain_clip(frames, model=model, method="occlusion", square=4)
    with pytest.raises(ValueError, match=r"takes frames of 32×32 px, and its processor makes others, of 224×224 px"):
        vislab.load(made("VideoMAE"), processor=hf.VideoMAEImageProcessor())
    heats = vislab.explain_clip(frames, model=model, method="cls")
    vislab.save(tmp_path / "one.png", heats[2])
    call = vislab.provenance(tmp_path / "one.png")["call"]
    assert "heat = vislab.explain_clip(frames, method='cls', model=model)[2]" in call
    with pytest.raises(ValueError, match="is of a clip, made of 4 frames together"):
        vislab.reproduce(tmp_path / "one.png", image=frames[2])


def test_frames_are_prepared_as_the_model_s_own_processor_does() -> None:
    size = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    for processor in (hf.VideoMAEImageProcessor(**size), hf.VivitImageProcessor(**size)):
        model = vislab.load(made("ViViT"), processor=processor)
        own = processor(clip(), return_tensors="pt")["pixel_values"]
        assert float((pixels(model, clip()) - own).abs().mean()) < 1e-2


def test_the_command_line_shows_clips_by_as_many_frames_as_the_model_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vislab.cli.asking.load_model", lambda args: loaded("ViViT"))
    writer = cv2.VideoWriter("clip.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for frame in clip(10, (48, 64)):
        writer.write(frame)
    writer.release()
    asked = ["figure", "clip.mp4", "--model", "vivit", "--dpi", "40"]
    assert main.main([*asked, "--out", "sheet.png"]) == 0
    assert "the last 2 frames are left out: vivit takes 4 at once" in capsys.readouterr().err
    facts = [one["facts"] for one in vislab.provenance("sheet.png")["maps"]]
    assert [one["clip"]["frame"] for one in facts] == [*range(8)]
    assert [one["frames"]["index"] for one in facts] == [0, 1, 2, 3] * 2
    assert main.main([*asked, "--out", "film.mp4"]) == 0
    assert main.main([*asked, "--every", "5", "--out", "few.png"]) == 2
    assert "vivit takes clips of 4 frames, and 'clip.mp4' has 2 at --every 5" in capsys.readouterr().err
    assert main.main([*asked, "--patch-size", "4", "--out", "sized.png"]) == 2
    assert "--patch-size is of models of single images, and vivit sees clips" in capsys.readouterr().err
