"""What is kept in memory for the next call, and the one place that lists it and lets go of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar


class Entry(NamedTuple):
    """One thing that is kept. kind: "model", "detector" or "run"; bytes: of its tensors and pictures."""

    kind: str
    name: str
    bytes: int


class Keeper(Protocol):
    """Whoever keeps things between calls."""

    def entries(self) -> list[Entry]: ...
    def clear(self) -> None: ...


KEEPERS: list[Keeper] = []  # of this process; each room that keeps things adds its own when it is loaded


class Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


class Latest(Generic[T]):
    """The things that were asked for last, by key; of many, the last used are kept.

    kind, size: see `Entry`, of one thing. One thing is made at a time, so that two threads never make the same one.
    """

    def __init__(self, kind: str, limit: int, size: Callable[[T], int]) -> None:
        self.kind, self.limit, self.size = kind, limit, size
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._lock, self._making = threading.Lock(), threading.RLock()

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for this key before, or is made now."""
        value = self._get(key)
        if value is not None:
            return value
        with self._making:
            value = self._get(key)  # another thread may have made it meanwhile
            if value is None:
                value = make()
                with self._lock:
                    self._kept[key] = value
                    while len(self._kept) > self.limit:
                        self._kept.popitem(last=False)
            return value

    def _get(self, key: Hashable) -> T | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def entries(self) -> list[Entry]:
        with self._lock:
            kept = list(self._kept.values())
        return [Entry(self.kind, one.name, self.size(one)) for one in kept]

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


@dataclass(frozen=True, repr=False)
class Cache:
    """What is kept in memory, each thing with its bytes; `cache` makes one. Shows itself as a table."""

    entries: tuple[Entry, ...]

    @property
    def bytes(self) -> int:
        """Of all that is kept."""
        return sum(entry.bytes for entry in self.entries)

    def clear(self) -> None:
        """Let go of all that is kept: the next call loads or makes it again. What is in use elsewhere stays there."""
        for keeper in KEEPERS:
            keeper.clear()

    def __repr__(self) -> str:
        if not self.entries:
            return "nothing is kept"
        lines = [*self.entries, Entry("", "together", self.bytes)]
        kind, name = max(len(line.kind) for line in lines), max(len(line.name) for line in lines)
        return "\n".join(f"{one.kind:{kind}}  {one.name:{name}}  {one.bytes / 1e6:8,.1f} MB" for one in lines)


def cache() -> Cache:
    """What is kept in memory for the next call: models and detectors loaded by name, and the runs of Labs.

        print(vislab.cache())
        vislab.cache().clear()

    >>> type(cache()).__name__
    'Cache'
    """
    return Cache(tuple(entry for keeper in KEEPERS for entry in keeper.entries()))
