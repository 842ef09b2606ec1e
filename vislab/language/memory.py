"""What an answer takes beside the weights, told before the model runs, and refused where it does not fit."""

from __future__ import annotations

from typing import Any

import torch

from ..models.device import free_memory
from .places import ImagePlaces
from .prompt import Inputs
from .reader import Reader


def needed(reader: Reader, inputs: Inputs, places: ImagePlaces, tokens: int) -> int:
    """Bytes that an answer of so many tokens takes at least: what is kept, and the widest layer's states.

    Kept are, of each token, the keys and values of the model's own cache, and the queries and keys that attention is
    recomputed from, of the language model and of the vision tower. Masks and what kernels take are not counted.
    """
    text, vision = reader.config.get_text_config(), reader.config.vision_config
    count, seen = inputs["input_ids"].shape[1] + tokens, _patches(places)
    heads = int(text.num_attention_heads)
    dim = int(getattr(text, "head_dim", 0) or text.hidden_size // heads)
    keyed = int(getattr(text, "num_key_value_heads", 0) or heads)
    side = int(getattr(vision, "embed_dim", 0) or vision.hidden_size)
    layers = int(getattr(vision, "num_hidden_layers", 0) or getattr(vision, "depth", 0))
    language = int(text.num_hidden_layers) * count * dim * (heads + 3 * keyed)
    wide = max(count * (_wide(text) + 2 * int(text.hidden_size)), seen * (_wide(vision) + 2 * side))
    return (language + layers * seen * 2 * side + wide) * torch.empty((), dtype=reader.dtype).element_size()


def check(reader: Reader, inputs: Inputs, places: ImagePlaces, tokens: int) -> None:
    """MemoryError where an answer needs more than is free; ValueError for a prompt longer than the model has places."""
    prompt, image = inputs["input_ids"].shape[1], int((inputs["input_ids"] == reader.image_token).sum())
    most = getattr(reader.config.get_text_config(), "max_position_embeddings", None)
    if most is not None and prompt >= most:
        raise ValueError(
            f"image and question are {prompt:,} tokens ({image:,} of the image), and {reader.name} reads {most:,}: ask "
            "shorter, or take a smaller image"
        )
    need, free = needed(reader, inputs, places, tokens), free_memory(reader.device)
    if need > free:
        smaller = "" if reader.dtype.itemsize < 4 else "dtype='bfloat16', "
        raise MemoryError(
            f"an answer of up to {tokens} tokens after {prompt:,} ({image:,} of the image) needs {need / 2**30:.2g} GB "
            f"beside the weights of {reader.name}, and {free / 2**30:.2g} GB are free on {reader.device}: take a "
            f"smaller image, fewer tokens, {smaller}or a smaller model"
        )


def _patches(places: ImagePlaces) -> int:
    """The vision tower's tokens, of all views."""
    return sum(view.grid.patches * (places.pool or 1) ** 2 for view in places.views)


def _wide(config: Any) -> int:
    """Of one token's states inside a layer."""
    for name in ("intermediate_size", "ffn_dim"):
        if isinstance(size := getattr(config, name, None), int):
            return size
    return 4 * int(getattr(config, "embed_dim", 0) or config.hidden_size)
