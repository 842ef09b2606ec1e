"""A Request: what is asked of a model about an image, and what the forward is run with.

It is made of the keywords of `vislab.explain`, checked once. A figure's record and the Python that makes a heatmap
again are written from it, and the Lab remembers its maps by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from ..core import python_call
from ..core.checks import meant, shown, whole
from ..models.outline import Outline
from ..models.preprocessing import sides
from ..models.tokens import DEFAULTS as AS_THE_MODEL
from ..models.tokens import Tokens
from . import registry

Layer = int | Literal["mean"]
Head = int | Literal["mean", "max", "min"]
Point = tuple[float, float]
Query = Literal["cls"] | Point
Target = str | int | Callable[[Any], Any] | None
Scale = float | Mapping[int, float]

SIZES = ("attention_scale", "patch_size", "image_size")
FORWARD = (*SIZES, *AS_THE_MODEL)  # the settings of one forward of a model


@dataclass(frozen=True)
class Request:
    """What is asked of a model about an image; see `vislab.explain` for each field.

    region: (x0, y0, x1, y1) source pixels, or None for all of the image. scales: sizes of the model's input whose maps
    become one, or None for one of them. tokens: how they are spent. options: those that the method has of its own.
    Raises ValueError for what is unknown, or what the method does not answer.
    """

    method: str = "rollout"
    layer: Layer = -1
    head: Head = "mean"
    query: Query = "cls"
    target: Target = None
    attention_scale: Scale = 1.0
    patch_size: int | None = None
    image_size: int | tuple[int, int] | None = None
    region: tuple[int, int, int, int] | None = None
    scales: Any = None
    tokens: Tokens = field(default_factory=Tokens)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        entry = registry.method(self.method)
        own = {option.name: option for option in entry.options}
        for option, value in self.options.items():
            if option in ("box", "detector"):
                raise ValueError(f"{option} is asked of a detector: vislab.explain_box(image, box=…, detector=…)")
            if option not in own:
                raise ValueError(
                    f"method {self.method!r} has no option {option!r}: its own are {', '.join(own) or 'none'}"
                    f"{meant(option, [*own, *DEFAULTS, 'model'])}"
                )
            own[option].check(value)
        if not whole(self.head) and not (isinstance(self.head, str) and self.head in ("mean", "max", "min")):
            raise ValueError(f"head is an index, 'mean', 'max' or 'min', not {shown(self.head)}")
        if not whole(self.layer) and not isinstance(self.layer, str):
            raise ValueError(f"layer is the index of a layer, or of some methods 'mean', not {shown(self.layer)}")
        if self.target is not None and not entry.targeted:
            raise ValueError(
                f"method {self.method!r} is attention, which is the same for every class: leave target out, or take "
                f"one of {', '.join(registry.targeted())}"
            )
        if entry.every_patch and (self.tokens.keep != 1 or self.tokens.merge or self.tokens.fovea is not None):
            raise ValueError(
                f"method {self.method!r} reads every patch in every layer: leave keep, merge and fovea out, or take "
                "another method, such as 'relevance'"
            )
        object.__setattr__(self, "query", query_of(self.query))
        object.__setattr__(self, "scales", scales_of(self.scales))
        if self.scales is not None and self.image_size is not None:
            raise ValueError("scales are sizes of the model's input: leave image_size out")
        if self.query != "cls" and entry.with_query:
            raise ValueError(
                f"method {self.method!r} asks what CLS attends to: leave query out, or take method={entry.with_query!r}"
            )
        for part in ("layer", "head", "query"):
            if getattr(self, part) != DEFAULTS[part] and part not in entry.asks:
                raise ValueError(
                    f"method {self.method!r} goes through all of the model: it has no {part}, leave it out"
                )
        if entry.walks and (self.layer == "mean" or not isinstance(self.head, str)):
            raise ValueError(
                f"{self.method} goes through the layers and fuses their heads: layer is the last one's index, head is "
                f"'mean', 'max' or 'min', not layer={self.layer!r} and head={self.head!r}"
            )

    @classmethod
    def named(cls, keywords: Mapping[str, Any]) -> Request:
        """The request in keywords of `vislab.explain`; those that it does not know are the method's options."""
        own = [part.name for part in fields(cls) if part.name not in ("tokens", "options")]
        tokens = Tokens(**{name: value for name, value in keywords.items() if name in AS_THE_MODEL})
        options = {name: value for name, value in keywords.items() if name not in DEFAULTS}
        return cls(**{name: keywords[name] for name in own if name in keywords}, tokens=tokens, options=options)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Request:
        """The request in many settings by name, those left out that make no difference to its method.

        settings: the fields, and the method's options beside them; others are of no interest here.
        """
        entry = registry.method(settings.get("method", cls.method))
        taken = {"method", "region", "scales", *FORWARD, *entry.asks}
        own = {option.name for option in entry.options}
        return cls.named({name: value for name, value in settings.items() if name in taken | own})

    def spending(self, **changed: Any) -> Request:
        """The same with other settings of `Tokens`, by name."""
        return replace(self, tokens=replace(self.tokens, **changed))

    @property
    def entry(self) -> registry.Method:
        return registry.METHODS[self.method]

    @property
    def forward(self) -> dict[str, Any]:
        """The settings of the forward, by name."""
        return {**{name: getattr(self, name) for name in SIZES}, **vars(self.tokens)}

    def fits(self, model: Outline) -> None:
        """Raise ValueError for a layer or a head that a model does not have, and for attention where it has none."""
        if not model.attends:
            if self.entry.attends:
                raise ValueError(
                    f"{model.name} has no attention that is one map over the image"
                    f"{f' ({model.unseen})' if model.unseen else ''}: take {registry.instead()}"
                )
            if self.layer != -1:
                raise ValueError(f"{model.name} has no layers of attention to choose from: leave layer out")
            return
        if self.layer not in self.entry.layer_words:
            layer_index(self.layer, model.layers)
        if whole(self.head) and not -model.heads <= self.head < model.heads:
            raise ValueError(f"no head {self.head}: heads run from 0 to {model.heads - 1}")

    @property
    def settings(self) -> dict[str, Any]:
        """What made a difference to the map, by the keywords of `vislab.explain`, the method left out."""
        parts = [name for name in ("layer", "head", "query", "target") if name in self.entry.asks]
        question: dict[str, Any] = {name: getattr(self, name) for name in parts}
        region = {} if self.region is None else {"region": self.region}
        usual = {option.name: option.default for option in self.entry.options}
        own = {name: value for name, value in self.options.items() if value != usual[name]}
        sizes = {name: getattr(self, name) for name in SIZES}
        several = {} if self.scales is None else {"scales": self.scales}
        return {**question, **sizes, **several, **region, **self.tokens.asked, **own}

    def call(self, image: str = "image", *, model: str = "embedded", function: str = "vislab.explain") -> str:
        """The Python that makes the heatmap again. image: the source that names the picture, or what function takes."""
        named = {} if model == "embedded" else {"model": model}
        return python_call.call(function, image, method=self.method, **named, **self.changed)

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that are not as they are by default."""
        return {name: value for name, value in self.settings.items() if value != DEFAULTS.get(name)}


DEFAULTS: Mapping[str, Any] = {
    **{part.name: part.default for part in fields(Request) if part.name not in ("tokens", "options")},
    **AS_THE_MODEL,
}


def scales_of(scales: Any) -> tuple[tuple[int, int], ...] | None:
    """Several input sizes as (height, width) each. Raises ValueError for what is none, and for one that comes twice."""
    if scales is None:
        return None
    if not isinstance(scales, list | tuple) or not scales:
        raise ValueError(
            f"scales are input sizes, such as (224, 336, 448), each a side or (height, width), not {shown(scales)}"
        )
    found = tuple(sides(size) for size in scales)
    if len(set(found)) < len(found):
        raise ValueError(f"scales name a size twice: {shown(scales)}")
    return found


def query_of(query: Any) -> Query:
    """A query as "cls" or a point. Raises ValueError for what is neither."""
    if isinstance(query, str) and query == "cls":
        return "cls"
    place = point_of(query)
    if place is None:
        raise ValueError(f"query is 'cls' or a point (x, y) in pixels of the image, not {shown(query)}")
    return place


def point_of(value: Any) -> Point | None:
    """Two finite numbers as a point; None for anything else."""
    try:
        x, y = (float(v) for v in value)
    except (TypeError, ValueError, OverflowError):
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) else None


def layer_index(layer: Layer, count: int) -> int:
    """The index from 0 of one of so many layers. Raises ValueError for what is none."""
    if not whole(layer) or not -count <= layer < count:
        raise ValueError(f"no layer {shown(layer)}: layers run from 0 to {count - 1}, or from -1 to {-count}")
    return layer % count
