"""A Site: one place where queries meet keys, and why its attention can or cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from .arrangement import Arrangement
from .attention import Call, FusedCall, ProjectedCall, WeightsCall, WindowCall, versions
from .stepped import StepsCall


class Verified(Protocol):
    """A check of a call. failure: why it is not what it seems, or None."""

    @property
    def failure(self) -> str | None: ...


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
    """A module that bears the name of attention runs, and nothing in it has attended yet."""

    reason: str = "it ran, and neither a fused call nor a softmax of queries and keys was seen to weigh values in it"


@dataclass(frozen=True)
class Unproven(Refused):
    """The module made a softmax that nothing was weighed by yet."""

    reason: str = "its softmax was not seen to weigh values: what was made of it could not be followed"


@dataclass(frozen=True, eq=False)
class Recorded:
    """The module attended once, or once in each forward of a generation, by a call that can be read.

    versions: how often what the call holds had been changed by then. check: of a call that is yet to be verified, which
    happens when it is first read. result: where the gradient is to be taken, a tensor in the graph; arrangement: of it.
    frames: maps of each image that lie side by side in the batch: frames of a clip, crops, tiles.
    """

    call: Call
    versions: tuple[int, ...]
    check: Verified | None = None
    result: Tensor | None = None
    arrangement: Arrangement | None = None
    frames: int = 1

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
    """One place where queries meet keys, in the last forward.

    path: of the attention module in the captured module. kind: the module's class. turn: which of its calls this is,
    where it attended more than once; None where it did once.
    """

    path: str
    kind: str
    state: State = field(default_factory=Unseen, repr=False)
    turn: int | None = None
    scored: Scored | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Its path, and where its module attended more than once, which of the calls: "layer.attn[1]" is the second."""
        return self.path if self.turn is None else f"{self.path}[{self.turn}]"

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
    def windows(self) -> int:
        """Into how many windows of the map attention is confined; nearly always 1."""
        return 1 if self.places is None else len(self.places)

    @property
    def places(self) -> Tensor | None:
        """Where on the map each window's tokens lie -> (windows, tokens of one), None where attention runs over all."""
        call = self.read()
        return call.place if isinstance(call, WindowCall) else None

    @property
    def frames(self) -> int:
        """How many maps of each image lie side by side in the batch: frames, crops, tiles; nearly always 1."""
        self.read()
        return self.state.frames if isinstance(self.state, Recorded) else 1

    @property
    def self_attention(self) -> bool:
        """Whether as many tokens attend as are attended; of a refused site it is taken to be so."""
        return self.refused is not None or len({*self.read().shape[2:]}) == 1

    @property
    def q(self) -> Tensor:
        """The queries that met the keys. -> (batch, heads, queries, dim), the model's dtype."""
        return self._operands().q

    @property
    def k(self) -> Tensor:
        """The keys that met the queries. -> (batch, heads, keys, dim), the model's dtype."""
        return self._operands().k

    @property
    def v(self) -> Tensor:
        """The values. -> (batch, heads, keys, dim), the model's dtype. ValueError where no gradients are asked for."""
        values = self._operands().v
        if values is None:
            raise ValueError("values are kept where gradients are asked for: capture(module, gradients=True)")
        return values

    @property
    def scale(self) -> float:
        """The factor of q·kᵀ, attention scale included."""
        return self._operands().scale

    def added(self) -> Tensor | None:
        """What is added to the logits of the first query of the first image -> (heads or 1, keys); None where nothing
        is."""
        bias = self._operands().bias(slice(0, 1), slice(0, 1))
        return None if bias is None else bias.flatten(0, -3)[:, 0]

    def _operands(self) -> FusedCall:
        call = self.read()
        call = call.unfolded() if isinstance(call, WindowCall) else call
        if isinstance(call, StepsCall) and call.k:
            return call.whole()
        if isinstance(call, WeightsCall | StepsCall):
            raise AttentionRefused(
                f"{self.name} ({self.kind}) makes its attention without a fused call: its weights can be read, "
                "its queries and keys cannot"
            )
        return call.project() if isinstance(call, ProjectedCall) else call

    # ---- recording ----

    def release(self) -> Tensor | None:
        """The result in the graph, held no longer; whatever score there was is forgotten."""
        self.scored, state = None, self.state
        if not isinstance(state, Recorded):
            return None
        self.state = replace(state, result=None)
        return state.result
