"""Where everything stands on a page, in mm from its top left corner: pictures, colour bars, labels and the caption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from .colours import Range, colour_ticks
from .lettering import Lines, fitted, length, limited, lines_of
from .page import FONT, SMALL, WIDEST, Panel

Rect = tuple[float, float, float, float]  # left, top, width and height
TALLEST = 230.0  # mm, what a printed page holds
# In mm, at the text size of print; on a slide all of them grow with the text.
EDGE, GAP, TIGHT = 1.5, 3.0, 1.2  # the page's border; between pictures, and where nothing stands between them
BAR, BAR_GAP, BAR_TEXT = 1.8, 1.2, 7.5  # a colour bar, its distance from the photo, its numbers at least
TICK = 1.5  # from a bar to its numbers, and from these to what stands beside them
LINE, RISE = 3.2, 0.9  # of text, and the part of it below the baseline
STUB, UPRIGHT = 18.0, 2  # the widest labels of rows, and lines of them that are set upright
NARROWEST = 3.0  # a picture


@dataclass(frozen=True)
class Text:
    """A line of text. x, y: where its baseline begins or, if centred, has its middle. points: its size."""

    x: float
    y: float
    words: str
    points: float
    centred: bool = False
    upright: bool = False


@dataclass(frozen=True)
class Bar:
    """A colour bar; level ones lie under a column. label: what its values are, in lines of a size, or none."""

    place: Rect
    span: Range
    level: bool = False
    label: Sequence[str] = ()
    points: float = SMALL


@dataclass(frozen=True)
class Plan:
    """A page. pictures: by row and column. unit: how much larger than in print all is."""

    width: float
    height: float
    pictures: Mapping[tuple[int, int], Rect]
    bars: Sequence[Bar]
    texts: Sequence[Text]
    unit: float


def plan(panel: Panel) -> Plan:
    """Pictures as large as the paper lets them be. ValueError where they would be too small to see."""
    paper = panel.look.paper
    widest = paper.width or min(WIDEST, 60.0 + 60.0 * len(panel.cells[0]))
    tallest = paper.height or TALLEST
    shares, heights = _shares(panel)
    scale = widest / sum(shares)
    # Words break into other lines where pictures change their size: a few rounds, in which pictures only shrink.
    while True:
        draft = _Draft(panel, paper.text / FONT, [s * scale for s in shares], [h * scale for h in heights])
        if draft.width <= widest + 1e-6 and draft.height <= tallest + 1e-6:
            return _on_paper(draft, paper.width or draft.width, paper.height or draft.height)
        beside, above = draft.width - sum(draft.wides), draft.height - sum(draft.talls)
        scale *= min(1.0, (widest - beside) / sum(draft.wides), (tallest - above) / sum(draft.talls))
        if scale * min(shares) < draft.narrowest:
            if len(heights) == len(shares) == 1:
                raise ValueError(f"{widest:g} mm leave no room for the picture: take a larger width, or shorter labels")
            raise ValueError(
                f"{len(heights)} × {len(shares)} pictures would be {max(0.0, scale * min(shares)):.1f} mm wide on "
                f"{widest:g} mm: take a larger width, fewer pictures or shorter labels"
                + ("; or normalise='row'" if panel.look.normalise == "column" else "")
            )


def _shares(panel: Panel) -> tuple[list[float], list[float]]:
    """Widths of the columns and heights of the rows, for a scale of 1.

    Where each column shows photos of one shape, all pictures get the same height; else the same width.
    """
    aspects = {(i, j): _aspect(panel, i, j) for i, j, _ in panel.filled()}
    columns = [{a for (_, j), a in aspects.items() if j == k} or {1.0} for k in range(len(panel.cells[0]))]
    shares = [min(one) for one in columns] if all(len(one) == 1 for one in columns) else [1.0] * len(columns)
    heights = [
        max((shares[j] / aspect for (i, j), aspect in aspects.items() if i == row), default=0.0)
        for row in range(len(panel.cells))
    ]
    return shares, heights


def _aspect(panel: Panel, i: int, j: int) -> float:
    cell = panel.cells[i][j]
    assert cell is not None
    return cell.image.shape[1] / cell.image.shape[0]


def _on_paper(draft: _Draft, width: float, height: float) -> Plan:
    """In the middle of a page of a given size."""
    x, y = (width - draft.width) / 2, (height - draft.height) / 2

    def moved(place: Rect) -> Rect:
        return (place[0] + x, place[1] + y, *place[2:])

    pictures = {key: moved(place) for key, place in draft.pictures.items()}
    bars = [replace(bar, place=moved(bar.place)) for bar in draft.bars]
    texts = [replace(text, x=text.x + x, y=text.y + y) for text in draft.texts]
    return Plan(width, height, pictures, bars, texts, draft.unit)


class _Draft:
    """A page as large as its pictures ask for. wides, talls: mm of the columns and rows of pictures."""

    def __init__(self, panel: Panel, unit: float, wides: Sequence[float], talls: Sequence[float]) -> None:
        self.panel, self.unit, self.wides, self.talls = panel, unit, wides, talls
        self.line = LINE * unit
        self.normalise = panel.look.normalise
        self.with_bar = [one for one in panel.filled() if one[2].heat is not None]
        self.titles = {(i, j): fitted(cell.title, wides[j], unit) for i, j, cell in panel.filled()}
        self.heads = [fitted(label, wide, unit) for label, wide in zip(panel.columns, wides, strict=False)]
        stubs = [fitted(label, tall, unit) for label, tall in zip(panel.rows, talls, strict=False)]
        self.upright = all(len(one) <= UPRIGHT and "…" not in "".join(one.words) for one in stubs)
        self.stubs = stubs if self.upright else [fitted(label, STUB * unit, unit) for label in panel.rows]
        self.labels = self._bar_labels()

        self._across()
        self._down()
        self.texts = [*self._titles(), *self._row_labels(), *self._measures(), *self._caption()]
        self.height += EDGE * unit

    @property
    def narrowest(self) -> float:
        """Of a picture, mm: below it the two numbers of a level bar stand."""
        numbers = [label for *_, cell in self.with_bar for label in colour_ticks(cell.span, 2)[1]]
        level = 2.2 * max((length(label, SMALL * self.unit) for label in numbers), default=0.0)
        return max(NARROWEST, level if self.normalise == "column" else 0.0)

    @cached_property
    def numbers(self) -> float:
        """The room for the numbers beside upright bars, mm, however many of them stand there."""
        some = {one for *_, cell in self.with_bar for count in range(2, 7) for one in colour_ticks(cell.span, count)[1]}
        widest = max((length(one, SMALL * self.unit) for one in some), default=0.0)
        return max(BAR_TEXT * self.unit, widest + TICK * self.unit)

    @property
    def least_bar(self) -> float:
        """Of an upright bar, mm: beside it two numbers stand."""
        return 0.0 if self.normalise == "column" else 2 * self.line

    def _bar_labels(self) -> dict[tuple[int, int], Lines]:
        """What the bars say that they measure, in lines; of bars in a row that say the same, the last says it.

        By row and column of the picture; row -1 for bars under columns, column -1 for those at the end of rows, and
        both for one of all. What would be longer than two lines beside its bar is set smaller, or cut.
        """
        each, row_end = self.normalise in ("map", "column"), self.normalise in ("map", "row")
        measures: dict[tuple[int, int], set[str]] = {}
        for i, j, cell in self.with_bar:
            measures.setdefault((i if row_end else -1, j if each else -1), set()).add(cell.label)
        said = {key: some.pop() for key, some in measures.items() if len(some) == 1}
        if self.normalise == "map":
            rows = {i: [(j, one) for (row, j), one in said.items() if row == i] for i, _ in said}
            alike = {i for i, some in rows.items() if len({one for _, one in some}) == 1}
            said = {(i, j): one for (i, j), one in said.items() if i not in alike or j == rows[i][-1][0]}
        most = 1 if self.normalise == "column" else 2
        lines = {key: limited(one, self._along(*key), self.unit, most) for key, one in said.items() if one}
        return {key: some for key, some in lines.items() if len(some)}

    def _along(self, row: int, column: int) -> float:
        """How long the bar of a label is, mm; of one under a column less its factor, which stands in the same line."""
        if self.normalise != "column":
            return max(self.talls[row] if row >= 0 else sum(self.talls), self.least_bar)
        spans = {cell.span for _, j, cell in self.with_bar if j == column}
        factor = max(length(f" {colour_ticks(span)[2]}", SMALL * self.unit) for span in spans)
        return self.wides[column] - factor

    def _beside(self, column: int) -> float:
        """The room that a label takes beside the bars of a column, or of the rows' ends, mm."""
        return self.line * max((len(some) for (_, j), some in self.labels.items() if j == column), default=0)

    def _across(self) -> None:
        """Left edges of the columns, and the page's width."""
        u, room = self.unit, (BAR_GAP + BAR) * self.unit + self.numbers
        own, level = self.normalise == "map", self.normalise == "column"
        columns = {j for _, j, _ in self.with_bar} if own else set()
        gap = (GAP if own or not self.panel.columns else TIGHT) * u
        if self.upright:
            self.stub = self.line * max(map(len, self.stubs), default=0)
        else:
            self.stub = max((length(one, FONT * u) for label in self.stubs for one in label.words), default=0.0)
        self.lefts, x = [], EDGE * u + (self.stub + TIGHT * u if self.stub else 0.0)
        for j, wide in enumerate(self.wides):
            self.lefts.append(x)
            x += wide + (room + self._beside(j) if j in columns else 0.0) + gap
        self.right = x - gap
        self.width = self.right + (0.0 if own or level else room + self._beside(-1)) + EDGE * u

    def _down(self) -> None:
        """Top edges of the rows, pictures and bars, and the height so far."""
        u, level = self.unit, self.normalise == "column"
        gap = (GAP if self.normalise in ("map", "row") or any(self.titles.values()) else TIGHT) * u
        self.tops, y = [], EDGE * u + self.line * max(map(len, self.heads), default=0)
        for i, tall in enumerate(self.talls):
            titles = [len(words) for (row, _), words in self.titles.items() if row == i]
            y += self.line * max([int(self._has_factor(i)), *titles])
            self.tops.append(y)
            label = 0.0 if self.upright else self.line * len(self.stubs[i])
            y += max(tall, label, self.least_bar) + gap
        self.height = y - gap
        self.pictures = {(i, j): self._picture(i, j) for i, j, _ in self.panel.filled()}
        self.bars = list(self._bars())
        if level:
            more = any(colour_ticks(bar.span)[2] or bar.label for bar in self.bars)
            self.height += (BAR_GAP + BAR) * u + self.line * (1 + more)

    def _has_factor(self, row: int) -> bool:
        """Whether a bar that begins at this row has a factor such as ×10⁻³ above it."""
        beginning = [cell for i, _, cell in self.with_bar if i == row or self.normalise not in ("map", "row")]
        return (
            self.normalise != "column"
            and (row == 0 or self.normalise in ("map", "row"))
            and any(colour_ticks(cell.span)[2] for cell in beginning)
        )

    def _picture(self, i: int, j: int) -> Rect:
        aspect = _aspect(self.panel, i, j)
        tall = min(self.talls[i], self.wides[j] / aspect)
        return (self.lefts[j] + (self.wides[j] - tall * aspect) / 2, self.tops[i], tall * aspect, tall)

    def _bars(self) -> Iterator[Bar]:
        """A bar at each picture, at the end of each row, under each column, or one for all."""
        gap, thick = BAR_GAP * self.unit, BAR * self.unit
        bottom = self.tops[-1] + max(self.talls[-1], self.least_bar)

        def bar(i: int, j: int, place: Rect, span: Range, level: bool = False) -> Bar:
            label = self.labels.get((i, j), Lines())
            return Bar(place, span, level, label.words, label.points)

        if self.normalise == "map":
            for i, j, cell in self.with_bar:
                x, y, wide, tall = self.pictures[i, j]
                yield bar(i, j, (x + wide + gap, y, thick, max(tall, self.least_bar)), cell.span)
        elif self.normalise == "row":
            for i, span in {i: cell.span for i, _, cell in self.with_bar}.items():
                yield bar(i, -1, (self.right + gap, self.tops[i], thick, max(self.talls[i], self.least_bar)), span)
        elif self.normalise == "column":
            for j, span in {j: cell.span for _, j, cell in self.with_bar}.items():
                yield bar(-1, j, (self.lefts[j], self.height + gap, self.wides[j], thick), span, True)
        else:
            yield bar(-1, -1, (self.right + gap, self.tops[0], thick, bottom - self.tops[0]), self.with_bar[0][2].span)

    def _measures(self) -> Iterator[Text]:
        """What stands beside the numbers of upright bars, and below those of level ones."""
        for bar in self.bars:
            x, y, wide, tall = bar.place
            if bar.level:
                factor = colour_ticks(bar.span)[2]
                words = " ".join(filter(None, [*bar.label, factor]))
                below = Lines([words] if words else [], bar.points)
                yield from self._set(below, x, y + tall + (2 * LINE - RISE) * self.unit)
            else:
                first = x + wide + self.numbers + 0.5 * LINE * self.unit
                for k, one in enumerate(bar.label):
                    yield Text(first + k * self.line, y + tall / 2, one, bar.points * self.unit, True, True)

    def _titles(self) -> Iterator[Text]:
        rise, first = RISE * self.unit, EDGE * self.unit + self.line * max(map(len, self.heads), default=0)
        for (i, j), words in self.titles.items():
            yield from self._set(words, self.pictures[i, j][0], self.tops[i] - rise)
        for j, words in enumerate(self.heads):
            yield from self._set(words, self.lefts[j] + self.wides[j] / 2, first - rise, centred=True)

    def _row_labels(self) -> Iterator[Text]:
        for i, words in enumerate(self.stubs):
            middle = self.tops[i] + self.talls[i] / 2
            if self.upright:
                first = EDGE * self.unit + self.stub - self.line * (len(words) - 0.5)
                for k, one in enumerate(words.words):
                    yield Text(first + k * self.line, middle, one, words.points * self.unit, True, True)
            else:
                bottom = max(middle, self.tops[i] + self.line * len(words) / 2) + self.line * len(words) / 2
                yield from self._set(words, EDGE * self.unit, bottom - RISE * self.unit)

    def _caption(self) -> Iterator[Text]:
        below = lines_of(self.panel.caption, self.width - 2 * EDGE * self.unit, self.unit, SMALL)
        if len(below):
            self.height += self.unit + self.line * len(below)
            yield from self._set(below, EDGE * self.unit, self.height - 0.5 * self.unit)

    def _set(self, lines: Lines, x: float, bottom: float, *, centred: bool = False) -> Iterator[Text]:
        """Lines of text, the last one's baseline at the bottom."""
        for k, one in enumerate(reversed(lines.words)):
            yield Text(x, bottom - k * self.line, one, lines.points * self.unit, centred)
