"""What the Lab's face in the browser is told, as (content, buffers)."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..core.geometry import Frame, Grid
from ..core.heatmap import Heatmap
from ..core.images import samples
from ..core.python_call import call
from ..figures.colours import colour_table
from ..figures.diagram import bare
from ..figures.provenance import call_of
from ..methods.heads import survey
from ..methods.layers import encoder
from ..methods.registry import METHODS
from ..methods.request import Request
from ..models.held import is_held
from ..models.known import KNOWN, READERS, TWINS, WORDED
from ..models.model import Model
from . import heads
from .runs import Kept, forward_flops
from .spent import bound, owners
from .traits import COLORMAPS, SLIDERS, Settings
from .trial import Trial, Without
from .wording import plainly

if TYPE_CHECKING:
    from ..api.focus import Focus
    from ..detectors.detections import Detections


Message = tuple[dict[str, Any], list[bytes]]
PHOTO_SIDE = 1280  # px, the longer side of the photograph as the browser gets it
FEW_CLASSES = 12


def jpeg(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 -> JPEG file, not larger than a screen needs."""
    picture, file = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    picture.save(file, "JPEG", quality=88)
    return file.getvalue()


def about() -> Message:
    """What there is to choose from, and the colours."""
    tables = b"".join(colour_table(name).tobytes() for name in COLORMAPS)
    methods = {
        name: {
            "label": method.label,
            "asks": sorted(method.asks),
            "single_head": method.single_head,
            "every_patch": method.every_patch,
            "alone": method.alone,
        }
        for name, method in METHODS.items()
    }
    usual = {name: trait.default() for name, trait in Settings.class_traits().items() if name in SLIDERS}
    models = TWINS | WORDED | READERS | KNOWN
    lists = {"samples": list(samples()), "models": models, "held": [*filter(is_held, models)], "methods": methods}
    more = {"readers": list(READERS), "colormaps": COLORMAPS, "usual": usual, "diagram": bare()}
    return {"kind": "about", **lists, **more}, [tables]


def view(pane: int, kept: Kept, heat: Heatmap, settings: Mapping[str, Any]) -> Message:
    """A heatmap with where it stands, and what the browser needs to count tokens and costs of other settings."""
    model = kept.model
    content = {
        "kind": "view",
        "pane": pane,
        "settings": dict(settings),
        "run": kept.number,
        **placed(heat.grid, heat.frame),
        "query": heat.query,
        "target": heat.target,
        "signed": heat.signed,
        "call": call_of(heat),
        "model": _described(model),
        "classes": [] if kept.run.logits is None else model.top(kept.run, 5),
        "seconds": kept.seconds,
        "counts": kept.counts,
    }
    of_layers = kept.once("owners", functools.partial(owners, kept.run))
    return content, [heat.values.tobytes(), *([] if of_layers is None else [of_layers.tobytes()])]


def plain(kept: Kept, unmodified: Kept, settings: Mapping[str, Any], rate: float) -> Message:
    """How the heads of the shown layer are, and what the unmodified model says, to hold both against.

    rate: operations a second, for forecasts. With it goes why tokens cannot be spent in a way, where they cannot.
    """
    model, run, chosen = unmodified.model, unmodified.run, settings["layer"]
    top = [] if run.logits is None else model.top(run, len(model.labels or ()))
    measures = {"own": _measures(kept, chosen), "measures": _measures(unmodified, chosen)}
    why = {name: plainly(words) for name, words in bound(model).items()}
    content = {"kind": "plain", "run": kept.number, "layer": chosen, "classes": dict(top), **measures}
    return content | {"rate": rate, "bound": why}, []


