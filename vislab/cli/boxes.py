"""vislab figure of a detector's box: what it is asked by, and what of a model's options is none of it."""

from __future__ import annotations

import argparse
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..detectors.request import METHODS
from ..methods.registry import options
from ..models.tokens import DEFAULTS
from ..spread.boxes import BoxFigures
from .arguments import UsageError, report
from .asking import Asker, reading_of
from .detect import CONFIDENCE, detector_arguments
from .look import look_of

if TYPE_CHECKING:
    from ..core.clip import ClipFrame
    from ..core.heatmap import Heatmap

OF_MODELS = ("model", "dtype", "patch_size", "target", "patch", "scales", *DEFAULTS)  # and not of detectors


def box_arguments(parser: argparse.ArgumentParser) -> None:
    """Needs to come last: it notes the defaults of all options."""
    group = parser.add_argument_group(
        "box", f"What a detector's box rests on, by --method {' or '.join(METHODS)}, with --layer and --head."
    )
    group.add_argument(
        "--box", type=int, metavar="N", help="which, counted from 0, the most certain one (default: 0 of --detector)"
    )
    detector_arguments(group, None)
    parser.set_defaults(usual={one.dest: one.default for one in parser._actions})


def is_box(args: argparse.Namespace) -> bool:
    """Whether a box of a detector is asked about. UsageError for what is of a detector alone, without one."""
    asked = args.box is not None or args.detector is not None
    for name in ("labels", "trust"):
        if getattr(args, name) and not asked:
            raise UsageError(f"--{name} is of a detector: give --detector too, or leave it out")
    return asked


class BoxAsker(Asker):
    """One question to one detector, which is loaded when the first picture asks it."""

    def __init__(self, args: argparse.Namespace) -> None:
        _check(args)
        self.args, self.options = args, {}
        self.figures = self._figures()
        self.model = cache(self.figures.loaded)

    def explained(self, name: str, image: np.ndarray | ClipFrame) -> Heatmap:
        """Of a box that `vislab detect` would not show, that is said."""
        heat = super().explained(name, image)
        box = heat.facts["box"]
        if box["confidence"] < CONFIDENCE:
            report(
                f"{name}: box {self.args.box or 0} has a score of {box['score']:.2g} only: vislab detect shows those "
                f"above {CONFIDENCE}, and with --confidence others",
                self.args.debug,
            )
        return heat

    def _figures(self) -> BoxFigures:
        args = self.args
        names = ("method", "layer", "head", "attention_scale", "image_size", "labels")
        asked: dict[str, Any] = {name: getattr(args, name) for name in names}
        return BoxFigures(
            model=args.detector or "embedded",
            device=args.device,
            asked={"box": args.box or 0, **asked},
            reading=reading_of(args),
            look=look_of(args),
            beside=args.beside,
            plain=args.plain,
            trust=args.trust,
        )


def _check(args: argparse.Namespace) -> None:
    """UsageError for options of models, of which a detector is none."""
    for name in (*OF_MODELS, *(option.name for option in options())):
        if getattr(args, name) != args.usual[name]:
            instead = ", and its name is --detector" if name == "model" else ""
            raise UsageError(
                f"--{name.replace('_', '-')} is of a model{instead}: --box shows what a detector's box rests on; leave "
                "one of them out"
            )
    if args.method not in (None, *METHODS):
        raise UsageError(
            f"--method {args.method} is of a model: --box takes --method {' or '.join(METHODS)}, or leave it out"
        )
