"""vislab detect: what a detector finds in a photo, as a table, JSON or a picture."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import UsageError, scale, share, size, sizes
from .look import OF_PHOTOS, check_look, given_look, look_arguments
from .photos import spare

if TYPE_CHECKING:
    from ..detectors.detections import Detections

CONFIDENCE = 0.25  # of the boxes that are shown, where nothing else is said
OWN_SIZE = "A .png or .jpg without one of these has the photo's own size, and no page."

DETECT_EPILOG = """\
examples:
  vislab detect photo.jpg
  vislab detect photo.jpg --detector yolo12n.pt --confidence 0.1 --out boxes.png
  vislab detect photo.jpg --detector google/owlvit-base-patch32 --labels "a church, a fish" --confidence 0.1
  vislab detect photo.jpg --out boxes.pdf --width column
  vislab detect photo.jpg --scales 480,640,960
  vislab detect photo.jpg --attention-scale 0.8 --json

Boxes go to standard output, the most certain first: score, label, and left, top, right and bottom in pixels.
"""


def detect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", metavar="PHOTO", help="image file or http(s) address")
    detector_arguments(parser, "embedded")
    parser.add_argument(
        "--confidence", type=share, default=CONFIDENCE, metavar="C", help=f"of a box, 0 to 1 (default: {CONFIDENCE})"
    )
    parser.add_argument("--image-size", type=size, metavar="N|HxW", help="pixels of the detector's input")
    parser.add_argument(
        "--scales", type=sizes, metavar="N|HxW,…", help="several such sizes, whose boxes become one list"
    )
    parser.add_argument("--attention-scale", type=scale, default=1.0, metavar="S", help="factor of q·k (default: 1)")
    parser.add_argument(
        "--out", metavar="PATH", help="file to write, .png, .jpg, .pdf or .svg: the photo with its boxes"
    )
    parser.add_argument("--json", action="store_true", help="for programs: the boxes as JSON")
    look_arguments(parser, OF_PHOTOS, about=OWN_SIZE)


def detector_arguments(parser: argparse._ActionsContainer, usual: str | None) -> None:
    """Which detector looks, and what for. usual: where none is named."""
    parser.add_argument(
        "--detector",
        default=usual,
        metavar="NAME",
        help="'embedded' (default; needs no network), 'yolo12n.pt' or another of ultralytics, or a DETR, RT-DETR or "
        "YOLOS by its name on the hub or its folder",
    )
    parser.add_argument(
        "--labels",
        type=lambda text: [one.strip() for one in text.split(",")],
        metavar="TEXT,…",
        help="what to look for, of detectors that are told in words: OWL-ViT, OWLv2, Grounding DINO",
    )
    parser.add_argument(
        "--trust", action="store_true", help="open a .pt file of any name: a pickle, it can run anything"
    )


def run_detect(args: argparse.Namespace) -> int:
    from ..api.detect import detect
    from ..core.files import check_folder
    from ..core.images import load_image
    from ..figures.detected import FORMATS
    from ..figures.save import save

    if args.out and Path(args.out).suffix.lower() not in FORMATS:
        raise UsageError(f"--out takes {', '.join(FORMATS)}, not {args.out!r}; the boxes as numbers are --json")
    check_look(args, OF_PHOTOS)
    if args.out:
        spare([args.photo], [args.out], f"--out {args.out!r}")
        check_folder(Path(args.out))
    image = load_image(args.photo)
    names = ("labels", "confidence", "image_size", "scales", "attention_scale", "trust")
    settings = {name: getattr(args, name) for name in names}
    boxes = detect(image, detector=args.detector, **settings)
    rows = list(zip(boxes.scores.tolist(), boxes.labels, boxes.xyxy.tolist(), strict=True))
    if args.json:
        found = [
            {"score": round(s, 4), "label": label, "xyxy": [round(v, 1) for v in box], **_more(boxes[number])}
            for number, (s, label, box) in enumerate(rows)
        ]
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        print(boxes.summary)
        for score, label, box in rows:
            print(f"{score:.2f}  {label}  {' '.join(f'{v:.1f}' for v in box)}")
    if args.out:
        save(args.out, boxes, **given_look(args, OF_PHOTOS))
    return 0


def _more(box: Detections) -> dict[str, Any]:
    """What a box has beside its corners: keypoints (x, y, how visible), or the corners of a turned one."""
    parts = {"keypoints": box.keypoints, "corners": box.corners}
    return {name: np.round(part[0].astype(float), 2).tolist() for name, part in parts.items() if part is not None}
