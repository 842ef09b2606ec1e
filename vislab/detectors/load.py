"""Name -> Detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.checks import check_name, meant, shown
from ..core.files import place_of
from ..models.device import device_of
from ..models.hub import bring_transformers, hub_answers
from . import detr, worded, yolo
from .detector import Detector


def load_detector(
    detector: str | Path | Any = "embedded",
    *,
    processor: Any = None,
    trust: bool = False,
    device: str | torch.device | None = None,
    name: str | None = None,
) -> Detector:
    """Load a detector.

    detector: "embedded" (needs no network); an official name of ultralytics ("yolo12n.pt", "yolo11s.pt", …) or the path
    of such a file; a detector of transformers (DETR, RT-DETR, YOLOS, and those that are told in words what to look for:
    OWL-ViT, OWLv2, Grounding DINO) by its name on the hub or its folder; an ultralytics YOLO or RTDETR; a torch module
    of either library; a pipeline of transformers. processor: of a module of transformers. trust: whether a .pt file
    of any other name may be opened; it is a pickle, which can run anything on this machine. device: "cpu", "cuda",
    …; by default a module stays on its device, and a detector by name goes to CUDA if there is one, else to the CPU.
    name: what a given network is called in captions and records, by default its file or its class.

    A Detector is returned unchanged. The network of an ultralytics object is copied and fused, as its own predictor
    does it; a module of transformers is used as it is. Raises ValueError for what is no detector or needs trust,
    OSError where the file or the hub does not give it.
    """
    check_name(name)
    if name is not None and (isinstance(detector, str | Path) or not getattr(detector, "given", True)):
        known = getattr(detector, "name", detector)
        raise ValueError(f"{known} has a name, by which others load it: name= is of a module that you give")
    if isinstance(detector, Detector):
        return detector if name is None else replace(detector, name=name)
    wanted_device = None if device is None else device_of(device)
    if processor is not None and isinstance(detector, str | Path):
        raise ValueError(f"{detector} brings its own processor: leave processor out")
    if isinstance(detector, str | Path):
        where = wanted_device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            known = Path(detector).name if place_of(str(detector)).exists() else str(detector)
        except ValueError as error:
            raise ValueError(f"unknown detector {shown(str(detector))}, {error}: take 'embedded' or a file") from None
        return Detector(known, _named(str(detector), trust, where))
    detector, own = _held(detector)
    processor = own if processor is None else processor
    network: yolo.Yolo | detr.Detr | worded.Worded | None = yolo.of_object(detector, wanted_device)
    if network is None and isinstance(detector, nn.Module):
        network = worded.of_module(detector, wanted_device, processor)
        network = network or detr.of_module(detector, wanted_device, processor)
    if network is None:
        kind = "None" if detector is None else type(detector).__name__
        raise ValueError(
            f"{kind} is no detector that vislab reads: give a name such as 'embedded' or "
            "'yolo12n.pt', an ultralytics YOLO, or a DETR, RT-DETR, YOLOS, OWL-ViT or Grounding DINO of transformers"
        )
    file = getattr(detector, "model_name", None)  # of a YOLO or RTDETR, the file that it was made from
    called = Path(file).name if file else type(detector).__name__
    return Detector(called if name is None else name, network, given=True)


def _held(detector: Any) -> tuple[Any, Any]:
    """What was given, or of a pipeline of transformers its module, and its image processor."""
    if (
        isinstance(detector, Mapping)
        and detector
        and all(isinstance(value, torch.Tensor) for value in detector.values())
    ):
        raise TypeError(
            f"a state_dict of {len(detector)} tensors is no detector: make the network that they belong to, load them "
            "into it with load_state_dict(…), and give that"
        )
    held, processor = getattr(detector, "model", None), getattr(detector, "image_processor", None)
    if processor is not None and isinstance(held, nn.Module) and not isinstance(detector, nn.Module):
        whole = getattr(detector, "processor", None)  # of one that is told in words what to look for
        return held, processor if whole is None else whole
    return detector, None


def bring(name: str) -> None:
    """Import on this thread what loading a detector by this name will need."""
    if name in yolo.EMBEDDED or name.endswith(".pt"):
        yolo.quietly()
    else:
        bring_transformers()


def _named(name: str, trust: bool, device: torch.device) -> yolo.Yolo | detr.Detr | worded.Worded:
    if name in yolo.EMBEDDED:
        return yolo.embedded(name, device)
    if name.endswith(".pt"):
        return yolo.weights(name, trust=trust, device=device)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _of_transformers(str(folder), local=True, device=device)
    if "/" not in name or name.startswith((".", "/", "~")):
        raise ValueError(
            f"unknown detector {name!r}: take 'embedded', a name such as 'yolo12n.pt' or 'facebook/detr-resnet-50', or "
            f"a local file or folder{meant(name, yolo.EMBEDDED)}"
        )
    return _of_transformers(name, local=not hub_answers(), device=device)


def _of_transformers(name: str, *, local: bool, device: torch.device) -> detr.Detr | worded.Worded:
    found = worded.named(name, local=local, device=device)
    return detr.named(name, local=local, device=device) if found is None else found
