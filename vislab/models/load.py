"""Name -> Model: what comes with vislab, a hub, a folder, or a module that is given. Only tensors are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.checks import first_line
from ..core.files import assets
from ..core.geometry import Grid
from .describe import described
from .device import fastest
from .hub import of_timm, of_torchvision, of_transformers
from .known import DTYPES, EMBEDDED
from .model import Model
from .preprocessing import of_processor, own_size


def load(
    model: str | Path | nn.Module | Model = "embedded",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    processor: Any = None,
    grid: Grid | None = None,
) -> Model:
    """Load a Vision Transformer.

    model: "embedded" (needs no network), a name on the hub ("facebook/dinov2-small", "timm/…", "torchvision/…"), a
    local folder of transformers, or a torch module of transformers, timm or torchvision. device: "cpu", "cuda", "mps",
    …; by default the fastest there is, or where a given module is. dtype: "float32", "bfloat16" or "float16"; by
    default float32, or a given module's. processor: the image processor of transformers that a given module was trained
    with; without it timm's modules say theirs, and of others it is assumed that they see the whole image, normalised by
    ImageNet's mean and deviation. grid: where the tokens of a given module are, which is otherwise found by experiment,
    and checked by one.

    A given module is taken as it is, a compiled one as what it was compiled from, and moved only where device or dtype
    say so. Weights are read as tensors alone, safetensors by preference; no pickle is executed. Raises ValueError for
    an unknown name, for files of pickles and for a processor beside what brings its own, OSError where the hub or the
    folder does not give the model.
    """
    if processor is not None and not isinstance(model, nn.Module):
        raise ValueError(f"{getattr(model, 'name', model)} brings its own preprocessing: leave processor out")
    if grid is not None and not isinstance(model, nn.Module):
        raise ValueError(f"where the tokens of {getattr(model, 'name', model)} are is known: leave grid out")
    if isinstance(model, Model):
        made = model
    elif isinstance(model, nn.Module):
        module = getattr(model, "_orig_mod", model)  # hooks and other patch sizes would compile it anew each time
        how = None if processor is None else of_processor(processor, lambda: own_size(module))
        made = described(type(module).__name__, module, how, grid=grid)
    else:
        made = _named(str(model))
        device, dtype = device or fastest(), dtype or "float32"
    made.module.to(_device(device) if device is not None else None, _dtype(dtype) if dtype is not None else None)
    return made


def _device(device: str | torch.device) -> torch.device:
    try:
        here = torch.device(device)
        torch.empty(0, device=here)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"no device {str(device)!r} here ({first_line(error)}): this machine has {fastest()}"
        ) from None
    return here


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    known = {name: getattr(torch, name) for name in DTYPES}
    wanted = known.get(dtype) if isinstance(dtype, str) else dtype
    if wanted not in known.values():
        raise ValueError(f"dtype is {', '.join(known)}, not {dtype!r}")
    return wanted  # type: ignore[return-value]


def _named(name: str) -> Model:
    if name in EMBEDDED:
        return of_transformers(name, str(assets() / "models" / EMBEDDED[name]))
    library, _, rest = name.partition("/")
    folder = Path(name).expanduser()
    if folder.is_file():
        raise ValueError(
            f"{name} is a file: give a folder with config.json and model.safetensors. Pickles (.pt, .pth, .bin) can "
            "run anything when opened, so vislab never opens them"
        )
    if name and folder.is_dir():
        if not (folder / "config.json").exists() or not list(folder.glob("*.safetensors")):
            held = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing"
            raise ValueError(
                f"{name} needs config.json and model.safetensors (pickles are not opened); it holds {held}"
            )
        return of_transformers(name, str(folder))
    if library == "torchvision" and rest:
        return of_torchvision(name, rest)
    if library == "timm" and rest:
        return of_timm(name, rest)
    if not rest or name.startswith((".", "/", "~")):
        raise ValueError(
            f"unknown model {name!r}: take 'embedded', a hub name such as 'facebook/dinov2-small', or a local folder"
        )
    return of_transformers(name, name)
