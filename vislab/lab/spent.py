"""How tokens are spent in a lab: the settings, what a forward is asked of them, and what the page is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import traitlets

from ..core.heatmap import Heatmap
from ..engine.site import AttentionRefused
from ..methods.layers import encoder
from ..models.budget import budget
from ..models.model import Model
from ..models.run import Run
from ..models.tokens import DEFAULTS, Tokens

SPENT = tuple(DEFAULTS)  # settings of a lab, and of a forward
DEPENDENT: Mapping[str, dict[str, Any]] = {  # settings that say nothing alone, each with others in which it does
    **{name: {"keep": 0.5} for name in ("keep_by", "keep_at", "gather")},
    "fovea_patches": {"fovea": (0, 0, 1, 1)},
}
NONE = 2**16 - 1  # in place of a token, of a patch that none stands for
TRIED: Mapping[str, Any] = {"keep": 0.5, "gather": True, "merge": 1, "heads_off": {0: [0]}}  # can a model be spent so
_BOUND: WeakKeyDictionary[Model, dict[str, str]] = WeakKeyDictionary()


class _Some(traitlets.Any):
    """Any value but None, which traitlets would take without a word."""

    allow_none = False


class Spent(traitlets.HasTraits):
    """Settings of how a forward spends its tokens, each refused in words where it is impossible."""

    keep = _Some(1.0).tag(sync=True)
    keep_by = _Some("attention").tag(sync=True)
    keep_at = traitlets.Any(None, allow_none=True).tag(sync=True)
    gather = _Some(False).tag(sync=True)
    merge = _Some(0).tag(sync=True)
    fovea = traitlets.Any(None, allow_none=True).tag(sync=True)
    fovea_patches = _Some((8, 32)).tag(sync=True)
    heads_off = traitlets.Any(None, allow_none=True).tag(sync=True)

    @traitlets.validate(*SPENT)
    def _spent_is_possible(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        try:
            made = _settled(name, value)
            self._check_tokens(**{name: made})
        except (ValueError, TypeError, AttentionRefused) as error:
            raise traitlets.TraitError(str(error)) from error
        return made

    def _check_tokens(self, **changed: Any) -> None:
        """Raise ValueError where the model or the image does not allow the tokens; `Settings` knows them."""


def _settled(name: str, value: Any) -> Any:
    """A value as the lab keeps it: what JSON brings back unchanged, but for the layers, which are numbers here."""
    if name == "heads_off" and isinstance(value, Mapping):
        value = {int(layer) if str(layer).isdecimal() else layer: heads for layer, heads in value.items()}
    if name == "fovea" and isinstance(value, list | tuple) and not value:
        value = None
    if isinstance(value, Heatmap):
        raise ValueError("keep_by of a lab is a name, or one value a patch: heat.values")
    made = getattr(Tokens(**DEPENDENT.get(name, {}), **{name: value}), name)
    if name == "fovea" and made is not None:
        if isinstance(made, str):
            raise ValueError("fovea is (x0, y0, x1, y1) in pixels of the photograph, or a list of such")
        return [list(box) for box in made]
    if name == "heads_off" and made is not None:
        return {layer: sorted({*made[layer]}) for layer in sorted(made)}
    return made


def asked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a lab as a forward takes them: what says nothing is left out, and a fovea has patches of its own."""
    idle = [name for name, needs in DEPENDENT.items() if all(settings[other] == DEFAULTS[other] for other in needs)]
    sizes = {} if settings["fovea"] is None else {"patch_size": None}
    return {**settings, **sizes, **{name: DEFAULTS[name] for name in idle}}


def spent_by(settings: Mapping[str, Any]) -> Tokens | None:
    """How a forward with these settings spends its tokens, `asked` already; None where it does as the model does."""
    return Tokens.of({name: settings[name] for name in SPENT if name in settings})


def counts(model: Model, source: tuple[int, int], settings: Mapping[str, Any]) -> tuple[int, ...]:
    """How many tokens each layer will attend over. source: (height, width) of the image.

    Raises ValueError for what the model or the image does not allow.
    """
    sizes = {name: settings.get(name) for name in ("image_size", "patch_size")}
    tokens = spent_by(settings)
    if tokens is None:
        return (model.grid(**sizes).tokens,) * max(1, model.layers)
    return budget(model, tokens, source, **sizes).counts


def in_words(tokens: tuple[int, ...]) -> str:
    """
    >>> in_words((197, 197, 139, 99))
    '197 → 139 → 99 tokens'
    """
    return f"{' → '.join(f'{count:,}' for count in dict.fromkeys(tokens))} tokens"


def owners(run: Run) -> np.ndarray | None:
    """The token of each layer that stands for each patch, NONE where none does -> (layers, patches) uint16.

    None where every patch is a token.
    """
    if not run.capture.passages:
        return None
    layers = encoder(run.capture, run.grid)
    rows = [layers.cells.owners(site).cpu().numpy() for site in layers]
    return np.where((found := np.stack(rows)) < 0, NONE, found).astype("<u2")


def bound(model: Model) -> dict[str, str]:
    """Why tokens of a model cannot be spent in a way, by setting, in the engine's words; found once, by trying."""
    if model not in _BOUND:
        height, width = model.preprocessing.size
        tried: dict[str, dict[str, Any]] = {
            name: {**DEPENDENT.get(name, {}), name: value} for name, value in TRIED.items()
        }
        tried["fovea"] = {"fovea": (0, 0, width, height), "fovea_patches": model.patch[0]}
        image, found = np.zeros((height, width, 3), np.uint8), {}
        for name, how in tried.items():
            try:
                with model.prepared(image, tokens=Tokens(**how)):
                    pass
            except (ValueError, AttentionRefused) as error:
                found[name] = str(error)
        _BOUND[model] = found
    return _BOUND[model]
