"""Hostile inputs end in one clear sentence of vislab's own, soon, and leave nothing behind."""

from __future__ import annotations

import linecache
import os
import random
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import hostile
import matplotlib.pyplot as plt
import pytest
import tiny
import torch
from hostile import Hostile

import vislab

SEED = 14
COUNTS = {"files": 50, "arrays": 35, "modules": 25, "options": 65, "commands": 25}
SECONDS = 2.0  # of this process, once the frameworks are loaded
KINDS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OSError,
    MemoryError,
    ImportError,
    NotImplementedError,
    RuntimeError,
)


@pytest.fixture(scope="module")
def warm() -> None:
    """The frameworks are loaded, and what is the same for all is made."""
    hostile.heat(), hostile.run(), vislab.Lab, hostile.detector().glance(hostile.PICTURE, image_size=64)
    vislab.panel([hostile.heat()])


def chosen() -> list[Hostile]:
    chance, found = random.Random(SEED), []
    for kind, inputs in hostile.everything(SEED).items():
        found += chance.sample(inputs, COUNTS[kind])
    return found


def verdict(given: Hostile, folder: Path, said: Any) -> str:
    """What is wrong with the end of an input; "" for nothing. said: reads what was printed since."""
    start = time.process_time()
    try:
        result = given.call(folder)
    except BaseException as error:
        fault = complaint(error)
    else:
        fault = "" if given.sound else f"it was taken: {type(result).__name__}"
        if isinstance(result, hostile.Commanded):
            printed = said()
            fault = "" if result and printed.strip() and "Traceback" not in printed else f"{result}: {printed[-300:]}"
    took = time.process_time() - start
    return fault or (f"it took {took:.1f} s" if took > SECONDS else "")


def complaint(error: BaseException) -> str:
    """Why an error is no clear sentence of vislab's own; "" where it is one."""
    words, frames = str(error), traceback.extract_tb(error.__traceback__)
    shown = f"{type(error).__name__}: {words[:200]} [{Path(frames[-1].filename).name}:{frames[-1].lineno}]"
    if type(error).__name__ == "TraitError":  # a widget's own kind, in vislab's words or in those of traitlets
        return "" if " " in words else shown
    if not isinstance(error, KINDS) or type(error) is RuntimeError:
        return shown
    own = f"{os.sep}vislab{os.sep}" in frames[-1].filename
    raised = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip().startswith("raise")
    return "" if own and raised and len(words) > 15 and " " in words and len(words) < 1500 else shown


def left() -> list[Any]:
    """What may not be otherwise afterwards."""
    stack = torch.overrides._get_current_function_mode_stack()
    fast = torch.backends.mha.get_fastpath_enabled()
    return [*tiny.fingerprint(hostile.model().module), plt.get_fignums(), len(stack), fast, os.getcwd()]


@pytest.mark.filterwarnings("ignore")
def test_a_hostile_input_ends_in_one_clear_sentence_and_leaves_nothing(
    warm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """200 of them, drawn by a seed: an error of vislab's own, within 2 s; no hook, file, figure or changed weight."""
    monkeypatch.chdir(tmp_path)
    spare = tmp_path / "temporary"
    spare.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spare))
    inputs, faults = chosen(), {}
    before = left()
    assert len(inputs) == 200
    for number, given in enumerate(inputs):
        folder = tmp_path / str(number)
        folder.mkdir()
        fault = verdict(given, folder, lambda: "".join(capsys.readouterr()))
        if (now := left()) != before:
            fault, before = fault or "something was changed", now
        if not given.sound and (found := [p.name for p in spare.iterdir()] + [p.name for p in tmp_path.glob("*.*")]):
            fault = fault or f"left behind {found}"
        if fault:
            faults[given.name] = fault
    assert not faults, "\n".join(f"{name}: {fault}" for name, fault in faults.items())
