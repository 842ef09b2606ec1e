"""A BoxRequest: what is asked of a detector about one of its boxes, or about a point of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from ..core import python_call
from ..core.checks import meant, one_of, shown, whole
from ..methods.request import Head, Point, Scale, point_of

METHODS = ("attention", "grad_cam")


@dataclass(frozen=True)
class BoxRequest:
    """What is asked of a detector about a box or a point of an image; see `vislab.explain_box` for each field.

    Where neither a box nor a point is named, it is about box 0, the most certain one. Raises ValueError for what is
    unknown or does not go together.
    """

    box: int | None = None
    query: Point | None = None
    method: Literal["attention", "grad_cam"] | None = None
    layer: int | str = -1
    head: Head = "mean"
    attention_scale: Scale = 1.0
    image_size: int | tuple[int, int] | None = None
    labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.box is not None and self.query is not None:
            raise ValueError(
                "ask about one thing: box=, an index among the boxes of vislab.detect, or query=(x, y), a point"
            )
        if self.method is not None and not one_of(self.method, METHODS):
            raise ValueError(
                f"no method {shown(self.method)} for detectors: there are {', '.join(METHODS)}"
                f"{meant(self.method, METHODS)}"
            )
        if self.query is None:
            box = 0 if self.box is None else self.box
            if not whole(box) or box < 0:
                raise ValueError(f"box is an index among the boxes of vislab.detect, from 0, not {shown(box)}")
            object.__setattr__(self, "box", int(box))
        elif (place := point_of(self.query)) is None:
            raise ValueError(f"query is a point (x, y) in pixels of the image, not {shown(self.query)}")
        else:
            object.__setattr__(self, "query", place)
        if self.method == "grad_cam":
            if self.box is None:
                raise ValueError("method 'grad_cam' explains the score of a box: say which with box=")
            if self.layer != -1 or self.head != "mean":
                raise ValueError("method 'grad_cam' explains a score on one map of the neck: leave layer and head out")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> BoxRequest:
        """The request in settings by name; others than its fields are of no interest here."""
        return cls(**{name: value for name, value in settings.items() if name in DEFAULTS})

    @property
    def settings(self) -> dict[str, Any]:
        """What made a difference to the map, by the keywords of `vislab.explain_box`, the method left out."""
        about = {"query": self.query} if self.box is None else {"box": self.box}
        where = {} if self.method == "grad_cam" else {"layer": self.layer, "head": self.head}
        told = {} if self.labels is None else {"labels": tuple(self.labels)}
        return {**about, **where, "attention_scale": self.attention_scale, "image_size": self.image_size, **told}

    def call(self, image: str = "image", *, detector: str = "embedded") -> str:
        """The Python that makes the heatmap again. image: the source that names the picture."""
        named = {} if detector == "embedded" else {"detector": detector}
        changed = {name: value for name, value in self.settings.items() if value != DEFAULTS[name]}
        return python_call.call("vislab.explain_box", image, **named, method=self.method, **changed)


DEFAULTS: Mapping[str, Any] = {part.name: part.default for part in fields(BoxRequest)}
