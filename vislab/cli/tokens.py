"""vislab tokens: what is known before a forward."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.costs import attention_flops, attention_memory
from ..core.geometry import Grid
from ..models.known import DTYPES, READER
from ..models.tokens import BOX
from .arguments import UsageError, load_model, print_table, tokens_of

if TYPE_CHECKING:
    from ..models.outline import Outline


TOKENS_EPILOG = """\
examples:
  vislab tokens photo.jpg
  vislab tokens photo.jpg --patch-size 16 --image-size 640
  vislab tokens photo.jpg --image-size 2048 --json
  vislab tokens photo.jpg --keep 0.5
  vislab tokens photo.jpg --fovea 120,40,360,300 --merge 8
  vislab tokens photo.jpg --fovea box
  vislab tokens photo.jpg --model HuggingFaceTB/SmolVLM-256M-Instruct

Of a vision-language model it needs the configuration and the processor alone, no weights.
"""


def run_tokens(args: argparse.Namespace) -> int:
    from ..core.images import load_image
    from ..language.forecast import forecast, is_reader

    image = load_image(args.photo)
    height, width = image.shape[:2]
    if is_reader(args.model):
        if args.image_size or args.patch_size:
            raise UsageError(f"{args.model} sizes photos by its own processor: leave --image-size and --patch-size out")
        told = forecast(args.model, image)
        print(json.dumps(told, ensure_ascii=False, indent=2)) if args.json else print_table(_read(args.photo, told))
        return 0
    spent = tokens_of(args)
    if spent.get("fovea") == BOX:
        from ..api.detect import detect

        spent["fovea"] = detect(image)[:1]
    facts = _facts(*_model_and_device(args), (height, width), args, spent)
    if args.json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        print_table(_described(args.photo, facts))
    return 0


def _read(photo: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """What is known of a photo in a vision-language model, in words, with what the facts are called."""
    (height, width), (h, w), ends = facts["photo"], facts["input"], facts["ends"]
    views = "one view" if facts["views"] == 1 else f"{facts['views']} views, tiles and the whole photo"
    return {
        "photo": f"{photo}, {width} px wide and {height} px high",
        "model": f"{facts['model']}: {facts['family']}, {facts['layers']} layers, {facts['heads']} heads, width "
        f"{facts['dim']} of its language model",
        "input": f"{views}, {w} px wide and {h} px high" + (" each" if facts["views"] > 1 else ""),
        "grid": f"{facts['rows']} rows × {facts['cols']} cols of image tokens, the finest of the views",
        "tokens": f"{facts['image_tokens']:,} for the photo" + (f" ({ends} of them ends of lines)" if ends else ""),
        "attention": f"{_amount(facts['attention_flops'], 'FLOP')} over these in the language model's layers; "
        "its vision tower comes on top, which is not counted here",
    }


def _model_and_device(args: argparse.Namespace) -> tuple[Outline, str]:
    """The model with the device that it would run on: from its files alone where they say all, else it is loaded."""
    from ..models.config import outline_of
    from ..models.device import fastest

    device, outline = args.device or fastest(), outline_of(args.model)
    if outline is not None and device == "cpu":
        return outline, device
    try:
        model = load_model(args)
    except (OSError, ValueError) as error:
        if str(error).endswith("load('embedded')"):  # without a network nothing tells which kind of model it is
            raise type(error)(f"{error} (in place of a vision-language model, --model {READER})") from error
        raise
    return model, str(model.device)


def _facts(
    model: Outline, device: str, source: tuple[int, int], args: argparse.Namespace, spent: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known before a forward. Sizes are (height, width) in pixels, memory is in bytes.

    spent: how it spends its tokens, by the keywords of `explain`.
    """
    from ..models.device import free_memory

    grid, counts = _spent(model, source, args, spent)
    frame = model.frame(source, image_size=args.image_size, patch_size=args.patch_size)
    value = DTYPES[args.dtype]
    return {
        "photo": source,
        "model": model.name,
        "layers": model.layers,
        "heads": model.heads,
        "dim": model.dim,
        "dtype": args.dtype,
        "device": device,
        "input": frame.model,
        "visible": [round(side) for side in frame.visible],
        "patch": grid.patch,
        "rows": grid.rows,
        "cols": grid.cols,
        "prefix": grid.prefix,
        "suffix": grid.suffix,
        "tokens": counts[0],
        "counts": counts,
        "attention_flops_layer": attention_flops(counts[0], model.dim),
        "attention_flops": sum(attention_flops(count, model.dim) for count in counts),
        "maps_layer": attention_memory(counts[0], model.heads, 1, value),
        "maps": sum(attention_memory(count, model.heads, 1, value) for count in counts),
        "kept": sum(2 * count * model.dim * value for count in counts),
        "forecast": model.memory(Grid(1, counts[0], grid.patch), value),
        "free": free_memory(device),
    }


