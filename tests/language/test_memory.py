"""Laws of what an answer takes: at least what is kept of it, and refused before it runs where it does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from readers import CROSSED, FAMILIES, PICTURE, QUESTION, ask, pair

import vislab
from vislab.engine.attention import FusedCall
from vislab.engine.stepped import StepsCall
from vislab.evaluation.memory import Peak
from vislab.language import memory


def kept(answer: vislab.Answer) -> int:
    """Bytes of the queries and keys that an answer holds."""
    total = 0
    for site in answer.capture.sites.values():
        call = site.read()
        if isinstance(call, StepsCall):
            total += sum(part.numel() for part in (*call.steps, *call.k))
        elif isinstance(call, FusedCall):
            total += call.q.numel() + call.k.numel()
    return total * 4


@pytest.mark.parametrize("family", ["LLaVA-1.5", "Idefics3", "Gemma 3", "BLIP-2", "Qwen2-VL"])
def test_at_least_what_is_kept_and_not_more_than_is_taken(family: str) -> None:
    answer = ask(family)
    count = len(answer.words) + 4
    told = memory.needed(answer.reader, answer.inputs, answer.places, count)
    assert told > kept(answer)
    with Peak([answer.reader.module]) as peak:
        vislab.ask(PICTURE, QUESTION, model=answer.reader, answer=answer.text)
    assert told < 1.5 * peak.most


def test_every_family_tells_what_it_needs() -> None:
    for family in [*FAMILIES, *CROSSED]:
        answer = ask(family)
        few, many = (memory.needed(answer.reader, answer.inputs, answer.places, n) for n in (1, 1001))
        assert 0 < few < many


def test_what_does_not_fit_is_refused_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    module, processor = pair("LLaVA-1.5")
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)

    def never(**_: Any) -> None:
        raise AssertionError("it ran")

    monkeypatch.setattr(module, "generate", never)
    with pytest.raises(MemoryError, match=r"up to 64 tokens after \d+ \(16 of the image\) needs .* are free on cpu"):
        vislab.ask(PICTURE, QUESTION, model=module, processor=processor)


def test_a_prompt_longer_than_the_model_reads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module, processor = pair("LLaVA-1.5")
    with pytest.raises(ValueError, match=r"are 1,\d+ tokens \(16 of the image\), and .* reads 1,024: ask shorter"):
        vislab.ask(PICTURE, "what " * 1100, model=module, processor=processor)


@pytest.mark.parametrize("kind", ["quantized", "static", "offloaded_static"])
def test_caches_that_change_keys_are_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, processor = pair("LLaVA-1.5")
    monkeypatch.setattr(module.generation_config, "cache_implementation", kind)
    with pytest.raises(ValueError, match=rf"a cache of kind '{kind}'.*cache_implementation = None"):
        vislab.ask(PICTURE, QUESTION, model=module, processor=processor)


@pytest.mark.parametrize("image", [[], None, [PICTURE, PICTURE], torch.zeros(2)])
def test_no_image_and_several_are_one_sentence(image: object) -> None:
    module, processor = pair("LLaVA-1.5")
    with pytest.raises((ValueError, TypeError), match=r"image|array"):
        vislab.ask(image, QUESTION, model=module, processor=processor)
