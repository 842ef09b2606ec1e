"""vislab models: the models that come with vislab, and names to begin with."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .arguments import print_table

if TYPE_CHECKING:
    from ..models.outline import Outline


def run_models(args: argparse.Namespace) -> int:
    from ..models.config import outline_of
    from ..models.known import KNOWN, READER, TWINS, WORDED

    print("Embedded, needs no network:")
    reader = {READER: "a vision-language model: answers vislab ask, and shows where each word looks"}
    print_table({f"  {name}": words for name, words in (TWINS | WORDED | reader).items()})
    if found := outline_of("embedded"):
        print(f"  The twins: {_introduced(found)}")
    print("\nTo begin with, of families that the tests go through; downloaded when first used:")
    print_table({f"  {name}": words for name, words in KNOWN.items()})
    print("\nAny other model of these families works by its name on the hub, timm/NAME and torchvision/NAME included,")
    print("and any folder with its config.json and model.safetensors. What cannot be read exactly is refused by name.")
    print("\nDetectors have a command of their own: vislab detect --help")
    return 0


def _introduced(model: Outline) -> str:
    height, width = model.preprocessing.size
    size = f"{model.layers} layers, patches of {model.patch[0]} px, input {height}×{width} px"
    return f"{size}, {len(model.labels)} classes: {', '.join(model.labels)}" if model.labels else size
