"""What is asked of each photograph of many, and how its figure is drawn: the same here, and wherever else it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..core.fingerprints import of_weights
from ..figures.task import Task, reading_of
from ..models.tokens import DEFAULTS
from .errors import photo_errors
from .photos import Photo
from .table import TOP, row_of

if TYPE_CHECKING:
    from ..core.clip import ClipFrame
    from ..core.heatmap import Heatmap
    from ..models.model import Model

_NUMBERS = ("lowest", "highest", "mean", "entropy", "top_tenth", "peak_x", "peak_y")


@dataclass(frozen=True, eq=False)
class Figures:
    """A question to one model, and the look of its answers; it goes to other processes, which load the model.

    model, device, dtype: as `load` takes them. asked: keywords of `explain`. cell: (row, col) of the patch that attends
    on each photograph, or None. reading: bands and stretch, as of `load_image`. look: keywords of `panel`. beside,
    plain: as of `save`.
    """

    model: str = "embedded"
    device: str | None = None
    dtype: str | None = "float32"
    asked: Mapping[str, Any] = field(default_factory=dict)
    cell: tuple[int, int] | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    look: Mapping[str, Any] = field(default_factory=dict)
    beside: Sequence[str] = ()
    plain: bool = False
    # values and dropped: rows × cols, row by row; frame: source, model, scale and offset, each (y, x).
    columns: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("name", "figure", "method", "target", "query"), "string"),
        **dict.fromkeys(("width", "height", "rows", "cols"), "int32"),
        **dict.fromkeys(("patch_height", "patch_width", "prefix", "suffix"), "int32"),
        **{f"label_{k}": "string" for k in range(1, TOP + 1)},
        **{f"probability_{k}": "float64" for k in range(1, TOP + 1)},
        **dict.fromkeys(_NUMBERS, "float64"),
        "signed": "bool",
        "frame": "list<float64>",
        "values": "list<float32>",
        "dropped": "list<bool>",
    }

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what is drawn, besides the photograph and the weights; not where it is computed."""
        names = ("model", "dtype", "asked", "cell", "reading", "look", "beside", "plain")
        return {name: getattr(self, name) for name in names} | {"vislab": import_module("vislab").__version__}

    def loaded(self) -> Model:
        from ..models.load import load

        return load(self.model, device=self.device, dtype=self.dtype)

    def explained(self, ready: Model, image: np.ndarray | ClipFrame, *, name: str) -> Heatmap:
        """name: of the picture, for errors that are its own."""
        from ..api.explain import explain

        image_size, patch_size = self.asked.get("image_size"), self.asked.get("patch_size")
        with photo_errors(ValueError, name=name):
            height, width = np.asarray(image).shape[:2]
            frame = ready.frame((height, width), image_size=image_size, patch_size=patch_size)
        query: Any = self.asked.get("query", "cls")
        if self.cell is not None:
            side = self.asked["fovea_patches"][0] if self.asked.get("fovea") else patch_size
            x0, y0, x1, y1 = frame.box_to_source(ready.grid(image_size, side).box(*self.cell))
            query = ((x0 + x1) / 2, (y0 + y1) / 2)
        return explain(image, model=ready, **{**self.asked, "query": query})

    def predictions(self, ready: Model, image: np.ndarray, heat: Heatmap) -> list[tuple[str, float]]:
        """Of the run that made the map, or, where its method made several, of one more; none where no class is."""
        if ready.classes is None or ready.classes.kind == "number":
            return []
        if "predictions" in heat.facts:
            return list(heat.facts["predictions"])
        names = ("image_size", "patch_size", "attention_scale", *DEFAULTS)
        run_with = {name: self.asked[name] for name in names if name in self.asked}
        run_with |= {name: heat.settings[name] for name in ("fovea",) if name in run_with}  # a detector was asked then
        run = ready.run(image, **run_with)
        return ready.top(run) if run.logits is not None else []

    def task(self, path: Path, heat: Heatmap, notes: Mapping[str, Any]) -> Task:
        """What draws the figure, in this process or in another."""
        reading = reading_of(heat) if self.reading else {}
        return Task(path, heat, self.look, self.beside, self.plain, notes, reading)

    def weights(self, ready: Model) -> str:
        return of_weights(ready.module)

    def row(self, ready: Model, photo: Photo, image: np.ndarray, picture: Path | None, job: str) -> dict[str, Any]:
        """The heatmap and what is told of it, by the names of `columns`; drawn where a picture is given."""
        heat = self.explained(ready, image, name=photo.source)
        row = row_of(heat, self.predictions(ready, image, heat))
        if picture is not None:
            with photo_errors(ValueError, name=photo.source):
                self.task(picture, heat, {"job": job, "row": row}).run()
        grid, frame = heat.grid, heat.frame
        placed = {"patch_height": grid.patch[0], "patch_width": grid.patch[1]}
        placed |= {"prefix": grid.prefix, "suffix": grid.suffix}
        corners = np.array([frame.source, frame.model, frame.scale, frame.offset], np.float64).ravel()
        gone = None if heat.dropped is None else heat.dropped.ravel()
        said = {"method": heat.method, "query": heat.query, "signed": heat.signed}
        return row | placed | said | {"frame": corners, "values": heat.values.ravel(), "dropped": gone}
