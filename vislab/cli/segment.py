"""vislab segment: regions of a photo as masks, drawn into a file, listed, and measured against a mask file."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..masks.methods import KINDS, METHODS, OF_HEATMAPS, OF_TOKENS
from ..methods.registry import METHODS as MAPS
from .arguments import UsageError, pixels, share, size, whole, whole_or_none
from .detect import OWN_SIZE
from .look import OF_PHOTOS, check_look, given_look, look_arguments
from .photos import spare

if TYPE_CHECKING:
    from ..masks.masks import Masks, Match

SEGMENT_EPILOG = """\
examples:
  vislab segment photo.jpg --out masks.png
  vislab segment photo.jpg --map relevance --target church --method share --level 0.8 --refine --out church.png
  vislab segment photo.jpg --method kmeans --clusters 3 --out clusters.png
  vislab segment photo.jpg --model nvidia/segformer-b0-finetuned-ade-512-512 --json
  vislab segment photo.jpg --method tokencut --against drawn.png
  vislab segment photo.jpg --model facebook/sam2.1-hiera-tiny --point 320,210 --outside 20,20 --out object.png
  vislab segment photo.jpg --model facebook/sam-vit-base --detector embedded --out objects.png

Masks go to standard output, one a line: score, label, share of the photo, and left, top, right and bottom in pixels.
With --against each region of a mask file follows, beside the mask that overlaps it most, with what they agree in.
"""
OPTIONS = {
    name: [method for method, own in (OF_HEATMAPS | OF_TOKENS).items() if name in own]
    for name in ("level", "clusters", "seed", "tau")
}


def segment_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", metavar="PHOTO", help="image file or http(s) address")
    parser.add_argument(
        "--model",
        default="embedded",
        metavar="NAME",
        help="'embedded' (default; needs no network), another Vision Transformer, a segmentation model of "
        "transformers or torchvision by its name on the hub or its folder, or 'yolo11n-seg.pt' and the like",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        help=f"of a heatmap {', '.join(OF_HEATMAPS)}; of tokens {', '.join(OF_TOKENS)}; of a segmentation model "
        f"{', '.join(KINDS)} (default: otsu, or semantic)",
    )
    prompt_arguments(parser)
    parser.add_argument("--map", choices=list(MAPS), help="the method of the heatmap (default: rollout)")
    parser.add_argument(
        "--target", metavar="CLASS|TEXT", help="what a heatmap for one class explains (default: predicted)"
    )
    parser.add_argument("--image-size", type=size, metavar="N|HxW", help="pixels of the model's input")
    parser.add_argument("--patch-size", type=whole, metavar="N", help="pixels of a patch's side")
    for name, kind, letter, words in (
        ("level", share, "X", "of the way from the lowest to the highest value, or of the map's mass (default: 0.5)"),
        ("clusters", whole, "N", "how many (default: 4)"),
        ("seed", whole_or_none, "N", "of the beginnings of clusters (default: 0)"),
        ("tau", float, "X", "the cosine above which two tokens are alike (default: 0.2)"),
    ):
        parser.add_argument(f"--{name}", type=kind, metavar=letter, help=f"{words}, of {' and '.join(OPTIONS[name])}")
    parser.add_argument(
        "--trust", action="store_true", help="open a .pt file of any name: a pickle, it can run anything"
    )
    parser.add_argument("--refine", action="store_true", help="move the edges of patches to those of the photo")
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="the photo under its masks, .png, .jpg, .pdf or .svg, or .npz, the masks themselves",
    )
    parser.add_argument("--opacity", type=share, default=0.5, metavar="X", help="of the picture (default: 0.5)")
    parser.add_argument(
        "--against",
        metavar="FILE",
        help="regions to measure the masks against: a .png in which each value or colour is one and 0 is none, or an "
        ".npz of --out",
    )
    parser.add_argument("--json", action="store_true", help="for programs: the masks as JSON")
    look_arguments(parser, OF_PHOTOS, about=OWN_SIZE)


def prompt_arguments(parser: argparse.ArgumentParser) -> None:
    """What a model such as SAM is asked by."""
    point, corners = ("X", "Y"), ("X0", "Y0", "X1", "Y1")
    parser.add_argument(
        "--point", type=pixels(*point), action="append", metavar=",".join(point),
        help="on the object, pixels of the photo, of a model such as SAM or SAM2; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--outside", type=pixels(*point), action="append", metavar=",".join(point), help="a point that is not on it"
    )
    parser.add_argument(
        "--box", type=pixels(*corners), action="append", metavar=",".join(corners),
        help="around an object; of several each is an object",
    )  # fmt: skip
    parser.add_argument("--detector", metavar="NAME", help="the boxes of this detector, such as 'embedded'")
    parser.add_argument(
        "--candidates", action="store_true", help="all masks that the model proposes for a point or box"
    )


def run_segment(args: argparse.Namespace) -> int:
    from ..figures.formats import FORMATS

    options = _options(args)
    if args.out and Path(args.out).suffix.lower() not in FORMATS:
        raise UsageError(f"--out takes {', '.join(FORMATS)}, not {args.out!r}")
    check_look(args, OF_PHOTOS)
    numbers = bool(args.out) and Path(args.out).suffix.lower() == ".npz"
    for name in given_look(args, OF_PHOTOS) if numbers else ():
        raise UsageError(f"--{name} is of a page, and an .npz holds the masks themselves: leave one of them out")
    from ..core.files import check_folder
    from ..figures.save import save
    from ..masks.files import load_masks

    if args.out:
        spare([args.photo, *([args.against] if args.against else [])], [args.out], f"--out {args.out!r}")
        check_folder(Path(args.out))
    truth = load_masks(args.against) if args.against else None  # refused before the model runs, not after
    masks = _segmented(args, options)
    matches = () if truth is None else masks.matches(truth)
    told = _told(masks)
    if args.json:
        found = {"method": masks.method, "model": masks.model, "scores": masks.scored, "masks": told}
        against = {} if truth is None else {"against": [_as_json(one) for one in matches]}
        print(json.dumps(found | against, ensure_ascii=False, indent=2))
    else:
        print(masks)
        for one in told:
            print(f"{one['score']:.2f}  {one['label']}  {one['share']:.1%}  {' '.join(f'{v:g}' for v in one['xyxy'])}")
        if truth is not None:
            print(*_measured(matches), sep="\n")
    if args.out:
        save(args.out, masks, **({} if numbers else {"opacity": args.opacity, **given_look(args, OF_PHOTOS)}))
    return 0


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the method that are on the command line. UsageError for those that are not its own."""
    given = {name: value for name in OPTIONS if (value := getattr(args, name)) is not None}
    for name in given:
        if (args.method or "otsu") not in OPTIONS[name]:
            raise UsageError(f"--{name} is an option of --method {' and '.join(OPTIONS[name])}: take one of these")
    if args.method in (*OF_TOKENS, *KINDS):
        for name in ("map", "target"):
            if getattr(args, name) is not None:
                raise UsageError(f"--method {args.method} makes masks of no heatmap: leave --{name} out")
    return given


