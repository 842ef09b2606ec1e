"""Name -> Model: what comes with vislab, a hub, a folder, or a module that is given. Only tensors are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.checks import check_name, meant, shown
from ..core.files import assets, place_of
from ..core.geometry import Grid
from .classes import label_names
from .describe import described
from .device import device_of, fastest
from .folder import of_folder
from .given import given
from .hub import of_timm, of_torchvision, of_transformers, processor_of, tokenizer_of
from .image_text import image_text
from .known import DTYPES, EMBEDDED, KNOWN, READER_FOLDERS, TOWERS
from .model import Model
from .preprocessing import own_size
from .processor import of_processor
from .texts import is_tokenizer

_TAKE = "take 'embedded', a hub name such as 'facebook/dinov2-small', or a local folder"


def load(
    model: str | Path | nn.Module | Model | Any = "embedded",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    processor: Any = None,
    labels: Sequence[str] | None = None,
    grid: Grid | None = None,
    name: str | None = None,
) -> Model:
    """Load a vision model.

    model: "embedded", "embedded-plain", its twin that was not taught where to look, or "embedded-clip", which takes
    texts (none of them needs a network), a name on the hub ("facebook/dinov2-small", "timm/…", "torchvision/…"), a
    local folder that transformers or timm saved, a torch module of any library, or a pipeline of transformers. device:
    "cpu", "cuda", "mps", …; by default the fastest there is, or where a given module is. dtype: "float32", "bfloat16"
    or "float16"; by default float32, or a given module's. processor: the image processor of transformers that a given
    module, or a folder without one, was trained with, or the folder or name that it is loaded from; without it timm's
    modules say theirs, and of others it is assumed that they see the whole image, normalised by ImageNet's mean and
    deviation. labels: the names of the classes, as many as the model has logits, where it does not name them itself.
    grid: where the tokens of a given module are, which is otherwise found by experiment, and checked by one. name: what
    a given module is called in captions and records, by default its class.

    A given module is taken as it is, a compiled one as what it was compiled from, and moved only where device or dtype
    say so. Weights are read as tensors alone, safetensors by preference; no pickle is executed. Raises ValueError for
    an unknown name, for files of pickles, for labels of another number, and for a processor beside what brings its
    own, TypeError for what is no module, OSError where the hub or the folder does not give the model.
    """
    if grid is not None and not isinstance(grid, Grid):
        raise ValueError(f"grid is a vislab.Grid(rows, cols, patch, prefix, suffix), not {shown(grid)}")
    if isinstance(model, str | Path | Model):
        known = model.name if isinstance(model, Model) else shown(str(model)).strip("'")
        if grid is not None:
            raise ValueError(f"where the tokens of {known} are is known: leave grid out")
        if name is not None and not (isinstance(model, Model) and model.given):
            raise ValueError(f"{known} has a name, by which others load it: name= is of a module that you give")
    check_name(name)
    place = None if device is None else device_of(device)
    kind = None if dtype is None else _dtype(dtype)
    if isinstance(model, str | Path):
        made = _named(str(model), processor)
        place, kind = place or torch.device(fastest()), kind or torch.float32
    elif isinstance(model, Model):
        if processor is not None:
            raise ValueError(f"{model.name} brings its own preprocessing: leave processor out")
        made = model if name is None else replace(model, name=name)
    else:
        module, own = given(model)
        reads = image_text(module) is not None
        tokenizer = tokenizer_of(model if processor is None else processor) if reads else None
        if processor is not None and not (reads and is_tokenizer(processor)):
            own = processor_of(processor)
        how = None if own is None else of_processor(own, lambda: own_size(module))
        called = type(module).__name__ if name is None else name
        made = replace(described(called, module, how, grid=grid, tokenizer=tokenizer), given=True)
    made.module.to(place, kind)
    return made if labels is None else _labelled(made, labels)


def _labelled(model: Model, labels: Sequence[str]) -> Model:
    """The model with other names for its classes, as many as its forward has logits; of texts, as many as there are."""
    names = label_names(labels)
    if model.texts is not None:
        return model.labelled(names)
    found = replace(model, names=None).classes
    if found is None:
        raise ValueError(f"{model.name} has no classifier, so labels would name nothing: what it returns are features")
    if len(found.labels) != len(names):
        raise ValueError(f"labels names {len(names)} classes, and {model.name} has {len(found.labels)} logits")
    return replace(model, names=names)


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    known = {name: getattr(torch, name) for name in DTYPES}
    wanted = known.get(dtype) if isinstance(dtype, str) else dtype
    if not isinstance(wanted, torch.dtype) or wanted not in known.values():
        raise ValueError(f"dtype is {', '.join(known)}, not {shown(dtype)}")
    return wanted


def _named(name: str, processor: Any) -> Model:
    try:
        folder = place_of(name)
    except ValueError as error:
        raise ValueError(f"unknown model {shown(name)}, {error}: {_TAKE}") from None
    library = name.partition("/")[0]
    if name and folder.is_dir():
        return of_folder(name, folder, processor)
    known = name in EMBEDDED or (library in ("torchvision", "timm") and "/" in name)
    if processor is not None and known:
        raise ValueError(f"{name} brings its own preprocessing: leave processor out")
    if name in EMBEDDED:
        folders = assets() / "models"
        tower = str(folders / EMBEDDED[TOWERS[name]]) if name in TOWERS else None
        return of_transformers(name, str(folders / EMBEDDED[name]), tower=tower)
    if name in READER_FOLDERS:
        raise ValueError(
            f"{name} has no classes, it answers questions: ask it, as in "
            f"vislab.ask(image, 'what is at the top left ?', model={name!r})"
        )
    rest = name.partition("/")[2]
    if folder.is_file():
        raise ValueError(
            f"{name} is a file: give a folder with config.json and model.safetensors. Pickles (.pt, .pth, .bin) can "
            "run anything when opened, so vislab never opens them"
        )
    if library == "torchvision" and rest:
        return of_torchvision(name, rest)
    if library == "timm" and rest:
        return of_timm(name, rest)
    if not rest or name.startswith((".", "/", "~")):
        raise ValueError(f"unknown model {shown(name)}: {_TAKE}{meant(name, (*EMBEDDED, *KNOWN))}")
    return of_transformers(name, name, processor)
