"""Errors of the engine in the words of the lab's page, where nobody writes Python."""

from __future__ import annotations

import re

from ..methods.registry import METHODS

_CODE = re.compile(r"vislab\.|\b\w+=|…|\w\(\)|pip install|transformers\.")  # what only who writes Python can follow
_BETWEEN = re.compile(r"((?<=[.;:]) (?=\S)|, (?=or ))")  # clauses
_NAMES = {
    "attention_scale": "scale",
    "image_size": "input size",
    "patch_size": "patch size",
    "two_stage": "“each box by itself”",
    "fovea_patches": "patches of the fovea",
    "heads_off": "heads off",
    "query": "the pinned patch",
    "confidence": "confidence",
    "'cls'": "CLS",
}


def plainly(words: str) -> str:
    """The same without the advice that is code, and with the names that the controls bear."""
    for name, method in METHODS.items():
        words = re.sub(rf"(?:the method )?method[= ]{name!r}", f"the method “{method.label}”", words)
        words = re.sub(rf"(such as|the method “[^.;]*) {name!r}", rf"\1 “{method.label}”", words)
    told = ""
    first, *others = _BETWEEN.split(words)
    for between, clause in [("", first), *zip(others[::2], others[1::2], strict=True)]:
        if not _CODE.search(clause):
            told += between + clause if told else clause.removeprefix("or ")
    told = told.strip().rstrip(":;,")
    for name, label in _NAMES.items():
        told = re.sub(rf"(?<![\w“]){re.escape(name)}(?![\w”])", label, told)
    told = told or "This cannot be done here"
    return told if told.endswith((".", "!", "?")) else f"{told}."
