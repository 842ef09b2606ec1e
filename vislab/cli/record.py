"""vislab show and vislab reproduce: the record inside a figure, in words, and the figure made again from it."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from ..core.python_call import Source, call
from .arguments import UsageError, print_table

if TYPE_CHECKING:
    from ..core.heatmap import Heatmap

SHOW_EPILOG = """\
examples:
  vislab show figure.pdf
  vislab show figure.png --json

Reads PNG, JPEG, PDF, SVG and NPZ that vislab wrote: figures, boxes, masks and curves. The photo itself is not
in the record, only its fingerprint.
"""
REPRODUCE_EPILOG = """\
examples:
  vislab reproduce figure.png
  vislab reproduce figure.pdf --image photo.jpg --out again.pdf

Says what is not as it was: versions, photo, weights, device, values, pixels. The exit status is 0 where nothing
differs, and 1 where something does.
"""


def show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("figure", metavar="FILE", help="a figure, or the numbers of one, that vislab wrote")
    parser.add_argument("--json", action="store_true", help="for programs: the whole record as JSON")


def reproduce_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("figure", metavar="FILE", help="a figure, or the numbers of one, that vislab wrote")
    parser.add_argument(
        "--image",
        nargs="+",
        metavar="PHOTO",
        help="its photos in their order (default: those with the recorded fingerprints beside the figure)",
    )
    parser.add_argument("--model", metavar="NAME", help="another name or folder of its model or detector")
    parser.add_argument("--out", metavar="PATH", help="where to write the figure made again")


def run_show(args: argparse.Namespace) -> int:
    from ..figures.provenance import provenance

    record = provenance(args.figure)
    if args.json:
        print(json.dumps(record, ensure_ascii=False, indent=2))
        return 0
    print_table({"file": f"{args.figure}, written by vislab {record['vislab']}", **dict(_told(record))})
    if "call" in record:
        print(f"\nPython that makes it again:\n{_given(record)}{record['call']}")
    return 0


def _given(record: Mapping[str, Any]) -> str:
    """The Python before the call of a record: what it takes as given. A record names no file, only what it holds."""
    named = {node.id for node in ast.walk(ast.parse(record["call"])) if isinstance(node, ast.Name)}
    named |= {"image"} if len(record["images"]) == 1 and "boxes" in named else set()
    sizes = ", ".join(f"{photo['width']}×{photo['height']} px" for photo in record["images"].values())
    several = ", ".join(f"'photo{number}.jpg'" for number in range(1, len(record["images"]) + 1))
    photos = {digest: f"images[{n}]" if "images" in named else "image" for n, digest in enumerate(record["images"])}
    segmented = ", ".join(f"vislab.segment({photos[one['image']]})" for one in record.get("masks", ()))
    lines = {
        "image": f"image = vislab.load_image('photo.jpg')  # yours, of {sizes}",
        "images": f"images = [vislab.load_image(path) for path in ({several})]  # yours, of {sizes}",
        "frames": "frames = vislab.frames('clip.mp4')  # yours",
        "boxes": f"boxes = {_detected(record, 'images[0]' if 'images' in named else 'image')}",
        "masks": f"masks = [{segmented}]  # or what made them",
    }
    head = ["import vislab", *_modules(record)]
    return "".join(f"{line}\n" for line in (*head, *(lines[name] for name in lines if name in named)))


def _modules(record: Mapping[str, Any]) -> Iterator[str]:
    """The Python that stands for modules which were in memory: they are the reader's own."""
    from ..figures.provenance import given_of

    for which, given in given_of(record).items():
        load, several = "vislab.load_detector" if which == "detector" else "vislab.load", len(given) > 1
        made = {}
        for number, (name, kind) in enumerate(given.items(), 1):
            module = f"module{number}" if several else "module"
            yield f"{module} = ...  # yours, a {kind}: it was in memory, and no name loads it"
            made[name] = call(load, module, name=name)
        listed = ", ".join(f"{name!r}: {source}" for name, source in made.items())
        yield f"{which}s = {{{listed}}}" if several else f"{which} = {made[name]}"


def _detected(record: Mapping[str, Any], image: str) -> str:
    """The Python that finds the boxes of a record again, the one alone that a map is of, where one alone is drawn."""
    if (found := record.get("detected")) is None:
        return f"vislab.detect({image})  # or what found them"
    how = {name: value for name, value in found.items() if name != "facts"}
    if "module" in found["facts"]:
        how["detector"] = Source("detector")
    maps = [one for one in record.get("maps", ()) if "box" in one["facts"]]
    asked = [one["settings"]["box"] for one in maps if [_box(one)] == record["detections"]]
    return call("vislab.detect", image, **how) + (f"[{asked[0]}]" if asked else "")


def _box(one: Mapping[str, Any]) -> dict[str, Any]:
    """The box that a recorded map explains, as a record of drawn boxes has it."""
    return {name: value for name, value in one["facts"]["box"].items() if name != "confidence"}


