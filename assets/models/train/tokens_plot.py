"""Draw what `tokens.py` measured: accuracy against tokens, a line a way of spending them."""

from __future__ import annotations

import csv
import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

STYLE = {"font.size": 9, "svg.hashsalt": "vislab", "axes.spines.top": False, "axes.spines.right": False}
INCHES = (9.2, 5.2)
TICKS = (20, 50, 100, 200, 400, 800)
DRAWN = "there, "  # begins the name of what is beside the fovea on the drawn box, of the same images
# Way -> what the labels of its points are, colour (of Okabe & Ito), marker.
WAYS = {
    "even": ("one patch size: its side, px", "#404040", "o"),
    "keep": ("keep: share of patches that is left", "#0072b2", "s"),
    "merge": ("merge: pairs between two layers", "#d55e00", "^"),
    "fovea": ("fovea: 16 px within, 32 px around", "#009e73", "D"),
}
# Where a label may stand about its point, the better first: across and up, in its own sizes and points.
PLACES = [(0, 1, 5), (0, -1, 5), (1, 0, 5), (-1, 0, 5), (1, 1, 3), (-1, 1, 3), (1, -1, 3), (-1, -1, 3)]


@dataclass(frozen=True)
class Measured:
    """A line of the table. tokens: the mean over layers and images. right: the share of the images that were classed
    right. time: against even patches of 16 px.
    """

    name: str
    tokens: float
    right: float
    images: int
    time: float

    @property
    def error(self) -> float:
        """The standard error of the share, in points."""
        return 100 * float((self.right * (1 - self.right) / self.images) ** 0.5)


def write_rows(path: Path, rows: Sequence[Measured]) -> None:
    """The table as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [part.name for part in fields(Measured)])
        table.writeheader()
        table.writerows(map(asdict, rows))


def read_rows(path: Path) -> list[Measured]:
    """What `write_rows` wrote, or `tokens.py` printed: a table of Markdown, in whatever text it stands."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            cells = [list(row.values()) for row in csv.DictReader(file)]
    else:
        lines = [line.strip("| \n").split(" | ") for line in path.read_text(encoding="utf-8").splitlines()]
        cells = [line for line in lines if line[0].startswith((*WAYS, DRAWN)) and len(line) == 5]
        cells = [[name, tokens, _share(right), images, time] for name, tokens, right, images, time in cells]
    if not cells:
        raise ValueError(f"{path} holds no table of tokens.py: give the CSV of --rows, or a text with what it printed")
    return [Measured(name, float(n), float(right), int(images), float(time)) for name, n, right, images, time in cells]


def _share(percent: str) -> str:
    return str(float(percent.rstrip("% ")) / 100)


def plot(rows: Sequence[Measured], path: Path) -> None:
    """Draw rows; the suffix of the path says the format."""
    rows = [row for row in rows if " by " not in row.name and "one token" not in row.name]
    drawn = [row for row in rows if row.name.startswith(DRAWN) or "drawn" in row.name]
    all_images = [row for row in rows if row not in drawn]
    with plt.rc_context(STYLE):
        ratios = [3.6, 1] if drawn else [1]
        figure, axes = plt.subplots(1, len(ratios), figsize=INCHES, sharey=True, width_ratios=ratios, squeeze=False)
        for ax, part, whole in zip(axes[0], (all_images, drawn), (True, False), strict=False):
            words = f"{part[0].images:,} validation images{'' if whole else ', with boxes drawn by hand'}"
            ax.set_title(textwrap.fill(words, 60 if whole else 20), loc="left", fontsize=9)
            _draw(ax, part, whole)
        axes[0, 0].set_ylabel("right, % of images")
        axes[0, 0].legend(loc="lower right", frameon=False, title="bars: one standard error", alignment="left")
        figure.suptitle("Accuracy against tokens: the embedded ViT on Imagenette", x=0.01, ha="left", fontsize=11)
        figure.tight_layout(rect=(0, 0, 1, 0.99))
        for ax, part in zip(axes[0], (all_images, drawn), strict=False):
            _label(ax, part)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


def _way(row: Measured) -> str:
    name = row.name.removeprefix(DRAWN)
    return next(way for way in WAYS if name.startswith(way))


