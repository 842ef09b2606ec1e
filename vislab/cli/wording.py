"""What errors advise, in the words of a terminal: options in place of Python's keywords, commands in place of calls."""

from __future__ import annotations

import re
from collections.abc import Collection

COMMANDS = {
    "explain": "vislab figure",
    "explain_box": "vislab figure --box",
    "explain_clip": "vislab figure",
    **{name: f"vislab {name}" for name in ("ask", "detect", "evaluate", "reproduce", "segment")},
    "save": "vislab figure",
    "provenance": "vislab show",
}
LOADERS = {"load": "--model", "load_detector": "--detector"}
_INSIDE = r"\((?:[^()]|\([^()]*\))*\)"
_CODE = re.compile(rf"(?<![\w/])(?:in Python )?vislab\.(\w+)((?:{_INSIDE})?(?:\.\w+(?:{_INSIDE})?)*)")
_VALUE = r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]|\([^)]*\)|…|True\b|-?[\d.]*\d|(?!\w)"


def in_options(message: str, options: Collection[str]) -> str:
    """A message with what it says of Python's keywords said of options. options: a command's own, such as "--method".

    What no option does stays Python, and is called so.

    >>> in_options("take method='otsu', or leave image_size out", ["--method", "--image-size"])
    'take --method otsu, or leave --image-size out'
    >>> in_options("vislab.load(module, grid=…) tells", ["--model"])
    'in Python vislab.load(module, grid=…) tells'
    >>> in_options("give model='folder', or model=module", ["--model"])
    'give --model folder, or model=module'
    """
    message = message.replace(", or its pixels as an array (H, W, 3)", "")  # no option takes one
    told, end = "", 0
    for found in _CODE.finditer(message):
        told += _text(message[end : found.start()], options) + _call(found, options)
        end = found.end()
    return told + _text(message[end:], options)


def _call(found: re.Match[str], options: Collection[str]) -> str:
    """A call of Python as the command that does the same, or as what it is."""
    name, rest = found[1], found[2]
    loaded = re.fullmatch(r"\('([^']+)'\)", rest)
    if loaded and (option := LOADERS.get(name)) in options:
        return f"{option} {loaded[1]}"
    if not rest and name in COMMANDS:
        return COMMANDS[name]
    plain = found[0].removeprefix("in Python ")
    return f"in Python {plain}" if rest else plain


def _text(words: str, options: Collection[str]) -> str:
    """Words between calls, with each keyword that is an option as the option."""
    names = {option.removeprefix("--").replace("-", "_"): option for option in options if option.startswith("--")}
    if not names:
        return words
    if "patch" in names:  # who asks is a patch there, by its row and column
        names["query"] = names["patch"]
    some = "|".join(sorted(names, key=len, reverse=True))
    words = re.sub(rf"(?<![\w-])({some})=({_VALUE})", lambda one: f"{names[one[1]]}{_value(one[2])}", words)

    def left(found: re.Match[str]) -> str:
        named = re.sub(rf"(?<![\w-])({some})\b", lambda one: names[one[1]], found[1])
        return f"leave {named} out"

    words = re.sub(
        rf"\bhas no ({some}), leave it out", lambda one: f"has no {one[1]}, leave {names[one[1]]} out", words
    )
    words = re.sub(r"\bleave ((?:[\w-]+(?:, | and | or )?)+?) out\b", left, words)
    two = "|".join(name for name in names if "_" in name)
    return re.sub(rf"(?<![\w-])({two})\b", lambda one: names[one[1]], words) if two else words


def _value(source: str) -> str:
    """The value of a keyword as it is typed after its option."""
    if source in ("", "True"):
        return ""
    if source[0] == "[":
        texts = re.findall(r"['\"]([^'\"]*)['\"]", source) or [source[1:-1]]
        return f' "{", ".join(texts)}"'
    if source[0] == "(":
        return " " + re.sub(r"[()\s]", "", source).strip(",")
    return f" {source[1:-1]}" if source[0] in "'\"" else f" {source}"