def layer(kept: Kept, index: int, *, sums: bool = False, small: bool = False) -> Message:
    """A layer's queries and keys in 16 bits, what is added to its logits, and the logarithms of its rows' sums; or why
    they are not given.

    small: in 8 bits a channel: the strongest quarter takes 16, the next half 8, and the weakest are left out.
    """
    try:
        q, k, added = _operands(kept, index)
    except (RuntimeError, ValueError) as error:
        return {"kind": "layer", "run": kept.number, "layer": index, "refused": str(error)}, []
    dim = q.shape[2]
    if small:
        content, buffers = _packed(kept, index, *heads.by_strength(q, k), {np.int16: dim // 4, np.int8: dim // 2})
    else:
        content, buffers = _packed(kept, index, q, k, {np.int16: dim})
    buffers = buffers if added is None else [*buffers, added.astype("<f4").tobytes()]
    content["added"] = added is not None
    return content, buffers + ([heads.log_sums(q, k, added).tobytes()] if sums else [])


def _packed(kept: Kept, index: int, q: np.ndarray, k: np.ndarray, widths: Mapping[type, int]) -> Message:
    """Channels as whole numbers of a step a head and channel: for each width q's and k's, then the product of both's
    steps."""
    buffers, steps, start = [], [], 0
    for kind, count in widths.items():
        product = np.ones(1)
        for whole in (q, k):
            part = whole[..., start : start + count]
            step = np.abs(part).max(1, keepdims=True) / np.iinfo(kind).max + 1e-30
            buffers.append(np.rint(part / step).astype(kind).tobytes())
            product = product * step
        steps.append(product)
        start += count
    content = {"kind": "layer", "run": kept.number, "layer": index, "refused": None, "shape": (*q.shape[:2], start)}
    parts = [(np.dtype(kind).itemsize, count) for kind, count in widths.items()]
    return content | {"parts": parts}, [*buffers, np.concatenate(steps, -1).astype("<f4").tobytes()]


def atlas(kept: Kept) -> Message:
    """All heads of all layers. Raises ValueError of a model without attention."""
    if not kept.model.attends:
        raise ValueError(f"{kept.model.name} has no attention that is one map over the image, and so no heads to show")
    seen = survey(kept.run, token=0 if kept.model.cls else None)
    numbers = {"entropy": seen.entropy.tolist(), "distance": seen.distance.tolist()}
    numbers |= {"even": seen.even.tolist(), "queries": seen.queries}
    of = {"grid": [kept.run.grid.rows, kept.run.grid.cols], "cls": kept.model.cls}
    return {"kind": "atlas", "run": kept.number, **of, **numbers}, [seen.maps.astype("<f4").tobytes()]


def of_method(
    method: str, settings: Mapping[str, Any], kept: Kept, heat: Heatmap | str, trial: Trial | None = None
) -> Message:
    """A method's map of a run, beside others, with what it is worth once that is known; or why there is none."""
    asked = [settings["query"], settings["target"]]
    content: dict[str, Any] = {"kind": "method", "method": method, "run": kept.number, "asked": asked}
    if isinstance(heat, str):
        return content | {"refused": heat}, []
    worth = trial and [trial.curves.deletion_area, trial.curves.insertion_area]
    return content | {"signed": heat.signed, "target": heat.target, "worth": worth}, [heat.values.tobytes()]


def removal(kept: Kept, settings: Mapping[str, Any], trial: Trial | str) -> Message:
    """What becomes of the class while patches are taken away in the order of a pane's map; or why it is not known."""
    content: dict[str, Any] = {"kind": "removal", "run": kept.number, "settings": dict(settings)}
    if isinstance(trial, str):
        return content | {"refused": trial}, []
    curves = trial.curves
    content |= {"target": trial.target, "share": curves.share.tolist()}
    content |= {"deletion": curves.deletion.tolist(), "insertion": curves.insertion.tolist()}
    content |= {"best": trial.best}
    content |= {"areas": [curves.deletion_area, curves.insertion_area]}
    return content, [trial.gone.astype("<u2").tobytes(), jpeg(trial.filled)]


def without(kept: Kept, gone: Sequence[int], found: Without | str) -> Message:
    """What becomes of the class without those patches; or why it is not known."""
    content: dict[str, Any] = {"kind": "without", "run": kept.number, "gone": list(gone)}
    if isinstance(found, str):
        return content | {"refused": found}, []
    content |= {"target": found.target, "before": found.before, "now": found.now, "best": found.best}
    return content, [jpeg(found.filled)]


def boxes(digest: str, detections: Detections | None) -> Message:
    """What a detector found in the image of that digest; None where it was not asked."""
    each = (
        []
        if detections is None
        else zip(detections.xyxy.tolist(), detections.labels, detections.scores.tolist(), strict=True)
    )
    listed = [{"box": box, "label": label, "score": score} for box, label, score in each]
    return {"kind": "boxes", "content": digest, "boxes": None if detections is None else listed}, []


def closer(kept: Kept, settings: Mapping[str, Any], seen: Focus | None, detector: str | None, rate: float) -> Message:
    """The heatmaps of the boxes by themselves, and what that took against the whole photograph at its own resolution.

    rate: operations a second, for the forecast of the latter.
    """
    content: dict[str, Any] = {"kind": "closer", "run": kept.number, "settings": dict(settings), "crops": None}
    if seen is None:
        return content, []
    crops = [{**placed(heat.grid, heat.frame), "signed": heat.signed} for heat in seen.heats]
    forecast = replace(seen.whole, seconds=forward_flops(kept.model, seen.whole.tokens) / rate if rate else None)
    costs = [asdict(cost) for cost in (seen.staged, forecast)]
    keywords: dict[str, Any] = {"detector": detector, "confidence": seen.detections.confidence}
    for heat in seen.heats[:1]:  # all are made alike; the regions are found by focus
        request = Request.of({**heat.settings, "method": heat.method, "region": None})
        keywords |= {"method": request.method, **request.changed}
        keywords |= {} if heat.settings["model"] == "embedded" else {"model": heat.settings["model"]}
    made = call("vislab.focus", "image", **keywords)
    return content | {"crops": crops, "costs": costs, "call": made}, [heat.values.tobytes() for heat in seen.heats]


def source(image: str) -> str:
    """The Python that names an image."""
    if not image:
        return "…  # your photograph"
    return (
        f"vislab.load_image({image!r})" if image not in samples() else f'vislab.load_image(vislab.samples()["{image}"])'
    )


def _operands(kept: Kept, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    capture = kept.run.capture
    return heads.operands(capture, encoder(capture, kept.run.grid)[index])


def placed(grid: Grid, frame: Frame) -> dict[str, Any]:
    """Where a map lies, as the face has it."""
    numbers = [grid.rows, grid.cols, *grid.patch, grid.prefix, grid.suffix]
    return {"grid": numbers, "frame": [frame.source, frame.model, frame.scale, frame.offset]}


def _described(model: Model) -> dict[str, Any]:
    known: dict[str, Any] = {name: getattr(model, name) for name in ("name", "patch", "prefix", "suffix", "cls")}
    known |= {name: getattr(model, name) for name in ("layers", "heads", "dim", "resizable")}
    classes = model.classes
    few = classes is not None and len(classes.labels) <= FEW_CLASSES
    known |= {"size": model.preprocessing.size, "labels": classes.labels if classes is not None and few else None}
    possible = [name for name, method in METHODS.items() if model.attends or not method.attends]
    takes = None if model.texts is None else "text"
    return known | {"scores": None if classes is None else classes.kind, "methods": possible, "takes": takes}


def _measures(kept: Kept, chosen: Any) -> dict[str, list[float]]:
    """Entropy and distance of the heads of a layer, or of all layers' mean, and the distance of even attention."""
    if not kept.model.attends:
        return {"entropy": [], "distance": [], "even": []}
    layers = None if chosen == "mean" else [chosen]
    seen = survey(kept.run, token=None, layers=layers)
    means = {"entropy": seen.entropy.mean(0), "distance": seen.distance.mean(0), "even": seen.even.mean(keepdims=True)}
    return {name: mean.tolist() for name, mean in means.items()}
