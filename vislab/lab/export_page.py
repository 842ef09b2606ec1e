"""One HTML page that holds what a lab shows, and needs neither network nor Python."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.credits import credit_of
from ..methods.registry import METHODS
from ..models.outline import Outline
from . import face
from .protocol import Message, layer
from .runs import Kept

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
<header><h1>{title}</h1><p>{words}</p></header>
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


def small_layers(panes: Sequence[tuple[Kept, Any]]) -> list[Message]:
    """What a page holds: every layer of the first picture's run, and of another's the one that it shows."""
    first, *others = panes
    indices = [(first[0], index) for index in range(first[0].model.layers)]
    indices += [(kept, layer % kept.model.layers) for kept, layer in others if kept is not first[0] and layer != "mean"]
    return [layer(kept, index, small=True) for kept, index in indices]


def page_words(model: Outline, method: str, image: object) -> tuple[str, str]:
    """The title of a page, and what stands below it: the model, and the photograph with its credit, if it has one."""
    label = METHODS[method].label if method in METHODS else method
    seen, credit = credit_of(image) or (Path(image).stem if isinstance(image, str | Path) else "a photograph", "")
    attends = f"{model.layers} layers of {model.heads} heads" if model.attends else "no attention that is one map"
    by = f" Photograph: {credit}." if credit else ""
    return f"{seen} · {label}", f"Model: {model.name}, {attends}.{by} Made with vislab; the model is not in this page."


def page(
    title: str, state: Mapping[str, Any], messages: Sequence[Message], layers: Sequence[Message], words: str = ""
) -> str:
    """One HTML file that needs neither network nor Python: the same face, fed with what a kernel would have said.

    words: what stands below its title.
    """
    held = {"state": dict(state), "messages": messages, "layers": layers}
    return PAGE.format(
        title=html.escape(title),
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
