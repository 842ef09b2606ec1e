"""Figures into files, with how they were made inside: PNG, JPEG, PDF, SVG, and NPZ for the numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..core.checks import check_flags, check_options, one_of, shown
from ..core.files import check_folder, write
from ..core.heatmap import Heatmap
from ..detectors.detections import Detections
from ..masks.masks import Masks
from .detected import FORMATS as PICTURES
from .detected import PAGE, check_suffix, check_transparent, file_of_boxes, file_of_masks
from .drawing import figure_of, styled
from .formats import FORMATS, WRITERS, numbers, numbers_of_masks
from .overlay import photograph
from .page import Panel
from .panel import OPTIONS, Content, panel
from .plain import check_plain, plain_file
from .provenance import latex, record_of, record_of_masks

Beside = Literal["json", "tex", "npz"]


def save(
    path: str | os.PathLike[str],
    heats: Heatmap | Sequence[Content] | Sequence[Sequence[Content]] | Panel | Masks | Detections,
    *,
    image: np.ndarray | None = None,
    beside: Beside | Sequence[Beside] = (),
    plain: bool = False,
    **options: Any,
) -> Path:
    """Write a figure, in the format of the path's suffix: .png, .jpg, .pdf, .svg, or .npz for the values -> its path.

    heats: what `vislab.panel` made, or what it takes, a heatmap or several of them; then options are those of `panel`:
    colormap, opacity, normalise, width, theme, dpi, title, caption, … image: (H, W, 3) uint8, a picture of the same
    size to draw the heatmaps on, by default each on its own. Photos keep up to 600 dpi in PDF and SVG. beside: "json"
    writes how the figure was made into a file beside it, "tex" the lines that put it into a LaTeX text, with the
    caption, which the figure itself then leaves out unless you gave one, "npz" the values. plain: the photograph at its
    own size with the heatmap on it, as `overlay` draws it, without colour bar or caption; of one heatmap, as .png or
    .jpg. How it was made travels inside the file in any case (see `provenance` and `reproduce`). Of boxes, what
    `detect` finds, and of masks, the photograph is written under them: as .png or .jpg at its own size, as .pdf or
    .svg, or where one of the options width, caption, theme, transparent and dpi is given, on a page; masks have the
    option opacity too, and are themselves written as .npz, which `load_masks` reads. The same call writes the same
    bytes; a failed one leaves nothing behind.

        vislab.save("figure.pdf", vislab.explain("photo.jpg"), width="column")

    ValueError: unknown suffix or option, no image, or one that does not belong to a heatmap. FileNotFoundError: no such
    folder.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"a figure is saved to a path, such as 'figure.pdf', not to {type(path).__name__}")
    path = Path(path)
    if isinstance(heats, Detections):
        return _save_boxes(path, heats, image, beside, plain, options)
    _check(path)
    check_flags(plain=plain)
    if isinstance(heats, Masks):
        return _save_masks(path, heats, image, beside, plain, options)
    beside = [beside] if isinstance(beside, str) else beside
    return write_all(path, _panel(heats, image, options), beside=beside, plain=plain)


def _save_boxes(
    path: Path, boxes: Detections, image: np.ndarray | None, beside: Any, plain: bool, options: Mapping[str, Any]
) -> Path:
    check_options("vislab.save of boxes", options, (*PAGE, "image"))
    if beside or plain:
        raise ValueError("boxes are saved as one picture, without beside or plain")
    suffix = path.suffix.lower()
    check_suffix(suffix)
    check_folder(path)
    write(path, file_of_boxes(boxes if image is None else replace(boxes, image=image), suffix, options))
    return path


