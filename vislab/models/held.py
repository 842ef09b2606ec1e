"""Which models lie on this machine, and which would be downloaded first; no framework is needed to tell."""

from __future__ import annotations

import os
from pathlib import Path

from .known import EMBEDDED, READER_FOLDERS

_WEIGHTS = ("*.safetensors", "*.bin")


def is_held(name: str) -> bool:
    """Whether a model of that name needs no network: it is embedded, a folder, or was downloaded before."""
    if name in EMBEDDED or name in READER_FOLDERS or Path(name).expanduser().exists():
        return True
    library, _, which = name.partition("/")
    if library == "torchvision":
        torch_home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
        return any((Path(torch_home).expanduser() / "hub" / "checkpoints").glob(f"{which}-*.pth"))
    from huggingface_hub import constants

    snapshots = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots"
    return any(file for kind in _WEIGHTS for file in snapshots.glob(f"*/{kind}"))
