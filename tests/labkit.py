"""Starts an isolated JupyterLab or Notebook 7 on loopback, and works in it with a browser as a user would."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

App = Literal["jupyterlab", "notebook"]

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
    # Otherwise cells that are scrolled away are not in the page, nor are their pictures; and no room below the last.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none", "scrollPastEnd": False},
}
# Python runs this first, in the server and in its kernels: whoever asks beyond loopback is refused, and written down.
LOOPBACK_ONLY = """
import sys

def loopback_only(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else str(host or "")
    if host in ("", "0.0.0.0", "::", "::1", "localhost") or host.startswith("127."):
        return
    with open({asked!r}, "a", encoding="utf-8") as file:
        print(host, file=file)
    raise OSError(f"no network in tests: {{host}}")

sys.addaudithook(loopback_only)
"""
# In the page: the notebook, and its code cells that hold code.
NOTEBOOK = "const panel = jupyterapp.shell.currentWidget, notebook = panel?.content;"
CODE = "const code = notebook.widgets.filter(c => c.model.type === 'code' && c.model.sharedModel.source.trim());"


@dataclass(frozen=True)
class Server:
    """A running server. asked: a file with the hosts beyond loopback that it or its kernels asked for, one a line."""

    app: App
    url: str
    token: str
    asked: Path

    def outside(self) -> list[str]:
        return self.asked.read_text(encoding="utf-8").split() if self.asked.exists() else []


@contextmanager
def only(*names: str) -> Iterator[None]:
    """Of the methods these alone; afterwards all of them, in the order they had."""
    from vislab.methods.registry import METHODS

    every = dict(METHODS)
    for name in every.keys() - set(names):
        del METHODS[name]
    try:
        yield
    finally:
        METHODS.clear()
        METHODS.update(every)


@contextmanager
def serve(app: App, notebooks: Path) -> Iterator[Server]:
    """A server over a folder, with settings, data and kernels of its own, all of which end with the block."""
    with (
        tempfile.TemporaryDirectory(prefix="vislab-jupyter-", ignore_cleanup_errors=True) as folder,
        _sigterm_unwinds(),
    ):
        home, token = Path(folder), secrets.token_hex(16)
        with (home / "log").open("wb") as log:
            process = psutil.Popen(
                _command(app, home, notebooks),
                env=environment(home, token),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt at the keyboard is ours to handle, not the server's
            )
            try:
                yield Server(app, _address(process, home), token, home / "asked")
            finally:
                end(process)


def _command(app: App, home: Path, notebooks: Path) -> list[str]:
    (home / "overrides.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    face = {"jupyterlab": "LabApp", "notebook": "JupyterNotebookApp"}[app]
    settings = [
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        f"--ServerApp.root_dir={notebooks}",
        f"--{face}.app_settings_dir={home}",
        f"--{face}.expose_app_in_browser=True",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    return [sys.executable, "-m", app, "--no-browser", "--allow-root", *settings]


def environment(home: Path, token: str) -> dict[str, str]:
    code = home / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(LOOPBACK_ONLY.format(asked=str(home / "asked")), encoding="utf-8")
    # A user without a network has not told the libraries so: nothing may be asked for all the same.
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    return kept | {
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_TOKEN": token,  # not on the command line, where everyone on the machine can read it
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "PYTHONPATH": os.pathsep.join([str(code), str(ROOT)]),
    }


def _address(process: psutil.Popen, home: Path, seconds: float = 180) -> str:
    """Where the server listens: it writes that down once it does."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        for file in (home / "runtime").glob("jpserver-*.json"):
            with suppress(ValueError):  # half written
                return str(json.loads(file.read_text(encoding="utf-8"))["url"])
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{(home / 'log').read_text(errors='replace')[-4000:]}")


def end(process: psutil.Popen) -> None:
    """End the server, which then ends its kernels; whatever outlives that is killed."""
    with suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=15)
        for one in alive:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(alive, timeout=5)


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """SIGTERM, by which CI and `timeout` stop a run, would leave the server behind: make it what Ctrl+C is."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def browse(chromium: str) -> Iterator[Browser]:
    """A headless Chromium that resolves no name beyond loopback."""
    from playwright.sync_api import sync_playwright

    flags = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    flags += ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        try:
            yield browser
        finally:
            browser.close()


def beyond_loopback(url: str) -> bool:
    """Whether a page that asks for an address asks the network."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme not in ("about", "blob", "data") and parts.hostname not in ("127.0.0.1", "localhost")


