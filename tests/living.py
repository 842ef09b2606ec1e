"""A Lab in a bare page of Chromium, its Python in this process: as a notebook has it, without starting one."""

from __future__ import annotations

import base64
import queue
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

import vislab
from vislab.lab import face
from vislab.lab.widget import Lab

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

CANVAS = ".vislab-lab figure > canvas"
# In the page: what the first view of the lab holds.
HOLDS = f"const lab = document.querySelector('{CANVAS}').lab, [pane, second] = lab.panes, {{ store }} = lab;"
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><style>body {{ margin: 8px; }} {css}</style>
<body><main></main></body></html>"""
# In the page: settings and messages that go to Python and come from it, as anywidget's model has them.
PORT = """async ([module, state]) => {
    const view = (value) => value?.base64 === undefined ? value
        : new DataView(Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0)).buffer);
    const text = (buffer) => {
        const bytes = new Uint8Array(buffer.buffer ?? buffer);
        let letters = "";
        for (const byte of bytes) letters += String.fromCharCode(byte);
        return btoa(letters);
    };
    const held = Object.fromEntries(Object.entries(state).map(([name, value]) => [name, view(value)]));
    const listeners = {}, dirty = {};
    const tell = (event, ...what) => { for (const one of listeners[event] ?? []) one(...what); };
    const model = {
        get: (name) => held[name] ?? null,
        set(name, value) { held[name] = value; dirty[name] = value; },
        save_changes() {
            const changed = { ...dirty };
            for (const name of Object.keys(dirty)) delete dirty[name];
            if (Object.keys(changed).length) window.toPython("state", changed, []);
            tell("change");
        },
        on(event, listener) { (listeners[event] ??= []).push(listener); },
        off(event, listener) { listeners[event] = (listeners[event] ?? []).filter((one) => one !== listener); },
        send(content, _, buffers = []) { window.toPython("message", content, buffers.map(text)); },
    };
    window.fromPython = (all) => {
        for (const [kind, content, buffers] of all) {
            if (kind === "message") { tell("msg:custom", content, buffers.map(view)); continue; }
            const names = Object.keys(content).filter((name) => !(name in dirty));
            for (const name of names) held[name] = view(content[name]);
            for (const name of names) tell(`change:${name}`);
            tell("change");
        }
    };
    window.kernelGone = () => tell("comm_live_update");
    const url = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
    const face = (await import(url)).default;
    const el = document.createElement("div");
    document.querySelector("main").append(el);
    face.render({ model, el });
    const poll = async () => { window.fromPython(await window.askPython()); setTimeout(poll, 15); };
    poll();
}"""


def _bare(value: Any) -> Any:
    """Bytes as {"base64": …}, all else as JSON has it."""
    if isinstance(value, bytes | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {key: _bare(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_bare(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


class Living:
    """A lab and the page that shows it; `sent` counts what the page told Python."""

    def __init__(self, page: Page, *given: Any, **settings: Any) -> None:
        self.page, self.errors, self.sent = page, [], []
        self._news: queue.SimpleQueue[tuple[str, Any, list[Any]]] = queue.SimpleQueue()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.lab = Lab(*given, **settings)
        self.lab.send = self._told  # what a kernel would send
        self.lab._stage.send = self._told
        self.lab.send_state = self._state
        page.expose_function("toPython", self._heard)
        page.expose_function("askPython", self._all)
        page.set_content(PAGE.format(css=face.style()))
        state = {name: _bare(value) for name, value in self.lab.get_state().items()}
        page.evaluate(PORT, [face.module(), state])

    def _told(self, content: Any, buffers: Any = None) -> None:
        self._news.put(("message", _bare(content), [_bare(bytes(one)) for one in buffers or []]))

    def _state(self, key: Any = None) -> None:
        names = self.lab.keys if key is None else [key] if isinstance(key, str) else key
        self._news.put(("state", _bare(self.lab.get_state(list(names))), []))

    def _all(self) -> list[Any]:
        news = []
        with suppress(queue.Empty):
            while True:
                news.append(self._news.get_nowait())
        return news

    def _heard(self, kind: str, content: Any, buffers: list[str]) -> None:
        self.sent.append((kind, content))
        if kind == "state":
            self.lab.set_state(content)
        else:
            self.lab._asked(self.lab, content, [base64.b64decode(one) for one in buffers])

    def __call__(self, expression: str) -> Any:
        return self.page.evaluate(f"() => {{ {HOLDS} return {expression}; }}")

    def until(self, expression: str, seconds: float = 60) -> None:
        self.page.wait_for_function(f"() => {{ {HOLDS} return {expression}; }}", timeout=seconds * 1000)

    def ready(self, mapped: bool = True) -> None:
        """Until all that was asked for is shown; mapped: a map among it."""
        self.page.wait_for_timeout(60)
        shown = "lab.panes[0].shown && " if mapped else ""
        self.until(f"{shown}store.state.about && lab.ui.status.dataset.state !== 'computing'")

    def control(self, label: str) -> Locator:
        return self.page.locator(".vislab-lab").get_by_label(label, exact=True)

    def button(self, name: str) -> Locator:
        return self.page.locator(".vislab-lab").get_by_role("button", name=name, exact=True)

    def fold(self, name: str) -> None:
        self.page.locator(".vislab-lab summary", has_text=name).click()

    def text(self, selector: str) -> str:
        return self.page.locator(f".vislab-lab {selector}").first.inner_text()

    def over(self, row: int, col: int, pane: int = 0) -> tuple[float, float]:
        """The middle of a patch on the screen."""
        box = self.page.locator(CANVAS).nth(pane).bounding_box()
        rows, cols = self("[pane.shown.grid.rows, pane.shown.grid.cols]")
        return box["x"] + box["width"] * (col + 0.5) / cols, box["y"] + box["height"] * (row + 0.5) / rows

    def pixels(self, pane: int = 0) -> np.ndarray:
        """What the canvas shows -> (H, W, 3)."""
        url = self.page.locator(CANVAS).nth(pane).evaluate("c => c.toDataURL('image/png')")
        return vislab.load_image(base64.b64decode(url.split(",")[1]))

    def values(self) -> np.ndarray:
        return np.float32(self("[...pane.values]")).reshape(self("[pane.shown.grid.rows, pane.shown.grid.cols]"))
