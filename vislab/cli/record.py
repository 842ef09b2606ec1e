"""vislab show and vislab reproduce: the record inside a figure, in words, and the figure made again from it."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from .arguments import UsageError, print_table

if TYPE_CHECKING:
    from ..core.heatmap import Heatmap

SHOW_EPILOG = """\
examples:
  vislab show figure.pdf
  vislab show figure.png --json

Reads PNG, JPEG, PDF, SVG and NPZ that vislab wrote. The photo itself is not in the record, only its fingerprint.
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
    sizes = ", ".join(f"{photo['width']}×{photo['height']} px" for photo in record["images"].values())
    several = ", ".join(f"'photo{number}.jpg'" for number in range(1, len(record["images"]) + 1))
    photos = {digest: f"images[{n}]" if "images" in named else "image" for n, digest in enumerate(record["images"])}
    segmented = ", ".join(f"vislab.segment({photos[one['image']]})" for one in record.get("masks", ()))
    lines = {
        "image": f"image = vislab.load_image('photo.jpg')  # yours, of {sizes}",
        "images": f"images = [vislab.load_image(path) for path in ({several})]  # yours, of {sizes}",
        "frames": "frames = vislab.frames('clip.mp4')  # yours",
        "boxes": f"boxes = vislab.detect({'images[0]' if 'images' in named else 'image'})  # or what found them",
        "masks": f"masks = [{segmented}]  # or what made them",
    }
    return "".join(f"{line}\n" for line in ("import vislab", *(lines[name] for name in lines if name in named)))


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
        yield _numbered("map", number, maps), f"{_phrases(one)} · colours from {low:g} to {high:g}{where}"
    yield from _once("model says", [_answers(one["facts"]) for one in maps])
    yield from _once("weights", [_run_with(one["facts"]) for one in maps])
    yield from _once("to cite", [one["source"] for one in maps])
    boxes = record.get("detections") or ()
    yield from _once("boxes", [", ".join(f"{box['label']} {box['score']:.2f}" for box in boxes)])
    masks = record.get("masks", [])
    for one in masks if isinstance(masks, list) else [masks]:
        yield from _masks(one)
    yield from _once("caption", [record.get("caption")])
    yield "made with", _versions(record)


def _versions(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in record["versions"].items())


def _measured(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the record of an evaluation's curves says."""
    settings = evaluation["settings"]
    yield "evaluated", ", ".join(settings.get("methods", ()))
    yield "settings", ", ".join(f"{k} {v}" for k, v in settings.items() if k != "methods" and v is not None)
    for row in evaluation["rows"]:
        error = "" if row["n"] < 2 else f" ± {row['standard_error']:.3f}"
        yield f"{row['method']}, {row['measure']}", f"{row['mean']:.3f}{error}, n = {row['n']}"


def _masks(masks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a record says of masks."""
    yield "masks", f"{len(masks['regions'])} by {masks['method']}; model {masks['model']}; scores: {masks['scored']}"
    yield from _once("regions", [", ".join(f"{one['label']} {one['score']:.2f}" for one in masks["regions"])])
    yield from _once("weights", [_run_with(masks["facts"])])


def _numbered(name: str, number: int, several: list[Any]) -> str:
    return f"{name} {number + 1}" if len(several) > 1 else name


def _once(name: str, said: list[str | None]) -> Iterator[tuple[str, str]]:
    """What all maps have to say of one thing, each answer once; nothing where they say nothing."""
    if words := "; ".join(dict.fromkeys(filter(None, said))):
        yield name, words


def _phrases(one: Mapping[str, Any]) -> str:
    """What a recorded map shows, as captions say it."""
    from ..core.geometry import Grid
    from ..figures.captions import describe

    grid = Grid(**{**one["grid"], "patch": tuple(one["grid"]["patch"])})
    return describe(cast("Heatmap", SimpleNamespace(**{**one, "grid": grid})))


def _answers(facts: Mapping[str, Any]) -> str:
    """The first of what the model said of the photo: probabilities, or other scores by what they are."""
    best, scores = facts.get("predictions", ())[:3], facts.get("scores")
    said = ", ".join(f"{label} {value:.3g}" if scores else f"{label} {value:.1%}" for label, value in best)
    return f"{said} ({scores})" if scores else said


def _run_with(facts: Mapping[str, Any]) -> str:
    if "weights" not in facts:
        return ""
    return f"fingerprint {facts['weights']}, {facts.get('dtype', '')} on {facts.get('device', '')}"
