"""Detectors of ultralytics: loaded quietly, prepared and decoded exactly as its own predictor does it.

ultralytics is imported when the first of them is asked for, and then offline: it looks for no network, installs
nothing, and keeps its settings in a folder that goes with the process. What it changes for the whole process when it
is imported (print options, OpenCV's threads, PIL.Image.open, variables of the environment) is put back.
"""

from __future__ import annotations

import atexit
import copy
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..core.checks import first_line
from ..core.files import assets
from ..core.geometry import Frame, Grid
from ..core.imports import IMPORTING, LOADING, library
from ..models.hub import advice
from . import cells
from .detections import Decoded

LOAD = "vislab.load_detector"
EMBEDDED = {"embedded": "yolo12n-imagenette"}
RELEASE = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
# What is used of it, and the variables of the environment that it sets when it is imported.
_PARTS = ("data.augment", "nn.autobackend", "nn.tasks", "utils.downloads", "utils.nms", "utils.ops")
_SETS = ("KINETO_LOG_LEVEL", "NUMEXPR_MAX_THREADS", "OMP_NUM_THREADS", "TF_CPP_MIN_LOG_LEVEL", "TORCH_CPP_LOG_LEVEL")
_QUERIES = ("RTDETRDecoder",)  # heads whose boxes are made by queries


