"""What is said of versions and authors agrees: the versions that were tried, pyproject.toml, CITATION.cff."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from test_project import PROJECT, ROOT

import vislab

TRIED = ROOT / ".ci" / "tried.txt"
EXTRAS = PROJECT["optional-dependencies"]
WHOLE = [
    *PROJECT["dependencies"],
    *(line for extra in ("lab", "detectors", "onnx", "ray", "test") for line in EXTRAS[extra]),
]
REQUIREMENTS = [one for one in map(Requirement, WHOLE) if one.name != PROJECT["name"]]  # which extras name
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def read(text: str) -> dict[str, Version]:
    lines = [line.split("==") for line in text.splitlines()]
    return {name: Version(version) for name, version in lines}


def test_each_line_is_a_name_and_a_version_alone() -> None:
    lines = TRIED.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][a-z0-9.]*", line)] == []
    names = [line.split("==")[0] for line in lines]
    assert names == sorted(set(names))
    assert names == [canonicalize_name(name) for name in names]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_the_versions_tried_are_those_that_are_required(requirement: Requirement) -> None:
    tried = read(TRIED.read_text(encoding="utf-8"))
    assert tried[canonicalize_name(requirement.name)] in requirement.specifier, "write them anew: make tried"


def test_the_list_can_be_written_anew() -> None:
    command = [sys.executable, str(ROOT / ".ci" / "tried.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    here = read(done.stdout)
    assert {canonicalize_name(requirement.name) for requirement in REQUIREMENTS} <= set(here)
    assert "nbclient" in here  # nbmake brings it
    assert "vislab" not in here


@pytest.mark.slow
@pytest.mark.parametrize("tried", [True, False])
def test_an_install_takes_them_when_asked(tried: bool, tmp_path: Path) -> None:
    make = shutil.which("make") or pytest.skip("no make")
    command = [make, "--dry-run", "lab", f"VENV={tmp_path}/venv", *(["TRIED=1"] if tried else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ("pip install -c .ci/tried.txt -e '.[test]'" in done.stdout) == tried


def test_the_citation_says_what_the_project_says() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] == "software"
    assert CITATION["title"] == PROJECT["name"]
    assert CITATION["abstract"] == PROJECT["description"]
    assert CITATION["version"] == vislab.__version__
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["keywords"] == PROJECT["keywords"]
    assert CITATION["authors"] == [{"name": "The vislab authors"}]
    assert CITATION["message"]
