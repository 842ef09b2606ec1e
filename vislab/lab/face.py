"""The Lab's face as the one module and the one style sheet that notebooks and exported pages take."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from ..figures import diagram

STATIC = Path(__file__).parent / "static"

# The modules of static/. Each imports only those before it, and in this order they are joined; what the last exports,
# the face exports.
ORDER = (
    "numbers",  # attention from queries and keys
    "colours",  # values as pixels
    "blends",  # how a map lies on its photograph
    "masks",  # runs as pixels, edges and colours
    "places",  # pixels, patches, tokens, and what those cost
    "words",  # numbers and names, written
    "store",  # all that changes in a view
    "settings",  # what the controls say, and what follows from it
    "tokens",  # how they are spent, and what stands for a patch
    "choices",  # what menus list, and where sliders stop
    "operands",  # queries and keys, fetched and kept
    "passing",  # tokens on their way through the layers
    "seen",  # what that is, in one sentence
    "looks",  # an answer's words, and where they look
    "asking",  # what is asked in words
    "reading",  # what a pane shows, in values and words
    "sight",  # which part of the photograph is seen
    "definitions",  # each control and number in one sentence
    "acts",  # on which part of the model each control acts
    "elements",  # made and filled
    "diagram",  # the model in one drawing
    "help",  # those, where they are shown
    "acting",  # the drawing, lit where the control in hand acts
    "chips",  # the words of an answer, to be pointed at
    "prompt",  # a question, or a text that is looked for
    "marks",  # what there is to press for masks, and their words
    "present",  # the picture takes the window
    "ink",  # lines and shades on a canvas
    "masking",  # masks on the photograph, and what the segmenter was shown
    "regions",  # of tokens, on the photograph
    "tiles",  # image tokens as the grids that they are
    "gone",  # which patches are gone
    "picture",  # the pictures and their colour bars
    "build",  # the elements of a view
    "controls",  # menus and sliders, bound to settings
    "sizes",  # of patches and input, which go together
    "history",  # undo and redo
    "pointing",  # hover and pins
    "fovea",  # drawn, moved and cleared
    "marking",  # points and boxes for the segmenter
    "spending",  # keep, merge, and why not
    "zooming",  # closer to the photograph
    "keyboard",  # arrow keys, Escape
    "knockout",  # heads off and on
    "atlas",  # all heads
    "lens",  # what the head would say early
    "methods",  # all methods
    "removal",  # patches taken away
    "files",  # photographs, figures and code that come and go
    "costs",  # tokens, and what attention over them takes
    "label",  # all words and numbers beside the pictures
    "answers",  # what comes from Python
    "main",  # a view in a notebook, or in a page
)

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\.\.?/(?:[\w./]+/)?(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async function|function|const) )", re.MULTILINE)
_TOP = re.compile(r"^(export )?(?:async function|function|const|let) (\w+)", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)


@functools.cache
def module() -> str:
    """The text of the one ES module: `mount(element, held)`, and what anywidget asks for as its default export."""
    return join({name: (STATIC / f"{name}.js").read_text(encoding="utf-8") for name in ORDER})


def style() -> str:
    """The text of its style sheet, with that of the diagram in it."""
    return (STATIC / "lab.css").read_text(encoding="utf-8") + diagram.style()


def join(modules: Mapping[str, str]) -> str:
    """The text of ES modules, by name and in the order in which they import each other, as the text of one.

    They may say `import { a, b } from "./name.js";` and `export` before a function or a const. Raises ValueError where
    one imports what is not before it or not there, where two declare the same name, and for anything else that would
    not survive.
    """
    exported: dict[str, set[str]] = {}
    home: dict[str, str] = {}  # name -> the module that declares it
    texts = []
    for here, text in modules.items():
        for names, there in _IMPORT.findall(text):
            _check_import(here, {name.strip() for name in names.split(",") if name.strip()}, there, exported)
        exported[here] = set()
        for export, name in _TOP.findall(text):
            if name in home:
                raise ValueError(f"{home[name]}.js and {here}.js both declare {name!r}: one must bear another name")
            home[name] = here
            if export:
                exported[here].add(name)
        last = here == list(modules)[-1]
        text = _IMPORT.sub("", text)
        text = text if last else _EXPORT.sub("", text)
        for left in _LEFT.findall(text):
            if left.startswith("import") or not last:
                raise ValueError(
                    f"{here}.js says {left!r}, which cannot be joined: {here}.js may write "
                    '`import { a, b } from "./name.js";`, and `export` before a function or a const'
                )
        texts.append(text.strip() + "\n")
    return "\n".join(texts)


def _check_import(here: str, names: set[str], there: str, exported: Mapping[str, set[str]]) -> None:
    if there not in exported:
        raise ValueError(f"{here}.js imports {there}.js, which is not before it: it may import {', '.join(exported)}")
    if missing := sorted(names - exported[there]):
        has = ", ".join(sorted(exported[there]))
        raise ValueError(f"{here}.js imports {', '.join(missing)} from {there}.js, which exports {has}")
