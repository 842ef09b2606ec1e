"""Laws of words: put together from the pieces that tokenizers make, each with its tokens."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vislab.language.words import Word, word_index, words_of


def by_bytes(*merged: str) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, as GPT-2's and its heirs are, with some runs of them as one piece each."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    pieces, merges = list(dict.fromkeys(alphabet)), []
    for word in merged:
        for length in range(2, len(word) + 1):
            if word[:length] not in pieces:
                pieces.append(word[:length])
                merges.append((word[: length - 1], word[length - 1]))
    made = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a red church.", ["a", "red", "church", "."]),
        (" A fish, on (the) hill!", ["A", "fish", ",", "on", "(", "the", ")", "hill", "!"]),
        ("it isn't well-known", ["it", "isn't", "well-known"]),
        ("Straße für Žižkov", ["Straße", "für", "Žižkov"]),
        ("教会 です。", ["教", "会", "で", "す", "。"]),
        ("two\n\nlines 🐟 here", ["two", "lines", "🐟", "here"]),
    ],
)
def test_every_script_has_its_words(text: str, words: list[str]) -> None:
    tokenizer = by_bytes("Ġchurch", "Ġthe", "ing", "two")
    ids = tokenizer(text).input_ids
    found = words_of(tokenizer, ids, 100)
    assert [word.text for word in found] == words
    assert tokenizer.decode(ids[: found[0].start - 100]).strip() == ""
    assert found[-1].stop == 100 + len(ids)
    for word, after in pairwise(found):
        assert word.start < word.stop <= after.start
        assert tokenizer.decode(ids[word.start - 100 : word.stop - 100]).strip() == word.text


def test_a_word_is_meant_by_its_text_or_its_place() -> None:
    words = [Word(text, n, n + 1) for n, text in enumerate(("A", "church", "and", "Church", "near"))]
    assert word_index(words, "Church") == 3  # case tells them apart
    assert (word_index(words, " a "), word_index(words, -1), word_index(words, "NEAR")) == (0, 4, 4)
    with pytest.raises(ValueError, match="says 'CHURCH' 2 times: choose by its place, target=1 or 3"):
        word_index(words, "CHURCH")
