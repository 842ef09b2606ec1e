"""What the notebooks say in bold is held against the numbers of their own run.

The cell tagged "claims" maps each sentence to whether it is so, and ends in an assertion, which runs with the notebook.
Here: what a Reveal says in bold is among them, word for word, so that no sentence is changed without its condition.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_project import NOTEBOOKS

BOLD = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)


def bold(cells: list[dict[str, Any]]) -> tuple[set[str], set[str]]:
    """What the Reveals say in bold, and what any text does."""
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    reveals = [part for text in texts for part in re.findall(r"<details>(.*?)</details>", text, re.DOTALL)]
    return (
        {said for reveal in reveals for said in BOLD.findall(reveal)},
        {s for text in texts for s in BOLD.findall(text)},
    )


def claimed(cells: list[dict[str, Any]]) -> dict[str, ast.expr]:
    """Sentence -> condition, of the cell tagged so; empty where there is none."""
    tagged = [cell for cell in cells if "claims" in cell["metadata"].get("tags", ())]
    if not tagged:
        return {}
    [cell] = tagged
    made, *_, held = ast.parse("".join(cell["source"])).body
    assert ast.unparse(held).startswith("assert all(claims.values())")
    assert isinstance(made, ast.Assign)
    assert isinstance(made.value, ast.Dict)
    return {
        ast.literal_eval(key): condition
        for key, condition in zip(made.value.keys, made.value.values, strict=True)
        if key
    }


def untold(cells: list[dict[str, Any]]) -> set[str]:
    """Sentences in bold that nothing holds, and claims that the text does not make."""
    (revealed, said), claims = bold(cells), claimed(cells)
    bare = {
        claim for claim, condition in claims.items() if not any(isinstance(n, ast.Name) for n in ast.walk(condition))
    }
    return (revealed - claims.keys()) | (claims.keys() - said) | bare


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_what_a_reveal_says_in_bold_is_a_claim(notebook: Path) -> None:
    assert not untold(json.loads(notebook.read_text(encoding="utf-8"))["cells"])


def test_some_notebooks_make_claims() -> None:
    made = [claimed(json.loads(notebook.read_text(encoding="utf-8"))["cells"]) for notebook in NOTEBOOKS]
    assert sum(map(bool, made)) >= 5


def test_a_sentence_without_its_condition_is_found() -> None:
    reveal = {
        "cell_type": "markdown",
        "metadata": {},
        "source": ["<details>**It is 3.** And\n", "**it is 4.**</details>"],
    }
    source = [
        "claims = {'It is 3.': x == 3, 'It is 5.': y == 5, 'it is 4.': True}\n",
        "assert all(claims.values()), 'no'",
    ]
    claims = {"cell_type": "code", "metadata": {"tags": ["claims"]}, "source": source}
    assert untold([reveal]) == {"It is 3.", "it is 4."}
    assert untold([reveal, claims]) == {"It is 5.", "it is 4."}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_folded_answer_does_not_show_in_its_first_line(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    folded = [cell["source"][0] for cell in cells if cell["metadata"].get("jupyter", {}).get("source_hidden")]
    assert all(first.startswith(("#", "claims = {")) for first in folded)


WORDS, WAIT, MINUTES = 130, 1.5, 25  # that are read in a minute; a Predict takes, min; a notebook may take, min


def predictions(cells: list[dict[str, Any]]) -> tuple[int, float]:
    """How often a notebook asks, and how many minutes it takes to read and to answer."""
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    asked = sum(len(re.findall(r"^\*\*Predict\.\*\*", text, re.MULTILINE)) for text in texts)
    return asked, sum(len(text.split()) for text in texts) / WORDS + asked * WAIT


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_short(notebook: Path) -> None:
    asked, minutes = predictions(json.loads(notebook.read_text(encoding="utf-8"))["cells"])
    assert asked <= 6
    assert minutes <= MINUTES


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_nothing_that_is_folded_gives_its_answer_away(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    firsts = [cell["source"][0] for cell in cells if cell["metadata"].get("jupyter", {}).get("source_hidden")]
    assert [first for first in firsts if "%" in first or "**" in first] == []
    texts = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    summaries = re.findall(r"<summary>(.*?)</summary>", texts)
    assert [one for one in summaries if not re.match(r"<b>Reveal</b>|A hint", one)] == []


def test_drawings_stand_out_of_the_way() -> None:
    """Of what is longer than a screen, no cell that mostly draws is open."""
    ink = re.compile(r"\bplt\.|\bax\.|\baxes\b|\bfigure\b|set_title|legend|\.plot\(")
    for notebook in NOTEBOOKS:
        for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
            lines = [line for line in cell["source"] if line.strip()]
            drawn = sum(bool(ink.search(line)) for line in lines)
            folded = cell["metadata"].get("jupyter", {}).get("source_hidden", False)
            open_drawing = cell["cell_type"] == "code" and len(lines) > 10 and drawn > len(lines) / 2 and not folded
            assert not open_drawing, f"{notebook.name}, cell {number}"


def test_tasks_stand_above_the_lab_that_they_speak_of() -> None:
    cells = ["".join(cell["source"]) for cell in json.loads(NOTEBOOKS[0].read_text(encoding="utf-8"))["cells"]]
    [tasks] = [number for number, text in enumerate(cells) if text.startswith("## Six things to try")]
    assert "vislab.Lab(" in cells[tasks + 1]


def test_the_first_notebook_leads_to_all_others() -> None:
    text = NOTEBOOKS[0].read_text(encoding="utf-8")
    assert [one.name for one in NOTEBOOKS[1:] if f"({one.name})" not in text] == []
