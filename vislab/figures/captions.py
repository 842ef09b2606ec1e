"""What a heatmap shows, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..core.fingerprints import of_name
from ..core.heatmap import Heatmap
from ..detectors.request import DEFAULTS as BOX_DEFAULTS
from ..language.request import LENS, TOKENS
from ..methods.registry import METHODS
from ..methods.request import DEFAULTS
from ..models.tokens import DEFAULTS as AS_THE_MODEL
from .colours import visible_values
from .page import Cell, Look

# What a phrase of its own tells; whatever else is in a heatmap's settings, it was chosen, and is named.
_TOLD = {*DEFAULTS, *BOX_DEFAULTS, "model", "detector", "question"} - {"region", *AS_THE_MODEL}
WORD_LENS = "probability of the word, as what a token would say"
WHOLE = 0.995  # of a photograph: what is missing then is the rounding of its edges
SIGNED = "0 in the middle: below it speaks against, above it for"


def describe(heat: Heatmap) -> str:
    """What a heatmap shows, in the words of a caption."""
    return joined(parts(heat))


def parts(heat: Heatmap) -> dict[str, str]:
    """What a heatmap shows: a short phrase of each part that it has, by the part's name, in the order of a caption."""
    settings = heat.settings
    scale, entry = settings.get("attention_scale", 1.0), METHODS.get(heat.method)
    phrases = {
        "clip": "frame {frame} at {second:.2f} s".format(**heat.facts["clip"]) if "clip" in heat.facts else "",
        "method": heat.method if entry is None else entry.words or entry.label,
        "target": f"of {heat.target}" if heat.target else "",
        "query": _query(heat),
        "flat": _flat(heat),
        "model": next(
            (f"{kind} {of_name(str(settings[kind]))}" for kind in ("model", "detector") if settings.get(kind)), ""
        ),
        "question": f"“{settings['question']}”" if settings.get("question") else "",
        "layer": "" if "cells" in heat.facts else _layer(heat.method, settings.get("layer")),
        "head": _head(settings.get("head")),
        **{
            name: f"{name.replace('_', ' ')} {_words(value)}"
            for name, value in settings.items()
            if name not in _TOLD and value is not None and (name, value) != ("tokens", TOKENS)
        },
        "counts": _counts(heat),
        "attention scale": f"attention scale {_words(scale)}" if scale not in (None, 1, 1.0) else "",
        **({"cells": str(heat.facts["cells"])} if "cells" in heat.facts else _patches(heat)),
        **_seen(heat),
    }
    return {part: phrase for part, phrase in phrases.items() if phrase}


def joined(phrases: Mapping[str, str]) -> str:
    """Phrases by their parts as one text: what begins with "of" goes on with the method, the others stand apart.

    >>> joined({"method": "relevance", "target": "of church", "model": "model embedded"})
    'relevance of church · model embedded'
    >>> joined({"target": "of church", "layer": "layer 3"})
    'church · layer 3'
    """
    text, before = "", ""
    for part, phrase in phrases.items():
        goes_on = phrase.startswith("of ") and before == "method"
        text += f" {phrase}" if goes_on else " · " * bool(text) + phrase.removeprefix("of ")
        before = part
    return text


