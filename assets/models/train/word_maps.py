"""Measure what the maps of the embedded reader's words are worth, every method of words beside each other.

    python word_maps.py --data DIR [--model embedded-reader] [--scenes 40] [--seed 0] [--steps 8] [--write FILE ...]

On scenes of two to four pictures, put together of the half of the validation pictures that training never saw, one
question a scene, in turns "what is at … ?" and "where is … ?"; those that the model answers right, until there are so
many. Of the answer's longest word: its probability while squares are removed in the order of the map and put back
(`vislab.evaluate`), how much of the map's positive values lies in the quarter of the picture that the word rests on,
how often the highest place of the map does (chance: 0.25 of both), and what a map takes of the processor, one forward
over question and answer being 1, in the median of the scenes. `--minutes` ends it early, at as many scenes as the table
then says. `--write` puts the table between the marks <!-- words --> and <!-- /words --> of files.
"""

from __future__ import annotations

import functools
import random
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import load
from loop import parser, require
from scenes import SIDE, Box, Scene, name_of, place_of, scenes

import vislab
from vislab.evaluation import answered
from vislab.evaluation.ranks import mean_and_error
from vislab.evaluation.report import Evaluation
from vislab.language.prompt import extended

METHODS = answered.METHODS
MEASURES = ("deletion", "insertion", "over random", "pointing")
HEAD = ("", "deletion ↓", "insertion ↑", "over random ↑", "in the right quarter ↑", "highest there ↑", "time")


@dataclass(frozen=True)
class Case:
    """A right answer, and the quarter, (left, top, right, bottom) in pixels, that its longest word rests on."""

    answer: vislab.Answer
    word: int
    quarter: Box


@dataclass(frozen=True)
class Found:
    """What was measured of one case: removal and pointing, and by method whether the highest place is there, and time.

    highest: 0 to 1, the share of the highest places that lie in the quarter. taken: processor time, in forwards.
    """

    evaluation: Evaluation
    highest: dict[str, float]
    taken: dict[str, float]


def cases(model: str, made: Iterator[Scene], *, seed: int, device: str) -> Iterator[Case]:
    """One of each scene that has two pictures or more and is answered right, the two kinds of questions in turns."""
    rng, kinds = random.Random(seed), (name_of, place_of)
    found = 0
    for scene in made:
        if len(scene.pictures) < 2:
            continue
        picture = rng.choice(scene.pictures)
        question = kinds[found % 2](picture)
        answer = vislab.ask(scene.image, question.text, model=model, device=device)
        if answer.text != question.answer:
            continue
        found += 1
        lengths = [len(word.text) for word in answer.words]
        yield Case(answer, lengths.index(max(lengths)), box_of(picture.place))


def box_of(place: int) -> Box:
    """The box of a place, an index of PLACES."""
    half = SIDE // 2
    left, top = place % 2 * half, place // 2 * half
    return left, top, left + half, top + half


def measured(case: Case, *, steps: int, seed: int) -> Found:
    """Every method of words on one case. seed: of the random order and of ties."""
    answer, word = case.answer, case.word
    how: dict[str, Any] = {"targets": [word], "boxes": [case.quarter], "steps": steps, "seed": seed}
    evaluation = vislab.evaluate([answer], methods=METHODS, progress=False, **how)
    inside = np.zeros((answered.SQUARES,) * 2, dtype=bool)
    left, top, right, bottom = (edge * answered.SQUARES // SIDE for edge in case.quarter)
    inside[top:bottom, left:right] = True
    forward, _ = clocked(lambda: plain(answer))
    highest, taken = {}, {}
    for name, keywords in METHODS.items():
        taken[name], heat = clocked(functools.partial(vislab.explain, answer, target=word, **keywords))
        taken[name] /= forward
        squares = answered.on_squares(heat)
        highest[name] = float(inside[squares == squares.max()].mean())
    return Found(evaluation, highest, taken)


@torch.no_grad()
def plain(answer: vislab.Answer) -> None:
    """One forward over question and answer, as the model runs by itself."""
    prompt = answer.inputs["input_ids"].shape[1]
    answer.reader.module(**extended(answer.inputs, answer.ids[prompt:-1]), use_cache=False)


def clocked(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor, and what came out."""
    start = time.process_time()
    made = run()
    return time.process_time() - start, made


def table(found: Sequence[Found], *, seed: int) -> Iterator[str]:
    """The table, line by line, the baselines last."""
    whole, first = joined([one.evaluation for one in found]), found[0].evaluation
    count, steps = len(found), len(first.share) - 1
    samples = whole.samples
    yield "| " + " | ".join(HEAD) + " |"
    yield "|---" * len(HEAD) + "|"
    for number, name in enumerate(whole.methods):
        cells = [said(samples[measure][number]) for measure in MEASURES]
        if name in METHODS:
            highest = statistics.mean(one.highest[name] for one in found)
            cells += [f"{highest:.0%}".replace("%", " %"), f"{statistics.median(one.taken[name] for one in found):.2f}"]
        else:
            cells += ["", ""]
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""
    yield (
        f"{count} words of {count} scenes, seed {seed}, {steps} steps over a blurred image, mean ± standard error; "
        "time in forwards over question and answer."
    )


def joined(several: Sequence[Evaluation]) -> Evaluation:
    """Evaluations of one case each, as one of all."""
    axes = {"deletion": 1, "insertion": 1, "pointing": 1, "agreement": -1}
    parts: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in several], axis)
                             for name, axis in axes.items()}  # fmt: skip
    return replace(several[0], targets=tuple(target for one in several for target in one.targets), **parts)


def said(samples: np.ndarray) -> str:
    """Mean ± standard error; one number where all are the same, or there is only one."""
    mean, error = mean_and_error(samples)
    numbers = [mean] if len(samples) < 2 or error < 5e-4 else [mean, error]
    return " ± ".join(f"{number:.3f}" for number in numbers).replace("-", "−")


def write_between(path: Path, block: str) -> None:
    """Put a table between the marks of a file."""
    text = path.read_text(encoding="utf-8")
    text, times = re.subn(r"(?s)(?<=<!-- words -->\n).*(?=<!-- /words -->)", lambda _: block, text)
    if times != 1:
        raise SystemExit(f"{path} has no <!-- words --> with <!-- /words --> after it: put them in")
    path.write_text(text, encoding="utf-8")


def main() -> None:
    command = parser(__doc__)
    require(command, "data")
    command.add_argument("--model", default="embedded-reader")
    command.add_argument("--scenes", type=int, default=40, help="that are answered right")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--steps", type=int, default=8, help="of removal")
    command.add_argument("--minutes", type=float, default=float("inf"), help="after which no scene is begun")
    command.add_argument("--write", type=Path, nargs="+", default=[], help="files to write the table into")
    args = command.parse_args()
    torch.set_num_threads(1)
    images, labels = load(args.data, "val")
    made = scenes(images[1::2], labels[1::2], seed=args.seed, count=20 * args.scenes)
    start, found = time.monotonic(), []
    for number, case in enumerate(cases(args.model, made, seed=args.seed, device=args.device)):
        found.append(measured(case, steps=args.steps, seed=args.seed + number))
        if len(found) == args.scenes or time.monotonic() - start > 60 * args.minutes:
            break
    if not found:
        raise SystemExit(f"{args.model} answered none of {20 * args.scenes} scenes right: take a model that does")
    lines = [*table(found, seed=args.seed)]
    print("\n".join(lines))
    for path in args.write:
        write_between(path, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
