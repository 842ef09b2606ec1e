"""What the numbers are that a model returns: the scores of classes, plain numbers, or features, which are neither.

A classifier is found by running: the last module with weights of its own is a linear one or a convolution, and what it
makes is what the model returns, be it cast, scaled, averaged with a second head, or already through a softmax or a
sigmoid. The features of a backbone end in a norm, in pooling or in attention, whatever their number.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core.checks import shown
from .calling import core

Kind = Literal["exclusive", "independent", "number"]
_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d)
_KINDS: dict[str, Kind] = {"multi_label_classification": "independent", "regression": "number"}


@dataclass(frozen=True)
class Classes:
    """The classes of a model, or the numbers that it gives, in the order of its logits.

    kind: "exclusive" where one class is right, "independent" where each is for itself, "number" where nothing is
    classified. ready: whether the model itself makes probabilities of its logits.
    """

    labels: tuple[str, ...]
    kind: Kind
    ready: bool = False

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities, of numbers the numbers themselves. logits: (…, classes) -> the same."""
        if self.kind == "number" or self.ready:
            return logits
        return logits.softmax(-1) if self.kind == "exclusive" else logits.sigmoid()

    @property
    def words(self) -> str:
        """What the scores are."""
        return {
            "exclusive": "probability",
            "independent": "probability of each class for itself",
            "number": "number, no probability",
        }[self.kind]


@dataclass(frozen=True)
class Columns:
    """What a forward showed of a model's output. count: of its numbers, 0 where it is features. made: of logits."""

    count: int
    made: Literal["logits", "softmax", "sigmoid"] = "logits"


_REMEMBERED: weakref.WeakKeyDictionary[nn.Module, tuple[int, Columns]] = weakref.WeakKeyDictionary()


def columns(module: nn.Module) -> Columns | None:
    """What is known of a module's output; None of one that was not yet run under `watched`, or was changed since."""
    parts, known = _REMEMBERED.get(module, (0, None))
    return known if known is not None and parts == _parts(module) else None


def classes(module: nn.Module, names: Sequence[str] | None, found: Columns | None) -> Classes | None:
    """The classes of a module, or None of one that makes features. names: what they are said to be called.

    found: what a forward showed; None where there was none, and only what is said is known.
    """
    count = len(names or ()) if found is None else found.count
    if not count or (names is not None and len(names) != count):
        return None
    config = getattr(core(module), "config", None)
    made = "logits" if found is None else found.made
    kind = _KINDS.get(str(getattr(config, "problem_type", None)), "number" if count == 1 else "exclusive")
    if made != "logits":
        kind = "exclusive" if made == "softmax" else "independent"
    unnamed = ("the output",) if count == 1 else tuple(f"class {index}" for index in range(count))
    return Classes(tuple(names) if names is not None else unnamed, kind, ready=made != "logits")


def label_names(labels: Any) -> tuple[str, ...]:
    """Names of classes, as they are given. Raises ValueError for what is no list of names, and for a name twice."""
    names = tuple(labels) if isinstance(labels, Iterable) and not isinstance(labels, str) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"labels is a list of names, one for each class, not {shown(labels)}")
    if len(set(names)) < len(names):
        raise ValueError(f"labels names {next(one for one in names if names.count(one) > 1)!r} twice")
    return names


def said_names(module: nn.Module) -> tuple[str, ...] | None:
    """The classes that a module of transformers or timm names itself, where it has as many rows for them."""
    inner = core(module)
    named = getattr(getattr(inner, "config", None), "id2label", None)
    classifies = hasattr(inner, "classifier") or hasattr(inner, "cls_classifier")
    if isinstance(named, Mapping) and named and classifies:
        return tuple(str(named[index]) for index in sorted(named))
    recipe = getattr(inner, "pretrained_cfg", None)
    if not isinstance(recipe, Mapping):
        return None
    names, words = recipe.get("label_names"), recipe.get("label_descriptions")
    if not isinstance(names, list | tuple) or len(names) != getattr(inner, "num_classes", None):
        return None
    described: Mapping[Any, Any] = words if isinstance(words, Mapping) else {}
    return tuple(str(described.get(name, name)) for name in names)