def _save_masks(
    path: Path, masks: Masks, image: np.ndarray | None, beside: Any, plain: bool, options: Mapping[str, Any]
) -> Path:
    check_options("vislab.save of masks", options, ("opacity", *PAGE, "image"))
    suffix = path.suffix.lower()
    if beside or plain:
        raise ValueError(
            f"masks are saved as {', '.join(PICTURES)}, or as .npz for themselves, without beside or plain"
        )
    if suffix == ".npz":
        check_options("vislab.save of masks as .npz", options, ("image",))
        write(path, numbers_of_masks(masks, record_of_masks(masks, masks.image if image is None else image)))
    else:
        write(path, file_of_masks(masks, photograph(masks, image), suffix, options))
    return path


def write_all(
    path: Path,
    figure: Panel,
    *,
    beside: Sequence[str] = (),
    plain: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """A panel's file and what stands beside it, each whole or not at all. notes: more to travel with them."""
    kinds = ("json", "tex", "npz")
    if not isinstance(beside, list | tuple) or not all(one_of(kind, kinds) for kind in beside):
        given = beside if isinstance(beside, list | tuple) else [beside]
        wrong = ", ".join(shown(kind) for kind in given if not one_of(kind, kinds))
        raise ValueError(f"beside a figure stand 'json', 'tex' and 'npz', in a list, not {wrong or shown(beside)}")
    suffix = path.suffix.lower()
    if plain:
        check_plain(figure, suffix, beside)
    caption = figure.caption
    if "tex" in beside and not figure.captioned:  # the text has the caption, which would stand there twice
        figure = replace(figure, caption="", options={**figure.options, "caption": ""})
    record = record_of(figure, suffix, alone=plain) | {"caption": caption} | ({"notes": notes} if notes else {})
    files = {path: file_of(figure, suffix, record, plain=plain)}
    if "json" in beside:
        files[path.with_suffix(".json")] = (json.dumps(record, ensure_ascii=False, indent=2) + "\n").encode()
    if "tex" in beside:
        files[path.with_suffix(".tex")] = latex(path.name, figure, caption).encode()
    if "npz" in beside:
        files[path.with_suffix(".npz")] = file_of(figure, ".npz", record)
    for name, data in reversed(files.items()):  # the figure last: where it is, all is
        write(name, data)
    return path


def _check(path: Path) -> None:
    if path.suffix.lower() in (".html", ".htm"):
        raise ValueError("a page that still answers is written by the Lab: vislab.Lab(image).save('page.html')")
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"no figure is written as {path.suffix or path.name!r}: use one of {', '.join(FORMATS)}")
    check_folder(path)


def _panel(heats: Any, image: np.ndarray | None, options: Mapping[str, Any]) -> Panel:
    """A panel as it is, or made of heatmaps."""
    if not isinstance(heats, Panel):
        check_options("vislab.save", options, (*OPTIONS, "image", "beside", "plain"))
        return panel(heats if image is None else _drawn_on(image, heats), **options)
    own = ", ".join(options if image is None else ["image", *options])
    if own:
        raise ValueError(
            f"a panel knows its heatmaps and how they are drawn: leave {own} out, or make another with vislab.panel"
        )
    return heats


def _drawn_on(image: np.ndarray, heats: Any) -> Any:
    """The same heatmaps and masks, in the same rows, over another image."""
    if isinstance(heats, Heatmap | Masks):
        return replace(heats, image=photograph(heats, image))
    return [_drawn_on(image, one) for one in heats] if isinstance(heats, list | tuple) else heats


def file_of(figure: Panel, suffix: str, record: Mapping[str, Any], *, plain: bool = False) -> bytes:
    """A panel, or its heatmap on the photograph alone, as the contents of a file of that suffix, the record inside."""
    if plain:
        return plain_file(figure, suffix, record)
    if suffix == ".npz":
        return numbers(figure.heats, record)
    check_transparent(suffix, figure.look.transparent)
    with styled():
        drawing = figure_of(figure, vector=suffix in (".pdf", ".svg"))
        return WRITERS[suffix](drawing, figure.look.dpi, figure.title, record["caption"], record)
