"""What a notebook shows of an answer: its photograph and its words, each with the map of what it attended to."""

from __future__ import annotations

import base64
import html

import cv2
import numpy as np

from ..language.answer import Answer
from ..language.atlas import Atlas, atlas
from .colours import colours, colours_of, fraction
from .notebook import resized, shown_size
from .overlay import OPACITY
from .png import png

STYLE = """<style>
.vislab-words {{ position: relative; width: {width}px; font: 14px sans-serif }}
.vislab-words .word {{ display: inline-block; padding: 0 4px; margin: 2px 1px; border-radius: 4px; cursor: default;
  border: 1px solid currentColor; opacity: .8 }}
.vislab-words .word:hover, .vislab-words .word:focus {{ opacity: 1; outline: 2px solid #2a788e }}
.vislab-words .over {{ display: none; position: absolute; left: 0; top: 0; width: {width}px; height: {height}px;
  overflow: hidden; pointer-events: none }}
.vislab-words .word:hover .over, .vislab-words .word:focus .over {{ display: block }}
.vislab-words .over img {{ position: absolute; max-width: none; margin: 0; image-rendering: pixelated }}
</style>"""
SAYS = "Point at a word: where it attended, in the mean of all layers and heads, colours per word."


def page(answer: Answer) -> str:
    """HTML without scripts: pointing at a word, or reaching it with the Tab key, lays its map on the photograph.

    A map is the word's attention in the mean of all layers and heads, one pixel a cell, from 0 to its highest value;
    what a word says when the pointer rests on it is how much of its attention lies on the image.
    """
    height, width = shown_size((answer.image.shape[0], answer.image.shape[1]))
    photo = _source(resized(answer.image, (height, width)))
    zoom, maps = width / answer.image.shape[1], atlas(answer, "mean")
    words = " ".join(_word(answer, number, maps, zoom) for number in range(len(answer.words)))
    return (
        f'{STYLE.format(width=width, height=height)}<div class="vislab-words"><img src="{photo}" width="{width}" '
        f'height="{height}" style="max-width: none; margin: 0"><p><i>{html.escape(answer.question)}</i></p>'
        f"<p>{words}</p><p>{SAYS}</p></div>"
    )


def _word(answer: Answer, number: int, maps: Atlas, zoom: float) -> str:
    """zoom: px of the page for one of the photograph."""
    values, grid = maps.fused(number), answer.places.grid
    span = (0.0, float(values.max()) or 1.0)
    picture = colours(fraction(values.astype(np.float32), span), colours_of(span, "viridis"))
    height, width = grid.rows * grid.patch[0], grid.cols * grid.patch[1]
    x0, y0, x1, y1 = (zoom * edge for edge in answer.places.frame.box_to_source((0, 0, width, height)))
    place = f"left: {x0:.1f}px; top: {y0:.1f}px; width: {x1 - x0:.1f}px; height: {y1 - y0:.1f}px; opacity: {OPACITY}"
    said = f"{answer.image_share[number]:.0%} of its attention lies on the image"
    return (
        f'<span class="word" tabindex="0" title="{said}">{html.escape(answer.words[number].text)}'
        f'<span class="over"><img src="{_source(picture)}" alt="" style="{place}"></span></span>'
    )


def _source(rgb: np.ndarray) -> str:
    """A picture as the address of itself: JPEG where it is large, else PNG."""
    large = rgb.shape[0] * rgb.shape[1] > 10_000
    data = cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes() if large else png(rgb)
    return f"data:image/{'jpeg' if large else 'png'};base64,{base64.b64encode(data).decode()}"
