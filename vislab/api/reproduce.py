"""A figure made again from the record inside it, with what is no longer as it was."""

from __future__ import annotations

import base64
import html
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..core.clip import ClipFrame
from ..core.fingerprints import of_image
from ..core.heatmap import Heatmap
from ..core.images import SUFFIXES, load_image, samples
from ..detectors.cache import detector_of
from ..detectors.detector import Detector
from ..detectors.load import load_detector
from ..figures.drawing import preview
from ..figures.page import Panel
from ..figures.panel import Content, panel
from ..figures.provenance import boxes_again, provenance, versions
from ..figures.save import file_of
from ..language.answer import Answer
from ..models.cache import model_of
from ..models.load import load
from ..models.model import Model
from .ask import ask
from .explain import explain
from .explain_box import explain_box

RASTER = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, eq=False)
class Reproduction:
    """A figure made again. panel: to be saved; differences: what is not as it was, in sentences, none if all is."""

    panel: Panel
    differences: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.differences) or "nothing differs"

    def _repr_html_(self) -> str:
        picture = base64.b64encode(preview(self.panel)).decode()
        said = "".join(f"<li>{html.escape(one)}</li>" for one in self.differences) or "<li>nothing differs</li>"
        return f'<img style="max-width: 100%" src="data:image/png;base64,{picture}"><ul>{said}</ul>'


def reproduce(
    path: str | os.PathLike[str], *, image: Any = None, model: str | Path | Model | Any = None
) -> Reproduction:
    """Make again a figure that `save` wrote, from the record inside it, and say what differs.

    image: the photo, or a list of them in the order of the figure; by default the one with the recorded fingerprint
    among vislab's samples and the files beside the figure. model: the model or detector, needed where the recorded
    name does not load it, of words (module, processor); for several, {recorded name: model}. `differences` names what
    is not as it was: versions, photo, weights, device, values, pixels.

        again = vislab.reproduce("figure.png")
        print(again)
        vislab.save("again.png", again.panel)

    Raises ValueError for a file without a record, with masks, or with a model or option that was an object only Python
    held; FileNotFoundError where no photo has the recorded fingerprint.
    """
    path = Path(path)
    record = provenance(path)
    if record.get("masks"):
        raise ValueError(
            f"{path} shows masks, and its record keeps of them what they are, not what was asked: make them again by "
            "vislab.segment, and the picture by vislab.save"
        )
    if "detected" in record and "cells" not in record:
        raise ValueError(
            f"{path} shows boxes alone: find them again by vislab.detect, as its record (vislab.provenance) says"
        )
    if "cells" not in record:
        raise ValueError(f"{path} is no figure of heatmaps that vislab.save wrote: there is nothing to make again")
    photos, differences = _photos(record["images"], path, image)
    answers: dict[str, Answer] = {}
    maps = [_explained(one, photos[one["image"]], model, answers) for one in record["maps"]]
    cells = [[_content(one, maps, photos) for one in row] for row in record["cells"]]
    options: dict[str, Any] = dict(record["options"])
    if isinstance(options.get("normalise"), list):
        options["normalise"] = tuple(options["normalise"])
    flat = [one for row in cells for one in row if one is not None]
    made = panel(flat if record["listed"] else cells, detections=boxes_again(record), **options)
    differences += _version_differences(record["versions"])
    for number, (then, now) in enumerate(zip(record["maps"], maps, strict=True)):
        name = f"map {number + 1}" if len(maps) > 1 else "the map"
        differences += _fact_differences(name, then, now)
    differences += _drawing_differences(path, record, made)
    return Reproduction(made, tuple(dict.fromkeys(differences)))


