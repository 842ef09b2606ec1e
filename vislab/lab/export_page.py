"""One HTML page that holds what a lab shows, and needs neither network nor Python."""

from __future__ import annotations

import base64
import functools
import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.credits import credit_of
from ..methods.registry import METHODS
from ..models.outline import Outline
from . import face, lens, protocol
from .protocol import Message
from .runs import Kept
from .spoken import Spoken
from .stage import Stage, asked_of

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src blob: data:">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
main {{
  --jp-ui-font-color1: CanvasText;
  --jp-layout-color0: Canvas;
  --jp-layout-color2: color-mix(in srgb, CanvasText 10%, Canvas);
  --jp-border-color1: color-mix(in srgb, CanvasText 40%, Canvas);
  --jp-border-color2: color-mix(in srgb, CanvasText 20%, Canvas);
  --jp-brand-color1: light-dark(#1565c0, #64b5f6);
}}
body {{ margin: 16px auto; max-width: 1200px; padding: 0 16px; background: Canvas; color: CanvasText; }}
header h1 {{ font: 600 18px/1.4 system-ui, sans-serif; margin: 0; }}
header p {{ font: 14px/1.4 system-ui, sans-serif; margin: 0 0 12px; }}
{css}
</style>
</head>
<body>
<header>{heading}<p>{words}</p></header>
<main></main>
<script type="application/json" id="held">{held}</script>
<script type="application/json" id="module">{module}</script>
<script type="module">
const read = (id, reviver) => JSON.parse(document.getElementById(id).textContent, reviver);
const bytes = (key, value) => value?.base64 === undefined ? value
  : new DataView(Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0)).buffer);