def _segmented(args: argparse.Namespace, options: dict[str, Any]) -> Masks:
    from ..api.explain import explain
    from ..api.segment import segment
    from ..core.images import load_image
    from ..masks.networks import segmenter_of
    from ..masks.promptable import promptable_of

    if (prompts := _prompts(args)) is not None:
        return _by_prompts(args, prompts)
    image, sizes = load_image(args.photo), {"image_size": args.image_size, "patch_size": args.patch_size}
    if args.model.endswith(".pt"):
        options["trust"] = args.trust
    of_map = args.method in OF_HEATMAPS or args.map is not None or args.target is not None
    if not of_map:
        with _in_words("--method"):
            own = args.method is not None or "trust" in options or segmenter_of(args.model) is not None
            if own or promptable_of(args.model) is not None:
                return segment(image, model=args.model, method=args.method, refine=args.refine, **sizes, **options)
    target = int(args.target) if args.target is not None and args.target.isdecimal() else args.target
    with _in_words("--map"):
        heat = explain(image, model=args.model, method=args.map or "rollout", target=target, **sizes)
    with _in_words("--method"):
        return segment(heat, method=args.method, refine=args.refine, **options)


def _prompts(args: argparse.Namespace) -> dict[str, Any] | None:
    """The points and boxes of the command line, or None. UsageError for what does not go with them."""
    given = {"points": args.point, "outside": args.outside, "boxes": args.box or args.detector}
    if args.box and args.detector:
        raise UsageError("--box and --detector are both boxes: give one of them")
    if not any(given.values()):
        if args.candidates:
            raise UsageError("--candidates are those of a --point or --box: give one")
        return None
    for name in ("map", "target"):
        if getattr(args, name) is not None:
            raise UsageError(f"--point and --box make masks of no heatmap: leave --{name} out")
    return {name: value for name, value in given.items() if value} | {"candidates": args.candidates}


