"""Where vislab's own files lie, and files written whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path


def assets() -> Path:
    """The folder of photographs and weights: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "assets", package.parent / "assets"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"vislab's own files are not in {package / 'assets'}: install vislab again")


def place_of(name: str) -> Path:
    """Where a file or folder of such a name would be. Raises ValueError for a name that none can have."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a folder that is closed, the home of nobody
        said = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"which is no path ({said})") from None
    return path


def check_folder(path: Path) -> None:
    """OSError, before hours of work and not after, where a path cannot be written to."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r}: make it first, or save somewhere else")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder: give the path of a file in it")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"the folder {str(path.parent)!r} takes no files: save somewhere else")


def write(path: Path, data: bytes | Path) -> None:
    """All of it or nothing: written beside the path, then moved there. data: what goes in, or a file that holds it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if isinstance(data, Path):
            shutil.copyfile(data, part)
        else:
            part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def figure_stem(photo: str, *methods: str) -> str:
    """What the file of a figure is called: its photograph, and how it was asked.

    >>> figure_stem("holiday/IMG 12.jpg", "cls", "rollout", "cls")
    'IMG-12-cls-rollout'
    """
    words = [Path(photo).stem or "photo", *dict.fromkeys(methods)]
    return "-".join(re.sub(r"[^\w.]+", "-", word).strip("-.") or "photo" for word in words)
