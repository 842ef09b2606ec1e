"""Laws of figures drawn by other processes: the same files, each written once, whatever happens to a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from pictures import heatmap, photo

from vislab.core.bands import Reading, remember
from vislab.core.fingerprints import of_image
from vislab.figures import pool, provenance, task, worker
from vislab.figures.pool import Pool
from vislab.figures.task import Task

LOOK = {"dpi": 50, "caption": ""}


def tasks(folder: Path, suffix: str = ".png", count: int = 3) -> list[Task]:
    folder.mkdir(exist_ok=True)
    heats = [replace(heatmap(np.eye(2) * (k + 1)), image=np.roll(photo(), k, 0)) for k in range(count)]
    return [Task(folder / f"{k}{suffix}", heat, LOOK, ("npz",), notes={"job": k}) for k, heat in enumerate(heats)]


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def of_this_process() -> list[psutil.Process]:
    children = psutil.Process().children()
    while any(not one.cmdline() and one.status() != psutil.STATUS_ZOMBIE for one in children):
        time.sleep(0.01)  # it has begun, and Linux does not tell yet as what
    return [one for one in children if worker.__name__ in " ".join(one.cmdline())]


def test_two_processes_write_what_one_does_to_the_bit_and_neither_is_left(tmp_path: Path) -> None:
    for count, folder in ((2, tmp_path / "two"), (0, tmp_path / "none")):
        with Pool(count) as several:
            assert len(of_this_process()) == count
            given = [
                *tasks(folder),
                replace(tasks(folder)[0], path=folder / "plain.png", plain=True),
                replace(tasks(folder)[1], path=folder / "page.pdf", beside=("json", "tex")),
            ]
            answers = [several.submit(one) for one in given]
            for answer in answers:  # what waits for a process when the pool ends is left out
                answer.result().tell()
        assert of_this_process() == []
    assert written(tmp_path / "two") == written(tmp_path / "none")
    assert len(written(tmp_path / "two")) == 11


def test_a_process_that_is_killed_is_replaced_and_its_figure_drawn_again(tmp_path: Path) -> None:
    with Pool(1) as one, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        one.submit(tasks(tmp_path)[0]).result().tell()
        [process] = of_this_process()
        process.send_signal(signal.SIGSTOP)
        second = one.submit(tasks(tmp_path)[1])
        time.sleep(0.1)
        process.kill()
        second.result().tell()
        [another] = of_this_process()
        assert another.pid != process.pid
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.npz", "0.png", "1.npz", "1.png"]
    [warning] = [str(one.message) for one in told]
    assert "1.png' was ended by signal 9 (SIGKILL): another one draws it again" in warning


def test_what_ends_each_process_is_given_up_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = worker.Worker.run

    def deadly(self: worker.Worker, given: Task) -> worker.Answer:
        if given.path.name == "1.png":
            self._process.kill()
        return started(self, given)

    monkeypatch.setattr(worker.Worker, "run", deadly)
    with Pool(1) as one:
        answers = [one.submit(given).result() for given in tasks(tmp_path)]
    answers[0].tell()
    answers[2].tell()
    with pytest.raises(worker.Ended, match=r"1\.png' was ended 2 times, at last by signal 9 .*take fewer --workers"):
        answers[1].tell()
    assert not (tmp_path / "1.png").exists()


def test_errors_and_warnings_of_a_process_are_those_of_this_one(tmp_path: Path) -> None:
    strange, nowhere = tasks(tmp_path)[:2]
    strange = replace(strange, look=LOOK | {"title": "\ue001"})  # a letter that no font has
    nowhere = replace(nowhere, path=tmp_path / "no" / "f.png")
    wide = replace(nowhere, look=LOOK | {"width": 1})
    for count in (0, 1):
        with Pool(count) as made, warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            made.submit(strange).result().tell()
            assert any("Glyph 57345" in str(one.message) for one in told)
            with pytest.raises(FileNotFoundError, match=r"no/\.f\.npz") as lost:
                made.submit(nowhere).result().tell()
            assert "in write" in lost.value.__notes__[0]
            with pytest.raises(ValueError, match="take a larger width"):
                made.submit(wide).result().tell()


def test_an_error_that_cannot_be_sent_is_told_by_its_words() -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    sent = worker.sendable(Odd(1, 2))
    assert type(sent) is RuntimeError
    assert str(sent) == "1 and 2"
    assert type(worker.sendable(KeyError("x"))) is KeyError


def test_how_a_photo_was_read_goes_with_it(tmp_path: Path) -> None:
    [one] = tasks(tmp_path, count=1)
    image = np.roll(photo(), 5, 1)
    remember(image, Reading((3, 2, 1), "percentile"), [(0, 9)] * 3)
    heat = replace(one.heat, image=image)
    with Pool(1) as made:
        made.submit(replace(one, heat=heat, reading=task.reading_of(heat))).result().tell()
    told = provenance.provenance(one.path)["images"][of_image(image)]
    assert told == {"height": 32, "width": 48, "bands": [3, 2, 1], "stretch": "percentile", "ranges": [[0, 9]] * 3}
    assert task.reading_of(replace(heat, image=None)) == {}


def test_a_process_that_draws_loads_no_model_and_ends_with_the_one_that_made_it(tmp_path: Path) -> None:
    script = (
        "import os, sys, time\n"
        "from vislab.figures.worker import Worker\n"
        "print(Worker().pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True) as first:
        drawing = psutil.Process(int(first.stdout.readline()))
        first.kill()
    drawing.wait(20)
    heavy = "import sys, vislab.figures.worker as w; w._warm(); print({'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", heavy], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_ctrl_c_lets_what_is_written_be_finished_and_a_second_one_does_not_wait(tmp_path: Path) -> None:
    many = Pool(1).__enter__()
    futures = [many.submit(one) for one in tasks(tmp_path)]
    many.close()
    many.close()
    assert of_this_process() == []
    drawn = [path.name for path in sorted(tmp_path.glob("*.png"))]
    assert drawn == [f"{k}.png" for k, one in enumerate(futures) if not one.cancelled()]
    assert not list(tmp_path.glob(".*"))

    stuck = Pool(1).__enter__()
    [process] = of_this_process()
    process.send_signal(signal.SIGSTOP)
    waiting = stuck.submit(tasks(tmp_path)[2])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            stuck.close()
    finally:
        signal.signal(signal.SIGINT, before)
    assert of_this_process() == []
    assert isinstance(waiting.result(10).error, worker.Ended)
    assert of_this_process() == []


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= pool.cores() <= os.cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert pool.cores() == os.cpu_count()