def open_notebook(page: Page, server: Server, name: str) -> None:
    """Open a notebook, and wait for its cells and its kernel."""
    where = {"jupyterlab": f"lab/tree/{name}?reset&", "notebook": f"notebooks/{name}?"}[server.app]
    page.goto(f"{server.url}{where}token={server.token}")
    # Without a connected kernel, running the cells would ask for one in a dialog that nobody answers.
    page.wait_for_function(
        f"""() => {{
            if (!window.jupyterapp?.commands.hasCommand('notebook:run-all-cells')) return false;
            {NOTEBOOK}
            const kernel = panel?.sessionContext?.session?.kernel;
            return notebook?.widgets?.length && panel.sessionContext.isReady
                && kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
        }}""",
        timeout=240_000,
    )


def run_all(page: Page, seconds: float = 240) -> None:
    """Run every cell; AssertionError with the error of the first that fails."""
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_function(
        f"""() => {{
            {NOTEBOOK} {CODE}
            const failed = cell => cell.model.outputs.toJSON().some(output => output.output_type === 'error');
            return panel.sessionContext.session.kernel.status === 'idle'
                && (code.every(cell => cell.model.executionCount !== null) || code.some(failed));
        }}""",
        timeout=seconds * 1000,
        polling=200,
    )
    failures = [
        f"{output['ename']}: {output['evalue']}, in\n{cell['source']}"
        for cell in code_cells(page)
        for output in cell["outputs"]
        if output["output_type"] == "error"
    ]
    assert not failures, failures[0]


def execute(page: Page, code: str) -> None:
    """Run code in the notebook's kernel, once it has heard all that the page said; what it shows is not shown."""
    page.evaluate(
        f"""async (code) => {{
            {NOTEBOOK}
            const reply = await panel.sessionContext.session.kernel.requestExecute({{ code }}).done;
            if (reply.content.status !== 'ok') throw new Error(reply.content.evalue);
        }}""",
        code,
    )


def code_cells(page: Page) -> list[dict[str, Any]]:
    """The code cells as the notebook's model holds them (source and outputs), joined by the `pictures` that the page
    shows of each: (natural width, natural height, shown width), px."""
    page.wait_for_function("() => [...document.querySelectorAll('.jp-OutputArea img')].every(i => i.complete)")
    return page.evaluate(
        f"""() => {{
            {NOTEBOOK} {CODE}
            return code.map(cell => ({{
                ...cell.model.toJSON(),
                pictures: [...cell.node.querySelectorAll('.jp-OutputArea img')]
                    .map(i => [i.naturalWidth, i.naturalHeight, i.clientWidth]),
            }}));
        }}"""
    )


def screenshot(page: Page, path: Path) -> Path:
    """The whole notebook as a picture, however long it is."""
    size = page.viewport_size
    assert size is not None
    hidden = f"""async () => {{
        {NOTEBOOK}
        const box = notebook.node.querySelector('.jp-WindowedPanel-outer') ?? notebook.node;
        await new Promise(laidOut => setTimeout(laidOut, 200));
        box.scrollTop = 0;
        return box.scrollHeight - box.clientHeight;
    }}"""
    height = size["height"]
    while more := page.evaluate(hidden):
        height += more
        page.set_viewport_size({"width": size["width"], "height": height})
    page.screenshot(path=path)
    page.set_viewport_size(size)
    return path
