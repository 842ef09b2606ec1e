"""The Lab's settings: each a trait that refuses, in words, what is impossible."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import traitlets

from ..core import fingerprints
from ..core.checks import meant, one_of, shown
from ..core.images import load_image, samples
from ..figures.blends import BLENDS
from ..language.reader import Reader
from ..methods import registry
from ..models.cache import model_of
from ..models.model import Model
from .marks import MARKS, Marked
from .prompt import WORDS, Prompted
from .spent import SPENT, Spent, asked, counts
from .values import Choice, Number, in_words, named, trait, whole

COLORMAPS = ("viridis", "magma", "inferno", "plasma", "cividis", "turbo", "gray", "coolwarm")
NORMALISE = ("map", "shared", "absolute")
OPACITY = 0.8  # where a map is strongest, for it lies by its value
SCALES = (0.1, 4.0)
FAINTEST = 0.05  # the lowest confidence of a detection that is shown; boxes are found once, down to it
FORWARD = ("model", "patch_size", "image_size", "attention_scale", *SPENT)  # what one depends on, beside the image
READING = ("method", "layer", "head", "query", "target")  # what is read from the same forward
COMPARABLE = (*FORWARD, "method", "layer", "head", "target")
LOOK = ("opacity", "blend", "colormap", "smooth", "normalise", "threshold", "grid")  # of a heatmap, in files too
# Settings that are places in the image, or values of them, and what they are without.
PLACES = {"query": "cls", "fovea": None, "keep_by": "attention", **dict.fromkeys(MARKS)}
DISPLAY = (*LOOK, "incoming", "confidence", "masked")
SIZES = ("patch_size", "image_size", "attention_scale", "keep", "merge")
SLIDERS = (*SIZES, "layer", "opacity", "threshold", "confidence")
BESIDE = ("compare", "before", "detector", "two_stage", "segmenter", *MARKS)  # what stands beside the map, or on it
SETTINGS = ("image", *FORWARD, *READING, *WORDS, *BESIDE, *DISPLAY)
NAMED = ("image", "model", "detector", "segmenter")  # what may be an object without a name, which then stays in Python


def lies_in_image(name: str, value: Any) -> bool:
    """Whether a setting is a place in the image, or values of its patches."""
    return name in PLACES and not (name == "keep_by" and isinstance(value, str))


class Settings(Spent, Prompted, Marked):
    """What can be set in a lab, what is impossible there, and `state`, which holds it all."""

    image = trait(traitlets.Any(), to_json=named)
    model = trait(traitlets.Any("embedded"), to_json=named)
    patch_size = trait(traitlets.Any(None, allow_none=True))
    image_size = trait(traitlets.Any(None, allow_none=True))
    attention_scale = trait(Number(1.0))
    method = trait(Choice(list(registry.METHODS), "cls"))
    layer = trait(traitlets.Any(-1))
    head = trait(traitlets.Any("mean"))
    query = trait(traitlets.Any("cls"))
    target = trait(traitlets.Any(None, allow_none=True))
    compare = trait(traitlets.Dict())
    before = trait(traitlets.Bool(True))
    detector = trait(traitlets.Any("embedded", allow_none=True), to_json=named)
    two_stage = trait(traitlets.Bool(False))
    opacity = trait(Number(OPACITY, min=0, max=1))
    blend = trait(Choice(BLENDS, "value"))
    colormap = trait(Choice(COLORMAPS, "viridis"))
    smooth = trait(traitlets.Bool(False))
    normalise = trait(Choice(NORMALISE, "map"))
    threshold = trait(Number(0.0, min=0, max=1))
    grid = trait(traitlets.Bool(False))
    incoming = trait(traitlets.Bool(False))
    confidence = trait(Number(0.25, min=FAINTEST, max=0.99))

    _pixels = np.zeros((1, 1, 3), np.uint8)  # of the image
    _digest = ""
    _places: Mapping[str, str] = {}  # the digest of the image in which each of PLACES was given
    _ready: Model | Reader | None = None  # the model, once it is loaded
    _uploaded: Mapping[str, np.ndarray] = {}  # the user's own pictures, by the names of their files

    @property
    def state(self) -> dict[str, Any]:
        """All settings as a plain dict: `Lab(state=…)` makes the lab again, `lab.state = {…}` changes several at once.

        A photograph, model or detector that has no name is "" in it, which changes nothing: pass it again.
        """
        plain = {name: named(value) if name in NAMED else value for name, value in self._settings()}
        return plain | ({"image": ""} if plain["image"] in self._uploaded else {})

    @state.setter
    def state(self, values: Mapping[str, Any]) -> None:
        for name in values:
            if name not in SETTINGS:
                raise ValueError(
                    f"the lab has no setting {name!r}: it has {', '.join(SETTINGS)}{meant(name, SETTINGS)}"
                )
        values = {name: one for name, one in values.items() if name not in NAMED or not isinstance(one, str) or one}
        # A place lies in the image that is set with it: it is validated after that, were it the same as before.
        places = {name: usual for name, usual in PLACES.items() if name in values}
        first = {"image": values["image"], **places} if "image" in values and places else {}
        with self.hold_trait_notifications():
            for name, value in (*first.items(), *values.items()):
                setattr(self, name, value)

    @contextmanager
    def hold_trait_notifications(self) -> Iterator[None]:
        """As in traitlets; where the change is refused, the image's pixels are put back with it."""
        before = self._pixels, self._digest, self._places
        try:
            with super().hold_trait_notifications():
                yield
        except traitlets.TraitError:
            self._pixels, self._digest, self._places = before
            raise

    def _settings(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in SETTINGS)

    @traitlets.validate("image")
    def _image_is_there(self, proposal: Any) -> Any:
        value = proposal["value"]
        with in_words():
            pixels = load_image(self._named_image(value) if isinstance(value, str) else value)
        before, self._pixels, self._digest = self._digest, pixels, fingerprints.of_image(pixels)
        if self._digest != before and isinstance(value, str | Path) and value == self.image:
            self._notify_trait("image", value, value)  # the file was rewritten: traitlets sees the same path
        return value

    def _named_image(self, name: str) -> Any:
        """What a name stands for: a picture that was uploaded, a sample, or a file."""
        return self._uploaded[name] if name in self._uploaded else samples().get(name, name)

    @traitlets.observe("image")
    def _places_stay_in_their_image(self, _: Any) -> None:
        for name, usual in PLACES.items():
            if self._places.get(name) != self._digest and lies_in_image(name, getattr(self, name)):
                setattr(self, name, usual)

    def _lies_here(self, name: str) -> None:
        self._places = {**self._places, name: self._digest}

    def _check_tokens(self, **changed: Any) -> None:
        if self._model_is_known and isinstance(self._ready, Model):
            settings = {**{name: getattr(self, name) for name in FORWARD[1:]}, **changed}
            counts(self._ready, (self._pixels.shape[0], self._pixels.shape[1]), asked(settings))
        for name in PLACES.keys() & changed.keys():
            self._lies_here(name)

    @traitlets.validate("model")
    def _model_is_one(self, proposal: Any) -> Any:
        value = proposal["value"]
        if isinstance(value, str | Path | Model | Reader):
            return value
        with in_words():
            return model_of(value)  # a bare module becomes one Model, once

    @traitlets.validate("patch_size", "image_size")
    def _sizes_fit(self, proposal: Any) -> Any:
        value = tuple(proposal["value"]) if isinstance(proposal["value"], list) else proposal["value"]
        name = proposal["trait"].name
        numbers = value if isinstance(value, tuple) else (value,)
        pair = name == "image_size" and isinstance(value, tuple) and len(value) == 2
        if value is not None and not ((pair or len(numbers) == 1) and all(whole(n) and n > 0 for n in numbers)):
            raise traitlets.TraitError(f"{name} is a whole number of pixels above 0, or None, not {shown(value)}")
        sizes = {"patch_size": self.patch_size, "image_size": self.image_size, name: value}
        if self._model_is_known and isinstance(self._ready, Model):
            with in_words():
                self._ready.grid(sizes["image_size"], sizes["patch_size"])
        return value

    @traitlets.validate("attention_scale")
    def _scale_is_possible(self, proposal: Any) -> float:
        low, high = SCALES
        if not low <= proposal["value"] <= high:
            raise traitlets.TraitError(
                f"attention_scale runs from {low} to {high:g}, where 1 is the trained model; not {proposal['value']}"
            )
        return proposal["value"]

    @traitlets.validate("layer")
    def _layer_exists(self, proposal: Any) -> Any:
        return self._index("layer", proposal["value"], ("mean",), "layers")

    @traitlets.validate("head")
    def _head_exists(self, proposal: Any) -> Any:
        return self._index("head", proposal["value"], ("mean", "max", "min"), "heads")

    @property
    def _model_is_known(self) -> bool:
        return self._ready is not None and (self.model is self._ready or named(self.model) == self._ready.name)

    def _index(self, name: str, value: Any, words: tuple[str, ...], of: str) -> Any:
        number = getattr(self._ready, of) if self._model_is_known else math.inf
        if one_of(value, words) or (whole(value) and -number <= value < number):
            return value
        below = f" below {number}" if self._model_is_known else ""
        raise traitlets.TraitError(f"{name} is {', '.join(map(repr, words))} or an index{below}, not {shown(value)}")

    @traitlets.validate("query")
    def _query_is_a_place(self, proposal: Any) -> Any:
        value = proposal["value"]
        if one_of(value, ["cls"]):
            return value
        try:
            x, y = (float(v) for v in value)
        except (TypeError, ValueError, OverflowError):
            x = y = math.nan
        if not (0 <= x <= self._pixels.shape[1] and 0 <= y <= self._pixels.shape[0]):
            height, width = self._pixels.shape[:2]
            raise traitlets.TraitError(
                f"query is 'cls' or a point (x, y) in the {width}×{height} px, not {shown(value)}"
            )
        self._lies_here("query")
        return (x, y)

    @traitlets.validate("compare")
    def _compare_is_known(self, proposal: Any) -> Any:
        for name in proposal["value"]:
            if name not in COMPARABLE:
                raise traitlets.TraitError(
                    f"{name!r} cannot be compared: there are {', '.join(COMPARABLE)}{meant(name, COMPARABLE)}"
                )
        return proposal["value"]

    @traitlets.validate("target")
    def _target_is_a_class(self, proposal: Any) -> Any:
        value = proposal["value"]
        if value is None or isinstance(value, str) or whole(value):
            return value
        raise traitlets.TraitError(
            f"target is a class, by label or index, or None for the predicted one, not {value!r}"
        )

    @traitlets.observe("method", "head", "layer")
    def _method_takes_them(self, change: Any) -> None:
        """A method lets go of a layer and a head that it does not take; who chooses such a one, wants attention."""
        alien = {name: usual for name, usual in (("layer", -1), ("head", "mean")) if not self._takes(name, usual)}
        if not alien:
            return
        before = registry.METHODS[self.method].label
        if change["name"] == "method":
            self.state = alien
            self._gave_way(f"{before} has no single {' or '.join(alien)} to choose: what was chosen is let go.")
        else:
            self.method = "cls"
            after = registry.METHODS["cls"].label
            self._gave_way(f"{before} has no such {change['name']} to choose: the method is now {after}.")

    def _gave_way(self, words: str) -> None:
        """Told where one setting made another give way."""

    def _takes(self, name: str, usual: Any) -> bool:
        entry, value = registry.METHODS[self.method], getattr(self, name)
        if name not in entry.asks:
            return value == usual
        if name == "head":
            return entry.single_head or not whole(value)
        return whole(value) or value in entry.layer_words