def _draw(ax: Axes, rows: Sequence[Measured], lines: bool) -> None:
    for way, (words, colour, marker) in WAYS.items():
        points = sorted((row for row in rows if _way(row) == way), key=lambda row: row.tokens)
        tokens, right = [row.tokens for row in points], [100 * row.right for row in points]
        line = "-" if lines and way != "fovea" else ""
        style: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line, "label": words}
        bars = [row.error for row in points]
        ax.errorbar(tokens, right, bars, markersize=5, linewidth=1.2, elinewidth=0.7, ecolor=f"{colour}70", **style)
    ax.set(xscale="log", xlabel="tokens a layer")
    ax.set_xticks(TICKS, [str(tick) for tick in TICKS])
    ax.minorticks_off()
    low, high = min(row.tokens for row in rows), max(row.tokens for row in rows)
    ax.set_xlim(low / 1.2, high * 1.2)
    ax.grid(alpha=0.25, linewidth=0.6)


def _label(ax: Axes, rows: Sequence[Measured]) -> None:
    """A label beside each point, where it covers no other label, no point and no line."""
    pixel = ax.figure.dpi / 72
    at = {row: ax.transData.transform((row.tokens, 100 * row.right)) for row in rows}
    taken = [_box(x, y, 8 * pixel, 8 * pixel) for x, y in at.values()]
    taken += [_box(x, y, 2 * pixel, 2 * pixel) for x, y in _on_lines(ax)]
    legend = ax.get_legend()
    taken += [] if legend is None else [legend.get_window_extent()]
    for row in sorted(rows, key=lambda row: -row.right):
        if row.name == "keep 1":
            continue  # the even patches of 16 px once more
        way, point = _way(row), (row.tokens, 100 * row.right)
        words = row.name.removeprefix(DRAWN).removeprefix(way).strip(", ").removesuffix(" px").removeprefix("on the ")
        style: dict[str, Any] = {"textcoords": "offset points", "color": WAYS[way][1], "ha": "center", "va": "center"}
        label = ax.annotate(
            words, point, (0, 0), size=8, path_effects=[withStroke(linewidth=2, foreground="w")], **style
        )
        size = label.get_window_extent()
        rivals = [at[other] for other in rows if _way(other) == way and other != row]
        across, up = _free(ax, at[row], (size.width, size.height), taken, rivals)
        label.set_position((across / pixel, up / pixel))
        taken.append(_box(at[row][0] + across, at[row][1] + up, size.width, size.height))
        if np.hypot(across, up) > size.width / 2 + 14 * pixel:
            arrow = {"arrowstyle": "-", "color": WAYS[way][1], "linewidth": 0.5, "shrinkA": 5, "shrinkB": 3}
            ax.annotate("", point, label.get_position(), textcoords="offset points", arrowprops=arrow)


def _box(x: float, y: float, width: float, height: float) -> Bbox:
    """One about a centre."""
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)


def _on_lines(ax: Axes) -> np.ndarray:
    """Points on the lines that are drawn, pixels, 60 a stretch. -> (n, 2)"""
    lines = [ax.transData.transform(line.get_xydata()) for line in ax.lines if line.get_linestyle() == "-"]
    steps = np.linspace(0, 1, 60)[:, None]
    found = [a + steps * (b - a) for line in lines for a, b in itertools.pairwise(line)]
    return np.concatenate(found) if found else np.empty((0, 2))


def _free(
    ax: Axes, at: Any, size: tuple[float, float], taken: Sequence[Bbox], rivals: Sequence[Any]
) -> tuple[float, float]:
    """Where a label of a size stands free, from its point, pixels; the nearest such place, else the first.

    rivals: points that it may not be nearer to than to its own.
    """
    pixel, around = ax.figure.dpi / 72, ax.get_window_extent()
    places = [
        (across * (size[0] / 2 + (gap + further) * pixel), up * (size[1] / 2 + (gap + further) * pixel))
        for further in (0, 4, 8, 14, 20, 28, 38)
        for across, up, gap in PLACES
    ]
    for across, up in places:
        box = _box(at[0] + across, at[1] + up, *size)
        inside = around.x0 <= box.x0 and box.x1 <= around.x1 and around.y0 <= box.y0 and box.y1 <= around.y1
        nearest = all(
            np.hypot(at[0] + across - other[0], at[1] + up - other[1]) > np.hypot(across, up) for other in rivals
        )
        if inside and nearest and not box.count_overlaps(taken):
            return across, up
    return places[0]
