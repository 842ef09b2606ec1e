"""A detector of ultralytics as an ONNX file, whose boxes are held against those of the network that it was made of."""

from __future__ import annotations

import copy
import os
import tempfile
import warnings
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..core.checks import first_line
from ..core.files import check_folder, write
from ..core.images import load_image, samples
from ..models.preprocessing import ImageSize, sides
from . import cells
from .cache import detector_of
from .detector import Detector
from .yolo import Yolo, quietly, silence

NEEDED = ("onnx", "onnxruntime")
BOXES, SCORES = 0.5, 0.01  # px and score by which what the file says may be another


@dataclass(frozen=True)
class Exported:
    """A detector's file. path: of it. size: (height, width) px of its input. boxes, scores: by how many px of the
    input, and by how much of a score, what it says of sample photographs was at most apart from the network's own."""

    path: Path
    size: tuple[int, int]
    boxes: float
    scores: float

    def __str__(self) -> str:
        height, width = self.size
        return (
            f"{self.path}: input {height}×{width} px; on {len(samples())} photographs at most {self.boxes:.2g} px and "
            f"{self.scores:.2g} of a score from the network itself"
        )


def export_detector(
    path: str | os.PathLike[str],
    *,
    detector: str | Path | Detector | Any = "embedded",
    image_size: ImageSize | None = None,
    trust: bool = False,
) -> Exported:
    """Write a detector of ultralytics as ONNX, by ultralytics' own exporter, and check that its boxes stay the same.

    path: ends with .onnx. detector, trust: as of `detect`. image_size: (height, width) px of its input, or a side, by
    default that of the detector; it is fixed in the file. The file takes RGB of 0 to 1, (1, 3, height, width), and says
    what the network says before boxes that overlap are taken away. On each of vislab's samples its boxes and scores lie
    within 0.5 px and 0.01 of the network's, else there is no file.

        print(vislab.export_detector("detector.onnx"))  # needs onnx

    Raises ImportError where onnx or onnxruntime is not installed, ValueError for a detector of another library, one
    that cannot be exported, and one that says something else as a file.
    """
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise ValueError(f"a detector is exported to a path that ends with .onnx, not {str(path)!r}")
    check_folder(path)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ImportError(f"vislab.export_detector needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    ready = detector_of(detector, trust)
    family = ready.family
    if not isinstance(family, Yolo):
        raise ValueError(
            f"{ready.name} is a detector of transformers, which ultralytics does not export: take one of ultralytics, "
            "such as 'yolo12n.pt' or 'embedded'"
        )
    size = family.rounded(family.size if image_size is None else sides(image_size))
    with tempfile.TemporaryDirectory() as folder:
        made = _exported(ready, family, size, Path(folder))
        boxes, scores = _apart(ready, family, size, made)
        if not (boxes <= BOXES and scores <= SCORES):
            raise ValueError(
                f"{ready.name} says something else as ONNX, by {boxes:.2g} px and {scores:.2g} of a score, so no file "
                "was written: take other versions of torch and onnx, or another detector"
            )
        write(path, made)
    return Exported(path, size, boxes, scores)


def _exported(ready: Detector, family: Yolo, size: tuple[int, int], folder: Path) -> Path:
    quietly()
    from ultralytics.engine.exporter import Exporter

    module: Any = copy.deepcopy(family.module).cpu()
    head = type(family.head).__name__
    tasks = {"segment": cells.MASKS, "pose": cells.POSES, "obb": cells.TURNED}
    module.task = next((task for task, heads in tasks.items() if head in heads), "detect")
    module.pt_path = str(folder / "detector.pt")  # the file is named by it
    settings = {"format": "onnx", "imgsz": list(size), "batch": 1, "simplify": False, "device": "cpu"}
    try:
        with silence(), warnings.catch_warnings(action="ignore"):
            return Path(Exporter(overrides=settings)(model=module))
    except Exception as error:  # of whatever kind the exporter and its libraries raise
        raise ValueError(f"ultralytics does not export {ready.name} to ONNX: {first_line(error)}") from error


def _apart(ready: Detector, family: Yolo, size: tuple[int, int], made: Path) -> tuple[float, float]:
    """By how many px, and by how much of a score, a file and the network differ at most on the samples."""
    session = import_module("onnxruntime").InferenceSession(str(made), providers=["CPUExecutionProvider"])
    entry, parameter, apart = session.get_inputs()[0].name, next(ready.module.parameters()), [(0.0, 0.0)]
    for photo in samples().values():
        picture = cv2.resize(load_image(photo), size[::-1], interpolation=cv2.INTER_AREA)
        grey = picture[..., :1].repeat(3, 2) if family.channels == 1 else picture
        pixels = family.prepare(grey, size)[0]["x"]
        with torch.no_grad():
            output = ready.module(pixels.to(parameter.device, parameter.dtype))[0]
        mine = (output[0] if isinstance(output, tuple) else output)[0].float().cpu().numpy()
        theirs = session.run(None, {entry: pixels.numpy()})[0][0]
        if mine.shape != theirs.shape:
            raise ValueError(f"{ready.name} says {theirs.shape} as ONNX, and {mine.shape} as it is")
        apart.append(_between(mine, theirs, family, size))
    boxes, scores = np.max(apart, axis=0).tolist()
    return boxes, scores


def _between(mine: np.ndarray, theirs: np.ndarray, family: Yolo, size: tuple[int, int]) -> tuple[float, float]:
    """Of two outputs: of all cells, (4 + classes, cells), or of the best boxes, (boxes, 6), in whatever order."""
    listed = family.deformable or bool(family.module.end2end)
    if listed:
        unit = [size[1], size[0]] * 2 if family.deformable else [1, 1, 1, 1]
        mine, theirs = (one * np.array([*unit, *[1] * (one.shape[1] - 4)]) for one in (mine, theirs))
        theirs = theirs[np.abs(mine[:, None] - theirs[None]).max(-1).argmin(1)]
    else:
        mine, theirs = mine[: 4 + len(family.labels)].T, theirs[: 4 + len(family.labels)].T
    differ = np.abs(mine - theirs)
    return float(differ[:, :4].max()), float(differ[:, 4:].max())
