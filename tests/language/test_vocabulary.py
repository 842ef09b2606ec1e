"""Laws of the words that a model can be asked with: those it lists it knows, and no other of a small vocabulary."""

from __future__ import annotations

import numpy as np
from readers import pair

from vislab.language.card import card
from vislab.language.reader import Reader, reader_of
from vislab.language.vocabulary import unknown_words, vocabulary


def tiny() -> Reader:
    return Reader("tiny", *pair("LLaVA-1.5"))


def test_what_is_listed_is_known() -> None:
    for reader in (tiny(), reader_of("embedded-reader")):
        words = vocabulary(reader)
        assert {"church", "where", "left"} <= {*words}
        assert not {"?", ".", "<unk>", "<image>", "##ch"} & {*words}
        assert unknown_words(reader, " ".join(words)) == []


def test_what_is_strange_is_named_once_and_without_marks() -> None:
    reader = reader_of("embedded-reader")
    assert unknown_words(reader, "Where is the zebra, and the ZEBRA? On a zebra !") == ["zebra", "ZEBRA", "!"]
    assert unknown_words(reader, "Where is the Church?") == []


def test_a_model_that_spells_knows_every_word() -> None:
    reader = tiny()
    tokenizer = reader.processor.tokenizer
    before, tokenizer.unk_token = tokenizer.unk_token, None
    try:
        assert unknown_words(reader, "a zebra") == []
        assert vocabulary(reader) == ()
    finally:
        tokenizer.unk_token = before


def test_the_card_asks_in_words_that_are_known() -> None:
    reader = reader_of("embedded-reader")
    questions = card("embedded-reader").questions
    assert len(questions) >= 5
    assert [unknown_words(reader, question) for question in questions] == [[] for _ in questions]
    assert (reader.layers, reader.heads) == (4, 4)
    assert np.unique(questions).size == len(questions)
