"""How many tokens a picture becomes in a vision-language model, by configuration and processor: without weights."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..core.checks import first_line
from ..core.costs import attention_flops
from ..core.files import assets, place_of
from ..models.known import EMBEDDED, READER_FOLDERS
from .rules import RULES, Shown
from .ways import way_of


def is_reader(name: str) -> bool:
    """Whether a name or folder is that of a vision-language model of a known family; on the hub that is looked up."""
    if name in READER_FOLDERS:
        return True
    with suppress(ValueError, OSError):
        config = place_of(name) / "config.json"
        if config.is_file():
            return json.loads(config.read_text(encoding="utf-8")).get("model_type") in RULES
        if name not in EMBEDDED and "/" in name and not name.startswith((".", "/", "~", "timm/", "torchvision/")):
            from ..models.hub import part, safely

            return part("AutoConfig").from_pretrained(name, **safely(name)).model_type in RULES
    return False


def forecast(name: str, image: np.ndarray) -> dict[str, Any]:
    """What is known before any weights are there. image: (H, W, 3) uint8. Sizes are (height, width) in pixels.

    Raises OSError where the name or folder has no processor.
    """
    from ..models.hub import part, quiet, safely

    if name in READER_FOLDERS:
        where = str(assets() / "models" / READER_FOLDERS[name])
    else:
        where = str(place_of(name)) if Path(place_of(name)).is_dir() else name
    try:
        with quiet():
            config, processor = (
                part(kind).from_pretrained(where, **safely(where)) for kind in ("AutoConfig", "AutoProcessor")
            )
    except (OSError, ValueError, ImportError) as error:
        raise OSError(f"{name} does not tell how it is shown images: {first_line(error)}") from error
    text = str(processor.image_token) if way_of(config.model_type).marked else "a"
    inputs = processor(images=[Image.fromarray(image)], text=[text], return_tensors="pt")
    usual, rule = RULES[config.model_type]
    places = rule(Shown(config, processor, (image.shape[0], image.shape[1]), inputs))
    text, view = config.get_text_config(), places.views[0]
    marks = places.marks if way_of(config.model_type).kind == "queries" else None
    count, placed = marks or places.count, sum(int((one.tokens >= 0).sum()) for one in places.views)
    return {
        "photo": (image.shape[0], image.shape[1]),
        "model": name,
        "family": usual,
        "views": len(places.views),
        "input": view.frame.model,
        "rows": places.grid.rows,
        "cols": places.grid.cols,
        "image_tokens": count,
        "ends": places.count - placed if places.marks is None else 0,
        "layers": text.num_hidden_layers,
        "heads": text.num_attention_heads,
        "dim": text.hidden_size,
        "attention_flops": attention_flops(count, text.hidden_size, text.num_hidden_layers),
    }
