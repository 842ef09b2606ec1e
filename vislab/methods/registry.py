"""The list of methods: everything that names a method, its options or what it answers is read from here.

One entry a method. The list loads no framework: a method's function is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from numbers import Real
from typing import Any, Literal

from ..core.checks import meant, shown, whole

Part = Literal["layer", "head", "query", "target"]


MANY = 10_000  # the most that is counted, of steps: more would only take longer


@dataclass(frozen=True)
class Option:
    """A keyword that one method has of its own.

    kind: "share" of 0 to 1, "index" of a layer, or "count" from 1. default: None where the method finds it. words: what
    it is, for help texts.
    """

    name: str
    kind: Literal["share", "index", "count"]
    default: float | None
    words: str

    def check(self, value: Any) -> None:
        """Raise ValueError for what is no number of this kind; whether it suits the model, its method says."""
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not (number if self.kind == "share" else whole(value)):
            kind = "a number" if self.kind == "share" else "a whole number"
            raise ValueError(f"{self.name}, the {self.words}, is {kind}, not {shown(value)}")
        if self.kind == "count" and value > MANY:
            raise ValueError(f"{self.name}, the {self.words}, is at most {MANY:,}, not {value:,}")


@dataclass(frozen=True)
class Method:
    """One way to ask what a model looks at.

    function: where it is, "room.name" in this wing, or the function itself; it takes a Capture and a Grid, or,
    of methods for one target, a Probe, then a Question, and its options. asks: the parts of a request that make a
    difference to it. label: its name on a button. source: what to cite. layer_words: what `layer` may be beside an
    index. single_head: whether `head` may be an index. walks: whether it goes through the layers, `layer` being the
    last of them. attends: whether it needs attention that is one map over the image. every_patch:
    whether it reads every patch in every layer, so that none may be dropped or merged. alone: whether a value is what a
    patch says by itself, whatever its size, and no share of a whole. with_query: the method that
    takes its place where a patch attends, if it only answers for CLS. words: what a caption calls it, by default its
    label. measures: what its values are, beside a colour bar.
    """

    name: str
    function: str | Callable[..., Any]
    asks: frozenset[Part]
    label: str
    source: str
    options: tuple[Option, ...] = ()
    layer_words: tuple[str, ...] = ()
    single_head: bool = False
    walks: bool = False
    attends: bool = True
    every_patch: bool = False
    alone: bool = False
    with_query: str = ""
    words: str = ""
    measures: str = ""

    @property
    def targeted(self) -> bool:
        """Whether it explains the score of one target, a class or a number; else its map is the same for all."""
        return "target" in self.asks

    def load(self) -> Callable[..., Any]:
        """The function; see there for its arguments."""
        if callable(self.function):
            return self.function
        room, name = self.function.split(".")
        function: Callable[..., Any] = getattr(import_module(f"{__package__}.{room}"), name)
        return function


_RESIDUAL = Option("residual", "share", 0.5, "share of the residual path")
_OWN_PAPER = "the model's own paper: these are its weights as they are"
_CONTRIBUTION = "vislab: shares of the score that add up, defined in their docstrings"

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "cls",
            "attention.cls",
            frozenset({"layer", "head"}),
            "attention: one layer",
            _OWN_PAPER,
            layer_words=("mean",),
            single_head=True,
            with_query="attention",
            words="attention",
            measures="share of attention",
        ),
        Method(
            "rollout",
            "attention.rollout",
            frozenset({"layer", "head", "query"}),
            "rollout: all layers",
            "Abnar & Zuidema 2020, Quantifying Attention Flow in Transformers",
            (
                Option("start", "index", 0, "first layer"),
                _RESIDUAL,
                Option("discard", "share", 0.0, "share of each row that is cut, its lowest values"),
            ),
            walks=True,
            words="rollout",
            measures="share of attention",
        ),
        Method(
            "attention",
            "attention.attention",
            frozenset({"layer", "head", "query"}),
            "attention of a token",
            _OWN_PAPER,
            layer_words=("mean",),
            single_head=True,
            words="attention",
            measures="share of attention",
        ),
        Method(
            "relevance",
            "relevance.relevance",
            frozenset({"query", "target"}),
            "relevance",
            "Chefer, Gur & Wolf 2021, Generic Attention-Model Explainability for Interpreting Bi-Modal and "
            "Encoder-Decoder Transformers",
            measures="relevance",
        ),
        Method(
            "grad_rollout",
            "relevance.grad_rollout",
            frozenset({"query", "target"}),
            "gradient rollout",
            "weights of relevance (Chefer, Gur & Wolf 2021), walked as rollout (Abnar & Zuidema 2020)",
            (_RESIDUAL,),
            measures="weighted attention",
        ),
        Method(
            "legrad",
            "legrad.legrad",
            frozenset({"target"}),
            "LeGrad",
            "Bousselham et al. 2024, LeGrad: An Explainability Method for Vision Transformers via Feature Formation "
            "Sensitivity; here each layer is pooled as the model pools its last one",
            every_patch=True,
            measures="gradient of the score",
        ),
        Method(
            "grad_eclip",
            "grad_eclip.grad_eclip",
            frozenset({"layer", "target"}),
            "Grad-ECLIP",
            "Zhao et al. 2024, Gradient-based Visual Explanation for Transformer-based CLIP; here signed, without its "
            "ReLU",
            every_patch=True,
            measures="part of the score",
        ),
        Method(
            "maskclip",
            "maskclip.maskclip",
            frozenset({"target"}),
            "MaskCLIP: each patch alone",
            "Zhou, Loy & Dai 2022, Extract Free Dense Labels from CLIP",
            every_patch=True,
            alone=True,
            words="MaskCLIP",
            measures="score of the patch alone",
        ),
        Method(
            "grad_cam",
            "perturb.grad_cam",
            frozenset({"layer", "target"}),
            "Grad-CAM",
            "Selvaraju et al. 2017, Grad-CAM; here signed, without its ReLU",
            attends=False,
            measures="gradient × feature",
        ),
        Method(
            "integrated_gradients",
            "perturb.integrated_gradients",
            frozenset({"target"}),
            "Integrated Gradients",
            "Sundararajan, Taly & Yan 2017, Axiomatic Attribution for Deep Networks",
            (Option("steps", "count", 50, "steps of the integral"),),
            attends=False,
            measures="part of the score",
        ),
        Method(
            "occlusion",
            "perturb.occlusion",
            frozenset({"target"}),
            "occlusion",
            "Zeiler & Fergus 2014, Visualizing and Understanding Convolutional Networks",
            (Option("square", "count", None, "side of the squares, px, else a patch"),),
            attends=False,
            measures="fall of the score",
        ),
        Method(
            "cls_contribution",
            "contribution.cls_contribution",
            frozenset({"target"}),
            "contribution: CLS",
            _CONTRIBUTION,
            words="contribution through CLS",
            measures="part of the score",
        ),
        Method(
            "token_contribution",
            "contribution.token_contribution",
            frozenset({"target"}),
            "contribution: patches",
            _CONTRIBUTION,
            words="contribution of patch tokens",
            measures="part of the score",
        ),
        Method(
            "both_contribution",
            "contribution.both_contribution",
            frozenset({"target"}),
            "contribution: both",
            _CONTRIBUTION,
            words="contribution through CLS and patch tokens",
            measures="part of the score",
        ),
        Method(
            "lens",
            "lens.of_patches",
            frozenset({"layer", "target"}),
            "lens: the head, early",
            "nostalgebraist 2020, the logit lens; Vilas et al. 2023, Analyzing Vision Transformers for Image "
            "Classification in Class Embedding Space",
            alone=True,
            words="lens",
            measures="score of the patch alone",
        ),
    )
}


def add(method: Method) -> None:
    """Add a method to the list, or put another in its place."""
    METHODS[method.name] = method


def method(name: str) -> Method:
    """The method of a name. Raises ValueError for one that is not there, with the nearest that is."""
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"unknown method {shown(name)}: there are {', '.join(METHODS)}{meant(name, METHODS)}")
    return METHODS[name]


def targeted() -> list[str]:
    """Names of the methods that explain the score of one target."""
    return [name for name, method in METHODS.items() if method.targeted]


def instead() -> str:
    """The methods that need no attention, in words."""
    names = [repr(name) for name, method in METHODS.items() if not method.attends]
    return f"method={', '.join(names[:-1])} or {names[-1]}"


def options() -> dict[Option, list[str]]:
    """Each option of the methods, with the names of those that have it."""
    takers: dict[Option, list[str]] = {}
    for method in METHODS.values():
        for option in method.options:
            takers.setdefault(option, []).append(method.name)
    return takers
