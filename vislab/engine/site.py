"""A Site: one place where queries meet keys, and why its attention can or cannot be read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ..core.checks import listed
from .attention import AreaCall, Call, FusedCall, ProjectedCall, WeightsCall, versions

NOT_FINITE = "it holds NaN or infinite values: look for them in the weights and the pixels"


class AttentionRefused(RuntimeError):
    """A site's attention cannot be read exactly; the message says which site and why."""


@dataclass(eq=False)
class Site:
    """One place where queries meet keys: an attention module, named by its path in the captured module.

    kind: the module's class. Sizes are those of the last forward.
    """

    name: str
    kind: str
    _call: Call | None = field(default=None, repr=False)
    _check: tuple[Tensor, Tensor] | None = field(default=None, repr=False)
    _confirm: Callable[[], None] | None = field(default=None, repr=False)
    _refused: str | None = field(default="no attention was seen in it, neither a fused call nor a softmax", repr=False)
    _calls: int = field(default=0, repr=False)
    _versions: tuple[int, ...] = field(default=(), repr=False)
    _batches: frozenset[int] | None = field(default=None, repr=False)  # of the model's input; None: not known
    _differentiable: bool = field(default=False, repr=False)
    _result: Tensor | None = field(default=None, repr=False)  # in the graph: where the gradient is to be taken
    _gradient: Tensor | None = field(default=None, repr=False)

    @property
    def refused(self) -> str | None:
        """Why its attention cannot be read, or None."""
        if self._refused is None and self._check is not None:
            error, limit = (float(value) for value in self._check)
            self._check, confirm, self._confirm = None, self._confirm, None
            if not (math.isfinite(error) and math.isfinite(limit)):
                self._refused = NOT_FINITE
            elif error > limit:
                self._refused = (
                    f"recomputed from its queries and keys it does not give the module's output (error {error:.2g}, "
                    f"limit {limit:.2g}): the module does something else with them"
                )
            elif confirm is not None:
                confirm()
        return self._refused

    @refused.setter
    def refused(self, reason: str) -> None:
        self._refused, self._call, self._check, self._confirm, self._result = reason, None, None, None, None

    def _read(self) -> Call:
        if self.refused is not None:
            raise AttentionRefused(f"the attention of {self.name!r} ({self.kind}) cannot be read: {self.refused}")
        assert self._call is not None
        if versions(self._call) != self._versions:
            raise AttentionRefused(
                f"what {self.name!r} ({self.kind}) attended with was changed in place since the forward; run it again"
            )
        return self._call

    def _keep(self, call: Call, result: Tensor | None) -> None:
        batch = call.shape[0]
        if self._batches is not None and batch != 1 and batch not in self._batches:
            self.refused = (
                f"it attends within {batch} windows, frames or crops of a batch of {listed(map(str, self._batches))}"
            )
        else:
            self._call, self._versions, self._refused = call, versions(call), None
            self._result = result if self._differentiable and result is not None and result.requires_grad else None

    @property
    def batch(self) -> int:
        return self._read().shape[0]

    @property
    def heads(self) -> int:
        return self._read().shape[1]

    @property
    def queries(self) -> int:
        """Attending tokens."""
        return self._read().shape[2]

    @property
    def keys(self) -> int:
        """Attended tokens."""
        return self._read().shape[3]

    @property
    def areas(self) -> int:
        """Into how many areas, consecutive chunks of the tokens, attention is confined; nearly always 1."""
        call = self._read()
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
        call = self._read()
        call = call.unfolded() if isinstance(call, AreaCall) else call
        if isinstance(call, WeightsCall):
            raise AttentionRefused(
                f"{self.name} ({self.kind}) makes its attention without a fused call: its weights can be read, "
                "its queries and keys cannot"
            )
        return call.project() if isinstance(call, ProjectedCall) else call
