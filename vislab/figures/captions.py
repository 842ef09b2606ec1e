"""What a heatmap shows, in words."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.fingerprints import of_name
from ..core.heatmap import Heatmap
from ..detectors.request import DEFAULTS as BOX_DEFAULTS
from ..methods.registry import METHODS
from ..methods.request import DEFAULTS
from ..models.tokens import DEFAULTS as AS_THE_MODEL
from .page import Cell, Look

# What a phrase of its own tells; whatever else is in a heatmap's settings, it was chosen, and is named.
_TOLD = {*DEFAULTS, *BOX_DEFAULTS, "model", "detector"} - {"region", *AS_THE_MODEL}


def describe(heat: Heatmap) -> list[str]:
    """What a heatmap shows, in the short phrases of a caption."""
    settings = heat.settings
    scale, query = settings.get("attention_scale", 1.0), heat.query or settings.get("query")
    phrases = [
        "frame {frame} at {second:.2f} s".format(**heat.facts["clip"]) if "clip" in heat.facts else "",
        heat.method,
        f"of {heat.target}" if heat.target else "",
        of_name(str(settings.get("model") or settings.get("detector") or "")),
        "" if "cells" in heat.facts else _layer(heat.method, settings.get("layer")),
        f"head {_words(settings['head'])}" if settings.get("head") is not None else "",
        f"query {_words(query)}" if query is not None else "",
        *(
            f"{name.replace('_', ' ')} {_words(value)}"
            for name, value in settings.items()
            if name not in _TOLD and value is not None
        ),
        *_tokens(heat),
        f"attention scale {_words(scale)}" if scale not in (None, 1, 1.0) else "",
        *([str(heat.facts["cells"])] if "cells" in heat.facts else _patches(heat)),
    ]
    return [phrase for phrase in phrases if phrase]


def _patches(heat: Heatmap) -> list[str]:
    patch = [f"patch {'×'.join(map(str, dict.fromkeys(heat.grid.patch)))} px", str(heat.grid)]
    if "counts" not in heat.facts:
        return patch
    if heat.settings.get("fovea") is None:
        return [patch[0], f"{heat.grid.rows} × {heat.grid.cols} patches"]
    sizes = heat.settings.get("fovea_patches", AS_THE_MODEL["fovea_patches"])
    return [f"patches {', '.join(map(str, sizes))} px"]


def _tokens(heat: Heatmap) -> list[str]:
    """How many tokens the layers attended over, where these were not the grid's."""
    counts = list(dict.fromkeys(heat.facts.get("counts", ())))
    counts = counts if len(counts) < 5 else [counts[0], "…", counts[-1]]
    return [f"{' → '.join(map(str, counts))} tokens"] if counts else []


def caption_of(common: Sequence[str], look: Look, cells: Sequence[Sequence[Cell | None]]) -> str:
    """A figure's caption: the phrases that all its heatmaps share, and how they are drawn."""
    span = next(cell.span for row in cells for cell in row if cell is not None and cell.heat is not None)
    shared = "colours shared by the maps"
    ways = {"map": "colours per map", "row": f"{shared} of a row", "column": f"{shared} of a column", "shared": shared}
    ways["absolute"] = f"colours absolute, {span[0]:g} to {span[1]:g}"
    way = look.normalise
    display = [ways[way] if isinstance(way, str) else f"colours from {span[0]:g} to {span[1]:g}"]
    middle = any(cell is not None and cell.heat is not None and cell.heat.signed for row in cells for cell in row)
    display += ["0 in the middle where values are signed"] if middle else []
    display += ["smoothed between patch centres"] if look.smooth else []
    display += [f"hidden below {look.threshold:.0%} of the range"] if look.threshold else []
    return " · ".join([*common, *display])


def _layer(method: str, layer: object) -> str:
    """The layer that was read, or the last one that a walk goes through, where that is not the model's last."""
    last, walks = layer == -1, method in METHODS and METHODS[method].walks
    if layer is None or (last and walks):
        return ""
    if walks:
        return f"up to layer {layer}"
    return "last layer" if last else f"layer {layer}"


def _words(value: object) -> str:
    if isinstance(value, tuple | list):
        several = value and isinstance(value[0], tuple | list)
        if several and len(value[0]) != 4:
            return f"values of {len(value)} × {len(value[0])} patches"
        if several and len(value) == 1:
            return _words(value[0])
        return "(" + ", ".join(f"{v:g}" if isinstance(v, float) else _words(v) for v in value) + ")"
    return "CLS" if value == "cls" else str(value)