const address = URL.createObjectURL(new Blob([read("module")], {{ type: "text/javascript" }}));
const {{ mount }} = await import(address);
URL.revokeObjectURL(address);
await mount(document.querySelector("main"), read("held", bytes)).ready;
document.documentElement.dataset.ready = "yes";
</script>
</body>
</html>
"""
BRIEF = 2e6  # bytes of layers in a page that stays in a notebook
BRIEFLY = (
    "The lab's last view, which still answers: point at a patch, choose a layer, a head or a scale. Run the cell for "
    "all the rest."
)
BRIEFLY_SPOKEN = (
    "The lab's last view, which still answers: point at a word, choose a layer or a head. Run the cell to ask anew."
)
FRAME = """<style>
.jp-OutputArea-child:has(+ .jp-OutputArea-child .vislab-held):not(:has(.vislab-lab)) {{ display: none; }}
.vislab-held:has(iframe) img {{ display: none; }}
.vislab-held iframe {{ width: 100%; height: 860px; border: 0; }}
</style>
<div class="vislab-held"><img alt="the lab's last view" src="data:image/jpeg;base64,{still}">
<iframe title="the lab's last view" loading="lazy" sandbox="allow-scripts" srcdoc="{page}"></iframe></div>"""


def held_page(
    stage: Stage,
    state: Mapping[str, Any],
    detector: Any,
    image: object,
    masks: Sequence[Message] = (),
    *,
    brief: bool = False,
) -> str:
    """What a stage shows, as a page. state: the settings and the photograph, as the face has them. masks: what it was
    told of them.

    brief: without the atlas, and with no more layers than BRIEF bytes, the shown one first.
    """
    assert stage.plain is not None
    panes = [shown for shown in stage.panes if shown is not None]
    first = panes[0]
    told = [
        protocol.about(),
        *(stage.view(pane, shown) for pane, shown in enumerate(panes)),
        protocol.plain(first.kept, stage.plain, first.settings, stage.rate),
        protocol.boxes(first.digest, stage.finding.detections if stage.finding else None),
        *([] if brief or not first.kept.model.attends else [protocol.atlas(first.kept)]),
        *([lens.early(first.kept)] if "lens" in first.kept.made else []),
        stage.closely(first, detector),
        *masks,
    ]
    if stage.worth.get("of") == asked_of(first):
        told += [message for method, message in [*stage.worth.items()] if method != "of"]
    layers = small_layers([(shown.kept, shown.settings["layer"]) for shown in panes], BRIEF if brief else math.inf)
    title, words = page_words(first.kept.model, first.heat.method, image)
    if brief:
        title, words = "", BRIEFLY
    return page(title, state, told, layers, words)


def spoken_page(
    spoken: Spoken, state: Mapping[str, Any], image: object, masks: Sequence[Message] = (), *, brief: bool = False
) -> str:
    """What a lab shows of an answer, as a page: its words, which can still be pointed at. masks: as of `held_page`."""
    assert spoken.said is not None
    answer, boxes = spoken.said.answer, spoken.stage.finding
    told = [protocol.about(), *spoken.messages(BRIEF if brief else math.inf), *masks]
    if boxes is not None:
        told.append(protocol.boxes(boxes.digest, boxes.detections))
    seen, credit = _seen(image)
    words = f"Model: {answer.reader.name}.{credit} Made with vislab; the model is not in this page."
    title, words = ("", BRIEFLY_SPOKEN) if brief else (f"{seen} · {answer.question}", words)
    return page(title, state, told, [], words)


def frame(text: str, still: str) -> str:
    """A page as an output of a notebook that is opened again; still: a JPEG in base64, for where no page may be shown.

    What stands before it, a widget without its kernel, is hidden.
    """
    return FRAME.format(page=html.escape(text, quote=True), still=still)


def nobody_looks() -> bool:
    """Whether a program runs the cell, such as nbconvert, which keeps what is there at its end and asks for no more."""
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and not getattr(kernel, "_allow_stdin", True)


def small_layers(panes: Sequence[tuple[Kept, Any]], most: float = math.inf) -> list[Message]:
    """What a page holds: every layer of the first picture's run, and of another's the one that it shows.

    most: bytes, of which the layers that are shown come first.
    """
    indices = [(kept, layer % kept.model.layers) for kept, layer in panes if layer != "mean" and kept.model.layers]
    first = panes[0][0]
    indices += [(first, index) for index in reversed(range(first.model.layers)) if (first, index) not in indices]
    held: list[Message] = []
    for kept, index in dict.fromkeys(indices):
        content, buffers = kept.once(("small", index), functools.partial(protocol.layer, kept, index, small=True))
        most -= sum(map(len, buffers))
        if most < 0:
            break
        held.append((content, buffers))
    return held


def page_words(model: Outline, method: str, image: object) -> tuple[str, str]:
    """The title of a page, and what stands below it: the model, and the photograph with its credit, if it has one."""
    label = METHODS[method].label if method in METHODS else method
    seen, by = _seen(image)
    attends = f"{model.layers} layers of {model.heads} heads" if model.attends else "no attention that is one map"
    return f"{seen} · {label}", f"Model: {model.name}, {attends}.{by} Made with vislab; the model is not in this page."


def _seen(image: object) -> tuple[str, str]:
    """What a photograph is called, and a sentence of who made it, "" where that is not known."""
    seen, credit = credit_of(image) or (Path(image).stem if isinstance(image, str | Path) else "a photograph", "")
    return seen, f" Photograph: {credit}." if credit else ""


def page(
    title: str, state: Mapping[str, Any], messages: Sequence[Message], layers: Sequence[Message], words: str = ""
) -> str:
    """One HTML file that needs neither network nor Python: the same face, fed with what a kernel would have said.

    words: what stands below its title.
    """
    held = {"state": dict(state), "messages": messages, "layers": layers}
    return PAGE.format(
        title=html.escape(title or "vislab"),
        heading=title and f"<h1>{html.escape(title)}</h1>",
        words=html.escape(words),
        css=face.style(),
        held=_json(held),
        module=_json(face.module()),
    )


def _json(value: Any) -> str:
    """JSON that can stand in a script element; bytes as {"base64": …}."""

    def encoded(one: Any) -> Any:
        if isinstance(one, bytes):
            return {"base64": base64.b64encode(one).decode()}
        raise TypeError(f"{type(one).__name__} has no place in a page")

    return json.dumps(value, default=encoded).replace("<", "\\u003c")
