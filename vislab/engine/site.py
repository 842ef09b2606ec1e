"""A Site: one place where queries meet keys, and why its attention can or cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from .attention import AreaCall, Call, FusedCall, ProjectedCall, WeightsCall, versions
from .verification import Check


class AttentionRefused(RuntimeError):
    """A site's attention cannot be read exactly; the message says which site and why."""


@dataclass(frozen=True)
class Refused:
    """The module's attention cannot be read, for a reason that completes "cannot be read: …"."""

    reason: str

    @property
    def refused(self) -> str | None:
        return self.reason


@dataclass(frozen=True)
class Unseen(Refused):
    """The module runs, and nothing in it has attended yet."""

    reason: str = "no attention was seen in it, neither a fused call nor a softmax"


@dataclass(frozen=True)
class Unproven(Refused):
    """The module made a softmax that nothing was weighed by yet."""

    reason: str = "its softmax is changed before it weighs the values (active dropout, talking heads)"


@dataclass(frozen=True, eq=False)
class Recorded:
    """The module attended once, by a call that can be read.

    versions: how often what the call holds had been changed by then. check: of a call that is yet to be verified, which
    happens when it is first read. result: where the gradient is to be taken, a tensor in the graph.
    """

    call: Call
    versions: tuple[int, ...]
    check: Check | None = None
    result: Tensor | None = None

    @property
    def refused(self) -> str | None:
        return None if self.check is None else self.check.failure


State = Unseen | Unproven | Refused | Recorded


@dataclass(frozen=True, eq=False)
class Scored:
    """A score was differentiated. gradient: at the site's attention, None where the score does not depend on it."""

    gradient: Tensor | None


@dataclass(eq=False)
class Site:
    """One place where queries meet keys: an attention module, named by its path in the captured module.

    kind: the module's class. Sizes are those of the last forward.
    """

    name: str
    kind: str
    state: State = field(default_factory=Unseen, repr=False)
    scored: Scored | None = field(default=None, repr=False)

    # ---- reading ----

    @property
    def refused(self) -> str | None:
        """Why its attention cannot be read, or None."""
        return self.state.refused

    def read(self) -> Call:
        """The call in which its queries met their keys. Raises AttentionRefused, with the reason."""
        state = self.state
        if state.refused is not None or not isinstance(state, Recorded):
            raise AttentionRefused(f"the attention of {self.name!r} ({self.kind}) cannot be read: {state.refused}")
        if versions(state.call) != state.versions:
            raise AttentionRefused(
                f"what {self.name!r} ({self.kind}) attended with was changed in place since the forward; run it again"
            )
        return state.call

    @property
    def batch(self) -> int:
        return self.read().shape[0]

    @property
    def heads(self) -> int:
        return self.read().shape[1]

    @property
    def queries(self) -> int:
        """Attending tokens."""
        return self.read().shape[2]

    @property
    def keys(self) -> int:
        """Attended tokens."""
        return self.read().shape[3]

    @property
    def areas(self) -> int:
        """Into how many areas, consecutive chunks of the tokens, attention is confined; nearly always 1."""
        call = self.read()
        return call.areas if isinstance(call, AreaCall) else 1

    @property
    def self_attention(self) -> bool:
        """Whether as many tokens attend as are attended; of a refused site it is taken to be so."""
        return self.refused is not None or self.queries == self.keys

    @property
    def q(self) -> Tensor:
        """The queries that met the keys. -> (batch, heads, queries, dim), the model's dtype."""
        return self._operands().q

    @property
    def k(self) -> Tensor:
        """The keys that met the queries. -> (batch, heads, keys, dim), the model's dtype."""
        return self._operands().k

    @property
    def scale(self) -> float:
        """The factor of q·kᵀ, attention scale included."""
        return self._operands().scale

    def _operands(self) -> FusedCall:
        call = self.read()
        call = call.unfolded() if isinstance(call, AreaCall) else call
        if isinstance(call, WeightsCall):
            raise AttentionRefused(
                f"{self.name} ({self.kind}) makes its attention without a fused call: its weights can be read, "
                "its queries and keys cannot"
            )
        return call.project() if isinstance(call, ProjectedCall) else call

    # ---- recording ----

    def attend(self, state: State) -> None:
        """Its module attended, which leaves it in this state; a second time in one forward refuses it."""
        self.state = state if isinstance(self.state, Unseen) else Refused("it attends more than once in one forward")

    def prove(self, state: State) -> None:
        """The softmax of its module weighed the values, which leaves it in this state."""
        if isinstance(self.state, Unproven):
            self.state = state

    def release(self) -> Tensor | None:
        """The result in the graph, held no longer; whatever score there was is forgotten."""
        self.scored, state = None, self.state
        if not isinstance(state, Recorded):
            return None
        self.state = replace(state, result=None)
        return state.result
