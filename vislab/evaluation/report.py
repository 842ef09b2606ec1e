"""What an evaluation found: the table, as rows, CSV and HTML, and the figure of its curves."""

from __future__ import annotations

import functools
import html
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.files import check_folder, write
from ..figures.drawing import styled
from ..figures.formats import WRITERS
from ..figures.layout import EDGE, LINE
from ..figures.lettering import lines_of
from ..figures.page import FONT, SCREEN, SMALL
from ..figures.provenance import versions
from ..methods.registry import METHODS
from .ranks import mean_and_error
from .rows import csv_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


RANDOM, CENTRE = BASELINES = ("random", "centre")
# What each measure is and which way is better, as the notebook's table says it.
MEASURES = {
    "deletion": ("deletion ↓", "area under the class's probability while patches are removed, highest first"),
    "insertion": ("insertion ↑", "area under the class's probability while patches are put back, highest first"),
    "over random": ("over random ↑", "insertion − deletion, less that of a random order on the same image"),
    "pointing": (
        "pointing ↑",
        "share of the positive map in the class's quarter of a 2 × 2 mosaic; 0.25 is chance; of a word, in its box",
    ),
    "randomised": (
        "randomised → 0",
        "rank correlation with the map after weights are drawn anew, mean of the whole cascade",
    ),
}
COLUMNS = ("method", "measure", "mean", "standard_error", "n")
# Of the table as a file, which says of each number by itself what it is.
FILE_COLUMNS = (*COLUMNS, "direction", "model", "images", "steps", "fill", "seed", "vislab")
ERROR = "mean ± standard error"
DIRECTIONS = {"↓": "lower is better", "↑": "higher is better", "0": "nearer to 0 is better"}
# Okabe & Ito 2008, told apart with any colour vision; their yellow and black left out, which print too light and too
# dark beside the rest. Dashes tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ((0, ()), (0, (5, 1.2)), (0, (2, 1)), (0, (6, 1, 1.5, 1)), (0, (1, 0.8)))
GREY = {RANDOM: ("#777777", (0, ())), CENTRE: ("#777777", (0, (1, 1)))}
WIDE, TALL = 180.0, 62.0  # mm
LEGEND = 24  # letters of a line


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How faithful maps are to a model, method by method; `evaluate` makes one.

    methods: names, the baselines last. targets: the class of each image, in words. share: (steps + 1,) of the patches
    changed. deletion, insertion: (methods, images, steps + 1) probabilities. agreement: (methods, methods, images)
    rank correlations. pointing: (methods, mosaics) 0 to 1. parts: what was randomised, from the top of the model down.
    randomised: (methods, images, parts) rank correlations with the map of the untouched model. skipped: a sentence for
    each image left out. settings: the keywords of `evaluate`.

    Shows its table as the last expression of a notebook cell, and in Markdown where it is printed; `figure` draws the
    curves, `save` writes either.
    """

    methods: tuple[str, ...]
    targets: tuple[str, ...]
    share: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    agreement: np.ndarray
    pointing: np.ndarray
    parts: tuple[str, ...]
    randomised: np.ndarray
    skipped: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def samples(self) -> dict[str, np.ndarray]:
        """Measure -> (methods, n): one number a method and image, or mosaic; only the measures that were taken."""
        deletion, insertion = (np.trapezoid(curves, self.share, axis=-1) for curves in (self.deletion, self.insertion))
        both = insertion - deletion
        samples = {
            "deletion": deletion,
            "insertion": insertion,
            "over random": both - both[self.methods.index(RANDOM)],
            "pointing": self.pointing,
            "randomised": self.randomised.mean(-1) if self.parts else np.zeros((len(self.methods), 0)),
        }
        return {measure: values for measure, values in samples.items() if values.shape[1]}

    def rows(self) -> list[dict[str, Any]]:
        """The table as a list of {method, measure, mean, standard_error, n}; agreement between methods included."""
        samples = self.samples
        samples |= {f"agreement with {name}": self.agreement[:, k] for k, name in enumerate(self.methods)}
        return [
            dict(zip(COLUMNS, (method, measure, *mean_and_error(values[m]), values.shape[1]), strict=True))
            for m, method in enumerate(self.methods)
            for measure, values in samples.items()
        ]

    def csv(self) -> str:
        """The rows as CSV, each with which way is better, the model, and what it was measured with."""
        known = {name: self.settings.get(name) for name in ("model", "fill", "seed")}
        known |= {"images": len(self.targets), "steps": len(self.share) - 1, "vislab": versions()["vislab"]}
        return csv_of(({**row, **known, "direction": direction(row["measure"])} for row in self.rows()), FILE_COLUMNS)

    def figure(self) -> Figure:
        """Mean curves of deletion, insertion and, where it was done, the randomisation check, with standard errors."""
        from matplotlib import rcParams

        with styled():
            rcParams.update({"font.size": FONT, "axes.linewidth": 0.5})
            panels = 3 if self.parts else 2
            wide = WIDE * (panels + 0.7) / 3.7  # mm; the legend is as wide as 0.7 panels
            said = lines_of(self._drawn, wide - 2 * EDGE, 1, SMALL).words
            tall = TALL + LINE * len(said)
            figure = _notebook_figure()(figsize=(wide / 25.4, tall / 25.4), dpi=SCREEN, layout="constrained")
            axes: Sequence[Axes] = figure.subplots(1, panels)
            _draw_removal(axes[0], self, self.deletion, "Deletion, lower is better", "patches removed")
            _draw_removal(axes[1], self, self.insertion, "Insertion, higher is better", "patches put back")
            if self.parts:
                _draw_randomised(axes[2], self)
            lines = axes[0].get_lines()
            names = [fill(name, LEGEND) for name in self._words]
            figure.legend(lines, names, loc="outside right center", frameon=False, handlelength=2.8)
            figure.supxlabel("\n".join(said), x=EDGE / wide, ha="left", size=SMALL)
        return figure

    def save(self, path: str | os.PathLike[str], *, dpi: int = 300) -> Path:
        """Write the figure (.png, .jpg, .pdf, .svg) or the table (.csv) -> its path.

        How it was made travels with a figure (see `provenance`). ValueError: another suffix.
        """
        path = destination(path)
        suffix = path.suffix.lower()
        if suffix == ".csv":
            write(path, self.csv().encode())
            return path
        packages = versions()
        evaluation = {"settings": dict(self.settings), "rows": self.rows()}
        record = {"vislab": packages["vislab"], "evaluation": evaluation, "versions": packages}
        with styled():
            write(path, WRITERS[suffix](self.figure(), dpi, "Faithfulness of maps", self._drawn, record))
        return path

    @property
    def caption(self) -> str:
        """What was measured on what, in one line."""
        known = self.settings
        count = len(self.targets)
        seen = f"{count} image{'s' if count > 1 else ''}" + (f", {len(self.skipped)} left out" if self.skipped else "")
        steps = f"{len(self.share) - 1} steps over a {known['fill']} fill"
        return f"{known['model']} · {seen} · {steps} · seed {known['seed']} · {averaged(count)}"

    @property
    def _drawn(self) -> str:
        """The caption of the curves, which says how many photographs each shows, and what their bands are."""
        count = len(self.targets)
        parts = [self.caption.removesuffix(f" · {averaged(count)}")]
        parts += [f"weights drawn anew on {self.randomised.shape[1]} of them"] if self.parts and count > 1 else []
        return " · ".join([*parts, "lines: means, bands: one standard error" if count > 1 else averaged(count)])

    @property
    def _words(self) -> list[str]:
        """The methods as captions call them; settings that have a name of their own keep it."""
        asked = self.settings.get("methods", {})
        own = {name: METHODS[name] for name in self.methods if asked.get(name) == {"method": name}}
        words = {name: "attention of CLS" if name == "cls" else one.words or one.label for name, one in own.items()}
        every = [words.get(name, name) for name in self.methods]
        return [one if every.count(one) == 1 else name for name, one in zip(self.methods, every, strict=True)]

    def __repr__(self) -> str:
        samples = self.samples
        head = ["", *(f"{MEASURES[measure][0]} (n = {values.shape[1]})" for measure, values in samples.items())]
        body = [[name, *(_cell(values[m]) for values in samples.values())] for m, name in enumerate(self.methods)]
        wide = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        rule = ["-" * count for count in wide]
        lines = [" | ".join(map(str.ljust, cells, wide)) for cells in (head, rule, *body)]
        return "\n".join([f"{self.caption}\n", *(f"| {line} |" for line in lines)])

    def _repr_html_(self) -> str:
        samples, names = self.samples, [html.escape(name) for name in self.methods]
        head = [f'<th title="{MEASURES[m][1]}">{MEASURES[m][0]}<br>n = {v.shape[1]}</th>' for m, v in samples.items()]
        body = [[values[m] for values in samples.values()] for m in range(len(names))]
        agreement = _html_table([f"<th>{name}</th>" for name in names], names, self.agreement)
        left_out = "".join(f"<li>{html.escape(reason)}</li>" for reason in self.skipped)
        return (
            f"<p>{html.escape(self.caption)}</p>{_html_table(head, names, body)}"
            f"<details><summary>Rank agreement between methods</summary>{agreement}</details>"
            + (f"<details open><summary>Left out</summary><ul>{left_out}</ul></details>" if left_out else "")
        )


def averaged(count: int) -> str:
    """What the numbers of so many photographs are, in words."""
    return ERROR if count > 1 else "one photograph: no average"


def direction(measure: str) -> str:
    """Which way a measure is better, in words; "" of agreement between methods, which is neither."""
    arrow = MEASURES[measure][0][-1] if measure in MEASURES else ""
    return DIRECTIONS.get(arrow, "")


@functools.cache
def _notebook_figure() -> type[Figure]:
    """The class of a figure that a notebook shows as a picture; matplotlib's shows as text until pyplot is used."""
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", dpi=SCREEN)
            return file.getvalue()

    return NotebookFigure


