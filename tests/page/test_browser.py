"""The class page as it is used: in Chromium, from a disk and from a server, offline, and with a silent console."""

from __future__ import annotations

import base64
import functools
import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kernel
import numpy as np
import pytest
from core.test_images import linear_profile
from lab.test_browser import CONTRAST
from PIL import Image

import vislab
from vislab.page.class_page import class_site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CANVAS = "figure.picture > canvas[role=application]"
CARD = "section.card:not([hidden])"
# In the page: a worker of its own, whose model gives the logits of photographs.
LOGITS = """async ([photographs, code, weights]) => {
    const part = (name) => [...document.querySelectorAll(`script[data-part="${name}"]`)].map((one) => one.textContent);
    const worker = new Worker(URL.createObjectURL(new Blob(part('worker.js'))));
    const ask = (message) => new Promise((reply) => {
        worker.onmessage = ({ data }) => reply(data);
        worker.postMessage(message);
    });
    const { form } = JSON.parse(document.getElementById('about').textContent);
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const [kernel, held] = [code, weights].map((text) => ({ pieces: [bytes(text)] }));
    await ask({ kind: 'open', kernel, weights: held, form });
    const all = new Float32Array(form.layers * form.heads).fill(1), found = [];
    const wish = { patch: form.patch, scale: all, on: all, lens: -1 };
    for (const text of photographs) {
        const blob = new Blob([bytes(text)]);
        await ask({ kind: 'photo', name: 'one', blob, side: form.side });
        const { run } = await ask({ kind: 'run', photo: 'one', wish });
        found.push(Array.from(run.logits));
    }
    worker.terminate();
    return found;
}"""


