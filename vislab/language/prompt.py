"""From an image and a question to what a vision-language model takes, by its own chat template where it has one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.checks import first_line
from .places import ImagePlaces
from .reader import Reader
from .ways import begun

Inputs = dict[str, Any]
# Where no chat template says how an image and a question stand in a text, by family; elsewhere one after the other.
PLAIN = dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), "<|vision_start|>{image}<|vision_end|>{question}")
PLAIN["blip-2"] = "Question: {question} Answer:"


def prompted(reader: Reader, image: np.ndarray, question: str) -> tuple[Inputs, ImagePlaces]:
    """What the model is given, on its device and in its dtype, and where its image tokens are.

    image: (H, W, 3) uint8. Raises ValueError for a question that holds the mark of an image, for a template that has
    no place for one image, and where the tokens that the processor made are not as many as the family's rule says.
    """
    mark = str(getattr(reader.processor, "image_token", ""))
    if mark and mark in question:
        raise ValueError(f"the question holds {mark}, which stands for an image: leave it out, there is one already")
    picture = Image.fromarray(image)
    with _own_errors(reader):
        made = reader.processor(images=[picture], text=[_text(reader, mark, question)], return_tensors="pt")
    inputs = begun(reader.config, {name: value for name, value in made.items() if name != "labels"})
    places = reader.places((image.shape[0], image.shape[1]), inputs)
    count = int((inputs["input_ids"] == reader.image_token).sum())
    held = places.count if places.marks is None else places.marks
    if count != held:
        raise ValueError(
            f"{reader.name} was given {count} image tokens, and the rule of {reader.family} has {held}: its "
            "processor is not the family's own, or says another size than the model's configuration"
        )
    return {name: _moved(value, reader) for name, value in inputs.items()}, places


def extended(inputs: Inputs, more: Tensor) -> Inputs:
    """The inputs of one forward over prompt and answer. more: (tokens,), what follows the prompt.

    Words of an answer are no part of the image, nor, where that is told (PaliGemma), of the prefix, in which all tokens
    see each other: kinds of tokens that are 0 for all of the prompt are 1 from here on.
    """
    count, out = len(more), dict(inputs)
    out["input_ids"] = torch.cat([inputs["input_ids"], more[None].to(inputs["input_ids"].device)], 1)
    for name, kind in (("attention_mask", 1), ("mm_token_type_ids", 0), ("token_type_ids", None)):
        if name in inputs:
            had = inputs[name]
            kind = int(not had.any()) if kind is None else kind
            out[name] = torch.cat([had, had.new_full((1, count), kind)], 1)
    if "cross_attention_mask" in inputs:
        had = inputs["cross_attention_mask"]
        out["cross_attention_mask"] = torch.cat([had, had[:, -1:].expand(-1, count, -1, -1)], 1)
    return out


def _text(reader: Reader, mark: str, question: str) -> str:
    processor = reader.processor
    if not reader.way.marked:
        return PLAIN.get(reader.config.model_type, "{question}").format(question=question)
    if getattr(processor, "chat_template", None):
        said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        with _own_errors(reader):
            text = str(processor.apply_chat_template(said, add_generation_prompt=True, tokenize=False))
        start = getattr(processor.tokenizer, "bos_token", None)
        if start and text.startswith(start) and _starts(processor.tokenizer, start):
            text = text.removeprefix(start)  # the tokenizer puts it there itself
    else:
        text = PLAIN.get(reader.config.model_type, "{image}{question}").format(image=mark, question=question)
    if text.count(mark) != 1:
        raise ValueError(
            f"the chat template of {reader.name} has {text.count(mark)} places for images ({mark}), and one image is "
            "asked about: give a processor with another chat_template, or with none"
        )
    return text


def _starts(tokenizer: Any, start: str) -> bool:
    """Whether a tokenizer begins each text with its first token by itself."""
    ids = tokenizer("a").input_ids
    return bool(ids) and ids[0] == tokenizer.convert_tokens_to_ids(start)


def _moved(value: Any, reader: Reader) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to(reader.device, reader.dtype) if value.is_floating_point() else value.to(reader.device)


@contextmanager
def _own_errors(reader: Reader) -> Iterator[None]:
    """What a processor or its template cannot do is said with its name."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(
            f"the processor of {reader.name} ({type(reader.processor).__name__}) cannot take an image and this question"
            f" ({first_line(error)}): check that it is the model's own"
        ) from error
