"""Which words a vision-language model can be asked with, where it knows few."""

from __future__ import annotations

from ..models import texts
from .reader import Reader

FEW = 200  # a vocabulary up to this many words can be listed


def vocabulary(reader: Reader) -> tuple[str, ...]:
    """All words of a model that knows few, in order; () of one that puts any word together from pieces."""
    tokenizer = reader.processor.tokenizer
    known = tokenizer.get_vocab()
    if len(known) > FEW or tokenizer.unk_token_id is None:
        return ()
    special = {*tokenizer.all_special_tokens, str(reader.processor.image_token)}
    words = (word for word in known if word not in special and any(map(str.isalnum, word)))
    return tuple(sorted(w for w in words if tokenizer(w, add_special_tokens=False).input_ids == [known[w]]))


def unknown_words(reader: Reader, question: str) -> list[str]:
    """The words of a question that the model does not know, and would read as one and the same."""
    return texts.unknown_words(reader.processor.tokenizer, question)