def destination(path: str | os.PathLike[str]) -> Path:
    """Where `Evaluation.save` would write. Raises ValueError or FileNotFoundError where it could not."""
    path = Path(path)
    if path.suffix.lower() not in (".csv", *WRITERS):
        raise ValueError(
            f"no evaluation is written as {path.suffix or path.name!r}: take .csv for the table, or "
            f"{', '.join(WRITERS)} for the figure"
        )
    check_folder(path)
    return path


def _cell(samples: np.ndarray) -> str:
    """Mean ± standard error; of a single number, which has none, that number."""
    numbers = [f"{value:.3f}".replace("-", "−") for value in mean_and_error(samples) if not np.isnan(value)]
    return " ± ".join(numbers) or "–"


def _html_table(head: Sequence[str], names: Sequence[str], body: Iterable[Iterable[np.ndarray]]) -> str:
    cells = ("".join(f"<td>{_cell(samples)}</td>" for samples in row) for row in body)
    lines = "".join(f"<tr><th>{name}</th>{row}</tr>" for name, row in zip(names, cells, strict=True))
    head_line = f"<thead><tr><th></th>{''.join(head)}</tr></thead>"
    return f'<table style="white-space: nowrap">{head_line}<tbody>{lines}</tbody></table>'


def _styles(methods: Sequence[str]) -> list[dict[str, Any]]:
    """Colour and dashes of each method's line: grey for baselines."""
    fresh = zip(cycle(COLOURS), cycle(DASHES), strict=False)
    pairs = [GREY[name] if name in GREY else next(fresh) for name in methods]
    return [{"color": colour, "linestyle": dashes} for colour, dashes in pairs]