def _by_prompts(args: argparse.Namespace, prompts: dict[str, Any]) -> Masks:
    from ..api.detect import detect
    from ..api.segment import segment
    from ..core.images import load_image

    image = load_image(args.photo)
    if args.detector:
        prompts["boxes"] = detect(image, detector=args.detector)
        if not len(prompts["boxes"]):
            raise ValueError(f"{args.detector} finds no box in this photo: give --box X0,Y0,X1,Y1")
    sizes = {"image_size": args.image_size, "patch_size": args.patch_size, "refine": args.refine}
    with _in_words("--method"):
        return segment(image, model=args.model, method=args.method, **sizes, **_options(args), **prompts)


@contextmanager
def _in_words(method: str) -> Iterator[None]:
    """What is wrong, with options as a terminal has them. method: which of them is called so in Python."""
    try:
        yield
    except ValueError as error:
        said = re.sub(r"\bmethod='?(\w+)'?", rf"{method} \1", str(error))
        said = said.replace("points=[(x, y)]", "--point X,Y").replace("boxes=[(x0, y0, x1, y1)]", "--box X0,Y0,X1,Y1")
        names = {"points": "--point", "boxes": "--box", "outside": "--outside"}
        raise ValueError(re.sub(r"^(points|boxes|outside)(?=:| is )", lambda found: names[found[1]], said)) from error


def _told(masks: Masks) -> list[dict[str, Any]]:
    shares, boxes = masks.masks.mean((1, 2)).tolist(), masks.boxes.tolist()
    return [
        {"score": round(score, 4), "label": label, "share": round(part, 4), "xyxy": box}
        for score, label, part, box in zip(masks.scores.tolist(), masks.labels, shares, boxes, strict=True)
    ]


def _as_json(match: Match) -> dict[str, Any]:
    values = {name: round(value, 4) for name, value in match.values.items()}
    return {"region": match.region, "mask": match.mask, "label": match.label, **values}


def _measured(matches: tuple[Match, ...]) -> Iterator[str]:
    """Each region with its mask and what they agree in, and the mean over regions, a line each."""
    if not matches:
        yield "the mask file has no region to measure against"
        return
    for one in matches:
        yield f"region {one.region}, {'no mask' if one.label is None else one.label}: {_values(one.values)}"
    if len(matches) > 1:
        mean = {name: sum(one.values[name] for one in matches) / len(matches) for name in matches[0].values}
        yield f"mean of {len(matches)} regions: {_values(mean)}"


def _values(values: Any) -> str:
    names = {"iou": "IoU", "dice": "Dice", "pixel_accuracy": "pixel accuracy", "boundary_f": "boundary F"}
    return ", ".join(f"{names[name]} {value:.3f}" for name, value in values.items())