def run_reproduce(args: argparse.Namespace) -> int:
    if args.out and Path(args.out).resolve() == Path(args.figure).resolve():
        raise UsageError(f"--out {args.out!r} would overwrite the figure that is made again: take another name")
    from ..api.reproduce import reproduce
    from ..figures.save import save
    from .photos import spare

    if args.out:
        spare(args.image or [], [args.out], f"--out {args.out!r}")
    again = reproduce(args.figure, image=args.image, model=args.model)
    print(again)
    if args.out:
        print(save(args.out, again.panel))
    return int(bool(again.differences))


def _told(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the record says, each with what it is called; several of a kind are numbered."""
    if "evaluation" in record:
        yield from _measured(record["evaluation"])
        yield "made with", _versions(record)
        return
    photos, maps = list(record["images"].items()), record.get("maps", ())
    for number, (digest, photo) in enumerate(photos):
        yield _numbered("photo", number, photos), f"{photo['width']}×{photo['height']} px, fingerprint {digest}"
    for number, one in enumerate(maps):
        low, high = one["colours"]
        where = f" · on {_numbered('photo', list(record['images']).index(one['image']), photos)}" if photos[1:] else ""
        span = f"colours from {low:g} to {high:g}" if low < high else f"all values equal, {low:.3g}"
        yield _numbered("map", number, maps), f"{_phrases(one)} · {span}{where}"
    yield from _once("in memory", _in_memory(record))
    yield from _once("model says", [_answers(one["facts"]) for one in maps])
    yield from _once("weights", [_run_with(one["facts"]) for one in maps])
    yield from _once("to cite", [one["source"] for one in maps])
    boxes = record.get("detections")
    if boxes is None:  # each map has its own
        yield from _once("boxes", [_scored([_box(one)]) for one in maps if "box" in one["facts"]])
    yield from _once("boxes", [_scored(boxes or ())])
    if found := record.get("detected"):
        how = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found.items() if name != "facts")
        yield "found by", how
        yield from _once("weights", [_run_with(found["facts"])] if not maps else [])
    masks = record.get("masks", [])
    for one in masks if isinstance(masks, list) else [masks]:
        yield from _masks(one)
    yield from _once("caption", [record.get("caption")])
    yield "made with", _versions(record)


def _scored(boxes: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{box['label']} {box['score']:.2f}" for box in boxes)


def _in_memory(record: Mapping[str, Any]) -> list[str | None]:
    """Which models were modules of whoever made the figure."""
    from ..figures.provenance import given_of

    return [
        f"the {which} {name}, a {kind}: no name loads it, give it yourself"
        for which, given in given_of(record).items()
        for name, kind in given.items()
    ]


def _versions(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in record["versions"].items())


def _measured(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the record of an evaluation's curves says."""
    from ..evaluation.report import averaged

    settings = evaluation["settings"]
    yield "evaluated", ", ".join(settings.get("methods", ()))
    yield "settings", ", ".join(f"{k} {v}" for k, v in settings.items() if k != "methods" and v is not None)
    if max((row["n"] for row in evaluation["rows"] if row["measure"] == "deletion"), default=0) == 1:
        yield "caution", averaged(1)
    for row in evaluation["rows"]:
        error = "" if row["n"] < 2 else f" ± {row['standard_error']:.3f}"
        yield f"{row['method']}, {row['measure']}", f"{row['mean']:.3f}{error}, n = {row['n']}"


def _masks(masks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a record says of masks."""
    yield "masks", f"{len(masks['regions'])} by {masks['method']}; model {masks['model']}; scores: {masks['scored']}"
    yield from _once("regions", [", ".join(f"{one['label']} {one['score']:.2f}" for one in masks["regions"])])
    yield from _once("weights", [_run_with(masks["facts"])])
    if kind := masks["facts"].get("module"):
        yield "in memory", f"the model {masks['model']}, a {kind}: no name loads it, give it yourself"


def _numbered(name: str, number: int, several: list[Any]) -> str:
    return f"{name} {number + 1}" if len(several) > 1 else name


def _once(name: str, said: list[str | None]) -> Iterator[tuple[str, str]]:
    """What all maps have to say of one thing, each answer once; nothing where they say nothing."""
    if words := "; ".join(dict.fromkeys(filter(None, said))):
        yield name, words


def _phrases(one: Mapping[str, Any]) -> str:
    """What a recorded map shows, as captions say it."""
    from ..core.geometry import Frame, Grid
    from ..figures.captions import describe

    grid = Grid(**{**one["grid"], "patch": tuple(one["grid"]["patch"])})
    frame = Frame(**{name: tuple(value) for name, value in one["frame"].items()})
    return describe(cast("Heatmap", SimpleNamespace(**{**one, "grid": grid, "frame": frame})))


def _answers(facts: Mapping[str, Any]) -> str:
    """The first of what the model said of the photo: probabilities, or other scores by what they are."""
    best, scores = facts.get("predictions", ())[:3], facts.get("scores")
    said = ", ".join(f"{label} {value:.3g}" if scores else f"{label} {value:.1%}" for label, value in best)
    return f"{said} ({scores})" if scores else said


def _run_with(facts: Mapping[str, Any]) -> str:
    if "weights" not in facts:
        return ""
    return f"fingerprint {facts['weights']}, {facts.get('dtype', '')} on {facts.get('device', '')}"
