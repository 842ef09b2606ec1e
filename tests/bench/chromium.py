"""Chromium as its own processes are seen: time and memory of the one that holds a page.

Playwright asks a browser to keep all that a page has loaded, which counts as memory of the page; here nothing is asked
but to evaluate, to choose a file, and to trace.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from websocket import WebSocket, create_connection

FLAGS = ["--no-sandbox", "--headless=new", "--no-first-run", "--disable-gpu", "--window-size=1280,900"]
FLAGS += ["--remote-debugging-port=0", "--remote-allow-origins=*"]
MAIN, WORKER = "CrRendererMain", "DedicatedWorker"  # names of threads: in a trace, in /proc


class Wire:
    """What is asked of a browser or of a page in it."""

    def __init__(self, address: str) -> None:
        self.socket: WebSocket = create_connection(address, timeout=120)
        self.last = 0
        self.events: list[dict[str, Any]] = []

    def __call__(self, method: str, **given: Any) -> Any:
        self.last += 1
        self.socket.send(json.dumps({"id": self.last, "method": method, "params": given}))
        while (answer := self._next()).get("id") != self.last:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def until(self, method: str) -> None:
        while self._next().get("method") != method:
            pass

    def _next(self) -> dict[str, Any]:
        message = json.loads(self.socket.recv())
        if message.get("method") == "Tracing.dataCollected":
            self.events += message["params"]["value"]
        return message


class Page:
    """A page of a browser of its own."""

    def __init__(self, port: int, root: psutil.Process) -> None:
        self.port, self.root = port, root
        [target] = [one for one in self._asked("json") if one["type"] == "page"]
        self.wire = Wire(target["webSocketDebuggerUrl"])

    def _asked(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}") as answer:
            return json.load(answer)

    def __call__(self, expression: str) -> Any:
        found = self.wire("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(expression)
            time.sleep(0.005)

    def goto(self, address: str) -> None:
        self.wire("Page.navigate", url=address)

    def choose(self, selector: str, file: Path) -> None:
        """A file for an input."""
        self.wire("DOM.enable")
        root = self.wire("DOM.getDocument")["root"]["nodeId"]
        node = self.wire("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.wire("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def collect(self) -> None:
        """Let the browser free what the page no longer holds."""
        self.wire("HeapProfiler.collectGarbage")
        time.sleep(1)

    @property
    def renderer(self) -> psutil.Process:
        """The process that holds the page: of the browser's own pages there are others."""
        found = [one for one in self.root.children(recursive=True) if "--type=renderer" in " ".join(one.cmdline())]
        return max(found, key=private)

    def spent(self, thread: str = "") -> float:
        """Milliseconds of processor time of the page's process so far, or of its thread "main" or "worker"."""
        pid = self.renderer.pid
        tasks = [Path(f"/proc/{pid}/task/{pid}")] if thread == "main" else list(Path(f"/proc/{pid}/task").iterdir())
        if thread == "worker":
            tasks = [task for task in tasks if (task / "comm").read_text().startswith(WORKER)]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6

    def longest(self, act: Callable[[], Any]) -> float:
        """Milliseconds of processor time of the longest task on the page's main thread while something goes on."""
        browser = Wire(self._asked("json/version")["webSocketDebuggerUrl"])
        traced = {"includedCategories": ["toplevel"], "excludedCategories": ["*"]}
        browser("Tracing.start", traceConfig=traced, transferMode="ReportEvents")
        act()
        browser("Tracing.end")
        browser.until("Tracing.tracingComplete")
        pid = self.renderer.pid
        own = [event for event in browser.events if event["pid"] == pid]
        threads = [event["tid"] for event in own if event["name"] == "thread_name" and event["args"]["name"] == MAIN]
        tasks = [event for event in own if event["name"].endswith("RunTask") and event["tid"] in threads]
        return max(event.get("tdur", 0) for event in tasks) / 1000


def private(process: psutil.Process) -> float:
    """MB of a process's private footprint as Chromium itself counts it: anonymous pages, and what was swapped."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "VmSwap:"))) / 1000


@contextmanager
def opened(*flags: str) -> Iterator[Page]:
    """An empty page in a Chromium of its own."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise FileNotFoundError("no Chromium: apt install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [chromium, *FLAGS, *flags, f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        root = psutil.Process(process.pid)
        try:
            stated = Path(folder) / "DevToolsActivePort"
            while not stated.exists() or not stated.read_text().strip():
                time.sleep(0.05)
            time.sleep(1)
            yield Page(int(stated.read_text().split()[0]), root)
        finally:
            for one in root.children(recursive=True):
                one.kill()
            process.kill()
            process.wait()
