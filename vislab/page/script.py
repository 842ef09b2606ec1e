"""The page's JavaScript: the modules of `static/`, joined into the one of the page and the one of its worker."""

from __future__ import annotations

from pathlib import Path

from ..figures import diagram
from ..lab import face

STATIC = Path(__file__).parent / "static"

# The modules of the page: those that the Lab draws with too, then its own. Each imports only those before it.
SHARED = ("numbers", "colours", "places", "elements", "diagram", "ink")
PAGE = (
    "base64",
    "english",  # all words, one table a language
    "chinese",
    "words",  # the words of the language that was chosen
    "measures",  # what is told of a run, in numbers
    "address",  # the state, as it stands behind # in the address
    "client",  # the worker, asked one wish at a time
    "app",  # what the page holds, and what follows from a change
    "runs",  # what the model is asked, and what is held of it
    "view",  # the photograph with its map
    "pointing",  # patches under the pointer
    "beside",  # a second photograph, or other settings, beside it
    "panels",  # probabilities, layers, heads
    "game",  # patches taken away
    "photographs",  # files, drops, the camera
    "controls",  # sliders and menus
    "facts",  # what guided steps and the quiz ask, and what is true of this photograph
    "card",  # a question, a prediction, and what is true
    "scenes",  # what happens to the photograph, drawn as it happens
    "guided",  # nine steps
    "quiz",  # ten questions
    "lit",  # the model in one drawing, lit where a control or a step acts
    "main",  # the page
)
WORKER = ("headers", "pixels", "engine", "worker")


def modules(names: tuple[str, ...], shared: tuple[str, ...] = ()) -> dict[str, str]:
    """Name -> text of modules, those that are shared with the Lab first."""
    paths = {name: face.STATIC / f"{name}.js" for name in shared} | {name: STATIC / f"{name}.js" for name in names}
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items()}


def page_script() -> str:
    return face.join(modules(PAGE, SHARED))


def worker_script() -> str:
    return face.join(modules(WORKER))


def style() -> str:
    return (STATIC / "page.css").read_text(encoding="utf-8") + diagram.style()
