"""Layouts: what a forward taught about the tensors of a module's calls, so that later ones need not follow them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

if TYPE_CHECKING:
    from .recording import Visit

Key = tuple[Any, ...]


@dataclass(eq=False)
class _Known:
    """inputs: what the module was followed with, by shapes. calls: what was learnt, by path and shapes."""

    inputs: set[Key] = field(default_factory=set)
    calls: dict[Key, Any] = field(default_factory=dict)


class Layouts:
    """What is known of the modules that were captured in one thread; of a module that is gone, nothing."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()

    def followed(self, root: nn.Module, inputs: Key) -> bool:
        """Whether a forward with such inputs was followed to its end."""
        known = self._known.get(root)
        return known is not None and inputs in known.inputs

    def finish(self, root: nn.Module, inputs: Key) -> None:
        """A forward with such inputs was followed to its end."""
        self._of(root).inputs.add(inputs)

    def of(self, visits: Sequence[Visit], exact: Key, alike: Key | None, learn: Callable[[], tuple[Any, Any]]) -> Any:
        """What is known of a call: learnt now, or in the earlier forward that this one repeats; None if that had none.

        What a part of the module does that runs by itself teaches nothing about its forwards.

        exact, alike: what tells the call again, with all shapes and with what remains in forwards of another size.
        learn: gives what is to be kept under each of them; None of the second is not kept.
        """
        sites = [(self._of(visit.recording.root).calls, visit.site.path) for visit in visits]
        if all(visit.recording.followed for visit in visits):
            calls, path = sites[0]
            known = calls.get((path, exact), calls.get((path, alike)))
            if known is None:  # the next forward is to be followed, whatever its inputs
                for visit in visits:
                    self._of(visit.recording.root).inputs.clear()
            return known
        if not any(visit.recording.in_forward for visit in visits):
            calls, path = sites[0]
            return calls[path, exact] if (path, exact) in calls else learn()[0]
        whole, rest = learn()
        for calls, path in sites:
            calls[path, exact] = whole
            if rest is not None:
                calls[path, alike] = rest
        return whole

    def clear(self) -> None:
        self._known.clear()

    def _of(self, root: nn.Module) -> _Known:
        known = self._known.get(root)
        if known is None:
            known = self._known[root] = _Known()
        return known


def shapes(inputs: Sequence[Tensor]) -> Key:
    """Inputs as a forward is told again by."""
    return tuple((tuple(x.shape), x.is_floating_point()) for x in inputs)
