"""Who took the photographs that come with vislab, and under which licence they are."""

from __future__ import annotations

import re
from pathlib import Path

from .files import assets

# A row of the table in assets/images/README.md: file, what is seen, author, source, licence, change.
_ROW = re.compile(r"^\| `(\w+)\.jpg` \| (.+?), \d+×\d+ \| (.+?) \| .+ \| (.+?) \| [^|]* \|$", re.MULTILINE)


def credits() -> dict[str, tuple[str, str]]:
    """Name -> (what is seen, author and licence) of each sample, from the table beside them."""
    table = (assets() / "images" / "README.md").read_text(encoding="utf-8")
    plain = [tuple(re.sub(r"\[([^]]*)\]\([^)]*\)| \[\d\]", r"\1", cell) for cell in row) for row in _ROW.findall(table)]
    return {name: (title, f"{author}, {licence}") for name, title, author, licence in plain}


def credit_of(source: object) -> tuple[str, str] | None:
    """What is seen on a sample, and who took it, by its name or its path; None for any other picture."""
    if not isinstance(source, str | Path):
        return None
    name, folder = Path(source).stem, assets() / "images"
    known = str(source) == name or Path(source).resolve() == (folder / f"{name}.jpg").resolve()
    return credits().get(name) if known else None
