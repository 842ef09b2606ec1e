"""A Capture: what the sites of a module did in its last forward, and the rows, walks and gradients read from it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..core.checks import listed
from .attention import uncast, wide
from .gradients import differentiate, scored
from .passage import Passage
from .recording import Recording
from .site import AttentionRefused, Site
from .verification import NOT_FINITE
from .walks import Fusion, carried, carried_positive, queries_read

Query = int | Sequence[int] | slice


class Capture:
    """What the attention sites of a module did in its last forward under `capture`; readable after the block."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.passages: dict[str, Passage] = {}  # by the path of the site before which tokens are dropped or joined

    @property
    def _root(self) -> str:
        return type(self._recording.root).__name__

    @property
    def sites(self) -> Mapping[str, Site]:
        """Module path -> Site, in execution order; those whose attention cannot be read are there with the reason."""
        return dict(self._recording.sites)

    @property
    def layers(self) -> list[Site]:
        """The self-attention sites, in execution order."""
        return [site for site in self._recording.sites.values() if site.self_attention]

    def site(self, site: str | int | Site) -> Site:
        """A site by name, by layer index among `layers` (-1 is the last), or itself."""
        if isinstance(site, Site):
            return site
        self._nothing_captured()
        if isinstance(site, str):
            turns = [one for one in self._recording.sites.values() if one.path == site and one.turn is not None]
            if turns:
                names = listed(one.name for one in turns)
                raise AttentionRefused(
                    f"{site!r} ({turns[0].kind}) attends more than once in one forward: choose one of {names}"
                )
            if site not in self._recording.sites:
                raise KeyError(f"no site {site!r} was captured; there are {listed(self._recording.sites)}")
            return self._recording.sites[site]
        layers = self.layers
        if not layers:
            sites = listed(self._recording.sites)
            raise AttentionRefused(f"{self._root} has no self-attention; its sites are {sites}")
        if not -len(layers) <= site < len(layers):
            raise IndexError(f"no layer {site}: {self._root} has layers 0 to {len(layers) - 1}")
        return layers[site]

    def attention(self, site: str | int | Site, query: Query = 0) -> Tensor:
        """Attention of a query token, recomputed from the queries and keys that met.

        site: name, layer index or Site; query: token index, several of them, or a slice -> (batch, heads, keys) for one
        query, else (batch, heads, queries, keys). Rows sum to 1. float32, or float64 where the model is.
        """
        site = self.site(site)
        call = site.read()
        index = _rows(query, call.shape[2])
        with torch.no_grad(), uncast(call.device):
            rows = _finite(call.attention(index), site.name)
        return rows if isinstance(query, slice | Sequence) else rows[:, :, 0]

    def rollout(
        self,
        query: int | Tensor = 0,
        *,
        sites: Sequence[str | int | Site] | None = None,
        head: Fusion = "mean",
        residual: float = 0.5,
        discard: float = 0.0,
        prefix: int = 1,
    ) -> Tensor:
        """Attention rollout of one query: its row of the product of all layers' attention, in O(n) memory.

        query: token index, or weights over the tokens: (n,) or (batch, n) -> (batch, n), rows sum to 1. sites: in
        execution order; by default all self-attention sites, which must then agree in their number of tokens. head: how
        heads are fused. residual: share of the residual path, 0 to 1. discard: share of each row, its lowest values,
        set to zero before it is renormalised, 0 to below 1; the first `prefix` keys are exempt.

        The row vector is carried from the last layer to the first, v <- residual·v + (1 - residual)·v·A, where A is
        made in blocks of rows that are dropped at once.

        Source: Abnar & Zuidema 2020, eq. 1; discard as in common use for Vision Transformers, taken by row.
        """
        if head not in ("mean", "max", "min"):
            raise ValueError(f"rollout fuses heads by 'mean', 'max' or 'min', not {head!r}")
        if not 0 <= residual <= 1 or not 0 <= discard < 1:
            raise ValueError(f"residual runs from 0 to 1 and discard from 0 to below 1, not {residual} and {discard}")
        chain = self._chain(sites)
        row = _first_row(chain[-1], query)
        with torch.no_grad(), uncast(row.device):
            for before, site in reversed([*zip([None, *chain], chain, strict=False)]):
                taken = carried(site.read(), row, head, discard, prefix)
                row = self._passed(residual * row + (1 - residual) * _finite(taken, site.name), before, site)
        return row

    # ---- gradients ----

    def differentiate(self, score: Tensor) -> None:
        """Keep the gradient of a score at the attention of all sites, for `gradient`, `relevance` and `grad_rollout`.

        score: one number that the forward under `capture(…, gradients=True)` made. Its graph is freed, and no parameter
        gets a gradient. Raises ValueError where there is no gradient to take.
        """
        if not self._recording.gradients:
            raise ValueError("this capture keeps no gradients: open it as capture(module, gradients=True)")
        differentiate(self._recording.sites.values(), score)

    def gradient(self, site: str | int | Site, query: Query = 0) -> Tensor:
        """The gradient of the score at a query's attention, dA = dO·Vᵀ, made when asked for; see `differentiate`.

        site, query and shapes as of `attention`; 0 where the score does not depend on the site.
        """
        site = self.site(site)
        call, gradient = scored(site)
        index = _rows(query, site.queries)
        with torch.no_grad(), uncast(call.device):
            if gradient is None:
                rows = torch.zeros_like(call.attention(index))
            else:
                rows = _finite(call.gradient(gradient, index), site.name)
        return rows if isinstance(query, slice | Sequence) else rows[:, :, 0]

    def queries_read(self, site: str | int | Site) -> Tensor:
        """Which queries' outputs at a site the score depends on. -> (batch, queries) bool; see `differentiate`."""
        call, gradient = scored(self.site(site))
        if gradient is None:
            return torch.zeros(call.shape[0], call.shape[2], dtype=torch.bool, device=call.device)
        return queries_read(gradient)

    def relevance(self, query: int | Tensor = 0, *, sites: Sequence[str | int | Site] | None = None) -> Tensor:
        """Relevance of all tokens to the score, through one query: its row of the relevance matrix, in O(n) memory.

        query, sites: as of `rollout` -> (batch, n). The row starts as the query alone and is carried from the last
        layer to the first, r <- r + r·Ā with Ā = mean over the heads of (A ∘ dA)⁺, made in blocks of rows that are
        dropped at once.

        Source: Chefer, Gur & Wolf 2021 (Generic Attention-model Explainability), eqs. 5 and 6.
        """
        return self._through_gradients(query, sites, lambda row, taken: row + taken, normalised=False)

    def grad_rollout(
        self, query: int | Tensor = 0, *, sites: Sequence[str | int | Site] | None = None, residual: float = 0.5
    ) -> Tensor:
        """Rollout through attention weighted by the positive part of its gradient, in O(n) memory.

        query, sites, residual: as of `rollout` -> (batch, n), rows sum to 1. As `relevance`, but each row of Ā is
        divided by its sum, and the residual path has its share: v <- residual·v + (1 - residual)·v·Ā. A token without
        any positive gradient keeps what it carries.

        Source: the weights are those of `relevance`, the walk is that of Abnar & Zuidema 2020.
        """
        if not 0 <= residual <= 1:
            raise ValueError(f"residual runs from 0 to 1, not {residual}")
        return self._through_gradients(
            query, sites, lambda row, taken: residual * row + (1 - residual) * taken, normalised=True
        )

    def _through_gradients(
        self,
        query: int | Tensor,
        sites: Sequence[str | int | Site] | None,
        step: Callable[[Tensor, Tensor], Tensor],
        *,
        normalised: bool,
    ) -> Tensor:
        chain = self._chain(sites)
        steps = [(before, site, *scored(site)) for before, site in zip([None, *chain], chain, strict=False)]
        row = _first_row(chain[-1], query)
        with torch.no_grad(), uncast(row.device):
            for before, site, call, gradient in reversed(steps):
                if gradient is not None:  # else the score does not depend on it
                    taken = carried_positive(call, gradient, row, normalised=normalised)
                    row = step(row, _finite(taken, site.name))
                row = self._passed(row, before, site)
        return row

    def _passed(self, row: Tensor, before: Site | None, site: Site) -> Tensor:
        """A row over what a site attends to, as one over what another site before it made."""
        for passage in reversed(self._between(before, site)):
            row = passage.back(row)
        return row

    def _between(self, before: Site | None, site: Site) -> list[Passage]:
        """What becomes of tokens from one site of a walk to the next, in execution order."""
        if before is None or not self.passages:
            return []
        paths = [one.path for one in self.layers]
        between = paths[paths.index(before.path) + 1 : paths.index(site.path) + 1]
        return [self.passages[path] for path in between if path in self.passages]

    def _chain(self, sites: Sequence[str | int | Site] | None) -> list[Site]:
        if sites is not None:
            chain = [self.site(s) for s in sites]
        else:
            self.site(-1)
            chain = self.layers
            if (again := next((site for site in chain if site.turn is not None), None)) is not None:
                raise AttentionRefused(
                    f"{again.path!r} attends more than once in one forward, and whether one after the other or side by "
                    "side cannot be told: choose with sites=…"
                )
        if not chain:
            raise ValueError("rollout needs at least one site")
        counts: dict[int, list[str]] = {}
        for site in chain:
            if not site.self_attention:
                raise ValueError(f"rollout needs self-attention, and {site.name} is {site.queries} × {site.keys}")
            counts.setdefault(site.keys, []).append(site.name)
        if len(counts) > 1 and not all(self._joined(one, other) for one, other in pairwise(chain)):
            groups = "; ".join(f"{n} tokens at {listed(names)}" for n, names in counts.items())
            raise ValueError(f"rollout needs one number of tokens, and there are {groups}. Choose with sites=…")
        if len({site.batch for site in chain}) > 1:
            batches = ", ".join(f"{site.batch} at {site.name}" for site in chain)
            raise ValueError(f"rollout needs one batch size, and there are {batches}. Choose with sites=…")
        return chain

    def _joined(self, before: Site, site: Site) -> bool:
        """Whether the tokens of one site of a walk are known to come from those of the one before."""
        tokens = before.keys
        for passage in self._between(before, site):
            if passage.old != tokens:
                return False
            tokens = passage.count
        return tokens == site.keys

    def _nothing_captured(self) -> None:
        if self._recording.sites:
            return
        if self._recording.ran:
            raise AttentionRefused(
                f"{self._root} ran and has no attention: no fused call, and no softmax that weighs values"
            )
        raise AttentionRefused(
            f"nothing was captured: {self._root} did not run in this thread under capture. Run the model inside the "
            "with block"
        )


