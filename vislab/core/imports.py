"""First imports of large libraries, and loading with them, are safe from any thread only if threads take turns."""

from __future__ import annotations

import threading
from importlib import import_module
from types import ModuleType

# Python locks one module at a time. Two threads that enter one library at different modules can wait for each other in
# a circle, which Python breaks by showing one of them a module half made. One lock for all first imports leaves no
# circle; it is re-entrant, since what is imported may import through it.
IMPORTING = threading.RLock()

# While a library loads weights it sets what the whole process shares: the default dtype, how layers are initialised,
# progress bars, logging. Two loads at once would see, and later put back, each other's.
LOADING = threading.RLock()


# Packages that only an extra of vislab brings: `pip install 'vislab[lab]'`.
EXTRAS = {
    **dict.fromkeys(("anywidget", "ipywidgets", "jupyterlab"), "lab"),
    **dict.fromkeys(("pyarrow", "ray"), "ray"),
    "ultralytics": "detectors",
}


def library(name: str) -> ModuleType:
    """A module by its full name, imported by one thread at a time. ImportError says which extra brings what is missing.

    Where an `import` statement has waited for another thread, it gives what stood in sys.modules before: the empty
    shell of a module that puts another in its place, as transformers and each package in it do. This looks again.

    A lock of ours cannot hold back a notebook's own `import` statements, so a thread that works behind a notebook finds
    its libraries imported already: see `Lab`.
    """
    with IMPORTING:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in EXTRAS:
                raise
            raise ImportError(
                f"{missing} is not installed, and this needs it: pip install 'vislab[{EXTRAS[missing]}]'", name=missing
            ) from None
