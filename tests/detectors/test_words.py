"""Laws of what a detector is refused for: in words, by what it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ultralytics.nn.modules.block import AAttn
from ultralytics.nn.tasks import DetectionModel

import vislab


def network(channels: int = 3, name: str = "yolo12n.yaml") -> Any:
    torch.manual_seed(0)
    return DetectionModel(name, ch=channels, nc=1, verbose=False).eval()


def test_a_detector_of_one_channel_sees_grey_pictures() -> None:
    ready = vislab.load_detector(network(1, "yolov8n.yaml"))
    grey = np.random.default_rng(0).integers(0, 255, (96, 96), np.uint8)
    vislab.detect(grey, detector=ready, image_size=96)
    pixels, _ = ready.family.prepare(vislab.load_image(grey), (96, 96))
    assert np.array_equal((pixels["x"][0, 0] * 255).round().numpy().astype(np.uint8), grey)
    with pytest.raises(ValueError, match="takes pictures of 1 channel, and this one has colours"):
        vislab.detect(np.stack([grey, grey, 255 - grey], 2), detector=ready, image_size=96)


def test_what_does_not_run_here_is_refused_when_loaded() -> None:
    with pytest.raises(ValueError, match="takes pictures of 4 channels, and those of vislab have 3"):
        vislab.load_detector(network(4, "yolov8n.yaml"))
    fork = network()
    for part in fork.modules():
        if isinstance(part, AAttn):
            del part.qkv
    with pytest.raises(ValueError, match="YOLOv12 authors' fork"):
        vislab.load_detector(fork)
    with pytest.raises(TypeError, match=r"a state_dict of \d+ tensors is no detector"):
        vislab.load_detector(network().state_dict())


def test_an_error_inside_the_network_is_said_in_words() -> None:
    ready = vislab.load_detector(network(name="yolov8n.yaml"))
    del ready.module.model[0].act
    with pytest.raises(ValueError, match=r"does not run on an input of 1×3×.* another version or a fork"):
        vislab.detect(np.zeros((96, 96, 3), np.uint8), detector=ready, image_size=96)
