"""One figure of many: what is drawn, how, and the files that it goes into. No model is needed to draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.bands import Reading, how_read, remember
from ..core.fingerprints import of_image
from ..core.heatmap import Heatmap


@dataclass(frozen=True, eq=False)
class Task:
    """A figure to be written, here or in another process.

    heat: with its photograph. look: keywords of `panel`. beside, plain, notes: as of `write_all`. reading: how the
    photograph was read, for the record, where bands or a stretch were asked for.
    """

    path: Path
    heat: Heatmap
    look: Mapping[str, Any] = field(default_factory=dict)
    beside: Sequence[str] = ()
    plain: bool = False
    notes: Mapping[str, Any] | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Write the figure and what stands beside it, each whole or not at all. Errors are those of `write_all`."""
        from .panel import panel
        from .save import write_all

        if self.reading and self.heat.image is not None:
            how = Reading(self.reading["bands"], self.reading["stretch"])
            remember(self.heat.image, how, self.reading["ranges"])
        figure = panel(self.heat, **self.look)
        write_all(self.path, figure, beside=self.beside, plain=self.plain, notes=self.notes)


def reading_of(heat: Heatmap) -> Mapping[str, Any]:
    """How the photograph of a heatmap was read in this process, which another one does not know."""
    return {} if heat.image is None else how_read(of_image(heat.image))
