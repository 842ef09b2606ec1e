"""What is asked of a model on the command line of figures, of photos and of clips alike, and its heatmap."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..methods.registry import METHODS, options
from ..methods.request import DEFAULTS
from ..spread.figures import Figures
from ..spread.photos import is_figure
from .arguments import UsageError, load_model, report, tokens_of
from .look import PAGE, given_look, look_of
from .wording import in_options

if TYPE_CHECKING:
    from ..core.clip import ClipFrame
    from ..core.heatmap import Heatmap


class Asker:
    """One question to one model, which is loaded when the first picture asks it."""

    def __init__(self, args: argparse.Namespace) -> None:
        args.method = args.method or DEFAULTS["method"]
        self.args, self.options = args, method_options(args)
        self.figures = self._figures()
        self.model = cache(lambda: load_model(args))

    def explained(self, name: str, image: np.ndarray | ClipFrame) -> Heatmap:
        """name: of the picture, for errors that are its own."""
        return self.figures.explained(self.model(), image, name=name)

    def _figures(self) -> Figures:
        args = self.args
        sizes = {"patch_size": args.patch_size, "image_size": args.image_size, "scales": args.scales}
        return Figures(
            model=args.model,
            device=args.device,
            dtype=args.dtype,
            asked={**sizes, **tokens_of(args), **self._asked()},
            cell=args.patch,
            reading=reading_of(args),
            look=look_of(args),
            beside=args.beside,
            plain=args.plain,
        )

    def explained_clip(self, frames: Sequence[ClipFrame]) -> list[Heatmap]:
        """By a model of clips, all frames at once."""
        from ..api.explain_clip import explain_clip

        for name in ("patch", "patch_size", "image_size", "scales"):
            if getattr(self.args, name) is not None:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} is of models of single images, and {self.args.model} sees clips")
        return explain_clip(frames, model=self.model(), **self._asked())

    def _asked(self) -> dict[str, Any]:
        args = self.args
        return {
            "method": args.method,
            "layer": args.layer,
            "head": args.head,
            "target": int(args.target) if args.target is not None and args.target.isdecimal() else args.target,
            "attention_scale": args.attention_scale,
            **self.options,
        }


def beside_of(figure: Path, args: argparse.Namespace) -> list[Path]:
    """What is asked for beside a figure. UsageError where it would overwrite what vislab did not write."""
    others = [figure.with_suffix(f".{suffix}") for suffix in args.beside]
    for other in others:
        if other.exists() and not _is_ours(other, figure):
            raise UsageError(f"--beside would overwrite {str(other)!r}, which vislab did not write: move it away")
    return others


def _is_ours(path: Path, figure: Path) -> bool:
    """Whether what stands beside a figure was written there by vislab."""
    if path.suffix == ".npz":
        return is_figure(path)
    return (b'"vislab"' if path.suffix == ".json" else figure.name.encode()) in path.read_bytes()


def reading_of(args: argparse.Namespace) -> dict[str, Any]:
    """How photos are read, where that is asked for."""
    return {name: value for name in ("bands", "stretch") if (value := getattr(args, name)) is not None}


def method_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the method that are on the command line, by name."""
    entry = METHODS[args.method]
    chosen = {option: value for option in options() if (value := getattr(args, option.name)) is not None}
    for option in chosen:
        if option not in entry.options:
            takers = " and ".join(options()[option])
            raise UsageError(f"--{option.name} is an option of --method {takers}, not of {args.method}")
    if args.patch is not None and entry.with_query:
        raise UsageError(
            f"--method {args.method} shows what CLS attends to: leave --patch out, or take --method {entry.with_query}"
        )
    return {option.name: value for option, value in chosen.items()}


def check_plain(args: argparse.Namespace, paths: Iterable[Path]) -> None:
    """UsageError for what does not go with --plain."""
    from ..figures.plain import PLAIN

    if not args.plain:
        return
    for name in given_look(args, PAGE):
        raise UsageError(f"--{name} is of a page, and --plain draws none: leave one of them out")
    if "tex" in args.beside:
        raise UsageError("--beside tex is of a page, and --plain draws none: leave one of them out")
    wrong = next((path.suffix for path in paths if path.suffix.lower() not in PLAIN), None)
    if wrong:
        raise UsageError(
            f"--plain makes pictures, {', '.join(PLAIN)}, not {wrong}: take another --out, or leave it out"
        )


@contextmanager
def warnings_told(args: argparse.Namespace) -> Iterator[None]:
    """What vislab warns of, such as a picture that comes out black, is said as the command says all else."""
    with warnings.catch_warnings():
        plain = warnings.showwarning

        def show(message: Any, category: Any, *where: Any, **more: Any) -> None:
            if category is UserWarning:
                report(in_options(str(message), args.options), args.debug)
            else:
                plain(message, category, *where, **more)

        warnings.showwarning = show
        yield
