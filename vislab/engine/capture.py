"""A Capture: what the sites of a module did in its last forward, and the rows, walks and gradients read from it."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.checks import listed
from .attention import AreaCall, Differentiable, ProjectedCall, exactly, wide
from .site import NOT_FINITE, AttentionRefused, Site
from .walks import Fusion, carried, carried_positive, queries_read

Query = int | Sequence[int] | slice


class Capture:
    """What the attention sites of a module did in its last forward under `capture`; readable after the block."""

    def __init__(
        self, root: nn.Module, scale: float | Mapping[int, float], watched: int, differentiable: bool = False
    ) -> None:
        self._root = type(root).__name__
        self._watched = watched
        self._scale = scale
        self._differentiable = differentiable
        self._thread = threading.get_ident()
        self._sites: dict[str, Site] = {}
        self._running = False
        self._scored = False
        self._batches: frozenset[int] | None = None

    # ---- reading ----

    @property
    def sites(self) -> Mapping[str, Site]:
        """Module path -> Site, in execution order; those whose attention cannot be read are there with the reason."""
        return dict(self._sites)

    @property
    def layers(self) -> list[Site]:
        """The self-attention sites, in execution order."""
        return [site for site in self._sites.values() if site.self_attention]

    def site(self, site: str | int | Site) -> Site:
        """A site by name, by layer index among `layers` (-1 is the last), or itself."""
        if isinstance(site, Site):
            return site
        self._nothing_captured()
        if isinstance(site, str):
            if site not in self._sites:
                raise KeyError(f"no site {site!r} was captured; there are {listed(self._sites)}")
            return self._sites[site]
        layers = self.layers
        if not layers:
            raise AttentionRefused(f"{self._root} has no self-attention; its sites are {listed(self._sites)}")
        if not -len(layers) <= site < len(layers):
            raise IndexError(f"no layer {site}: {self._root} has layers 0 to {len(layers) - 1}")
        return layers[site]

    def attention(self, site: str | int | Site, query: Query = 0) -> Tensor:
        """Attention of a query token, recomputed from the queries and keys that met.

        site: name, layer index or Site; query: token index, several of them, or a slice -> (batch, heads, keys) for one
        query, else (batch, heads, queries, keys). Rows sum to 1. float32, or float64 where the model is.
        """
        site = self.site(site)
        call = site._read()
        index = _rows(query, call.shape[2])
        with exactly(call.device):
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

        query: token index, or weights over the tokens: (n,) -> (batch, n), rows sum to 1. sites: in execution order; by
        default all self-attention sites, which must then agree in their number of tokens. head: how heads are fused.
        residual: share of the residual path, 0 to 1. discard: share of each row, its lowest values, set to zero before
        it is renormalised, 0 to below 1; the first `prefix` keys are exempt.

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
        with exactly(row.device):
            for site in reversed(chain):
                taken = carried(site._read(), row, head, discard, prefix)
                row = residual * row + (1 - residual) * _finite(taken, site.name)
        return row

    # ---- gradients ----

    def differentiate(self, score: Tensor) -> None:
        """Keep the gradient of a score at the attention of all sites, for `gradient`, `relevance` and `grad_rollout`.

        score: one number that the forward under `capture(…, gradients=True)` made. Its graph is freed, and no parameter
        gets a gradient. Raises ValueError where there is no gradient to take.
        """
        if not self._differentiable:
            raise ValueError("this capture keeps no gradients: open it as capture(module, gradients=True)")
        if score.numel() != 1:
            raise ValueError(f"a score is one number, not a tensor of shape {tuple(score.shape)}: choose one of them")
        if not score.requires_grad:
            raise ValueError(
                "the score has no gradient: the model ran under torch.no_grad or torch.inference_mode, or detaches it"
            )
        results = {site: site._result for site in self._sites.values() if site._result is not None}
        for site in self._sites.values():
            site._result = site._gradient = None
        found = torch.autograd.grad(score.reshape(()), [*results.values()], allow_unused=True) if results else []
        if all(gradient is None for gradient in found):
            raise ValueError(f"the score depends on none of the sites: {listed(self._sites) or 'none was captured'}")
        for site, gradient in zip(results, found, strict=True):
            call, site._gradient = site._call, gradient
            if gradient is not None and isinstance(call, ProjectedCall):
                site._gradient = call.at_heads(gradient)
        self._scored = True

    def gradient(self, site: str | int | Site, query: Query = 0) -> Tensor:
        """The gradient of the score at a query's attention, dA = dO·Vᵀ, made when asked for; see `differentiate`.

        site, query and shapes as of `attention`; 0 where the score does not depend on the site.
        """
        site = self.site(site)
        call, index = self._differentiated(site), _rows(query, site.queries)
        with exactly(call.device):
            if site._gradient is None:
                rows = torch.zeros_like(call.attention(index))
            else:
                rows = _finite(call.gradient(site._gradient, index), site.name)
        return rows if isinstance(query, slice | Sequence) else rows[:, :, 0]

    def queries_read(self, site: str | int | Site) -> Tensor:
        """Which queries' outputs at a site the score depends on. -> (batch, queries) bool; see `differentiate`."""
        site = self.site(site)
        call = self._differentiated(site)
        if site._gradient is None:
            return torch.zeros(call.shape[0], call.shape[2], dtype=torch.bool, device=call.device)
        return queries_read(site._gradient)

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
        calls = [self._differentiated(site) for site in chain]
        row = _first_row(chain[-1], query)
        with exactly(row.device):
            for site, call in zip(reversed(chain), reversed(calls), strict=True):
                if site._gradient is not None:  # else the score does not depend on it
                    taken = carried_positive(call, site._gradient, row, normalised=normalised)
                    row = step(row, _finite(taken, site.name))
        return row

    def _differentiated(self, site: Site) -> Differentiable:
        """The call of a site whose gradient was taken, or can be said to be 0."""
        call = site._read()
        if isinstance(call, AreaCall):
            raise AttentionRefused(f"gradients are not followed through the areas of {site.name!r} ({site.kind})")
        if not self._scored:
            raise ValueError("no score was given: call differentiate(score) after the forward")
        return call

    def _chain(self, sites: Sequence[str | int | Site] | None) -> list[Site]:
        if sites is not None:
            chain = [self.site(s) for s in sites]
        else:
            self.site(-1)
            chain = self.layers
        if not chain:
            raise ValueError("rollout needs at least one site")
        counts: dict[int, list[str]] = {}
        for site in chain:
            if not site.self_attention:
                raise ValueError(f"rollout needs self-attention, and {site.name} is {site.queries} × {site.keys}")
            counts.setdefault(site.keys, []).append(site.name)
        if len(counts) > 1:
            groups = "; ".join(f"{n} tokens at {listed(names)}" for n, names in counts.items())
            raise ValueError(f"rollout needs one number of tokens, and there are {groups}. Choose with sites=…")
        if len({site.batch for site in chain}) > 1:
            batches = ", ".join(f"{site.batch} at {site.name}" for site in chain)
            raise ValueError(f"rollout needs one batch size, and there are {batches}. Choose with sites=…")
        return chain

    def _nothing_captured(self) -> None:
        if self._sites:
            return
        if self._watched == 0:
            raise AttentionRefused(
                f"{self._root} has no attention module: looked for modules named …Attention or …Attn, or with query "
                "and key projections (q_proj and k_proj, query and key, q and k, to_q and to_k, qkv)"
            )
        raise AttentionRefused(
            f"nothing was captured: none of the {self._watched} attention modules of {self._root} ran in this thread "
            "under capture. Run the model inside the with block. The fast path of nn.TransformerEncoderLayer runs no "
            "attention module: torch.backends.mha.set_fastpath_enabled(False) turns it off"
        )

    # ---- recording ----

    def _begin(self, given: Iterable[Any]) -> None:
        self._running, self._scored = True, False
        self._batches = _batches(given)
        self._sites.clear()

    def _end(self) -> None:
        self._running = False
        self._batches = None

    def _enter(self, name: str, module: nn.Module) -> tuple[Site, float]:
        """The site about to run and its attention scale; what it did in an earlier forward is forgotten."""
        if name not in self._sites or not self._running:  # called on its own, each call is a forward
            kind, differentiable = type(module).__name__, self._differentiable
            self._sites[name] = Site(name, kind, _batches=self._batches, _differentiable=differentiable)
        scale = self._scale
        if isinstance(scale, Mapping):
            scale = scale.get(list(self._sites).index(name), 1.0)
        return self._sites[name], float(scale)


def _first_row(site: Site, query: int | Tensor) -> Tensor:
    """What a walk through the layers starts with at its last site: one query, or weights over them -> (batch, n)."""
    call = site._read()
    batch, _, tokens, _ = call.shape
    dtype = wide(call.dtype)
    if isinstance(query, Tensor):
        if query.shape != (tokens,):
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
    """A token index from 0; IndexError for one that is not there, TypeError for what is no index."""
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


def _batches(given: Iterable[Any]) -> frozenset[int] | None:
    """What may be the batch size of a model's input; None if that cannot be told."""
    tensors = [t for t in given if isinstance(t, Tensor) and t.ndim > 1]
    sizes = {t.shape[0] for t in tensors} | {t.shape[1] for t in tensors if t.ndim == 3}  # or (tokens, batch, width)
    return frozenset(sizes) or None
