"""A Recording: the sites of one capture while forwards run, and what the capture asked to be done to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..core.checks import listed
from .attention import Call, versions
from .site import Recorded, Refused, Site
from .verification import Check


@dataclass(frozen=True, eq=False)
class Visit:
    """One run of an attention module, as one capture takes part in it.

    scale: its attention scale. gradients: whether values and graph are kept. batches: what may be the batch size of the
    model's input, None where that cannot be told.
    """

    site: Site
    scale: float
    gradients: bool
    batches: frozenset[int] | None

    def outcome(self, call: Call, check: Check | None = None, result: Tensor | None = None) -> Recorded | Refused:
        """What the site holds of a call. result: what the call made, where the gradient is to be taken."""
        batch = call.shape[0]
        if self.batches is not None and batch != 1 and batch not in self.batches:
            model = listed(map(str, self.batches))
            return Refused(f"it attends within {batch} windows, frames or crops of a batch of {model}")
        in_graph = self.gradients and result is not None and result.requires_grad
        return Recorded(call, versions(call), check, result if in_graph else None)


class Recording:
    """The sites of one capture, in execution order, of the last forward.

    root: the class of the captured module. watched: how many attention modules it has. scale: the attention scale, of
    all sites or by their index in execution order. gradients: whether values and graph are kept.
    """

    def __init__(self, root: str, watched: int, scale: float | Mapping[int, float], gradients: bool) -> None:
        self.root, self.watched, self.scale, self.gradients = root, watched, scale, gradients
        self.sites: dict[str, Site] = {}
        self._in_forward = False
        self._batches: frozenset[int] | None = None

    def begin(self, inputs: Iterable[Any]) -> None:
        """The captured module begins to run; what it did in an earlier forward is forgotten."""
        self._in_forward, self._batches = True, _batch_sizes(inputs)
        self.sites.clear()

    def end(self) -> None:
        """The captured module has run, or failed."""
        self._in_forward, self._batches = False, None

    def visit(self, name: str, module: nn.Module) -> Visit:
        """An attention module begins to run."""
        if name not in self.sites or not self._in_forward:  # run on its own, each run is a forward
            self.sites[name] = Site(name, type(module).__name__)
        scale = self.scale
        if isinstance(scale, Mapping):
            scale = scale.get(list(self.sites).index(name), 1.0)
        return Visit(self.sites[name], float(scale), self.gradients, self._batches)


def _batch_sizes(inputs: Iterable[Any]) -> frozenset[int] | None:
    """What may be the batch size of a model's inputs; None if that cannot be told."""
    tensors = [t for t in inputs if isinstance(t, Tensor) and t.ndim > 1]
    sizes = {t.shape[0] for t in tensors} | {t.shape[1] for t in tensors if t.ndim == 3}  # or (tokens, batch, width)
    return frozenset(sizes) or None