class Tab:
    """A page that is open, with what its console said and what it asked of the network."""

    def __init__(self, browser: Browser, address: str, script: str = "", **options: Any) -> None:
        self.context = browser.new_context(
            reduced_motion="reduce", **{"viewport": {"width": 1200, "height": 860}, **options}
        )
        self.said: list[str] = []
        self.asked: list[str] = []
        self.context.on("request", lambda request: self.asked.append(request.url))
        if script:
            self.context.add_init_script(script)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(address)

    def __call__(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def until(self, expression: str, seconds: float = 30) -> None:
        """Playwright's own waiting evaluates in the page, which the page's policy forbids."""
        end = time.monotonic() + seconds
        while not self(f"Boolean({expression})"):
            assert time.monotonic() < end, f"{expression}: {self.said} {self('document.body.innerText')[:800]}"
            time.sleep(0.02)

    def ready(self, runs: int = 1) -> None:
        self.until(f"document.documentElement.dataset.runs >= {runs}")
        self.until("!document.querySelector('header .state').textContent.includes('Computing')")

    @property
    def runs(self) -> int:
        return int(self("document.documentElement.dataset.runs"))

    def text(self, selector: str) -> str:
        """What is written once what has changed was drawn."""
        self("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => drawn(null))))")
        return self.page.locator(selector).first.inner_text()

    def close(self) -> None:
        self.context.close()
        assert self.said == []


@pytest.fixture(scope="module")
def model() -> vislab.Model:
    return vislab.load("embedded", device="cpu")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vislab.class_page(tmp_path_factory.mktemp("page") / "class.html")


@pytest.fixture
def tab(browser: Browser, file: Path) -> Iterator[Callable[..., Tab]]:
    """Opens the page from the disk; afterwards nothing was said, and nothing was asked but the file itself."""
    opened: list[Tab] = []

    def opening(hash_: str = "", **options: Any) -> Tab:
        opened.append(Tab(browser, f"{file.as_uri()}{hash_}", **options))
        return opened[-1]

    yield opening
    for one in opened:
        one.close()
        assert {url.partition("#")[0] for url in one.asked if not url.startswith(("blob:", "data:"))} == {file.as_uri()}


def part(file: Path, name: str) -> str:
    """The base64 of a part of the page, which stands there in pieces."""
    return "".join(re.findall(rf'data-part="{re.escape(name)}">([^<]*)', file.read_text(encoding="utf-8")))


def photographs(file: Path) -> list[bytes]:
    """Those in the page; then one turned by its EXIF record, one in another colour space, one with transparency."""
    parts = [base64.b64decode(part(file, f"photo-{i}.jpg")) for i in range(len(vislab.samples()))]
    first = Image.open(io.BytesIO(parts[0]))
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = first.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    for picture, kind, how in (
        (first, "JPEG", {"exif": exif, "quality": 95}),
        (first, "JPEG", {"icc_profile": linear_profile(), "quality": 95}),
        (clear, "PNG", {}),
    ):
        held = io.BytesIO()
        picture.save(held, kind, **how)
        parts.append(held.getvalue())
    return parts


def test_photographs_become_the_logits_of_torch(tab: Callable[..., Tab], file: Path, model: vislab.Model) -> None:
    """Decoded, turned, stretched and read by the browser as Python does it; 8 bits a weight change little."""
    one = tab()
    one.ready()
    given = photographs(file)
    parts = [part(file, name) for name in ("vit.wasm", "weights.gz")]
    found = one.page.evaluate(LOGITS, [[base64.b64encode(data).decode() for data in given], *parts])
    page = vislab.load("embedded", device="cpu")
    kernel.dequantised(page, "int8")
    for data, logits in zip(given, found, strict=True):
        image = vislab.load_image(data)
        assert np.abs(logits - page.run(image).logits.numpy()).max() <= 3e-3
        shares = np.exp(logits) / np.exp(logits).sum()
        assert np.abs(shares - model.run(image).logits.softmax(0).numpy()).max() <= 0.01
    assert file.stat().st_size <= 8e6


def test_hosted_it_asks_its_own_server_alone(browser: Browser, tmp_path: Path) -> None:
    class_site(tmp_path / "site", images=[vislab.samples()["church"], vislab.samples()["moose"]])
    server, origin = served(tmp_path / "site")
    one = Tab(browser, origin)
    one.ready()
    assert one.text("h2").startswith("It says “church”")
    one.page.locator(".thumb").nth(1).click()
    one.ready(2)
    assert "moose" in one.text(".picture .quiet")
    names = {url.removeprefix(origin) for url in one.asked if url.startswith("http")}
    assert names == {"", "page.js", "page.css", "worker.js", "vit.wasm", "weights.gz", "photo-0.jpg", "photo-1.jpg"}
    one.close()
    server.shutdown()
    server.server_close()


def test_every_setting_changes_what_is_seen_and_the_address_tells_it(tab: Callable[..., Tab]) -> None:
    one = tab()
    one.ready()
    page, says = one.page, one.text("h2")
    page.get_by_role("button", name="Rollout").click()
    one.until("document.querySelector('figcaption.title').textContent.startsWith('Rollout')")
    page.get_by_label("Patch size").fill("1")
    one.ready(2)
    assert "50 tokens" in one.text(".side .quiet")
    page.get_by_label("Attention scale", exact=True).fill("0")
    one.ready(3)
    assert one.text("h2") != says
    page.get_by_label("Keep patches").fill("50")
    one.ready(4)
    assert "25 tokens" in one.text(".side .quiet")
    page.get_by_label("Knock out what I click").check()
    page.get_by_role("button", name="Layer 12, head 3").click()
    one.ready(5)
    page.get_by_role("button", name="Lens").click()
    one.ready(6)
    address, told = one("location.hash"), one.text("h2")
    assert address == "#view=lens&patch=32&scale=0&off=35&keep=0.5"
    again = tab(address)
    again.ready()
    assert (again.text("h2"), again("location.hash")) == (told, address)
    page.get_by_role("button", name="As it was").click()
    one.ready(7)
    assert one.text("h2") == says


def test_a_drag_takes_patches_away_and_what_is_gone_looks_at_nothing(tab: Callable[..., Tab]) -> None:
    one = tab("#patch=56&removed=15&query=15")
    one.ready()
    assert one.text("figcaption.title").startswith("Where CLS looks")  # not where the patch that is gone would look
    page, canvas = one.page, one.page.locator(CANVAS)
    page.get_by_label("Click takes patches away").check()
    before = one.runs
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    at = [(box["x"] + (col + 0.5) * box["width"] / 4, box["y"] + box["height"] / 8) for col in range(4)]
    page.mouse.move(*at[0])
    page.mouse.down()
    for place in at[1:]:
        page.mouse.move(*place)
    page.mouse.up()
    page.mouse.move(0, 0)
    one.ready(before + 1)
    assert one("location.hash") == "#patch=56&query=15&removed=15.0.1.2.3"
    assert one.text(".said").endswith("Taken away: 5.")
    page.get_by_label("Click takes patches away").uncheck()
    canvas.click(position={"x": box["width"] / 8, "y": box["height"] / 8})
    assert one("location.hash") == "#patch=56&query=15&removed=15.0.1.2.3"
    assert one.text("figcaption.title").startswith("Where CLS looks")
    assert one.text(".said") == "Row 1, column 1: taken away, so it looks at nothing."


def test_two_panes_are_live_together(tab: Callable[..., Tab]) -> None:
    one = tab("#patch=56")
    one.ready()
    page = one.page
    page.get_by_role("button", name="Compare").click()
    one.ready(2)
    says = one.text(".pane")
    assert says.removeprefix("A: ") == one.text(".panes > :nth-child(2) .pane").removeprefix("B: ")
    page.get_by_label("Patch size").fill("1")
    one.ready(3)
    assert ", 32 px. It says" in one.text(".pane")
    assert one.text(".panes > :nth-child(2) .pane").removeprefix("B: ") == says.removeprefix("A: ")
    page.locator(".thumb").nth(4).click()
    one.ready(4)
    assert "moose" in one.text(".pane")
    page.locator("figure.picture > canvas").nth(1).hover(position={"x": 4, "y": 4})  # of patches of 56 px
    assert one.text(".panes > :nth-child(2) .said").startswith("Row 1, column 1:")
    assert one.text(".said").startswith("Row 1, column 1:")
    page.mouse.move(0, 0)
    page.get_by_role("button", name="Rollout").click()
    titles = "[...document.querySelectorAll('figcaption.title')]"
    one.until(f"{titles}.every((title) => title.textContent.startsWith('Rollout'))")
    assert [title.inner_text()[:7] for title in page.locator("figcaption.title").all()] == ["Rollout"] * 2
    address = one("location.hash")
    assert address == "#photo=moose&view=rollout&patch=32&other=patch%3D56"
    told = [pane.inner_text() for pane in page.locator(".pane").all()]
    again = tab(address)
    again.ready()
    assert [pane.inner_text() for pane in again.page.locator(".pane").all()] == told
    page.get_by_role("button", name="Swap").click()
    one.until("document.querySelector('.pane').textContent.includes('56 px')")
    one.ready()
    assert [pane.inner_text()[3:] for pane in page.locator(".pane").all()] == [text[3:] for text in reversed(told)]
    page.get_by_role("button", name="Let B go").click()
    assert one("location.hash") == "#view=rollout&patch=56"


def test_what_is_off_the_screen_is_drawn_when_it_is_reached(tab: Callable[..., Tab]) -> None:
    """Maps of all heads cost nothing until they are seen; who asks which layer decided is led there."""
    one = tab("#patch=56", viewport={"width": 900, "height": 400})
    one.ready()
    drawn = "[...document.querySelectorAll('.atlas canvas')].filter((canvas) => canvas.width === 4).length"
    assert one(drawn) == 0
    one.page.get_by_role("button", name="Which layer decided?").click()
    one.until("document.querySelector('section.layers h3').getBoundingClientRect().top < innerHeight")
    one.page.locator(".atlas").scroll_into_view_if_needed()
    one.until(f"{drawn} === 36")


def test_sliders_have_room_where_the_page_is_presented(tab: Callable[..., Tab]) -> None:
    one = tab("#patch=56&present=yes", viewport={"width": 1280, "height": 800})
    one.ready()
    width = "Math.min(...[...document.querySelectorAll('.controls > .slider > input')].map((e) => e.clientWidth))"
    assert one(width) > 200


def test_what_two_sliders_do_stands_beside_them(tab: Callable[..., Tab]) -> None:
    """More tokens lie where the slider of patch sizes says; the other tells what it leaves out."""
    for language, fewer, more in (("en", "fewer", "more tokens"), ("zh", "较少", "token 较多")):
        one = tab(f"#patch=56&keep=0.5&language={language}", viewport={"width": 390, "height": 844})
        one.ready()
        slider = one.page.locator("[data-control=patchSize]")
        left, right = slider.locator(".ends span").all()
        assert (left.inner_text(), right.inner_text()) == (fewer, more)
        track, low, high = (place.bounding_box() for place in (slider.locator("input"), left, right))
        assert abs(low["x"] - track["x"]) <= 2
        assert abs(high["x"] + high["width"] - track["x"] - track["width"]) <= 2
        assert low["height"] < 30  # in one line
        assert re.findall(r"\d+", one.text("[data-control=keep] .hint")) in (["8", "16"], ["16", "8"])
        tokens = int(re.findall(r"\d+", one.text(".side .quiet"))[0])
        assert tokens == 1 + 16 - 8
        before = one.runs
        slider.locator("input").fill("1")  # a step to the right
        one.ready(before + 1)
        assert int(re.findall(r"\d+", one.text(".side .quiet"))[0]) > tokens


def test_patches_that_another_size_brings_back_are_said(tab: Callable[..., Tab]) -> None:
    one = tab("#patch=56&removed=1.2")
    one.ready()
    hint = "[data-control=patchSize] .hint"
    assert one.text(hint) == ""
    one.page.get_by_label("Patch size").fill("1")
    one.ready(2)
    assert one.text(hint) == "What was taken away is back (2): the photograph was cut anew."
    assert one("location.hash") == "#patch=32"
    one.page.get_by_label("Layer", exact=True).fill("3")
    assert one.text(hint) == ""


# In the page: of each line across a bar, its contrast with its edge, and that of one of both with all that it lies on.
LINES = """() => {
    const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const light = colour => {
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const parts = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => linear(v / 255));
        return parts.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    };
    const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const ground = node => light(getComputedStyle(node).backgroundColor);
    return [...document.querySelectorAll('.bars .mark')].map(line => {
        const own = ground(line), edge = light(getComputedStyle(line).boxShadow.match(/rgba?\\([^)]*\\)/)[0]);
        const below = [line.parentElement, line.parentElement.querySelector('.fill')].map(ground);
        return [contrast(own, edge), ...below.map(one => Math.max(contrast(one, own), contrast(one, edge)))];
    });
}"""


def test_the_line_across_a_bar_is_seen_on_whatever_it_lies(tab: Callable[..., Tab]) -> None:
    for scheme in ("light", "dark"):
        one = tab("#patch=56&keep=0.5", color_scheme=scheme)
        one.ready()
        found = one(LINES)
        assert found
        assert min(min(line) for line in found) >= 3  # which WCAG asks of what is no text
        assert one.text(".side .quiet").endswith("The line across a bar: with all patches and heads.")
    one = tab("#patch=56")
    one.ready()
    assert one(LINES) == []
    assert "line" not in one.text(".side .quiet")


def test_the_newest_wish_wins(tab: Callable[..., Tab]) -> None:
    one = tab()
    one.ready()
    slider = one.page.get_by_label("Patch size")
    for value in (0, 5, 4, 3, 2, 1, 5, 0, 1):
        slider.fill(str(value))
    one.until("document.querySelector('.side .quiet').textContent.startsWith('50 tokens')")
    one.ready()
    assert one.runs < 9


def test_patches_are_read_picked_and_taken_away_by_mouse_and_keys(tab: Callable[..., Tab]) -> None:
    one = tab("#patch=56")
    one.ready()
    page, says = one.page, one.text("h2")
    canvas = page.locator(CANVAS)
    canvas.hover(position={"x": 5, "y": 5})
    assert one.text(".said").startswith("Row 1, column 1: CLS gives it")
    canvas.click(position={"x": 5, "y": 5})
    assert "the patch in row 1, column 1" in one.text("figcaption.title")
    canvas.press("ArrowRight")
    assert one.text(".said").startswith("Row 1, column 2")
    canvas.press("Enter")
    assert one("location.hash") == "#patch=56&query=1"
    canvas.press("Escape")
    assert one.text("figcaption.title").startswith("Where CLS looks")
    page.get_by_label("Click takes patches away").check()
    box = canvas.bounding_box()
    for cell in range(15):
        if "Turned with" in one.text(".game"):
            break
        before, (row, col) = one.runs, divmod(cell, 4)
        canvas.click(position={"x": (col + 0.5) * box["width"] / 4, "y": (row + 0.5) * box["height"] / 4})
        one.ready(before + 1)
    assert "Best so far" in one.text(".game")
    assert one.text("h2").startswith("Turned: now")
    page.get_by_role("button", name="What would attention do").click()
    one.until("document.querySelector('.game').textContent.includes('drawn by chance:')")
    page.get_by_role("button", name="All back").click()
    one.until("!document.querySelector('h2').textContent.startsWith('Turned')")
    assert one.text("h2") == says


def test_nine_steps_each_predicted_then_shown(tab: Callable[..., Tab]) -> None:
    one = tab("#mode=guided&patch=32")
    one.ready()
    page = one.page
    for step in range(1, 10):
        one.until(f"document.querySelector('.card .count').textContent.startsWith('Step {step} of 9')")
        if step == 4:
            assert page.locator(f"{CARD} .options button").count() == 0
            for x in (0.3, 0.6):
                box = page.locator(CANVAS).bounding_box()
                page.mouse.click(box["x"] + x * box["width"], box["y"] + box["height"] / 2)
        one.until(f"document.querySelector('{CARD} .options button')")
        assert one.text(f"{CARD} .shown") == ""
        page.locator(f"{CARD} .options button").first.click()
        one.until(f"document.querySelector('{CARD} .shown').textContent.trim()")
        assert not re.search(r"\{|undefined|NaN", one.text(CARD))
        if step < 9:
            page.get_by_role("button", name="Next").click()


LIT = "String([...document.querySelectorAll('.diagram .lit')].map((node) => node.dataset.part))"


def test_the_diagram_lights_where_a_control_or_a_step_acts(tab: Callable[..., Tab]) -> None:
    one = tab("#patch=32")
    one.ready()
    page = one.page
    assert one(LIT) == ""
    for name, parts in {
        "Patch size": "patches",
        "Attention scale": "qk",
        "Layer": "layer",
        "Keep patches": "tokens",
    }.items():
        page.get_by_label(name, exact=True).hover()
        one.until(f"{LIT} === '{parts}'")
    page.get_by_role("button", name="Rollout").click()
    one.until(f"{LIT} === 'layer,softmax'")
    page.locator(".present, header select").first.select_option("zh")
    one.until("document.querySelector('.diagram .lit text').textContent === '层'")
    assert "softmax" in one("document.querySelector('.diagram svg').getAttribute('aria-label')")
    page.locator("header select").select_option("en")
    page.get_by_role("button", name="Guided", exact=True).click()
    one.until(f"{LIT} === 'pixels'")
    page.get_by_role("button", name="Step 4").click()
    one.until(f"{LIT} === 'qk,softmax'")
    page.get_by_role("button", name="Quiz", exact=True).click()
    one.until("document.querySelector('.diagram').hidden")


def test_the_quiz_is_about_the_pupils_own_photograph(tab: Callable[..., Tab]) -> None:
    one = tab("#patch=56&language=zh")
    one.ready()
    page = one.page
    page.locator("input[type=file]").set_input_files(vislab.samples()["minster"])
    one.until("document.querySelector('.picture .quiet').textContent.includes('您自己的照片')")
    page.get_by_role("button", name="测验").click()
    for _ in range(10):
        one.until(f"document.querySelector('{CARD} .options button')")
        page.locator(f"{CARD} .options button").first.click()
        one.until(f"document.querySelector('{CARD} .shown').textContent.trim()")
        page.get_by_role("button", name="下一步").click()
    one.until("document.querySelector('textarea').value")
    result = page.locator("textarea").input_value()
    assert re.fullmatch(r"10 题中答对 \d+ 题.*(\n\d+\. [✓✗] .+){10}", result)
    assert not re.search(r"\{|undefined|NaN", result)
    assert one("document.documentElement.lang") == "zh"


def picture(width: int, height: int) -> bytes:
    held = io.BytesIO()
    Image.new("1", (width, height)).save(held, "PNG")
    return held.getvalue()


def test_files_that_are_none_are_said_and_it_goes_on(tab: Callable[..., Tab]) -> None:
    one = tab("#patch=56")
    one.ready()
    problem, choose = ".problem", one.page.locator("input[type=file]")
    for name, data, said in (
        ("notes.jpg", b"no picture", "notes.jpg could not be read as a picture"),
        ("empty.png", b"", "empty.png could not be read as a picture"),
        ("huge.png", picture(20_000, 20_000), "20000×20000 px are too many"),  # refused before it is decoded
    ):
        choose.set_input_files({"name": name, "mimeType": "image/png", "buffer": data})
        one.until(f"document.querySelector('{problem}').textContent.includes('{said}')")
        assert one.text("h2").startswith("It says “church”")
    for width, height in ((1, 1), (20_000, 3)):
        before = one.runs
        choose.set_input_files({"name": "small.png", "mimeType": "image/png", "buffer": picture(width, height)})
        one.ready(before + 1)
        assert one.text(problem) == ""
        assert "Your own" in one.text(".picture .quiet")
    one.page.get_by_role("button", name="Camera").click()  # there is none, or it is denied
    one.until(f"document.querySelector('{problem}').textContent.includes('The camera gives no picture')")
    drop = """(text) => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], 'dropped.jpg'));
        document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    before = one.runs
    one.page.evaluate(drop, base64.b64encode(vislab.samples()["church"].read_bytes()).decode())
    one.ready(before + 1)
    assert one.text("h2").startswith("It says “church”")


@pytest.mark.parametrize(
    ("lack", "said"),
    [
        ("delete window.WebAssembly", "WebAssembly"),
        ("WebAssembly.validate = () => false", "SIMD"),
        ("delete window.DecompressionStream", "DecompressionStream"),
    ],
)
def test_a_browser_that_cannot_run_it_is_told_which_can(tab: Callable[..., Tab], lack: str, said: str) -> None:
    one = tab(script=lack)
    one.until("document.querySelector('.problem')")
    assert one.text(".problem").startswith(f"This browser cannot run the model ({said}): take Firefox")


def served(folder: Path) -> tuple[ThreadingHTTPServer, str]:
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *_: None  # type: ignore[method-assign]
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}/"


# Of the kernel's memory, no more than so many bytes at once.
REFUSED = """const instantiate = WebAssembly.instantiate;
WebAssembly.instantiate = async (...given) => {
    const { instance } = await instantiate(...given);
    const alloc = (bytes) => (bytes > %d ? 0 : instance.exports.alloc(bytes));
    return { instance: { exports: { ...instance.exports, alloc } } };
};
"""


def test_what_a_browser_or_a_server_refuses_is_said_and_it_goes_on(browser: Browser, tmp_path: Path) -> None:
    folder = class_site(tmp_path / "site", images=[vislab.samples()["church"]]).parent
    worker, server, origin = folder / "worker.js", *served(folder)
    code = worker.read_text(encoding="utf-8")
    worker.write_text(REFUSED % 6_000_000 + code, encoding="utf-8")
    one = Tab(browser, origin)  # there is room for patches of 16 px, and none for those of 8
    one.ready()
    one.page.get_by_label("Patch size").fill("5")
    one.until("document.querySelector('.problem').textContent.startsWith('The browser gives no more memory')")
    one.page.get_by_label("Patch size").fill("1")
    one.until("document.querySelector('.side .quiet').textContent.startsWith('50 tokens')")
    assert one.text(".problem") == ""
    one.close()
    worker.write_text(REFUSED % 100_000 + code, encoding="utf-8")
    one = Tab(browser, origin)
    one.until("document.querySelector('.problem')")
    assert one.text(".problem").startswith("The browser gives no more memory")
    one.close()
    worker.write_text(code, encoding="utf-8")
    (folder / "weights.gz").unlink()
    one = Tab(browser, origin)
    one.until("document.querySelector('.problem')")
    assert one.text(".problem").startswith("The model could not be read (")
    assert "weights.gz: 404" in one.text(".problem")
    assert [text for text in one.said if "404" not in text] == []  # the browser itself says so
    one.said.clear()
    one.close()
    server.shutdown()
    server.server_close()


def test_every_control_is_reached_by_keys(tab: Callable[..., Tab]) -> None:
    """Tab goes through all that is shown; a guided step and a question are answered without a mouse."""
    one = tab("#patch=56")
    one.ready()
    page = one.page
    shown = """() => [...document.querySelectorAll('button, select, input, summary, canvas[tabindex]')]
        .filter((e) => e.checkVisibility() && !e.disabled).length"""
    for mode in ("free", "guided", "quiz"):
        one(f"void (location.hash = '#patch=56&mode={mode}')")
        one.until(f"document.body.dataset.mode === '{mode}'")
        if mode != "free":
            one.until(f"document.querySelector('{CARD} .options button')")
        wanted = one(shown)
        for _ in range(wanted + 2):  # once round, past the end of the page
            page.keyboard.press("Tab")
            one("void (document.activeElement.dataset.reached = 'yes')")
        reached = "[...document.querySelectorAll('main [data-reached]')].filter((e) => e.tabIndex >= 0).length"
        assert one(reached) == wanted, mode
        one("document.querySelectorAll('[data-reached]').forEach((e) => delete e.dataset.reached)")
        if mode != "free":
            page.locator(f"{CARD} .options button").first.focus()
            page.keyboard.press("Enter")
            one.until(f"document.querySelector('{CARD} .shown').textContent.trim()")


def test_a_camera_is_live(browser: Browser, chromium: str, file: Path) -> None:
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--no-sandbox", "--disable-gpu"]
    running = browser.browser_type.launch(executable_path=chromium, args=flags)
    one = Tab(running, file.as_uri())
    one.ready()
    one.page.get_by_role("button", name="Camera").click()
    one.until("document.documentElement.dataset.runs > 5")
    one.page.get_by_role("button", name="Keep this picture").click()
    assert "50 tokens" in one.text(".side .quiet")
    one.close()
    running.close()


@pytest.mark.parametrize("mode", ["free", "guided", "quiz"])
def test_on_a_phone_everything_fits_and_has_a_name(tab: Callable[..., Tab], mode: str) -> None:
    one = tab(f"#mode={mode}&patch=32", viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    one.ready()
    assert one("document.documentElement.scrollWidth") == 360
    named = """() => [...document.querySelectorAll('button, input, select, textarea, canvas[tabindex]')]
        .filter((e) => e.getClientRects().length)
        .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.[0]?.textContent.trim()))
        .map((e) => e.outerHTML)"""
    assert one(named) == []
    small = """() => [...document.querySelectorAll('p, span, li, label, h1, h2, h3, figcaption, output, button')]
        .filter((e) => e.getClientRects().length && e.textContent.trim())
        .filter((e) => parseFloat(getComputedStyle(e).fontSize) < 13)
        .map((e) => e.outerHTML)"""
    assert one(small) == []
    if mode != "quiz":
        box = one.page.locator(".diagram svg").bounding_box()
        assert box["width"] >= 330  # 376 units, in which its letters have 15
        assert box["width"] < 4 * box["height"]
    if mode == "free":
        one.page.locator(CANVAS).tap(position={"x": 50, "y": 50})
        assert one("location.hash").startswith("#patch=32&query=")


def test_the_contrast_is_enough_in_light_and_dark(tab: Callable[..., Tab]) -> None:
    for scheme in ("light", "dark"):
        one = tab("#patch=56", color_scheme=scheme)
        one.ready()
        assert one(CONTRAST.replace(".vislab-lab", "main")) == []