def _draw_lines(ax: Axes, at: np.ndarray, methods: Sequence[str], curves: np.ndarray) -> None:
    """curves: (methods, n, len(at)): their mean, and one standard error to either side where there are several."""
    mean, count = curves.mean(1), curves.shape[1]
    error = curves.std(1, ddof=1) / count**0.5 if count > 1 else np.zeros_like(mean)
    for m, style in enumerate(_styles(methods)):
        ax.plot(at, mean[m], linewidth=1.1, **style)
        ax.fill_between(at, mean[m] - error[m], mean[m] + error[m], color=style["color"], alpha=0.12, linewidth=0)


def _draw_removal(ax: Axes, evaluation: Evaluation, curves: np.ndarray, title: str, share: str) -> None:
    _draw_lines(ax, evaluation.share * 100, evaluation.methods, curves)
    ax.set(title=title, xlabel=f"{share} (%)", ylabel="probability of the class", xlim=(0, 100), ylim=(0, 1))
    _plain(ax)


def _draw_randomised(ax: Axes, evaluation: Evaluation) -> None:
    """From the untouched model, whose maps agree with themselves, down to one that has forgotten everything."""
    untouched = np.ones((*evaluation.randomised.shape[:2], 1))
    untouched[evaluation.methods.index(RANDOM)] = np.nan  # it is drawn anew each time, and has nothing to begin with
    at = np.arange(len(evaluation.parts) + 1)
    _draw_lines(ax, at, evaluation.methods, np.concatenate([untouched, evaluation.randomised], axis=-1))
    ax.set(title="Weights drawn anew, from the top", xlabel="drawn anew down to", ylabel="rank correlation")
    ax.set(xlim=(0, len(evaluation.parts)), ylim=(min(-0.25, float(evaluation.randomised.mean(1).min()) - 0.05), 1.02))
    ax.set_xticks(at, ["none", *evaluation.parts], rotation=90)
    ax.axhline(0, color="#bbbbbb", linewidth=0.5, zorder=0)
    _plain(ax)


def _plain(ax: Axes) -> None:
    ax.title.set_fontsize(FONT)
    ax.tick_params(labelsize=SMALL, width=0.5, length=2)
    ax.spines[["top", "right"]].set_visible(False)
