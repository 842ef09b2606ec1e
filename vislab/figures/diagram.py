"""The diagram of a Vision Transformer, from pixels to class: one drawing, whose parts light up."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from ..core.checks import meant, one_of, shown
from ..core.files import assets


@dataclass(frozen=True)
class Diagram:
    """The drawing with some parts lit; shows itself as the last expression of a notebook cell.

    parts: which are lit. svg: the text of an SVG file, which stands alone.
    """

    parts: tuple[str, ...]
    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


def diagram(*parts: str) -> Diagram:
    """Draw how a Vision Transformer goes from pixels to a class, with some of its parts lit.

    parts: of "pixels", "patches", "tokens", "layer", "head", "qk", "softmax", "cls", "class". The Lab and the class
    page show the same drawing, and light the part on which the control in hand acts. Raises ValueError for another.

    >>> diagram("qk", "softmax").parts
    ('qk', 'softmax')
    """
    svg = drawing()
    for part in parts:
        if not one_of(part, names()):
            raise ValueError(
                f"the diagram has no part {shown(part)}{meant(part, names()) or ': it has ' + ', '.join(names())}"
            )
        svg = svg.replace(f'<g id="{part}">', f'<g id="{part}" class="lit">')
    return Diagram(parts, svg)


@functools.cache
def drawing() -> str:
    """The text of the file, in which nothing is lit."""
    return (assets() / "vit.svg").read_text(encoding="utf-8")


def names() -> tuple[str, ...]:
    """The parts, as the model goes through them."""
    return tuple(re.findall(r'<g id="(\w+)">', drawing()))


_STYLE = re.compile(r"(?s)\s*<style>\n(.*?)\s*</style>")


def bare() -> str:
    """The drawing for a page that has its `style` in its own sheet: one with a strict policy allows no other."""
    return _STYLE.sub("", drawing())


def style() -> str:
    """The drawing's own style sheet; its colours are those of the page, where there is one."""
    [text] = _STYLE.findall(drawing())
    return re.sub(r"(?m)^ {4}", "", text) + "\n"