def _first_row(site: Site, query: int | Tensor) -> Tensor:
    """What a walk through the layers starts with at its last site: one query, or weights over them -> (batch, n)."""
    call = site.read()
    batch, _, tokens, _ = call.shape
    dtype = wide(call.dtype)
    if isinstance(query, Tensor):
        if query.shape not in ((tokens,), (batch, tokens)):
            raise ValueError(f"weights over the queries need shape ({tokens},), not {tuple(query.shape)}")
        return query.to(call.device, dtype).expand(batch, tokens)
    row = torch.zeros(batch, tokens, dtype=dtype, device=call.device)
    row[:, _token(query, tokens)] = 1
    return row


def _rows(query: Any, count: int) -> slice | Tensor:
    if isinstance(query, slice):
        return query
    several = query if isinstance(query, Sequence) and not isinstance(query, str) else [query]
    return torch.tensor([_token(index, count) for index in several], dtype=torch.long)


def _token(query: Any, count: int) -> int:
    """A query's token index, counted from 0, also for one from the end (-1 is the last of `count` tokens).

    Raises IndexError for one out of range, TypeError for what is no integer.
    """
    try:
        index = operator.index(query)
    except TypeError:
        raise TypeError(f"a query is a token index from 0 to {count - 1}, or several of them, not {query!r}") from None
    if not -count <= index < count:
        raise IndexError(f"no query token {index}: they run from 0 to {count - 1}")
    return index % count


def _finite(values: Tensor, name: str) -> Tensor:
    if not values.isfinite().all():
        raise AttentionRefused(f"the attention of {name!r} cannot be read: {NOT_FINITE}")
    return values
