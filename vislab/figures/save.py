"""Figures into files, with how they were made inside: PNG, JPEG, PDF, SVG, and NPZ for the numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..core.files import check_folder, write
from ..core.heatmap import Heatmap
from .drawing import figure_of, styled
from .formats import FORMATS, WRITERS, numbers
from .overlay import check
from .page import Panel
from .panel import panel
from .provenance import latex, record_of

Beside = Literal["json", "tex", "npz"]


def save(
    path: str | os.PathLike[str],
    image: np.ndarray | Panel,
    heat: Heatmap | Sequence[Heatmap] | None = None,
    *,
    beside: Beside | Sequence[Beside] = (),
    **options: Any,
) -> Path:
    """Write a figure, in the format of the path's suffix: .png, .jpg, .pdf, .svg, or .npz for the values -> its path.

    image: what `vislab.panel` made, or (H, W, 3) uint8 with its heatmap, or several of them; then options are those of
    `panel`: colormap, opacity, normalise, width, theme, dpi, title, caption, … Photos keep up to 600 dpi in PDF and
    SVG. beside: "json" writes how the figure was made into a file beside it, "tex" the lines that put it into a LaTeX
    text, "npz" the values. How it was made travels inside the file in any case (see `provenance` and `reproduce`). The
    same call writes the same bytes; a failed one leaves nothing behind.

    ValueError: unknown suffix, image and heatmap that do not belong together. FileNotFoundError: no such folder.
    """
    path = Path(path)
    _check(path)
    return write_all(path, _panel(image, heat, options), beside=[beside] if isinstance(beside, str) else beside)


def write_all(path: Path, made: Panel, *, beside: Sequence[str] = (), notes: Mapping[str, Any] | None = None) -> Path:
    """A panel's file and what stands beside it, each whole or not at all. notes: more to travel with them."""
    if unknown := set(beside) - {"json", "tex", "npz"}:
        raise ValueError(f"beside a figure stand 'json', 'tex' and 'npz', not {', '.join(map(repr, sorted(unknown)))}")
    suffix = path.suffix.lower()
    record = record_of(made, suffix) | ({"notes": notes} if notes else {})
    files = {path: file_of(made, suffix, record)}
    if "json" in beside:
        files[path.with_suffix(".json")] = (json.dumps(record, ensure_ascii=False, indent=2) + "\n").encode()
    if "tex" in beside:
        files[path.with_suffix(".tex")] = latex(path.name, made).encode()
    if "npz" in beside:
        files[path.with_suffix(".npz")] = file_of(made, ".npz", record)
    for name, data in reversed(files.items()):  # the figure last: where it is, all is
        write(name, data)
    return path


def _check(path: Path) -> None:
    if path.suffix.lower() in (".html", ".htm"):
        raise ValueError("a page that still answers is written by the Lab: vislab.Lab(image).save('page.html')")
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"no figure is written as {path.suffix or path.name!r}: use one of {', '.join(FORMATS)}")
    check_folder(path)


def _panel(image: np.ndarray | Panel, heat: Heatmap | Sequence[Heatmap] | None, options: dict[str, Any]) -> Panel:
    if isinstance(image, Panel):
        if heat is not None or options:
            given = ", ".join(options) or "heat"
            raise ValueError(f"a panel knows its heatmaps and how they are drawn: give {given} to vislab.panel")
        return image
    if isinstance(image, Heatmap):
        raise ValueError("vislab.save takes the photo before the heatmap: vislab.save(path, image, heat)")
    if heat is None:
        raise ValueError("there is no heatmap to save: give one, or several, or what vislab.panel made")
    heats = [heat] if isinstance(heat, Heatmap) else list(heat)
    for one in heats:
        check(image, one)
    return panel([replace(one, image=image) for one in heats], **options)


def file_of(made: Panel, suffix: str, record: Mapping[str, Any]) -> bytes:
    """A panel as the contents of a file of that suffix, the record inside."""
    if suffix == ".npz":
        return numbers(made.heats, record)
    if suffix in (".jpg", ".jpeg") and made.look.transparent:
        raise ValueError("JPEG knows no transparency: take .png, .pdf or .svg, or leave transparent out")
    with styled():
        figure = figure_of(made, vector=suffix in (".pdf", ".svg"))
        return WRITERS[suffix](figure, made.look.dpi, made.title, made.caption, record)
