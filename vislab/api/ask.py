"""From an image and a question to an answer whose words can be explained."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.checks import first_line, shown, whole
from ..core.images import load_image
from ..engine.capture import Capture
from ..engine.hooks import capture
from ..engine.site import AttentionRefused
from ..language import memory
from ..language.answer import Answer
from ..language.prompt import Inputs, extended, prompted
from ..language.reader import Reader, reader_of
from ..language.request import TOKENS
from ..language.ways import asked
from ..language.words import words_of
from ..models.known import READER
from ..models.modes import evaluating

LONGEST = 4096  # tokens of an answer
Progress = Callable[[int, int], None]
Heard = Callable[[list[int], int], None]


def ask(
    image: Any,
    question: str,
    *,
    model: str | Path | nn.Module | Reader | Any = READER,
    answer: str | None = None,
    tokens: int = TOKENS,
    processor: Any = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    progress: Progress | None = None,
    name: str | None = None,
) -> Answer:
    """What a vision-language model says of an image, with all that is needed to see where each word looks.

    image: what `load_image` takes, one of them. question: a text; the model's own chat template is put around it.
    model: "embedded-reader", which comes with vislab, a name on the hub, a folder, or a module of transformers with its
    processor. answer: a text to explain in place of the model's own, as if it had said that. tokens: the most that an
    answer may have. device, dtype: of what is loaded by name; by default the fastest there is, and float32. progress:
    told (tokens so far, the most). name: what a given module is called in captions and records, by default its class.

    The embedded reader is a tiny LLaVA-NeXT, trained on scenes put together of pictures of ten classes: its card, in
    assets/models/reader-imagenette, says what it can be asked, and how often it is right.

    The model runs as it is, greedily, with its fused attention: the answer is the one that it gives without vislab, in
    the memory of a plain forward. Attention is recorded on the way, and read when someone asks. Of BLIP, BLIP-2 and
    InstructBLIP, whose language models generate by themselves, one forward over prompt and answer is recorded after it.

    Image tokens are among the language model's own, or they are the queries of a Q-Former (BLIP-2, InstructBLIP), whose
    map a word's is put together of, or words cross to the image in some layers (Mllama, BLIP captions), which are the
    layers that `explain` counts of them.

        answer = vislab.ask("photo.jpg", "where is the church ?")
        heat = vislab.explain(answer, target=0)
        name = "HuggingFaceTB/SmolVLM-256M-Instruct"
        answer = vislab.ask("photo.jpg", "What is on the hill?", model=name)  # needs the network
        heat = vislab.explain(answer, target="church")  # needs the network

    Raises ValueError for a model without image tokens or of a family whose image tokens vislab does not place, several
    images, an empty question or answer, a prompt longer than the model reads; MemoryError, before it runs, where an
    answer would not fit; OSError where the hub or the folder does not give the model.
    """
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"question is a text that asks something of the image, not {shown(question)}")
    if answer is not None and (not isinstance(answer, str) or not answer.strip()):
        raise ValueError(f"answer is a text to explain, or None for the model's own, not {shown(answer)}")
    if not whole(tokens) or not 1 <= tokens <= LONGEST:
        raise ValueError(f"tokens, the most that the answer may have, runs from 1 to {LONGEST:,}, not {shown(tokens)}")
    if isinstance(image, list | tuple):
        raise ValueError(f"one image is asked about, not {len(image)}: call vislab.ask once for each")
    reader = reader_of(model, processor=processor, device=device, dtype=dtype, name=name)
    picture = load_image(image)
    heard = None if progress is None else lambda said, most: progress(len(said), most)
    return answered(reader, picture, question, answer=answer, tokens=tokens, heard=heard)


def answered(
    reader: Reader,
    picture: np.ndarray,
    question: str,
    *,
    answer: str | None = None,
    tokens: int = TOKENS,
    heard: Heard | None = None,
) -> Answer:
    """The answer of a model that is ready; see `ask`. picture: (H, W, 3) uint8.

    heard: told, before each token, (the tokens said so far, the most); what it raises leaves the answer off.
    """
    inputs, places = prompted(reader, picture, question)
    forced = None if answer is None else _pieces(reader, answer)
    memory.check(reader, inputs, places, tokens if forced is None else len(forced))
    ids, cap = _captured(reader, inputs, forced, tokens, heard)
    prompt = inputs["input_ids"].shape[1]
    said, ends = ids[prompt:].tolist(), _ends(reader)
    finished = said[-1] in ends
    spoken = said[:-1] if finished else said
    tokenizer = reader.processor.tokenizer
    words = words_of(tokenizer, spoken, prompt)
    if not words:
        raise ValueError(
            f"{reader.name} answers {shown(question)} with nothing: ask otherwise, or give the words that are to be "
            "explained, answer=…"
        )
    text = tokenizer.decode(spoken, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
    return Answer(
        text if forced is None else str(answer),
        words,
        question,
        picture,
        forced is not None,
        finished or forced is not None,
        tokens,
        ids,
        reader,
        inputs,
        cap,
        places,
    )


def _pieces(reader: Reader, answer: str) -> list[int]:
    """The tokens of a text that is given as an answer."""
    ids: list[int] = reader.processor.tokenizer(answer, add_special_tokens=False).input_ids
    if not ids or reader.image_token in ids:
        raise ValueError(f"answer is a text of the model's words, and {shown(answer)} has none, or stands for an image")
    return ids


def _ends(reader: Reader) -> set[int]:
    """The tokens by which the model ends an answer."""
    said: Any = reader.generation_config.eos_token_id
    if reader.config.model_type == "blip":
        said = reader.config.text_config.sep_token_id
    return {*said} if isinstance(said, list | tuple) else {said}


def _captured(
    reader: Reader, inputs: Inputs, forced: list[int] | None, tokens: int, heard: Heard | None
) -> tuple[Tensor, Capture]:
    """Prompt and answer, (tokens,), and what attended on the way.

    Where the language model generates by itself, its forwards are not the model's: then one forward over all tokens is
    captured, which attends as they did.
    """
    module = reader.module
    with reader.lock, evaluating(module), capture(module, steps=True) if not reader.way.alone else nullcontext() as cap:
        ids = _generated(reader, inputs, forced, tokens, heard)
        if cap is None:
            more = ids[inputs["input_ids"].shape[1] : -1]
            with torch.no_grad(), capture(module) as cap:
                module(**extended(inputs, more), use_cache=False)
    return ids, cap


def _generated(reader: Reader, inputs: Inputs, forced: list[int] | None, tokens: int, heard: Heard | None) -> Tensor:
    """Prompt and answer, as the model says it, or as it is given -> (tokens,)"""
    cache = reader.generation_config.cache_implementation
    if cache is not None and not str(cache).startswith("dynamic"):
        raise ValueError(
            f"{reader.name} generates with a cache of kind {cache!r}, which changes keys that were read before: set "
            "model.generation_config.cache_implementation = None"
        )
    most, prompt = tokens if forced is None else len(forced), inputs["input_ids"].shape[1]

    def step(ids: Tensor, scores: Tensor) -> Tensor:
        done = ids.shape[1] - prompt
        if heard is not None:
            heard(ids[0, prompt:].tolist(), most)
        if forced is None:
            return scores
        only = torch.full_like(scores, -torch.inf)
        only[:, forced[done]] = 0
        return only

    try:
        ids: Tensor = reader.module.generate(  # type: ignore[operator]
            **asked(reader.config, inputs),
            max_new_tokens=most,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            logits_processor=[step],
        )
    except AttentionRefused:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise MemoryError(
            f"{prompt} tokens and up to {most} more are too many for the memory of {reader.device} ({reader.dtype}): "
            "take a smaller image, fewer tokens, dtype='bfloat16', or a smaller model"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{reader.name} cannot answer: {first_line(error)}") from error
    return ids[0]