def shared(maps: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What several maps have in common, by part: what a caption says, so that none of them has to.

    Of who asks, class, layer and head, which not every method has, also what all say that have it, with their names:
    "relevance and Grad-CAM of church".
    """
    common = {part: said for part, said in maps[0].items() if all(one.get(part) == said for one in maps)}
    if "method" in common:
        return common
    some: dict[str, str] = {}
    for part in ("target", "query", "layer", "head"):
        having = [one for one in maps if part in one]
        alike = len(having) > 1 and len({one[part] for one in having}) == 1
        if alike and (part not in common or common[part].startswith("of ")):
            said, names = having[0][part], listed(list(dict.fromkeys(one["method"] for one in having)))
            some[part] = f"{names} {said}" if said.startswith("of ") else f"{names}: {said}"
    return some | {part: said for part, said in common.items() if part not in some}


def listed(names: Sequence[str]) -> str:
    """
    >>> listed(["rollout", "relevance", "Grad-CAM"])
    'rollout, relevance and Grad-CAM'
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _query(heat: Heatmap) -> str:
    """Who asks: a token, a point or a box; nothing where CLS does of a method for one class, as it does by itself."""
    targeted = heat.method in METHODS and METHODS[heat.method].targeted
    query = heat.query or heat.settings.get("query")
    if query is None or (query in ("CLS", "cls") and targeted):
        return ""
    if isinstance(query, str) and query.startswith("mean of "):
        return query
    if isinstance(query, str) and (found := re.fullmatch(r"token \d+, (.+)", query)):
        return f"asked by the token {found[1]}"
    where = _words(query) if isinstance(query, str) else f"pixel {_words(query)}"
    return f"asked by {where}" if targeted else f"of {where}"


def _flat(heat: Heatmap) -> str:
    """That a map has one value alone, where it has; a record, which holds no values, says nothing of it."""
    values = visible_values(heat) if hasattr(heat, "values") else np.arange(2)
    return f"all values equal, {values.min():.3g}" if values.size > 1 and values.min() == values.max() else ""


def _patches(heat: Heatmap) -> dict[str, str]:
    patch = f"patches of {'×'.join(map(str, dict.fromkeys(heat.grid.patch)))} px"
    if "counts" not in heat.facts:
        return {"patch": patch, "grid": str(heat.grid)}
    if heat.settings.get("fovea") is None:
        return {"patch": patch, "grid": f"{heat.grid.rows} × {heat.grid.cols} patches"}
    sizes = heat.settings.get("fovea_patches", AS_THE_MODEL["fovea_patches"])
    return {"patch": f"patches of {', '.join(map(str, sizes))} px"}


def _seen(heat: Heatmap) -> dict[str, str]:
    """That the model saw a part of the photograph alone, or of the region that was asked about, where it did."""
    height, width = heat.frame.source
    left, top, right, bottom = heat.settings.get("region") or (0, 0, width, height)
    x0, y0, x1, y1 = heat.frame.visible
    share = (x1 - x0) * (y1 - y0) / ((right - left) * (bottom - top))
    if share >= WHOLE:
        return {}
    beside = ((x0 - left, right - x1, right - left), (y0 - top, bottom - y1, bottom - top))
    centred = all(abs(before - after) <= max(2, 0.01 * side) for before, after, side in beside)
    whole = "region" if heat.settings.get("region") else "photograph"
    return {
        "seen": f"the model saw only {'the centre' if centred else 'a part'}",
        "share": f"{share:.0%} of the {whole}",
    }


def _counts(heat: Heatmap) -> str:
    """How many tokens the layers attended over, where these were not the grid's."""
    counts = list(dict.fromkeys(heat.facts.get("counts", ())))
    counts = counts if len(counts) < 5 else [counts[0], "…", counts[-1]]
    return f"{' → '.join(map(str, counts))} tokens" if counts else ""


def caption_of(common: Mapping[str, str], look: Look, cells: Sequence[Sequence[Cell | None]]) -> str:
    """A figure's caption: the phrases that all its heatmaps share, and how they are drawn."""
    heats = [cell for row in cells for cell in row if cell is not None and cell.heat is not None]
    span, ours = heats[0].span, "colours shared by the maps"
    ways = {"map": "colours per map" if len(heats) > 1 else "", "row": f"{ours} of a row"}
    ways |= {
        "column": f"{ours} of a column",
        "shared": ours,
        "absolute": f"colours absolute, {span[0]:g} to {span[1]:g}",
    }
    way = look.normalise
    display = [ways[way] if isinstance(way, str) else f"colours from {span[0]:g} to {span[1]:g}"]
    display += [SIGNED] if any(cell.heat is not None and cell.heat.signed for cell in heats) else []
    display += ["smoothed between patch centres"] if look.smooth else []
    display += [f"hidden below {look.threshold:.0%} of the range"] if look.threshold else []
    return " · ".join(filter(None, [joined(common), *display]))


def measure_of(heats: Iterable[Heatmap]) -> str:
    """What the values of heatmaps are, where it is the same for all of them and known."""
    said = {_measure(heat) for heat in heats}
    return said.pop() if len(said) == 1 else ""


def _measure(heat: Heatmap) -> str:
    if heat.method == LENS and "question" in heat.settings:
        return WORD_LENS
    return METHODS[heat.method].measures if heat.method in METHODS else ""


def _layer(method: str, layer: object) -> str:
    """The layer that was read, or the last one that a walk goes through, where that is not the model's last."""
    last, walks = layer == -1, method in METHODS and METHODS[method].walks
    if layer is None or (last and walks):
        return ""
    if walks:
        return f"up to layer {layer}"
    if layer == "mean":
        return "mean of layers"
    return "last layer" if last else f"layer {layer}"


def _head(head: object) -> str:
    fused = {"mean": "mean of heads", "max": "highest of heads", "min": "lowest of heads"}
    return "" if head is None else fused.get(str(head), f"head {_words(head)}")


def _words(value: object) -> str:
    if isinstance(value, tuple | list):
        several = value and isinstance(value[0], tuple | list)
        if several and len(value[0]) != 4:
            return f"values of {len(value)} × {len(value[0])} patches"
        if several and len(value) == 1:
            return _words(value[0])
        return "(" + ", ".join(f"{v:g}" if isinstance(v, float) else _words(v) for v in value) + ")"
    return "CLS" if value == "cls" else str(value)
