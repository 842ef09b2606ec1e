"""The forwards of a generation: what a site did in each of them, as one call over all tokens.

A step adds a few tokens and attends from these to all before them, whose keys the model's cache kept. So each step's
queries are kept, and each token's keys once: memory is that of one forward over all tokens. Where a cache lets go of
keys (sliding windows), a row is zero for those that its step no longer saw. A step that saw other keys than those of
the forwards before it, as with quantised caches or where a beam was given up, makes its site refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from .attention import FusedCall, WeightsCall, count, versions
from .site import Recorded, Refused, Site, State, Verified
from .stepped import StepsCall

CHANGED = (
    "a forward of the generation saw other keys than the forwards before it left, as with a static or quantised cache, "
    "or with beams: generate with the dynamic cache and without beams"
)
_NO_STEP = "it attends in windows or by nn.MultiheadAttention, which generations are not followed through"


@dataclass(frozen=True, eq=False)
class Kept:
    """Whether the keys that a step saw are those that were kept. changed: what one of them differs by."""

    changed: Tensor

    @cached_property
    def failure(self) -> str | None:
        return None if not self.changed.any() else CHANGED


@dataclass(frozen=True, eq=False)
class All:
    """Several checks, none of which may fail."""

    each: tuple[Verified, ...]

    @cached_property
    def failure(self) -> str | None:
        return next((check.failure for check in self.each if check.failure is not None), None)


def begins(earlier: Sequence[Site], later: Sequence[Site]) -> bool:
    """Whether a forward begins a new generation: a site that had keys of earlier tokens has its own alone."""
    known = {site.name: site.state for site in earlier}
    for site in later:
        before, now = known.get(site.name), site.state
        if isinstance(before, Recorded) and isinstance(now, Recorded) and before.call.shape[2] == before.call.shape[3]:
            return now.call.shape[2] == now.call.shape[3]
    return False


def joined(earlier: Sequence[Site], later: Sequence[Site]) -> list[Site]:
    """The sites of a generation so far, and those of one more of its forwards, in execution order."""
    more = {site.name: site for site in later}
    for site in earlier:
        if (one := more.pop(site.name, None)) is not None:
            site.state = _extended(site.state, one.state)
    return [*earlier, *more.values()]


def _extended(before: State, now: State) -> State:
    if not isinstance(before, Recorded):
        return before
    if not isinstance(now, Recorded):
        return now
    known, call = before.call, now.call
    if not isinstance(known, FusedCall | WeightsCall | StepsCall) or not isinstance(call, FusedCall | WeightsCall):
        return Refused(_NO_STEP)
    steps = known if isinstance(known, StepsCall) else StepsCall.of(known)
    if isinstance(call, FusedCall) != bool(steps.k):  # a module that makes its attention itself, in two ways
        steps = StepsCall.of(WeightsCall(steps.attention(slice(None))))
        call = WeightsCall(call.attention(slice(None)))
    seen = steps.sees(call)
    if seen is None or (steps is not known and versions(known) != before.versions):
        return Refused(CHANGED)
    checks: list[Verified] = [check for state in (before, now) if (check := state.check) is not None]
    if isinstance(call, FusedCall):
        old = min(seen[1], steps.shape[3]) - seen[0]  # keys of earlier tokens that it saw
        some = {0, old - 1} if old > 0 else set()
        checks += [Kept(steps.key(seen[0] + one) - call.k[:, :, one]) for one in some]
    extended = steps.extended(call, seen)
    counted = (*before.versions, *count(extended.last)) if steps is known else versions(extended)
    each = tuple(one for check in checks for one in (check.each if isinstance(check, All) else (check,)))
    return Recorded(extended, counted, All(each) if each else None, frames=before.frames)
