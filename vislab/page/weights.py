"""Which models the page's kernel computes, and their weights in its order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.model import Model

MOST = {"width": 384, "layers": 12}  # of ViT-Small; what is larger fits no page and no telephone

SMALLEST, LARGEST = 8, 56  # px of a patch that the page offers

# The tensors of a layer and of both ends, in the order of `Layer` and `Ends` in vit.c; q, k and v are one matrix.
LAYER = (
    "layernorm_before.weight",
    "layernorm_before.bias",
    "attention.{q,k,v}_proj.weight",
    "attention.{q,k,v}_proj.bias",
    "attention.o_proj.weight",
    "attention.o_proj.bias",
    "layernorm_after.weight",
    "layernorm_after.bias",
    "mlp.fc1.weight",
    "mlp.fc1.bias",
    "mlp.fc2.weight",
    "mlp.fc2.bias",
)
EMBEDDINGS = "vit.embeddings."
PATCH, CLS, POSITIONS = (
    f"{EMBEDDINGS}{name}" for name in ("patch_embeddings.projection", "cls_token", "position_embeddings")
)
ENDS = (
    f"{PATCH}.weight",
    f"{PATCH}.bias",
    CLS,
    "vit.layernorm.weight",
    "vit.layernorm.bias",
    "classifier.weight",
    "classifier.bias",
)


@dataclass(frozen=True)
class Form:
    """The widths of a Vision Transformer. side, patch: px. hidden: of its MLP. epsilon: of its norms."""

    dim: int
    layers: int
    heads: int
    hidden: int
    patch: int
    side: int
    classes: int
    epsilon: float

    @property
    def pixels(self) -> int:
        """The numbers in a patch of the model's own size."""
        return 3 * self.patch**2


def form_of(model: Model) -> Form:
    """The widths of a model, where the page can run it: a ViTForImageClassification of transformers, up to ViT-Small.

    Raises ValueError that names the model and what about it the page cannot run.
    """
    if reason := _unfit(model):
        raise ValueError(
            f"the class page cannot run {model.name}: {reason}. It takes transformers' ViTForImageClassification up to "
            "ViT-Small, such as model='embedded' or 'WinKawaks/vit-tiny-patch16-224'"
        )
    config = model.module.config
    height, patch = model.preprocessing.size[0], model.patch[0]
    labels = model.labels or ()
    return Form(
        model.dim,
        model.layers,
        model.heads,
        int(config.intermediate_size),  # type: ignore[union-attr,arg-type]
        patch,
        height,
        len(labels),
        float(config.layer_norm_eps),  # type: ignore[union-attr,arg-type]
    )


def _unfit(model: Model) -> str:
    """What about a model the page cannot run, or ""."""
    kind = type(model.module)
    if kind.__name__ != "ViTForImageClassification" or not kind.__module__.startswith("transformers."):
        return f"it is a {kind.__name__}"
    how, config = model.preprocessing, model.module.config
    if model.dim > MOST["width"] or model.layers > MOST["layers"]:
        return (
            f"it has {model.layers} layers of width {model.dim}, and the page takes {MOST['layers']} of {MOST['width']}"
        )
    if model.classes is None or model.classes.kind != "exclusive" or model.classes.ready:
        return "its output is not the logits of classes of which one is right"
    if getattr(config, "hidden_act", "") != "gelu":
        return f"its MLP uses {getattr(config, 'hidden_act', None)!r} in place of 'gelu'"
    if how.mode != "stretch" or how.edge != 1 or how.resample != "bilinear":
        return f"its photographs are made ready by {how.mode} and {how.resample}, and the page stretches, bilinearly"
    if how.size != model.own_size or how.size[0] != how.size[1] or model.patch[0] != model.patch[1]:
        return "its input or its patches are not square"
    if not SMALLEST <= model.patch[0] <= LARGEST or how.size[0] % model.patch[0]:
        return f"its patches of {model.patch[0]} px are not {SMALLEST} to {LARGEST} px wide, or do not fill its input"
    if model.dim % (8 * model.heads) or int(getattr(config, "intermediate_size", 1)) % 8:
        return f"the width of its heads, {model.dim} / {model.heads}, is no multiple of 8"
    found, wanted = set(model.module.state_dict()), set(_names(model.layers))
    if found != wanted:
        return f"its weights are others, such as {sorted(found ^ wanted)[0]}"
    return ""


def _names(layers: int) -> Iterator[str]:
    yield from (*ENDS, POSITIONS)
    for layer in range(layers):
        for name in LAYER:
            yield from (f"vit.layers.{layer}.{one}" for one in _spread(name))


def _spread(name: str) -> list[str]:
    """ "{q,k,v}_proj" -> "q_proj", "k_proj", "v_proj"; of any other name the name."""
    return [name.replace("{q,k,v}", one) for one in "qkv"] if "{q,k,v}" in name else [name]


def tensors(model: Model, form: Form) -> Iterator[tuple[int, int, np.ndarray]]:
    """(layer, place in `LAYER`, tensor); of both ends, layer is `form.layers` and place that in `ENDS`; last positions.

    Matrices are (outputs, inputs). The token CLS has its own position added, the patches' positions come after `ENDS`.
    """
    state: dict[str, Tensor] = {name: value.float().cpu() for name, value in model.module.state_dict().items()}
    for layer in range(form.layers):
        for place, name in enumerate(LAYER):
            parts = [state[f"vit.layers.{layer}.{one}"].numpy() for one in _spread(name)]
            yield layer, place, np.concatenate(parts)
    positions = state[POSITIONS][0]
    for place, name in enumerate(ENDS):
        value = state[name]
        if name == CLS:
            value = value[0, 0] + positions[0]
        yield form.layers, place, value.flatten(1).numpy() if value.ndim > 1 else value.numpy()
    yield form.layers, len(ENDS), positions[1:].numpy()