@dataclass(frozen=True, eq=False)
class Yolo:
    """A detector of ultralytics: a copy of the network, fused as its predictor fuses it.

    size: (height, width) px that an image is fitted into. channels: of a picture, 3 or
    1. deformable: whether its boxes are made by queries that sample
    points of the feature maps (RT-DETR), else by the cells of those maps.
    """

    module: nn.Module
    labels: tuple[str, ...]
    size: tuple[int, int]
    deformable: bool
    channels: int = 3

    @property
    def head(self) -> Any:
        return self.module.model[-1]  # type: ignore[index]

    def rounded(self, size: tuple[int, int]) -> tuple[int, int]:
        """An input size as ultralytics takes it: up to a multiple of the largest stride."""
        stride = self._stride
        return (-(-size[0] // stride) * stride, -(-size[1] // stride) * stride)

    def prepare(self, image: np.ndarray, size: tuple[int, int]) -> tuple[dict[str, Tensor], Frame]:
        """(H, W, 3) uint8 -> (the network's arguments, Frame): letterboxed, or stretched for RT-DETR.

        Raises ValueError for a picture in colours, where the network takes one channel.
        """
        from ultralytics.data.augment import LetterBox

        if self.channels == 1 and (image != image[..., :1]).any():
            raise ValueError(
                "this detector takes pictures of 1 channel, and this one has colours: say how it is to become grey, "
                "such as vislab.load_image(path, bands=(1,)) for one band, or "
                "numpy.asarray(PIL.Image.open(path).convert('L'))"
            )

        size, source = self.rounded(size), (image.shape[0], image.shape[1])
        if self.deformable:
            frame = Frame.stretch(source, size)
        else:
            ratio = min(size[0] / source[0], size[1] / source[1])
            resized = [max(1, round(side * ratio)) for side in source]
            spare = [(side - r) % self._stride for side, r in zip(size, resized, strict=True)]  # no more is padded
            top, left = (round(s / 2 - 0.1) for s in spare)
            scale = (resized[0] / source[0], resized[1] / source[1])
            frame = Frame(source, (resized[0] + spare[0], resized[1] + spare[1]), scale, (float(top), float(left)))
        fit = LetterBox(size, auto=not self.deformable, scale_fill=self.deformable, stride=self._stride)
        pixels = torch.from_numpy(np.ascontiguousarray(fit(image=image).transpose(2, 0, 1)))[None].float().div_(255)
        assert pixels.shape[2:] == frame.model
        return {"x": pixels[:, : self.channels]}, frame

    def levels(self, frame: Frame) -> tuple[Grid, ...]:
        """The grids whose cells make boxes; none where queries do."""
        return () if self.deformable else tuple(self.map(frame, int(stride)) for stride in self.head.stride)

    def maps(self, frame: Frame) -> tuple[Grid, ...]:
        """The grids of feature maps that a module inside may attend over, one for each stride."""
        return tuple(self.map(frame, stride) for stride in (4, 8, 16, 32, 64) if stride <= self._stride)

    @staticmethod
    def map(frame: Frame, stride: int) -> Grid:
        return Grid(frame.model[0] // stride, frame.model[1] // stride, (stride, stride))

    def decode(self, output: Any, frame: Frame, confidence: float, iou: float) -> Decoded:
        """The boxes that ultralytics' own predictor gives, in its order, with the cell or query behind each."""
        if self.deformable:
            prediction, raw = output
            return self._of_queries(prediction.clone(), raw, frame, confidence)
        return cells.decoded(self, output, frame, confidence, iou)

    def _of_queries(self, prediction: Tensor, raw: Any, frame: Frame, confidence: float) -> Decoded:
        from ultralytics.utils.ops import xywh2xyxy

        scores = raw[1].squeeze(0).sigmoid().flatten(1)
        query = scores.topk(prediction.shape[1], dim=1).indices[0] // self.head.nc
        keep = prediction[0, :, 4] > confidence
        found, query = prediction[0][keep][:300], query[keep][:300]
        xyxy = xywh2xyxy(found[:, :4]) * found.new_tensor([frame.source[1], frame.source[0]] * 2)
        return Decoded(xyxy, found[:, 4], found[:, 5], query)

    def score(self, features: Sequence[Tensor], label: int, cell: int) -> Tensor:
        """The logit of a class at a cell, from the neck's maps: what a gradient of a box's score starts from."""
        _, raw = self.head(list(features))
        return raw.get("one2one" if self.head.end2end else "one2many", raw)["scores"][0, label, cell]

    @property
    def _stride(self) -> int:
        return max(32, int(self.module.stride.max()))  # type: ignore[operator]


def embedded(name: str, device: torch.device | None = None) -> Yolo:
    """One of the detectors that come with vislab. Raises OSError where its files are not whole."""
    folder = assets() / "models" / EMBEDDED[name]
    quietly()
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import YAML

    try:
        card = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        with silence():
            module = DetectionModel(YAML.load(folder / "model.yaml"), verbose=False)
        module.load_state_dict({key: value.float() for key, value in load_file(folder / "model.safetensors").items()})
        module.names = dict(enumerate(card["labels"]))
        return _made(module, card["image_size"], device)
    except (OSError, ValueError, LookupError, RuntimeError, SafetensorError) as error:
        raise OSError(f"cannot load the detector {name!r}: {first_line(error)} {advice(name, LOAD)}") from error


def weights(name: str, *, trust: bool, device: torch.device | None = None) -> Yolo:
    """A file of ultralytics' weights: an official name is fetched where it is not at hand, any other needs `trust`.

    Official weights are read as tensors and known classes alone. ValueError for a file that may run anything when it is
    opened, OSError for one that is not there.
    """
    quietly()
    from ultralytics.nn.tasks import torch_safe_load
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    path = Path(name).expanduser()
    official = path.name in GITHUB_ASSETS_NAMES
    if not path.is_file():
        if not official or path.parent != Path():
            raise OSError(f"there is no file {name}: check the path, or take an official name such as 'yolo12n.pt'")
        path = _official_file(name)
    if not official and not trust:
        raise ValueError(
            f"{name} is a pickle, which can run anything on this machine when it is opened: if you trust whoever made "
            "it, say trust=True (--trust in a terminal). Official names such as 'yolo12n.pt' need no trust"
        )
    try:
        with silence():
            checkpoint, _ = torch_safe_load(str(path), safe_only=not trust)
    except Exception as error:  # of a broken file, whatever pickle makes of it
        raise OSError(f"{path} cannot be read as weights of ultralytics: {str(error).splitlines()[0]}") from error
    module = checkpoint.get("ema") or checkpoint.get("model")
    if not isinstance(module, nn.Module):
        raise OSError(f"{path} holds no network of ultralytics, but {type(module).__name__}")
    return _made(module, checkpoint.get("train_args", {}).get("imgsz", 640), device)


def of_object(detector: Any, device: torch.device | None = None) -> Yolo | None:
    """A Yolo from a copy of the network of an ultralytics YOLO or RTDETR, or of that network passed by itself.

    None for an object of any other library. Raises ValueError for one of ultralytics that holds no such network.
    """
    if not any(base.__module__.startswith("ultralytics.") for base in type(detector).__mro__):
        return None
    module = getattr(detector, "model", None) if hasattr(detector, "predictor") else detector
    if not isinstance(module, nn.Module) or not isinstance(getattr(module, "model", None), nn.Sequential):
        raise ValueError(f"{type(detector).__name__} holds no network of torch modules: give a YOLO or RTDETR detector")
    size = getattr(detector, "overrides", {}).get("imgsz", 640) if module is not detector else 640
    return _made(copy.deepcopy(module), size, device)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _made(module: Any, size: int | Sequence[int], device: torch.device | None) -> Yolo:
    """A Yolo of a network that is ours: float32, fused and laid out in memory as predict() does it."""
    quietly()  # also where the network came from an ultralytics that was imported by somebody else
    from ultralytics.nn.autobackend import AutoBackend

    head = type(module.model[-1]).__name__
    if head == "Classify":
        raise ValueError(
            "its head is Classify, which makes no boxes: what it rests on is explained by vislab.explain(image, "
            "model=vislab.load(yolo.model, processor=…)), with the image processor that it was trained with"
        )
    if head not in cells.HEADS + _QUERIES:
        raise ValueError(
            f"its head is {head}, and vislab reads networks of ultralytics that make boxes (detection, -seg, -pose, "
            "-obb, RT-DETR): take one of these, such as 'yolo12n.pt'"
        )
    if any(type(part).__name__ == "AAttn" and not hasattr(part, "qkv") for part in module.modules()):
        raise ValueError(
            "it was saved by the YOLOv12 authors' fork of ultralytics, whose attention has other parts (qk and v where "
            "this ultralytics has qkv), so that it does not run here: take weights of ultralytics' own, such as "
            "'yolo12n.pt', or train the same data with them"
        )
    channels = next((p.shape[1] for p in module.parameters() if p.ndim == 4), 3)
    if channels not in (1, 3):
        raise ValueError(
            f"it takes pictures of {channels} channels, and those of vislab have 3 (RGB): take a detector of 3 "
            "channels, or of 1 for grey pictures"
        )
    if hasattr(module.model[-1], "lrpc"):
        raise ValueError(
            "a prompt-free YOLOE leaves cells out before it makes boxes, and its boxes then name no cells: take one "
            "with classes, such as 'yoloe-11s-seg.pt' after set_classes"
        )
    with silence():
        # end2end: as predict() asks by default, NMS where the network has a head for it
        backend = AutoBackend(module, device or _device(module), fuse=True, verbose=False, end2end=False)
        module = backend.backend.model.eval()
    both = (size, size) if isinstance(size, int) else (size[0], size[-1])
    names = module.names.values() if isinstance(module.names, dict) else module.names
    return Yolo(module, tuple(map(str, names)), both, head in _QUERIES, int(channels))


def _official_file(name: str) -> Path:
    """The file of an official name in torch's cache of weights, downloaded when it is not there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    offline = os.environ.get("YOLO_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    try:
        if offline:
            raise OSError("YOLO_OFFLINE is set")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(f"{RELEASE}/{name}", str(path), progress=False)
    except OSError as error:
        raise OSError(
            f"{name} is neither in this folder nor in {path.parent}, and cannot be downloaded ({error}): put the file "
            "there, or take 'embedded', which comes with vislab and needs no network"
        ) from error
    return path


@contextmanager
def silence() -> Iterator[None]:
    """No log lines; whatever was disabled before is disabled again, no more."""
    with LOADING:
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


def quietly() -> None:
    """Import what is used of ultralytics without a trace; one that is imported already is left as it is."""
    with LOADING, IMPORTING, _no_trace():  # the locks in this order, as loading imports
        for name in _PARTS:
            library(f"ultralytics.{name}")


@contextmanager
def _no_trace() -> Iterator[None]:
    """What ultralytics changes in the process when it is imported is put back, and it finds no network and no home.

    Other threads may set variables of the environment meanwhile: only the few that ultralytics reads or sets, each by
    its name, are put back.
    """
    if "ultralytics" in sys.modules:
        yield
        return
    home = tempfile.mkdtemp(prefix="vislab-ultralytics-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    told = {"YOLO_CONFIG_DIR": home, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    before = {name: os.environ.get(name) for name in (*told, *_SETS)}
    threads = cv2.getNumThreads()
    opener, saver, printing = PIL.Image.open, torch.save, copy.copy(torch._tensor_str.PRINT_OPTS)
    os.environ |= told
    try:
        with silence(), np.printoptions():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        cv2.setNumThreads(threads)
        PIL.Image.open, torch.save = opener, saver
        torch.set_printoptions(**vars(printing))
