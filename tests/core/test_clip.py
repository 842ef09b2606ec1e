"""Laws of a clip's frames: the right ones, in order, with their seconds, one at a time; and what is no clip is said."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

import vislab

RATE = 12.5  # frames a second
STEP = 10  # of brightness, from frame to frame


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """20 grey frames, each brighter than the one before, the left half red."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (64, 48))
    for number in range(20):
        frame = np.full((48, 64, 3), number * STEP, np.uint8)
        frame[:, :32] = (0, 0, 255)  # OpenCV's order is blue, green, red
        writer.write(frame)
    writer.release()
    return path


@pytest.mark.parametrize("every", [1, 3, 7, 100])
def test_each_nth_frame_comes_with_its_number_and_second(clip: Path, every: int) -> None:
    frames = list(vislab.frames(clip, every=every))
    assert [frame.number for frame in frames] == list(range(0, 20, every))
    for frame in frames:
        assert frame.second == pytest.approx(frame.number / RATE)
        assert frame.image[:, 48:].mean() == pytest.approx(frame.number * STEP, abs=3)
        assert frame.image.shape == (48, 64, 3)
        np.testing.assert_allclose(frame.image[24, 8], (255, 0, 0), atol=6)


def test_frames_are_pictures_to_all_that_takes_one(clip: Path) -> None:
    frame = next(vislab.frames(clip))
    image = vislab.load_image(frame)
    np.testing.assert_array_equal(image, frame.image)
    np.testing.assert_array_equal(np.asarray(frame), frame.image)
    image[:] = 0
    assert frame.image.any()
    np.testing.assert_array_equal(vislab.load_image(frame, bands=(3, 2, 1)), frame.image[..., ::-1])


def test_no_frame_is_decoded_before_it_is_asked_for(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    turned = cv2.cvtColor
    monkeypatch.setattr(cv2, "cvtColor", lambda *a: decoded.append(1) or turned(*a))
    frames = vislab.frames(clip, every=2)
    assert len(decoded) == 0
    next(frames)
    assert len(decoded) == 1
    list(islice(frames, 3))
    assert len(decoded) == 4


def test_a_clip_that_is_cut_short_is_told(clip: Path) -> None:
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    with pytest.warns(UserWarning, match=r"clip\.avi' ends after \d+ of the 20 frames that it announces"):
        frames = list(vislab.frames(clip))
    assert 1 < len(frames) < 19
    assert len(list(islice(vislab.frames(clip), 2))) == 2  # whoever asks for no more is told nothing


@pytest.mark.parametrize(
    ("every", "said"), [(0, "not 0"), (-1, "not -1"), (True, "not True"), (2.5, "not 2.5"), ("5", "not '5'")]
)
def test_an_impossible_step_is_refused_when_called(clip: Path, every: object, said: str) -> None:
    with pytest.raises(ValueError, match=f"every is a whole number from 1, .*{said}"):
        vislab.frames(clip, every=every)  # type: ignore[arg-type]


def test_what_is_no_clip_is_said_when_called(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.mp4").write_text("no clip" * 100)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "photo.jpg").write_bytes(vislab.samples()["church"].read_bytes())
    for name, kind, said in [
        ("text.mp4", ValueError, "OpenCV finds no clip in it.*damaged.*codec.*ffmpeg -i"),
        ("empty.mp4", ValueError, "empty, so it holds no clip"),
        ("photo.jpg", ValueError, "is a picture, not a clip: vislab.load_image"),
        ("missing.mp4", FileNotFoundError, "there is no file"),
        ("", IsADirectoryError, "is a folder: give one clip"),
    ]:
        with pytest.raises(kind, match=said):
            vislab.frames(tmp_path / name)
    with pytest.raises(ValueError, match="is an address: download the clip"):
        vislab.frames("https://example.org/clip.mp4")
    with pytest.raises(TypeError, match=r"the path of a file, such as 'clip\.mp4', not ndarray"):
        vislab.frames(np.zeros((4, 4, 3), np.uint8))  # type: ignore[arg-type]
    assert "WARN" not in capfd.readouterr().err


def test_a_clip_without_frames_is_said(clip: Path) -> None:
    head = clip.read_bytes()
    clip.write_bytes(head[: head.index(b"movi") + 4])
    with pytest.raises(ValueError, match=r"no frame|finds no clip"):
        list(vislab.frames(clip))


@pytest.mark.parametrize("suffix", ["avi", "mp4"])
def test_a_clip_given_for_a_picture_is_told_what_to_do(clip: Path, suffix: str, tmp_path: Path) -> None:
    path = clip
    if suffix == "mp4":
        path = tmp_path / "clip.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (64, 48))
        writer.write(np.zeros((48, 64, 3), np.uint8))
        writer.release()
    with pytest.raises(ValueError, match=r"it looks like a video: vislab\.frames\(.*vislab figure clip\.mp4 --every 5"):
        vislab.load_image(path)
