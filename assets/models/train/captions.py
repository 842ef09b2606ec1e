"""What can be said of Imagenette's classes: names at several levels, in several phrasings, and of two things at once.

A caption is true or false of a picture by the classes that the picture shows; nobody looked at the picture for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
PAD, UNKNOWN, BOS, EOS = range(4)
MOST = 24  # tokens of a text
# What each class is called, by the order of data.LABELS; the first is its label.
NAMES = (
    ("tench", "fish", "freshwater fish"),
    ("english springer", "springer", "spaniel", "dog", "hunting dog", "pet", "mammal"),
    ("cassette player", "tape player", "tape recorder", "cassette recorder", "radio", "stereo", "device"),
    ("chain saw", "chainsaw", "saw", "tool", "power tool"),
    ("church", "chapel", "cathedral", "building", "place of worship"),
    ("french horn", "horn", "brass instrument", "instrument", "musical instrument"),
    ("garbage truck", "rubbish truck", "truck", "lorry", "vehicle"),
    ("gas pump", "petrol pump", "fuel pump", "pump", "petrol station", "gas station"),
    ("golf ball", "ball", "small ball", "white ball"),
    ("parachute", "canopy", "flying thing"),
)
# Words for several classes, which are said like the names above.
GENERAL = {
    "animal": (0, 1),
    "living thing": (0, 1),
    "machine": (2, 3, 6, 7),
    "motor": (3, 6),
    "object": (2, 3, 4, 5, 6, 7, 8, 9),
    "thing for sport": (8, 9),
    "thing for music": (2, 5),
}
# What is said without an article.
LOOSE = {
    "wildlife": (0, 1),
    "something alive": (0, 1),
    "electronics": (2,),
    "architecture": (4,),
    "music": (2, 5),
    "traffic": (6,),
    "sport": (8, 9),
    "golf": (8,),
    "skydiving": (9,),
    "garbage": (6,),
    "petrol": (7,),
    "something that swims": (0,),
    "something that barks": (1,),
    "something with an engine": (3, 6),
    "something that flies": (9,),
    "something round": (8,),
}
PHRASES = (
    "{a}",
    "{the}",
    "{bare}",
    "a photo of {a}",
    "a photo of the {bare}",
    "a picture of {a}",
    "the picture of {a}",
    "an image of {a}",
    "this is {a}",
    "there is {a}",
    "there is {a} in the picture",
    "a photo with {a} in it",
    "{a} in an image",
)
HELD_OUT = ("in the photo there is {a}", "this is an image with {a} in it")  # never learned; of words that are
PAIRS = ("{a} and {b}", "a photo of {a} and {b}", "there is {a} and {b} in the picture", "a picture with {a} and {b}")
# Of what two are said at once: what each class is called, a plainer word, and a general one.
PAIRED = (
    *("tench", "fish", "english springer", "dog", "animal", "cassette player", "radio", "chain saw", "tool", "church"),
    *("building", "french horn", "instrument", "garbage truck", "truck", "vehicle", "gas pump", "petrol pump"),
    *("golf ball", "ball", "parachute"),
)


@dataclass(frozen=True)
class Caption:
    """A text, and of what it is true: of pictures that show, for each set of classes, one of the set."""

    text: str
    sets: tuple[frozenset[int], ...]


def things() -> dict[str, frozenset[int]]:
    """Every name that takes an article, and the classes that it is true of."""
    named = {name: frozenset([label]) for label, names in enumerate(NAMES) for name in names}
    return named | {name: frozenset(classes) for name, classes in GENERAL.items()}


def with_article(name: str) -> str:
    """
    >>> with_article("animal"), with_article("church")
    ('an animal', 'a church')
    """
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def said(phrase: str, name: str) -> str:
    """A name in a phrase."""
    return phrase.format(a=with_article(name), the=f"the {name}", bare=name)


def captions() -> list[Caption]:
    """All that is learned of single things: every name in every phrase but those held out, and what has no article."""
    found = [Caption(said(phrase, name), (classes,)) for phrase in PHRASES for name, classes in things().items()]
    for name, classes in LOOSE.items():
        found += [Caption(text, (frozenset(classes),)) for text in (name, f"a photo of {name}", f"a picture of {name}")]
    return found


def pairs() -> list[Caption]:
    """What is learned of two things, in both orders; no class is both."""
    sets = things()
    return [
        Caption(phrase.format(a=with_article(a), b=with_article(b)), (sets[a], sets[b]))
        for phrase in PAIRS
        for a, b in itertools.permutations(PAIRED, 2)
        if not sets[a] & sets[b]
    ]


def words() -> tuple[str, ...]:
    """Every word of the captions, after the special tokens: a token's id is its index."""
    return SPECIAL + tuple(dict.fromkeys(word for text in _texts() for word in text.split()))


def _texts() -> Iterator[str]:
    yield from (caption.text for caption in captions())
    yield from (caption.text for caption in pairs())
    yield "."


def new_tokenizer() -> PreTrainedTokenizerFast:
    """Words in any case, one token each."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words())}, unk_token=SPECIAL[UNKNOWN]))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[BOS]} $A {SPECIAL[EOS]}", special_tokens=[(SPECIAL[BOS], BOS), (SPECIAL[EOS], EOS)]
    )
    pad, unknown, bos, eos = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=pad,
        unk_token=unknown,
        bos_token=bos,
        eos_token=eos,
        model_max_length=MOST,
    )
