"""Laws of answers: recorded as the model attends, the same words with and without, and one sentence for bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from readers import FAMILIES, PICTURE, QUESTION, SAID, TEXT, ask, llava, pair, token
from torch import Tensor

import vislab
from vislab.language import reader as readers
from vislab.language.prompt import extended, prompted
from vislab.language.reader import Reader, reader_of


class Given(hf.LogitsProcessor):
    """Makes a model say what it is given."""

    def __init__(self, ids: Tensor, prompt: int) -> None:
        self.ids, self.prompt = ids, prompt

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        return torch.full_like(scores, -torch.inf).index_fill(1, self.ids[ids.shape[1] - self.prompt, None], 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_the_models_own_step_by_step_and_of_one_forward(family: str) -> None:
    answer = ask(family)
    prompt = answer.inputs["input_ids"].shape[1]
    eager, _ = pair(family, "eager")
    forced = [Given(answer.ids[prompt:], prompt)]
    own = eager.generate(
        **answer.inputs, max_new_tokens=len(answer.ids) - prompt, do_sample=False, logits_processor=forced,
        output_attentions=True, return_dict_in_generate=True,
    )  # fmt: skip
    assert own.sequences[0].equal(answer.ids)
    whole = extended(answer.inputs, answer.ids[prompt:-1])
    with torch.no_grad(), vislab.capture(answer.reader.module) as once:
        answer.reader.module(**whole, use_cache=False)
    for layer, site in enumerate(answer.sites):
        rows, start = answer.capture.attention(site, slice(None)), 0
        torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]))
        for step in own.attentions:
            queries, keys = step[layer].shape[2:]
            stop = start + queries
            torch.testing.assert_close(rows[:, :, start:stop, stop - keys : stop], step[layer], rtol=0, atol=1e-5)
            start = stop
        assert start == site.keys
        torch.testing.assert_close(rows, once.attention(site.name, slice(None)), rtol=0, atol=1e-5)
    assert answer.shares.shape == (len(answer.words), 2, 4, 3)
    np.testing.assert_allclose(answer.shares.sum(-1), 1, atol=1e-5)
    assert ((answer.image_share > 0) & (answer.image_share < 1)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_says_what_it_says_without(family: str) -> None:
    module, processor = pair(family)
    inputs, places = prompted(Reader(family, module, processor), PICTURE, QUESTION)
    plain = module.generate(**inputs, max_new_tokens=6, do_sample=False)[0]
    if not processor.tokenizer.decode(plain[inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip():
        with pytest.raises(ValueError, match="with nothing: ask otherwise"):
            ask(family, None, tokens=6)
        return
    answer = ask(family, None, tokens=6)
    assert answer.ids.equal(plain)
    assert answer.finished == (int(plain[-1]) == 2)
    assert not answer.given
    assert len(answer.image_tokens) == places.count
    assert not module._forward_hooks


def test_words_know_their_tokens() -> None:
    answer = ask()
    assert [word.text for word in answer.words] == ["a", "church", "lies", "left", "of", "churches", "."]
    church, churches = answer.words[1], answer.words[5]
    assert churches.stop - churches.start == 2
    assert answer.rows(5) == [churches.start - 1, churches.start]
    assert int(answer.ids[church.start]) == token("church")
    assert (str(church), answer.finished, answer.given) == ("church", True, True)
    assert answer.words[-1].stop == len(answer.ids)
    assert "church" in repr(answer)


def test_a_chat_template_is_the_prompt() -> None:
    module, processor = FAMILIES["LLaVA-1.5"].pair()
    processor.chat_template = (
        "{{ bos_token }}user : {% for m in messages %}{% for part in m.content %}{% if part.type == 'image' %}<image>"
        "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %} assistant :{% endif %}"
    )
    reader = Reader("llava", module, processor)
    ids = prompted(reader, PICTURE, "what is it ?")[0]["input_ids"][0].tolist()
    assert ids[:3] == [1, token("user"), token(":")]  # one beginning, not two
    assert ids[-2:] == [token("assistant"), token(":")]
    processor.chat_template = "<image> <image>"
    with pytest.raises(ValueError, match="has 2 places for images"):
        prompted(reader, PICTURE, "what ?")
    processor.chat_template = "{{ nothing.at.all }}"
    with pytest.raises(ValueError, match=r"cannot take an image and this question \(.*own"):
        prompted(reader, PICTURE, "what ?")


def test_progress_is_told_and_stops_it() -> None:
    told: list[tuple[int, int]] = []
    ask(progress=lambda done, most: told.append((done, most)))
    assert told == [(n, 8) for n in range(8)]

    def stop(done: int, most: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(progress=stop)
    assert not pair("LLaVA-1.5")[0]._forward_hooks


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"answer": " "}, "answer is a text to explain, or None"),
        ({"answer": "<image>"}, "has none, or stands for an image"),
        ({"tokens": 0}, "runs from 1 to 4,096, not 0"),
        ({"question": ""}, "question is a text"),
        ({"question": "<image> and <image> ?"}, "there is one already"),
        ({"image": [PICTURE, PICTURE]}, "one image is asked about, not 2"),
        ({"device": "cpu"}, "leave device and dtype out"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(how: dict[str, Any], said: str) -> None:
    module, processor = pair("LLaVA-1.5")
    with pytest.raises(ValueError, match=said):
        vislab.ask(how.pop("image", PICTURE), how.pop("question", QUESTION), model=module, processor=processor, **how)


def test_what_is_no_vision_language_model_is_refused_by_name() -> None:
    _, processor = pair("LLaVA-1.5")
    llama = hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT))
    with pytest.raises(ValueError, match=r"LlamaForCausalLM has no image tokens.*LLaVA-1.5, LLaVA-NeXT"):
        vislab.ask(PICTURE, QUESTION, model=llama, processor=processor)
    with pytest.raises(TypeError, match="no vision-language model of transformers"):
        vislab.ask(PICTURE, QUESTION, model=torch.nn.Linear(2, 2), processor=processor)
    with pytest.raises(TypeError, match="model is a vision-language model, not int"):
        vislab.ask(PICTURE, QUESTION, model=3)
    with pytest.raises(ValueError, match=r"needs its processor.*not NoneType"):
        vislab.ask(PICTURE, QUESTION, model=pair("LLaVA-1.5")[0])
    module, processor = llava("sdpa")
    module.config.model_type = "fuyu"
    with pytest.raises(ValueError, match=r"family 'fuyu'\) are is not known.*vislab.capture\(module, steps=True\)"):
        vislab.ask(PICTURE, QUESTION, model=module, processor=processor)


def test_caches_and_processors_that_do_not_fit_are_refused() -> None:
    module, processor = FAMILIES["LLaVA-1.5"].pair()
    module.generation_config.cache_implementation = "static"
    with pytest.raises(ValueError, match=r"cache of kind 'static'.*cache_implementation = None"):
        vislab.ask(PICTURE, QUESTION, model=module, processor=processor)
    module.generation_config.cache_implementation = None
    module.generation_config.max_length, module.generation_config.num_return_sequences = 20, 2
    with pytest.raises(ValueError, match="cannot answer"):
        vislab.ask(PICTURE, QUESTION, model=module, processor=processor)
    module, processor = FAMILIES["LLaVA-1.5"].pair()
    processor.patch_size = 16
    with pytest.raises(ValueError, match=r"was given 4 image tokens, and the rule of LLaVA-1.5 has 16"):
        vislab.ask(PICTURE, QUESTION, model=module, processor=processor)


def test_errors_of_a_model_are_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    module, processor = FAMILIES["LLaVA-1.5"].pair()
    for error, kind, said in (
        (torch.OutOfMemoryError("CUDA"), MemoryError, "too many for the memory of cpu.*fewer tokens"),
        (RuntimeError("shapes\nand more"), ValueError, "cannot answer: shapes."),
        (vislab.AttentionRefused("by name"), vislab.AttentionRefused, "by name"),
    ):

        def fail(error: BaseException = error, **_: Any) -> None:
            raise error

        monkeypatch.setattr(module, "generate", fail)
        with pytest.raises(kind, match=said):
            vislab.ask(PICTURE, QUESTION, model=module, processor=processor)


def test_what_attends_unseen_is_refused() -> None:
    module, processor = FAMILIES["LLaVA-1.5"].pair()
    module.set_attn_implementation("flex_attention")
    with pytest.raises(ValueError, match=r"attends by 'flex_attention'.*set_attn_implementation\('sdpa'\)"):
        vislab.ask(PICTURE, QUESTION, model=module, processor=processor)


def test_a_folder_is_loaded_once_with_its_processor(tmp_path: Path) -> None:
    module, processor = pair("LLaVA-1.5")
    module.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    asked = vislab.ask(PICTURE, QUESTION, model=tmp_path, answer=SAID, device="cpu", dtype="float64")
    assert asked.reader is reader_of(str(tmp_path), device="cpu", dtype=torch.float64)
    assert asked.reader.dtype == torch.float64
    np.testing.assert_allclose(asked.image_share, ask().image_share, atol=1e-4)
    assert any(entry.kind == "reader" for entry in vislab.cache().entries)
    with pytest.raises(ValueError, match="brings its own processor"):
        vislab.ask(PICTURE, QUESTION, model=tmp_path, processor=processor)
    with pytest.raises(ValueError, match="dtype is float32"):
        vislab.ask(PICTURE, QUESTION, model=tmp_path, dtype="int3")
    (tmp_path / "preprocessor_config.json").unlink(missing_ok=True)
    (tmp_path / "processor_config.json").unlink(missing_ok=True)
    (tmp_path / "tokenizer.json").unlink()
    readers.READERS.clear()
    with pytest.raises(OSError, match="cannot load"):
        vislab.ask(PICTURE, QUESTION, model=tmp_path)
    with pytest.raises(ValueError, match=r"family 'vit', and vislab.ask reads"):
        vislab.ask(PICTURE, QUESTION, model=Path(vislab.__file__).parents[1] / "assets/models/vit-tiny-imagenette")


@pytest.mark.parametrize(
    ("name", "said"), [("smolvlm", "unknown vision-language model"), ("\0", "unknown vision-language model")]
)
def test_a_name_that_is_none(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        vislab.ask(PICTURE, QUESTION, model=name)


def test_a_name_that_is_not_here() -> None:
    with pytest.raises(OSError, match=r"cannot load 'nobody/nothing'.*Check the name and the network"):
        vislab.ask(PICTURE, QUESTION, model="nobody/nothing")


def test_a_given_reader_bears_the_name_that_it_was_given(tmp_path: Path) -> None:
    module, processor = pair("LLaVA-1.5")
    answer = vislab.ask(PICTURE, QUESTION, model=module, processor=processor, answer=SAID, name="my reader")
    heat = vislab.explain(answer, target="church")
    assert heat.settings["model"] == "my reader"
    path = vislab.save(tmp_path / "word.png", heat)
    assert "model my reader" in vislab.provenance(path)["caption"]
    assert vislab.reproduce(path, image=PICTURE, model=(module, processor)).differences == ()
    with pytest.raises(ValueError, match="embedded-reader has a name already"):
        vislab.ask(PICTURE, QUESTION, name="mine")
