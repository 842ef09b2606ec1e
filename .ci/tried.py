"""Print the installed version of everything that vislab and its tests require, and of what that requires in turn.

    python .ci/tried.py > .ci/tried.txt

One `name==version` a line: what pip takes as constraints, with `make lab TRIED=1`.
"""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def versions(requirements: list[str]) -> dict[str, Version]:
    """Name -> version, of all distributions that requirements bring to this environment."""
    found: dict[str, Version] = {}
    todo = [(Requirement(requirement), "") for requirement in requirements]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found[name] = Version(importlib.metadata.version(name))
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                todo += [(Requirement(line), wanted) for line in importlib.metadata.requires(name) or []]
    return found


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tried = versions(project["dependencies"] + project["optional-dependencies"]["test"])
    del tried[project["name"]]  # which its extras name
    for name, version in sorted(tried.items()):
        print(f"{name}=={version.public}")  # without the part that names a machine's build: torch 2.15.0+cu132


if __name__ == "__main__":
    main()
