"""What README and CONTRIBUTING say is so: every command works, every example runs, every link and table is right."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import supported
from test_project import ENVIRONMENT, HOUSE, NOTEBOOKS, README, ROOT

import vislab
from vislab.cli.main import main
from vislab.evaluation.answered import METHODS
from vislab.methods import registry

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TEXTS = {"README": README, "CONTRIBUTING": CONTRIBUTING}
FIGURES = ROOT / "assets" / "figures"

Visit = Callable[..., None]


def blocks(text: str, language: str) -> list[str]:
    """The contents of a Markdown text's fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The commands of a Markdown text's `sh` blocks, split at &&, in words; comments dropped."""
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    parts = (part for line in lines for part in line.split(" && "))
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level."""
    return re.split(r"^## ", text.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def test_blocks_commands_and_sections_are_found() -> None:
    text = "\n## a\n```sh\nmake lab  # all\n\nvislab figure 'a b' \\\n  --out x.pdf\n```\n## b\n```python\nx = 1\n```\n"
    assert blocks(text, "python") == ["x = 1\n"]
    assert commands(text) == [["make", "lab"], ["vislab", "figure", "a b", "--out", "x.pdf"]]
    assert section(text, "b") == "```python\nx = 1\n```\n"


@pytest.fixture
def visit(tmp_path: Path) -> Visit:
    """Run Python code in tmp_path, where of the checkout there are the assets only, and fail if it fails."""
    (tmp_path / "assets").symlink_to(ROOT / "assets", target_is_directory=True)

    def run(code: str, *arguments: str, tests: bool = False) -> None:
        command = [sys.executable, "-c", code, *arguments]
        path = os.pathsep.join([str(ROOT), *([str(ROOT / "tests")] if tests else [])])
        environment = os.environ | {"PYTHONPATH": path}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return run


@pytest.mark.slow
def test_readme_python_runs(visit: Visit, tmp_path: Path) -> None:
    code = "\n".join(blocks(README, "python"))
    written = re.findall(r'vislab\.save\("([^"]+)"', code)
    assert written
    visit(code)
    assert all((tmp_path / name).stat().st_size > 0 for name in written)


def test_readmes_ten_lines_are_ten() -> None:
    assert len([line for line in blocks(section(README, "Ten lines"), "python")[0].splitlines() if line]) == 10


@pytest.mark.slow
@pytest.mark.parametrize("words", commands(README), ids=" ".join)
def test_readme_commands_work(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    match words:
        case ["vislab", *arguments]:
            (tmp_path / "assets").symlink_to(ROOT / "assets", target_is_directory=True)
            monkeypatch.chdir(tmp_path)
            assert not main(arguments)
            if "--out" in arguments:
                assert (tmp_path / arguments[arguments.index("--out") + 1]).stat().st_size > 0
        case ["make", target]:
            make = shutil.which("make") or pytest.skip("no make")
            done = subprocess.run([make, "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        case ["conda", "env", "create", "-f", name]:
            assert (ROOT / name).is_file()
        case ["conda", "activate", name]:
            assert name == ENVIRONMENT["name"]
        case ["jupyter", "lab", folder]:
            assert (ROOT / folder).is_dir()
        case _:
            pytest.fail(f"{' '.join(words)!r} stands in the README and nothing tries it")


@pytest.mark.parametrize("name", TEXTS)
def test_every_target_named_is_one(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", " ".join(re.findall(r"`[^`]+`", TEXTS[name]))))
    assert named
    assert named <= targets


@pytest.mark.slow
@pytest.mark.parametrize("title", ["Add a model family", "Add a method"])
def test_contributing_examples_run(title: str, visit: Visit) -> None:
    """As they stand, in a process of their own, with the project's tests beside them."""
    [code] = blocks(section(CONTRIBUTING, title), "python")
    assert "assert" in code or "law" in code
    visit(code, tests=True)


def test_the_map_of_the_house_names_every_room() -> None:
    lines = [line.split("|") for line in section(CONTRIBUTING, "How the code is laid out").splitlines()]
    map_ = {cells[1].strip(" `/"): cells[2].strip().split(" · ") for cells in lines if cells[1:2] and "`" in cells[1]}
    rooms = {wing: sorted(path.stem for path in (ROOT / "vislab" / wing).glob("[!_]*.py")) for wing in HOUSE}
    assert list(map_.items()) == list(rooms.items())


def test_the_tables_of_models_are_what_the_tests_verify() -> None:
    assert supported.in_place(README) == README, "write them anew: python tests/supported.py"


def test_what_maps_of_words_are_worth_is_the_same_in_readme_and_card() -> None:
    card = (ROOT / "assets" / "models" / "reader-imagenette" / "README.md").read_text(encoding="utf-8")
    own, its = (re.findall(r"(?s)<!-- words -->\n(.*)<!-- /words -->", text) for text in (README, card))
    assert own == its
    rows = re.findall(r"^\| (\w[^|]*) \|", own[0], flags=re.MULTILINE)
    assert rows == [*METHODS, "random", "centre"]


def test_a_family_without_a_row_is_named() -> None:
    with pytest.raises(LookupError, match="'NewFormer', which no row"):
        supported.family_of("NewFormer", supported.FAMILIES)
    assert supported.family_of("timm, EVA-02", supported.FAMILIES) == "timm's EVA"


def test_every_notebook_has_its_row() -> None:
    linked = re.findall(r"^\| \[(\w+)\]\(notebooks/(\w+)\.ipynb\) \|", README, flags=re.MULTILINE)
    assert linked == [(path.stem, path.stem) for path in NOTEBOOKS]


def test_every_method_has_its_source() -> None:
    assert set(re.findall(r"`(\w+)`", section(README, "Cite"))) >= set(registry.METHODS)


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXTS[name]) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_picture_is_shown_and_says_how_it_was_made() -> None:
    pictures = {path for path in FIGURES.iterdir() if path.suffix in (".jpg", ".png", ".webp")}
    shown = {ROOT / link for link in re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)}
    assert shown == pictures | {ROOT / "assets" / "vit.svg"}
    assert all(path.stat().st_size < (1_500_000 if path.suffix == ".webp" else 400_000) for path in pictures)
    drawn = [vislab.provenance(path) for path in pictures if path.stem not in ("lab", "tokens")]  # a photograph, a plot
    assert all(record["maps"] and record["versions"] for record in drawn)
