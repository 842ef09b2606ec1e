"""The recorder of a thread: calls attention as the captures want it, and keeps what went into it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .arrangement import Arrangement, Unclear, arranged, conventional
from .attention import Call, FusedCall, WeightsCall, WindowCall, joined, kept_mask, uncast
from .axes import Axes
from .groups import Operands, grouped
from .layouts import Layouts
from .multi_head import MultiHead
from .recording import Visit
from .verification import verification

DROPOUT = "its dropout is active: call eval() on the model first"
CHANNELS = (
    "its softmax runs over channels, not over tokens: queries and keys are multiplied along the tokens, as in channel "
    "attention"
)
PACKED = "its heads are packed as queries of one token: gradients are read of forwards of several tokens"
NEW_SHAPES = "its shapes are new in a forward that began as an earlier one: run the forward again"

CONVENTIONAL = "conventional"  # (batch, heads, tokens, dim), in forwards of any size
Laid = tuple[Arrangement, Arrangement]


class Recorder:
    """axes: of the tensors of the thread. layouts: what was learnt of the calls of earlier forwards."""

    def __init__(self, axes: Axes, layouts: Layouts) -> None:
        self._axes, self._layouts = axes, layouts

    def fused(
        self, visits: Sequence[Visit], func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """F.scaled_dot_product_attention."""
        a, scale = _fused_arguments(*args, **kwargs), scale_of(visits)
        own = a["query"].shape[-1] ** -0.5 if a["scale"] is None else a["scale"]
        if scale != 1:
            a["scale"] = own * scale
        output = func(**a)
        begin_graph(visits, output)
        enlist(visits)
        if a["dropout_p"] > 0:
            refuse(visits, DROPOUT)
            return output
        gradients = any(visit.recording.gradients for visit in visits)
        with torch.no_grad():
            given = Operands(a["query"], a["key"], a["value"], a["attn_mask"], output.detach())
            query, key, value, mask, made, packed = grouped(visits[0].modules[0], given)
        if packed and gradients:
            refuse(visits, PACKED)
            return output
        laid = self._learnt(visits, query, key)
        if isinstance(laid, Unclear):
            refuse(visits, laid.reason)
            return output
        q, k = laid
        with torch.no_grad(), uncast(query.device):
            mask, values = _mask(mask, query, q), k.of(value.detach())
            kept = values if gradients else None
            call = FusedCall(q.of(query.detach()), k.of(key.detach()), own * scale, mask, a["is_causal"], kept)
            operands = functools.partial(lambda: (values, joined(q.of(made)), joined))
            keep(visits, call, q, output, verification(visits[0].modules[0], call, operands))
        return output

    def _learnt(self, visits: Sequence[Visit], query: Tensor, key: Tensor) -> Laid | Unclear:
        """How queries and keys are laid out, by what their dimensions run over or ran over in an earlier forward."""

        def learn() -> tuple[Any, Any]:
            laid = fused_layout(self._axes, query, key)
            plain = not isinstance(laid, Unclear) and all(one.plain for one in laid)
            return laid, CONVENTIONAL if plain else None

        alike = tuple(n for x in (query, key) for n in (x.ndim, x.shape[1:-2], x.shape[-1]))
        laid: Laid | Unclear | str | None = self._layouts.of(visits, (query.shape, key.shape), alike, learn)
        if laid is None:
            return Unclear(NEW_SHAPES)
        return _both(conventional(query), conventional(key)) if isinstance(laid, str) else laid

    def multi_head(
        self, visits: Sequence[Visit], func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """F.multi_head_attention_forward."""
        asked, scale = MultiHead(args, kwargs), scale_of(visits)
        output = asked.run(func, scale)
        begin_graph(visits, output[0])
        enlist(visits)
        if asked.more_keys:
            refuse(visits, "it adds keys of its own (add_bias_kv or add_zero_attn)")
        elif asked.dropout:
            refuse(visits, DROPOUT)
        else:
            with torch.no_grad(), uncast(asked.device):
                call = asked.call(scale, gradients=any(visit.recording.gradients for visit in visits))
                operands = functools.partial(asked.operands, call, output[0])
                keep(visits, call, None, output[0], verification(visits[0].modules[0], call, operands))
        return output


def _fused_arguments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> dict[str, Any]:
    """Those of F.scaled_dot_product_attention by name, which are quicker so than by its signature."""
    return locals()


def fused_layout(axes: Axes, query: Tensor, key: Tensor) -> Laid | Unclear:
    """How the queries and keys of a fused call are laid out; Unclear where they are not what attention is made of."""
    over = axes.of(query)
    if over is not None and axes.kind(over[-1]) in ("token", "image") and over[-1]:
        return Unclear(CHANNELS)
    laid = _both(arranged(axes, over, query), arranged(axes, axes.of(key), key))
    if isinstance(laid, Unclear) or _pair(*laid):
        return laid
    laid = _both(conventional(query), conventional(key))
    if isinstance(laid, Unclear) or _pair(*laid):
        return laid
    return Unclear(f"its queries and keys, of shapes {tuple(query.shape)} and {tuple(key.shape)}, do not pair")


def _both(q: Arrangement | Unclear, k: Arrangement | Unclear) -> Laid | Unclear:
    if isinstance(q, Unclear):
        return q
    return k if isinstance(k, Unclear) else (q, k)


def _pair(q: Arrangement, k: Arrangement) -> bool:
    """Whether there are keys for each query: as many in the batch, and heads that may be shared by several of them."""
    return q.shape[0] == k.shape[0] and q.shape[1] % k.shape[1] == 0


def _mask(mask: Tensor | None, query: Tensor, laid: Arrangement) -> Tensor | None:
    """A fused call's mask, laid out as its queries are."""
    if mask is None or laid.plain:
        return kept_mask(mask)
    full = mask.expand(*query.shape[:-1], mask.shape[-1])
    return laid.of(full).detach().clone()


# ---- what all kinds of calls share ----


def scale_of(visits: Sequence[Visit]) -> float:
    """The attention scales of all captures that take part."""
    scale = 1.0
    for visit in visits:
        scale *= visit.scale
    return scale


def begin_graph(visits: Sequence[Visit], result: Tensor) -> None:
    """Of a result that the gradient is taken at; where nothing before it has one, the graph begins here."""
    if any(v.recording.gradients for v in visits) and torch.is_grad_enabled() and not torch.is_inference(result):
        result.requires_grad_()


def enlist(visits: Sequence[Visit]) -> None:
    """The captures show the site from now on."""
    for visit in visits:
        visit.recording.enlist(visit.site)


def refuse(visits: Sequence[Visit], reason: str) -> None:
    """The site cannot be read."""
    for visit in visits:
        visit.refuse(reason)


def keep(visits: Sequence[Visit], call: Call, laid: Arrangement | None, result: Tensor, check: Any = None) -> None:
    """The site can be read by this call. laid: how its tensors and its result were laid out."""
    frames = 1 if laid is None else laid.frames
    if laid is not None and laid.place is not None and isinstance(call, FusedCall | WeightsCall):
        if call.shape[2] == call.shape[3]:
            call = WindowCall(call, laid.place)
        else:
            frames *= laid.windows
    for visit in visits:
        visit.keep(call, check, result, laid, frames)