def logits_of(output: Any) -> Tensor | None:
    """(n, columns) in what a module returned; None where there is nothing of that shape in the place of logits."""
    if isinstance(output, Mapping):  # transformers' outputs are mappings too
        found = output.get("logits")
    elif isinstance(output, tuple | list) and output:
        found = output[0]
    else:
        found = output
    return found if isinstance(found, Tensor) and found.ndim == 2 and found.is_floating_point() else None


class Watch:
    """What the last modules with weights of their own made in a forward.

    last: the rows of the very last, 0 where it is no linear one. vectors: what linear ones made since then of a whole
    image, (n, rows), the last of them at the end.
    """

    def __init__(self) -> None:
        self.last = 0
        self.vectors: list[Tensor] = []

    def saw(self, part: nn.Module, _: Any, output: Any) -> None:
        """A forward hook."""
        linear = isinstance(part, _LINEAR)
        self.last = int(part.weight.shape[0]) if linear else 0  # type: ignore[index]
        if not linear:
            self.vectors.clear()
        elif isinstance(output, Tensor) and output.ndim >= 2 and output.numel() == output.shape[0] * output.shape[1]:
            self.vectors.append(output.detach().flatten(1))

    def judged(self, module: nn.Module, output: Any) -> Columns:
        """What the output is."""
        logits, inner = logits_of(output), core(module)
        if logits is None or getattr(inner, "num_classes", 1) == 0:
            return Columns(0)  # timm calls a model that returns features one of 0 classes
        count = int(logits.shape[1])
        made = _made([x.float() for x in self.vectors if x.shape == logits.shape], logits.detach().float())
        if made is not None and self.last == count:
            return Columns(count, made)
        named = getattr(getattr(inner, "config", None), "id2label", None)
        said = isinstance(output, Mapping) and isinstance(named, Mapping) and len(named) == count
        said |= getattr(inner, "num_classes", None) == count == self.last  # a convolution that is pooled afterwards
        return Columns(count if said else 0)


@contextmanager
def watched(module: nn.Module) -> Iterator[Watch | None]:
    """Watch a forward of a module of which it is not known yet what it returns; None where it is."""
    if columns(module) is not None:
        yield None
        return
    watch = Watch()
    parts = [
        m for m in module.modules() if m._parameters and not (m._modules and not isinstance(m, nn.MultiheadAttention))
    ]
    handles: list[Any] = []
    try:
        for part in parts:
            handles.append(part.register_forward_hook(watch.saw))
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def remember(module: nn.Module, found: Columns) -> None:
    """What a forward showed of a module, until it is changed."""
    _REMEMBERED[module] = _parts(module), found


def _parts(module: nn.Module) -> int:
    return hash(tuple(map(id, module.modules())))


def _made(heads: Sequence[Tensor], logits: Tensor) -> Literal["logits", "softmax", "sigmoid"] | None:
    """How a model made its output of what its heads gave, the last of them at the end; None where it did otherwise."""
    if not heads:
        return None
    last = heads[-1]

    def same(other: Tensor) -> bool:
        return torch.allclose(logits, other, rtol=1e-2, atol=1e-2 * float(other.abs().max()))

    if same(last) or same(torch.stack([*heads]).mean(0)):
        return "logits"
    if logits.shape[1] > 1 and same(last.softmax(1)):
        return "softmax"
    if same(last.sigmoid()) and bool(((logits >= 0) & (logits <= 1)).all()):
        return "sigmoid"
    if same(last.log_softmax(1)):
        return "logits"
    factor = float((logits * last).sum() / last.square().sum().clamp_min(1e-30))
    unit = bool(((logits.norm(dim=1) - 1).abs() < 1e-2).all())  # an embedding of length 1, not a temperature
    return "logits" if factor > 0 and same(last * factor) and not unit else None