def _photos(recorded: Mapping[str, Any], figure: Path, image: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    """The photos by the fingerprints in the record, and which of them are others."""
    if image is None:
        return {digest: _photo(digest, size, figure) for digest, size in recorded.items()}, []
    sources = image if isinstance(image, list | tuple) else [image]
    if len(sources) != len(recorded):
        raise ValueError(f"the figure shows {len(recorded)} photos, not {len(sources)}: list them in its order")
    images = [
        # What was loaded already has its bands and its stretch.
        load_image(one, **({} if isinstance(one, np.ndarray) else _reading(size)))
        for one, size in zip(sources, recorded.values(), strict=True)
    ]
    order = {digest: n for n, digest in enumerate(recorded)}
    by_digest = {of_image(one): one for one in images}
    photos = {digest: by_digest.get(digest, images[n]) for digest, n in order.items()}
    others = [digest for digest in recorded if digest not in by_digest]
    return photos, [f"the photo is another: its pixels are not those with fingerprint {one}" for one in others]


def _photo(digest: str, size: Mapping[str, int], figure: Path) -> np.ndarray:
    """The photo with a fingerprint, among the samples and the pictures beside the figure."""
    high, wide, reading = size["height"], size["width"], _reading(size)
    for candidate in [*samples().values(), *_pictures(figure.parent)]:
        if candidate == figure:
            continue
        try:
            # Sizes are told without decoding, but not of all that was read by bands.
            if not reading:
                with Image.open(candidate) as opened:
                    if {*opened.size} != {high, wide}:
                        continue
            image = load_image(candidate, **reading)
        except (OSError, ValueError, ImportError):  # ultralytics' opener asks for a package that may be missing
            continue
        if of_image(image) == digest:
            return image
    raise FileNotFoundError(
        f"the photo of {figure.name} is not there: none of vislab's samples and of the pictures in its folder has its "
        f"{wide}×{high} px and fingerprint {digest}. Give it as image=…, or in the terminal as --image PHOTO"
    )


def _reading(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The options of load_image that a photo was read with."""
    return {name: recorded[name] for name in ("bands", "stretch") if name in recorded}


def _pictures(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES)


def _explained(one: Mapping[str, Any], image: np.ndarray, model: Any, answers: dict[str, Answer]) -> Heatmap:
    """A map of the record made again. model: the model or detector, or by its recorded name, or None.

    answers: of the maps before, by what was asked.
    """
    settings = {name: _restored(value) for name, value in one["settings"].items() if value is not None}
    for option, value in settings.items():
        if isinstance(value, str) and re.fullmatch(r"<\w+>", value):
            raise ValueError(f"{option} was {value}, an object that only Python knew: explain the photo anew with it")
    if (which := one["facts"].get("frames")) is not None:
        raise ValueError(
            f"a map of this figure is of a clip, made of {which['of']} frames together, and the record keeps those "
            "that are drawn: make it again by vislab.explain_clip with the clip, as the record's call says"
        )
    settings["method"] = one["method"]
    which = "detector" if "detector" in settings else "model"
    name = settings.get(which, "embedded")
    own = model.get(name) if isinstance(model, Mapping) else model
    named = "module" in one["facts"]
    if own is None and named:
        raise ValueError(
            f"its {which} {name!r} was a {one['facts']['module']} in memory, which no name loads: save it as a folder "
            "with its image processor (a module of timm alone, by timm.models.save_for_hf) and give that, "
            "model='FOLDER', or give the module itself: vislab.reproduce(…, model=module)"
        )
    clip = one["facts"].get("clip")
    source = image if clip is None else ClipFrame(image, clip["frame"], clip["second"])
    if "question" in settings:
        parts = ("model", "question", "answer", "tokens")
        asked = repr([one["image"], *(settings.get(part) for part in parts)])
        if asked not in answers:
            answers[asked] = _answer(source, settings, one["facts"], name if own is None else own)
        return explain(answers[asked], **{part: value for part, value in settings.items() if part not in parts})
    try:
        if which == "detector":
            looks = name if own is None else own
            if named and not isinstance(own, str | Path | Detector):
                looks = load_detector(own, name=name)
            return explain_box(source, **settings | {"detector": detector_of(looks)})
        dtype = one["facts"].get("dtype", "float32")
        if named and not isinstance(own, str | Path | Model):
            own = load(own, name=name)
        ready = _model(name, dtype) if own is None else model_of(own)
        if named:  # what was loaded in its place bears its name: else the caption would differ
            ready = replace(ready, name=name, given=True)
    except (ValueError, OSError) as error:
        if named and isinstance(own, str | Path):
            raise ValueError(
                f"this figure was made with a module that Python held, its {which} {name!r}, a "
                f"{one['facts']['module']}, and {str(own)!r} does not load in its place. Where you hold the module, "
                "vislab.reproduce(…, model=module) makes it again; vislab.provenance has the call that made it"
            ) from error
        if isinstance(error, OSError):
            raise
        raise ValueError(f"{error}. Or give the {which} itself: vislab.reproduce(…, model=…)") from error
    return explain(source, **settings | {"model": ready})


def _answer(image: Any, settings: Mapping[str, Any], facts: Mapping[str, Any], model: Any) -> Answer:
    """What was asked, asked again. model: the model's name, or (module, processor)."""
    how: dict[str, Any] = {part: settings[part] for part in ("answer", "tokens") if part in settings}
    if isinstance(model, str):
        how["dtype"] = facts.get("dtype", "float32")
    elif isinstance(model, tuple):
        (model, how["processor"]), how["name"] = model, settings["model"]
    return ask(image, settings["question"], model=model, **how)


def _model(name: str, dtype: str) -> Model:
    return model_of(name) if dtype == "float32" else load(name, dtype=dtype)


def _restored(value: Any) -> Any:
    """JSON has names only where Python had numbers, {layer: scale}, and lists where it had pairs."""
    if isinstance(value, dict):
        return {int(key): one for key, one in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _content(one: int | str | None, maps: Sequence[Heatmap], photos: Mapping[str, np.ndarray]) -> Content:
    return maps[one] if isinstance(one, int) else photos[one] if one is not None else None


def _version_differences(then: Mapping[str, str]) -> list[str]:
    now = versions()
    return [
        f"{name} was {then.get(name, 'not there')}, and is {now.get(name, 'not there')}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]


def _fact_differences(name: str, then: Mapping[str, Any], now: Heatmap) -> list[str]:
    """What a map was made with, and is no longer."""
    said = []
    model = then["settings"].get("model") or then["settings"].get("detector")
    for fact in ("weights", "dtype", "device"):
        before, after = then["facts"].get(fact), now.facts.get(fact)
        if before != after:
            said.append(f"{fact} of {model}: {before} then, {after} now")
    for part, before, after in (("query", then["query"], now.query), ("target", then["target"], now.target)):
        if before != after:
            said.append(f"{name} was of {part} {before}, and is of {after}")
    return said


def _drawing_differences(path: Path, record: Mapping[str, Any], made: Panel) -> list[str]:
    """Whether the file made again shows the same, pixel for pixel or number for number."""
    suffix = path.suffix.lower()
    said = [
        f"colours ran from {low:g} to {high:g}, and run from {cell.span[0]:g} to {cell.span[1]:g}"
        for (low, high), cell in zip(
            (one["colours"] for one in record["maps"]), (c for *_, c in made.filled() if c.heat), strict=True
        )
        if (low, high) != tuple(cell.span)
    ]
    then, now = path.read_bytes(), file_of(made, suffix, record, plain=record.get("plain", False))
    if then == now:
        return said
    if suffix in RASTER:
        pictures = [Image.open(io.BytesIO(data)) for data in (then, now)]
        mode = "RGBA" if any(one.has_transparency_data for one in pictures) else "RGB"
        before, after = (np.asarray(one.convert(mode)) for one in pictures)
        if before.shape != after.shape:
            (height, width), (h, w) = before.shape[:2], after.shape[:2]
            said.append(f"the picture was {width}×{height} px, and is {w}×{h} px")
        elif share := float((before != after).mean()):
            said.append(f"{share:.2%} of the picture's values differ, by at most {_most(before, after)} of 255")
    elif suffix == ".npz":
        said += _values(then, now)
    else:
        said.append("the drawing differs: its file is not the same to the byte")
    return said


def _values(then: bytes, now: bytes) -> Iterator[str]:
    with np.load(io.BytesIO(then)) as before, np.load(io.BytesIO(now)) as after:
        for name in (name for name in before.files if name.startswith("values")):
            if before[name].shape != after[name].shape:
                yield f"{name} had the shape {before[name].shape}, and have {after[name].shape}"
            elif most := float(np.abs(before[name] - after[name]).max()):
                yield f"{name} differ by at most {most / float(np.abs(before[name]).max() or 1):.1e} of the largest"


def _most(before: np.ndarray, after: np.ndarray) -> int:
    return int(np.abs(before.astype(int) - after.astype(int)).max())