def _spent(
    model: Outline, source: tuple[int, int], args: argparse.Namespace, spent: Mapping[str, Any]
) -> tuple[Grid, list[int]]:
    """The grid, and how many tokens each layer attends over."""
    from ..models.budget import budget
    from ..models.tokens import Tokens

    tokens = Tokens.of(spent)
    if tokens is None:
        grid = model.grid(args.image_size, args.patch_size)
        return grid, [grid.tokens] * max(1, model.layers)
    planned = budget(model, tokens, source, image_size=args.image_size, patch_size=args.patch_size)
    return planned.cells, list(planned.counts)


def _described(photo: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts in words, with what they are called."""
    (height, width), (h, w), (x0, y0, x1, y1) = facts["photo"], facts["input"], facts["visible"]
    whole = (x0, y0, x1, y1) == (0, 0, width, height)
    seen = "the whole photo" if whole else f"the photo from x {x0} to {x1} and y {y0} to {y1}"
    others = facts["prefix"] + facts["suffix"]
    total = f"{facts['rows']} × {facts['cols']}" + (f" + {others}" if others else "") + f" = {facts['tokens']:,}"
    cells, counts = facts["rows"] * facts["cols"] + others, list(dict.fromkeys(facts["counts"]))
    if counts != [cells]:
        total = " → ".join(f"{count:,}" for count in counts) + ", layer by layer"
    fits = "" if facts["forecast"] <= facts["free"] else ": too little; take larger patches or a smaller image size"
    return {
        "photo": f"{photo}, {width} px wide and {height} px high",
        "model": f"{facts['model']}: {facts['layers']} layers, {facts['heads']} heads, width {facts['dim']}, "
        f"{facts['dtype']} on {facts['device']}",
        "input": f"{w} px wide and {h} px high, holds {seen}",
        "grid": f"{facts['rows']} rows × {facts['cols']} cols of patches of {' × '.join(map(str, facts['patch']))} px",
        "tokens": total + (f" ({others} of them no patch)" if others else ""),
        "attention": f"{_amount(facts['attention_flops_layer'], 'FLOP')} a layer, "
        f"{_amount(facts['attention_flops'], 'FLOP')} in all",
        "n² maps": f"{_amount(facts['maps_layer'], 'B')} a layer, {_amount(facts['maps'], 'B')} in all: not made",
        "q and k": f"{_amount(facts['kept'], 'B')} in all: what vislab keeps instead",
        "forecast": f"{_amount(facts['forecast'], 'B')} beside the weights, {_amount(facts['free'], 'B')} free{fits}",
    }


def _amount(value: float, unit: str) -> str:
    """A number with three digits and the prefix that suits it."""
    prefixes = ["", "k", "M", "G", "T", "P", "E"]
    while float(f"{value:.3g}") >= 1000 and len(prefixes) > 1:
        value /= 1000
        prefixes.pop(0)
    return f"{value:.3g} {prefixes[0]}{unit}"
