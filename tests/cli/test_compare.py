"""Laws of `vislab compare`: the table is that of `vislab.compare`, and what is wrong is said in one line."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

import vislab
from vislab.cli.main import main

CHURCH = str(vislab.samples()["church"])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_json_and_table_hold_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", CHURCH, *["--segmenter", "none", "--reader", "none", "--repeats", "1", "--csv", "table.csv"]]
    assert main([*words, "--need", "class,boxes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["kind"] for one in told["models"]] == ["detector", "model"]
    rows = csv.DictReader(Path("table.csv").read_text().splitlines())
    assert [one["says"] for one in rows] == [one["says"] for one in told["models"]]
    assert list(told["take"]) == ["class", "boxes"]
    assert told["take"]["boxes"].endswith("found something in 1 of 1")
    assert main([*words, "--within", "0.000001"]) == 0
    out = capsys.readouterr().out
    assert "| detector | embedded | " in out
    assert "class: none within these limits: the fastest is model embedded" in out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("--detector none --model none --segmenter none --reader none", 2, "all kinds are none"),
        ("--reader none --question why?", 2, "name one, --reader NAME"),
        ("--need box", 2, "takes some of class, boxes"),
        ("--within 0", 2, "takes a number above 0"),
        ("--csv nowhere/table.csv", 1, "no folder 'nowhere'"),
        ("--reader nobody", 1, "unknown vision-language model 'nobody'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: str, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", CHURCH, *words.split()]) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert re.search(message, said.err)
    assert said.err.count("\n") == 1
